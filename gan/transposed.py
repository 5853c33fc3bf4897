"""A transposed convolution without some of its first and last rows and columns, computed without what is cut.

A slice of a larger output would have gaps in memory, which slow the layers behind it and all their derivatives
(`benchmarks/transposed.py`).
"""

import torch.nn.functional as F
from torch import Tensor


def cropped_transposed(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, first: tuple[int, int], last: tuple[int, int], groups: int = 1
) -> Tensor:
    """F.conv_transpose2d(x, weight, bias, stride) without its first and last rows and columns: (N, C, H, W) -> (N, D, H', W').

    H' = stride * (H - 1) + k - first[0] - last[0], and W' likewise with [1]. Numbers below 0 add rows and columns that no tap
    reaches, which hold the bias.

    PyTorch cuts the same number p on both sides, or up to stride - 1 less behind (`output_padding`). Where other numbers are
    wanted, the input gets rows of zeros in front or behind; then so much more is cut there.
    """
    more, padding, less = [], [], []
    for front, back in zip(first, last):
        rows, spare = (front - back) // stride, (front - back) % stride
        before = max(-rows, -(front // stride), 0)
        more.append((before, before + rows))
        padding.append(front + stride * before)
        less.append(spare)
    if any(any(pair) for pair in more):
        x = F.pad(x, (*more[1], *more[0]))
    return F.conv_transpose2d(x, weight, bias, stride, padding, less, groups)
