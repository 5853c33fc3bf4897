"""The kernel distance between two sets of features: KID, when the 2015 Inception network made them.

Source: Bińkowski, Sutherland, Arbel, Gretton, "Demystifying MMD GANs", ICLR 2018 (arXiv 1801.01401), section 4 and eq. 4: the
unbiased estimate of the squared maximum mean discrepancy under k(x, y) = (x.y / d + 1)^3, averaged over subsets.
"""

import numpy as np
import torch
from torch import Tensor

from metrics.frechet import as_features
from metrics.score_table import Embedded, Value, register


def kernel_distance(
    a: Tensor | np.ndarray, b: Tensor | np.ndarray, subsets: int = 100, size: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """(mean, standard deviation with ddof 0) over `subsets` of the MMD^2 between `size` images of a, (n, d), and of b, (m, d).

    Subsets are drawn without replacement, seeded. The mean is unbiased: for sets of one distribution it is about 0, of either sign.
    The deviation is that of a single subset, not the error of the mean, nor the deviation between training seeds.

    ValueError if size is below 2 or above the number of images on either side, for subsets < 1, and for features of unlike dim.
    """
    a = as_features(a)
    b = as_features(b, a.shape[1])
    if subsets < 1 or size < 2:
        raise ValueError(f"the kernel distance needs at least 1 subset of at least 2 images, not {subsets} of {size}")
    if size > min(len(a), len(b)):
        raise ValueError(
            f"subsets of {size} images can't be drawn from {len(a)} and {len(b)}: score more images or pass a smaller size"
        )
    generator = torch.Generator().manual_seed(seed)
    values = torch.empty(subsets, dtype=torch.float64)
    for i in range(subsets):
        x = a[torch.randperm(len(a), generator=generator)[:size]].double()
        y = b[torch.randperm(len(b), generator=generator)[:size]].double()
        values[i] = squared_mmd(x, y)
    return values.mean().item(), values.std(correction=0).item()


def cubic_kernel(x: Tensor, y: Tensor) -> Tensor:
    """(x.y / d + 1)^3 of (n, d) and (m, d): (n, m)."""
    return torch.mm(x, y.T).div_(x.shape[1]).add_(1).pow_(3)


def squared_mmd(x: Tensor, y: Tensor) -> Tensor:
    """The unbiased estimate of MMD^2 between (n, d) and (m, d), a scalar: means of k over pairs of different images.

    In float64, since three numbers of 1 or much more cancel to 1e-3 or less.
    """
    n, m = len(x), len(y)
    within_x = (cubic_kernel(x, x).fill_diagonal_(0)).sum() / (n * (n - 1))
    within_y = (cubic_kernel(y, y).fill_diagonal_(0)).sum() / (m * (m - 1))
    return within_x + within_y - 2 * cubic_kernel(x, y).mean()


@register("kid", features=True)
def kid(real: Embedded, generated: Embedded, seed: int) -> list[Value]:
    """The kernel distance in subsets of 1,000 images, or of as many as the smaller side has."""
    size = min(1000, len(real.features), len(generated.features))
    mean, spread = kernel_distance(real.features, generated.features, size=size, seed=seed)
    return [Value("kid", mean, spread, f"subsets of {size}")]
