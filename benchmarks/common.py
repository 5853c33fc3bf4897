"""What the benchmarks share: the timing of gan.timing, importable from a script that lies here, and the precisions to measure."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import torch

from gan.allocator import keep_freed_memory
from gan.timing import fastest, machine, peak_memory, timed
from metrics.precision import allow_tf32, native_bf16

__all__ = ["LAYER_CALLS", "arithmetic", "fastest", "keep_freed_memory", "machine", "peak_memory", "precisions", "timed"]

# Calls of one layer between two looks at the clock: a GPU waits for the clock longer than it computes.
LAYER_CALLS = {"cpu": 1, "cuda": 20}


def precisions(device: str, tf32: bool = False) -> list[str]:
    """Those that a device multiplies natively, fp32 first. Emulated bf16 is left out: its table would take ten times as long."""
    return ["fp32"] + ["tf32"] * (tf32 and device.startswith("cuda")) + ["bf16"] * native_bf16(device)


def arithmetic(precision: str) -> torch.dtype:
    """The dtype of tensors in that precision. fp32 means IEEE fp32, in cuDNN too, which may choose its fastest algorithm."""
    allow_tf32(precision == "tf32", precision == "tf32")
    torch.backends.cudnn.benchmark = True
    return torch.bfloat16 if precision == "bf16" else torch.float32
