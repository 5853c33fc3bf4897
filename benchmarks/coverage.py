"""Do a study's intervals hold what they promise? Simulated studies with known differences, analysed as `compare` does it.

    python benchmarks/coverage.py [--studies 2000] [--only NAME]

Each study has a baseline and five rows, two of them a declared contrast. Logarithms of distances are row + seed + noise; the rows'
true changes are drawn anew from -15 to +30 %. Printed of each kind of study: how often all of Dunnett's intervals hold their true
changes (promised: 95 %), how often all of the contrasts' do, how often a verdict is wrong (better or worse in the wrong direction,
equal where the true change is outside ± 10 %), the mean half-width; and beside it what paired t intervals, row by row, would do.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import argparse
import math
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy import stats

from study.images import covariance
from study.inference import Difference, Fit, against_baseline, fit, half_width, holm, percent, seeds_needed, verdict

ROWS = ("c3", "c2", "c2sp", "c4", "c4sp", "c5")
PAIRS = (("c2sp", "c2"), ("c4sp", "c4"))
EQUAL = 0.1
ERROR = 0.16  # of classifiers
FOR_ALL, FOR_ROW, FOR_SEED = 0.4, 0.2, 0.1  # shares of what makes an image hard: for all networks, those of a row, of a seed
DEVIATION = 0.08  # of the logarithm of the distance over seeds; the studies in results/ have 0.015 to 0.12


@dataclass(frozen=True)
class Kind:
    """How studies of one kind come about."""

    about: str
    seeds: int = 3
    missing: float = 0.0  # share of the runs that did not converge, whatever they would have scored
    lost: bool = False  # the worst run of every third row did not converge
    spread: float = 1.0  # deviations of rows are drawn between 1 / sqrt(spread) and sqrt(spread) times the common one
    baseline: float = 1.0  # the baseline's own, times
    until: float | None = None  # grown until the half-width is at most this
    deviation: float = DEVIATION
    images: int = 0  # classifiers: their errors, near 16 %, are measured on so many test images, the same for all rows


KINDS = {
    "plain": Kind("3 seeds, equal spreads"),
    "unequal": Kind("3 seeds, spreads up to 2-fold apart, 10 % of the runs missing", missing=0.1, spread=2),
    "five": Kind("5 seeds, spreads up to 2-fold apart, 10 % of the runs missing", seeds=5, missing=0.1, spread=2),
    "wide": Kind("5 seeds, spreads up to 4-fold apart, 10 % of the runs missing", seeds=5, missing=0.1, spread=4),
    "two": Kind("2 seeds, spreads up to 2-fold apart", seeds=2, spread=2),
    "lost": Kind("3 seeds, the worst run of every third row missing", lost=True),
    "noisy": Kind("3 seeds, the baseline twice as noisy as the others", baseline=2),
    "images": Kind("3 seeds of classifiers, deviation 0.015, tested on 10,000 images", deviation=0.015, images=10_000),
    "until": Kind("from 3 seeds on until ± 10 %, spreads up to 2-fold apart", spread=2, until=0.1),
}


class Study:
    """One simulated study, which can grow."""

    def __init__(self, kind: Kind, generator: np.random.Generator):
        self.kind, self.generator = kind, generator
        self.truth: dict[str, float] = dict(zip(ROWS, np.log1p(generator.uniform(-0.15, 0.3, len(ROWS)))))
        low = -math.log(kind.spread) / 2
        self.deviations: dict[str, float] = dict(zip(ROWS, kind.deviation * np.exp(generator.uniform(low, -low, len(ROWS)))))
        self.deviations["c3"] *= kind.baseline
        self.values: dict[str, dict[int, float]] = {row: {} for row in ROWS}
        self.wrong: dict[str, dict[int, np.ndarray | None]] = {row: {} for row in ROWS}
        self.hard = generator.normal(size=kind.images)
        self.hard_for = {row: generator.normal(size=kind.images) for row in ROWS}
        self.grow(kind.seeds)

    def grow(self, seeds: int) -> None:
        for seed in range(max(max(own, default=-1) for own in self.values.values()) + 1, seeds):
            shared = self.generator.normal(0, self.kind.deviation / 2)
            self.hard_for_seed = self.generator.normal(size=self.kind.images)
            for row in ROWS:
                if self.generator.uniform() >= self.kind.missing:
                    self.values[row][seed] = self.truth[row] + shared + self.generator.normal(0, self.deviations[row])
                    if self.kind.images:
                        self.values[row][seed] = self._measured(row, seed, self.values[row][seed])
        if self.kind.lost:
            for row in ROWS[1::3]:
                del self.values[row][max(self.values[row], key=lambda seed: self.values[row][seed])]

    def _measured(self, row: str, seed: int, logarithm: float) -> float:
        """The logarithm of the error that a network with this one has on the test images."""
        alone = (1 - FOR_ALL - FOR_ROW - FOR_SEED) ** 0.5 * self.generator.normal(size=self.kind.images)
        own = FOR_ALL**0.5 * self.hard + FOR_ROW**0.5 * self.hard_for[row] + FOR_SEED**0.5 * self.hard_for_seed + alone
        wrong = own < stats.norm.ppf(ERROR * math.exp(logarithm))
        self.wrong[row][seed] = wrong
        return float(np.log(wrong.mean() / ERROR))

    def change(self, row: str, against: str) -> float:
        return self.truth[row] - self.truth[against]


def analysed(study: Study) -> tuple[Fit, dict[str, Difference]]:
    """As study.plan grows it and study.analysis compares it."""
    seeds = study.kind.seeds
    while True:
        model = fit(study.values, covariance(study.wrong) if study.kind.images else None)
        found = against_baseline(model, "c3", ROWS)
        wanted = math.log1p(study.kind.until or math.inf)
        if max((d.high - d.estimate for d in found.values() if d.high is not None), default=0) <= wanted or seeds >= 40:
            return model, found
        width = partial(half_width, len(found), deviation=model.deviation)
        needed = seeds_needed(width, wanted)
        seeds = min(max(seeds + 1, min(needed, 2 * seeds)), 40)
        study.grow(seeds)


def paired(study: Study, row: str) -> Difference | None:
    """The paired t interval of one row, from its own runs alone."""
    ours, theirs = study.values[row], study.values["c3"]
    shared = sorted(ours.keys() & theirs.keys())
    if len(shared) < 2:
        return None
    d = np.array([ours[seed] - theirs[seed] for seed in shared])
    half = stats.t.ppf(0.975, len(d) - 1) * d.std(ddof=1) / math.sqrt(len(d))
    return Difference(d.mean(), d.mean() - half, d.mean() + half)


def holds(d: Difference, truth: float) -> bool:
    return d.low is None or d.high is None or d.low <= truth <= d.high


def wrong(d: Difference, truth: float) -> bool:
    word = verdict(d, EQUAL)
    wrongly_equal = word == "equal" and not -EQUAL <= percent(truth) <= EQUAL
    return wrongly_equal or (word == "better" and truth > 0) or (word == "worse" and truth < 0)


def simulate(kind: Kind, studies: int, seed: int = 0) -> dict[str, float]:
    """Shares over so many studies; half-widths of the intervals in log units."""
    generator = np.random.default_rng(seed)
    rows, contrasts, errors, old = [], [], [], []
    widths, old_widths, seeds = [], [], []
    for _ in range(studies):
        study = Study(kind, generator)
        model, found = analysed(study)
        if not found:  # no run of the baseline converged
            continue
        rows.append(all(holds(d, study.change(row, "c3")) for row, d in found.items()))
        known = [(pair, test) for pair in PAIRS if (test := model.test(*pair)) is not None]
        tested = holm([test for _, test in known])
        contrasts.append(all(holds(d, study.change(*pair)) for (pair, _), d in zip(known, tested)))
        errors.append(any(wrong(d, study.change(row, "c3")) for row, d in found.items()))
        alone = {row: d for row in found if (d := paired(study, row)) is not None}
        old.append(all(holds(d, study.change(row, "c3")) for row, d in alone.items()))
        widths += [d.high - d.estimate for d in found.values() if d.high is not None]
        old_widths += [d.high - d.estimate for d in alone.values() if d.high is not None]
        seeds.append(max(len(own) for own in study.values.values()))
    found = {
        "rows": np.mean(rows), "contrasts": np.mean(contrasts), "wrong": np.mean(errors), "width": np.mean(widths),
        "paired": np.mean(old), "paired_width": np.mean(old_widths), "seeds": np.mean(seeds),
        "lottery": np.quantile(old_widths, 0.95) / np.quantile(old_widths, 0.05),
        "pooled_lottery": np.quantile(widths, 0.95) / np.quantile(widths, 0.05),
    }  # fmt: skip
    return {name: float(value) for name, value in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=2000)
    parser.add_argument("--only", choices=KINDS)
    options = parser.parse_args()
    print(f"{options.studies:,} studies of each kind; deviation {DEVIATION:g} of the logarithm")
    for name, kind in KINDS.items():
        if options.only in (None, name):
            f = simulate(kind, options.studies)
            width, spread = percent(f["width"]), f["pooled_lottery"]
            print(f"{name}: {kind.about}; {f['seeds']:.1f} seeds on average")
            rows, contrasts = f["rows"], f["contrasts"]
            print(f"  all intervals of a study hold: {rows:.1%}, all contrasts: {contrasts:.1%}; mean half-width {width:.1%}")
            print(f"  studies with a wrong verdict: {f['wrong']:.1%}; widths: 95th percentile {spread:.1f} times the 5th")
            width, spread = percent(f["paired_width"]), f["lottery"]
            print(
                f"  paired t, row by row: all hold {f['paired']:.1%}; mean half-width {width:.1%}, {spread:.1f} times", flush=True
            )


if __name__ == "__main__":
    main()
