"""Worker processes for decoding: forked where that exists, ended with their parent, however that ends."""

import multiprocessing
import os
import signal
import threading
import time
import warnings
from concurrent.futures import ProcessPoolExecutor

from PIL import Image

shared: object = None  # in a worker: what process_pool was given


def process_pool(workers: int, thing: object) -> ProcessPoolExecutor:
    """Workers that find `thing` in `shared`. They may use NumPy and Pillow alone: PyTorch's threads don't survive a fork."""
    method = "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"
    return ProcessPoolExecutor(workers, multiprocessing.get_context(method), initializer=_begin, initargs=(os.getpid(), thing))


def _begin(parent: int, thing: object) -> None:
    global shared
    shared = thing
    quiet_pillow()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends its workers
    threading.Thread(target=_follow, args=(parent,), daemon=True).start()


def _follow(parent: int) -> None:
    while os.getppid() == parent:  # after a kill -9 of the parent it's another
        time.sleep(1)
    os._exit(1)


def quiet_pillow() -> None:
    """Remarks on odd metadata are dropped; the warning of a decompression bomb becomes an error of that image."""
    warnings.filterwarnings("ignore", module=r"PIL\.")
    warnings.simplefilter("error", Image.DecompressionBombWarning)
