#!/bin/bash
# A quarter of an hour of a GPU, in order of worth. Each part writes OUT/PART.txt and has a limit, so that the next one gets its turn.
#
#     GAN_DATA=DIRECTORY bash benchmarks/on_a_gpu.sh OUT [PART]...        all parts unless some are named
#
# cuDNN tries its algorithms for every layer first, which takes longer than the timing: hence one precision at a time. The study needs
# cifar10-train.zip; `pip install --no-deps torch-mimicry` before step_time. results/gpu/README.md says what came of it so far.
out=$1; shift
parts=${*:-tests step_time graphs compiled wgan_gp kernels resampling networks fid study}
mkdir -p "$out"
export PYTHONUNBUFFERED=1

part() { # NAME SECONDS COMMAND...
    local name=$1 limit=$2 start=$SECONDS; shift 2
    case " $parts " in *" $name "*) ;; *) return ;; esac
    timeout -s INT -k 20 "$limit" "$@" > "$out/$name.txt" 2>&1
    echo "$name: exit code $?, $((SECONDS - start)) s"
}

step_time="python benchmarks/step_time.py --device cuda --rounds 3"
part tests 200 env OMP_NUM_THREADS=1 python -m pytest -q -n 16 --dist worksteal --tb=short tests/gan tests/metrics tests/study tests/cli
part step_time 130 $step_time --networks sngan --kernels c3 c2sp c4sp --precisions bf16 tf32 fp32
part graphs 60 $step_time --networks sngan --kernels c3 c2sp --precisions bf16 --graphs --alone
part compiled 120 $step_time --networks sngan --kernels c3 --precisions bf16 --compile --alone
part wgan_gp 120 $step_time --networks wgan_gp --kernels c3 c2sp --precisions tf32 fp32
part kernels 60 python benchmarks/kernels.py --device cuda --rounds 3 --batch 64 --precisions bf16 --resolutions 32
part resampling 120 python benchmarks/resampling.py --device cuda --rounds 3 --batch 64 --precisions bf16 --channels 256 128 --kernels c3 c2sp c4sp
part networks 90 python benchmarks/networks.py --device cuda --rounds 3 --precisions bf16 --networks sngan landscape --kernels c3 c2sp
part fid 60 python benchmarks/fid.py --images 5000 --device cuda
part study 330 python run_gan.py compare configs/studies/paper_cifar10_start.yaml --out "$out/study" --workers 6 --seeds 0
