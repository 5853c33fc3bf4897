"""metrics.kernel_mmd against double loops, closed forms, and torch-fidelity."""

import numpy as np
import pytest
import torch

from metrics.kernel_mmd import cubic_kernel, kernel_distance, squared_mmd
from tests.helpers import random_features
from tests.reference import naive_scores


@pytest.mark.parametrize("seed", range(8))
def test_equals_the_double_loop(seed):
    x, y = random_features(9 + seed, 5, seed), random_features(21 - seed, 5, seed + 99, 1.5, 0.3)
    assert squared_mmd(x, y).item() == pytest.approx(naive_scores.squared_mmd(x, y), rel=1e-10, abs=1e-12)


def test_hand_made():
    # k = (1 * 1 + 1)^3 = 8 within the ones, 1 within the zeros and across: 8 + 1 - 2.
    assert squared_mmd(torch.ones(3, 4), torch.zeros(5, 4)).item() == 7
    assert cubic_kernel(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 1.0]])).item() == 3.5**3


def test_full_subsets_are_the_estimate_on_all_images():
    x, y = random_features(30, 6, 0), random_features(30, 6, 1, 1.2)
    mean, std = kernel_distance(x, y, subsets=4, size=30)
    assert mean == pytest.approx(naive_scores.squared_mmd(x, y), rel=1e-9) and std < 1e-12
    assert kernel_distance(x.numpy(), y.numpy(), subsets=4, size=30) == (mean, std)


def test_is_unbiased():
    # One distribution: 0 on average, with both signs; the biased estimate would be about 2 (E k(x, x) - E k(x, y)) / 20 > 0.3.
    values = torch.stack(
        [squared_mmd(random_features(20, 8, 2 * s, shift=0.5), random_features(20, 8, 2 * s + 1, shift=0.5)) for s in range(1000)]
    )
    assert abs(values.mean().item()) < 4 * values.std().item() / 1000**0.5 < 0.05
    assert 0.3 < (values < 0).double().mean().item() < 0.8
    # A known difference: for x ~ N(0, 1) in one dimension and y = 0, E k(x, x') = 1 + 3 E(xx')^2 = 4, others 1, hence 3.
    values = torch.stack([squared_mmd(random_features(50, 1, s), torch.zeros(50, 1, dtype=torch.float64)) for s in range(500)])
    assert values.mean().item() == pytest.approx(3, abs=4 * values.std().item() / 500**0.5)


def test_subsets_average_to_the_whole():
    x, y = random_features(200, 8, 0), random_features(150, 8, 1, 1.3, 0.2)
    whole = squared_mmd(x, y).item()
    mean, std = kernel_distance(x, y, subsets=300, size=50)
    assert mean == pytest.approx(whole, abs=4 * std / 300**0.5) and std > 0


def test_mean_and_deviation_are_those_of_the_subsets(monkeypatch):
    values = iter([0.0, 1.0, 5.0])
    monkeypatch.setattr("metrics.kernel_mmd.squared_mmd", lambda x, y: torch.tensor(next(values)))
    x = random_features(5, 2, 0)
    assert kernel_distance(x, x, subsets=3, size=2) == pytest.approx((2, np.std([0, 1, 5])))


def test_the_seed_decides():
    x, y = random_features(60, 4, 0), random_features(60, 4, 1)
    state = torch.get_rng_state()
    first = kernel_distance(x, y, subsets=3, size=20, seed=1)
    assert first == kernel_distance(x, y, subsets=3, size=20, seed=1) != kernel_distance(x, y, subsets=3, size=20, seed=2)
    assert torch.equal(torch.get_rng_state(), state)


def test_subsets_are_drawn_without_replacement_from_both(monkeypatch):
    seen = []
    monkeypatch.setattr("metrics.kernel_mmd.squared_mmd", lambda x, y: seen.append((x, y)) or torch.tensor(0.0))
    x, y = torch.arange(20.0)[:, None], torch.arange(100.0, 130.0)[:, None]
    kernel_distance(x, y, subsets=50, size=15)
    for a, b in seen:
        assert len(a.unique()) == len(b.unique()) == 15 and a.max() < 20 and b.min() >= 100
        assert a.dtype == b.dtype == torch.float64
    assert torch.cat([a for a, _ in seen]).unique().numel() == 20


def test_float32_features_far_from_the_origin():
    # Kernel values near 2e6 and a difference of about 1e3: float32 sums would keep two digits or three.
    x, y = random_features(40, 10, 0, shift=11).float(), random_features(40, 10, 1, shift=11.001).float()
    assert kernel_distance(x, y, subsets=1, size=40)[0] == pytest.approx(naive_scores.squared_mmd(x, y), rel=1e-7)


def test_parity_with_torch_fidelity():
    fidelity = pytest.importorskip("torch_fidelity.metric_kid")
    x, y = random_features(50, 16, 0), random_features(50, 16, 1, 1.2, 0.1)
    theirs = fidelity.kid_features_to_metric(x, y, kid_subsets=2, kid_subset_size=50, verbose=False)
    assert kernel_distance(x, y, subsets=2, size=50)[0] == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-9)
    # Other random subsets, the same statistics.
    x, y = random_features(400, 16, 2), random_features(400, 16, 3, 1.2, 0.1)
    theirs = fidelity.kid_features_to_metric(x, y, kid_subsets=200, kid_subset_size=100, verbose=False)
    mean, std = kernel_distance(x, y, subsets=200, size=100)
    assert mean == pytest.approx(theirs["kernel_inception_distance_mean"], abs=4 * std * (2 / 200) ** 0.5)
    assert std == pytest.approx(theirs["kernel_inception_distance_std"], rel=0.25)


def test_refuses():
    x = random_features(10, 4, 0)
    with pytest.raises(ValueError, match="can't be drawn from 10 and 5: score more images or pass a smaller size"):
        kernel_distance(x, x[:5], size=6)
    with pytest.raises(ValueError, match="pass a smaller size"):
        kernel_distance(x, x)
    for options in ({"size": 1}, {"size": 5, "subsets": 0}):
        with pytest.raises(ValueError, match="at least 1 subset of at least 2 images"):
            kernel_distance(x, x, **options)
    with pytest.raises(ValueError, match="3 columns instead of 4"):
        kernel_distance(x, x[:, :3], size=5)
    with pytest.raises(ValueError, match="NaN or infinity"):
        kernel_distance(x, np.full((10, 4), np.inf), size=5)
