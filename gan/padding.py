"""How a same-size layer pads: k - s pixels per axis, an odd one towards four corners. The rule and its source: gan.kernels.

This is the definition, as plain as can be. Layers call gan.fast_padding, which computes the same sooner.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

# Where each channel group has the left-over pixel: (above, left of) the picture. The order is that of the paper's authors.
CORNERS = ((False, False), (True, True), (False, True), (True, False))


def same_padding(size: int, stride: int = 1, dilation: int = 1) -> tuple[int, int]:
    """What a same-size layer pads on the two sides of an axis, the smaller amount first: k - s in total, equal if k - s is even."""
    total = dilation * (size - 1) + 1 - stride
    return total // 2, total - total // 2


def group_sizes(channels: int) -> list[int]:
    """Four channel groups as equal as can be; when channels % 4 != 0, the first ones take one channel more, as the authors do."""
    return [channels // 4 + (group < channels % 4) for group in range(4)]


def interleaves(channels: int, groups: int) -> bool:
    """Whether each group of a convolution has channels enough for four corners of its own."""
    return groups > 1 and channels // groups >= 4


def sides(corner: tuple[bool, bool], small: int, large: int) -> tuple[int, int, int, int]:
    """Pads (left, right, top, bottom) of the group whose left-over pixel lies in this corner."""
    above, left = corner
    left_right = (large, small) if left else (small, large)
    top_bottom = (large, small) if above else (small, large)
    return *left_right, *top_bottom


def pad_corners(x: Tensor, small: int, large: int, groups: int = 1) -> Tensor:
    """Zero-pad (N, C, H, W) to (N, C, H + small + large, W + small + large), each quarter of the channels towards its own corner.

    Negative amounts crop (k = 1 at stride 2). groups: of the convolution that follows. Where each has four channels or more, it has
    four quarters of its own: those of all channels together would leave a convolution group in one corner.
    """
    if interleaves(x.shape[1], groups):
        return torch.cat([pad_corners(own, small, large) for own in x.chunk(groups, dim=1)], dim=1)
    quarters = x.split(group_sizes(x.shape[1]), dim=1)
    return torch.cat([F.pad(quarter, sides(corner, small, large)) for quarter, corner in zip(quarters, CORNERS)], dim=1)


def pad_one_side(x: Tensor, small: int, large: int) -> Tensor:
    """Zero-pad (N, C, H, W): `small` above and to the left, `large` below and to the right."""
    return F.pad(x, (small, large, small, large))
