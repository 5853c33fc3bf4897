"""metrics.frechet_uncertainty: intervals that cover, an extrapolation that comes nearer the truth."""

import numpy as np
import pytest
import torch

from metrics import frechet_uncertainty
from metrics.frechet import Moments, frechet_distance, frechet_from_features
from metrics.frechet_uncertainty import frechet_bootstrap, frechet_infinity
from tests.helpers import random_features

STANDARD = torch.zeros(8), torch.eye(8)
EXPECTED = 0.949  # mean distance of 200 images ~ N(0.3, 1.1^2) from STANDARD, over 20,000 draws; their deviation 0.140


def test_the_interval_covers_and_the_deviation_is_right():
    intervals = [frechet_bootstrap(STANDARD, random_features(200, 8, seed, 1.1, 0.3), rounds=60, seed=seed) for seed in range(60)]
    covered = sum(interval.low <= EXPECTED <= interval.high for interval in intervals)
    assert covered >= 52  # 57 expected; fewer than 52 of 60 once in 100 at 95 %
    assert np.mean([interval.std for interval in intervals]) == pytest.approx(0.140, rel=0.2)
    narrow = [frechet_bootstrap(STANDARD, random_features(200, 8, seed, 1.1, 0.3), 60, seed, level=0.5) for seed in range(60)]
    assert 18 <= sum(interval.low <= EXPECTED <= interval.high for interval in narrow) <= 42


def test_the_interval_holds_with_as_few_images_as_features():
    # The usual bootstrap, with replacement, gives a deviation above 1.9 here; 300 fresh draws vary by 0.45.
    stds = [frechet_bootstrap((torch.zeros(64), torch.eye(64)), random_features(100, 64, s, 1.1, 0.1), 30, s).std for s in range(5)]
    assert 0.35 < np.mean(stds) < 0.9


def test_the_interval_lies_about_the_measured_distance():
    for n, d in ((100, 8), (20, 40)):
        real, fake = random_features(n, d, 0), random_features(n, d, 1, spread=1.2)
        measured = frechet_from_features(real, fake)
        for both in (False, True):
            low, high, std = frechet_bootstrap(real, fake, rounds=40, both=both)
            assert 0 <= low < measured < high and 0 < std < measured


def test_drawing_from_both_sides_varies_more():
    pairs = [(random_features(200, 8, seed), random_features(200, 8, seed + 50)) for seed in range(5)]
    one, two = (np.mean([frechet_bootstrap(a, b, 40, both=both).std for a, b in pairs]) for both in (False, True))
    assert two > 1.2 * one


def test_every_form_of_the_real_side_gives_the_same():
    real, fake = random_features(300, 8, 0), random_features(100, 8, 1)
    stream = Moments(8)
    stream.update(real)
    intervals = [frechet_bootstrap(form, fake, 5) for form in (real, real.numpy(), stream, (stream.mean, stream.covariance))]
    for interval in intervals[1:]:
        assert interval == pytest.approx(intervals[0], rel=1e-8)
    assert frechet_infinity(stream, fake) == pytest.approx(frechet_infinity(real, fake), rel=1e-7)


def test_the_seed_decides():
    fake = random_features(100, 8, 0)
    state = torch.get_rng_state()
    assert frechet_bootstrap(STANDARD, fake, 5, seed=1) == frechet_bootstrap(STANDARD, fake, 5, seed=1)
    assert frechet_bootstrap(STANDARD, fake, 5, seed=1) != frechet_bootstrap(STANDARD, fake, 5, seed=2)
    assert frechet_infinity(STANDARD, fake, seed=1) == frechet_infinity(STANDARD, fake, seed=1)
    assert frechet_infinity(STANDARD, fake, seed=1) != frechet_infinity(STANDARD, fake, seed=2)
    assert torch.equal(torch.get_rng_state(), state)


def test_extrapolation_comes_nearer_the_truth():
    d, n = 32, 640
    standard = torch.zeros(d), torch.eye(d)
    truth = frechet_distance(*standard, torch.full((d,), 0.1), 1.21 * torch.eye(d))
    fakes = [random_features(n, d, seed, 1.1, 0.1) for seed in range(8)]
    finite = [frechet_distance(*standard, x.mean(dim=0), torch.cov(x.T)) for x in fakes]
    endless = [frechet_infinity(standard, x, seed=i) for i, x in enumerate(fakes)]
    assert np.mean(finite) > truth + 0.3  # 0.64 and about 1.17
    assert abs(np.mean([fit.value for fit in endless]) - truth) < 0.1
    assert all(abs(fit.value - truth) < abs(at_n - truth) for fit, at_n in zip(endless, finite))
    assert all(0 < fit.error < 0.2 for fit in endless)


def test_extrapolation_fits_a_line_through_sizes_evenly_spaced(monkeypatch):
    sizes = []
    monkeypatch.setattr(frechet_uncertainty, "fit_gaussian", lambda features: sizes.append(len(features)) or features)
    monkeypatch.setattr(
        frechet_uncertainty, "gaussian_distance", lambda real, fake: 3 + 7 / len(fake) + (0.1 if len(fake) == 30 else 0)
    )
    fit = frechet_infinity(STANDARD, random_features(50, 8, 0), points=5, smallest=10)
    assert sizes == [10, 20, 30, 40, 50]
    x = np.array([1 / size for size in sizes])
    (_, intercept), covariance = np.polyfit(x, [3 + 7 * u + (0.1 if u == 1 / 30 else 0) for u in x], 1, cov=True)
    assert fit == pytest.approx((intercept, covariance[1, 1] ** 0.5), rel=1e-9)
    sizes.clear()
    frechet_infinity(STANDARD, random_features(100, 8, 0))
    assert len(sizes) == 15 and sizes[0] == 16 and sizes[-1] == 100


def test_bootstrap_and_extrapolation_refuse():
    fake = random_features(20, 8, 0)
    for options, message in [
        ({"rounds": 1}, "2 rounds"),
        ({"level": 1.0}, "level between 0 and 1"),
        ({"level": 0.0}, "level between 0 and 1"),
        ({"both": True}, "pass their features"),
    ]:
        with pytest.raises(ValueError, match=message):
            frechet_bootstrap(STANDARD, fake, **options)
    with pytest.raises(ValueError, match="at least 4"):
        frechet_bootstrap(STANDARD, fake[:3])
    with pytest.raises(ValueError, match="7 columns instead of 8"):
        frechet_bootstrap(STANDARD, fake[:, :7])
    for options in ({"points": 2}, {"smallest": 1}, {"smallest": 20}):
        with pytest.raises(ValueError, match="at least 3 points"):
            frechet_infinity(STANDARD, fake, **options)


def test_inputs_stay_as_they_are_and_may_be_of_inference_mode():
    with torch.inference_mode():
        a, b = random_features(30, 10, seed=0), random_features(12, 10, seed=1)
    kept = a.clone(), b.clone()
    assert frechet_bootstrap(a, b, rounds=2, both=True).std > 0
    frechet_infinity(a, a, points=3)
    assert torch.equal(a, kept[0]) and torch.equal(b, kept[1])
