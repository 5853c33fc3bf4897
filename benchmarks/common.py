"""What the benchmarks share: the timing of gan.timing, importable from a script that lies here, and the precisions to measure."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from gan.allocator import keep_freed_memory
from gan.timing import fastest, machine, peak_memory, timed
from metrics.precision import native_bf16

__all__ = ["fastest", "keep_freed_memory", "machine", "peak_memory", "precisions", "timed"]


def precisions(device: str, tf32: bool = False) -> list[str]:
    """Those that a device multiplies natively, fp32 first. Emulated bf16 is left out: its table would take ten times as long."""
    return ["fp32"] + ["tf32"] * (tf32 and device.startswith("cuda")) + ["bf16"] * native_bf16(device)
