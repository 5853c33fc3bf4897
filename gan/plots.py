"""How figures are drawn: one style, one palette, one way into a file; and the figures of a GAN's run, curves and scores."""

import functools
import io
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from data.files import printable, write_atomically

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 6.4  # inches of a figure, two panels: shown 420 pixels wide, letters of 9 points are 8 pixels high
INK, GREY, BLUE, RED = "#222222", "#444444", "#1f5fa8", "#d1495b"  # text; a line of its own; two sides of a comparison
# Many lines: told apart in grayscale by lightness, dash and marker; colours after Okabe and Ito 2008, Color Universal Design.
PALETTE = ("#000000", "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#777777")
OF_A_CLASS = "_intra:"  # in the name of the score of a single class
DASHES = ("-", "--", "-.", ":")
MARKERS = "osD^vP*X<>hd"
STEPS = "step (generator updates)"
# Numbers at a logarithmic axis: the first of these steps within a decade that gives LEAST_TICKS of them.
NICE: tuple[Sequence[float], ...] = ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7), (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9))
NICE += tuple([1 + i * step for i in range(round(9 / step))] for step in (0.5, 0.2, 0.1))
LEAST_TICKS, MOST_TICKS = 4, 12
P = ParamSpec("P")
T = TypeVar("T")


@contextmanager
def style(**more: object) -> Iterator[None]:
    """Within the block figures look as ours do, whatever the user's own settings say; afterwards those are as they were."""
    import matplotlib.style  # when there is something to draw: that takes as long as hundreds of steps

    ours = {"text.parse_math": False, "text.usetex": False}  # names of classes, files and rows are no formulas
    ours |= {"font.size": 9, "axes.titlesize": 9.5, "legend.fontsize": 8.5}
    with matplotlib.style.context(["default", {**ours, **more}]):
        yield


def styled(draw: Callable[P, T]) -> Callable[P, T]:
    """Decorates a function that draws: it does so within `style`."""

    @functools.wraps(draw)
    def wrapper(*arguments: P.args, **options: P.kwargs) -> T:
        with style():
            return draw(*arguments, **options)

    return wrapper


def subplots(rows: int, columns: int, size: tuple[float, float], **options) -> tuple["Figure", "np.ndarray"]:
    """A figure of (width, height) inches and its panels (rows, columns). It has no window, and pyplot doesn't know of it.

    options: as of Figure.subplots.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def panels(count: int, heights: Sequence[float] | None = None, **options) -> tuple["Figure", list["Axes"]]:
    """A figure of so many panels, two in a row, and the panels.

    heights: in inches, of each panel, of which the taller one of a row counts; 2.4 by default. options: as of Figure.subplots.
    """
    heights = heights or [2.4] * count
    rows = [max(heights[i : i + 2]) for i in range(0, count, 2)]
    size = (WIDTH if count > 1 else 0.62 * WIDTH, sum(rows))
    figure, axes = subplots(len(rows), min(count, 2), size, height_ratios=rows, **options)
    for axis in axes.flat[count:]:
        axis.remove()
    return figure, list(axes.flat[:count])


def logarithmic(axis: "Axes") -> None:
    """A logarithmic y axis with plain numbers from end to end: 4 to 12 of them, or 3 where it shows little of a decade."""
    from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

    axis.set_yscale("log")
    low, high = axis.get_ylim()
    decades = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    for steps in NICE:
        ticks = [step * 10.0**decade for decade in decades for step in steps if low <= step * 10.0**decade <= high]
        if len(ticks) >= LEAST_TICKS:
            ticks = ticks[:: math.ceil(len(ticks) / MOST_TICKS)]
            break
    else:
        ticks = [tick for tick in MaxNLocator(6).tick_values(low, high) if low <= tick <= high]
    axis.yaxis.set_major_locator(FixedLocator(ticks))
    axis.yaxis.set_minor_locator(NullLocator())
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_ylim(low, high)


@styled
def figure_bytes(figure: "Figure", kind: str = "png", dpi: int = 200) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=dpi)
    return buffer.getvalue()


def save_figure(figure: "Figure", path: Path, dpi: int = 200) -> None:
    """Write a PNG, whole or not at all."""
    picture = figure_bytes(figure, "png", dpi)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, picture)


def tidy(axes: Iterable["Axes"]) -> None:
    """A faint grid, and no lines above and to the right of the panels."""
    for axis in axes:
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)


@styled
def plot_curves(records: list[dict], path: Path) -> None:
    """Losses, mean logits and scores over steps, from the records of metrics.jsonl, as a PNG. Nothing is drawn without losses."""
    scored = {name: _series(records, name) for name in score_names(records)}
    records = [r for r in records if "d_loss" in r]
    if not records:
        return
    steps = [r["step"] for r in records]
    drawn = [
        ("losses", {"d_loss": ("discriminator", BLUE, "-"), "g_loss": ("generator", RED, "--")}),
        ("mean logits", {"d_real": ("D(x), real", BLUE, "-"), "d_fake": ("D(G(z)), generated", RED, "--")}),
    ]
    if any(r["penalty"] for r in records):
        drawn.append(("penalty", {"penalty": ("gradient penalty, unweighted", GREY, "-")}))
    if "augmentation" in records[0]:
        lines = {"augmentation": ("probability", BLUE, "-"), "overfitting": ("overfitting, r_t", RED, "--")}
        drawn.append(("augmentation", lines))
    figure, axes = panels(len(drawn) + len(scored))
    for axis, (name, (at, values)) in zip(axes[len(drawn) :], scored.items()):
        axis.plot(at, values, "o-", color=BLUE, markersize=4)
        axis.set(title=name, xlabel=STEPS, xlim=(0, steps[-1]))
    for axis, (title, lines) in zip(axes, drawn):
        for key, (label, colour, style) in lines.items():
            axis.plot(steps, [r[key] for r in records], style, color=colour, label=label, linewidth=1.3)
        axis.set(title=title, xlabel=STEPS, xlim=(0, steps[-1]))
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


@styled
def plot_runs(runs: dict[str, list[dict]], path: Path) -> None:
    """Losses, mean logits and scores of several runs over steps, a panel each, as a PNG. runs: {name: records of metrics.jsonl}."""
    drawn = {
        "d_loss": "discriminator's loss",
        "g_loss": "generator's loss",
        "d_real": "D(x), real",
        "d_fake": "D(G(z)), generated",
    }
    drawn |= {name: name for records in runs.values() for name in score_names(records)}
    figure, axes = panels(len(drawn))
    named = {}
    for axis, (key, title) in zip(axes, drawn.items()):
        for i, (name, records) in enumerate(runs.items()):
            at, values = _series(records, key)
            style = {"color": PALETTE[i % len(PALETTE)], "linestyle": DASHES[i % len(DASHES)]}
            marker = {"marker": MARKERS[i % len(MARKERS)], "markevery": max(1, len(at) // 6), "markersize": 4}
            named[printable(name)] = axis.plot(at, values, linewidth=1.3, **marker, **style)[0]
        axis.set(title=title, xlabel=STEPS)
    legend_below(figure, named)
    tidy(axes)
    save_figure(figure, path)


def legend_below(figure: "Figure", named: dict) -> None:
    """{name: handle} below the panels, by which the figure grows. Columns as they fit: a letter takes 5 points, a handle 45."""
    columns = max(1, min(6, int(72 * figure.get_figwidth() // (45 + 5 * max(map(len, named))))))
    figure.set_figheight(figure.get_figheight() + 0.19 * -(-len(named) // columns))
    figure.legend(named.values(), named, loc="outside lower center", ncols=columns, frameon=False)


@styled
def plot_scores(scores: dict[int, dict[str, float]], path: Path) -> None:
    """One panel per score over the steps of training, as a PNG. scores: {step: {name: value}}, the same names at each step.

    Of single classes, of which there may be a thousand, nothing is drawn but their mean.
    """
    names = [name for name in next(iter(scores.values())) if OF_A_CLASS not in name]
    steps = sorted(scores)
    figure, axes = panels(len(names))
    for axis, name in zip(axes, names):
        axis.plot(steps, [scores[step][name] for step in steps], "o-", color=BLUE, markersize=4)
        axis.set(title=name, xlabel=STEPS)
    tidy(axes)
    save_figure(figure, path)
