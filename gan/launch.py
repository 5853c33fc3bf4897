"""Runs the jobs of a study as processes of their own: several at once on this machine, or on a cluster through submitit.

Each job is the command `run_gan.py compare FOLDER --only ROW/seed_N`. Its output goes to the run's log.txt.
"""

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from gan.study import Job, StudyError
from gan.study_folder import StudyFolder

ENTRY = Path(__file__).parents[1] / "run_gan.py"
PARENT = "GAN_COMPARE_PID"  # in the environment of the runs that `run_here` starts: its process


@dataclass(frozen=True)
class Ended:
    job: Job
    code: int  # 0: it left a result
    said: str  # the last line of its log


def command(folder: StudyFolder, job: Job) -> list[str]:
    return [sys.executable, str(ENTRY), "compare", str(folder.path), "--only", job.name]


def default_workers() -> int:
    """One run per GPU; without one, one per core."""
    return torch.cuda.device_count() or cores()


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1  # macOS has no affinity


def run_here(folder: StudyFolder, jobs: list[Job], workers: int, tick: Callable[[], None] = lambda: None) -> Iterator[Ended]:
    """Run the jobs, `workers` at a time, and yield each as it ends. Stopped early, it asks those running to save, and waits.

    On the CPU each has one thread, so that its numbers don't depend on how many run. On GPUs they are dealt out in turns.
    """
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
                log.parent.mkdir(parents=True, exist_ok=True)
                with open(log, "ab") as file:
                    with starting:
                        if stopping.is_set():
                            return
                        how = {"stdout": file, "stderr": subprocess.STDOUT, "env": _environment(slot, workers)}
                        running[slot] = subprocess.Popen(command(folder, job), start_new_session=True, **how)
                    code = running[slot].wait()
                said = last_line(log) if code >= 0 else f"it was killed by {signal.Signals(-code).name}"
                ended.put(Ended(job, code, said))
            except Exception as error:  # whatever it is, the study must not wait for this run for ever
                ended.put(Ended(job, 1, f"error: {error}"))

    threads = [threading.Thread(target=work, args=(slot,), daemon=True) for slot in range(min(workers, len(jobs)))]
    for thread in threads:
        thread.start()
    left = len(jobs)
    try:
        while left:
            tick()
            try:
                yield ended.get(timeout=1.0)
                left -= 1
            except queue.Empty:
                continue
    finally:
        with starting:
            stopping.set()
        for process in running.values():
            if process.poll() is None:
                process.terminate()
        for thread in threads:
            thread.join()


def _environment(slot: int, workers: int) -> dict[str, str]:
    own = {**os.environ, PARENT: str(os.getpid())}
    if gpus := torch.cuda.device_count():
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        names = visible.split(",") if visible else [str(i) for i in range(gpus)]
        threads = str(max(1, cores() // workers))
        return {**own, "CUDA_VISIBLE_DEVICES": names[slot % len(names)], "OMP_NUM_THREADS": threads}
    return {**own, "OMP_NUM_THREADS": "1"}


def follow_parent() -> None:
    """In a run that `run_here` started: SIGTERM to oneself, which saves, once the launcher is gone, even by kill -9."""
    parent = int(os.environ.get(PARENT, 0))

    def follow() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)

    if parent:
        threading.Thread(target=follow, daemon=True).start()


def run_submitit(
    folder: StudyFolder, jobs: list[Job], cluster: str, options: dict, tick: Callable[[], None] = lambda: None
) -> Iterator[Ended]:  # fmt: skip
    """Submit the jobs through submitit and yield each as it ends. cluster: slurm, or local (submitit's own processes, for trying).

    options: submitit's, such as timeout_min, slurm_partition, gpus_per_node, cpus_per_task. A study stopped early leaves the jobs
    in the queue; the same command later finds what they finished.
    """
    import submitit

    executor = submitit.AutoExecutor(folder=folder.path / "submitit", cluster=cluster)
    try:
        executor.update_parameters(**{"timeout_min": 24 * 60, **options})
    except (AssertionError, NameError, TypeError, ValueError) as error:  # what submitit checks its options with
        raise StudyError(f"submitit doesn't take these options: {' '.join(str(error).split())}") from None
    with executor.batch():
        functions = [submitit.helpers.CommandFunction(command(folder, job), verbose=False) for job in jobs]
        submitted = [(job, executor.submit(function)) for job, function in zip(jobs, functions)]
    while submitted:
        for job, handle in list(submitted):
            if handle.done():
                submitted.remove((job, handle))
                error = handle.exception()
                said = str(error).strip().splitlines()[-1] if error else ""
                yield Ended(job, 1 if error else 0, said)
        tick()
        time.sleep(1.0)


def last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else "it said nothing"
