"""Resampling and a same-size convolution as one: the same function for a half to a quarter of the multiplications.

Three identities, exact ("fused scale" of Karras et al. 2018 is one of them), with b = [1 1; 1 1] and ∗ the full convolution:

    nearest ×2, then kernel k          =  transposed convolution of kernel k + 1, stride 2, weights w ∗ b
    kernel k, then the mean of 2×2     =  convolution of kernel k + 1, stride 2, weights (w ∗ b) / 4
    zero insertion, then kernel k      =  transposed convolution of kernel k, stride 2, weights w

cropped, or padded, by what the padding rule of gan.kernels says. Multiply-adds of a 3×3 per pixel: 9 → 4, 9 → 4 and 9 → 2.25.
A symmetric layer pads each quarter of its input channels towards another corner; behind a transposed convolution that is another
crop, so there the four quarters of an even kernel are computed by themselves and summed, which narrow layers don't gain from.

For your own models; the networks of this project still take the two steps one after the other.
"""

import torch.nn.functional as F
from torch import Tensor

from gan.padding import CORNERS, group_sizes, same_padding


def nearest_conv(x: Tensor, weight: Tensor, bias: Tensor | None, symmetric: bool = False) -> Tensor:
    """(N, C, H, W) -> (N, D, 2H, 2W): nearest-neighbour doubling, then the same-size convolution with weight (D, C, k, k).

    symmetric: whether an even kernel's left-over pixel goes to another corner in each quarter of the channels, or to the bottom and
    the right in all.
    """
    k = weight.shape[-1]
    return _up(x, spread(weight).flip(2, 3), bias, k, k - 1, symmetric)


def unpool_conv(x: Tensor, weight: Tensor, bias: Tensor | None, symmetric: bool = False) -> Tensor:
    """(N, C, H, W) -> (N, D, 2H, 2W): each value at the top-left of a 2×2 cell of zeros, then the same-size convolution."""
    k = weight.shape[-1]
    return _up(x, weight.flip(2, 3), bias, k, k - 2, symmetric)


def conv_pool(x: Tensor, weight: Tensor, bias: Tensor | None, padding: int) -> Tensor:
    """(N, C, H, W), padded already but for `padding` zeros on each side -> the convolution's output averaged over 2×2 pixels."""
    return F.conv2d(x, spread(weight) / 4, bias, stride=2, padding=padding)


def spread(weight: Tensor) -> Tensor:
    """w ∗ [1 1; 1 1]: (D, C, k, k) -> (D, C, k + 1, k + 1)."""
    rows = F.pad(weight, (0, 0, 0, 1)) + F.pad(weight, (0, 0, 1, 0))
    return F.pad(rows, (0, 1, 0, 0)) + F.pad(rows, (1, 0, 0, 0))


def _up(x: Tensor, taps: Tensor, bias: Tensor | None, k: int, cut: int, symmetric: bool) -> Tensor:
    """The transposed convolution with taps (D, C, K, K), of which the padding rule of a same-size kernel k cuts `cut` per axis."""
    small, large = same_padding(k)
    starts = {False: k - 1 - small, True: k - 1 - large}  # cut before the picture, where `small` or `large` would be padded
    taps = taps.transpose(0, 1)
    if small == large or not symmetric:
        return _transposed(x, taps, bias, (starts[False], starts[False]), cut)
    sizes = group_sizes(x.shape[1])
    parts = zip(x.split(sizes, dim=1), taps.split(sizes, dim=0), CORNERS)
    found = [_transposed(part, own, None, (starts[above], starts[left]), cut) for part, own, (above, left) in parts if len(own)]
    total = found[0] if bias is None else found[0] + bias[:, None, None]
    for other in found[1:]:
        total = total + other
    return total


def _transposed(x: Tensor, taps: Tensor, bias: Tensor | None, starts: tuple[int, int], cut: int) -> Tensor:
    """A transposed convolution of stride 2, of whose rows and columns `starts` are cut before the picture, the rest behind.

    As much of it as PyTorch can by its own `padding` and `output_padding`, which computes nothing that is thrown away.
    """
    padding = [min(start, cut - start + 1) for start in starts]
    more = [int(p > cut - start) for p, start in zip(padding, starts)]
    y = F.conv_transpose2d(x, taps, bias, 2, padding, more)
    for axis, (start, p, o) in enumerate(zip(starts, padding, more), 2):
        before, behind = start - p, cut - start - (p - o)
        if before or behind:
            y = y.narrow(axis, before, y.shape[axis] - before - behind)
    return y
