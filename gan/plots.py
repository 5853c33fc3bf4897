"""How figures are drawn: one backend, one palette, one way into a file; and the figures of a GAN's run, curves and scores."""

import io
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from data.files import printable, write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, GREY, BLUE, RED = "#222222", "#444444", "#1f5fa8", "#d1495b"  # text; a line of its own; two sides of a comparison
# Many lines: told apart in grayscale by lightness, dash and marker; colours after Okabe and Ito 2008, Color Universal Design.
PALETTE = ("#000000", "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#777777")
OF_A_CLASS = "_intra:"  # in the name of the score of a single class
DASHES = ("-", "--", "-.", ":")
MARKERS = "osD^vP*X<>hd"


def pyplot() -> ModuleType:
    """matplotlib.pyplot, drawing to files. Imported when there is something to draw: that takes as long as hundreds of steps."""
    import matplotlib

    matplotlib.use("Agg")
    # Names of classes, files and rows are no formulas, whatever they hold and the user's own settings say.
    matplotlib.rcParams.update({"text.parse_math": False, "text.usetex": False})
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
    """Losses, mean logits and scores over steps, from the records of metrics.jsonl, as a PNG. Nothing is drawn without losses."""
    scored = {name: _series(records, name) for name in score_names(records)}
    records = [r for r in records if "d_loss" in r]
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
    total = len(panels) + len(scored)
    figure, axes = pyplot().subplots(1, total, figsize=(3 + 3 * total, 3.2), layout="constrained")
    for axis, (name, (at, values)) in zip(axes[len(panels) :], scored.items()):
        axis.plot(at, values, "o-", color=BLUE, markersize=4)
        axis.set(title=name, xlabel="step (generator updates)", xlim=(0, steps[-1]))
    for axis, (title, lines) in zip(axes, panels):
        for key, (label, colour, style) in lines.items():
            axis.plot(steps, [r[key] for r in records], style, color=colour, label=label, linewidth=1.3)
        axis.set(title=title, xlabel="step (generator updates)", xlim=(0, steps[-1]))
        axis.legend(frameon=False)
    tidy(axes)
    save_figure(figure, path)


def score_names(records: list[dict]) -> list[str]:
    """The scores that were taken in training, in the order in which they come; no losses and no instruments."""
    names = dict.fromkeys(name for record in records for name in record)
    return [name for name in names if name in ("fid", "inception_score", "kid") or name.startswith(("fd_", "score_", "kd_"))]


def _series(records: list[dict], name: str) -> tuple[list[int], list[float]]:
    found = [(r["step"], r[name]) for r in records if name in r]
    return [step for step, _ in found], [value for _, value in found]


def plot_runs(runs: dict[str, list[dict]], path: Path) -> None:
    """Losses, mean logits and scores of several runs over steps, a panel each, as a PNG. runs: {name: records of metrics.jsonl}."""
    panels = {
        "d_loss": "discriminator's loss",
        "g_loss": "generator's loss",
        "d_real": "D(x), real",
        "d_fake": "D(G(z)), generated",
    }
    panels |= {name: name for records in runs.values() for name in score_names(records)}
    columns = 2 if len(panels) <= 4 else 3
    rows = -(-len(panels) // columns)
    figure, axes = pyplot().subplots(rows, columns, figsize=(4.6 * columns, 3 * rows), layout="constrained", squeeze=False)
    for axis, (key, title) in zip(axes.flat, panels.items()):
        for i, (name, records) in enumerate(runs.items()):
            at, values = _series(records, key)
            style = {"color": PALETTE[i % len(PALETTE)], "linestyle": DASHES[i % len(DASHES)]}
            axis.plot(at, values, label=name, linewidth=1.3, marker=MARKERS[i % len(MARKERS)] if key == title else None, **style)
        axis.set(title=title, xlabel="step (generator updates)")
    for axis in axes.flat[len(panels) :]:
        axis.remove()
    axes.flat[0].legend(axes.flat[0].lines, [printable(name) for name in runs], frameon=False)  # of itself it leaves _names out
    tidy(axes.flat[: len(panels)])
    save_figure(figure, path)


def plot_scores(scores: dict[int, dict[str, float]], path: Path) -> None:
    """One panel per score over the steps of training, as a PNG. scores: {step: {name: value}}, the same names at each step.

    Of single classes, of which there may be a thousand, nothing is drawn but their mean.
    """
    names = [name for name in next(iter(scores.values())) if OF_A_CLASS not in name]
    steps = sorted(scores)
    columns = min(len(names), 4)
    rows = -(-len(names) // columns)
    figure, axes = pyplot().subplots(rows, columns, figsize=(4.2 * columns, 3.2 * rows), layout="constrained", squeeze=False)
    for axis, name in zip(axes.flat, names):
        axis.plot(steps, [scores[step][name] for step in steps], "o-", color=BLUE, markersize=4)
        axis.set(title=name, xlabel="step (generator updates)")
    for axis in axes.flat[len(names) :]:
        axis.remove()
    tidy(axes.flat[: len(names)])
    save_figure(figure, path)
