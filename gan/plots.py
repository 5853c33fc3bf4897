"""How figures are drawn: one backend, one palette, one way into a file; and the figures of a GAN's run, curves and scores."""

import io
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from data.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, GREY, BLUE, RED = "#222222", "#444444", "#1f5fa8", "#d1495b"  # text; a line of its own; two sides of a comparison
# Many lines: told apart in grayscale by lightness, dash and marker; colours after Okabe and Ito 2008, Color Universal Design.
PALETTE = ("#000000", "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#777777")
DASHES = ("-", "--", "-.", ":")
MARKERS = "osD^vP*X<>hd"


def pyplot() -> ModuleType:
    """matplotlib.pyplot, drawing to files. Imported when there is something to draw: that takes as long as hundreds of steps."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["text.parse_math"] = False  # names of classes, files and rows may hold dollars
    import matplotlib.pyplot

    return matplotlib.pyplot


def figure_bytes(figure: "Figure", kind: str = "png", dpi: int = 130) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=dpi)
    return buffer.getvalue()


def save_figure(figure: "Figure", path: Path, dpi: int = 130) -> None:
    """Write a PNG, whole or not at all, and close the figure."""
    picture = figure_bytes(figure, "png", dpi)
    pyplot().close(figure)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, picture)


def tidy(axes: Iterable["Axes"]) -> None:
    """A faint grid, and no lines above and to the right of the panels."""
    for axis in axes:
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)


def plot_curves(records: list[dict], path: Path) -> None:
    """Losses and mean logits over steps, from the records of metrics.jsonl, as a PNG. Nothing is drawn without records."""
    records = [r for r in records if "d_loss" in r]  # the others are scores
    if not records:
        return
    steps = [r["step"] for r in records]
    panels = [
        ("losses", {"d_loss": ("discriminator", BLUE, "-"), "g_loss": ("generator", RED, "-")}),
        ("mean logits", {"d_real": ("D(x), real", BLUE, "-"), "d_fake": ("D(G(z)), generated", RED, "--")}),
    ]
    if any(r["penalty"] for r in records):
        panels.append(("penalty", {"penalty": ("gradient penalty, unweighted", GREY, "-")}))
    if "augmentation" in records[0]:
        lines = {"augmentation": ("probability", BLUE, "-"), "overfitting": ("overfitting, r_t", RED, "--")}
        panels.append(("augmentation", lines))
    figure, axes = pyplot().subplots(1, len(panels), figsize=(3 + 3 * len(panels), 3.2), layout="constrained")
    for axis, (title, lines) in zip(axes, panels):
        for key, (label, colour, style) in lines.items():
            axis.plot(steps, [r[key] for r in records], style, color=colour, label=label, linewidth=1.3)
        axis.set(title=title, xlabel="step (generator updates)", xlim=(0, steps[-1]))
        axis.legend(frameon=False)
    tidy(axes)
    save_figure(figure, path)


def plot_scores(scores: dict[int, dict[str, float]], path: Path) -> None:
    """One panel per score over the steps of training, as a PNG. scores: {step: {name: value}}, the same names at each step."""
    names = list(next(iter(scores.values())))
    steps = sorted(scores)
    figure, axes = pyplot().subplots(1, len(names), figsize=(4.2 * len(names), 3.2), layout="constrained", squeeze=False)
    for axis, name in zip(axes[0], names):
        axis.plot(steps, [scores[step][name] for step in steps], "o-", color=BLUE, markersize=4)
        axis.set(title=name, xlabel="step (generator updates)")
    tidy(axes[0])
    save_figure(figure, path)
