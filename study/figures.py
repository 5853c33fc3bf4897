"""The figures of a study: curves over steps and compute, cost against quality, samples side by side."""

import io
from statistics import fmean, stdev

import numpy as np
from matplotlib.figure import Figure
from matplotlib.image import imread

from data.files import in_short
from gan.plots import DASHES, GREY, MARKERS, PALETTE, WIDTH, figure_bytes, legend_below, logarithmic, styled, subplots, tidy
from study.analysis import VALUE, Line, curve_of, sizes_differ
from study.folder import StudyFolder
from study.study import Job, Study, StudyError
from study.text import distance_text

DIRECT = 60  # letters: names of more altogether would overlap if they stood beside their points


def _style(lines: list[Line], line: Line) -> dict:
    """Colour and marker of a row: the same in every facet for rows of one name."""
    index = list(dict.fromkeys(each.short for each in lines)).index(line.short)
    return {"color": PALETTE[index % len(PALETTE)], "marker": MARKERS[index % len(MARKERS)]}


def _kind(line: Line) -> tuple:
    """What rows have in common that differ in numbers alone, such as in depth."""
    is_number = lambda value: isinstance(value, int | float) and not isinstance(value, bool)
    return tuple((key, None if is_number(value) else value) for key, value in line.row.settings.items())


def _facets(lines: list[Line]) -> dict[str, list[Line]]:
    found: dict[str, list[Line]] = {}
    for line in lines:
        found.setdefault(line.facet, []).append(line)
    return found


@styled
def plot_curves(lines: list[Line]) -> Figure | None:
    """Distance over steps and over multiply-adds spent, a row of panels per facet: mean over seeds, band of one deviation."""
    facets = {facet: [line for line in group if band(line)[0]] for facet, group in _facets(lines).items()}
    facets = {facet: group for facet, group in facets.items() if group}
    if not facets:
        return None
    size = (WIDTH, 2.6 * len(facets) + 0.2)
    figure, axes = subplots(len(facets), 2, size, sharey="row")
    named = {}
    for row, (facet, group) in zip(axes, facets.items()):
        for line in group:
            steps, mean, spread = band(line)
            style = _style(lines, line)
            index = MARKERS.index(style["marker"])
            dash = DASHES[(index + index // len(PALETTE)) % len(DASHES)]
            hollow = {} if line.values else {"markerfacecolor": "white"}
            for axis, scale in zip(row, (1, line.model["step_macs"] / 1e12)):
                x = [step * scale for step in steps]
                every = max(1, len(x) // 8)
                drawn = axis.plot(x, mean, dash, linewidth=1.3, markersize=4, markevery=every, **style, **hollow)[0]
                if line.values or line.short not in named:  # of a name that converged in one facet, the full marker
                    named[line.short] = drawn
                low, high = [m - s for m, s in zip(mean, spread)], [m + s for m, s in zip(mean, spread)]
                axis.fill_between(x, low, high, color=style["color"], alpha=0.12, linewidth=0)
        name, comma, unit = _curve_name(group).partition(", ")
        row[0].set(ylabel=f"{name} while training{comma}{unit}")
        row[0].set_title(facet, loc="left", fontweight="bold")
    axes[-1][0].set(xlabel="training steps")
    axes[-1][1].set(xlabel="multiply-adds spent (10¹²)")
    for axis in axes[:, 0]:
        logarithmic(axis)
    tidy(axes.flat)
    legend_below(figure, named)
    return figure


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
    return _in_full(next(key for key in record if key != "step"))


def _final_name(lines: list[Line]) -> str:
    return _in_full(next(r["last"]["scores"][0]["name"] for line in lines for r in line.records if "last" in r))


def _in_full(name: str) -> str:
    return VALUE["classify"] if name == "test_error" else name


@styled
def plot_tradeoff(lines: list[Line], costs: dict[str, dict]) -> Figure:
    """Distance against what a row costs: parameters where rows differ in them, multiply-adds, and time where it was measured.

    A row of panels per facet. Rows of several costs that differ in numbers alone, such as in depth, are joined.
    """
    panels = [("multiply-adds per step (10⁹)", lambda line: line.model["step_macs"] / 1e9)]
    if sizes_differ([line for line in lines if _shown(line)]):
        panels.insert(0, ("parameters (10³)", lambda line: line.model["parameters"] / 1e3))
    if costs:
        panels.append(("milliseconds per step", lambda line: costs[line.row.label]["ms_per_step"]))
    facets = {facet: [line for line in group if _shown(line)] for facet, group in _facets(lines).items()}
    facets = {facet: group for facet, group in facets.items() if group}
    size = (WIDTH * (0.62, 1, 1.35)[len(panels) - 1], 2.6 * len(facets) + 0.2)
    names = {line.short for group in facets.values() for line in group}
    direct = max(map(len, names), default=0) * len(names) <= DIRECT
    named, kinds = {}, list(dict.fromkeys(map(_kind, lines)))
    costly = {kind: {line.model["step_macs"] for line in lines if _shown(line) and _kind(line) == kind} for kind in kinds}
    joined = [kind for kind in kinds if len(costly[kind]) > 1]
    figure, axes = subplots(len(facets), len(panels), size, sharey="row", sharex="col")
    for row, (facet, group) in zip(axes, facets.items()):
        for axis, (_, cost) in zip(row, panels):
            drawn = [line for line in group if line.row.label in costs] if costs and axis is row[-1] else group
            points = [(cost(line), fmean(_shown(line).values())) for line in drawn]
            for kind in joined:
                own = sorted(point for point, line in zip(points, drawn) if _kind(line) == kind)
                axis.plot([x for x, _ in own], [y for _, y in own], color=GREY, linewidth=0.8, alpha=0.6, zorder=1)
            width, height = (max(values) - min(values) for values in zip(*points)) if points else (0, 0)
            for line, (x, y) in zip(drawn, points):
                values = list(_shown(line).values())
                spread = stdev(values) if len(values) > 1 else 0.0
                fill = {"markerfacecolor": "white"} if line.problems + line.failures else {}
                style = {"linestyle": "none", "capsize": 2, "markersize": 5, **fill, **_style(lines, line)}
                named[line.short] = axis.errorbar(x, y, spread, **style)
                if not direct:
                    continue
                # Below the point where another stands close above it, to the left where one stands beside: all stay legible.
                crowned = any(abs(x - other[0]) < 0.1 * width and 0 < other[1] - y < 0.15 * height for other in points)
                beside = any(0 < other[0] - x < 0.15 * width and abs(other[1] - y) < 0.1 * height for other in points)
                place, align = ((-5, -10), "right") if beside and not crowned else ((5, -10 if crowned else 4), "left")
                axis.annotate(line.short, (x, y), xytext=place, textcoords="offset points", fontsize=8.5, ha=align)
            axis.margins(0.15)
        row[0].set(ylabel=f"final {_final_name(group)}")
        row[0].set_title(facet, loc="left", fontweight="bold")
        means = [fmean(_shown(line).values()) for line in group]
        if max(means) > 3 * min(means) > 0:  # one row that went wrong would squash the others
            logarithmic(row[0])
    for axis, (label, _) in zip(axes[-1], panels):
        axis.set(xlabel=label)
    tidy(axes.flat)
    if not direct:
        legend_below(figure, named)
    return figure


def _shown(line: Line) -> dict[int, float]:
    """The distances of the runs that converged; of a row without any, those of the others."""
    return line.values or line.strays


@styled
def plot_grids(study: Study, folder: StudyFolder, lines: list[Line], across: int = 6, down: int = 4) -> Figure | None:
    """Real images, then samples of each row: the same place holds the same latent in every panel of one seed.

    That is the first seed that all rows with samples have; where there is none, each row's first, which its title then names. A
    row of which not every run converged says so, and has a frame if none did.
    """
    shown = folder.shown_grids(study)
    rows = [(line, shown[line.row.label]) for line in lines if line.row.label in shown]
    if not rows:
        return None
    several, real = len(set(shown.values())) > 1, folder.real(study)
    count = len(rows) + (real is not None)
    figure, axes = subplots(-(-count // 2), 2, (WIDTH, 2.5 * -(-count // 2)))
    for axis in axes.flat:
        axis.axis("off")
    panels = list(axes.flat)
    if real is not None:
        _draw_grid(panels.pop(0), imread(io.BytesIO(real)), study.config(study.jobs[0]).dataset.resolution, across, down)
        axes.flat[0].set_title("real images")
    for axis, (line, seed) in zip(panels, rows):
        job = Job(line.row, seed)
        _draw_grid(axis, _grid(folder, job), study.config(job).dataset.resolution, across, down)
        title = f"{line.row.label}   {distance_text(line, 1)}" + f"   seed {seed}" * several
        if line.problems:
            title += f"\n{line.converged} of {len(line.records)} converged"
        axis.set_title(title)
        if line.records and not line.converged:
            axis.axis("on")
            axis.set(xticks=[], yticks=[])
            for side in axis.spines.values():
                side.set(visible=True, linewidth=1.5, linestyle="--")
    return figure


def _grid(folder: StudyFolder, job: Job) -> np.ndarray:
    """(H, W, 3) of a run's samples. StudyError for what can't be read."""
    try:
        return imread(io.BytesIO(folder.grid(job) or b""))
    except Exception as error:  # torn bytes make the reader raise a dozen kinds of error
        file = folder.run(job) / "grid.png"
        raise StudyError(f"{file} is damaged ({in_short(error)}): delete it, and no samples of that run are shown") from None


def _draw_grid(axis, grid: np.ndarray, resolution: int, across: int, down: int) -> None:
    """The upper left part of a grid of eight columns (H, W, 3), whatever the scale that it was saved at."""
    scale = max(1, round(grid.shape[1] / (8 * (resolution + 2) + 2)))
    cell, border = scale * (resolution + 2), 2 * scale
    axis.imshow(grid[: down * cell + border, : across * cell + border], interpolation="nearest")


def image(figure: Figure, kind: str) -> bytes:
    return figure_bytes(figure, kind)
