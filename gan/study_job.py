"""One run of a study, start to end: train (or go on), score, write record.json."""

import json
import statistics
import time
from pathlib import Path

from gan import checkpoint, study_classify, study_gan
from gan.cost import machine
from gan.run_directory import read_log
from gan.study import RECORD, Job, Study, StudyFolder, config_of, length_of
from gan.training import Diverged
from metrics.protocol import library_versions

TASKS = {"gan": study_gan, "classify": study_classify}  # each has train, model_facts, curve and score_run


def run_job(study: Study, folder: StudyFolder, job: Job) -> dict:
    """Do what is still missing of one run and return its record, which also lies in its folder as record.json.

    A run that diverges has a record too: status "diverged", with the reason. Everything else that goes wrong is raised.
    """
    task, config, directory = TASKS[study.task], config_of(study, job), folder.run(job)
    record = {"label": job.row.label, "seed": job.seed, "task": study.task, "length": length_of(config)}
    record |= {"scoring": study.scoring.model_dump(), "config": config.model_dump(mode="json"), "model": task.model_facts(config)}
    start = time.time()
    try:
        task.train(config, directory, progress=False)
        record |= {"status": "finished", "why": None}
    except Diverged as error:
        record |= {"status": "diverged", "why": str(error).partition(". ")[0]}  # without the advice on what to do next
    record |= {"curve": task.curve(directory), "timing": timing(directory)}
    if record["status"] == "finished":
        record |= task.score_run(config, directory, study.scoring, job.seed)
    record |= {"finished_at": time.strftime("%Y-%m-%d", time.gmtime()), "seconds_of_this_call": round(time.time() - start, 1)}
    record |= {"versions": library_versions(), "machine": machine(config.train.device)}
    checkpoint.write_atomically(directory / RECORD, (json.dumps(record, indent=1) + "\n").encode())
    return record


def timing(directory: Path) -> dict:
    """Median steps per second while training (beside whatever else ran), and the training time it comes to."""
    rates = [record["steps_per_s"] for record in read_log(directory, "timing")]
    steps = [record["step"] for record in read_log(directory, "timing")]
    seconds = sum((b - a) / rate for a, b, rate in zip([0, *steps], steps, rates))
    return {"steps_per_s": statistics.median(rates) if rates else None, "training_seconds": round(seconds, 1)}
