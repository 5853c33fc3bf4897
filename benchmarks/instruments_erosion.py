"""The paper's figure of information erosion redrawn: kernels over the depth of its untrained 54-layer stack, and variants."""

import sys
from functools import partial
from math import exp, log
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from torch import Tensor

from gan.kernels import conv2d
from gan.plots import BLUE, INK, RED, WIDTH, save_figure
from gan.probe.figure import STYLE
from metrics.instruments.erosion import LayerErosion, stack_erosion

KERNELS = ("c2sp", "c3", "c4sp", "c5", "c4", "c2")  # in the paper's order at layer 54
LOOKS = {  # legible without colour: symmetric solid, odd dotted, one-sided dashed; thin for 4x4 and 5x5
    "c2sp": (BLUE, "-", 2.4), "c4sp": (BLUE, "-", 1.2), "c3": (INK, ":", 2.4), "c5": (INK, ":", 1.3),
    "c2": (RED, "--", 2.4), "c4": (RED, "--", 1.2),
}  # fmt: skip
PAPER = {"c2sp": 0.08, "c3": 0.056, "c4sp": 0.029, "c5": 0.015, "c4": 0.0016}  # read off its figure, over 0.48 at the start
VARIANTS = {"as it is": {}, "shortcuts": {"shortcuts": True}, "batch norm": {"norm": True}}
VARIANTS["shortcuts and batch norm"] = {"shortcuts": True, "norm": True}
MAPS = (18, 36, 54)
PAIRS = (("c2sp", "c3"), ("c2sp", "c2"), ("c4sp", "c4"))

Runs = dict[str, list[list[LayerErosion]]]  # kernel -> seeds -> layers


def erosion(images: Tensor, source: str, seeds: int, figure: Path) -> str:
    """Draw the figure; return tables of Q_54 over Q_0, for the stack as it is and its variants, as Markdown."""
    found: dict[str, Runs] = {}
    for variant, options in VARIANTS.items():
        found[variant] = {}
        for kernel in KERNELS:
            found[variant][kernel] = [stack_erosion(partial(conv2d, kernel), images, seed, **options) for seed in range(seeds)]
        print(f"erosion, {variant}: measured", file=sys.stderr)
    about = f"{len(images)} images of {source}"
    draw(found["as it is"], figure, f"{about}, {seeds} seeds")

    start = (images.float() / 127.5 - 1).abs().mean().item()
    paper = [f"{PAPER[kernel] / 0.48:.1e}" if kernel in PAPER else "below 2e-3" for kernel in KERNELS]
    lines = [
        f"Q_54 / Q_0 of the untrained stack: geometric mean (least, largest) over {seeds} seeds; {about}, Q_0 = {start:.2f}.",
        "Last columns: in how many seeds one kernel keeps more than the other; by chance in every second.",
        "",
        "| | " + " | ".join([*KERNELS, *(f"{a} > {b}" for a, b in PAIRS)]) + " |",
        "|---|" + "---|" * (len(KERNELS) + len(PAIRS)),
        "| the paper's figure, over its start | " + " | ".join(paper) + " |" + " |" * len(PAIRS),
    ]
    lines += [row(variant, runs, seeds) for variant, runs in found.items()]
    lines += ["", "Order, largest first (paper: " + " > ".join(KERNELS) + "):", ""]
    for variant, runs in found.items():
        lines.append(f"- {variant}: {' > '.join(sorted(KERNELS, key=lambda kernel: -mean_q(runs[kernel])))}")
    lines += [
        "",
        "Where the mean activation of the stack as it is lies at layer 54, mean over seeds. Lean: of the centre of mass, in",
    ]
    lines += ["sides of the map.", "", "| | " + " | ".join(KERNELS) + " |", "|---|" + "---|" * len(KERNELS)]
    for title, key in (("border / inside", "border"), ("lean to the right", "lean_x"), ("lean down", "lean_y")):
        means = [torch.tensor([getattr(run[-1], key) for run in runs]).mean() for runs in found["as it is"].values()]
        lines.append(f"| {title} | " + " | ".join(f"{value:.2f}".replace("-0.00", "0.00") for value in means) + " |")
    return "\n".join(lines)


def row(variant: str, runs: Runs, seeds: int) -> str:
    last = {kernel: [run[-1].q for run in runs[kernel]] for kernel in KERNELS}
    cells = [f"{mean_q(runs[kernel]):.1e} ({min(q):.0e}, {max(q):.0e})" for kernel, q in last.items()]
    cells += [f"{sum(x > y for x, y in zip(last[a], last[b]))} of {seeds}" for a, b in PAIRS]
    return f"| {variant} | " + " | ".join(cells) + " |"


def mean_q(runs: list[list[LayerErosion]]) -> float:
    """Geometric mean over seeds of the last layer's Q."""
    return exp(sum(log(run[-1].q) for run in runs) / len(runs))


# --- the figure --------------------------------------------------------------------------------------------------------------


def draw(found: Runs, path: Path, about: str) -> None:
    with plt.rc_context(STYLE):
        figure = plt.figure(figsize=(WIDTH, 8.8), layout="constrained")
        figure.get_layout_engine().set(w_pad=0.06, h_pad=0.06)
        figure.suptitle(
            "One-sided even kernels (dashed) lose their activations by orders of magnitude,\n"
            "and to one corner; symmetric ones (solid) stay with odd kernels (dotted).\n"
            f"Untrained stack of 54 layers, {about}.",
            x=0.01, ha="left", fontsize=9.5,
        )  # fmt: skip
        cells = figure.add_gridspec(4, 3, height_ratios=(2.9, 1, 1, 1))
        curves(figure.add_subplot(cells[0, :]), found)
        names = {"c2": "C2, one-sided", "c3": "C3", "c2sp": "C2sp, symmetric"}
        for line, (kernel, name) in enumerate(names.items()):
            for column, layer in enumerate(MAPS):
                axis = figure.add_subplot(cells[line + 1, column])
                maps = torch.stack([run[layer].mean_map / run[layer].mean_map.mean() for run in found[kernel]])
                axis.imshow(maps.mean(dim=0).numpy(), cmap="Greys_r", vmin=0, vmax=3)
                axis.set_xticks([])
                axis.set_yticks([])
                axis.spines[:].set_visible(False)
                if line == 0:
                    axis.set_title(f"layer {layer}, {maps.shape[-1]}×{maps.shape[-1]}", fontsize=9)
                if column == 0:
                    axis.set_ylabel(name, fontsize=9)
                if line == 2 and column == 1:
                    axis.set_xlabel("where the mean activation lies:\nblack 0, white 3 times the map's mean")
        save_figure(figure, path)


def curves(axis: plt.Axes, found: Runs) -> None:
    ends = {}
    for kernel, runs in found.items():
        colour, style, width = LOOKS[kernel]
        q = torch.tensor([[layer.q for layer in run] for run in runs], dtype=torch.float64)
        mean = q.log().mean(dim=0).exp().numpy()
        axis.semilogy(range(len(mean)), mean, style, color=colour, linewidth=width)
        low, high = (q.quantile(part, dim=0).numpy() for part in (0.25, 0.75))
        axis.fill_between(range(len(mean)), low, high, color=colour, alpha=0.12, linewidth=0)
        ends[kernel] = log(mean[-1], 10)
    height = None
    for kernel, end in sorted(ends.items(), key=lambda item: -item[1]):  # labels at the ends, moved apart
        height = end if height is None else min(end, height - 0.42)
        label = f"{kernel.upper().replace('SP', 'sp')}  {10**end:.0e}"
        axis.text(55, 10**height, label, color=LOOKS[kernel][0], va="center", fontsize=9)
    for boundary in (18, 36):
        axis.axvline(boundary, color="#bbbbbb", linewidth=0.8, zorder=0)
        axis.text(boundary - 0.4, 2.4, "pool", ha="right", color="#777777", fontsize=8.5)
    axis.set(xlim=(0, 54), ylim=(1e-7, 4), xlabel="layer n", ylabel="Q_n / Q_0: mean activation over that of the input")
    axis.set_title("line: geometric mean over seeds, band: the middle half of them", fontsize=8.5, color="#555555")
    axis.grid(axis="y", alpha=0.2)
