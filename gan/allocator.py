"""Settings of the C library's memory allocator, for faster training on the CPU."""

import ctypes
import os

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # of mallopt(3)


def keep_freed_memory() -> bool:
    """Keep freed memory for the next step instead of returning it to Linux; for networks on the CPU.

    By default glibc returns each large block when it is freed, and a training step, which frees all its activations, gets them
    back page by page, each zeroed again; how often varies between processes. `benchmarks/step_time.py` times a step of
    another library's with and without: 4.7 and 3.2 s. The process holds more at its peak. What lies free at the top of the
    heap is still returned beyond 2 GiB, and so are single blocks of 1 GiB (glibc before 2.35: 32 MiB).

    Returns whether the thresholds were set: False with another C library or system, or where the user has set them already.
    PyTorch for Linux on ARM has its own allocator, which this doesn't affect.
    """
    if any(f"MALLOC_{name}_" in os.environ for name in ("TRIM_THRESHOLD", "MMAP_THRESHOLD", "MMAP_MAX")):
        return False
    if "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # macOS, musl; Windows
        return False
    mapped = mallopt(MMAP_THRESHOLD, 2**30) or mallopt(MMAP_THRESHOLD, 2**25)  # 32 MiB is the most that glibc took before 2.35
    return bool(mapped and mallopt(TRIM_THRESHOLD, 2**31 - 1))
