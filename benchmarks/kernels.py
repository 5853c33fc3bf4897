"""Forward + backward time and memory of the kernels, one layer of 256 channels, against the bare convolution and naive padding.

    python benchmarks/kernels.py [--device cuda] [--channels 256] [--rounds 15] [--compile] [--resolutions 32 16 8] [--batch 128]

Every variant is timed in turn within each round, so that a machine whose speed drifts slows all of them alike; the table shows each
one's fastest round, in bf16 too where that is native. Targets on CPU, channels_last: c2sp <= 1.15 x bare c2, c4sp <= 1.10 x c4,
c2sp <= 0.65 x c3.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import argparse

import torch
import torch.nn.functional as F
from common import LAYER_CALLS, arithmetic, fastest, keep_freed_memory, machine, peak_memory, precisions
from rich.console import Console
from rich.table import Table

from gan import padding
from gan.fast_padding import memory_format_of, pad
from gan.kernels import conv2d
from gan.padding import CORNERS, Rule, group_sizes, same_padding, towards

BATCH = {32: 8, 16: 32, 8: 64}


def four_convolutions(x, layer, small, large):
    """Pad nothing: convolve each channel group alone with room on both sides, cut its corner out, and sum."""
    h, w = x.shape[2:]
    total = layer.bias[:, None, None]
    parts = zip(x.split(group_sizes(x.shape[1]), 1), layer.weight.split(group_sizes(x.shape[1]), 1), CORNERS)
    for group, weight, (above, left) in parts:
        y = F.conv2d(group, weight, padding=large)
        top, start = large - (large if above else small), large - (large if left else small)
        total = total + y[:, :, top : top + h, start : start + w]
    return total


def embedded(x, layer, small, large):
    """A kernel of k + 1 with a zero row and column on the far side of each group's corner."""
    parts = zip(layer.weight.split(group_sizes(x.shape[1]), 1), CORNERS)
    weight = torch.cat([F.pad(w, (int(not left), int(left), int(not above), int(above))) for w, (above, left) in parts], dim=1)
    return F.conv2d(x, weight, layer.bias, padding=large)


def variants(k, channels, resolution, batch, dtype, device, compiled=False):
    """name -> a function that runs forward and backward."""
    shape = (batch, channels, resolution, resolution)

    def tensor(*size):
        return torch.randn(size, device=device).to(dtype).contiguous(memory_format=torch.channels_last)

    def layer(kernel):
        return conv2d(kernel, channels, channels).to(device, dtype, memory_format=torch.channels_last)

    x, grad = tensor(*shape).requires_grad_(), tensor(*shape)
    small, large = same_padding(k)
    rule = Rule(small, large, towards(CORNERS, channels))
    padded = tensor(*shape[:2], resolution + k - 1, resolution + k - 1).requires_grad_()
    even, plain, c3, c5 = layer(f"c{k}sp"), layer(f"c{k}"), layer("c3"), layer("c5")
    assert memory_format_of(x) == torch.channels_last
    bare = lambda: F.conv2d(padded, even.weight, even.bias)
    concatenated = lambda: F.conv2d(padding.pad(x, rule), even.weight, even.bias)
    forwards = {
        f"c{k} bare, input padded beforehand": bare,
        f"c{k} (one-sided)": lambda: plain(x),
        f"c{k}sp": lambda: even(x),
        f"c{k}sp, four pads and a concatenation": concatenated,
        f"c{k}sp, embedded in k + 1": lambda: embedded(x, even, small, large),
        f"c{k}sp, four group convolutions": lambda: four_convolutions(x, even, small, large),
        "c3": lambda: c3(x),
        "c5": lambda: c5(x),
    }
    if compiled:
        forwards = {name: torch.compile(forward) for name, forward in forwards.items()}
    with torch.no_grad():  # all the implementations compute the same
        wanted = F.conv2d(pad(x, rule), even.weight, even.bias).float()
        for name in list(forwards)[2:6]:
            torch.testing.assert_close(forwards[name]().float(), wanted, rtol=0.05, atol=0.05)
    return {name: lambda f=f: f().backward(grad) for name, f in forwards.items()}


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--device", default="cpu")
    arguments.add_argument("--channels", type=int, default=256)
    arguments.add_argument("--rounds", type=int, default=15)
    arguments.add_argument("--compile", action="store_true", help="through torch.compile")
    arguments.add_argument("--resolutions", type=int, nargs="+", choices=BATCH, default=list(BATCH))
    arguments.add_argument("--batch", type=int, help="default: " + ", ".join(f"{n} at {size}" for size, n in BATCH.items()))
    arguments.add_argument("--precisions", nargs="+", choices=["fp32", "tf32", "bf16"], help="default: all native ones")
    args = arguments.parse_args()
    keep_freed_memory()  # as the command line does
    console = Console(width=130)
    console.print(machine(args.device) + (", compiled" if args.compile else ""))
    torch._dynamo.config.recompile_limit = 512  # one line of Python runs every layer; beyond the limit they would stay eager
    worst = {}
    for precision in args.precisions or precisions(args.device, tf32=True):
        dtype = arithmetic(precision)
        for resolution in args.resolutions:
            for k in (2, 4):
                batch = args.batch or BATCH[resolution]
                runs = variants(k, args.channels, resolution, batch, dtype, args.device, args.compile)
                times = fastest(runs, args.rounds, args.device, calls=LAYER_CALLS[torch.device(args.device).type])
                bare, c3 = times[f"c{k} bare, input padded beforehand"], times["c3"]
                title = f"c{k}sp, {args.channels} channels, {resolution}x{resolution}, batch {batch}, {precision}"
                table = Table(title=title, title_justify="left")
                for heading in ("variant", "ms", "x bare", "x c3", "peak MiB"):
                    table.add_column(heading, justify="left" if heading == "variant" else "right")
                for name, seconds in times.items():
                    memory = peak_memory(runs[name], args.device)
                    table.add_row(
                        name, f"{seconds * 1e3:.3f}", f"{seconds / bare:.2f}", f"{seconds / c3:.2f}", f"{memory / 2**20:.1f}"
                    )
                console.print(table)
                ratios = {"c2sp / bare c2": times["c2sp"] / bare, "c2sp / c3": times["c2sp"] / c3} if k == 2 else {}
                ratios |= {"c4sp / c4": times["c4sp"] / times["c4 (one-sided)"]} if k == 4 else {}
                for name, ratio in ratios.items():
                    worst.setdefault((name, precision), []).append(ratio)
    limits = {"c2sp / bare c2": 1.15, "c2sp / c3": 0.65, "c4sp / c4": 1.10}
    for (name, precision), ratios in worst.items():
        shown = ", ".join(f"{r:.2f}" for r in ratios)
        console.print(f"{name}, {precision}: {shown} at {', '.join(map(str, args.resolutions))} (to reach: {limits[name]:.2f})")


if __name__ == "__main__":
    main()
