"""The statistics of a study: beside another program's figures, closed forms, and simulated studies whose truth is known."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from benchmarks.coverage import KINDS, simulate
from study import inference
from study.inference import (
    POWER,
    Difference,
    against_baseline,
    detectable,
    exact_share,
    fit,
    half_width,
    holm,
    means,
    more_seeds,
    pair_half_width,
    percent,
    seeds_needed,
    spreads_differ,
    upper_deviation,
    verdict,
    with_share,
)
from tests.helpers import ROOT

# Distances of results/studies/upsampling_cifar10_cpu, of the runs that converged: one is missing.
DISTANCES = {
    "transposed c3": {0: 68.5, 1: 71.2, 2: 69.9}, "transposed c3sp": {0: 73.2, 1: 85.0, 2: 73.1},
    "transposed c5": {0: 85.0, 1: 98.6, 2: 77.1}, "transposed c5sp": {0: 86.0, 1: 104.9, 2: 84.4},
    "nearest c4sp": {0: 78.6, 2: 77.3},
}  # fmt: skip
LOGARITHMS = {row: {seed: math.log(value) for seed, value in own.items()} for row, own in DISTANCES.items()}


def test_a_table_is_what_r_makes_of_it():
    """R 4.2.2: m <- lm(log(value) ~ row + seed); confint(glht(m, mcp(row = "Dunnett"))), multcomp 1.4-22."""
    model = fit(LOGARITHMS)
    assert (model.freedom, model.deviation) == (R["freedom"], pytest.approx(R["sigma"], rel=1e-6))
    found = against_baseline(model, "transposed c3", list(LOGARITHMS))
    assert list(found) == list(R["dunnett"])
    for row, (estimate, low, high) in R["dunnett"].items():
        assert found[row].estimate == pytest.approx(estimate, abs=1e-6)
        assert (found[row].low, found[row].high) == pytest.approx((low, high), abs=2e-3)  # both integrate by sampling


def test_contrasts_are_those_of_r_with_holms_correction():
    """R: summary(glht(m, mcp(row = c(...))), test = adjusted("holm")); intervals: Bonferroni's of confint."""
    model = fit(LOGARITHMS)
    pairs = [("transposed c3sp", "transposed c3"), ("transposed c5sp", "transposed c5"), ("transposed c5", "transposed c3")]
    found = holm([model.test(*pair) for pair in pairs])
    assert [d.p for d in found] == pytest.approx(R["holm"], rel=1e-4)
    halves = [stats.t.ppf(1 - 0.025 / 3, model.freedom) * model.test(*pair).error for pair in pairs]
    assert [d.high - d.estimate for d in found] == pytest.approx(halves)
    assert [verdict(d, 0.01) for d in found] == [None, None, "worse"]


def test_what_holm_rejects_is_resolved_though_bonferronis_interval_holds_0():
    found = holm([inference.Test(1.0, 0.1, 20), inference.Test(0.22, 0.1, 20)])
    assert found[1].low < 0 < found[1].high and found[1].p < 0.05
    assert [verdict(d, 0.01) for d in found] == ["worse", "worse"]


R = {
    "freedom": 7, "sigma": 0.049998391,
    "dunnett": {
        "transposed c3sp": (0.096094277, -0.031939573, 0.224128128), "transposed c5": (0.213144529, 0.085110678, 0.341178379),
        "transposed c5sp": (0.267843333, 0.139809483, 0.395877184), "nearest c4sp": (0.158229310, 0.011548107, 0.304910513),
    },
    "holm": [0.10159098547, 0.22214335386, 0.00367289662],
}  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "seeds", "value"),
    [(1, 6, 2.57), (1, 11, 2.23), (2, 6, 2.57), (5, 3, 2.99), (2, 11, 2.38), (5, 5, 2.73), (5, 13, 2.58)],
)
def test_critical_values_are_the_published_ones(rows, seeds, value):
    """Dunnett, "New tables for multiple comparisons with a control", Biometrics 1964, table II: two-sided, 95 %."""
    assert half_width(rows, seeds, 1.0) / (2 / seeds) ** 0.5 == pytest.approx(value, abs=0.012)


def test_shares_are_exact():
    """R: binom.test(2, 3)$conf.int and so on."""
    assert exact_share(2, 3) == pytest.approx((0.09429932, 0.99159624))
    assert exact_share(3, 3) == pytest.approx((0.29240177, 1.0))
    assert exact_share(17, 20) == pytest.approx((0.6210732, 0.9679291))


def test_without_missing_runs_the_fit_is_the_means_and_the_pairs():
    values = {"a": {0: 1.0, 1: 3.0, 2: 2.0}, "b": {0: 2.0, 1: 3.5, 2: 3.0}}
    found = against_baseline(fit(values), "a", ["a", "b"])["b"]
    expected = stats.ttest_rel([2.0, 3.5, 3.0], [1.0, 3.0, 2.0]).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_one_seed_has_differences_and_no_interval():
    model = fit({"a": {0: 1.0}, "b": {0: 3.0}, "c": {}})
    (alone,) = against_baseline(model, "a", ["a", "b", "c"]).values()
    (contrast,) = holm([model.test("b", "a")])
    for found in (alone, contrast):
        assert found.estimate == pytest.approx(2.0) and found.low is found.high is found.p is None
    assert model.test("c", "a") is None


def test_rows_that_share_no_seed_are_compared_through_others_or_not_at_all():
    apart = fit({"a": {0: 1.0}, "b": {1: 3.0}})
    assert apart.test("b", "a") is None and against_baseline(apart, "a", ["b"]) == {}
    chained = fit({"a": {0: 1.0}, "b": {1: 3.0}, "c": {0: 2.0, 1: 2.0}})
    assert chained.test("b", "a").estimate == pytest.approx(2.0)


def test_rows_that_do_not_vary_differ_surely():
    model = fit({"a": {0: 1.0, 1: 1.0}, "b": {0: 1.0, 1: 1.0}})
    found = against_baseline(model, "a", ["b"])["b"]
    assert verdict(found, 0.1) == "equal" and found.low == pytest.approx(found.high, abs=1e-9)


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [
        (-9, 9, "equal"),
        (1, 9, "equal"),
        (-30, -1, "better"),
        (-30, -11, "better"),
        (1, 30, "worse"),
        (-11, 9, None),
        (-1, 11, None),
    ],
)
def test_verdicts(low, high, word):
    assert verdict(Difference(0.0, math.log1p(low / 100), math.log1p(high / 100)), 0.1) == word
    assert verdict(Difference(0.0), 0.1) is None


@pytest.mark.parametrize("change", [-0.2, 0.0, 0.01, 0.04, 0.05, 0.12])
def test_so_many_more_seeds_resolve_a_difference_in_four_of_five_simulated_studies(change):
    true, width, draws = math.log1p(change), lambda seeds: half_width(5, seeds, 0.1), np.random.default_rng(0).normal(size=4000)

    def resolved(seeds):
        half, error = width(seeds), 0.1 * math.sqrt(2 / seeds)
        words = [verdict(Difference(d, d - half, d + half), 0.1) for d in true + error * draws]
        return sum(word is not None for word in words) / len(words)

    n = 3 + more_seeds(true, 0.1, 3, 0.1, width)
    assert resolved(n) > 0.78 and (n == 4 or resolved(n - 1) < 0.82)


def test_seeds_needed_is_the_least_that_is_enough():
    for wanted in (0.05, 0.1, 0.3):
        n = seeds_needed(lambda seeds: half_width(3, seeds, 0.1), wanted)
        assert half_width(3, n, 0.1) <= wanted and (n == 2 or half_width(3, n - 1, 0.1) > wanted)
    assert half_width(3, 1, 0.1) == math.inf and pair_half_width(2, 0, 1, 0.1) == math.inf
    assert with_share(6, 2 / 3) == 9 and with_share(6, 1.0) == 6


def test_means_have_intervals_of_their_own_seeds_or_of_a_deviation_pooled_over_rows_that_vary():
    values = {"a": {0: 1.0, 1: 3.0}, "b": {0: 5.0, 1: 6.0, 2: 7.0}, "exact": {0: 0.484, 1: 0.484}, "one": {0: 2.0}, "none": {}}
    own = means(values)
    assert own["b"].high - 6.0 == pytest.approx(stats.t.ppf(0.975, 2) * 1.0 / math.sqrt(3))
    assert own["a"].high - 2.0 == pytest.approx(stats.t.ppf(0.975, 1) * math.sqrt(2.0 / 2))
    found = means(values, pooled=True)
    pooled = math.sqrt((2.0 + 2.0) / 3)  # sums of squares 2 and 2, degrees of freedom 1 and 2
    assert found["b"].high - 6.0 == pytest.approx(stats.t.ppf(0.975, 3) * pooled / math.sqrt(3))
    assert found["exact"] == Difference(0.484) and found["one"] == Difference(2.0) and "none" not in found


def test_intervals_cover_in_simulated_studies_with_unequal_spreads_and_missing_runs():
    """benchmarks/coverage.py does this 2,000 times and more; here enough to see a method that is wrong."""
    found = simulate(replace(KINDS["unequal"], missing=0.0), studies=250, seed=1)
    assert 0.90 <= found["rows"] <= 0.98 and found["contrasts"] >= 0.90
    assert found["wrong"] <= 0.03
    assert found["paired"] < 0.85  # row by row, one in five studies or so has an interval that does not hold
    assert found["pooled_lottery"] < 0.5 * found["lottery"]
    assert simulate(KINDS["unequal"], studies=12, seed=1)["rows"] > 0.7  # each with another pattern of missing runs


def test_a_simulated_study_would_notice_intervals_that_are_too_narrow(monkeypatch):
    from benchmarks import coverage

    narrow = lambda model, baseline, rows: {
        row: Difference(d.estimate, d.estimate - 0.6 * (d.estimate - d.low), d.estimate + 0.6 * (d.high - d.estimate))
        for row, d in against_baseline(model, baseline, rows).items()
    }
    monkeypatch.setattr(coverage, "against_baseline", narrow)
    assert coverage.simulate(coverage.KINDS["plain"], studies=60, seed=1)["rows"] < 0.85


def test_the_simulations_that_are_kept_hold_what_the_documents_say():
    """results/studies/coverage.txt is one run of benchmarks/coverage.py; a noisy baseline and lost runs do cost coverage."""
    text = (ROOT / "results/studies/coverage.txt").read_text()
    found = re.findall(r"^(\w+): .*\n  all intervals of a study hold: ([\d.]+)%, all contrasts: ([\d.]+)%", text, re.M)
    assert [name for name, *_ in found] == list(KINDS)
    for name, rows, contrasts in found:
        if name not in ("noisy", "lost"):
            assert 92.5 <= float(rows) <= 97 and 92.5 <= float(contrasts) <= 97.5, name


def test_so_many_seeds_resolve_a_difference_in_four_of_five_studies():
    seeds, deviation, rows = 12, 0.1, 3
    freedom, error = rows * (seeds - 1), deviation * (2 / seeds) ** 0.5
    half = half_width(rows, seeds, deviation)
    power = stats.nct.sf(half / error, freedom, detectable(half, seeds, deviation) / error)
    assert power == pytest.approx(POWER, abs=0.02)
    assert stats.nct.sf(half / error, freedom, half / error) < 0.52  # a difference as large as the half-width alone


def test_unlike_spreads_are_noticed():
    close = {"a": {0: 1.0, 1: 1.1, 2: 1.2}, "b": {0: 2.0, 1: 2.15, 2: 2.2}, "c": {0: 3.05, 1: 3.1, 2: 3.2}}
    assert spreads_differ(fit(close)) > 0.05
    generator = np.random.default_rng(0)
    wild = {row: dict(enumerate(generator.normal(0, 1.0 if row == "f" else 0.01, 12))) for row in "abcdef"}
    assert spreads_differ(fit(wild)) < 1e-3
    assert spreads_differ(fit({"a": {0: 1.0}, "b": {0: 2.0}})) is None


def test_a_deviation_has_an_upper_bound():
    generator = np.random.default_rng(0)
    found = generator.normal(0, 1, (4000, 5)).std(axis=1, ddof=1)
    assert np.mean([upper_deviation(s, 4) > 1 for s in found]) == pytest.approx(0.8, abs=0.02)


def test_percent_is_the_change_of_a_ratio():
    assert percent(math.log(1.18)) == pytest.approx(0.18) and np.isclose(percent(0.0), 0)
