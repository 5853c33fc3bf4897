"""Even-sized convolution kernels with symmetric padding, and the one factory every model builds its layers with.

Source: Wu, Wang, Tang, Chen, Shi, "Convolution with even-sized kernels and symmetric padding", NeurIPS 2019 (arXiv 1903.08385).

The rule. A same-size layer of kernel k and stride s pads k - s pixels per axis. If k - s is even, both sides get the same and
nothing moves. If it is odd, one pixel is left over. A plain kernel gives it to one side: the picture drifts by half a pixel
per layer, always the same way, and fades at the border. A symmetric kernel ("sp") splits its *input* channels into four groups
and gives the pixel to another corner in each, so that the four drifts cancel, at no cost in parameters or multiplications.

So at stride 1 the even kernels (c2, c4) need symmetric padding, and at stride 2 the odd ones (c3, c5) do. A transposed layer crops
k - s instead of padding it, by the same rule.
"""

from collections.abc import Callable
from typing import TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from gan.fast_padding import exporting, memory_format_of, pad_corners, pad_one_side
from gan.padding import same_padding

Convolution = nn.Conv2d | nn.ConvTranspose2d
KERNELS = ("c2", "c2sp", "c3", "c3sp", "c4", "c4sp", "c5", "c5sp")


def parse_kernel(kernel: str) -> tuple[int, bool]:
    """'c4sp' -> (4, True): the kernel's size, and whether it pads symmetrically. ValueError for a name not in KERNELS."""
    if kernel not in KERNELS:
        raise ValueError(f"unknown kernel {kernel!r}: choose one of {', '.join(KERNELS)}")
    return int(kernel[1]), kernel.endswith("sp")


# --- layers: torch's own, with the same parameters and state dicts -----------------------------------------------------------


def _check(layer: str, kernel_size: int, stride: int) -> None:
    if not isinstance(kernel_size, int) or kernel_size < 1:
        raise ValueError(f"{layer}: kernel_size must be one positive integer (square kernels only), got {kernel_size!r}")
    if stride not in (1, 2):
        raise ValueError(f"{layer}: stride must be 1 or 2, got {stride!r}")


class _SameConv2d(nn.Conv2d):
    """A convolution that maps (N, C, H, W) to (N, D, H / stride, W / stride), rounded up, by the rule above.

    An odd H or W at stride 2 first gets a row or column of zeros at the far end, where the last window of a plain 3x3 ends too.
    Same parameters as nn.Conv2d, so state dicts move between kernels of one size. Supports groups and dilation.
    """

    _pad: Callable[[Tensor, int, int], Tensor]  # by how much on the smaller and on the larger side: where the left-over pixel goes

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, *, dilation: int = 1, groups: int = 1,
        bias: bool = True, device=None, dtype=None,
    ):  # fmt: skip
        _check(type(self).__name__, kernel_size, stride)
        super().__init__(in_channels, out_channels, kernel_size, stride, 0, dilation, groups, bias, device=device, dtype=dtype)
        self.corner_groups = groups
        self.same = same_padding(kernel_size, stride, dilation)
        if self.same[0] == self.same[1]:
            self.padding = (self.same[0], self.same[0])

    def pad(self, x: Tensor) -> Tensor:
        """A copy of x with the zeros that nn.Conv2d has no option for; x itself where both sides get the same."""
        if self.stride[0] == 2 and (exporting() or x.shape[2] % 2 or x.shape[3] % 2):
            x = F.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2))
        small, large = self.same
        return x if small == large else self._pad(x, small, large)

    def forward(self, input: Tensor, padded: bool = False) -> Tensor:
        """padded: whether the input comes from `pad`. A layer between the two, such as a ReLU, must leave zeros alone."""
        return self._conv_forward(input if padded else self.pad(input), self.weight, self.bias)

    def extra_repr(self) -> str:
        return super().extra_repr() + f", same={self.same}"


class OneSidedConv2d(_SameConv2d):
    """Even kernels as they come: the left-over pixel goes to the bottom and the right (TensorFlow's 'SAME').

    At stride 1 every layer shifts the picture half a pixel up and to the left.
    """

    _pad = staticmethod(pad_one_side)


class SymmetricConv2d(_SameConv2d):
    """The left-over pixel goes to another corner in each quarter of the input channels (Wu et al. 2019, C2sp and C4sp).

    Stands in for nn.Conv2d(..., padding='same'), options by keyword. If k - s is even, nothing is left over and it is nn.Conv2d.
    With groups, the quarters are those of each group, where it has four channels or more.
    """

    def _pad(self, x: Tensor, small: int, large: int) -> Tensor:
        return pad_corners(x, small, large, self.corner_groups)


class _SameConvTranspose2d(nn.ConvTranspose2d):
    """A transposed convolution that maps (N, C, H, W) to (N, D, H * stride, W * stride): it crops k - s pixels per axis.

    Same parameters as nn.ConvTranspose2d. Supports groups; dilation is refused with a ValueError.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, *, dilation: int = 1, groups: int = 1,
        bias: bool = True, device=None, dtype=None,
    ):  # fmt: skip
        _check(type(self).__name__, kernel_size, stride)
        if dilation != 1:
            raise ValueError(f"{type(self).__name__}: dilation is not supported, got {dilation}")
        super().__init__(in_channels, out_channels, kernel_size, stride, groups=groups, bias=bias, device=device, dtype=dtype)
        self.corner_groups = groups
        self.same = same_padding(kernel_size, stride)
        if self.same[0] == self.same[1]:
            self.padding = (self.same[0], self.same[0])

    def _transposed(self, x: Tensor, weight: Tensor, padding: int) -> Tensor:
        return F.conv_transpose2d(x, weight, self.bias, self.stride, padding, groups=self.groups)

    def extra_repr(self) -> str:
        return super().extra_repr() + f", same={self.same}"


class OneSidedConvTranspose2d(_SameConvTranspose2d):
    """The adjoint of OneSidedConv2d: crops the left-over row and column at the bottom and the right; drifts down and right."""

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        small, large = self.same
        y = self._transposed(input, self.weight, small)
        return y if small == large else y[:, :, :-1, :-1]


class SymmetricConvTranspose2d(_SameConvTranspose2d):
    """Each quarter of the input channels lands on another corner before the groups are summed.

    Stride 1: equal to SymmetricConv2d with the flipped, transposed weights. Stride 2 with k = 3 or 5: cancels the drift of half a
    pixel. The corners permute the output phases, so the taps per phase ([4, 2, 2, 1] for k = 3) become equal summed over the
    groups; each group by itself stays uneven, so this is no cure for checkerboards (results/instruments).
    """

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        small, large = self.same
        if small == large:
            return self._transposed(input, self.weight, small)
        if self.stride[0] == 1:  # move the input by one pixel: it stands for one pixel of the output
            return self._transposed(pad_corners(input, 0, 1, self.corner_groups), self.weight, large)
        # Stride 2: an input pixel stands for two, so move the kernel by one instead, inside one of size k + 1, whose crop is even.
        # The groups are those of the layer's input: dim 0 of a transposed weight.
        weight = pad_corners(self.weight.transpose(0, 1), 0, 1, self.corner_groups).transpose(0, 1)
        return self._transposed(input, weight, large)


# --- the factory -------------------------------------------------------------------------------------------------------------


def conv2d(kernel: str, in_channels: int, out_channels: int, stride: int = 1, **options) -> nn.Conv2d:
    """The same-size convolution `kernel` (one of KERNELS): (N, in, H, W) -> (N, out, H / stride, W / stride).

    Odd kernels are torch's own nn.Conv2d with padding k // 2, which at stride 2 puts the left-over pixel at the top and the left.
    Options: bias, groups, dilation, device, dtype.
    """
    size, symmetric = parse_kernel(kernel)
    if symmetric:
        return SymmetricConv2d(in_channels, out_channels, size, stride, **options)
    if size % 2:
        _check("conv2d", size, stride)
        padding = options.get("dilation", 1) * (size // 2)
        return nn.Conv2d(in_channels, out_channels, size, stride, padding, **options)
    return OneSidedConv2d(in_channels, out_channels, size, stride, **options)


def conv_transpose2d(kernel: str, in_channels: int, out_channels: int, stride: int = 2, **options) -> nn.ConvTranspose2d:
    """The transposed convolution `kernel` (one of KERNELS): (N, in, H, W) -> (N, out, H * stride, W * stride).

    Odd kernels are torch's own nn.ConvTranspose2d with padding k // 2 and output_padding stride - 1: at stride 2 they drift half an
    output pixel up and to the left, and overlap unevenly (the checkerboard of Odena et al. 2016).
    Options: bias, groups, device, dtype.
    """
    size, symmetric = parse_kernel(kernel)
    if symmetric:
        return SymmetricConvTranspose2d(in_channels, out_channels, size, stride, **options)
    if size % 2:
        _check("conv_transpose2d", size, stride)
        return nn.ConvTranspose2d(in_channels, out_channels, size, stride, size // 2, stride - 1, **options)
    return OneSidedConvTranspose2d(in_channels, out_channels, size, stride, **options)


def convert(module: nn.Module, kernel: str, *, strided: str | None = None) -> nn.Module:
    """Replace, in place, every eligible convolution inside any PyTorch model by `kernel`, with fresh weights; returns the model.

    Eligible: nn.Conv2d with a square kernel of 2 to 5, zero padding that keeps the size, and stride 1 or 2; nn.ConvTranspose2d of
    that size that multiplies the size by its stride. Weights are carried over where their shape does not change. Others (1x1, 7x7
    stems, layers with other padding) stay. Odd sizes are halved up, as by a 3x3; torch's own 2x2 and 4x4 halve them down.

    strided: what becomes of stride-2 convolutions. 'pool' averages 2x2 pixels and then applies the kernel at stride 1, as the
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
            "convert: this model has no convolution of kernel 2 to 5 that keeps its size; convert its parent, not a layer"
        )
    new = {old: _replacement(old, kernel, pool) for old in dict.fromkeys(old for _, _, old in found)}  # a shared layer stays shared
    for parent, name, old in found:
        setattr(parent, name, new[old])
    return module


def _eligible(layer: nn.Module | None) -> TypeGuard[Convolution]:
    """Whether a layer is to be replaced. ValueError for one that is, but would lose what has been added to it."""
    if not isinstance(layer, Convolution) or layer.padding_mode != "zeros" or not _keeps_size(layer):
        return False
    plain = (nn.Conv2d, nn.ConvTranspose2d, OneSidedConv2d, SymmetricConv2d, OneSidedConvTranspose2d, SymmetricConvTranspose2d)
    if is_parametrized(layer):
        raise ValueError("convert: a convolution carries spectral norm or another parametrization; convert first, then add it")
    if layer._forward_pre_hooks or layer._forward_hooks or layer._backward_pre_hooks or layer._backward_hooks:
        raise ValueError("convert: a convolution carries hooks, which would be lost; convert first, then add them")
    if type(layer) not in plain:
        raise ValueError(
            f"convert: a {type(layer).__name__} does more than torch's own layer and would be lost; replace it yourself"
        )
    return True


def _keeps_size(layer: Convolution) -> bool:
    """A square kernel of 2 to 5 that maps a size to size / stride, or for transposed layers to size x stride."""
    pairs = [layer.kernel_size, layer.stride, layer.dilation, layer.output_padding]
    pairs += [layer.padding] if isinstance(layer.padding, tuple) else []
    size, stride, dilation = layer.kernel_size[0], layer.stride[0], layer.dilation[0]
    if any(down != across for down, across in pairs) or not 2 <= size <= 5 or stride not in (1, 2):
        return False
    if isinstance(layer, _SameConv2d | _SameConvTranspose2d):
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
    options = dict(groups=old.groups, bias=old.bias is not None, device=old.weight.device, dtype=old.weight.dtype)
    if old.dilation[0] != 1:
        options["dilation"] = old.dilation[0]
    new = factory(kernel, old.in_channels, old.out_channels, stride=1 if pool else stride, **options)
    if new.weight.shape == old.weight.shape:
        new.load_state_dict(old.state_dict())
    if memory_format_of(old.weight) == torch.channels_last:
        new.to(memory_format=torch.channels_last)
    new.requires_grad_(old.weight.requires_grad)
    return nn.Sequential(nn.AvgPool2d(2, ceil_mode=True), new) if pool else new  # ceil: as many pixels as a strided 3x3 leaves
