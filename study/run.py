"""`compare`: run the missing runs of a study, then write table and report; and `run_job`, one run from start to end."""

import contextlib
import json
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import filelock
from tqdm import tqdm

from data.checksums import sealed
from data.files import counted, duration, printable, reason, write_atomically
from data.files import locked as held
from gan.classification.state import Batches
from gan.evaluation import open_side
from gan.loop import EMULATED, Diverged, Interrupted
from gan.progress import BAR
from gan.run_directory import read_log
from gan.timing import instructions, machine
from metrics.features import open_extractor
from metrics.precision import emulated
from metrics.protocol import library_versions
from metrics.scoring import Side
from study.costs import measure_costs
from study.folder import ADOPTED, RECORD, STUDY, TUNING, StudyFolder
from study.launch import Ended, default_workers, follow_parent, gpus_for, run_here, run_submitit
from study.report import write_report
from study.revision import noted
from study.study import Job, Study, StudyError
from study.tasks import ClassifierRun, check_runs, open_run
from study.tuning import with_choices


def compare(
    study: Study, path: Path, workers: int | None, launcher: str, options: dict, say: Callable, progress: bool = True
) -> tuple[str, list[Ended]]:
    """Run what is missing of a study, then write its table and report; returns the Markdown table, and the runs that failed.

    say(text, colour) tells the user. workers: runs at once. options: submitit's. StudyError if it can't start.
    """
    with locked(path), terminated_as_interrupt(launcher):
        failed = []
        StudyFolder(path).adopt_if_new(with_choices(study, path))
        if study.tune:
            failed = run_all(study.tuning(), path / TUNING, workers, launcher, options, say, progress)
            write_report(study.tuning(), path / TUNING)
            study = with_choices(study, path)
        if not failed:  # a row that lost a tuning run would be chosen for unfairly
            failed = run_all(study, path, workers, launcher, options, say, progress)
        table = write_report(study, path)
        if launcher == "here" and measure_costs(study, path, say):  # elsewhere, this machine isn't theirs
            table = write_report(study, path)
    return table, failed


def run_all(
    study: Study, path: Path, workers: int | None, launcher: str, options: dict, say: Callable, progress: bool = True
) -> list[Ended]:
    """Run what is missing of a study; returns the runs that failed, each of which was reported. StudyError if it can't start."""
    if launcher not in ("here", "slurm", "submitit"):
        raise StudyError(f"--launcher is here, slurm or submitit, not {launcher!r}")
    if workers and launcher == "slurm":
        raise StudyError("--workers counts processes on this machine; how many jobs run at once is for the cluster to say")
    folder = StudyFolder(path)
    folder.require_weights(study, study.jobs)
    folder.adopt(study)
    for name in folder.left_out(study):
        say(f"{folder.path}/runs/{name} is of no row and seed of this study: kept, but left out of the table", "yellow")
    total, jobs = len(study.jobs), [job for job in study.jobs if not folder.done(study, job)]
    say(f"{folder.path}: {counted(total, 'run')}, {total - len(jobs)} done, {len(jobs)} to do")
    if jobs:
        check_scoring(study)
        check_runs(study, jobs, path)
        tell_study_precision(study, jobs, say)
    failed = []
    gpus = gpus_for(study)
    at_once = workers or default_workers(gpus)
    with Progress(study, folder, progress and bool(jobs)) as bar:
        if launcher == "here":
            ends = run_here(folder, jobs, at_once, gpus, bar.tick)
        elif launcher == "submitit":
            ends = run_submitit(folder, jobs, "local", options, at_once, bar.tick)
        else:
            ends = run_submitit(folder, jobs, "slurm", options, len(jobs), bar.tick)
        causes: set[str] = set()  # each is said in full once
        with contextlib.closing(ends):  # whatever ends this loop, the runs are asked to save before the lock is given up
            for end in ends:
                if end.code == 0 and (record := folder.finished(study, end.job)):
                    folder.note_failure(end.job, None)
                    bar.end(end.job.name, f"{end.job.name}: {outcome(record)}")
                else:
                    failed.append(end)
                    said = end.said or "it ended without a result"
                    folder.note_failure(end.job, said)
                    log = folder.run(end.job) / "log.txt" if launcher == "here" else folder.path / "submitit"
                    cause = said.replace(end.job.name, "RUN")
                    why = "for the same reason" if cause in causes else f"{said} (all of it: {log})"
                    bar.end(end.job.name, f"{end.job.name} failed: {why}")
                    causes.add(cause)
    if failed:
        kept = "; the others are kept" if len(failed) < total else ""
        say(f"{len(failed)} of {counted(total, 'run')} failed{kept}: fix the cause and repeat the command", "red")
    return failed


def check_scoring(study: Study) -> None:
    """Open once what all runs are scored with, before hours of training. Raises the errors of `fid`."""
    if study.task == "gan":
        s = study.scoring
        open_extractor(s.features, s.weights, precision=s.precision)
        if s.reference is not None:
            open_side(s.reference, s.real)


def tell_study_precision(study: Study, jobs: list[Job], say: Callable) -> None:
    """Print what precision `auto` became, and warn, once for all runs, if it is emulated here."""
    if study.auto_precision:
        say(f"precision {study.auto_precision} (auto: one for all rows, kept when the study goes on)")
    used = [study.scoring.precision, *(study.config(job).train.precision for job in jobs)]
    if any(emulated(precision, "cpu") for precision in used) and not gpus_for(study):
        say(f"warning: precision is bf16, {EMULATED}: set it to auto, or fp32, in another --out", "yellow")


def run_one(study: Study, path: Path, name: str) -> dict:
    """Do one run, named ROW/seed_N, in this process; returns its record. Bars are for people: not where stderr is a log."""
    follow_parent()
    found = [job for job in study.jobs if job.name == name]
    if not found:
        raise StudyError(f"--only {name}: the study has no such run; it has {', '.join(job.name for job in study.jobs)}")
    folder = StudyFolder(path)
    study = with_choices(study, path)
    if study.tune and found[0].row.label not in (study.tuned or {}):
        raise StudyError(f"--only {name}: rows choose their settings first; tune by the same command without --only")
    folder.adopt_if_new(study)
    folder.require_unchanged(study)
    adopted = next(file for file in (path / ADOPTED, path / STUDY) if file.is_file())
    folder.require_as_adopted(study, with_choices(Study.load(adopted), path), found[0])
    folder.require_weights(study, found)
    return run_job(study, folder, found[0], shown=sys.stderr.isatty())


def run_job(study: Study, folder: StudyFolder, job: Job, shown: bool = False) -> dict:
    """Do what is still missing of one run, and return its record, which also lies in its folder as record.json.

    A run that diverges has a record too: status "diverged", with the reason. Everything else that goes wrong is raised.
    shown: what takes long has a bar.
    """
    config, directory = study.config(job), folder.run(job)
    run = open_run(config, directory, shown)
    if reference := run.open(study.scoring):
        _require_reference(study, folder, job, reference)
    if isinstance(run, ClassifierRun):
        run.check = lambda batches: _require_images(study, folder, job, batches)
    *earlier, code = noted(directory)
    record = {"label": job.row.label, "seed": job.seed, "task": study.task, "length": config.length}
    record |= {"scoring": study.scoring.protocol(), "config": config.model_dump(mode="json"), "code": code, "earlier_code": earlier}
    try:
        run.train()
        record |= {"status": "finished", "why": None}
    except Diverged as error:
        record |= {"status": "diverged", "why": str(error).partition(". ")[0]}  # without the advice on what to do next
    record |= {"model": run.model_facts(), "curve": run.curve()}
    start = time.perf_counter()
    if record["status"] == "finished":
        record |= run.scores()
    record["seconds"] = {"training": seconds_of_training(directory), "scoring": time.perf_counter() - start}
    record["finished"] = time.strftime("%Y-%m-%d", time.gmtime())
    record["precision"] = {"training": config.train.precision, "scoring": study.scoring.precision}
    record |= {"versions": library_versions(), "machine": machine(config.train.device)}
    record["instructions"] = instructions(config.train.device)
    write_atomically(directory / RECORD, (json.dumps(sealed(record), indent=1) + "\n").encode())
    if record["status"] == "finished":
        run.draw()
    return record


def seconds_of_training(directory: Path) -> float:
    """How long the steps of a run took, its scores in training included, over all the calls that it took."""
    seconds, before = 0.0, 0
    for record in read_log(directory, "timing"):
        seconds += (record["step"] - before) / record["steps_per_s"]
        before = record["step"]
    return seconds


def _require_reference(study: Study, folder: StudyFolder, job: Job, real: Side) -> None:
    """StudyError if a run that this one is compared with was scored against other images, as may happen on another machine."""
    facet, _ = study.facet(job.row)
    for other in study.jobs:
        if other == job or study.facet(other.row)[0] != facet:
            continue
        record = folder.finished(study, other)
        card = record["last"]["scores"][0]["card"] if record and record["status"] == "finished" else {}
        if real.sha256 and card.get("real_sha256") not in (None, real.sha256):
            raise StudyError(
                f"{other.name} was scored against other images ({card['real']}) than lie here ({real.name}), so the two could not "
                f"be compared: let {'scoring.reference' if study.scoring.reference else 'dataset.path'} name the same images, or "
                "start a study of these in another --out"
            )


def _require_images(study: Study, folder: StudyFolder, job: Job, batches: Batches) -> None:
    """StudyError if a classifier that this one is compared with was trained or tested on other images."""
    own = study.config(job).dataset
    for other in study.jobs:
        theirs = study.config(other).dataset
        alike = (theirs.resolution, theirs.crop) == (own.resolution, own.crop)  # else the same images have other pixels
        if other == job or study.facet(other.row)[0] != study.facet(job.row)[0] or not alike:
            continue
        record = folder.finished(study, other)
        card = record["last"]["scores"][0]["card"] if record and record["status"] == "finished" else {}
        if card and (card.get("train_sha256"), card.get("test_sha256")) != (batches.sha256, batches.test_sha256):
            raise StudyError(
                f"{other.name} was trained or tested on other images ({card.get('data')}) than lie here ({batches.source}), so the "
                "two could not be compared: let dataset.path name the same images, or start a study of these in another --out"
            )


def outcome(record: dict) -> str:
    """'fd_efficientnet_lite0 61.20', or why the run diverged."""
    if record["status"] == "diverged":
        return record["why"]
    first = record["last"]["scores"][0]
    return f"{first['name']} {first['value']:.2f}"


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """One `compare` at a time in a folder."""
    path.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(held(path / ".lock"))
        except filelock.Timeout:
            raise StudyError(f"{path} is in use by another compare; wait for it, or choose another --out") from None
        yield


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """A full disk or a missing permission ends in a StudyError of one sentence."""
    try:
        yield
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        raise StudyError(f"{path}: {reason(error)}{where}; fix that and repeat the command: what has finished is kept") from error


@contextlib.contextmanager
def terminated_as_interrupt(launcher: str = "here") -> Iterator[None]:
    """SIGTERM unwinds like Ctrl-C, so that the runs are asked to save. A second one changes nothing: they are saving."""
    here = "what runs was asked to save: the same command goes on from there"
    away = "submitted jobs stay in the queue: the same command, once they have ended, finds what they did"
    stopping = False

    def stop(signum: int, frame) -> None:
        nonlocal stopping
        if not stopping:
            stopping = True
            raise Interrupted(f"stopped; {here if launcher == 'here' else away}", signum)

    old = {s: signal.signal(s, stop) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for signum, handler in old.items():
            signal.signal(signum, handler)


class Progress:
    """Steps (epochs of classifiers) done over all runs of a study, read from their logs; how many runs; what those at work do."""

    def __init__(self, study: Study, folder: StudyFolder, shown: bool):
        self.folder = folder
        self.runs = {job.name: folder.run(job) for job in study.jobs}
        self.lengths = {job.name: study.config(job).length for job in study.jobs}
        self.done: dict[str, float] = {job.name: study.config(job).length for job in study.jobs if folder.done(study, job)}
        self.ended = set(self.done)
        total, done = sum(self.lengths.values()), self._count()
        unit = " steps" if study.task == "gan" else " epochs"
        options = {"unit": unit, "unit_scale": True, "dynamic_ncols": True, "disable": None if shown else True}
        self.bar = tqdm(total=total, initial=done, bar_format=BAR, **options)
        self.start, self.first = time.monotonic(), done
        self.ticks = 0

    def tick(self) -> None:
        self.ticks += 1
        if self.ticks % 5 == 0 and not self.bar.disable:
            self.bar.set_postfix_str(self._at_work(), refresh=False)
            self.bar.update(self._count() - self.bar.n)

    def _count(self) -> float:
        for name, length in self.lengths.items():
            if self.done.get(name, 0) < length:
                log = read_log(self.runs[name])
                self.done[name] = min(log[-1].get("epoch", log[-1]["step"]), length) if log else 0
        return sum(self.done.values())

    def _at_work(self) -> str:
        """'5 of 18 runs, c2/seed_1 41 %, c3/seed_1 scoring': the last part is cut where it is narrow."""
        words = [self._counted()]
        for name, length in self.lengths.items():
            if name not in self.ended and (done := self.done.get(name, 0)):
                words.append(f"{name} scoring" if done >= length else f"{name} {done / length:.0%}")
        return ", ".join(words)

    def _counted(self) -> str:
        return f"{len(self.ended)} of {counted(len(self.runs), 'run')}"

    def end(self, name: str, said: str) -> None:
        """A run has ended: say how, how many have, and about how long the others will take."""
        self.ended.add(name)
        self.done[name] = self.lengths[name]
        total, reached = sum(self.lengths.values()), self._count()
        done, passed = reached - self.first, time.monotonic() - self.start
        to_go = f", about {duration(passed / done * (total - reached))} to go" if done > 0 and reached < total else ""
        self.bar.write(f"{printable(said)} ({self._counted()}{to_go})", file=sys.stderr)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exception) -> None:
        self.bar.close()
