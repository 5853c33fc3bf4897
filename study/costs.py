"""What a training step of each row costs: measured once, when all runs have ended, and kept in the study's costs.json."""

import json
from collections.abc import Callable
from pathlib import Path

from data.checksums import sealed, whole
from data.files import counted, write_atomically
from gan.settings import ConfigError, Tree
from study.analysis import analyse
from study.folder import StudyFolder
from study.study import Config, Job, Row, Study

FILE = "costs.json"


def read_costs(study: Study, folder: StudyFolder) -> dict[str, dict]:
    """{row: ms_per_step, images_per_s, peak_bytes, machine} of the rows that were measured with the settings they have now."""
    rows = {row.label: row for row in study.rows}
    try:
        found = json.loads((folder.path / FILE).read_text())
        if not whole(found):
            return {}
        return {
            label: {**{k: v for k, v in cost.items() if k != "config"}, "machine": found["machine"]}
            for label, cost in found["rows"].items()
            if label in rows and _still(study, rows[label], cost["config"])
        }
    except (FileNotFoundError, ValueError, TypeError, KeyError, AttributeError):  # none, torn, or of another version: measured anew
        return {}


def _still(study: Study, row: Row, measured: dict) -> bool:
    """Whether a row has the settings that it was measured with."""
    try:
        old = study.kind.load_saved(measured)
    except ConfigError:  # of another version
        return False
    new = _config(study, row).replace({"train.seed": old.train.seed}).keeping(old)
    return _alike(old, new)


def _alike(old: Tree, new: Tree) -> bool:
    return old.values()["train.device"] == new.values()["train.device"] and not old.difference(new)


def _config(study: Study, row: Row) -> Config:
    """A row's settings, with the first seed."""
    return study.config(Job(row, study.seeds[0]))


def measure_costs(study: Study, path: Path, say: Callable) -> bool:
    """Once all runs have ended, time a step of every row, in turns. Returns whether this call measured.

    A failure is reported, and the table then lacks these columns.
    """
    folder = StudyFolder(path)
    lines = analyse(study, folder).lines
    trained = [line.row for line in lines if line.records]
    if any(line.ended < line.asked for line in lines) or {row.label for row in trained} <= read_costs(study, folder).keys():
        return False
    from gan.timing import machine, step_costs

    configs = {row.label: _config(study, row) for row in trained}
    say(f"timing a training step of {counted(len(configs), 'row')}, in turns: the last thing")
    try:
        costs = step_costs(configs)
    except (RuntimeError, MemoryError) as error:  # all rows at once may be too many for a GPU, or nothing compiles here
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        say(f"time and memory of the rows were not measured, so the table leaves them out: {reason}", "yellow")
        return False
    device = next(iter(configs.values())).train.device
    rows = {label: {**cost, "config": configs[label].model_dump(mode="json")} for label, cost in costs.items()}
    measured = sealed({"machine": machine(device), "rows": rows})
    write_atomically(folder.path / FILE, (json.dumps(measured, indent=1) + "\n").encode())
    return True
