"""The report of a study: curves, cost against quality, sample grids, and the files table.{md,csv,json} and report.html."""

import base64
import io
import json
from pathlib import Path
from statistics import fmean, stdev

import jinja2
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from gan.checkpoint import write_atomically
from gan.study import Job, Study, StudyFolder, config_of, rows_of
from gan.study_table import (
    Line,
    cells,
    curve_of,
    foot,
    lines_of,
    mean_std,
    records,
    score_names,
    to_csv,
    to_json,
    to_markdown,
)

TEMPLATE = Path(__file__).with_name("study_report.html")
# Told apart in grayscale by lightness, dash and marker; colours after Okabe and Ito.
COLOURS = ["#000000", "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#777777"]
DASHES = ["-", "--", "-.", ":"]
MARKERS = "osD^vP*X<>hd"


def write_report(study: Study, path: Path, measure: bool = True) -> str:
    """Write tables and report of what has finished into the study's folder; returns the Markdown table.

    measure: first time a training step of each row, in turns, if all runs are done and that hasn't been done yet.
    """
    folder = StudyFolder(path)
    lines = lines_of(study, folder)
    complete = all(len(line.results) == line.asked for line in lines)
    costs = costs_of(study, folder, measure and complete)
    table = records(lines, costs)
    figures = {}
    if any(line.final for line in lines):
        figures = {"curves": plot_curves(lines), "tradeoff": plot_tradeoff(lines, costs)}
        figures["grids"] = plot_grids(study, folder, lines)
    for name, figure in figures.items():
        if figure is not None:
            write_atomically(folder.path / f"{name}.png", _image(figure, "png"))
    files = {
        "table.md": to_markdown(study, lines, costs),
        "table.csv": to_csv(table),
        "table.json": to_json(study, lines, table, costs),
        "report.html": to_html(study, lines, costs, figures),
    }
    for name, text in files.items():
        write_atomically(folder.path / name, text.encode())
    plt.close("all")
    return files["table.md"]


def costs_of(study: Study, folder: StudyFolder, measure: bool) -> dict[str, dict]:
    """costs.json: {row: ms per step, ...}, measured if asked for and some row of the study isn't in it."""
    file = folder.path / "costs.json"
    found = json.loads(file.read_text()) if file.is_file() else {"rows": {}}
    labels = [row.label for row in rows_of(study)]
    if measure and not set(labels) <= set(found["rows"]):
        from gan.cost import machine, step_costs

        configs = {row.label: config_of(study, Job(row, study.seeds[0])) for row in rows_of(study)}
        device = next(iter(configs.values())).train.device
        found = {"machine": machine(device), "rows": step_costs(configs)}
        write_atomically(file, (json.dumps(found, indent=1) + "\n").encode())
    return found["rows"]


def _style(index: int) -> dict:
    return {
        "color": COLOURS[index % len(COLOURS)],
        "linestyle": DASHES[index % len(DASHES)],
        "marker": MARKERS[index % len(MARKERS)],
    }


def plot_curves(lines: list[Line]) -> Figure | None:
    """Score over steps and over multiply-adds spent: mean over seeds, band of one standard deviation."""
    drawn = [(i, line) for i, line in enumerate(lines) if any(curve_of(r) for r in line.results)]
    if not drawn:
        return None
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained", sharey=True)
    lowest, highest = [], []
    for index, line in drawn:
        steps, mean, spread = band(line)
        lowest.append(min(mean))
        highest += mean[len(mean) // 4 :][:1]
        for axis, scale in zip(axes, (1, line.model["step_macs"] / 1e15)):
            x = [step * scale for step in steps]
            style = _style(index)
            axis.plot(x, mean, label=line.row.label, linewidth=1.4, markersize=4, markevery=max(1, len(x) // 8), **style)
            low, high = [m - s for m, s in zip(mean, spread)], [m + s for m, s in zip(mean, spread)]
            axis.fill_between(x, low, high, color=style["color"], alpha=0.12, linewidth=0)
    axes[0].set(
        xlabel="training steps", ylabel=f"{_curve_name(lines)} while training", ylim=(0.9 * min(lowest), 1.1 * max(highest))
    )
    axes[1].set(xlabel="multiply-adds spent on training (10¹⁵)")
    _tidy(axes)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", frameon=False, fontsize=9)
    return figure


def band(line: Line) -> tuple[list[int], list[float], list[float]]:
    """(steps, mean over seeds, standard deviation) where every finished seed was scored in training."""
    curves = [dict(curve_of(r)) for r in line.results if curve_of(r)]
    steps = sorted(set.intersection(*(set(c) for c in curves)))
    values = [[c[step] for c in curves] for step in steps]
    return steps, [fmean(v) for v in values], [stdev(v) if len(v) > 1 else 0.0 for v in values]


def _curve_name(lines: list[Line]) -> str:
    record = next(r["curve"][0] for line in lines for r in line.results if r["curve"])
    return next(key for key in record if key != "step")


def plot_tradeoff(lines: list[Line], costs: dict[str, dict]) -> Figure:
    """Final score against what a step costs: multiply-adds, and measured time where there is one."""
    panels = [("multiply-adds per training step (10⁹)", lambda line: line.model["step_macs"] / 1e9)]
    if costs:
        panels.append(("milliseconds per training step", lambda line: costs[line.row.label]["ms_per_step"]))
    figure, axes = plt.subplots(1, len(panels), figsize=(5.5 * len(panels), 4.2), layout="constrained", sharey=True, squeeze=False)
    for axis, (label, cost) in zip(axes[0], panels):
        for index, line in enumerate(lines):
            if not line.final or (costs and line.row.label not in costs):
                continue
            y = list(line.final.values())
            style = {k: v for k, v in _style(index).items() if k != "linestyle"}
            spread = stdev(y) if len(y) > 1 else 0.0
            axis.errorbar(cost(line), fmean(y), spread, linestyle="none", capsize=3, markersize=6, label=line.row.label, **style)
            axis.annotate(line.row.label, (cost(line), fmean(y)), xytext=(6, 4), textcoords="offset points", fontsize=8)
        axis.set(xlabel=label)
    axes[0][0].set(ylabel=f"{score_names(lines)[0]}, final (lower is better)")
    _tidy(axes[0])
    return figure


def plot_grids(study: Study, folder: StudyFolder, lines: list[Line], across: int = 6, down: int = 4) -> Figure | None:
    """Samples of each row at the first seed they have, side by side: the same place holds the same latent in every panel."""
    panels = []
    for line in lines:
        seeds = [r["seed"] for r in line.results if (folder.run(Job(line.row, r["seed"])) / "grid.png").is_file()]
        if seeds:
            panels.append((line, seeds[0]))
    if not panels:
        return None
    columns = min(4, len(panels))
    rows = -(-len(panels) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(3.1 * columns, 2.35 * rows), layout="constrained", squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, (line, seed) in zip(axes.flat, panels):
        grid = plt.imread(folder.run(Job(line.row, seed)) / "grid.png")
        tile = (grid.shape[0] - 2) // 8
        axis.imshow(grid[: down * tile + 2, : across * tile + 2], interpolation="nearest")
        axis.set_title(f"{line.row.label}   {mean_std(line.final, 1)}", fontsize=9)
    return figure


def _tidy(axes) -> None:
    for axis in axes:
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)


def _image(figure: Figure, kind: str) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=150)
    return buffer.getvalue()


def to_html(study: Study, lines: list[Line], costs: dict[str, dict], figures: dict[str, Figure | None]) -> str:
    """One file with everything in it: figures as data, no script, no link."""
    heads, rows = cells(lines, costs, score_names(lines))
    best = min((fmean(line.final.values()) for line in lines if line.final), default=None)
    marked = [bool(line.final) and fmean(line.final.values()) == best for line in lines]
    embedded = {name: base64.b64encode(_image(f, "png")).decode() for name, f in figures.items() if f is not None}
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(TEMPLATE.read_text())
    return template.render(
        study=study,
        heads=heads,
        rows=list(zip(rows, marked)),
        notes=foot(study, lines),
        figures=embedded,
        score=score_names(lines)[0],
        done=sum(len(line.results) for line in lines),
        asked=sum(line.asked for line in lines),
        settings=json.dumps({"base": study.base, "settings": study.settings, "scoring": study.scoring.model_dump()}, indent=1),
    )
