"""Resampling by [1 3 3 1] spelled out: each axis by itself, zeros beyond the border. (N, C, H, W) in and out, any float dtype."""

import torch


def _at(row, i):
    return row[..., i] if 0 <= i < row.shape[-1] else torch.zeros_like(row[..., 0])


def _up(row):
    """Pixel 2i lies a quarter of a pixel before the centre of pixel i, pixel 2i + 1 a quarter behind it."""
    pixels = []
    for i in range(row.shape[-1]):
        pixels.append((_at(row, i - 1) + 3 * _at(row, i)) / 4)
        pixels.append((3 * _at(row, i) + _at(row, i + 1)) / 4)
    return torch.stack(pixels, -1)


def _down(row):
    taps = ((-1, 1), (0, 3), (1, 3), (2, 1))
    return torch.stack([sum(w * _at(row, 2 * i + d) for d, w in taps) / 8 for i in range(row.shape[-1] // 2)], -1)


def up(x):
    return _up(_up(x).mT).mT


def down(x):
    return _down(_down(x).mT).mT
