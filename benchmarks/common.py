"""Timing for the benchmarks: that of gan.cost, importable from a script that lies here."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from gan.allocator import keep_freed_memory
from gan.cost import fastest, machine, peak_memory, timed

__all__ = ["fastest", "keep_freed_memory", "machine", "peak_memory", "timed"]
