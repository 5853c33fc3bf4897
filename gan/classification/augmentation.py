"""Augmentation of a batch of training images: random crops, mirroring, cutout, mixup.

Every draw is a function of (seed, name, step), as in gan.randomness. Images are (N, H, W, 3) here: the memory of channels_last.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gan.randomness import derive, step_uniform


def whole_numbers(n: int, below: int, device: torch.device, *parts: int | str) -> Tensor:
    """Uniform integers 0 .. below - 1, (n,) int64."""
    return (step_uniform(n, 0, 1, device, *parts) * below).long().clamp(max=below - 1)  # a float can round up to `below`


def crop_and_mirror(x: Tensor, pad: int, mirror: bool, seed: int, step: int) -> Tensor:
    """Pad each image with `pad` zeros, crop it at random to its size, and mirror half of the images.

    x: (N, H, W, 3) float, zero being the mean colour. He et al. 2016: pad 4 on 32 pixels.
    """
    n, h, w, _ = x.shape
    rows, columns = (torch.arange(size, device=x.device).expand(n, size) for size in (h, w))
    if pad:
        x = F.pad(x, (0, 0, pad, pad, pad, pad))
        rows = rows + whole_numbers(n, 2 * pad + 1, x.device, seed, "top", step)[:, None]
        columns = columns + whole_numbers(n, 2 * pad + 1, x.device, seed, "left", step)[:, None]
    if mirror:
        turned = step_uniform(n, 0, 1, x.device, seed, "mirror", step) < 0.5
        columns = torch.where(turned[:, None], columns.flip(1), columns)
    image = torch.arange(n, device=x.device)
    return x[image[:, None, None], rows[:, :, None], columns[:, None, :]]


def cutout(x: Tensor, side: int, seed: int, step: int) -> Tensor:
    """Blank a square of `side` pixels around a random pixel of each (N, H, W, 3) image; it may reach over the border.

    DeVries & Taylor 2017, Improved Regularization of Convolutional Neural Networks with Cutout.
    """
    n, h, w, _ = x.shape

    def inside(size: int, name: str) -> Tensor:
        first = whole_numbers(n, size, x.device, seed, name, step)[:, None] - side // 2
        position = torch.arange(size, device=x.device)
        return (position >= first) & (position < first + side)

    hole = inside(h, "cutout row")[:, :, None] & inside(w, "cutout column")[:, None, :]
    return x.masked_fill(hole[..., None], 0)


def mixup_weight(alpha: float, seed: int, step: int) -> float:
    """The share of each image in its mixture with another one: Beta(alpha, alpha), one number a batch (Zhang et al. 2018)."""
    return float(np.random.default_rng(derive(seed, "mixup", step)).beta(alpha, alpha)) if alpha else 1.0
