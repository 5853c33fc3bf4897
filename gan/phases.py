"""Doubling fused with an even kernel, one output phase at a time: the four phases are the pixels of each 2×2 cell of the output.

Within a phase every channel group reads the input map at a few offsets. The reads are concatenated as channels and multiplied by
one matrix, so that each group has its own offsets at no cost: 2.25 multiply-adds per pixel for a 2×2 after nearest doubling, and 1
after zero insertion, with symmetric padding as without. Same result as gan.resampling's.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .fast_padding import memory_format_of
from .padding import Rule

PHASES = ((0, 0), (0, 1), (1, 0), (1, 1))  # row and column within the 2×2 cell


class Read(NamedTuple):
    """Where a group of channels reads the input map, and the kernel's taps that fall there."""

    channels: slice
    row: int  # relative to the input pixel that the cell stands for
    column: int
    rows: slice  # of the kernel: these taps are summed
    columns: slice


def phase_conv(x: Tensor, weight: Tensor, bias: Tensor | None, rule: Rule, upsampling: str) -> Tensor:
    """(N, C, H, W) -> (N, D, 2H, 2W): `upsampling` (nearest or unpool), then the same-size convolution with weight (D, C, k, k).

    rule: what that convolution pads, zeros only. Kernels up to 5, whose phases read no further than a pixel away.
    """
    reads = [phase_reads(phase, rule, weight.shape[-1], upsampling) for phase in PHASES]
    weights = [torch.cat([weight[:, r.channels, r.rows, r.columns].sum((2, 3)) for r in phase], dim=1) for phase in reads]
    weights = [w[:, :, None, None] for w in weights]
    if torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
        x, weights, bias = x.to(dtype), [w.to(dtype) for w in weights], None if bias is None else bias.to(dtype)
    return _Phases.apply(x, bias, reads, *weights)


def phase_reads(phase: tuple[int, int], rule: Rule, k: int, upsampling: str) -> list[Read]:
    """The reads of one phase (row, column) for a kernel of k, group by group."""
    reads, first = [], 0
    for size, (above, left) in rule.groups:
        group, first = slice(first, first + size), first + size
        for row, rows in _taps(phase[0], rule.large if above else rule.small, k, upsampling).items():
            for column, columns in _taps(phase[1], rule.large if left else rule.small, k, upsampling).items():
                reads.append(Read(group, row, column, rows, columns))
    return reads


def _taps(phase: int, before: int, k: int, upsampling: str) -> dict[int, slice]:
    """{input pixel: the taps that fall on it} along one axis, where `before` pixels are padded at its start."""
    taps: dict[int, list[int]] = {}
    for tap in range(k):
        pixel, odd = divmod(phase - before + tap, 2)
        if upsampling == "nearest" or not odd:  # in between, zeros were inserted
            taps.setdefault(pixel, []).append(tap)
    return {pixel: slice(found[0], found[-1] + 1) for pixel, found in taps.items()}


class _Phases(torch.autograd.Function):
    """Saves only the input map for backward, and concatenates the reads again there. Derivatives of any order work."""

    @staticmethod
    def forward(x: Tensor, bias: Tensor | None, reads: list[list[Read]], *weights: Tensor) -> Tensor:
        n, _, h, w = x.shape
        shape = (n, len(weights[0]), 2 * h, 2 * w)
        y = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=memory_format_of(x))
        padded = F.pad(x, (1, 1, 1, 1))
        for (row, column), phase, weight in zip(PHASES, reads, weights):
            y[:, :, row::2, column::2] = F.conv2d(_side_by_side(padded, phase), weight, bias)
        return y

    @staticmethod
    def setup_context(ctx, inputs, output):
        x, bias, ctx.reads, *weights = inputs
        ctx.biased = bias is not None
        ctx.save_for_backward(x, *weights)

    @staticmethod
    def backward(ctx, *grads: Tensor):
        x, *weights = ctx.saved_tensors
        (grad,), mask = grads, ctx.needs_input_grad
        padded = F.pad(x, (1, 1, 1, 1))
        grad_padded = torch.zeros_like(padded) if mask[0] else None
        grad_weights = []
        for (row, column), phase, weight in zip(PHASES, ctx.reads, weights):
            part = grad[:, :, row::2, column::2].contiguous(memory_format=memory_format_of(grad))
            grad_read, grad_weight, _ = torch.ops.aten.convolution_backward(
                part,
                _side_by_side(padded, phase),
                weight,
                None,
                [1, 1],
                [0, 0],
                [1, 1],
                False,
                [0, 0],
                1,
                [mask[0], mask[3], False],
            )
            grad_weights.append(grad_weight)
            if grad_padded is not None:
                for read, piece in zip(phase, grad_read.split([_count(read) for read in phase], dim=1)):
                    _window(grad_padded, read).add_(piece)
        grad_x = None if grad_padded is None else grad_padded[:, :, 1:-1, 1:-1]
        return grad_x, grad.sum((0, 2, 3)) if ctx.biased and mask[1] else None, None, *grad_weights


def _side_by_side(padded: Tensor, reads: list[Read]) -> Tensor:
    return torch.cat([_window(padded, read) for read in reads], dim=1)


def _window(padded: Tensor, read: Read) -> Tensor:
    """What is read of a map (N, C, H + 2, W + 2) that has one row and column of zeros around it: (N, channels, H, W)."""
    top, left = 1 + read.row, 1 + read.column
    return padded[:, read.channels, top : top + padded.shape[2] - 2, left : left + padded.shape[3] - 2]


def _count(read: Read) -> int:
    return read.channels.stop - read.channels.start
