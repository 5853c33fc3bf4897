"""The precision in which a device multiplies: bf16, TF32 (a mantissa of ten bits) or IEEE float32.

TF32 is set through PyTorch's older switches: it keeps both its interfaces readable after those, but not after the newer ones.
"""

import os
import platform
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Literal

import torch

Precision = Literal["auto", "fp32", "bf16"]  # what a network that only embeds images can be asked for; training also knows tf32


def settled(precision: str, device: torch.device | str) -> str:
    """What `auto` means on a device, bf16 or fp32; any other precision as it is."""
    if precision != "auto":
        return precision
    return "bf16" if native_bf16(device) else "fp32"


def emulated(precision: str, device: torch.device | str) -> bool:
    """Whether this precision is about ten times slower than fp32 on this device: bf16 on a CPU without instructions for it."""
    return precision == "bf16" and torch.device(device).type == "cpu" and not native_bf16(device)


def native_bf16(device: torch.device | str) -> bool:
    """Whether a device multiplies bf16 faster than fp32. CUDA: from compute capability 8.0 (Ampere) on; CPU: as oneDNN says."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if platform.machine() in ("aarch64", "arm64", "ARM64"):
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()  # asks for Arm's BF16 extension
    return is_native(onednn_kind(torch.bfloat16))


def is_native(kind: str) -> bool:
    """Whether oneDNN's code of this kind (see `onednn_kind`) multiplies bf16 by instructions made for it.

    avx512_core alone emulates it, and avx2_vnni_2 only converts it.
    """
    return any(mark in kind for mark in ("bf16", "avx512_core_fp16", "amx", "avx10"))


@cache
def onednn_kind(dtype: torch.dtype) -> str:
    """The implementation that oneDNN uses for a convolution in this dtype on this CPU: avx2, avx512_core_bf16, …; "" for none.

    PyTorch exposes no query for that, so this parses oneDNN's verbose output of one operation, which depends on the processor,
    ONEDNN_MAX_CPU_ISA and how the library was built. Takes 30 ms, once.
    """
    x, w = torch.zeros(2, 32, 8, 8, dtype=dtype), torch.zeros(32, 32, 3, 3, dtype=dtype)
    with _stdout_of_libraries() as said, torch.no_grad():
        try:
            with torch.backends.mkldnn.verbose(torch.backends.mkldnn.VERBOSE_ON):
                torch.mkldnn_convolution(x, w, None, [0, 0], [1, 1], [1, 1], 1)
        except RuntimeError:  # "bf16 path needs the cpu support avx512bw, avx512vl and avx512dq"
            return ""
        found = re.search(r"exec,cpu,convolution,[^,:]*:([^,]+),", said())
    return found[1] if found else ""


@contextmanager
def _stdout_of_libraries() -> Iterator:
    """Within the block, stdout of C libraries goes to a file; yields a function that reads it ("" if stdout is closed)."""
    try:
        sys.stdout.flush()
        kept = os.dup(1)
    except (OSError, ValueError, AttributeError):  # closed
        yield lambda: ""
        return
    with tempfile.TemporaryFile() as file:

        def said() -> str:
            file.seek(0)
            return file.read().decode(errors="replace")

        os.dup2(file.fileno(), 1)
        try:
            yield said
        finally:
            os.dup2(kept, 1)
            os.close(kept)


def allow_tf32(products: bool, convolutions: bool) -> None:
    """Whether CUDA may use TF32. Nothing on the CPU changes."""
    torch.backends.cuda.matmul.allow_tf32 = products
    torch.backends.cudnn.allow_tf32 = convolutions
    for place, allowed in zip(_switches(), (products, convolutions, convolutions)):
        if (place.fp32_precision == "tf32") != allowed:  # what the newer switch for all of PyTorch says
            place.fp32_precision = "tf32" if allowed else "ieee"


def _switches() -> tuple[Any, Any, Any]:
    """Where CUDA's float32 precision is set: products, convolutions, recurrent networks."""
    cudnn: Any = torch.backends.cudnn  # holds more than type checkers see
    return torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn


@contextmanager
def kept_tf32() -> Iterator[None]:
    """Whatever the block says of TF32 holds until its end."""
    before = [place.fp32_precision for place in _switches()]
    products = _products()
    try:
        yield
    finally:
        allow_tf32(before[0] == "tf32", before[1] == "tf32")
        if products and products != _products():  # "medium", which allow_tf32 doesn't know
            torch.set_float32_matmul_precision(products)
        for place, precision in zip(_switches(), before):
            if place.fp32_precision != precision:
                place.fp32_precision = precision


def _products() -> str | None:
    """torch.get_float32_matmul_precision(), or None where the newer switches have been set, after which it can't be read."""
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:
        return None


@contextmanager
def ieee_float32() -> Iterator[None]:
    """Within the block, no TF32, whose ten bits change the third digit of a score, and only deterministic algorithms of cuDNN."""
    cudnn = torch.backends.cudnn
    algorithms = cudnn.benchmark, cudnn.deterministic
    with kept_tf32():
        try:
            allow_tf32(False, False)
            cudnn.benchmark, cudnn.deterministic = False, True
            yield
        finally:
            cudnn.benchmark, cudnn.deterministic = algorithms
