"""How a same-size layer pads: k - s pixels per axis, an odd one towards four corners. The rule and its source: gan.kernels.

This is the definition, as simple as possible. Layers call gan.fast_padding, which computes the same faster.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

PADDINGS = ("zeros", "reflect", "replicate", "circular")  # how a map goes on beyond its border; names and meaning as in torch
Corner = tuple[bool, bool]  # (above, left of) the picture

# Where each channel group has the left-over pixel, in the order of the authors' code: the second and fourth are opposite to the
# one before.
CORNERS: tuple[Corner, ...] = ((False, False), (True, True), (False, True), (True, False))
BELOW_RIGHT, ABOVE_LEFT = CORNERS[:2]


class Rule(NamedTuple):
    """What is padded around the maps of a layer's input: `small` on one side of an axis, `large` on the other."""

    small: int
    large: int
    groups: tuple[tuple[int, Corner], ...]  # consecutive groups: (number of channels, the corner where their larger sides meet)
    mode: str = "zeros"  # one of PADDINGS


def recorded() -> bool:
    """Whether torch.jit.trace, also within the ONNX exporter, is recording: then no map size may be taken for a constant."""
    return torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]


def same_padding(size: int, stride: int = 1, dilation: int = 1) -> tuple[int, int]:
    """What a same-size layer pads on the two sides of an axis, the smaller amount first: k - s in total, equal if k - s is even."""
    total = dilation * (size - 1) + 1 - stride
    return total // 2, total - total // 2


def group_sizes(channels: int) -> list[int]:
    """Sizes of four channel groups, as equal as possible: the first channels % 4 have one more, as in the authors' code."""
    return [channels // 4 + (group < channels % 4) for group in range(4)]


def towards(corners: tuple[Corner, ...], channels: int, groups: int = 1) -> tuple[tuple[int, Corner], ...]:
    """The groups of a rule: all channels towards one corner, or a quarter of them towards each of four.

    groups: of the convolution that follows. If each has at least four channels, each is quartered by itself: quarters of all
    channels together would give whole convolution groups one corner.
    """
    if len(corners) == 1:
        return ((channels, corners[0]),)
    own = groups if channels // groups >= 4 else 1
    return tuple(zip(group_sizes(channels // own), corners)) * own


def _groups(rule: Rule) -> list[tuple[int, Corner]]:
    """Without those of no channel, as fewer than four leave them: torch.cat gives a contiguous map where one is empty."""
    return [group for group in rule.groups if group[0]] or list(rule.groups)


def sides(corner: Corner, small: int, large: int) -> tuple[int, int, int, int]:
    """Pads (left, right, top, bottom) of the group whose left-over pixel lies in this corner."""
    above, left = corner
    left_right = (large, small) if left else (small, large)
    top_bottom = (large, small) if above else (small, large)
    return *left_right, *top_bottom


def pad(x: Tensor, rule: Rule, far: tuple[int, int] = (0, 0)) -> Tensor:
    """Pad (..., C, H, W) to (..., C, H + small + large, W + small + large), each group of channels towards its own corner.

    far: additional rows below and columns to the right. Negative amounts crop (k = 1 at stride 2).
    """
    padded, first, groups = [], 0, _groups(rule)
    for channels, corner in groups:
        left, right, top, bottom = sides(corner, rule.small, rule.large)
        # All channels stay x itself: the derivative of a view of it would leave channels_last, which slows the layers before it.
        group, first = x if len(groups) == 1 else x.narrow(-3, first, channels), first + channels
        padded.append(extend(group, (left, right + far[1], top, bottom + far[0]), rule.mode))
    return padded[0] if len(padded) == 1 else torch.cat(padded, dim=-3)


def extend(x: Tensor, amounts: tuple[int, int, int, int], mode: str) -> Tensor:
    """(..., H, W) padded by amounts = (left, right, top, bottom) pixels, by one of PADDINGS. Negative amounts crop.

    Unlike torch's, derivatives are deterministic on CUDA too, and the amounts may exceed the map, which is then reflected or
    repeated several times, as numpy.pad does it.
    """
    if mode == "zeros":
        return F.pad(x, amounts)
    left, right, top, bottom = amounts
    return _extend_axis(_extend_axis(x, -2, top, bottom, mode), -1, left, right, mode)


def _extend_axis(x: Tensor, axis: int, before: int, behind: int, mode: str) -> Tensor:
    """Pad one axis by concatenating single rows or columns: slices and torch.cat have deterministic derivatives on every device."""
    if before < 0 or behind < 0:
        x = _slice(x, axis, max(-before, 0), x.shape[axis] - max(-behind, 0))
    size = 2**30 if recorded() else x.shape[axis]  # a trace may meet maps of other sizes
    first = [_inside(j, size, mode) for j in range(before, 0, -1)]
    last = [_inside(j, size, mode) for j in range(1, behind + 1)]
    if mode == "circular":  # beyond one border lies what is inside the other
        first = [-1 - i for i in first]
    else:
        last = [-1 - i for i in last]
    parts = [*(_slice(x, axis, i, i + 1) for i in first), x, *(_slice(x, axis, i, i + 1) for i in last)]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=axis)


def fold(padded: Tensor, rule: Rule) -> Tensor:
    """The adjoint of `pad` for modes other than zeros: (N, C, H + small + large, W + small + large) -> (N, C, H, W).

    What lies beyond a border is added to the pixels that it repeats.
    """
    folded = []
    groups = _groups(rule)
    for group, (_, corner) in zip(padded.split([channels for channels, _ in groups], dim=1), groups):
        left, right, top, bottom = sides(corner, rule.small, rule.large)
        folded.append(_fold_axis(_fold_axis(group, -1, left, right, rule.mode), -2, top, bottom, rule.mode))
    return folded[0] if len(folded) == 1 else torch.cat(folded, dim=1)


def _fold_axis(x: Tensor, axis: int, before: int, behind: int, mode: str) -> Tensor:
    size = x.shape[axis] - before - behind
    first = [_inside(j, size, mode) for j in range(1, before + 1)]
    last = [_inside(j, size, mode) for j in range(1, behind + 1)]
    if mode == "circular":
        first = [size - 1 - i for i in first]
    else:
        last = [size - 1 - i for i in last]
    inside = x.narrow(axis, before, size).clone()
    for j, i in enumerate(first, 1):
        inside.select(axis, i).add_(x.select(axis, before - j))
    for j, i in enumerate(last, 1):
        inside.select(axis, i).add_(x.select(axis, before + size + j - 1))
    return inside


def _slice(x: Tensor, axis: int, start: int, end: int) -> Tensor:
    """Rows (axis -2) or columns (-1) from start to end; both may be counted from the far border, where 0 is the end."""
    which = slice(start, None if start < 0 and end == 0 else end)
    return x[..., which, :] if axis == -2 else x[..., which]


def _inside(j: int, size: int, mode: str) -> int:
    """The distance from a border, inside a map of `size` pixels, of the pixel that is repeated j = 1, 2, ... pixels beyond it."""
    if mode == "replicate":
        return 0
    if mode == "circular":
        return (j - 1) % size
    last = size - 1
    return last - abs(last - j % max(2 * last, 1))
