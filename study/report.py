"""The report of a study: curves, cost against quality, sample grids, and the files table.{md,csv,json} and report.html."""

import base64
import json
from pathlib import Path

import jinja2

from data.files import locked, write_atomically
from study.analysis import Analysis, analyse
from study.costs import read_costs
from study.figures import image, plot_curves, plot_grids, plot_tradeoff
from study.folder import StudyFolder
from study.forest import Forest
from study.nearest import Looked, nearest_images
from study.notes import notes, score_names
from study.study import Study, StudyError
from study.table import table_of, to_csv, to_json
from study.text import (
    INSTRUMENTS_NOTE,
    cells,
    change_text,
    contrast_cells,
    cost_cells,
    instrument_cells,
    summary,
    to_markdown,
    tuning_cells,
    tuning_note,
)
from study.tuning import Choice, choices, with_choices

PATIENCE = 60  # seconds to wait for another report of the same study
TEMPLATE = Path(__file__).with_name("report.html")
SCALE = 0.595  # of a picture in report.html: two panels fill three quarters of the page


def write_report(study: Study, path: Path) -> str:
    """Write tables and report of what has finished into the study's folder; returns the Markdown table."""
    folder = StudyFolder(path)
    if not folder.path.is_dir():
        raise StudyError(f"{folder.path} doesn't exist, so no run of the study has begun; repeat the command without --report")
    tuning = choices(study, folder.path)
    study = with_choices(study, folder.path)
    analysis = analyse(study, folder)
    costs = read_costs(study, folder)
    table = table_of(analysis, costs)
    text = to_markdown(study, analysis, costs, tuning)
    # Tables first: if a picture can't be drawn, they are there.
    _write(folder, {"table.md": text, "table.csv": to_csv(table), "table.json": to_json(study, analysis, table, costs)})
    pictures = _pictures(study, folder, analysis, costs)
    kept = folder.kept_grids(study) is not None
    html = to_html(study, analysis, costs, pictures, tuning, nearest_images(study, folder), kept)
    _write(folder, {**{f"{name}.png": picture for name, picture in pictures.items()}, "report.html": html})
    return text


def _pictures(study: Study, folder: StudyFolder, analysis: Analysis, costs: dict[str, dict]) -> dict[str, bytes | None]:
    """{name: PNG}; None for what there is nothing to draw of."""
    kept = folder.kept_grids(study)
    if not any(line.values or line.strays for line in analysis.lines):
        return {"curves": None, "tradeoff": None, "grids": kept}
    found = {"curves": plot_curves(analysis.lines), "tradeoff": plot_tradeoff(analysis.lines, costs)}
    found["grids"] = None if kept else plot_grids(study, folder, analysis.lines)
    drawn = {name: None if figure is None else image(figure, "png") for name, figure in found.items()}
    return {**drawn, "grids": kept or drawn["grids"]}


def _write(folder: StudyFolder, files: dict[str, str | bytes | None]) -> None:
    """By one process at a time: somebody may look while `compare` ends. None: remove the file, of runs that are no longer there."""
    with locked(folder.path / ".report.lock", PATIENCE):
        for name, content in files.items():
            if content is None:
                (folder.path / name).unlink(missing_ok=True)
            else:
                write_atomically(folder.path / name, content if isinstance(content, bytes) else content.encode())


def to_html(
    study: Study, analysis: Analysis, costs: dict[str, dict], pictures: dict[str, bytes | None], tuning: list[Choice] | None,
    nearest: list[Looked], kept: bool,
) -> str:  # fmt: skip
    """One file with everything in it: pictures as data, no script, no link. kept: the samples are shown as they were exported."""
    embedded = {name: _embedded(picture) for name, picture in pictures.items() if picture}
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(TEMPLATE.read_text())
    lines, contrasts = analysis.lines, analysis.contrasts
    differences = [c.difference for c in (*(line.comparison for line in lines), *contrasts) if c]
    forest = Forest(differences, study.equal_within)
    draw = lambda c: c and forest.row(c.difference, f"{change_text(c.difference)} %")
    return template.render(
        study=study,
        summary=summary(study, analysis),
        table=cells(study, analysis),
        drawn=[draw(line.comparison) for line in lines] if differences else None,
        contrasts=contrast_cells(analysis),
        drawn_contrasts=[draw(c) for c in contrasts],
        empty=forest.row(None, "not compared"),
        axis=forest.axis(),
        band=f"{100 * study.equal_within:g} %",
        costs=cost_cells(study, analysis, costs),
        tuning=tuning and tuning_cells(study, tuning),
        tuning_note=tuning and tuning_note(study, tuning),
        missing=[line.row.label for line in lines if line.ended and not (line.values or line.strays)],
        notes=notes(study, analysis, costs),
        instruments=instrument_cells(analysis),
        instruments_note=INSTRUMENTS_NOTE,
        figures=embedded,
        nearest=nearest,
        kept=kept,
        score=score_names(analysis)[0],
        done=len(analysis.records),
        asked=sum(line.asked for line in lines),
        settings=json.dumps(study.dump(), indent=1),
    )


def _embedded(picture: bytes) -> dict[str, str]:
    """A picture as data, and how wide it is shown: letters have the same size in all of them."""
    width = int.from_bytes(picture[16:20], "big")  # as the header of a PNG says
    return {"data": base64.b64encode(picture).decode(), "width": str(round(SCALE * width))}
