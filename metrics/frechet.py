"""The Fréchet distance between Gaussians fitted to two sets of features: FID, when the 2015 Inception network made them.

Sources: Heusel, Ramsauer, Unterthiner, Nessler, Hochreiter, "GANs trained by a two time-scale update rule converge to a local
Nash equilibrium", NeurIPS 2017 (arXiv 1706.08500), eq. 6; Dowson and Landau, "The Fréchet distance between multivariate normal
distributions", J. Multivariate Analysis 1982.

    d^2 = |m1 - m2|^2 + tr S1 + tr S2 - 2 tr (S1 S2)^(1/2)

How. Write every covariance as S = F F^T. Then (S1 S2)^(1/2) has the eigenvalues that are the singular values of F1^T F2, and its
trace is their sum, the nuclear norm. F is the Cholesky factor where there is one; with fewer images than features it is simply the
centred features, transposed, and the problem is as small as the number of images (the Gram trick). No root of a matrix that is not
symmetric is ever taken: scipy.linalg.sqrtm is many times slower (benchmarks/fid.py) and has been wrong in several releases.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from metrics.score_table import Embedded, Value, register

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

    Rows are gathered into blocks of fixed length, so that the result doesn't depend on the batch size, not even in the last bit,
    and the dominating matrix product is efficient. A mean that is large compared with the spread loses no digits, since the first
    row is subtracted from all; nor does a drift, since blocks are merged by their means and scatters (Chan, Golub, LeVeque 1979,
    eq. 2.1), where merging alone would still subtract two large means.
    """

    BLOCK = 512  # rows; fewer are as fast on one thread, but slower on two

    def __init__(self, dim: int):
        self.dim = dim
        self.count = 0  # images so far
        self._merged = 0  # of which merged; the others wait in the block
        self._origin = torch.zeros(dim, dtype=torch.float64)  # the first row, once it came; all below is relative to it
        self._mean = torch.zeros(dim, dtype=torch.float64)
        self._scatter = torch.zeros(dim, dim, dtype=torch.float64)  # sum of (x - mean)(x - mean)^T
        self._block = torch.empty(self.BLOCK, dim, dtype=torch.float64)

    def update(self, features: Tensor | np.ndarray) -> None:
        """Add (n, dim) features of any floating point dtype. A ValueError (see as_features) leaves everything as it was."""
        features = as_features(features, self.dim)
        if self.count == 0 and len(features):
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
    return gaussian_distance(gaussian_of_moments(mean1, cov1), gaussian_of_moments(mean2, cov2))


def frechet_from_features(a: Tensor | np.ndarray, b: Tensor | np.ndarray) -> float:
    """The squared Fréchet distance between the Gaussians fitted to (n, d) and (m, d) features, at least 2 images each.

    What frechet_distance gives for their means and covariances, and faster where n or m is below d. Takes one float64 copy.
    """
    a = as_features(a)
    return gaussian_distance(fit_gaussian(a), fit_gaussian(as_features(b, a.shape[1])))


@register("fid")
def fid(real: Embedded, generated: Embedded, seed: int) -> list[Value]:
    """The distance between the two sides, from their features where these are kept for another score: faster with few images."""
    if real.kept is not None and generated.kept is not None:
        return [Value("fid", frechet_from_features(real.kept, generated.kept))]
    return [Value("fid", frechet_distance(*real.moments, *generated.moments))]


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
    """Eigenvalues and eigenvectors of a symmetric matrix, also where divide and conquer fails (many equal eigenvalues)."""
    try:
        return torch.linalg.eigh(S)
    except RuntimeError:  # torch.linalg.LinAlgError
        import scipy.linalg  # takes a quarter of a second, and is hardly ever needed

        values, vectors = scipy.linalg.eigh(S.numpy(), driver="ev")  # QR iteration: slower, and it converges
        return torch.from_numpy(values), torch.from_numpy(vectors)


def nuclear_norm(P: Tensor) -> float:
    """The sum of the singular values of a float64 matrix, to about 1e-7 of itself.

    They are the roots of the eigenvalues of the smaller of P P^T and P^T P, which are faster to compute. Each eigenvalue has an
    error of about epsilon * the largest, which matters for those near 0. Where the sum would be affected, the singular values
    themselves are computed.
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


def gaussian_distance(a: Gaussian, b: Gaussian) -> float:
    """The squared Fréchet distance. ValueError for unlike dimensions."""
    if len(a.mean) != len(b.mean):
        raise ValueError(f"the two sides have {len(a.mean)} and {len(b.mean)} features: score both with the same network")
    traces = a.root.square().sum() + b.root.square().sum()
    squared = (a.mean - b.mean).square().sum() + traces - 2 * nuclear_norm(a.root.T @ b.root)
    # |A^T B|_* <= |A| |B| <= (|A|^2 + |B|^2) / 2, so only rounding can bring this below zero.
    return max(0.0, squared.item())


def fit_gaussian(features: Tensor) -> Gaussian:
    """The Gaussian of (n, d) features."""
    n, d = features.shape
    if n < 2:
        raise ValueError(f"a covariance needs at least 2 images, not {n}: score more")
    rows = features.to(torch.float64, copy=True)
    mean = rows.mean(dim=0)
    rows.sub_(mean).div_((n - 1) ** 0.5)
    return Gaussian(mean, rows.T if n < d else square_root(rows.T @ rows))


def gaussian_of_moments(mean: Tensor | np.ndarray, covariance: Tensor | np.ndarray) -> Gaussian:
    """The Gaussian of a (d,) mean and a (d, d) covariance. ValueErrors as in frechet_distance."""
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
