"""gan.padding's pads, the same numbers sooner. Which way is taken:

one buffer, written once                where nothing is compiled
    depthwise convolution               ... and x lies channels_last on an x86 CPU, in numbers that oneDNN convolves depthwise
a sealed operator                       where torch.compile compiles for the CPU
the definition                          where it compiles for CUDA, where torch.export exports, and for negative pads
four pads                               where each group of a convolution gets all four corners
"""

import platform
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from gan import padding
from gan.padding import CORNERS, group_sizes, interleaves, sides


def pad_corners(x: Tensor, small: int, large: int, groups: int = 1) -> Tensor:
    """gan.padding.pad_corners.

    Measured on an x86 CPU (`benchmarks/kernels.py`): a layer of 256 channels takes the time of four pads and a concatenation within
    3 %, four group convolutions take 1.0-1.5 x as long, a kernel of k + 1 1.1-1.9 x; at 16 channels and batch 128 they take
    1.0-1.5, 2.5-4.1 and 1.1 x as long. `torch.compile` for CUDA fuses the concatenation itself.
    """
    if interleaves(x.shape[1], groups):
        return _pad_each_group(x, small, large, groups)
    if small >= 0 and _compiles_for_cpu(x):
        return _pad_whole(x, small, large, True)
    if small < 0 or torch.compiler.is_compiling():
        return padding.pad_corners(x, small, large)
    return _PadCorners.apply(x, small, large)


def pad_one_side(x: Tensor, small: int, large: int) -> Tensor:
    """gan.padding.pad_one_side. One pad is as fast as can be, but for what torch.compile makes of it on the CPU."""
    if small >= 0 and _compiles_for_cpu(x):
        return _pad_whole(x, small, large, False)
    return padding.pad_one_side(x, small, large)


def _pad_each_group(x: Tensor, small: int, large: int, groups: int) -> Tensor:
    """One pad for each corner, of all groups together."""
    by_group = x.unflatten(1, (groups, -1))
    quarters = by_group.split(group_sizes(by_group.shape[2]), dim=2)
    padded = [F.pad(quarter, sides(corner, small, large)) for quarter, corner in zip(quarters, CORNERS)]
    return torch.cat(padded, dim=2).flatten(1, 2).contiguous(memory_format=memory_format_of(x))


def memory_format_of(x: Tensor) -> torch.memory_format:
    """How a 4-dimensional tensor lies in memory: channels_last or contiguous."""
    nhwc = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    return torch.channels_last if nhwc else torch.contiguous_format


# --- one buffer ---------------------------------------------------------------------------------------------------------------


def _windows(padded: Tensor, small: int, large: int) -> list[Tensor]:
    """The four views of a padded (N, C, H, W) tensor that hold each group's picture."""
    views = []
    for group, corner in zip(padded.split(group_sizes(padded.shape[1]), dim=1), CORNERS):
        left, right, top, bottom = sides(corner, small, large)
        views.append(group[:, :, top : group.shape[2] - bottom, left : group.shape[3] - right])
    return views


def _in_words(*tensors: Tensor) -> list[Tensor]:
    """Channels_last tensors seen as words of 16 or 8 bytes, where every channel group is a whole number of them; else as they are.

    Fewer and wider copies, which narrow layers gain most from.
    """
    for word in (torch.complex128, torch.int64) if tensors[0].device.type in ("cpu", "cuda") else (torch.int64,):
        per_word = max(1, word.itemsize // tensors[0].element_size())
        if all(
            x.shape[1] % (4 * per_word) == 0
            and x.storage_offset() % per_word == 0
            and memory_format_of(x) == torch.channels_last
            for x in tensors
        ):  # fmt: skip
            return [x.permute(0, 2, 3, 1).view(word).permute(0, 3, 1, 2) for x in tensors]
    return list(tensors)


class _PadCorners(torch.autograd.Function):
    """One buffer, written once. Its derivative is _CropCorners, whose derivative is this: any order works."""

    @staticmethod
    def forward(x: Tensor, small: int, large: int) -> Tensor:
        if _picks(x):
            return _pick(x, 2, tuple((1 - above, 1 - left) for above, left in CORNERS), padding=large)
        n, c, h, w = x.shape
        shape = (n, c, h + small + large, w + small + large)
        padded = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=memory_format_of(x)).zero_()
        wide, narrow = _in_words(padded, x)
        for window, group in zip(_windows(wide, small, large), narrow.split(group_sizes(narrow.shape[1]), dim=1)):
            window.copy_(group)
        return padded

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.pads = inputs[1:]

    @staticmethod
    def backward(ctx, *grad_outputs):
        return _CropCorners.apply(*grad_outputs, *ctx.pads), None, None


class _CropCorners(torch.autograd.Function):
    """The adjoint of _PadCorners: cuts each group's picture out again."""

    @staticmethod
    def forward(padded: Tensor, small: int, large: int) -> Tensor:
        if _picks(padded):
            first = tuple((large if above else small, large if left else small) for above, left in CORNERS)
            return _pick(padded, small + large + 1, first)
        n, c, h, w = padded.shape
        shape = (n, c, h - small - large, w - small - large)
        x = torch.empty(shape, dtype=padded.dtype, device=padded.device, memory_format=memory_format_of(padded))
        wide, narrow = _in_words(padded, x)
        for group, window in zip(narrow.split(group_sizes(narrow.shape[1]), dim=1), _windows(wide, small, large)):
            group.copy_(window)
        return x

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.pads = inputs[1:]

    @staticmethod
    def backward(ctx, *grad_outputs):
        return _PadCorners.apply(*grad_outputs, *ctx.pads), None, None


# --- x86 CPUs: a depthwise convolution whose one weight per channel that isn't 0 is 1 picks the pixels ---------------------------


def _picks(x: Tensor) -> bool:
    """Whether x is padded and cropped this way: the same numbers, sooner than by copies in narrow layers.

    Only infinity and NaN, which spread to their neighbours, and bf16 numbers below 1.2e-38, which become 0, come out unlike.
    """
    plain = type(x) is Tensor and x.device.type == "cpu" and x.numel() > 0  # nothing that stands for a tensor, such as a fake one
    return (
        plain and memory_format_of(x) == torch.channels_last and torch.backends.mkldnn.enabled and _has_depthwise(x.dtype)
    )  # fmt: skip


@cache
def _has_depthwise(dtype: torch.dtype) -> bool:
    """Whether oneDNN has a depthwise convolution of its own for this kind of number on this machine, not a loop over channels."""
    if not torch.backends.mkldnn.is_available() or platform.machine() not in ("x86_64", "AMD64"):
        return False
    return dtype == torch.float32 or (dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _pick(x: Tensor, size: int, places: tuple[tuple[int, int], ...], padding: int = 0) -> Tensor:
    """The pixel at each channel group's place in every window of (size, size)."""
    weights = _one_hot(x.shape[1], size, places, x.dtype)
    y = torch.mkldnn_convolution(x, weights, None, [padding, padding], [1, 1], [1, 1], x.shape[1])
    return y.contiguous(memory_format=torch.channels_last)  # a single picture may come out otherwise


@cache
def _one_hot(channels: int, size: int, places: tuple[tuple[int, int], ...], dtype: torch.dtype) -> Tensor:
    """(C, 1, size, size): 1 at each channel group's place, 0 elsewhere."""
    weights = torch.zeros(channels, 1, size, size, dtype=dtype, device="cpu")
    for group, (row, column) in zip(weights.split(group_sizes(channels)), places):
        group[:, 0, row, column] = 1
    return weights


# --- torch.compile for the CPU -----------------------------------------------------------------------------------------------


def exporting() -> bool:
    """torch.compiler.is_exporting(), which up to PyTorch 2.11 compiled code takes to be true."""
    return torch.compiler.is_exporting()


# All that torch.compiler.assume_constant_result does, but for importing the compiler, which takes a second: most never use it.
exporting._dynamo_marked_constant = True  # pyright: ignore[reportFunctionMemberAccess]


def _compiles_for_cpu(x: Tensor) -> bool:
    """There it fuses a pad with its neighbours into loops that ask at each number whether it lies inside: in bf16 slower than
    eagerly in one layer (`benchmarks/kernels.py --compile --channels 64`), much slower once a norm and its derivative share the
    loop. So a pad is sealed there as one operator; but not for torch.export, whose graphs must run where this file is not."""
    return torch.compiler.is_compiling() and not exporting() and x.device.type == "cpu"


@torch.library.custom_op("even_kernels::pad", mutates_args=())
def _pad_whole(x: Tensor, small: int, large: int, corners: bool) -> Tensor:
    return _PadCorners.forward(x, small, large) if corners else _pad_plainly(x, small, large)


@torch.library.custom_op("even_kernels::crop", mutates_args=())
def _crop_whole(padded: Tensor, small: int, large: int, corners: bool) -> Tensor:
    return _CropCorners.forward(padded, small, large) if corners else _pad_plainly(padded, -small, -large)


def _pad_plainly(x: Tensor, small: int, large: int) -> Tensor:
    """F.pad, laid out as _like says also where a map of one pixel leaves it open."""
    return padding.pad_one_side(x, small, large).contiguous(memory_format=memory_format_of(x))


def _like(x: Tensor, more: int) -> Tensor:
    n, c, h, w = x.shape
    return torch.empty((n, c, h + more, w + more), dtype=x.dtype, device=x.device, memory_format=memory_format_of(x))


_pad_whole.register_fake(lambda x, small, large, corners: _like(x, small + large))
_crop_whole.register_fake(lambda padded, small, large, corners: _like(padded, -small - large))


def _remember(ctx, inputs, output) -> None:
    ctx.how = inputs[1:]


_pad_whole.register_autograd(lambda ctx, grad: (_crop_whole(grad, *ctx.how), None, None, None), setup_context=_remember)
_crop_whole.register_autograd(lambda ctx, grad: (_pad_whole(grad, *ctx.how), None, None, None), setup_context=_remember)
