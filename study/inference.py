"""The statistics of a study, on plain numbers: by how much rows differ, with which interval, and how many seeds would resolve it.

The model: the logarithm of a run's distance is row + seed + noise, with one noise variance for all rows that are compared. Three
runs are too few to estimate a row's own variance (the width of a paired t interval from three seeds varies 8-fold); all rows
together are enough. A difference of logarithms is a ratio, and on that scale large and small distances vary alike.

Test errors of classifiers have a second source of variation, the test images, which all seeds share (study.images). Its variance
is added to that over seeds, and counts as known in the degrees of freedom (Satterthwaite, Biometrics 1946).

Sources: Dunnett, "A multiple comparison procedure for comparing several treatments with a control", JASA 1955, and for unequal
numbers of runs Hsu, "Multiple Comparisons", 1996, section 7; Holm, "A simple sequentially rejective multiple test procedure",
Scand. J. Statist. 1979; Clopper and Pearson, Biometrika 1934. The tests compare with R; benchmarks/coverage.py simulates studies.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, exp, isfinite, log
from typing import Any, NamedTuple

import numpy as np
from scipy import optimize, stats

LEVEL = 0.95
POWER = 0.8  # with which a number of further seeds resolves a difference
MOST_SEEDS = 100_000  # of what is looked for

Values = Mapping[str, Mapping[int, float]]  # {row: {seed: value}}; runs may be missing


def exact_share(converged: int, runs: int, level: float = LEVEL) -> tuple[float, float]:
    """Clopper and Pearson's exact interval for the share of runs that converge; its coverage is at least `level`."""
    found = stats.binomtest(converged, runs).proportion_ci(level, method="exact")
    return float(found.low), float(found.high)


class Test(NamedTuple):
    """The t test of one difference."""

    estimate: float
    error: float  # its standard error; nan without degrees of freedom
    freedom: float

    @property
    def p(self) -> float:
        return 2 * float(stats.t.sf(abs(self.estimate) / self.error, self.freedom)) if self.error else float(not self.estimate)


@dataclass(frozen=True)
class Fit:
    """Least squares of value ~ row + seed. Rows and seeds that have no value are not in it."""

    rows: tuple[str, ...]
    effects: np.ndarray  # (rows + seeds,); only differences mean anything
    normal: np.ndarray  # X'X of the model, (rows + seeds,) squared
    residuals: Mapping[str, np.ndarray]  # by row
    inverse: np.ndarray  # its pseudo-inverse
    deviation: float  # residual standard deviation, pooled over rows; nan without degrees of freedom
    freedom: int  # degrees of freedom that it has
    images: np.ndarray  # (rows + seeds,) squared: covariance of the effects over test images; zeros where nothing is known of it

    def contrast(self, row: str, against: str) -> np.ndarray | None:
        """The weights of row - against, (rows + seeds,); None where no chain of shared seeds connects the two."""
        if row not in self.rows or against not in self.rows:
            return None
        weights = np.zeros(len(self.effects))
        weights[self.rows.index(row)], weights[self.rows.index(against)] = 1, -1
        return weights if np.allclose(weights @ self.inverse @ self.normal, weights, atol=1e-8) else None

    def test(self, row: str, against: str) -> Test | None:
        """Of row - against; None where there is no such contrast."""
        weights = self.contrast(row, against)
        if weights is None:
            return None
        over_seeds, over_images = self.deviation**2 * float(weights @ self.inverse @ weights), self.over_images(row, against)
        freedom = _freedom(self.freedom, over_seeds, over_images)
        return Test(float(weights @ self.effects), float(np.sqrt(over_seeds + over_images)), freedom)

    def over_images(self, row: str, against: str) -> float:
        """The variance of row - against over test images; 0 where it isn't known."""
        weights = self.contrast(row, against)
        return 0.0 if weights is None else max(0.0, float(weights @ self.images @ weights))


def _freedom(freedom: int, over_seeds: float, over_images: float) -> float:
    """Satterthwaite's degrees of freedom of a variance over seeds, which has `freedom`, plus one that is known."""
    if not freedom or not over_images > 0:
        return freedom
    most = max(freedom, 1000)  # as good as endless
    return min(freedom * (1 + over_images / over_seeds) ** 2, most) if over_seeds else most


def fit(values: Values, images: Mapping[tuple[str, str], float] | None = None) -> Fit:
    """values: finite numbers. Rows without any are left out. images: as of study.images.covariance, where it is known."""
    rows = tuple(row for row, own in values.items() if own)
    seeds = sorted({seed for own in values.values() for seed in own})
    cells = [(rows.index(row), len(rows) + seeds.index(seed), value) for row in rows for seed, value in values[row].items()]
    x, y = np.zeros((len(cells), len(rows) + len(seeds))), np.array([value for *_, value in cells])
    for i, (row, seed, _) in enumerate(cells):
        x[i, row] = x[i, seed] = 1
    normal = x.T @ x
    inverse = np.linalg.pinv(normal, hermitian=True)
    effects = inverse @ x.T @ y
    freedom = len(cells) - (int(np.linalg.matrix_rank(x)) if cells else 0)
    residual = y - x @ effects
    deviation = float(np.sqrt(residual @ residual / freedom)) if freedom else float("nan")
    residuals = {row: residual[[i for i, (own, *_) in enumerate(cells) if own == r]] for r, row in enumerate(rows)}
    over_images = np.zeros_like(normal)
    if images:
        over_images[: len(rows), : len(rows)] = [[images[a, b] for b in rows] for a in rows]
    return Fit(rows, effects, normal, residuals, inverse, deviation, freedom, over_images)


@dataclass(frozen=True)
class Difference:
    """The difference of two rows, on the scale of the values. low, high: its interval; None where there is none (a single seed)."""

    estimate: float
    low: float | None = None
    high: float | None = None
    p: float | None = None  # where it was corrected by Holm's procedure


def against_baseline(model: Fit, baseline: str, rows: Sequence[str], level: float = LEVEL) -> dict[str, Difference]:
    """{row: row - baseline} with Dunnett's intervals, which hold for all of these rows at once; rows without a run are left out."""
    found = {row: model.contrast(row, baseline) for row in rows if row != baseline}
    weights = {row: contrast for row, contrast in found.items() if contrast is not None}
    if not weights:
        return {}
    matrix = np.array(list(weights.values()))
    estimates = matrix @ model.effects
    if not model.freedom:
        return {row: Difference(float(estimate)) for row, estimate in zip(weights, estimates)}
    over_seeds, over_images = model.deviation**2 * matrix @ model.inverse @ matrix.T, matrix @ model.images @ matrix.T
    freedom = min(_freedom(model.freedom, *both) for both in zip(over_seeds.diagonal(), over_images.diagonal()))
    covariance = over_seeds + over_images
    errors = np.sqrt(covariance.diagonal().clip(1e-300))  # 0 where nothing varies
    correlation = covariance / np.outer(errors, errors)
    np.fill_diagonal(correlation, 1)
    half = _critical(tuple(map(tuple, correlation.round(6))), freedom, level) * errors
    return {row: Difference(float(e), float(e - h), float(e + h)) for row, e, h in zip(weights, estimates, half)}


@lru_cache(4096)
def _critical(correlation: tuple[tuple[float, ...], ...], freedom: float, level: float, points: int = 4000) -> float:
    """c with P(all |T_i| <= c) = level for T of the multivariate t distribution, integrated over so many points."""
    k = len(correlation)
    alone, bonferroni = stats.t.ppf((1 + level) / 2, freedom), stats.t.ppf(1 - (1 - level) / 2 / k, freedom)
    if k == 1:
        return float(alone)
    t: Any = stats.multivariate_t
    how = {"shape": np.array(correlation), "df": freedom, "allow_singular": True, "maxpts": points}

    def excess(c: float) -> float:  # with the same points at each c, so that it rises smoothly
        limits = np.full(k, c)
        return float(t.cdf(limits, lower_limit=-limits, random_state=0, **how)) - level

    return float(optimize.root_scalar(excess, bracket=(0.9 * alone, 1.3 * bonferroni), xtol=1e-3).root)


def holm(tests: Sequence[Test], level: float = LEVEL) -> list[Difference]:
    """Differences tested by Holm's procedure over all of them; without an interval where there are no degrees of freedom.

    p is the corrected one. The intervals are Bonferroni's, which hold for all of the differences at once; Holm's procedure rejects
    more than they do, so one may hold 0 though p is at most 1 - level.
    """
    found = [Difference(test.estimate) for test in tests]
    known = sorted((test.p, i) for i, test in enumerate(tests) if test.freedom)
    corrected = 0.0
    for turn, (p, i) in enumerate(known):
        corrected = max(corrected, min(1.0, (len(known) - turn) * p))
        half = float(stats.t.ppf(1 - (1 - level) / 2 / len(known), tests[i].freedom)) * tests[i].error
        found[i] = Difference(tests[i].estimate, tests[i].estimate - half, tests[i].estimate + half, corrected)
    return found


def means(values: Values, level: float = LEVEL, pooled: bool = False) -> dict[str, Difference]:
    """The mean of each row over its seeds with its t interval; none for a single seed, or where nothing but rounding varies.

    pooled: from one deviation for all rows that vary, for values that vary alike; else each from its own.
    """
    size = max((abs(value) for own in values.values() for value in own.values()), default=0.0)
    variances = {row: float(np.var(list(own.values()), ddof=1)) for row, own in values.items() if len(own) > 1}
    variances = {row: variance for row, variance in variances.items() if variance > (1e-6 * size) ** 2}
    freedoms = {row: len(values[row]) - 1 for row in variances}
    if pooled and variances:
        total = sum(freedoms.values())
        shared = sum(variances[row] * n for row, n in freedoms.items()) / total
        variances, freedoms = dict.fromkeys(variances, shared), dict.fromkeys(freedoms, total)
    found = {}
    for row, own in values.items():
        if row in variances:
            mean = float(np.mean(list(own.values())))
            half = float(stats.t.ppf((1 + level) / 2, freedoms[row])) * (variances[row] / len(own)) ** 0.5
            found[row] = Difference(mean, mean - half, mean + half)
        elif own:
            found[row] = Difference(float(np.mean(list(own.values()))))
    return found


# --- how many seeds ----------------------------------------------------------------------------------------------------------


def half_width(rows: int, seeds: int, deviation: float, images: float = 0.0, level: float = LEVEL) -> float:
    """Half-width of Dunnett's interval, on the scale of the values, if each of `rows` rows beside the baseline has `seeds` runs.

    images: the variance of a difference over test images, which more seeds don't make smaller.
    """
    if seeds < 2 or not rows:
        return float("inf")
    equal = tuple(tuple(1.0 if i == j else 0.5 for j in range(rows)) for i in range(rows))
    freedom = _freedom(min(rows * (seeds - 1), 1000), deviation**2 * 2 / seeds, images)
    return _critical(equal, freedom, level, points=2000) * (deviation**2 * 2 / seeds + images) ** 0.5


def pair_half_width(
    pairs: int, freedom: int, seeds: int, deviation: float, images: float = 0.0, level: float = LEVEL
) -> float:  # fmt: skip
    """Half-width of Bonferroni's interval over `pairs` contrasts, with `seeds` runs of each row; images: as of half_width."""
    if freedom < 1:
        return float("inf")
    over_seeds = deviation**2 * 2 / seeds
    critical = stats.t.ppf(1 - (1 - level) / 2 / pairs, _freedom(freedom, over_seeds, images))
    return float(critical) * (over_seeds + images) ** 0.5


def seeds_needed(width: Callable[[int], float], wanted: float) -> int:
    """The least number of seeds from 2 on whose half-width is at most `wanted`. width: of a number of seeds, falling.

    MOST_SEEDS where no number up to that is enough, as test images may have it.
    """
    return _least(lambda seeds: width(seeds) <= wanted)


def _least(enough: Callable[[int], bool]) -> int:
    """The least number from 2 on that is enough; MOST_SEEDS where that would be more. What is enough stays so with more."""
    low, high = 1, 2  # of which the first is too few
    while not enough(high):
        low, high = high, 2 * high
        if high > MOST_SEEDS:
            return MOST_SEEDS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def percent(value: float) -> float:
    """A difference of logarithms as a change: 0.095 -> 0.1, which is 10 % more."""
    return exp(value) - 1


def spreads_differ(model: Fit) -> float | None:
    """p of Bartlett's test that the rows' residuals have one variance; None where fewer than two rows have two that vary.

    Approximate where runs are missing, since the residuals of a row then share their seeds' estimates.
    """
    own = [residuals for residuals in model.residuals.values() if len(residuals) > 1 and residuals.std() > 1e-9]
    return float(stats.bartlett(*own).pvalue) if len(own) > 1 else None


def upper_deviation(deviation: float, freedom: int, sure: float = POWER) -> float:
    """The upper confidence bound (one-sided, level `sure`) of a standard deviation estimated with `freedom` degrees of freedom."""
    return deviation * (freedom / float(stats.chi2.ppf(1 - sure, freedom))) ** 0.5


# --- verdicts ----------------------------------------------------------------------------------------------------------------


def verdict(difference: Difference, equal: float) -> str | None:
    """Of a difference of logarithms, where less is better: equal, better or worse; None where it isn't resolved.

    equal: the share, such as 0.1, within which the whole interval must lie for that word; it comes first, since a difference that
    is too small to matter may well be clear of 0. A contrast that Holm's procedure rejects is resolved, whatever its interval.
    """
    if difference.low is None or difference.high is None:
        return None
    if percent(difference.low) >= -equal and percent(difference.high) <= equal:
        return "equal"
    if difference.p is not None and difference.p <= 1 - LEVEL:
        return "better" if difference.estimate < 0 else "worse"
    return "better" if difference.high < 0 else "worse" if difference.low > 0 else None


def detectable(half_width: float, seeds: int, deviation: float) -> float:
    """The true difference for which an interval of this half-width excludes 0 in 80 % of studies (POWER), by the normal law.

    A difference as large as the half-width itself would be resolved in only half of the studies.
    """
    return half_width + float(stats.norm.ppf(POWER)) * deviation * (2 / seeds) ** 0.5


def resolves(estimate: float, equal: float, half_width: float, seeds: int, deviation: float) -> bool:
    """Whether an interval of this half-width resolves a true difference of this size in 80 % of studies (POWER), by the normal law.

    Resolved: clear of 0, or within the band of equality.
    """
    spread = stats.norm(estimate, deviation * (2 / seeds) ** 0.5)  # of the differences that studies find
    unclear = spread.cdf(half_width) - spread.cdf(-half_width)
    low, high = max(-half_width, log(1 - equal) + half_width), min(half_width, log(1 + equal) - half_width)
    if low < high:  # between them they are called equal
        unclear -= spread.cdf(high) - spread.cdf(low)
    return bool(1 - unclear >= POWER)


def more_seeds(
    estimate: float, equal: float, runs: int, deviation: float, width: Callable[[int], float], images: float = 0.0
) -> int | None:  # fmt: skip
    """How many seeds more than the `runs` there are would resolve a difference, if it stays what it is; at least 1.

    None where no number would, because of the test images. deviation: of the logarithm of a run's distance. width: the half-width
    of the interval for a number of seeds. images: as of half_width.
    """
    if not isfinite(estimate):
        return 1
    needed = _least(lambda seeds: resolves(estimate, equal, width(seeds), seeds, deviation))
    return None if images and needed >= MOST_SEEDS else max(1, needed - runs)


def with_share(runs: int, share: float) -> int:
    """How many runs to start so that `runs` of them converge, if this share does."""
    return ceil(runs / share - 1e-9)
