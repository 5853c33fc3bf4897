"""gan.padding.pad, faster, with the same results. For zero padding, one of these is chosen:

one buffer, written once                for several groups of channels, in eager mode
    depthwise convolution               ... if x is channels_last on an x86 CPU, in a dtype that oneDNN convolves depthwise
a custom operator                       under torch.compile for the CPU
the definition                          under torch.compile for CUDA, torch.export and torch.jit.trace, and for negative amounts

Other padding modes take the definition; in eager mode their derivative is one fold of the border, in the memory format of x (but
for the map of odd size before a stride, which is padded further on two sides).
"""

import platform
from functools import cache

import torch
import torch.fx
import torch.nn.functional as F
from torch import Tensor

from . import padding
from .padding import BELOW_RIGHT, CORNERS, Rule, sides, towards


def pad(x: Tensor, rule: Rule, far: tuple[int, int] = (0, 0)) -> Tensor:
    """gan.padding.pad.

    Alternatives, in times of a layer that pads this way on an x86 CPU (`benchmarks/kernels.py`): at 256 channels, four pads and a
    concatenation 1.0, four group convolutions 1.0-1.5, a kernel of k + 1 1.1-1.9; at 16 channels and batch 128, 1.0-1.5, 2.5-4.1
    and 1.1. `torch.compile` for CUDA fuses the concatenation itself.
    """
    if x.dim() == 3:
        return pad(x.unsqueeze(0), rule, far).squeeze(0)
    if rule.small < 0:
        return padding.pad(x, rule, far)
    if rule.large == 0 and not any(far):
        return x
    if rule.mode != "zeros":
        plain = any(far) or torch.compiler.is_compiling() or padding.recorded()
        return padding.pad(x, rule, far) if plain else _PadGroups.apply(x, rule)
    x = F.pad(x, (0, far[1], 0, far[0])) if any(far) else x
    if len(rule.groups) > len(CORNERS):  # several groups of a convolution: one pad for each corner, of all groups together
        own = len(rule.groups) // len(CORNERS)
        pictures = padding.pad(x.unflatten(1, (own, -1)), rule._replace(groups=rule.groups[: len(CORNERS)]))
        padded = pictures.flatten(1, 2)
        return as_channels_last(padded) if x.stride(1) == 1 and not x.is_contiguous() else padded.contiguous()
    if torch.compiler.is_compiling():
        corners = rule.groups == towards(CORNERS, x.shape[1])
        if _compiles_for_cpu(x) and (corners or rule.groups == towards((BELOW_RIGHT,), x.shape[1])):
            return _pad_whole(x, rule.small, rule.large, corners)
        return padding.pad(x, rule)
    if len(rule.groups) == 1 or padding.recorded():  # one pad is as fast as can be
        return padding.pad(x, rule)
    return _PadGroups.apply(x, rule)


def extend(x: Tensor, amount: int, mode: str) -> Tensor:
    """(N, C, H, W) with `amount` more pixels on each side, by one of gan.padding.PADDINGS."""
    if isinstance(x, torch.fx.Proxy) or padding.recorded():  # whose sizes are no numbers
        return padding.extend(x, (amount, amount, amount, amount), mode)
    return pad(x, Rule(amount, amount, ((x.shape[1], BELOW_RIGHT),), mode))


def memory_format_of(x: Tensor) -> torch.memory_format:
    """The memory format of a 4-dimensional tensor: channels_last, where it is that and not contiguous, or contiguous.

    By its strides, for vmap knows no is_contiguous(memory_format=torch.channels_last).
    """
    step = 1
    for axis in (1, 3, 2, 0):
        if x.shape[axis] != 1:
            if x.stride(axis) != step:
                return torch.contiguous_format
            step *= x.shape[axis]
    return torch.contiguous_format if x.is_contiguous() else torch.channels_last


def as_channels_last(x: Tensor) -> Tensor:
    """x (N, C, H, W) in that memory format; in words that vmap knows."""
    return x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)


# --- one buffer ---------------------------------------------------------------------------------------------------------------


def _windows(padded: Tensor, rule: Rule) -> list[Tensor]:
    """Views of a padded (N, C, H, W) tensor: the unpadded part of each group."""
    views = []
    for group, (_, corner) in zip(_split(padded, rule), rule.groups):
        left, right, top, bottom = sides(corner, rule.small, rule.large)
        views.append(group[:, :, top : group.shape[2] - bottom, left : group.shape[3] - right])
    return views


def _split(x: Tensor, rule: Rule) -> tuple[Tensor, ...]:
    return x.split([channels for channels, _ in rule.groups], dim=1)


def _as_wide_elements(rule: Rule, *tensors: Tensor) -> tuple[Rule, list[Tensor]]:
    """View channels_last tensors as elements of 16 or 8 bytes, if every channel group is a whole number of them; else unchanged.

    Copies then have fewer and wider elements, which speeds up narrow layers most.
    """
    for word in (torch.complex128, torch.int64) if tensors[0].device.type in ("cpu", "cuda") else (torch.int64,):
        per_word = max(1, word.itemsize // tensors[0].element_size())
        if all(channels % per_word == 0 for channels, _ in rule.groups) and all(
            x.storage_offset() % per_word == 0 and memory_format_of(x) == torch.channels_last for x in tensors
        ):
            rule = rule._replace(groups=tuple((channels // per_word, corner) for channels, corner in rule.groups))
            return rule, [x.permute(0, 2, 3, 1).view(word).permute(0, 3, 1, 2) for x in tensors]
    return rule, list(tensors)


class _Linear(torch.autograd.Function):
    """Shared by a pad and its adjoint: the backward pass of each is the other, its forward-mode derivative is itself."""

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.rule = inputs[1]

    @classmethod
    def vmapped(cls, in_dims, x: Tensor, rule: Rule) -> tuple[Tensor, int]:
        """The vmap rule: the extra axis is folded into the batch."""
        x = x.movedim(in_dims[0], 0)
        return cls.apply(x.flatten(0, 1), rule).unflatten(0, x.shape[:2]), 0


class _PadGroups(_Linear):
    """Pad by copying each group into one buffer. Backward is _CropGroups, whose backward is this: derivatives of any order work."""

    @staticmethod
    def forward(x: Tensor, rule: Rule) -> Tensor:
        if rule.mode != "zeros":
            return padding.pad(x, rule)
        if _picks(x):
            return _pick(x, rule, 2, tuple((1 - above, 1 - left) for _, (above, left) in rule.groups), padding=rule.large)
        n, c, h, w = x.shape
        shape = (n, c, h + rule.small + rule.large, w + rule.small + rule.large)
        padded = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=memory_format_of(x)).zero_()
        rule, (wide, narrow) = _as_wide_elements(rule, padded, x)
        for window, group in zip(_windows(wide, rule), _split(narrow, rule)):
            window.copy_(group)
        return padded

    @staticmethod
    def backward(ctx, *grad_outputs):
        return _CropGroups.apply(*grad_outputs, ctx.rule), None

    @staticmethod
    def jvp(ctx, tangent, _):
        return _PadGroups.apply(tangent, ctx.rule)

    @staticmethod
    def vmap(info, in_dims, x, rule):
        return _PadGroups.vmapped(in_dims, x, rule)


class _CropGroups(_Linear):
    """The adjoint of _PadGroups: crops each group again, and folds what lies beyond its border in other padding modes."""

    @staticmethod
    def forward(padded: Tensor, rule: Rule) -> Tensor:
        if rule.mode != "zeros":
            return padding.fold(padded, rule)
        small, large = rule.small, rule.large
        if _picks(padded):
            first = tuple((large if above else small, large if left else small) for _, (above, left) in rule.groups)
            return _pick(padded, rule, small + large + 1, first)
        n, c, h, w = padded.shape
        shape = (n, c, h - small - large, w - small - large)
        x = torch.empty(shape, dtype=padded.dtype, device=padded.device, memory_format=memory_format_of(padded))
        rule, (wide, narrow) = _as_wide_elements(rule, padded, x)
        for group, window in zip(_split(narrow, rule), _windows(wide, rule)):
            group.copy_(window)
        return x

    @staticmethod
    def backward(ctx, *grad_outputs):
        return _PadGroups.apply(*grad_outputs, ctx.rule), None

    @staticmethod
    def jvp(ctx, tangent, _):
        return _CropGroups.apply(tangent, ctx.rule)

    @staticmethod
    def vmap(info, in_dims, padded, rule):
        return _CropGroups.vmapped(in_dims, padded, rule)


# --- x86 CPUs: pads and crops as depthwise convolutions with one-hot kernels ------------------------------------------------------


def _picks(x: Tensor) -> bool:
    """Whether x is padded and cropped by a depthwise convolution: the same numbers, faster than copies in narrow layers.

    Exceptions: infinity and NaN spread to neighbouring pixels, and bf16 numbers below 1.2e-38 (subnormal) become 0.
    """
    plain = type(x) is Tensor and x.device.type == "cpu" and x.numel() > 0  # no subclass, such as a fake tensor
    return (
        plain and memory_format_of(x) == torch.channels_last and torch.backends.mkldnn.enabled and _has_depthwise(x.dtype)
    )  # fmt: skip


@cache
def _has_depthwise(dtype: torch.dtype) -> bool:
    """Whether oneDNN has a native depthwise convolution for this dtype on this machine, rather than a loop over channels."""
    if not torch.backends.mkldnn.is_available() or platform.machine() not in ("x86_64", "AMD64"):
        return False
    return dtype == torch.float32 or (dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _pick(x: Tensor, rule: Rule, size: int, places: tuple[tuple[int, int], ...], padding: int = 0) -> Tensor:
    """The pixel at each channel group's place in every window of (size, size)."""
    weights = _one_hot(tuple(channels for channels, _ in rule.groups), size, places, x.dtype)
    y = torch.mkldnn_convolution(x, weights, None, [padding, padding], [1, 1], [1, 1], x.shape[1])
    return y.contiguous(memory_format=torch.channels_last)  # a single picture may come out otherwise


@cache
def _one_hot(groups: tuple[int, ...], size: int, places: tuple[tuple[int, int], ...], dtype: torch.dtype) -> Tensor:
    """(C, 1, size, size): 1 at each channel group's place, 0 elsewhere."""
    weights = torch.zeros(sum(groups), 1, size, size, dtype=dtype, device="cpu")
    for group, (row, column) in zip(weights.split(groups), places):
        group[:, 0, row, column] = 1
    return weights


# --- torch.compile for the CPU -----------------------------------------------------------------------------------------------


def exporting() -> bool:
    """torch.compiler.is_exporting(), evaluated when code is compiled: up to PyTorch 2.11 compiled code takes it to be true."""
    return torch.compiler.is_exporting()


def _forward_mode() -> bool:
    """Whether forward-mode derivatives are being computed (torch.func.jvp), for which a custom operator has no formula."""
    return torch.autograd.forward_ad._current_level >= 0


def transformed() -> bool:
    """Whether a transform of torch.func (vmap, jvp, grad) or forward-mode derivatives are at work."""
    return _forward_mode() or torch._C._are_functorch_transforms_active()  # pyright: ignore[reportAttributeAccessIssue]


# What torch.compiler.assume_constant_result does, without importing the compiler, which takes a second and is rarely needed.
exporting._dynamo_marked_constant = True  # pyright: ignore[reportFunctionMemberAccess]
_forward_mode._dynamo_marked_constant = True  # pyright: ignore[reportFunctionMemberAccess]
transformed._dynamo_marked_constant = True  # pyright: ignore[reportFunctionMemberAccess]


def _compiles_for_cpu(x: Tensor) -> bool:
    """Whether torch.compile is compiling for the CPU, where a pad becomes a custom operator that it doesn't look into.

    It would fuse the pad with its neighbours into loops that test for each element whether it lies inside: in bf16 slower than
    eager mode in one layer (`benchmarks/kernels.py --compile --channels 64`), much slower once a norm and its derivative share the
    loop. Not for torch.export, whose graphs must run without this file.
    """
    return torch.compiler.is_compiling() and not exporting() and not _forward_mode() and x.device.type == "cpu"


@torch.library.custom_op("even_kernels::pad", mutates_args=())
def _pad_whole(x: Tensor, small: int, large: int, corners: bool) -> Tensor:
    """corners: whether each quarter of the channels is padded towards its own corner, or all below and to the right."""
    return _PadGroups.forward(x, _rule(x, small, large, corners)) if corners else _pad_plainly(x, small, large)


@torch.library.custom_op("even_kernels::crop", mutates_args=())
def _crop_whole(padded: Tensor, small: int, large: int, corners: bool) -> Tensor:
    return (
        _CropGroups.forward(padded, _rule(padded, small, large, corners)) if corners else _pad_plainly(padded, -small, -large)
    )  # fmt: skip


def _rule(x: Tensor, small: int, large: int, corners: bool) -> Rule:
    return Rule(small, large, towards(CORNERS if corners else (BELOW_RIGHT,), x.shape[1]))


def _pad_plainly(x: Tensor, small: int, large: int) -> Tensor:
    """F.pad in the memory format of x, also where a map of one pixel leaves that ambiguous."""
    return padding.pad(x, _rule(x, small, large, False)).contiguous(memory_format=memory_format_of(x))


def _like(x: Tensor, more: int) -> Tensor:
    n, c, h, w = x.shape
    return torch.empty((n, c, h + more, w + more), dtype=x.dtype, device=x.device, memory_format=memory_format_of(x))


_pad_whole.register_fake(lambda x, small, large, corners: _like(x, small + large))
_crop_whole.register_fake(lambda padded, small, large, corners: _like(padded, -small - large))


def _over_pictures(operator):
    """A vmap rule: the extra axis is folded into the batch."""

    def rule(info, in_dims, x: Tensor, *how) -> tuple[Tensor, int]:
        x = x.movedim(in_dims[0], 0)
        return operator(x.flatten(0, 1), *how).unflatten(0, x.shape[:2]), 0

    return rule


_pad_whole.register_vmap(_over_pictures(_pad_whole))
_crop_whole.register_vmap(_over_pictures(_crop_whole))


def _remember(ctx, inputs, output) -> None:
    ctx.how = inputs[1:]


_pad_whole.register_autograd(lambda ctx, grad: (_crop_whole(grad, *ctx.how), None, None, None), setup_context=_remember)
_crop_whole.register_autograd(lambda ctx, grad: (_pad_whole(grad, *ctx.how), None, None, None), setup_context=_remember)
