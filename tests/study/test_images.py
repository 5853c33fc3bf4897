"""What the test images contribute to a difference of errors."""

import base64
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from benchmarks.coverage import KINDS, simulate
from study.images import covariance, wrong_images


def draw(generator, count, shared, errors):
    """Which of `count` images networks with these errors name wrongly, where a share of what makes an image hard is so for all."""
    hard = generator.normal(size=count)
    own = (shared**0.5 * hard + (1 - shared) ** 0.5 * generator.normal(size=count) for _ in errors)
    return [z < stats.norm.ppf(error) for z, error in zip(own, errors)]


def test_of_two_networks_it_is_mcnemars_variance():
    a, b = draw(np.random.default_rng(0), 4000, 0.6, (0.10, 0.12))
    found = covariance({"a": {0: a}, "b": {0: b}})
    of_difference = found["a", "a"] + found["b", "b"] - 2 * found["a", "b"]
    difference = a / a.mean() - b / b.mean()
    assert of_difference == pytest.approx(difference.var(ddof=1) / 4000)
    assert of_difference < 0.75 * (found["a", "a"] + found["b", "b"])  # wrong about the same ones
    # As the difference of the logarithms of their errors varies over resampled test images.
    generator = np.random.default_rng(1)
    resampled = (generator.integers(4000, size=4000) for _ in range(2000))
    logarithms = [np.log(a[i].mean() / b[i].mean()) for i in resampled]
    assert of_difference == pytest.approx(np.var(logarithms), rel=0.1)


def test_several_runs_of_a_row_leave_what_they_are_wrong_about_together():
    """Over studies with other images, the mean of the logarithms varies by this and by what the runs do each for itself."""
    generator, rows, estimates = np.random.default_rng(0), [], []
    for _ in range(400):
        runs = draw(generator, 1000, 0.5, [0.2] * 3)
        logarithms = np.log([w.mean() for w in runs])
        rows.append(logarithms.mean())
        estimates.append(covariance({"a": dict(enumerate(runs))})["a", "a"] + logarithms.var(ddof=1) / 3)
    assert np.mean(estimates) == pytest.approx(np.var(rows), rel=0.2)


def test_nothing_is_known_where_a_run_kept_no_images_or_others():
    a, b = draw(np.random.default_rng(0), 100, 0.5, (0.2, 0.3))
    assert covariance({"a": {0: a, 1: None}, "b": {0: b}}) is None and covariance({"a": {0: a}, "b": {0: b[:50]}}) is None
    assert covariance({"a": {}, "b": {}}) is None and set(covariance({"a": {0: a}, "b": {}})) == {("a", "a")}


def test_no_error_at_all_is_no_certainty():
    (b,) = draw(np.random.default_rng(0), 100, 0.5, (0.3,))
    assert covariance({"a": {0: np.zeros(100, bool)}, "b": {0: b}})["a", "a"] == pytest.approx(2, abs=0.1)


def test_what_a_seed_does_to_both_rows_alike_is_in_no_difference():
    """Rows of the same shapes begin with the same weights and see the same batches."""
    generator, differences, estimates = np.random.default_rng(0), [], []
    for _ in range(300):
        hard, rows = generator.normal(size=1000), {"a": {}, "b": {}}
        for seed in range(3):
            of_seed = generator.normal(size=1000)
            for row in rows:
                z = 0.6 * hard + 0.6 * of_seed + 0.53 * generator.normal(size=1000)
                rows[row][seed] = z < stats.norm.ppf(0.2)
        logarithms = {row: np.log([w.mean() for w in own.values()]) for row, own in rows.items()}
        differences.append(logarithms["a"].mean() - logarithms["b"].mean())
        found = covariance(rows)
        apart = logarithms["a"] - logarithms["b"]
        estimates.append(found["a", "a"] + found["b", "b"] - 2 * found["a", "b"] + apart.var(ddof=1) / 3)
    assert np.mean(estimates) == pytest.approx(np.var(differences), rel=0.25)


def test_bits_are_read_as_they_are_written():
    wrong = np.random.default_rng(0).uniform(size=30) < 0.5
    score = {"card": {"test_count": 30}}
    record = {"last": {"wrong": base64.b64encode(np.packbits(wrong)).decode(), "scores": [score]}}
    assert np.array_equal(wrong_images(record), wrong)
    assert wrong_images({"last": {"scores": [score]}}) is None


def test_intervals_hold_for_other_test_images(monkeypatch):
    """Without what the images contribute, more seeds make intervals that hold for these images alone."""
    many = replace(KINDS["images"], seeds=25, images=2000)
    assert simulate(many, studies=40, seed=2)["rows"] >= 0.85
    monkeypatch.setattr("benchmarks.coverage.covariance", lambda wrong: None)
    assert simulate(many, studies=40, seed=2)["rows"] < 0.6
