"""The report of a study: curves, cost against quality, sample grids, and the files table.{md,csv,json} and report.html."""

import base64
import json
from pathlib import Path

import filelock
import jinja2
from matplotlib.figure import Figure

from data.files import write_atomically
from gan.plots import pyplot
from study.analysis import Line, better, lines_of, table_of, to_csv, to_json
from study.costs import read_costs
from study.figures import image, plot_curves, plot_grids, plot_tradeoff
from study.folder import StudyFolder
from study.study import Study, StudyError
from study.text import INSTRUMENTS_NOTE, cells, foot, instrument_cells, score_names, to_markdown

TEMPLATE = Path(__file__).with_name("report.html")


def write_report(study: Study, path: Path) -> str:
    """Write tables and report of what has finished into the study's folder; returns the Markdown table."""
    folder = StudyFolder(path)
    if not folder.path.is_dir():
        raise StudyError(f"{folder.path} doesn't exist, so no run of the study has begun; repeat the command without --report")
    lines = lines_of(study, folder)
    costs = read_costs(study, folder)
    table = table_of(lines, costs)
    figures: dict[str, Figure | None] = {}
    if any(line.final for line in lines):
        figures = {"curves": plot_curves(lines), "tradeoff": plot_tradeoff(lines, costs)}
        figures["grids"] = plot_grids(study, folder, lines)
    files = {
        "table.md": to_markdown(study, lines, costs),
        "table.csv": to_csv(table),
        "table.json": to_json(study, lines, table, costs),
        "report.html": to_html(study, lines, costs, figures),
    }
    written = {name: text.encode() for name, text in files.items()}
    written |= {f"{name}.png": image(figure, "png") for name, figure in figures.items() if figure is not None}
    with filelock.FileLock(folder.path / ".report.lock"):  # somebody may look while `compare` ends
        for name, content in written.items():
            write_atomically(folder.path / name, content)
    pyplot().close("all")
    return files["table.md"]


def to_html(study: Study, lines: list[Line], costs: dict[str, dict], figures: dict[str, Figure | None]) -> str:
    """One file with everything in it: figures as data, no script, no link."""
    heads, rows = cells(study, lines, costs)
    marked = better(study, lines)
    embedded = {name: base64.b64encode(image(f, "png")).decode() for name, f in figures.items() if f is not None}
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(TEMPLATE.read_text())
    return template.render(
        study=study,
        heads=heads,
        rows=list(zip(rows, marked)),
        marked=any(marked),
        missing=[line.row.label for line in lines if line.ended and not line.final],
        notes=foot(study, lines, costs),
        instruments=instrument_cells(lines),
        instruments_note=INSTRUMENTS_NOTE,
        figures=embedded,
        score=score_names(lines)[0],
        done=sum(len(line.records) for line in lines),
        asked=sum(line.asked for line in lines),
        settings=json.dumps({"base": study.base, "settings": study.settings, "scoring": study.scoring.model_dump()}, indent=1),
    )
