"""One run of a study, start to end: train (or go on), score, write record.json."""

import json
import time

from data.files import write_atomically
from gan.loop import Diverged
from gan.timing import machine
from metrics.protocol import library_versions
from metrics.scoring import Side
from study import classifiers, generators
from study.folder import RECORD, StudyFolder
from study.study import Job, Study, StudyError, config_of, facet_of, jobs_of

TASKS = {"gan": generators, "classify": classifiers}  # each has materials, train, model_facts, curve and score_run


def run_job(study: Study, folder: StudyFolder, job: Job) -> dict:
    """Do what is still missing of one run and return its record, which also lies in its folder as record.json.

    A run that diverges has a record too: status "diverged", with the reason. Everything else that goes wrong is raised.
    """
    task, config, directory = TASKS[study.task], config_of(study, job), folder.run(job)
    record = {"label": job.row.label, "seed": job.seed, "task": study.task, "length": config.length}
    record |= {"scoring": study.scoring.model_dump(), "config": config.model_dump(mode="json")}
    materials = task.materials(config, study.scoring)  # before the training: what is missing is said now, not after hours
    if materials is not None:
        _require_reference(study, folder, job, materials.real)
    try:
        task.train(config, directory, progress=False)
        record |= {"status": "finished", "why": None}
    except Diverged as error:
        record |= {"status": "diverged", "why": str(error).partition(". ")[0]}  # without the advice on what to do next
    record |= {"model": task.model_facts(config, directory), "curve": task.curve(directory)}
    if record["status"] == "finished":
        record |= task.score_run(config, directory, materials, job.seed)
    record["finished"] = time.strftime("%Y-%m-%d", time.gmtime())
    record |= {"versions": library_versions(), "machine": machine(config.train.device)}
    write_atomically(directory / RECORD, (json.dumps(record, indent=1) + "\n").encode())
    return record


def _require_reference(study: Study, folder: StudyFolder, job: Job, real: Side) -> None:
    """StudyError if what this run would be compared with was scored against other images than lie here, say on another machine."""
    for other in jobs_of(study):
        if other == job or facet_of(study, other.row)[0] != facet_of(study, job.row)[0] or not folder.done(study, other):
            continue
        result = folder.result(other)
        card = result["last"]["scores"][0]["card"] if result["status"] == "finished" else {}
        if real.sha256 and card.get("real_sha256") not in (None, real.sha256):
            raise StudyError(
                f"{other.name} was scored against other images ({card['real']}) than lie here ({real.name}), so the two could not "
                f"be compared: let {'scoring.reference' if study.scoring.reference else 'dataset.path'} name the same images, or "
                "start a study of these in another --out"
            )
