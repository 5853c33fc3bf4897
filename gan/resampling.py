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
import torch.nn.functional as F
from torch import Tensor, nn

from gan.fast_padding import memory_format_of
from gan.padding import CORNERS, group_sizes, same_padding


class Unpool(nn.Module):
    """Zero insertion: (N, C, H, W) -> (N, C, 2H, 2W) with each value at the top-left of its 2x2 cell and zeros beside it.

    Dosovitskiy et al. 2015; what the ResNets of Kurach et al. (the paper's base code) upsample with.
    """

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        y = torch.empty((n, c, 2 * h, 2 * w), dtype=x.dtype, device=x.device, memory_format=memory_format_of(x)).zero_()
        y[:, :, ::2, ::2] = x
        return y


def nearest_conv(x: Tensor, weight: Tensor, bias: Tensor | None, symmetric: bool = False) -> Tensor:
    """(N, C, H, W) -> (N, D, 2H, 2W): nearest-neighbour doubling, then the same-size convolution with weight (D, C, k, k).

    symmetric: whether an even kernel's left-over pixel goes to another corner in each quarter of the channels, or to the bottom and
    the right in all.
    """
    return _up(x, spread(weight), bias, weight.shape[-1], symmetric)


def unpool_conv(x: Tensor, weight: Tensor, bias: Tensor | None, symmetric: bool = False) -> Tensor:
    """(N, C, H, W) -> (N, D, 2H, 2W): each value at the top-left of a 2×2 cell of zeros, then the same-size convolution."""
    return _up(x, weight, bias, weight.shape[-1], symmetric)


def conv_pool(x: Tensor, weight: Tensor, bias: Tensor | None, padding: int) -> Tensor:
    """(N, C, H, W), padded already but for `padding` zeros on each side -> the convolution's output averaged over 2×2 pixels."""
    return F.conv2d(x, spread(weight) / 4, bias, stride=2, padding=padding)


def spread(weight: Tensor) -> Tensor:
    """w ∗ [1 1; 1 1]: (D, C, k, k) -> (D, C, k + 1, k + 1)."""
    rows = F.pad(weight, (0, 0, 0, 1)) + F.pad(weight, (0, 0, 1, 0))
    return F.pad(rows, (0, 1, 0, 0)) + F.pad(rows, (1, 0, 0, 0))


def _up(x: Tensor, taps: Tensor, bias: Tensor | None, k: int, symmetric: bool) -> Tensor:
    """The transposed convolution with taps (D, C, K, K), cropped by the padding rule of a same-size kernel k."""
    small, large = same_padding(k)
    taps = taps.flip(2, 3)
    if symmetric and small != large:  # the groups with more padding above begin a pixel later: move their taps
        groups = zip(taps.split(group_sizes(x.shape[1]), dim=1), CORNERS)
        moved = [F.pad(group, (int(left), int(not left), int(above), int(not above))) for group, (above, left) in groups]
        taps = torch.cat(moved, dim=1)
    start = k - 1 - small  # rows and columns cut before the picture; of as many behind it as makes 2H
    return _transposed(x, taps.transpose(0, 1), bias, start, taps.shape[-1] - 2 - start)


def _transposed(x: Tensor, taps: Tensor, bias: Tensor | None, before: int, behind: int) -> Tensor:
    """A transposed convolution of stride 2 without its first `before` and last `behind` rows and columns.

    PyTorch cuts equally on both sides, and computes nothing that it cuts; behind, one less is possible (`output_padding`).
    """
    padding = min(before, behind + 1)
    more = int(padding > behind)
    y = F.conv_transpose2d(x, taps, bias, 2, padding, more)
    first, last = before - padding, behind - padding + more
    return y[:, :, first : y.shape[2] - last, first : y.shape[3] - last] if first or last else y
