"""Decoding processes, forked where possible, which end with their parent however that ends; and results in order."""

import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor

from data.decoding import quiet_pillow
from data.files import UserError, printable, reason

GRACE = 30  # seconds from SIGTERM to a worker's end
shared: object = None  # in a worker: what process_pool was given


def cores() -> int:
    """Cores for this process: of those it may use, its share where several of torchrun's, or of `compare`'s, run on one machine."""
    own = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1  # macOS has no affinity
    return max(1, own // (_sharing("LOCAL_WORLD_SIZE") * _sharing("GAN_COMPARE_WORKERS")))


def _sharing(name: str) -> int:
    """A number of processes that the environment tells; 1 where it doesn't. UserError for what is none."""
    text = os.environ.get(name) or "1"
    if not (text.isascii() and text.isdigit() and int(text)):
        raise UserError(f"{name}={printable(text)} is set in the environment, which is no number of processes: unset it")
    return int(text)


def process_pool(workers: int, thing: object) -> ProcessPoolExecutor:
    """Workers that find `thing` in `shared`. They may use NumPy and Pillow alone: PyTorch's threads don't survive a fork."""
    method = "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"
    try:
        return ProcessPoolExecutor(workers, multiprocessing.get_context(method), initializer=_begin, initargs=(os.getpid(), thing))
    except OSError as error:  # its locks lie in /dev/shm
        raise UserError(
            f"{workers} processes that decode can't be started ({reason(error)}): set dataset.workers=0, or let this machine or "
            "container have /dev/shm"
        ) from None


def _begin(parent: int, thing: object) -> None:
    global shared
    shared = thing
    quiet_pillow()
    # What asks a whole job to stop is for the parent, which may still need images for the step that it is in.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end_soon)
    threading.Thread(target=_follow, args=(parent,), daemon=True).start()


def _end_soon(signum: int, frame: object) -> None:
    timer = threading.Timer(GRACE, os._exit, (1,))
    timer.daemon = True
    timer.start()


def kill(pool: ProcessPoolExecutor) -> None:
    """Kill the workers of a pool of which one has died; shutting the pool down would wait for them."""
    for process in list((pool._processes or {}).values()):
        process.kill()


def _follow(parent: int) -> None:
    while os.getppid() == parent:  # after a kill -9 of the parent it's another
        time.sleep(1)
    os._exit(1)


def in_order(pool: Executor, work: Callable, tasks: Iterable, ahead: int) -> Iterator:
    """work(task) for each task, computed by the pool, in the tasks' order; at most `ahead` results or tasks are pending."""
    waiting: deque[Future] = deque()
    try:
        for task in tasks:
            waiting.append(pool.submit(work, task))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
