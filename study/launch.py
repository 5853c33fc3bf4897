"""Runs the jobs of a study as processes of their own: several at once on this machine, or on a cluster through submitit.

Each job is `run_gan.py compare` with --only ROW/seed_N, of the study as it was adopted. Its output goes to the run's log.txt.
"""

import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path

import torch

from data.files import in_short, reason
from data.workers import cores
from study.folder import ADOPTED, StudyFolder
from study.study import Job, Study, StudyError

ENTRY = Path(__file__).parents[1] / "run_gan.py"
LEAST_SPACE = 2**20  # bytes
PARENT = "GAN_COMPARE_PID"  # in the environment of the runs that `run_here` starts: its process


@dataclass(frozen=True)
class Ended:
    """A run whose process has ended."""

    job: Job
    code: int  # 0: it left a result
    said: str  # the last line of its log


def command(folder: StudyFolder, job: Job) -> list[str]:
    """The command line that trains and scores one run."""
    line = [sys.executable, str(ENTRY), "compare", str(folder.path / ADOPTED), "--out", str(folder.path), "--only", job.name]
    return [*line, "--trust"]  # the `compare` that starts it has asked


def gpus_for(study: Study) -> list[str]:
    """The names of the GPUs that the study's runs are dealt out to; [] where they train on the CPU."""
    if all(study.config(job).train.device == "cpu" for job in study.jobs):
        return []
    count, visible = torch.cuda.device_count(), os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible.split(",")[:count] if visible and count else [str(i) for i in range(count)]


def default_workers(gpus: list[str]) -> int:
    """One run per GPU; without one, one per core."""
    return len(gpus) or cores()


def run_here(
    folder: StudyFolder, jobs: list[Job], workers: int, gpus: list[str], tick: Callable[[], None] = lambda: None
) -> Generator[Ended]:  # fmt: skip
    """Run the jobs, `workers` at a time, and yield each as it ends. Stopped early, it asks those running to save, and waits.

    gpus: dealt out in turns. Without one, each run has one thread, so that its numbers don't depend on how many run.
    """
    workers = min(workers, len(jobs))
    waiting = queue.SimpleQueue()
    for job in jobs:
        waiting.put(job)
    ended: queue.SimpleQueue[Ended] = queue.SimpleQueue()
    running: dict[int, subprocess.Popen] = {}
    stopping, starting = threading.Event(), threading.Lock()  # so that none starts after the others were asked to stop

    def work(slot: int) -> None:
        while not stopping.is_set():
            try:
                job = waiting.get_nowait()
            except queue.Empty:
                return
            log = folder.run(job) / "log.txt"
            try:
                if disk_is_full(folder.path):
                    ended.put(Ended(job, 1, "not started: the disk is full"))
                    continue
                log.parent.mkdir(parents=True, exist_ok=True)
                with open(log, "ab") as file:
                    start = file.seek(0, os.SEEK_END)
                    with starting:
                        if stopping.is_set():
                            return
                        how = {"stdout": file, "stderr": subprocess.STDOUT, "env": _environment(slot, workers, gpus)}
                        running[slot] = subprocess.Popen(command(folder, job), start_new_session=True, **how)
                    code = running[slot].wait()
                said = last_line(log, start) if code >= 0 else f"it was killed by {signal.Signals(-code).name}"
                ended.put(Ended(job, code, said))
            except Exception as error:  # whatever it is, the study must not wait for this run for ever
                why = reason(error) if isinstance(error, OSError) else in_short(error)
                ended.put(Ended(job, 1, f"error: {log.parent}: {why}"))

    threads = [threading.Thread(target=work, args=(slot,), daemon=True) for slot in range(workers)]
    for thread in threads:
        thread.start()
    left, alike = len(jobs), Alike()
    try:
        while left:
            tick()
            try:
                end = ended.get(timeout=1.0)
            except queue.Empty:
                continue
            yield end
            left -= 1
            alike.require_hope(end, left)
    finally:
        with starting:
            stopping.set()
        for process in running.values():
            if process.poll() is None:
                process.terminate()
        for thread in threads:
            thread.join()


class Alike:
    """Stops a study early if its first runs all fail with the same message, as the others would."""

    ENOUGH = 3

    def __init__(self):
        self.count, self.cause, self.hope = 0, None, False

    def require_hope(self, end: Ended, left: int) -> None:
        """StudyError once the first ENOUGH runs have all failed with the same message, and others are left."""
        self.hope = self.hope or end.code == 0
        cause = end.said.replace(end.job.name, "RUN")
        self.count = self.count + 1 if cause == self.cause else 1
        self.cause = cause
        if not self.hope and self.count >= self.ENOUGH and left:
            raise StudyError(
                f"the first {self.count} runs failed alike ({end.said.removeprefix('error: ')}), so the other {left} were not "
                "tried: fix the cause and repeat the command"
            )


def _environment(slot: int, workers: int, gpus: list[str]) -> dict[str, str]:
    own = {**os.environ, PARENT: str(os.getpid()), "GAN_COMPARE_WORKERS": str(workers)}
    if gpus:
        threads = str(max(1, cores() // workers))
        return {**own, "CUDA_VISIBLE_DEVICES": gpus[slot % len(gpus)], "OMP_NUM_THREADS": threads}
    return {**own, "OMP_NUM_THREADS": "1"}


def follow_parent() -> None:
    """In a run that `run_here` started: SIGTERM to oneself, which saves, once the launcher is gone, even by kill -9."""
    told = os.environ.get(PARENT, "")
    parent = int(told) if told.isdecimal() else 0

    def follow() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)

    if parent:
        threading.Thread(target=follow, daemon=True).start()


def run_submitit(
    folder: StudyFolder, jobs: list[Job], cluster: str, options: dict, at_once: int, tick: Callable[[], None] = lambda: None
) -> Generator[Ended]:  # fmt: skip
    """Submit the jobs through submitit, `at_once` at a time, and yield each as it ends.

    cluster: slurm, or local (submitit's own processes, for trying), where each run has one thread. options: submitit's, such as
    timeout_min, slurm_partition, gpus_per_node, cpus_per_task. A study stopped early leaves what was submitted in the queue; the
    same command later finds what they finished.
    """
    import submitit
    from submitit.core.utils import FailedJobError

    try:
        executor = submitit.AutoExecutor(folder=folder.path / "submitit", cluster=cluster)
    except RuntimeError as error:  # no Slurm here
        raise StudyError(f"the jobs can't be submitted: {' '.join(str(error).split())}") from None
    try:
        executor.update_parameters(**{"timeout_min": 24 * 60, **options})
    except (AssertionError, NameError, TypeError, ValueError) as error:  # what submitit checks its options with
        raise StudyError(f"submitit doesn't take these options: {' '.join(str(error).split())}") from None

    def submit(chosen: list[Job]) -> list[tuple[Job, submitit.Job]]:
        first = ["env", "OMP_NUM_THREADS=1"] if cluster == "local" else []
        try:
            with executor.batch():
                functions = [submitit.helpers.CommandFunction(first + command(folder, job), verbose=False) for job in chosen]
                return [(job, executor.submit(function)) for job, function in zip(chosen, functions)]
        except (OSError, RuntimeError, FailedJobError) as error:  # Slurm says no
            raise StudyError(f"the jobs can't be submitted: {' '.join(str(error).split())}") from None

    waiting, submitted, alike = list(jobs), [], Alike()
    while waiting or submitted:
        if free := min(at_once - len(submitted), len(waiting)):
            submitted += submit(waiting[:free])
            del waiting[:free]
        for job, handle in list(submitted):
            if handle.done():
                submitted.remove((job, handle))
                error = handle.exception()
                said = _last_words(handle.stderr() or handle.stdout() or str(error)) if error else ""
                end = Ended(job, 1 if error else 0, said.removeprefix("submitit.core.utils.FailedJobError: "))
                yield end
                if not submitted:  # what is in a queue already is left to run
                    alike.require_hope(end, len(waiting))
        tick()
        time.sleep(1.0)


def last_line(log: Path, start: int = 0) -> str:
    """The last line that was written after the first `start` bytes."""
    text = log.read_bytes()[start:].decode(errors="replace")
    if not text.strip() and disk_is_full(log.parent):
        return "it printed nothing: the disk is full"
    return _last_words(text)


def disk_is_full(path: Path) -> bool:
    return shutil.disk_usage(path).free < LEAST_SPACE


def _last_words(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip() if lines else "it printed nothing"
