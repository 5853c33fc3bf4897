"""The loop: exact resume after any crash or signal, drawing without side effects, refusals, logs."""

import os
import shutil
import signal
import subprocess
import time
import zipfile

import pytest
import torch

from data import DataError
from data.sources.shapes import shapes
from gan import checkpoint
from gan.models.build import resolve
from gan.run_directory import RunDirectory, RunError, read_log
from gan.sampling import save_images
from gan.step import Step
from gan.training import train
from metrics.precision import native_bf16
from tests.fixtures import DEVICE
from tests.helpers import ROOT, PulledPlug, assert_same, crash_at, final_state

FAMILIES = ["dcgan", "cnn", "sngan", "wgan_gp", "landscape"]  # r3: test_schedules.py


@pytest.mark.parametrize(
    ("family", "precision"),
    [(family, "fp32") for family in FAMILIES] + [(family, "bf16") for family in (FAMILIES if native_bf16(DEVICE) else ["sngan"])],
)
def test_crash_and_resume_equals_an_unbroken_run_bitwise(tiny, tmp_path, family, precision):
    resumes_bitwise(tiny(family, f"train.precision={precision}"), tmp_path)


def test_crash_and_resume_equals_an_unbroken_run_bitwise_in_two_threads(tiny, tmp_path, two_threads):
    resumes_bitwise(tiny("sngan"), tmp_path)


def resumes_bitwise(config, tmp_path):
    train(config, tmp_path / "whole", progress=False)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(PulledPlug):
        crash_at(patch, 9)
        train(config, tmp_path / "broken", progress=False)
    assert checkpoint.step_of(checkpoint.saved(tmp_path / "broken/checkpoints")[-1]) == 5
    train(config, tmp_path / "broken", progress=False)

    whole, broken = final_state(tmp_path / "whole"), final_state(tmp_path / "broken")
    assert whole["step"] == 12
    assert_same(whole, broken)
    for file in ("metrics.jsonl", "config.yaml", "samples/step_00000012.png"):
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "broken" / file).read_bytes(), file


def start(python, run, config, *more):
    file = run.parent / f"{run.name}.yaml"
    file.write_text(config.dump())
    command = [python, "run_gan.py", "train", str(file), "--out", str(run), "-q", *more]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


def wait_for(condition, process, seconds=90):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.02)


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_signals_lose_nothing(quick_python, tiny, tmp_path, signum):
    config = tiny("dcgan", "train.steps=40000", "train.checkpoint_every=20", "train.log_every=7")
    run = tmp_path / "run"
    process = start(quick_python, run, config)
    wait_for(lambda: len(list(run.glob("checkpoints/step_*.pt"))) >= 2, process)
    process.send_signal(signum)
    message = process.communicate(timeout=60)[1]
    stopped = checkpoint.step_of(checkpoint.saved(run / "checkpoints")[-1])
    if signum == signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL and stopped % 20 == 0
    else:
        assert process.returncode == 128 + signum
        assert f"interrupted at step {stopped}" in message and "the same command goes on" in message

    steps = stopped + 15
    shorter = config.replace({"train.steps": steps})
    (run / "config.yaml").write_text(resolve(shorter).dump())  # the same run, but it ends soon
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the process above: another number of threads adds in another order
    train(shorter, run, progress=False)
    train(shorter, tmp_path / "whole", progress=False)
    torch.set_num_threads(threads)
    assert_same(final_state(tmp_path / "whole"), final_state(run))
    assert (run / "metrics.jsonl").read_bytes() == (tmp_path / "whole/metrics.jsonl").read_bytes()


def test_drawing_changes_nothing(tiny, tmp_path):
    for every in (1, 1000):
        train(tiny("dcgan", f"train.sample_every={every}"), tmp_path / str(every), progress=False)
    assert_same(final_state(tmp_path / "1"), final_state(tmp_path / "1000"))


def test_changed_settings_are_refused_with_the_difference(tiny, tmp_path):
    train(tiny(), tmp_path, progress=False)
    with pytest.raises(RunError, match=r"train.seed: 0 -> 1.*--out"):
        train(tiny("dcgan", "train.seed=1"), tmp_path, progress=False)
    train(tiny("dcgan", "train.sample_every=3", "train.steps=14"), tmp_path, progress=False)  # these may change
    assert final_state(tmp_path)["step"] == 14
    with pytest.raises(RunError, match=r"train.steps: 14 -> 12"):
        train(tiny(), tmp_path, progress=False)


def test_more_steps_are_refused_under_a_schedule(tiny, tmp_path):
    train(tiny("sngan"), tmp_path, progress=False)
    with pytest.raises(RunError, match=r"train.steps: 12 -> 14"):
        train(tiny("sngan", "train.steps=14"), tmp_path, progress=False)


def test_two_runs_in_one_directory(tiny, tmp_path):
    config = resolve(tiny())
    with RunDirectory(tmp_path, config), pytest.raises(RunError, match="in use by another"):
        train(config, tmp_path, progress=False)
    train(config, tmp_path, progress=False)  # the lock is gone with its owner


def test_a_lack_of_memory_in_a_step_is_one_sentence(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(Step, "compute", lambda *_: torch.empty(2**40, 2**12))
    with pytest.raises(RunError, match=r"cpu is out of memory; lower train\.batch_size"):
        train(tiny("dcgan", "train.device=cpu"), tmp_path, progress=False)


def test_checkpoints_are_plain_and_few(tiny, tmp_path):
    train(tiny("dcgan", "train.checkpoint_every=2", "train.keep_checkpoints=3"), tmp_path, progress=False)
    steps = [checkpoint.step_of(p) for p in checkpoint.saved(tmp_path / "checkpoints")]
    assert steps == [8, 10, 12]


@pytest.mark.rendered
def test_logs_are_complete(tiny, tmp_path):
    train(tiny("wgan_gp"), tmp_path, progress=False)
    log = read_log(tmp_path)
    assert [r["step"] for r in log] == [4, 8, 12]
    assert all(r["penalty"] > 0 for r in log)
    assert [r["step"] for r in read_log(tmp_path, "timing")] == [4, 8, 12]
    assert {p.name for p in (tmp_path / "samples").iterdir()} == {"real.png", "step_00000006.png", "step_00000012.png"}
    assert (tmp_path / "curves.png").stat().st_size > 5000 and list(tmp_path.glob("events.out.tfevents*"))


def test_a_run_that_moves_to_another_kind_of_device_is_told(tiny, tmp_path, capsys):
    train(tiny("dcgan", "train.steps=4"), tmp_path, progress=False)
    file = checkpoint.saved(tmp_path / "checkpoints")[-1]
    state = checkpoint.load(file)
    other = {"cpu": "cuda", "cuda": "cpu"}[state["device"]]
    torch.save({**state, "device": other}, file)
    train(tiny("dcgan", "train.steps=6"), tmp_path, progress=False)
    said = capsys.readouterr().err
    assert f"was trained on {other} so far" in said and len(said.strip().splitlines()) == 1
    train(tiny("dcgan", "train.steps=8"), tmp_path, progress=False)
    assert "was trained on" not in capsys.readouterr().err


def test_a_run_that_never_began_binds_nobody_to_its_settings(tiny, tmp_path):
    with pytest.raises(DataError):
        train(tiny("dcgan", f"dataset.path={tmp_path / 'gone.zip'}"), tmp_path / "run", progress=False)
    train(tiny("sngan", "train.steps=2"), tmp_path / "run", progress=False)
    with pytest.raises(RunError, match="holds a run with other settings"):
        train(tiny("dcgan", "train.steps=2"), tmp_path / "run", progress=False)


def test_other_images_are_refused_on_resume(tiny, tmp_path):
    train(tiny(), tmp_path / "run", progress=False)
    other = tmp_path / "other.zip"
    save_images(iter([shapes(32, count=50, seed=9).images]), other)
    with pytest.raises(RunError, match="trained on other images"):
        train(tiny("dcgan", f"dataset.path={other}", "train.steps=14"), tmp_path / "run", progress=False)


def test_skipped_images_are_named(tiny, tmp_path, fifty, capsys):
    broken = tmp_path / "broken.zip"
    shutil.copy(fifty, broken)
    with zipfile.ZipFile(broken, "a") as archive:
        archive.writestr("zz.png", b"no picture")
    train(tiny("dcgan", f"dataset.path={broken}", "dataset.on_bad=skip", "train.steps=1"), tmp_path / "run", progress=False)
    assert "left out 1 of 51 images: zz.png" in capsys.readouterr().err
