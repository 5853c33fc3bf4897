"""Transposed convolutions that crop, followed by batch norm and ReLU: the crop as a slice, and as gan.transposed has it.

    python benchmarks/transposed.py [--device cuda] [--channels 256 64 16] [--batch 32] [--rounds 7]

Forward + backward from 16×16 to 32×32, stride 2, channels_last; in bf16 too where that is native, in TF32 on a GPU. The crops are
those of transposed c3 and c5 (a row and a column at one end) and of plain even kernels after zero insertion (more in front than
behind). The two take their turns within each round, and each one's fastest round counts.
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

from gan.transposed import cropped_transposed

CROPS = {  # kernel size, rows and columns cut in front and behind
    "transposed c3": (3, (1, 1), (0, 0)),
    "transposed c5": (5, (2, 2), (1, 1)),
    "c2, zero insertion": (2, (1, 1), (-1, -1)),
    "c4, zero insertion": (4, (2, 2), (0, 0)),
    "c3off, zero insertion": (3, (2, 2), (-1, -1)),
}


def sliced(x, weight, bias, first, last):
    """The whole output, of which a part is taken."""
    whole = F.conv_transpose2d(x, weight, bias, 2, output_padding=[int(rows < 0) for rows in last])
    rows, columns = (2 * size for size in x.shape[2:])
    return whole[:, :, first[0] : first[0] + rows, first[1] : first[1] + columns]


def measure(name, channels, dtype, args):
    """{"sliced": seconds, "cropped": seconds}"""
    k, first, last = CROPS[name]
    made = {"device": args.device, "dtype": dtype}
    weight, bias = torch.randn(channels, channels, k, k, **made), torch.zeros(channels, **made)
    x = torch.randn(args.batch, channels, 16, 16, **made).contiguous(memory_format=torch.channels_last)
    grad = torch.randn(args.batch, channels, 32, 32, **made).contiguous(memory_format=torch.channels_last)
    behind = nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(inplace=True)).to(args.device, dtype)
    for tensor in (weight, bias, x):
        tensor.requires_grad_()
    ways = {"sliced": sliced, "cropped": lambda x, w, b, first, last: cropped_transposed(x, w, b, 2, first, last)}
    torch.testing.assert_close(*(way(x, weight, bias, first, last) for way in ways.values()), rtol=2e-2, atol=2e-1)
    runs = {name: lambda way=way: behind(way(x, weight, bias, first, last)).backward(grad) for name, way in ways.items()}
    return fastest(runs, args.rounds, args.device, calls=LAYER_CALLS[torch.device(args.device).type])


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--device", default="cpu")
    arguments.add_argument("--channels", type=int, nargs="+", default=[256, 64, 16])
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
        for name in CROPS:
            for channels in args.channels:
                times = measure(name, channels, dtype, args)
                ratio = times["sliced"] / times["cropped"]
                table.add_row(name, str(channels), f"{times['sliced'] * 1e3:.3g}", f"{times['cropped'] * 1e3:.3g}", f"{ratio:.2f}")
        console.print(table)


if __name__ == "__main__":
    main()
