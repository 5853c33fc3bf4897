"""The uncertainty of a Fréchet distance, and its extrapolation to infinitely many images.

Sources: McCarthy, "Pseudo-replication: half samples", Review of the International Statistical Institute 1969; Chong and Forsyth,
"Effectively unbiased FID and Inception Score and where to find them", CVPR 2020 (arXiv 1911.07023).
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from metrics.frechet import Gaussian, Moments, as_features, fid, fit_gaussian, gaussian_distance, gaussian_of_moments
from metrics.score_table import Embedded, Value, register

# The real side: a Moments, a pair (mean, covariance), or (n, d) features.
Reference = Moments | tuple[Tensor | np.ndarray, Tensor | np.ndarray] | Tensor | np.ndarray


def _reference(real: Reference) -> Gaussian:
    if isinstance(real, Moments):
        real = real.mean, real.covariance
    return gaussian_of_moments(*real) if isinstance(real, tuple) else fit_gaussian(as_features(real))


class Interval(NamedTuple):
    """A confidence interval of a squared Fréchet distance."""

    low: float
    high: float
    std: float  # standard deviation of the distance over draws of as many images


def frechet_bootstrap(
    real: Reference, fake: Tensor | np.ndarray, rounds: int = 100, seed: int = 0, level: float = 0.95, both: bool = False
) -> Interval:
    """A bootstrap interval for the expected distance at this number of generated images.

    Every round scores a random half of the images of `fake`, (n, d), without replacement, and with both=True half of those of
    `real` too, which must then be features. Means of such halves vary as those of n fresh images do (McCarthy 1969, half-samples).
    Drawing n images with replacement, the usual bootstrap, repeats images, which takes rank from the covariance: with 64 features
    and 100 images its standard deviation comes out several times too large, that of halves nearly right.

    Distances of fewer images are biased upwards, so only their spread is used, reflected about the distance d of all images:
    d - (quantile - mean of the rounds). That is the basic interval without its correction for bias: the bias at n images is part
    of the score that is usually quoted; to remove it, see frechet_infinity. The interval doesn't cover other training seeds.

    The real side's factor is computed once; a round costs less than a distance. ValueError for rounds < 2, a level outside (0, 1),
    fewer than 4 images, both=True without features, and everything as_features refuses.
    """
    if rounds < 2 or not 0 < level < 1:
        raise ValueError(f"a bootstrap needs at least 2 rounds and a level between 0 and 1, not {rounds} and {level}")
    images = None if not both or isinstance(real, Moments | tuple) else as_features(real)
    if both and images is None:
        raise ValueError("both=True draws from the real images too: pass their features instead of their moments")
    fixed = _reference(real)
    fake = as_features(fake, len(fixed.mean))
    measured = gaussian_distance(fixed, fit_gaussian(fake))
    generator = torch.Generator().manual_seed(seed)
    distances = torch.empty(rounds, dtype=torch.float64)
    for i in range(rounds):
        drawn = fit_gaussian(_half(fake, generator))
        distances[i] = gaussian_distance(fixed if images is None else fit_gaussian(_half(images, generator)), drawn)
    tails = torch.tensor([(1 + level) / 2, (1 - level) / 2], dtype=torch.float64)
    low, high = (measured - (distances.quantile(tails) - distances.mean())).clamp(min=0).tolist()
    return Interval(low, high, distances.std().item())


@register("interval", features="generated")
def interval(real: Embedded, generated: Embedded, seed: int) -> list[Value]:
    """The distance, as `fid` gives it, with its interval over generated images; the real ones are taken as they are."""
    (distance,) = fid(real, generated, seed)
    found = frechet_bootstrap(real.moments, generated.features, seed=seed)
    return [distance._replace(spread=found.std, spread_of="generated images", interval=(found.low, found.high))]


def _half(features: Tensor, generator: torch.Generator) -> Tensor:
    if len(features) < 4:
        raise ValueError(f"half of {len(features)} images have no covariance: a bootstrap needs at least 4")
    return _subset(features, len(features) // 2, generator)


def _subset(features: Tensor, size: int, generator: torch.Generator) -> Tensor:
    return features[torch.randperm(len(features), generator=generator)[:size]]


class Extrapolation(NamedTuple):
    """A squared Fréchet distance extrapolated to infinitely many images."""

    value: float
    error: float  # standard error of the fit


def frechet_infinity(
    real: Reference, fake: Tensor | np.ndarray, seed: int = 0, points: int = 15, smallest: int | None = None
) -> Extrapolation:
    """The distance for infinitely many generated images: FID is nearly linear in 1/N, and this is its value at 1/N = 0.

    Chong and Forsyth 2020, section 3: `points` subsets of `fake`, (n, d), drawn without replacement, their sizes evenly spaced from
    `smallest` to n, and a least-squares line. Default for smallest: n / 10, as in the paper, but at least 2 d, below which the line
    bends (the covariance loses rank) and the value falls too low or below 0. With n < 4 d that can't be had, n / 2 is taken, and
    the value should not be trusted unless few directions carry the features. The real side stays as it is, with the bias of its
    own number of images. The error is that of the fit alone: subsets share images, so what frechet_bootstrap says comes on top.

    ValueError for points < 3 and for a smallest below 2 or not below n.
    """
    fixed = _reference(real)
    fake = as_features(fake, len(fixed.mean))
    n, d = fake.shape
    if smallest is None:
        smallest = max(n // 10, min(2 * d, n // 2))
    if points < 3 or not 2 <= smallest < n:
        raise ValueError(
            f"extrapolation needs at least 3 points between 2 and all {n} images, not {points} from {smallest} on: score more"
        )
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.linspace(smallest, n, points, dtype=torch.float64).round()
    distances = [gaussian_distance(fixed, fit_gaussian(_subset(fake, int(size), generator))) for size in sizes]
    distances = torch.tensor(distances, dtype=torch.float64)
    line = torch.stack([torch.ones_like(sizes), 1 / sizes], dim=1)
    inverse = torch.linalg.pinv(line)  # (2, points)
    fit = inverse @ distances
    variance = (distances - line @ fit).square().sum() / (points - 2)
    return Extrapolation(fit[0].item(), (variance * inverse[0].square().sum()).sqrt().item())


@register("infinity", features="generated")
def infinity(real: Embedded, generated: Embedded, seed: int) -> list[Value]:
    """The distance for infinitely many generated images; its spread is the error of the fit. Warns below 4 images per feature."""
    found = frechet_infinity(real.moments, generated.features, seed=seed)
    n, d = generated.features.shape
    few = f"{n:,} generated images are fewer than 4 times the {d:,} features: the extrapolation to endless images can't be trusted"
    warning = None if n >= 4 * d else f"{few}; score at least {4 * d:,}"
    return [Value("fid", found.value, found.error, "fit", suffix="_infinity", warning=warning)]
