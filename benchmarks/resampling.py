"""Resampling and a convolution as one: forward + backward time of each form beside the two steps one after the other.

    python benchmarks/resampling.py [--device cuda] [--channels 256 128 64 32] [--kernels c3 c2 c2sp c4 c4sp c5] [--batch 64]

One layer at 16×16 or, after the doubling, 32×32, channels_last; in bf16 too where that is native, in TF32 on a GPU. Every form
takes its turn within each round; the table shows by how much each one's fastest round beats that of the two steps, and which form
gan.fusing takes on this device. "64→3" is a layer that paints. A rule for another device is to be written from such a table of it.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import argparse

import torch
import torch.nn.functional as F
from common import LAYER_CALLS, arithmetic, fastest, keep_freed_memory, machine, precisions
from rich.console import Console
from rich.table import Table
from torch import nn

from gan.fusing import form, rule_of
from gan.kernels import KERNELS, conv2d
from gan.phases import phase_conv
from gan.resampling import Unpool, conv_pool, nearest_conv, unpool_conv

BATCH = {256: 16, 128: 16, 64: 32, 32: 64}


def forms(resampling, layer):
    """name -> a function of the input: the two steps, and every form of them as one."""
    if resampling == "mean":
        pad = getattr(layer, "pad", nn.Identity())
        strided = lambda x: conv_pool(pad(x), layer.weight, layer.bias, layer.padding[0])
        return {"plain": lambda x: F.avg_pool2d(layer(x), 2), "strided": strided}
    rule = rule_of(layer)
    up, fill = {"nearest": (nearest_conv, nn.Upsample(scale_factor=2)), "unpool": (unpool_conv, Unpool())}[resampling]
    return {
        "plain": lambda x: layer(fill(x)),
        "transposed": lambda x: up(x, layer.weight, layer.bias, rule),
        "phases": lambda x: phase_conv(x, layer.weight, layer.bias, rule, resampling),
    }


def measure(resampling, kernel, c_in, c_out, dtype, args):
    """({form: seconds}, the form that gan.fusing takes)"""
    device = args.device
    layer = conv2d(kernel, c_in, c_out).to(device, dtype, memory_format=torch.channels_last)
    size = 32 if resampling == "mean" else 16
    x = torch.randn(args.batch or BATCH[c_in], c_in, size, size, device=device).to(dtype)
    x = x.contiguous(memory_format=torch.channels_last).requires_grad_()
    runs = {}
    for name, compute in forms(resampling, layer).items():
        grad = torch.randn_like(compute(x))
        runs[name] = lambda compute=compute, grad=grad: compute(x).backward(grad)
    return fastest(runs, args.rounds, device, calls=LAYER_CALLS[torch.device(device).type]), form(resampling, layer, x)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--device", default="cpu")
    arguments.add_argument("--channels", type=int, nargs="+", choices=BATCH, default=list(BATCH))
    arguments.add_argument("--kernels", nargs="+", choices=KERNELS, default=["c3", "c2", "c2sp", "c4", "c4sp", "c5"])
    arguments.add_argument("--rounds", type=int, default=7)
    arguments.add_argument("--batch", type=int, help="default: " + ", ".join(f"{n} of {c} channels" for c, n in BATCH.items()))
    arguments.add_argument("--precisions", nargs="+", choices=["fp32", "tf32", "bf16"], help="default: all native ones")
    args = arguments.parse_args()
    keep_freed_memory()  # as the command line does
    console = Console(width=110)
    console.print(machine(args.device))
    for precision in args.precisions or precisions(args.device, tf32=True):
        dtype = arithmetic(precision)
        for resampling in ("nearest", "unpool", "mean"):
            table = Table(title=f"{resampling}, {precision}: times as fast as in two steps", title_justify="left")
            for heading in ("kernel", "channels", "two steps, ms", "transposed or strided", "phases", "taken"):
                table.add_column(heading, justify="left" if heading in ("kernel", "taken") else "right")
            for kernel in args.kernels:
                for c_in, c_out in [*((c, c) for c in args.channels), (64, 3)]:
                    times, taken = measure(resampling, kernel, c_in, c_out, dtype, args)
                    plain = times.pop("plain")
                    ratios = [f"{plain / seconds:.2f}" for seconds in times.values()]
                    channels = f"{c_in}" if c_in == c_out else f"{c_in}→{c_out}"
                    table.add_row(kernel, channels, f"{plain * 1e3:.3g}", *ratios, *["-"] * (2 - len(ratios)), taken)
            console.print(table)


if __name__ == "__main__":
    main()
