"""Even-sized convolution kernels with symmetric padding, and the one factory every model builds its layers with.

Source: Wu, Wang, Tang, Chen, Shi, "Convolution with even-sized kernels and symmetric padding", NeurIPS 2019 (arXiv 1903.08385).

The rule. A same-size layer of kernel k and stride s pads k - s pixels per axis. If k - s is even, both sides get the same and
nothing moves. If it is odd, one pixel is left over. A plain kernel gives it to one side: the picture drifts by half a pixel
per layer, always the same way, and fades at the border. A symmetric kernel ("sp") splits its *input* channels into four groups
and gives the pixel to another corner in each, so that the four drifts cancel, at no cost in parameters or multiplications.

So at stride 1 the even kernels (c2, c4) need symmetric padding, and at stride 2 the odd ones (c3, c5) do. A transposed layer crops
k - s instead of padding it, by the same rule.

Two control kernels take the argument apart. "c2alt" gives the pixel to one side in all channels, but to another corner from layer
to layer: its drift cancels in depth, and each of its layers has c2's uneven borders. "c3off" is a c3 padded by 0 and 2 instead of
1 and 1: it drifts a whole pixel per layer though it sees all nine.

What is padded is zeros, or goes on with the map: reflected, replicated, or around the other side (circular). Zeros tell a network
where the border is, and one-sided padding puts them on one side (Islam et al. 2020, arXiv 2001.08248; Xu et al. 2021, arXiv
2012.05217).
"""

import itertools
from typing import Any, TypeGuard

import torch
import torch.fx
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.conv import _LazyConvXdMixin
from torch.nn.parameter import UninitializedParameter
from torch.nn.utils.parametrize import is_parametrized

from .fast_padding import exporting, memory_format_of, pad
from .padding import ABOVE_LEFT, BELOW_RIGHT, CORNERS, PADDINGS, Corner, Rule, extend, recorded, same_padding, sides, towards
from .transposed import cropped_transposed

Convolution = nn.Conv2d | nn.ConvTranspose2d
KERNELS = ("c2", "c2sp", "c2alt", "c3", "c3sp", "c3off", "c4", "c4sp", "c5", "c5sp")

PLACES = (  # where a layer has the pixel that is left over
    "below right",  # c2, c4: TensorFlow's SAME
    "above left",  # c3, c5 at stride 2, as torch has it
    "four corners",  # sp: another one in each quarter of the input channels
    "turning corner",  # alt: the same for all channels, another one in the next layer, so that drift cancels in depth alone
    "far side",  # off: all that is padded, not just what is left over, is below and to the right: c3off drifts a whole pixel
)


def parse_kernel(kernel: str) -> tuple[int, str]:
    """'c4sp' -> (4, 'four corners'): the kernel's size, and one of PLACES. ValueError for a name not in KERNELS."""
    if kernel not in KERNELS:
        raise ValueError(f"unknown kernel {kernel!r}: choose one of {', '.join(KERNELS)}")
    size, ending = int(kernel[1]), kernel[2:]
    plain = "above left" if size % 2 else "below right"
    return size, {"": plain, "sp": "four corners", "alt": "turning corner", "off": "far side"}[ending]


# --- layers: torch's own, with the same parameters and state dicts -----------------------------------------------------------


class _Same:
    """Shared by convolutions and transposed convolutions that pad by the rule above."""

    place = "below right"
    turn = 0  # which of CORNERS a turning corner is: see turn_corners
    in_channels: int
    groups: int
    corner_groups: int  # groups of channels that have four corners each
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: str | tuple[int, ...]
    padding_mode: str

    def _settle(self, place: str | None, padding_mode: str) -> None:
        place = place or self.place
        if place not in PLACES:
            raise ValueError(f"place must be one of {', '.join(PLACES)}, got {place!r}")
        if padding_mode not in PADDINGS:
            raise ValueError(f"padding_mode must be one of {', '.join(PADDINGS)}, got {padding_mode!r}")
        self.place, self.padding_mode, self.corner_groups = place, padding_mode, self.groups
        small, large = self.rule[:2]
        if small == large:
            self.padding = (small, small)

    @property
    def rule(self) -> Rule:
        """How much is padded on which side. (torch's `padding` holds it too where it is the same on all sides.)"""
        small, large = same_padding(self.kernel_size[0], self.stride[0], self.dilation[0])
        corners = (BELOW_RIGHT,)
        if self.place == "four corners":
            corners = CORNERS
        elif self.place == "turning corner":
            corners = (CORNERS[self.turn % 4],)
        elif self.place == "far side":
            small, large = 0, small + large
        elif self.place == "above left":
            corners = (ABOVE_LEFT,)
        return Rule(small, large, towards(corners, self.in_channels, self.corner_groups), self.padding_mode)

    def extra_repr(self) -> str:
        small, large = self.rule[:2]
        return f"{super().extra_repr()}, pads {small} and {large}, {self.place}"  # pyright: ignore[reportAttributeAccessIssue]


def _check(layer: str, kernel_size: int, stride: int) -> None:
    if not isinstance(kernel_size, int) or kernel_size < 1:
        raise ValueError(f"{layer}: kernel_size must be one positive integer (square kernels only), got {kernel_size!r}")
    if stride not in (1, 2):
        raise ValueError(f"{layer}: stride must be 1 or 2, got {stride!r}")


class SameConv2d(_Same, nn.Conv2d):
    """A convolution that maps (N, C, H, W) to (N, D, H / stride, W / stride), rounded up, by the rule above; also without N.

    place: one of PLACES. padding_mode: one of PADDINGS. Other options: dilation, groups, bias, device, dtype.
    An odd H or W at stride 2 is padded by one more row or column at the far end, where the last window of a plain 3x3 ends too.
    Same parameters as nn.Conv2d, so state dicts move between kernels of one size.
    ValueError for a kernel that isn't square, a stride other than 1 or 2, an unknown place or padding_mode.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, *, place: str | None = None,
        padding_mode: str = "zeros", **options,
    ):  # fmt: skip
        _check(type(self).__name__, kernel_size, stride)
        super().__init__(in_channels, out_channels, kernel_size, stride, 0, **options)
        self._settle(place, padding_mode)

    def pad(self, x: Tensor) -> Tensor:
        """x with the padding that nn.Conv2d has no option for; x itself where both sides get the same number of zeros."""
        return _padded(x, self.rule, self.stride[0])

    def forward(self, input: Tensor, padded: bool = False) -> Tensor:
        """padded: whether the input is already the output of `pad`. A layer in between, such as a ReLU, must map 0 to 0."""
        x = _padded(input, self.rule, self.stride[0], padded)
        own = self.padding if self.padding_mode == "zeros" else 0
        return F.conv2d(x, self.weight, self.bias, self.stride, own, self.dilation, self.groups)


class OneSidedConv2d(SameConv2d):
    """Even kernels with the usual padding: the left-over pixel goes to the bottom and the right (TensorFlow's 'SAME').

    At stride 1 every layer shifts the picture half a pixel up and to the left.
    """


class SymmetricConv2d(SameConv2d):
    """The left-over pixel goes to another corner in each quarter of the input channels (Wu et al. 2019, C2sp and C4sp).

    Replaces nn.Conv2d(..., padding='same'), options by keyword. If k - s is even, nothing is left over and it equals nn.Conv2d.
    With groups, each group that has at least four channels has four quarters of its own.
    """

    place = "four corners"


class SameConvTranspose2d(_Same, nn.ConvTranspose2d):
    """A transposed convolution that maps (N, C, H, W) to (N, D, H * stride, W * stride), also without N: it crops k - s per axis.

    place: as of SameConv2d, of which it is the adjoint: it crops where that pads, and so drifts the other way.
    padding_mode: how the *input* is extended beyond its border; the output is then cropped to the stated size.
    Other options: groups, bias, device, dtype. Same parameters as nn.ConvTranspose2d; dilation is refused with a ValueError.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, *, place: str | None = None,
        padding_mode: str = "zeros", **options,
    ):  # fmt: skip
        _check(type(self).__name__, kernel_size, stride)
        if options.get("dilation", 1) != 1:
            raise ValueError(f"{type(self).__name__}: dilation is not supported, got {options['dilation']}")
        super().__init__(in_channels, out_channels, kernel_size, stride, **options)
        self._settle(place, padding_mode)

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """output_size: H and W of the output, up to stride - 1 pixels less or more than H * stride. ValueError for others."""
        return _transposed(input, self.weight, self.bias, self.rule, self.stride[0], self.groups, output_size)


class OneSidedConvTranspose2d(SameConvTranspose2d):
    """The adjoint of OneSidedConv2d: crops the left-over row and column at the bottom and the right; drifts down and right."""


class SymmetricConvTranspose2d(SameConvTranspose2d):
    """Each quarter of the input channels lands on another corner before the groups are summed.

    Stride 1: equal to SymmetricConv2d with the flipped, transposed weights. Stride 2 with k = 3 or 5: cancels the drift of half a
    pixel. The corners permute the output phases, so the taps per phase ([4, 2, 2, 1] for k = 3) become equal summed over the
    groups; each group by itself stays uneven, so checkerboards go only as far as the groups carry like-signed weights: not at all
    for weights of random sign (results/instruments).
    """

    place = "four corners"


def turn_corners(network: nn.Module) -> nn.Module:
    """Give the n-th layer with a turning corner (c2alt), in the order of definition, the corner CORNERS[n % 4].

    Layers 2i and 2i + 1 have opposite corners, so that together they leave the picture where it was. Layers of a module named
    `shortcut` run in parallel to the others, so they are counted separately. Until this is called, all have the first corner.
    """
    main, beside = itertools.count(), itertools.count()
    for name, layer in network.named_modules():
        if isinstance(layer, _Same) and layer.place == "turning corner":
            layer.turn = next(beside if "shortcut" in name.split(".") else main)
    return network


# --- what the layers do. Functions, so that torch.fx keeps each as one step instead of tracing what depends on sizes ----------


@torch.fx.wrap
def _padded(x: Tensor, rule: Rule, stride: int, already: bool = False) -> Tensor:
    """The input of a convolution, padded by all but what the convolution pads itself: the same number of zeros on all sides."""
    fixed = not (exporting() or recorded())
    wrong = x.dim() not in (3, 4) or (fixed and x.shape[-3] != sum(channels for channels, _ in rule.groups))
    if already or wrong:
        return x  # torch's own message says what is wrong
    far = (0, 0)
    if stride == 2:  # a trace must serve all sizes, so it pads the row and column that odd ones need; even ones never read them
        far = (x.shape[-2] % 2, x.shape[-1] % 2) if fixed else (1, 1)
    if rule.small == rule.large and rule.mode == "zeros":
        return F.pad(x, (0, far[1], 0, far[0])) if any(far) else x
    return pad(x, rule, far)


@torch.fx.wrap
def _transposed(
    x: Tensor, weight: Tensor, bias: Tensor | None, rule: Rule, stride: int, groups: int, output_size: list[int] | None = None
) -> Tensor:
    if x.dim() == 3:
        given = None if output_size is None else output_size[-2:] if len(output_size) == 3 else output_size
        return _transposed(x.unsqueeze(0), weight, bias, rule, stride, groups, given).squeeze(0)
    more = _more(x, stride, output_size)
    before = behind = 0
    if rule.mode != "zeros":  # as many pixels as reach inside
        before = (rule.large + stride - 1) // stride
        behind = (rule.large + stride - 1 + max(more)) // stride
        x = extend(x, (before, behind, before, behind), rule.mode)
    weight, x, corner = _moved_groups(weight, x, rule, stride)
    left, right, top, bottom = sides(corner, rule.small, rule.large) if corner else (rule.large,) * 4
    first = (top + stride * before, left + stride * before)
    last = (bottom + stride * behind - more[0], right + stride * behind - more[1])
    return cropped_transposed(x, weight, bias, stride, first, last, groups)


def _more(x: Tensor, stride: int, output_size: list[int] | None) -> tuple[int, int]:
    """Rows and columns of the requested output beyond `stride` times the input's, from 1 - stride to stride - 1."""
    if output_size is None:
        return 0, 0
    h, w = (stride * size for size in x.shape[-2:])
    if len(output_size) not in (2, 4):
        raise ValueError(f"output_size must be (H, W), or the shape of the whole output, got {tuple(output_size)}")
    rows, columns = output_size[-2] - h, output_size[-1] - w
    if abs(rows) >= stride or abs(columns) >= stride:
        r = stride - 1
        raise ValueError(f"output_size must be {h - r} to {h + r} by {w - r} to {w + r}, got {tuple(output_size[-2:])}")
    return int(rows), int(columns)


def _moved_groups(weight: Tensor, x: Tensor, rule: Rule, stride: int) -> tuple[Tensor, Tensor, Corner | None]:
    """Weight and input such that all channels are cropped towards one corner, or equally on all sides (None)."""
    if len(rule.groups) == 1 or rule.small == rule.large:
        return weight, x, rule.groups[0][1]
    one_more = Rule(0, 1, rule.groups)
    if stride == 1:  # move the input by one pixel: it stands for one pixel of the output
        return weight, pad(x, one_more), None
    # Stride 2: an input pixel stands for two, so move the kernel by one instead, inside one of size k + 1, whose crop is even.
    # The groups are those of the layer's input: dim 0 of a transposed weight.
    return _moved(weight, rule) if recorded() else pad(weight.transpose(0, 1), one_more).transpose(0, 1), x, None


def _moved(weight: Tensor, rule: Rule) -> Tensor:
    """The weight padded by one row and column per group, by concatenations: ONNX knows their shapes without computing them."""
    parts = []
    for group, (_, (above, left)) in zip(weight.split([channels for channels, _ in rule.groups]), rule.groups):
        for axis, first in ((2, above), (3, left)):
            nothing = torch.zeros_like(group.narrow(axis, 0, 1))
            group = torch.cat([nothing, group] if first else [group, nothing], dim=axis)
        parts.append(group)
    return torch.cat(parts)


# --- lazy layers: in_channels is read off the first input, as in nn.LazyConv2d ------------------------------------------------


class _Lazy(_LazyConvXdMixin):
    def __init__(self, out_channels: int, kernel_size: int, stride: int = 1, *, bias: bool = True, **options):
        super().__init__(0, 0, kernel_size, stride, bias=False, **options)  # pyright: ignore[reportAttributeAccessIssue]
        kind = {key: value for key, value in options.items() if key in ("device", "dtype")}
        self.weight = UninitializedParameter(**kind)
        self.out_channels = out_channels
        if bias:
            self.bias = UninitializedParameter(**kind)

    def initialize_parameters(self, input: Tensor, *args, **kwargs) -> None:
        super().initialize_parameters(input, *args, **kwargs)
        self.in_channels = self._get_in_channels(input)  # also where the weights came from a state dict

    def _get_num_spatial_dims(self) -> int:
        return 2


class LazySameConv2d(_Lazy, SameConv2d):  # pyright: ignore[reportIncompatibleMethodOverride]
    """SameConv2d whose in_channels are those of its first input."""

    cls_to_become = SameConv2d


class LazySameConvTranspose2d(_Lazy, SameConvTranspose2d):  # pyright: ignore[reportIncompatibleMethodOverride]
    """SameConvTranspose2d whose in_channels are those of its first input."""

    cls_to_become = SameConvTranspose2d


# --- the factory -------------------------------------------------------------------------------------------------------------


def conv2d(kernel: str, in_channels: int | None, out_channels: int, stride: int = 1, **options) -> nn.Conv2d:
    """The same-size convolution `kernel` (one of KERNELS): (N, in, H, W) -> (N, out, H / stride, W / stride).

    in_channels: None makes a lazy layer, which takes those of its first input. Options: padding_mode (one of PADDINGS), bias,
    groups, dilation, device, dtype. c3 and c5 are torch's own nn.Conv2d with padding k // 2, which at stride 2 puts the left-over
    pixel at the top and the left; with a padding_mode other than zeros they are SameConv2d, which gives the same numbers.
    ValueError for an unknown kernel and a stride other than 1 or 2.
    """
    size, place = parse_kernel(kernel)
    if place == "above left" and options.get("padding_mode", "zeros") == "zeros":
        _check("conv2d", size, stride)
        padding = options.get("dilation", 1) * (size // 2)
        if in_channels is None:
            return nn.LazyConv2d(out_channels, size, stride, padding, **options)
        return nn.Conv2d(in_channels, out_channels, size, stride, padding, **options)
    if in_channels is None:
        return LazySameConv2d(out_channels, size, stride, place=place, **options)
    layer = {"below right": OneSidedConv2d, "four corners": SymmetricConv2d}.get(place, SameConv2d)
    return layer(in_channels, out_channels, size, stride, place=place, **options)


def conv_transpose2d(kernel: str, in_channels: int | None, out_channels: int, stride: int = 2, **options) -> nn.ConvTranspose2d:
    """The transposed convolution `kernel` (one of KERNELS): (N, in, H, W) -> (N, out, H * stride, W * stride).

    in_channels, errors: as of conv2d. Options: padding_mode (one of PADDINGS, of the input), bias, groups, device, dtype.
    c3 and c5 are torch's own nn.ConvTranspose2d with padding k // 2 and output_padding stride - 1: at stride 2 they drift half an
    output pixel up and to the left, and overlap unevenly (the checkerboard of Odena et al. 2016); with a padding_mode other than
    zeros, which torch's refuses, they are SameConvTranspose2d.
    """
    size, place = parse_kernel(kernel)
    if place == "above left" and options.get("padding_mode", "zeros") == "zeros":
        _check("conv_transpose2d", size, stride)
        if in_channels is None:
            return nn.LazyConvTranspose2d(out_channels, size, stride, size // 2, stride - 1, **options)
        return nn.ConvTranspose2d(in_channels, out_channels, size, stride, size // 2, stride - 1, **options)
    if in_channels is None:
        return LazySameConvTranspose2d(out_channels, size, stride, place=place, **options)
    layer = {"below right": OneSidedConvTranspose2d, "four corners": SymmetricConvTranspose2d}.get(place, SameConvTranspose2d)
    return layer(in_channels, out_channels, size, stride, place=place, **options)


def convert(module: nn.Module, kernel: str, *, strided: str | None = None) -> nn.Module:
    """Replace, in place, every eligible convolution inside any PyTorch model by `kernel`, with fresh weights; returns the model.

    Eligible: nn.Conv2d with a square kernel of 2 to 5, padding (by any padding_mode) that keeps the size, and stride 1 or 2;
    nn.ConvTranspose2d of that size that multiplies the size by its stride; their lazy forms. Weights are carried over where their
    shape does not change. Others (1x1, 7x7 stems, layers with other padding) stay. At stride 2 half of an odd size is rounded up,
    as by a 3x3; torch's own 2x2 and 4x4 round it down.

    strided: how stride-2 convolutions are replaced. 'pool' averages 2x2 pixels and then applies the kernel at stride 1, as the
    paper's authors do; 'stride' keeps the stride. Default: 'pool' for even kernels, 'stride' for odd ones.

    ValueError for an unknown kernel, where no convolution of the model is eligible, and for layers that carry spectral norm or
    other additions (convert first, then add them).
    """
    size, _ = parse_kernel(kernel)
    if strided not in (None, "pool", "stride"):
        raise ValueError(f"strided must be 'pool' or 'stride', got {strided!r}")
    pool = strided == "pool" or (strided is None and size % 2 == 0)
    found = [(parent, name, child) for parent in module.modules() for name, child in parent._modules.items() if _eligible(child)]
    if not found:
        raise ValueError(
            "convert: no convolution of kernel 2 to 5 within this module keeps its size; to convert a single layer, pass its parent"
        )
    new = {old: _replacement(old, kernel, pool) for old in dict.fromkeys(old for _, _, old in found)}  # a shared layer stays shared
    for parent, name, old in found:
        setattr(parent, name, new[old])
    return turn_corners(module)


def _eligible(layer: nn.Module | None) -> TypeGuard[Convolution]:
    """Whether `convert` replaces a layer. ValueError for one that would lose what has been added to it."""
    if not isinstance(layer, Convolution) or not _keeps_size(layer):
        return False
    plain = (
        nn.Conv2d, SameConv2d, OneSidedConv2d, SymmetricConv2d, nn.LazyConv2d, LazySameConv2d,
        nn.ConvTranspose2d, SameConvTranspose2d, OneSidedConvTranspose2d, SymmetricConvTranspose2d,
        nn.LazyConvTranspose2d, LazySameConvTranspose2d,
    )  # fmt: skip
    own = {layer._initialize_hook.id} if _is_lazy(layer) else set()  # pyright: ignore[reportAttributeAccessIssue]
    if is_parametrized(layer):
        raise ValueError("convert: a convolution carries spectral norm or another parametrization; convert first, then add it")
    if set(layer._forward_pre_hooks) - own or layer._forward_hooks or layer._backward_pre_hooks or layer._backward_hooks:
        raise ValueError("convert: a convolution carries hooks, which would be lost; convert first, then add them")
    if type(layer) not in plain:
        raise ValueError(
            f"convert: what {type(layer).__name__} adds to torch's own layer would be lost; replace that layer yourself"
        )
    return True


def _is_lazy(layer: Convolution) -> bool:
    """Whether it still waits for its first input."""
    return isinstance(layer.weight, UninitializedParameter)


def _keeps_size(layer: Convolution) -> bool:
    """A square kernel of 2 to 5 that maps a size to size / stride, or for transposed layers to size x stride."""
    pairs = [layer.kernel_size, layer.stride, layer.dilation, layer.output_padding]
    pairs += [layer.padding] if isinstance(layer.padding, tuple) else []
    size, stride, dilation = layer.kernel_size[0], layer.stride[0], layer.dilation[0]
    if any(down != across for down, across in pairs) or not 2 <= size <= 5 or stride not in (1, 2):
        return False
    if isinstance(layer, _Same):
        return True
    if isinstance(layer.padding, str):
        return layer.padding == "same"
    if isinstance(layer, nn.Conv2d):
        reach = dilation * (size - 1) + 1 - stride
        return layer.padding[0] == (reach + 1) // 2 and (reach % 2 == 0 or stride == 2)
    return dilation == 1 and size - stride == 2 * layer.padding[0] - layer.output_padding[0]


def _replacement(old: Convolution, kernel: str, pool: bool) -> nn.Module:
    factory = conv2d if isinstance(old, nn.Conv2d) else conv_transpose2d
    stride = old.stride[0]
    pool = pool and stride == 2 and factory is conv2d
    options: dict[str, Any] = dict(groups=old.groups, bias=old.bias is not None, device=old.weight.device, dtype=old.weight.dtype)
    if old.dilation[0] != 1:
        options["dilation"] = old.dilation[0]
    if old.padding_mode != "zeros":
        options["padding_mode"] = old.padding_mode
    channels = None if _is_lazy(old) else old.in_channels
    new = factory(kernel, channels, old.out_channels, stride=1 if pool else stride, **options)
    if not _is_lazy(old):
        if new.weight.shape == old.weight.shape:
            new.load_state_dict(old.state_dict())
        if memory_format_of(old.weight) == torch.channels_last:
            new.to(memory_format=torch.channels_last)
    for parameter in new.parameters():
        parameter.requires_grad = old.weight.requires_grad
    return nn.Sequential(nn.AvgPool2d(2, ceil_mode=True), new) if pool else new  # ceil: as many pixels as a strided 3x3 leaves
