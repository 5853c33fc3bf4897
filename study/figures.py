"""The figures of a study: curves over steps and compute, cost against quality, samples side by side."""

import io
from statistics import fmean, stdev

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

from data.files import in_short
from gan.plots import DASHES, MARKERS, PALETTE, figure_bytes, pyplot, tidy
from study.analysis import Line, curve_of
from study.folder import StudyFolder
from study.study import Job, Study, StudyError
from study.text import distance_text

DIRECT = 120  # letters: names of more altogether would overlap if they stood beside their points


def _style(lines: list[Line], line: Line) -> dict:
    """Colour and marker of a row: the same in every facet for rows of one name."""
    index = list(dict.fromkeys(each.short for each in lines)).index(line.short)
    return {"color": PALETTE[index % len(PALETTE)], "marker": MARKERS[index % len(MARKERS)]}


def _facets(lines: list[Line]) -> dict[str, list[Line]]:
    found: dict[str, list[Line]] = {}
    for line in lines:
        found.setdefault(line.facet, []).append(line)
    return found


def plot_curves(lines: list[Line]) -> Figure | None:
    """Distance over steps and over multiply-adds spent, a row of panels per facet: mean over seeds, band of one deviation."""
    facets = {facet: [line for line in group if band(line)[0]] for facet, group in _facets(lines).items()}
    facets = {facet: group for facet, group in facets.items() if group}
    if not facets:
        return None
    figure, axes = pyplot().subplots(
        len(facets), 2, figsize=(10, 3.9 * len(facets)), layout="constrained", sharey="row", squeeze=False
    )
    named = {}
    for row, (facet, group) in zip(axes, facets.items()):
        for line in group:
            steps, mean, spread = band(line)
            style = _style(lines, line)
            index = MARKERS.index(style["marker"])
            dash = DASHES[(index + index // len(PALETTE)) % len(DASHES)]
            for axis, scale in zip(row, (1, line.model["step_macs"] / 1e12)):
                x = [step * scale for step in steps]
                every = max(1, len(x) // 8)
                named[line.short] = axis.plot(x, mean, dash, linewidth=1.4, markersize=4.5, markevery=every, **style)[0]
                low, high = [m - s for m, s in zip(mean, spread)], [m + s for m, s in zip(mean, spread)]
                axis.fill_between(x, low, high, color=style["color"], alpha=0.12, linewidth=0)
        row[0].set(ylabel=f"{_curve_name(group)} while training")
        row[0].set_title(facet, loc="left", fontsize=11, fontweight="bold")
    axes[-1][0].set(xlabel="training steps")
    axes[-1][1].set(xlabel="multiply-adds spent on training (10¹²)")
    for axis in axes[:, 0]:
        _logarithmic(axis)
    tidy(axes.flat)
    _legend(figure, named)
    return figure


def _legend(figure: Figure, named: dict) -> None:
    """{name: handle} below the panels, in as many columns as fit: a letter takes 5 points, a handle 45."""
    columns = max(1, min(6, int(72 * figure.get_figwidth() // (45 + 5 * max(map(len, named))))))
    figure.legend(named.values(), named, loc="outside lower center", ncols=columns, frameon=False, fontsize=9)


def band(line: Line) -> tuple[list[int], list[float], list[float]]:
    """(steps, mean over seeds, standard deviation) where every seed was scored in training: of the runs that converged, as in the
    table; of a row without any, of those that finished."""
    finished = [r for r in line.records if r["status"] == "finished"]
    converged = [r for r in finished if r["seed"] in line.values]
    curves = [dict(curve_of(r)) for r in converged or finished if curve_of(r)]
    steps = sorted(set.intersection(*(set(c) for c in curves))) if curves else []
    values = [[c[step] for c in curves] for step in steps]
    return steps, [fmean(v) for v in values], [stdev(v) if len(v) > 1 else 0.0 for v in values]


def _curve_name(lines: list[Line]) -> str:
    record = next(r["curve"][0] for line in lines for r in line.records if r["curve"])
    return next(key for key in record if key != "step")


def plot_tradeoff(lines: list[Line], costs: dict[str, dict]) -> Figure:
    """Distance against what a step costs: multiply-adds, and measured time where there is one; a row of panels per facet."""
    panels = [("multiply-adds per training step (10⁹)", lambda line: line.model["step_macs"] / 1e9)]
    if costs:
        panels.append(("milliseconds per training step", lambda line: costs[line.row.label]["ms_per_step"]))
    facets = {facet: [line for line in group if _shown(line)] for facet, group in _facets(lines).items()}
    facets = {facet: group for facet, group in facets.items() if group}
    size = (5 * len(panels), 3.6 * len(facets))
    names = {line.short for group in facets.values() for line in group}
    direct = max(map(len, names), default=0) * len(names) <= DIRECT
    named = {}
    figure, axes = pyplot().subplots(
        len(facets), len(panels), figsize=size, layout="constrained", sharey="row", sharex="col", squeeze=False
    )
    for row, (facet, group) in zip(axes, facets.items()):
        for axis, (_, cost) in zip(row, panels):
            drawn = [line for line in group if axis is row[0] or line.row.label in costs]
            points = [(cost(line), fmean(_shown(line).values())) for line in drawn]
            width, height = (max(values) - min(values) for values in zip(*points)) if points else (0, 0)
            for line, (x, y) in zip(drawn, points):
                values = list(_shown(line).values())
                spread = stdev(values) if len(values) > 1 else 0.0
                fill = {"markerfacecolor": "white"} if line.problems + line.failures else {}
                style = {"linestyle": "none", "capsize": 3, "markersize": 6, **fill, **_style(lines, line)}
                named[line.short] = axis.errorbar(x, y, spread, **style)
                if not direct:
                    continue
                # Below the point where another stands close above it, so that both stay legible.
                crowned = any(abs(x - other[0]) < 0.1 * width and 0 < other[1] - y < 0.15 * height for other in points)
                place = (7, -11) if crowned else (7, 5)
                axis.annotate(line.short, (x, y), xytext=place, textcoords="offset points", fontsize=9)
            axis.margins(0.12)
        row[0].set(ylabel="distance, lower is better")
        row[0].set_title(facet, loc="left", fontsize=11, fontweight="bold")
        means = [fmean(_shown(line).values()) for line in group]
        if max(means) > 3 * min(means) > 0:  # one row that went wrong would squash the others
            _logarithmic(row[0])
    for axis, (label, _) in zip(axes[-1], panels):
        axis.set(xlabel=label)
    tidy(axes.flat)
    if not direct:
        _legend(figure, named)
    return figure


def _shown(line: Line) -> dict[int, float]:
    """The distances of the runs that converged; of a row without any, those of the others."""
    return line.values or line.strays


def plot_grids(study: Study, folder: StudyFolder, lines: list[Line], across: int = 6, down: int = 4) -> Figure | None:
    """Samples of each row, side by side: the same place holds the same latent in every panel of one seed.

    That is the first seed that all rows with samples have; where there is none, each row's first, which its title then names.
    """
    shown = folder.shown_grids(study)
    panels = [(line, shown[line.row.label]) for line in lines if line.row.label in shown]
    if not panels:
        return None
    several = len(set(shown.values())) > 1
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure, axes = pyplot().subplots(rows, columns, figsize=(3.4 * columns, 2.5 * rows), layout="constrained", squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, (line, seed) in zip(axes.flat, panels):
        grid = _grid(folder, Job(line.row, seed))
        tile = (grid.shape[0] - 2) // 8
        axis.imshow(grid[: down * tile + 2, : across * tile + 2], interpolation="nearest")
        axis.set_title(f"{line.row.label}   {distance_text(line, 1)}" + f"   seed {seed}" * several, fontsize=9)
    return figure


def _grid(folder: StudyFolder, job: Job) -> np.ndarray:
    """(H, W, 3) of a run's samples. StudyError for what can't be read."""
    try:
        return pyplot().imread(io.BytesIO(folder.grid(job) or b""))
    except Exception as error:  # torn bytes make the reader raise a dozen kinds of error
        file = folder.run(job) / "grid.png"
        raise StudyError(f"{file} is damaged ({in_short(error)}): delete it, and no samples of that run are shown") from None


def _logarithmic(axis) -> None:
    """A logarithmic y axis that is labelled with plain numbers."""
    axis.set_yscale("log")
    axis.yaxis.set_major_formatter(ScalarFormatter())
    axis.yaxis.set_minor_formatter(ScalarFormatter())


def image(figure: Figure, kind: str) -> bytes:
    return figure_bytes(figure, kind, dpi=150)
