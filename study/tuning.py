"""Tuning: before rows are compared, each chooses among the settings of a grid, on seeds that are used for nothing else.

The runs lie in a study of their own, in the folder `tuning` of the study.
"""

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from study.analysis import Line, analyse, geometric_mean
from study.folder import STUDY, TUNING, StudyFolder
from study.study import Study


@dataclass(frozen=True)
class Choice:
    """The settings that a row of the study chose, and those it was tried with."""

    row: str
    settings: dict[str, Any]  # the best of the grid; {} where none of its runs converged: the row keeps its own
    tried: list[tuple[dict[str, Any], Line]]
    edge: list[str]  # keys whose chosen number is the least or greatest of several in the grid: a better one may lie beyond


def choices(study: Study, path: Path) -> list[Choice] | None:
    """What each row chooses; None until all runs of the tuning are done.

    The most converged runs come first, then the lowest distance (geometric mean over seeds, each run's over its last scored
    checkpoints).
    """
    if study.tune is None:
        return None
    tuning, folder = study.tuning(), StudyFolder(path / TUNING)
    if not folder.path.is_dir() or not all(folder.done(tuning, job) for job in tuning.jobs):
        return None
    lines = {line.row.label: line for line in analyse(tuning, folder).lines}
    grid = study.tune.grid
    points = [dict(zip(grid, values)) for values in itertools.product(*grid.values())]
    found = []
    for i, row in enumerate(study.rows):
        labels = [tuning.rows[i * len(points) + n].label for n in range(len(points))]
        tried = [(point, lines[label]) for point, label in zip(points, labels)]
        best, line = min(tried, key=lambda pair: _rank(pair[1]))
        settings = best if line.values else {}
        edge = [key for key, value in settings.items() if _at_edge(value, grid[key])]
        found.append(Choice(row.label, settings, tried, edge))
    return found


def _at_edge(value: Any, values: list[Any]) -> bool:
    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    return len(numbers) == len(values) > 1 and value in (min(numbers), max(numbers))


def _rank(line: Line) -> tuple[int, float]:
    return -line.converged, geometric_mean(list(line.values.values())) if line.values else float("inf")


def with_choices(study: Study, path: Path) -> Study:
    """The study with the settings that its rows chose.

    Until its tuning is done (the grid has grown since, or the tuning's runs were left elsewhere), with those that the folder's
    study.yaml names. Unchanged without either.
    """
    if study.tune is None:
        return study
    found = choices(study, path)
    if found is not None:
        return study.model_copy(update={"tuned": {c.row: c.settings for c in found}})
    if study.tuned is None and (path / STUDY).is_file():
        return study.model_copy(update={"tuned": Study.load(path).tuned})
    return study
