"""What training costs with each kernel and with other compact blocks: activations, peak memory, time per step of CIFAR ResNets.

    python benchmarks/overheads.py [--device cuda] [--depths 20 56 110] [--width 16] [--batch 128] [--rounds 7] [--compile]
        [--chart FILE]

The compact blocks have, as nearly as their shapes allow, the parameters and multiply-adds of c2sp: 8 c^2 a block of c channels
(shift and inverted bottleneck: expansion 4; depthwise-separable: twice the width). A step is forward, backward and an SGD update.

activations: what autograd keeps from forward to backward, each storage counted once, weights left out
peak: the most that was allocated at once, above weights and momentum, on the CPU as PyTorch's profiler sees it

Variants take turns within each round, the fastest one counts. Wu et al. 2019 report for C2sp 40-60 % less memory and 15-45 % less
time than the other compact blocks, in TensorFlow on a GPU; blocks and sizes of that comparison are not known in every detail.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from common import fastest, keep_freed_memory, machine, peak_memory
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from gan.models.classifiers import build_classifier
from gan.models.counting import parameter_count
from gan.models.summary import macs
from gan.plots import WIDTH, save_figure, styled, subplots
from metrics.precision import allow_tf32

KERNELS = ("c3", "c2", "c2sp", "c4", "c4sp")
VARIANTS: dict[str, dict] = {kernel: {"kernel": kernel} for kernel in KERNELS} | {  # "width" in multiples of --width
    "shift": {"block": "shift", "expansion": 4},
    "inverted bottleneck": {"block": "inverted_bottleneck", "expansion": 4},
    "depthwise-separable": {"block": "depthwise_separable", "width": 2},
}
REFERENCE = "c2sp"


def saved_activations(model: nn.Module, forward: Callable[[], Tensor]) -> int:
    """Bytes that one forward pass keeps for backward, each storage once; parameters are there anyway and don't count."""
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()  # a node that kept its own output itself would never be freed

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = forward()  # held until the hooks are gone: freed memory could come back under the same address
    del loss
    return sum(kept.values())


def training_step(
    model: nn.Module, batch: int, device: str, precision: str, compiled: bool = False
) -> tuple[Callable[[], Tensor], Callable[[], None]]:
    """(forward, step) on random pictures (batch, 3, 32, 32), channels_last."""
    model.to(device, memory_format=torch.channels_last)
    network = torch.compile(model) if compiled else model
    x = torch.randn(batch, 3, 32, 32, device=device).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(10, (batch,), device=device)
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, nesterov=True, fused=True)

    def forward() -> Tensor:
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=precision == "bf16"):
            logits = network(x)
        return F.cross_entropy(logits.float(), labels)

    def step() -> None:
        forward().backward()
        optimizer.step()
        optimizer.zero_grad()

    return forward, step


def measure(
    depth: int, width: int, batch: int, device: str, precision: str, rounds: int, compiled: bool = False
) -> dict[str, dict[str, float]]:
    """{variant: {parameters, macs, activations, peak, seconds}} of ResNets of one depth and width; bytes for memory."""
    found, steps = {}, {}
    for name, options in VARIANTS.items():
        torch.manual_seed(0)
        model = build_classifier("resnet", depth=depth, **{**options, "width": width * options.get("width", 1)})
        cost = {"parameters": parameter_count(model), "macs": macs(model, 1, 3, 32, 32)}
        forward, steps[name] = training_step(model, batch, device, precision, compiled)
        found[name] = {**cost, "activations": saved_activations(model, forward)}
    seconds = fastest(steps, rounds, device)
    return {name: {**row, "peak": peak_memory(steps[name], device), "seconds": seconds[name]} for name, row in found.items()}


def table(title: str, rows: dict[str, dict[str, float]]) -> Table:
    shown = Table(title=title, title_justify="left")
    headings = ("parameters", "M multiply-adds", "activations MiB", "peak MiB", "ms / step", "c2sp: memory", "c2sp: time")
    for heading in ("block", *headings):
        shown.add_column(heading, justify="left" if heading == "block" else "right")
    for name, r in rows.items():
        less = [f"{rows[REFERENCE][key] / r[key] - 1:+.0%}" if name != REFERENCE else "" for key in ("activations", "seconds")]
        sizes = [f"{r[key] / 2**20:,.0f}" for key in ("activations", "peak")]
        shown.add_row(name, f"{r['parameters']:,}", f"{r['macs'] / 1e6:.1f}", *sizes, f"{1e3 * r['seconds']:.1f}", *less)
    return shown


@styled
def chart(found: dict[int, dict[str, dict[str, float]]], title: str, path: Path) -> None:
    """Bars of memory and time relative to c2sp, one group per depth; grey levels and hatches tell the blocks apart."""
    figure, grid = subplots(2, 1, (WIDTH, 5), sharex=True)
    axes = grid[:, 0]
    looks = (
        ("white", ""),
        ("0.85", "//"),
        ("black", ""),
        ("0.85", "\\\\"),
        ("0.35", ""),
        ("0.65", "xx"),
        ("0.75", ".."),
        ("white", "--"),
    )
    bar = 0.8 / len(VARIANTS)
    for axis, (key, label) in zip(axes, (("activations", "activations kept"), ("seconds", "time per step"))):
        for i, (name, (grey, hatch)) in enumerate(zip(VARIANTS, looks)):
            heights = [rows[name][key] / rows[REFERENCE][key] for rows in found.values()]
            places = [group + (i - (len(VARIANTS) - 1) / 2) * bar for group in range(len(found))]
            axis.bar(places, heights, 0.9 * bar, label=name, color=grey, edgecolor="black", hatch=hatch, linewidth=0.6)
        axis.axhline(1, color="black", linewidth=0.6, linestyle=":")
        axis.set_ylabel(f"{label}, × {REFERENCE}")
        axis.spines[["top", "right"]].set_visible(False)
    axes[1].set_xticks(range(len(found)), [f"ResNet-{depth}" for depth in found])
    axes[0].set_title(title, fontsize=8.5)
    figure.legend(*axes[0].get_legend_handles_labels(), ncols=4, frameon=False, loc="outside lower center")
    save_figure(figure, path)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--device", default="cpu")
    arguments.add_argument("--depths", type=int, nargs="+", default=[20, 56, 110])
    arguments.add_argument("--width", type=int, default=16, help="channels of the first stage; published: 16")
    arguments.add_argument("--batch", type=int, default=128)
    arguments.add_argument("--rounds", type=int, default=7)
    arguments.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    arguments.add_argument("--compile", action="store_true", help="through torch.compile")
    arguments.add_argument("--chart", type=Path, default=Path("overheads.png"))
    args = arguments.parse_args()
    keep_freed_memory()  # as the command line does
    allow_tf32(False, False)  # fp32 means IEEE fp32, in cuDNN too
    console = Console(width=130)
    how = f"{args.precision} compiled" if args.compile else args.precision
    about = f"{machine(args.device)}, {how}, batch {args.batch}, width {args.width}"
    torch._dynamo.config.recompile_limit = 64  # one line of Python runs every network; beyond the limit they would stay eager
    console.print(about)
    found = {}
    for depth in args.depths:
        found[depth] = measure(depth, args.width, args.batch, args.device, args.precision, args.rounds, args.compile)
        console.print(table(f"ResNet-{depth}, width {args.width}, batch {args.batch}", found[depth]))
        chart(found, about, args.chart)
    compact = [name for name in VARIANTS if name not in KERNELS]
    for key, what in (("activations", "memory (activations)"), ("peak", "memory (peak)"), ("seconds", "time")):
        less = [1 - rows[REFERENCE][key] / rows[name][key] for rows in found.values() for name in compact]
        console.print(f"{REFERENCE} takes {min(less):.0%} to {max(less):.0%} less {what} than the other compact blocks")
    ratios = ", ".join(f"{rows[REFERENCE]['seconds'] / rows['c3']['seconds']:.2f}" for rows in found.values())
    console.print(f"{REFERENCE} / c3, time of a step: {ratios}")
    console.print(f"chart: {args.chart}")


if __name__ == "__main__":
    main()
