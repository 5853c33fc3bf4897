"""How this process uses the C library's allocator."""

import ctypes
import os

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # of mallopt(3)


def keep_freed_memory() -> bool:
    """Keep freed memory (up to 2 GiB) for the next step, instead of handing it back to Linux; for networks on the CPU.

    By default glibc returns each large block when it is freed, and a training step, which frees all its activations, gets them
    back page by page, each zeroed anew; how often differs from process to process. `benchmarks/step_time.py` times a step of
    another library's with and without: 4.5 and 3.1 s. The peak is as high either way. False where there is nothing to set:
    another C library or system, or MALLOC_..._THRESHOLD_ is set.
    """
    if any(f"MALLOC_{name}_THRESHOLD_" in os.environ for name in ("TRIM", "MMAP")):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # macOS, musl; Windows
        return False
    return bool(mallopt(TRIM_THRESHOLD, 2**31 - 1)) and bool(mallopt(MMAP_THRESHOLD, 2**30))
