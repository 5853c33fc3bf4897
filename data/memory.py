"""How much memory this process may use, and which errors mean that it ran out."""

import os
import resource
from pathlib import Path

FAILED = ("can't allocate memory", "not enough memory", "out of memory", "Cannot allocate memory", "failed to map segment")
TOO_MANY = ("Storage size calculation overflowed", "integer multiplication overflow", "Overflow when unpacking long")


def capacity() -> int | None:
    """Bytes that this process may use at most: the machine's memory and swap, or the limit of a container or of `ulimit -v`.

    None where the system doesn't say.
    """
    limits = [_of_the_machine(), _of_the_container(), _of_the_process()]
    return min((limit for limit in limits if limit is not None), default=None)


def lacks_memory(error: BaseException) -> bool:
    """Whether this error, of Python, NumPy or PyTorch, means that there isn't enough memory on the CPU."""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError | ImportError | OSError) and any(text in str(error) for text in (*FAILED, *TOO_MANY))


def in_words(size: float) -> str:
    """'380 MiB', '2.5 GiB', '3 TiB'."""
    for unit in ("MiB", "GiB", "TiB"):
        size /= 1024 if unit != "MiB" else 2**20
        if size < 1024 or unit == "TiB":
            break
    return f"{size:.2g} {unit}" if size < 10 else f"{size:,.0f} {unit}"


def _of_the_machine() -> int | None:
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        return sum(int(lines[name].split()[0]) * 1024 for name in ("MemTotal", "SwapTotal"))
    except (OSError, ValueError, KeyError, IndexError):
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        return None


def _of_the_container() -> int | None:
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            return int(Path(file).read_text())
        except (OSError, ValueError):  # none, or 'max'
            continue
    return None


def _of_the_process() -> int | None:
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if limit == resource.RLIM_INFINITY else limit
