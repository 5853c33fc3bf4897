"""The Fréchet distance between Gaussians fitted to two sets of features: FID, when the 2015 Inception network made them.

Sources: Heusel, Ramsauer, Unterthiner, Nessler, Hochreiter, "GANs trained by a two time-scale update rule converge to a local
Nash equilibrium", NeurIPS 2017 (arXiv 1706.08500), eq. 6; Dowson and Landau, "The Fréchet distance between multivariate normal
distributions", J. Multivariate Analysis 1982; Chong and Forsyth, "Effectively unbiased FID and Inception Score and where to find
them", CVPR 2020 (arXiv 1911.07023).

    d^2 = |m1 - m2|^2 + tr S1 + tr S2 - 2 tr (S1 S2)^(1/2)

How. Write every covariance as S = F F^T. Then (S1 S2)^(1/2) has the eigenvalues that are the singular values of F1^T F2, and its
trace is their sum, the nuclear norm. F is the Cholesky factor where there is one; with fewer images than features it is simply the
centred features, transposed, and the problem is as small as the number of images (the Gram trick). No root of a matrix that is not
symmetric is ever taken: scipy.linalg.sqrtm is many times slower (benchmarks/fid.py) and has been wrong in several releases.
"""

from typing import NamedTuple

import numpy as np
import scipy.linalg
import torch
from torch import Tensor

EPSILON = torch.finfo(torch.float64).eps


def as_features(features: Tensor | np.ndarray, dim: int | None = None) -> Tensor:
    """The same numbers as an (n, d) tensor on the CPU, in their own dtype. No copy where none is needed.

    ValueError if they are not a matrix of d = dim columns (dim None: any), not floating point, or not all finite.
    """
    if isinstance(features, np.ndarray) and not features.flags.writeable:
        features = features.copy()  # torch warns of read-only memory, such as a memory-mapped file
    features = torch.as_tensor(features).detach().cpu()
    if features.dim() != 2 or not features.is_floating_point():
        raise ValueError(
            f"features must be a floating point matrix (images, dim), but are {features.dtype} of shape {tuple(features.shape)}"
        )
    if dim is not None and features.shape[1] != dim:
        raise ValueError(f"features have {features.shape[1]} columns instead of {dim}: score both sides with the same network")
    if not features.isfinite().all():
        raise ValueError("features hold NaN or infinity: look at the images and at the precision of the network")
    return features


class Moments:
    """Mean and covariance of a stream of features, in float64, in memory that does not grow with the number of images.

    Rows are gathered into blocks of fixed length, so the result does not depend, not even in the last bit, on how the stream was
    cut into batches, and the product that dominates is worth its call. A mean that is large against the spread costs no digits,
    since the first row is subtracted from all; nor does a drift, since blocks are merged by their means and scatters (Chan, Golub,
    LeVeque 1979, eq. 2.1), where merging alone would still difference two large means.
    """

    BLOCK = 512  # rows; fewer are as fast on one thread, but slower on two

    def __init__(self, dim: int):
        self.dim = dim
        self.count = 0  # images so far
        self._merged = 0  # of which merged; the others wait in the block
        self._origin: Tensor | None = None  # (dim,): the first row; all below is relative to it
        self._mean = torch.zeros(dim, dtype=torch.float64)
        self._scatter = torch.zeros(dim, dim, dtype=torch.float64)  # sum of (x - mean)(x - mean)^T
        self._block = torch.empty(self.BLOCK, dim, dtype=torch.float64)

    def update(self, features: Tensor | np.ndarray) -> None:
        """Add (n, dim) features of any floating point dtype. A ValueError (see as_features) leaves everything as it was."""
        features = as_features(features, self.dim)
        if self._origin is None and len(features):
            self._origin = features[0].to(torch.float64, copy=True)  # the caller may reuse the batch's memory
        while len(features):
            start = self.count - self._merged
            taken, features = features[: self.BLOCK - start], features[self.BLOCK - start :]
            torch.sub(taken.double(), self._origin, out=self._block[start : start + len(taken)])
            self.count += len(taken)
            if self.count - self._merged == self.BLOCK:
                self._mean, self._scatter = self._merge(self._scatter)
                self._merged = self.count

    @property
    def mean(self) -> Tensor:
        """(dim,) float64. ValueError without images."""
        if self.count < 1:
            raise ValueError("a mean needs at least 1 image: call update first")
        waiting = self._block[: self.count - self._merged]
        return self._origin + (self._mean + (waiting - self._mean).sum(dim=0) / self.count)

    @property
    def covariance(self) -> Tensor:
        """(dim, dim) float64, symmetric, divided by count - 1. ValueError below 2 images."""
        if self.count < 2:
            raise ValueError(f"a covariance needs at least 2 images, not {self.count}: call update with more")
        _, scatter = self._merge(self._scatter.clone())
        return (scatter + scatter.T) / (2 * (self.count - 1))

    def _merge(self, scatter: Tensor) -> tuple[Tensor, Tensor]:
        """Relative mean and scatter of everything, waiting rows too; writes into `scatter`, that of the merged images."""
        waiting = self._block[: self.count - self._merged]
        if not len(waiting):
            return self._mean, scatter
        centre = waiting.mean(dim=0)
        rows, delta, share = waiting - centre, centre - self._mean, len(waiting) / self.count
        scatter.addmm_(rows.T, rows).addr_(delta, delta, alpha=self._merged * share)
        return self._mean + delta * share, scatter


# --- the distance ------------------------------------------------------------------------------------------------------------


class Gaussian(NamedTuple):
    """A normal distribution with covariance S = root root^T."""

    mean: Tensor  # (d,) float64
    root: Tensor  # (d, r) float64, any r


def frechet_distance(
    mean1: Tensor | np.ndarray, cov1: Tensor | np.ndarray, mean2: Tensor | np.ndarray, cov2: Tensor | np.ndarray
) -> float:
    """The squared Fréchet distance, >= 0, between normal distributions with (d,) means and (d, d) covariances, singular or not.

    ValueError for unlike or wrong shapes, NaN or infinity, and covariances that are not symmetric or not positive semi-definite.
    """
    return _distance(_from_moments(mean1, cov1), _from_moments(mean2, cov2))


def frechet_from_features(a: Tensor | np.ndarray, b: Tensor | np.ndarray) -> float:
    """The squared Fréchet distance between the Gaussians fitted to (n, d) and (m, d) features, at least 2 images each.

    What frechet_distance gives for their means and covariances, and faster where n or m is below d. Takes one float64 copy.
    """
    a = as_features(a)
    return _distance(_fit(a), _fit(as_features(b, a.shape[1])))


def trace_sqrt_product(S1: Tensor | np.ndarray, S2: Tensor | np.ndarray) -> float:
    """tr (S1 S2)^(1/2) of two symmetric, positive semi-definite (d, d) matrices. ValueErrors as in frechet_distance."""
    S1, S2 = _square(S1), _square(S2)
    if S1.shape != S2.shape:
        raise ValueError(f"the covariances are of {len(S1)} and of {len(S2)} features: score both sides with the same network")
    return nuclear_norm(square_root(S1).T @ square_root(S2))


def square_root(S: Tensor) -> Tensor:
    """F, (d, r), with F F^T = S for a symmetric, positive semi-definite (d, d) float64 matrix; r is its numerical rank.

    Cholesky's factor where there is one. A singular matrix has none, and one with pivots that are mere rounding has a wrong one:
    then eigenvectors times the roots of their eigenvalues, without those up to d * epsilon * the largest (they are noise, whose
    root is 1e-8, and 2,000 of them would show). ValueError for an eigenvalue below -1e-6 * the largest.
    """
    L, failed = torch.linalg.cholesky_ex(S)
    pivots, noise = L.diagonal().square(), len(S) * EPSILON
    if not failed and pivots.min() > noise * pivots.max():
        return L
    eigenvalues, vectors = _eigh(S)
    largest = eigenvalues.abs().max()
    if eigenvalues[0] < -1e-6 * largest:
        raise ValueError(
            f"not a covariance: its eigenvalues go from {eigenvalues[0]:.3g} to {eigenvalues[-1]:.3g}; compute it in float64"
        )
    kept = eigenvalues > noise * largest
    return vectors[:, kept] * eigenvalues[kept].sqrt()


def _eigh(S: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues and eigenvectors of a symmetric matrix, also where divide and conquer gives up (many equal eigenvalues)."""
    try:
        return torch.linalg.eigh(S)
    except torch.linalg.LinAlgError:
        values, vectors = scipy.linalg.eigh(S.numpy(), driver="ev")  # QR iteration: slower, and it converges
        return torch.from_numpy(values), torch.from_numpy(vectors)


def nuclear_norm(P: Tensor) -> float:
    """The sum of the singular values of a float64 matrix, to about 1e-7 of itself.

    They are the roots of the eigenvalues of the smaller of P P^T and P^T P, faster to get. But those are off by about
    epsilon * the largest, which is nothing beside a large one and everything beside one near 0. Where that would show in the sum,
    take the singular values themselves.
    """
    if not P.numel():
        return 0.0
    P = P if P.shape[0] <= P.shape[1] else P.T
    eigenvalues = torch.linalg.eigvalsh(P @ P.T).clamp(min=0)
    values, error = eigenvalues.sqrt(), EPSILON * eigenvalues[-1]
    doubt = (error / (values + error.sqrt())).sum()  # what adding `error` to x adds to its root, or nearly
    if doubt > 1e-7 * values.sum():
        values = torch.linalg.svdvals(P)
    return values.sum().item()


def _distance(a: Gaussian, b: Gaussian) -> float:
    if len(a.mean) != len(b.mean):
        raise ValueError(f"the two sides have {len(a.mean)} and {len(b.mean)} features: score both with the same network")
    traces = a.root.square().sum() + b.root.square().sum()
    squared = (a.mean - b.mean).square().sum() + traces - 2 * nuclear_norm(a.root.T @ b.root)
    # |A^T B|_* <= |A| |B| <= (|A|^2 + |B|^2) / 2, so only rounding can bring this below zero.
    return max(0.0, squared.item())


def _fit(features: Tensor) -> Gaussian:
    """The Gaussian of (n, d) features."""
    n, d = features.shape
    if n < 2:
        raise ValueError(f"a covariance needs at least 2 images, not {n}: score more")
    rows = features.to(torch.float64, copy=True)
    mean = rows.mean(dim=0)
    rows.sub_(mean).div_((n - 1) ** 0.5)
    return Gaussian(mean, rows.T if n < d else square_root(rows.T @ rows))


def _from_moments(mean: Tensor | np.ndarray, covariance: Tensor | np.ndarray) -> Gaussian:
    mean, S = torch.as_tensor(mean).detach().cpu().double(), _square(covariance)
    if mean.shape != (len(S),):
        raise ValueError(f"a mean of shape {tuple(mean.shape)} does not go with a covariance of shape {tuple(S.shape)}")
    if not mean.isfinite().all():
        raise ValueError("the mean holds NaN or infinity: look at the features it was computed from")
    return Gaussian(mean, square_root(S))


def _square(S: Tensor | np.ndarray) -> Tensor:
    """A covariance as a float64 tensor, checked for everything but its eigenvalues."""
    S = torch.as_tensor(S).detach().cpu().double()
    if S.dim() != 2 or len(S) != S.shape[1] or not len(S):
        raise ValueError(f"a covariance is a square matrix, but this has shape {tuple(S.shape)}")
    if not S.isfinite().all():
        raise ValueError("the covariance holds NaN or infinity: look at the features it was computed from")
    if (S - S.T).abs().max() > 1e-6 * S.abs().max():
        raise ValueError("the covariance is not symmetric: pass that of one set of features")
    return S


# --- how sure, and with endless images ---------------------------------------------------------------------------------------

# The real side: a Moments, a pair (mean, covariance), or (n, d) features.
Reference = Moments | tuple[Tensor | np.ndarray, Tensor | np.ndarray] | Tensor | np.ndarray


def _reference(real: Reference) -> Gaussian:
    if isinstance(real, Moments):
        real = real.mean, real.covariance
    return _from_moments(*real) if isinstance(real, tuple) else _fit(as_features(real))


class Interval(NamedTuple):
    low: float
    high: float
    std: float  # standard deviation of the distance over draws of as many images


def frechet_bootstrap(
    real: Reference, fake: Tensor | np.ndarray, rounds: int = 100, seed: int = 0, level: float = 0.95, both: bool = False
) -> Interval:
    """How far the distance moves with the images drawn: a bootstrap interval for its expectation at this number of images.

    Every round scores a random half of the images of `fake`, (n, d), without replacement, and with both=True half of those of
    `real` too, which must then be features. Means of such halves vary as those of n fresh images do (McCarthy 1969, half-samples).
    Drawing n images with replacement, the usual bootstrap, repeats images, which takes rank from the covariance: with 64 features
    and 100 images its standard deviation comes out several times too large, that of halves nearly right.

    Distances of fewer images lie too high, so only their spread is used, reflected about the distance d measured on all images:
    d - (quantile - mean of the rounds). That is the basic interval without its correction for bias: the bias at n images is part
    of the score everybody quotes; to remove it, see frechet_infinity. Nothing is said about other training seeds.

    The real side's factor is computed once; a round costs less than a distance. ValueError for rounds < 2, a level outside (0, 1),
    fewer than 4 images, both=True without features, and everything as_features refuses.
    """
    if rounds < 2 or not 0 < level < 1:
        raise ValueError(f"a bootstrap needs at least 2 rounds and a level between 0 and 1, not {rounds} and {level}")
    if both and isinstance(real, Moments | tuple):
        raise ValueError("both=True draws from the real images too: pass their features instead of their moments")
    fixed = _reference(real)
    real, fake = as_features(real) if both else None, as_features(fake, len(fixed.mean))
    measured = _distance(fixed, _fit(fake))
    generator = torch.Generator().manual_seed(seed)
    distances = torch.empty(rounds, dtype=torch.float64)
    for i in range(rounds):
        drawn = _fit(_half(fake, generator))
        distances[i] = _distance(_fit(_half(real, generator)) if both else fixed, drawn)
    tails = torch.tensor([(1 + level) / 2, (1 - level) / 2], dtype=torch.float64)
    low, high = (measured - (distances.quantile(tails) - distances.mean())).clamp(min=0).tolist()
    return Interval(low, high, distances.std().item())


def _half(features: Tensor, generator: torch.Generator) -> Tensor:
    if len(features) < 4:
        raise ValueError(f"half of {len(features)} images have no covariance: a bootstrap needs at least 4")
    return _subset(features, len(features) // 2, generator)


def _subset(features: Tensor, size: int, generator: torch.Generator) -> Tensor:
    return features[torch.randperm(len(features), generator=generator)[:size]]


class Extrapolation(NamedTuple):
    value: float
    error: float  # standard error of the fit


def frechet_infinity(
    real: Reference, fake: Tensor | np.ndarray, seed: int = 0, points: int = 15, smallest: int | None = None
) -> Extrapolation:
    """The distance with endlessly many generated images: FID over 1/N is nearly a line; this is where it meets 1/N = 0.

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
    distances = [_distance(fixed, _fit(_subset(fake, int(size), generator))) for size in sizes]
    distances = torch.tensor(distances, dtype=torch.float64)
    line = torch.stack([torch.ones_like(sizes), 1 / sizes], dim=1)
    inverse = torch.linalg.pinv(line)  # (2, points)
    fit = inverse @ distances
    variance = (distances - line @ fit).square().sum() / (points - 2)
    return Extrapolation(fit[0].item(), (variance * inverse[0].square().sum()).sqrt().item())
