"""A training step of each network, fused and not: time, memory, and the share of the processor's peak that its multiply-adds reach.

    python benchmarks/networks.py [--device cuda] [--rounds 5] [--networks sngan landscape ...] [--kernels c3 c2sp] [--shares]

Steps of 64 images, one D and one G update, generators of the parameters of their c3. The peak is what a product of two large
matrices reaches in the same run, so that other work on the machine disturbs both. bf16 too where that is native, TF32 on a GPU.
--shares prints instead where the time of a fused step goes, by PyTorch's profiler.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import argparse
import re
from collections import Counter

import torch
from common import arithmetic, fastest, keep_freed_memory, machine, peak_memory, precisions
from rich.console import Console
from rich.table import Table
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from gan.config import Config
from gan.models.build import build, resolve
from gan.models.counting import macs
from gan.timing import gan_step, training_macs

SNGAN = {"generator.family": "sngan", "objective.loss": "hinge"}
NETWORKS = {
    "sngan": SNGAN,
    "landscape": {"generator.family": "landscape", "objective.loss": "hinge"},
    "wgan_gp": {"generator.family": "wgan_gp", "objective.loss": "wasserstein"},  # without its penalty, whose work isn't counted
    "dcgan": {"generator.family": "dcgan", "generator.upsampling": "nearest"},
    "cnn": {"generator.family": "cnn", "generator.upsampling": "nearest", "objective.loss": "hinge"},
    "sngan 48": {**SNGAN, "generator.width": 48, "discriminator.width": 48},
    "sngan 32": {**SNGAN, "generator.width": 32, "discriminator.width": 32},
    "landscape 32": {**SNGAN, "generator.family": "landscape", "generator.width": 32, "discriminator.width": 32},
}

# What an operation of the profiler belongs to: the first pattern that is found in its name. Pads that are computed as convolutions
# are known by what called them.
PADDING = r"_(Pad|Crop)Groups|_Spaced|_EveryOther|even_kernels"
SHARES = {
    "optimizer, EMA": r"Optimizer|[aA]dam|lerp|foreach|addcmul|addcdiv",
    "convolutions": r"[cC]onvolution|conv2d|conv_transpose2d",
    "batch norm": r"batch_norm|BatchNorm",
    "activations": r"relu|Relu|threshold|clamp_min|tanh|Tanh",
    "average pool": r"avg_pool|AvgPool",
    "pads, crops, copies": PADDING + r"|_Phases|pad|Pad|cat|Cat|copy|clone|Slice|slice|upsample|flip|fill|zero_|sum|add(_|$|B)",
}


def config_of(network, kernel, precision, device, fused):
    changes = {**NETWORKS[network], "generator.kernel": kernel, "generator.width_rule": "equal_parameters", "train.batch_size": 64}
    changes |= {"train.device": device, "train.precision": precision, "train.fused": fused, "dataset.resolution": 32}
    changes["train.deterministic"] = False  # of a GPU: cuDNN's fastest algorithms
    return resolve(Config.load(None, changes=changes))


def work(config):
    """Multiply-adds of a step: (of the definition, as executed)."""
    g, d = (net.to(config.train.device) for net in build(config))
    how = [{"executed": executed, "precision": config.train.precision} for executed in (False, True)]
    counts = [(macs(g, 1, g.latent, **one), macs(d, 1, 3, 32, 32, **one)) for one in how]
    return [training_macs(config, *count) for count in counts]


def peak(precision, device):
    """Multiply-adds a second of a large matrix product, as a function to be timed and its count."""
    size = 2048 if device == "cpu" else 8192
    a = torch.randn(size, size, device=device).to(arithmetic(precision))
    return (lambda: a @ a), size**3


def shares(run, device, steps=3):
    """Share of a step's time of each kind of operation, in the order of SHARES; then of all others."""
    for _ in range(2):
        run()
    cuda = device.startswith("cuda")
    with profile(activities=[ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * cuda) as profiler:
        for _ in range(steps):
            run()
    times = Counter()
    for event in profiler.events():
        if event.device_type == DeviceType.CPU:  # on a GPU each has the time of its kernels, which are listed once more
            times[kind_of(event)] += event.self_device_time_total if cuda else event.self_cpu_time_total
    return [times[kind] / times.total() for kind in (*SHARES, "other")]


def kind_of(event):
    """The key of SHARES that an operation of the profiler belongs to; 'other' for any other."""
    above = event
    while above is not None:
        if re.search(PADDING, above.name):
            return "pads, crops, copies"
        above = above.cpu_parent
    return next((kind for kind, pattern in SHARES.items() if re.search(pattern, event.name)), "other")


def shares_table(precision, args):
    table = Table(title=f"Shares of a step of 64 images, fused, {precision}", title_justify="left")
    for heading in ("network", "kernel"):
        table.add_column(heading)
    for heading in (*SHARES, "other"):
        table.add_column(heading, justify="right")
    for network in args.networks:
        for kernel in args.kernels:
            run, _ = gan_step(config_of(network, kernel, precision, args.device, "auto"))
            table.add_row(network, kernel, *(f"{share:.1%}" for share in shares(run, args.device)))
    return table


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--device", default="cpu")
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    arguments.add_argument("--kernels", nargs="+", default=["c3", "c2sp", "c4sp"])
    arguments.add_argument("--precisions", nargs="+", choices=["fp32", "tf32", "bf16"], help="default: all native ones")
    arguments.add_argument("--shares", action="store_true", help="where the time of a step goes")
    args = arguments.parse_args()
    keep_freed_memory()  # as the command line does
    console = Console(width=130)
    console.print(machine(args.device))
    for precision in args.precisions or precisions(args.device, tf32=True):
        if args.shares:
            console.print(shares_table(precision, args))
            continue
        table = Table(title=f"One step of 64 images, {precision}", title_justify="left")
        left = ("network", "kernel")
        headings = (*left, "plain, ms", "fused, ms", "x", "GMAC nominal", "executed", "of peak", "plain, MiB", "fused, MiB")
        for heading in headings:
            table.add_column(heading, justify="left" if heading in left else "right")
        for network in args.networks:
            for kernel in args.kernels:
                product, count = peak(precision, args.device)
                runs, configs = {"peak": product}, {}
                for name, fused in (("plain", False), ("fused", "auto")):
                    configs[name] = config_of(network, kernel, precision, args.device, fused)
                    runs[name] = gan_step(configs[name])[0]
                seconds = fastest(runs, args.rounds, args.device)
                memory = {name: peak_memory(runs[name], args.device) / 2**20 for name in configs}
                nominal, executed = work(configs["fused"])
                share = executed / seconds["fused"] / (count / seconds["peak"])
                table.add_row(
                    network, kernel, f"{seconds['plain'] * 1e3:.0f}", f"{seconds['fused'] * 1e3:.0f}",
                    f"{seconds['plain'] / seconds['fused']:.2f}", f"{nominal / 1e9:.1f}", f"{executed / 1e9:.1f}", f"{share:.0%}",
                    f"{memory['plain']:.0f}", f"{memory['fused']:.0f}",
                )  # fmt: skip
        console.print(table)


if __name__ == "__main__":
    main()
