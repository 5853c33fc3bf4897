"""Fidelity and diversity, measured separately: improved precision and recall, density and coverage.

Sources: Kynkäänniemi, Karras, Laine, Lehtinen, Aila, "Improved precision and recall metric for assessing generative models",
NeurIPS 2019 (arXiv 1904.06991), eq. 1-3; Naeem, Oh, Uh, Choi, Yoo, "Reliable fidelity and diversity metrics for generative models",
ICML 2020 (arXiv 2002.09797), eq. 3-4.

All four ask which images lie inside the ball around an image of the other set that reaches to its k-th nearest neighbour in its own
set, itself not counted. Balls include their border (eq. 1 of the former; the code of the latter leaves it out, which only matters
where distances are equal).

Numerical precision. |x - y|^2 = |x|^2 + |y|^2 - 2 x.y is fast, but cancels for near duplicates. So everything is in float64, and
where the result is below 1e-6 of |x|^2 + |y|^2, so that more than 6 digits are lost, the differences themselves are squared.
Duplicates have a distance of exactly 0, and every squared distance has a relative error of about 1e-9.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from metrics.frechet import as_features
from metrics.score_table import Embedded, Value, register

ENTRIES = 2**24  # of a block of distances or differences: 128 MiB of float64
CLOSE = 1e-6  # squared distances below this part of |x|^2 + |y|^2 are computed from differences
BORDER = 1 + 1e-8  # widens squared radii, so that rounding can't put an image on the border outside


class PrecisionRecall(NamedTuple):
    """Improved precision and recall, in [0, 1]. Kynkäänniemi et al. 2019."""

    precision: float  # part of the generated images inside a ball around a real one
    recall: float  # part of the real images inside a ball around a generated one


class DensityCoverage(NamedTuple):
    """Density (>= 0) and coverage (in [0, 1]). Naeem et al. 2020."""

    density: float  # balls around real images that a generated one lies in, on average, by k; can exceed 1
    coverage: float  # part of the real images with a generated one in their ball


def precision_recall(real: Tensor | np.ndarray, fake: Tensor | np.ndarray, k: int = 3) -> PrecisionRecall:
    """Improved precision and recall of (n, d) real and (m, d) generated features, in [0, 1].

    Memory: float64 copies of both and blocks of 128 MiB. ValueError for k < 1, fewer than k + 1 images, and unlike dims.
    """
    real, fake = _both(real, fake)
    real_radii, fake_radii = squared_radii(real, k, "real"), squared_radii(fake, k, "generated")
    precise = torch.zeros(len(fake), dtype=torch.bool)
    recalled = torch.zeros(len(real), dtype=torch.bool)
    for rows in _blocks(len(real), len(fake)):
        distances = squared_distances(real[rows], fake)
        precise |= (distances <= real_radii[rows, None]).any(dim=0)
        recalled[rows] = (distances <= fake_radii).any(dim=1)
    return PrecisionRecall(precise.double().mean().item(), recalled.double().mean().item())


def density_coverage(real: Tensor | np.ndarray, fake: Tensor | np.ndarray, k: int = 5) -> DensityCoverage:
    """Density (>= 0) and coverage (in [0, 1]) of (n, d) real and (m, d) generated features.

    Memory as precision_recall. ValueError for k < 1, fewer than k + 1 real images or no generated one, and unlike dims.
    """
    real, fake = _both(real, fake)
    radii = squared_radii(real, k, "real")
    if not len(fake):
        raise ValueError("density and coverage need at least 1 generated image: generate some")
    pairs, covered = 0, 0
    for rows in _blocks(len(real), len(fake)):
        inside = squared_distances(real[rows], fake) <= radii[rows, None]
        pairs += inside.sum().item()
        covered += inside.any(dim=1).sum().item()
    return DensityCoverage(pairs / (k * len(fake)), covered / len(real))


def squared_radii(x: Tensor, k: int, side: str) -> Tensor:
    """(n,): the squared distance of each row of (n, d) to its k-th nearest other row, a hair wider. side: a word for errors."""
    if k < 1 or len(x) < k + 1:
        raise ValueError(
            f"{k} nearest neighbours need k of at least 1 and at least {k + 1} {side} images, not {len(x)}: add images or lower k"
        )
    radii = torch.empty(len(x), dtype=torch.float64)
    for rows in _blocks(len(x), len(x)):
        distances = squared_distances(x[rows], x)
        distances.diagonal(offset=rows.start).fill_(torch.inf)  # an image is no neighbour of itself
        radii[rows] = distances.kthvalue(k, dim=1).values
    return radii * BORDER


def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """|x_i - y_j|^2 of (n, d) and (m, d) float64: (n, m), without the cancellation of the fast formula (see the top)."""
    scale = x.square().sum(dim=1)[:, None] + y.square().sum(dim=1)
    distances = scale.addmm(x, y.T, alpha=-2)
    close = distances < scale.mul_(CLOSE)
    if close.sum() > close.numel() / 20:  # a collapsed generator: gathering the pairs would cost more than all differences
        return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist").square_()
    for pairs in close.nonzero().split(max(1, ENTRIES // 4 // max(1, x.shape[1]))):
        i, j = pairs.unbind(dim=1)
        distances[i, j] = (x[i] - y[j]).square_().sum(dim=1)
    return distances


def _both(real: Tensor | np.ndarray, fake: Tensor | np.ndarray) -> tuple[Tensor, Tensor]:
    real = as_features(real)
    return real.double(), as_features(fake, real.shape[1]).double()


def _blocks(n: int, m: int) -> list[slice]:
    """Consecutive rows of an (n, m) matrix, such that no block has many more than ENTRIES entries."""
    length = max(1, ENTRIES // max(1, m))
    return [slice(start, min(start + length, n)) for start in range(0, n, length)]


# --- as scores ---------------------------------------------------------------------------------------------------------------


@register("pr", features=True)
def pr(real: Embedded, generated: Embedded, seed: int) -> list[Value]:
    found = precision_recall(real.features, generated.features)
    return [Value("precision", found.precision), Value("recall", found.recall)]


@register("dc", features=True)
def dc(real: Embedded, generated: Embedded, seed: int) -> list[Value]:
    found = density_coverage(real.features, generated.features)
    return [Value("density", found.density), Value("coverage", found.coverage)]
