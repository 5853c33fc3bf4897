"""What `compare` prints of a study: the verdict first, then a table that fits 80 columns."""

import io
from pathlib import Path

from rich.console import Console
from rich.table import Table

from study.analysis import VALUE, Line, analyse
from study.folder import StudyFolder
from study.study import Study
from study.text import change_text, comparison_text, distance_text, summary, verdict_text
from study.tuning import with_choices

WIDTH = 80


def in_terminal(study: Study, path: Path) -> str:
    """The verdict, a line for each row, the declared contrasts; the files in the folder have all that stands beside it."""
    study = with_choices(study, path)
    analysis = analyse(study, StudyFolder(path))
    heads = ["", "converged", VALUE[study.task], f"against {study.baseline_name}, %", "verdict"]
    rows = [
        [line.row.label, _converged(line), distance_text(line), _change(line), verdict_text(analysis, line)]
        for line in analysis.lines
    ]
    parts = [summary(study, analysis), _table(heads, rows)]
    if analysis.contrasts:
        heads = ["declared beforehand", "%", "verdict"]
        contrasts = analysis.contrasts
        rows = [[f"{c.row} against {c.against}", change_text(c.difference), comparison_text(analysis, c)] for c in contrasts]
        parts.append(_table(heads, rows))
    return "\n\n".join(parts)


def _converged(line: Line) -> str:
    """'2 of 3'; with '+ 1 failed' and '+ 1 to come'."""
    failed = f" + {len(line.failures)} failed" if line.failures else ""
    to_come = f" + {line.asked - line.ended} to come" if line.ended < line.asked else ""
    return f"{line.converged} of {len(line.records)}{failed}{to_come}"


def _change(line: Line) -> str:
    return change_text(line.comparison.difference) if line.comparison else "-"


def _table(heads: list[str], rows: list[list[str]]) -> str:
    """Names, numbers and verdicts go on below themselves where they are too wide; nothing is cut."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for i, head in enumerate(heads):
        table.add_column(head, overflow="fold", justify="left" if i in (0, len(heads) - 1) else "right")
    for row in rows:
        table.add_row(*row)
    text = io.StringIO()
    Console(file=text, width=WIDTH, markup=False, emoji=False, highlight=False).print(table)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())
