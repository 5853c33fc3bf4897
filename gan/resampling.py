"""Resampling and a same-size convolution as one: the same function for a half to a quarter of the multiplications.

Three identities, exact ("fused scale" of Karras et al. 2018 is one of them), with b = [1 1; 1 1] and ∗ the full convolution:

    nearest ×2, then kernel k          =  transposed convolution of kernel k + 1, stride 2, weights w ∗ b
    zero insertion, then kernel k      =  transposed convolution of kernel k, stride 2, weights w
    kernel k, then the mean of 2×2     =  convolution of kernel k + 1, stride 2, weights (w ∗ b) / 4

cropped, or padded, by what the padding rule of gan.kernels says. Multiply-adds of a 3×3 per pixel: 9 → 4, 9 → 2.25 and 9 → 4.
A symmetric layer pads each quarter of its input channels towards another corner. Before a mean that costs nothing; behind a
transposed convolution each quarter has a crop of its own, so there its kernel is embedded in one larger by a row and a column, or
the four phases of the output are computed one by one (gan.phases).

Bilinear doubling has no such identity: at the border it repeats pixels where a convolution has zeros.
"""

import torch
import torch.fx
import torch.nn.functional as F
from torch import Tensor, nn

from .fast_padding import memory_format_of, transformed
from .padding import Rule, recorded
from .transposed import cropped_transposed


class Unpool(nn.Module):
    """Zero insertion: (N, C, H, W) -> (N, C, 2H, 2W) with each value at the top-left of its 2x2 cell and zeros beside it.

    Dosovitskiy et al. 2015; what the ResNets of Kurach et al. (the paper's base code) upsample with.
    """

    def forward(self, x: Tensor) -> Tensor:
        return _unpooled(x)


@torch.fx.wrap
def _unpooled(x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    if recorded() or transformed():  # no writing in place
        return F.pad(x.reshape(n, c, h, 1, w, 1), (0, 1, 0, 0, 0, 1)).reshape(n, c, 2 * h, 2 * w)
    return _spaced(x) if torch.compiler.is_compiling() else _Spaced.apply(x)


def _spaced(x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    y = torch.empty((n, c, 2 * h, 2 * w), dtype=x.dtype, device=x.device, memory_format=memory_format_of(x)).zero_()
    y[:, :, ::2, ::2] = x
    return y


class _Spaced(torch.autograd.Function):
    """Zero insertion whose gradient has the memory format of the map's: that of an assignment to a slice would be contiguous."""

    @staticmethod
    def forward(ctx, *inputs: Tensor) -> Tensor:
        return _spaced(*inputs)

    @staticmethod
    def backward(ctx, *grad_outputs: Tensor) -> Tensor:
        (grad,) = grad_outputs
        return grad[:, :, ::2, ::2] if transformed() else _EveryOther.apply(grad)


class _EveryOther(torch.autograd.Function):
    """The adjoint of _Spaced."""

    @staticmethod
    def forward(ctx, *inputs: Tensor) -> Tensor:
        (y,) = inputs
        return y[:, :, ::2, ::2].contiguous(memory_format=memory_format_of(y))

    @staticmethod
    def backward(ctx, *grad_outputs: Tensor) -> Tensor:
        return _unpooled(*grad_outputs)


def nearest_conv(x: Tensor, weight: Tensor, bias: Tensor | None, rule: Rule) -> Tensor:
    """(N, C, H, W) -> (N, D, 2H, 2W): nearest-neighbour doubling, then the same-size convolution with weight (D, C, k, k).

    rule: what that convolution pads, such as `conv2d("c2sp", C, D).rule`; zeros only.
    """
    return _up(x, spread(weight), bias, weight.shape[-1], rule)


def unpool_conv(x: Tensor, weight: Tensor, bias: Tensor | None, rule: Rule) -> Tensor:
    """(N, C, H, W) -> (N, D, 2H, 2W): each value at the top-left of a 2×2 cell of zeros, then the same-size convolution."""
    return _up(x, weight, bias, weight.shape[-1], rule)


def conv_pool(x: Tensor, weight: Tensor, bias: Tensor | None, padding: int) -> Tensor:
    """(N, C, H, W), padded already but for `padding` zeros on each side -> the convolution's output averaged over 2×2 pixels."""
    return F.conv2d(x, spread(weight) / 4, bias, stride=2, padding=padding)


def spread(weight: Tensor) -> Tensor:
    """w ∗ [1 1; 1 1]: (D, C, k, k) -> (D, C, k + 1, k + 1)."""
    rows = F.pad(weight, (0, 0, 0, 1)) + F.pad(weight, (0, 0, 1, 0))
    return F.pad(rows, (0, 1, 0, 0)) + F.pad(rows, (1, 0, 0, 0))


def _up(x: Tensor, taps: Tensor, bias: Tensor | None, k: int, rule: Rule) -> Tensor:
    """The transposed convolution with taps (D, C, K, K), cropped by what a same-size kernel k pads."""
    taps, more = taps.flip(2, 3), rule.large - rule.small
    (_, (above, left)), *others = rule.groups
    if others and more:  # groups with more padding above begin later: move their taps within a larger kernel
        groups = taps.split([channels for channels, _ in rule.groups], dim=1)
        moves = [(more * left, more * (not left), more * above, more * (not above)) for _, (above, left) in rule.groups]
        taps = torch.cat([F.pad(group, move) for group, move in zip(groups, moves)], dim=1)
        above = left = False
    top, left = (k - 1 - (rule.large if leans else rule.small) for leans in (above, left))
    both = taps.shape[-1] - 2  # leaves twice the size of x
    return cropped_transposed(x, taps.transpose(0, 1), bias, 2, (top, left), (both - top, both - left))
