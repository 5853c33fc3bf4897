"""Does a generator copy its training images? Distances to the nearest of them, compared with those of held-out real images.

Sources: Meehan, Chaudhuri, Dasgupta, "A non-parametric test to detect data-copying in generative models", AISTATS 2020
(arXiv 2004.05675): the statistic U / (m n), the chance that a sample lies closer to the training set than a held-out image does;
Mann and Whitney 1947 for its spread under the null.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from metrics.frechet import as_features
from metrics.prdc import squared_distances

ROWS = 512  # at once


class Nearest(NamedTuple):
    """The nearest neighbours of n images in another set."""

    distances: Tensor  # (n, k) float64, Euclidean, nearest first
    indices: Tensor  # (n, k) int64, rows of the other set


class Memorisation(NamedTuple):
    """share: the chance that a sample lies closer to a training image than a held-out real image does; ties count half.

    0.5 if samples are distributed as real images are; above `high`, closer than by chance. Bad samples lie far from everything and
    so hide copies in `share`. Hence `closest`: the share of samples that are closer than 99 % of the held-out images, 0.01 if
    nothing is copied.
    """

    share: float
    low: float  # to high: the 95 % range of `share` by chance, if nothing is copied
    high: float
    closest: float
    closest_high: float  # the 97.5 % quantile of `closest` by chance, if nothing is copied


def nearest(x: Tensor | np.ndarray, others: Tensor | np.ndarray, k: int = 1, own: bool = False) -> Nearest:
    """The k nearest of `others`, (m, d), to each row of x, (n, d). own: x is `others`, and no row is its own neighbour.

    ValueError if there are fewer than k others.
    """
    x, others = as_features(x).double(), as_features(others).double()
    if not 1 <= k <= len(others) - own:
        raise ValueError(f"{k} nearest images need at least {k + own} images to look among, not {len(others)}: add images")
    found = []
    for first in range(0, len(x), ROWS):
        distances = squared_distances(x[first : first + ROWS], others)
        if own:
            distances.diagonal(offset=first).fill_(torch.inf)
        found.append(distances.topk(k, dim=1, largest=False))
    return Nearest(torch.cat([f.values for f in found]).sqrt(), torch.cat([f.indices for f in found]))


def memorisation_of(samples: Tensor, held_out: Tensor, tail: float = 0.01) -> Memorisation:
    """From the distances of n samples and m held-out real images to their nearest training image, (n,) and (m,).

    ValueError below 2 of either.
    """
    n, m = len(samples), len(held_out)
    if min(n, m) < 2:
        raise ValueError(f"memorisation needs at least 2 samples and 2 held-out images, not {n} and {m}: take more")
    ordered = held_out.sort().values
    samples = samples.contiguous()
    below = torch.searchsorted(ordered, samples, side="left").double()  # held-out distances smaller than a sample's
    upto = torch.searchsorted(ordered, samples, side="right").double()
    share = 1 - float((below + upto).mean()) / (2 * m)
    spread = 1.96 * math.sqrt((n + m + 1) / (12 * n * m))
    closest = float((samples < held_out.quantile(tail)).double().mean())
    high = tail + 1.96 * math.sqrt(tail * (1 - tail) * (1 / n + 1 / m))
    return Memorisation(share, max(0.0, 0.5 - spread), min(1.0, 0.5 + spread), closest, high)
