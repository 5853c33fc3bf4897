"""Transposed convolutions that crop, followed by batch norm and ReLU: the crop as a slice, and as gan.transposed has it.

    python benchmarks/transposed.py [--device cuda] [--batch 32] [--rounds 7]

Forward + backward to 32×32, stride 2, channels_last; in bf16 too where that is native, in TF32 on a GPU. The layers are those that
crop unequally on two sides, or more than their kernel pads: zero insertion fused with c2, c4 and c3off, at widths where a CPU fuses
them so (gan.fusing), and transposed layers whose input is reflected. The two take their turns within each round, and each one's
fastest round counts.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import argparse
from typing import NamedTuple

import torch
import torch.nn.functional as F
from common import LAYER_CALLS, arithmetic, fastest, keep_freed_memory, machine, precisions
from rich.console import Console
from rich.table import Table
from torch import nn

from gan.transposed import cropped_transposed


class Crop(NamedTuple):
    """Of a layer: its kernel, the rows and columns cut in front and behind, its input's size, and widths to measure."""

    k: int
    first: int
    last: int
    padding: int  # that PyTorch was told to cut on both sides before the slice
    size: int
    channels: tuple[int, ...]


CROPS = {
    "c2, zero insertion": Crop(2, 1, -1, 0, 16, (24, 16)),
    "c4, zero insertion": Crop(4, 2, 0, 1, 16, (64, 16)),
    "c3off, zero insertion": Crop(3, 2, -1, 0, 16, (64, 16)),
    "transposed c4, reflected": Crop(4, 3, 3, 1, 18, (256, 64, 16)),
    "transposed c5, reflected": Crop(5, 4, 3, 1, 18, (256, 64, 16)),
}


def sliced(x, weight, bias, crop):
    whole = F.conv_transpose2d(x, weight, bias, 2, crop.padding, int(crop.padding > crop.last))
    rows = slice(crop.first - crop.padding, crop.first - crop.padding + 32)
    return whole[:, :, rows, rows]


def cropped(x, weight, bias, crop):
    return cropped_transposed(x, weight, bias, 2, (crop.first,) * 2, (crop.last,) * 2)


def measure(crop, channels, dtype, args):
    """(seconds with the slice, seconds without)"""
    made = {"device": args.device, "dtype": dtype}
    weight, bias = torch.randn(channels, channels, crop.k, crop.k, **made), torch.zeros(channels, **made)
    x = torch.randn(args.batch, channels, crop.size, crop.size, **made).contiguous(memory_format=torch.channels_last)
    grad = torch.randn(args.batch, channels, 32, 32, **made).contiguous(memory_format=torch.channels_last)
    behind = nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(inplace=True)).to(args.device, dtype)
    for tensor in (weight, bias, x):
        tensor.requires_grad_()
    outputs = [way(x, weight, bias, crop) for way in (sliced, cropped)]
    torch.testing.assert_close(*outputs, rtol=2e-2, atol=2e-2 * channels**0.5)
    runs = {way: lambda way=way: behind(way(x, weight, bias, crop)).backward(grad) for way in (sliced, cropped)}
    times = fastest(runs, args.rounds, args.device, calls=LAYER_CALLS[torch.device(args.device).type])
    return times[sliced], times[cropped]


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--device", default="cpu")
    arguments.add_argument("--batch", type=int, default=32)
    arguments.add_argument("--rounds", type=int, default=7)
    args = arguments.parse_args()
    keep_freed_memory()  # as the command line does
    console = Console(width=110)
    console.print(machine(args.device))
    for precision in precisions(args.device, tf32=True):
        dtype = arithmetic(precision)
        table = Table(title=f"Transposed convolution, batch norm, ReLU, {precision}", title_justify="left")
        for heading in ("layer", "channels", "slice, ms", "crop, ms", "x"):
            table.add_column(heading, justify="left" if heading == "layer" else "right")
        for name, crop in CROPS.items():
            for channels in crop.channels:
                slow, fast = measure(crop, channels, dtype, args)
                table.add_row(name, str(channels), f"{slow * 1e3:.3g}", f"{fast * 1e3:.3g}", f"{slow / fast:.2f}")
        console.print(table)


if __name__ == "__main__":
    main()
