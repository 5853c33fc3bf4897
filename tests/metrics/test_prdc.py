"""metrics.prdc against loops, point sets one can draw on paper, and torch-fidelity."""

import numpy as np
import pytest
import torch

from metrics import prdc as module
from metrics.prdc import density_coverage, precision_recall, squared_distances, squared_radii
from tests.helpers import random_features
from tests.reference import naive_scores


def line(*points):
    return torch.tensor(points, dtype=torch.float32)[:, None]


@pytest.mark.parametrize("seed", range(12))
def test_equal_the_loops(seed):
    n, m, d, k = 20 + 3 * seed, 50 - 2 * seed, 1 + seed, 1 + seed % 4
    real, fake = random_features(n, d, seed), random_features(m, d, seed + 99, 0.5 + 0.15 * seed, 0.1 * seed)
    assert precision_recall(real, fake, k) == pytest.approx(naive_scores.precision_recall(real, fake, k))
    assert density_coverage(real, fake, k) == pytest.approx(naive_scores.density_coverage(real, fake, k))
    assert precision_recall(real.numpy(), fake.numpy(), k) == precision_recall(real, fake, k)


def test_by_hand():
    # k = 1: balls of 1 around 0 and 1, of 9 around 10 (down to 1, up to 19); around the fakes 0.5 and 25 balls of 24.5.
    real, fake = line(0, 1, 10), line(0.5, 25)
    assert precision_recall(real, fake, k=1) == (0.5, 1.0)
    # 0.5 lies in two balls, 25 in none: 2 / (1 * 2); of the three balls two hold something.
    assert density_coverage(real, fake, k=1) == (1.0, pytest.approx(2 / 3))


def test_the_border_belongs_to_the_ball():
    real, fake = line(0, 1, 2, 3), line(4, 5, 9)  # k = 1: radii 1
    assert precision_recall(real, fake, k=1).precision == pytest.approx(1 / 3)
    assert density_coverage(real, fake, k=1) == (pytest.approx(1 / 3), 0.25)
    # A lattice in 3 dimensions has nothing but ties.
    axis = torch.arange(4.0)
    lattice = torch.cartesian_prod(axis, axis, axis)
    for k in (1, 3, 5):
        shifted = lattice + torch.tensor([1.0, 0.0, 0.0])
        assert precision_recall(lattice, shifted, k) == pytest.approx(naive_scores.precision_recall(lattice, shifted, k))
        assert density_coverage(lattice, shifted, k) == pytest.approx(naive_scores.density_coverage(lattice, shifted, k))


def test_the_same_images_are_perfect():
    x = random_features(200, 30, seed=0).float()
    assert precision_recall(x, x.flip(0)) == (1, 1)
    # Every ball holds its centre and its k neighbours, the k-th on the border.
    assert density_coverage(x, x.flip(0)) == (pytest.approx(6 / 5), 1)


def test_worlds_apart():
    x = random_features(50, 10, seed=0)
    assert precision_recall(x, x + 1000) == (0, 0)
    assert density_coverage(x, x + 1000) == (0, 0)


def test_a_collapsed_generator_is_precise_and_recalls_nothing():
    real = random_features(200, 20, seed=0)
    fake = real[:1].repeat(100, 1)
    assert precision_recall(real, fake) == (1, 1 / 200)  # of radius 0, yet it holds the image that was copied
    density, coverage = density_coverage(real, fake)
    assert density > 0 and coverage < 0.5


def test_half_the_modes():
    real = torch.cat([random_features(100, 5, 0), random_features(100, 5, 1, shift=100)])
    fake = torch.cat([random_features(100, 5, 2), random_features(100, 5, 3, shift=-100)])
    precision, recall = precision_recall(real, fake)
    density, coverage = density_coverage(real, fake)
    assert precision == pytest.approx(0.5, abs=0.06) and recall == pytest.approx(0.5, abs=0.06)
    assert coverage == pytest.approx(0.5, abs=0.06) and 0.3 < density < 0.7


def test_one_distribution():
    # Naeem et al. 2020, eq. 7-8: density 1 and coverage 1 - (M-1)...(M-k) / ((2M-1)...(2M-k)) in expectation, for N = M.
    results = [density_coverage(random_features(300, 4, s), random_features(300, 4, s + 50)) for s in range(10)]
    expected = 1 - np.prod([(300 - i) / (600 - i) for i in range(1, 6)])
    assert np.mean([r.density for r in results]) == pytest.approx(1, abs=0.05)
    assert np.mean([r.coverage for r in results]) == pytest.approx(expected, abs=0.01)


# --- exactness ---------------------------------------------------------------------------------------------------------------


def direct(x, y):
    return (x[:, None] - y[None]).square().sum(dim=2)


@pytest.mark.parametrize("apart", [1e-2, 1e-4, 1e-6, 1e-9, 1e-12])
@pytest.mark.parametrize("share", [0.02, 1.0])
def test_near_duplicates_keep_their_distances(apart, share):
    # |x|^2 is near 32; in the fast formula everything below 1e-14 would be noise. share 1: the way for collapsed generators.
    x = random_features(60, 32, seed=0)
    near = x + apart * random_features(60, 32, seed=1) if share == 1 else random_features(60, 32, seed=2)
    near[0] = x[0] + apart * random_features(1, 32, seed=3)[0]
    if share == 1:
        x, near = x[:1] + (x - x[:1]) * apart, x[:1] + (near - x[:1]) * apart
    torch.testing.assert_close(squared_distances(x, near), direct(x, near), rtol=1e-8, atol=0)


def test_duplicates_are_at_distance_exactly_0():
    x = random_features(100, 50, seed=0) * 1e3
    assert (squared_distances(x, x).diagonal() == 0).all()
    twice = torch.cat([x, x])
    assert (squared_radii(twice, 1, "real") == 0).all() and (squared_radii(twice, 2, "real") > 0).all()


def test_a_far_origin_costs_nothing():
    # Whole numbers of 1/8: exact in float32 even at 1e5, so the scores must not change at all.
    real, fake = ((random_features(80, 6, s) * 8).round() / 8 for s in (0, 1))
    far = [(x + 1e5).float() for x in (real, fake)]
    assert precision_recall(*far) == precision_recall(real, fake)
    assert density_coverage(*far) == density_coverage(real, fake)


def test_two_tight_clusters_far_apart():
    # Distances within a cluster are 1e-5, between them 1000: half of all pairs cancel.
    side = torch.arange(60) % 2 * 1000.0
    real, fake = (random_features(60, 8, s) * 1e-5 + side[:, None] for s in (0, 1))
    assert precision_recall(real, fake) == pytest.approx(naive_scores.precision_recall(real, fake, 3))
    assert density_coverage(real, fake) == pytest.approx(naive_scores.density_coverage(real, fake, 5))


@pytest.mark.parametrize("entries", [1, 50, 777])
def test_blocks_change_nothing_and_stay_small(entries, monkeypatch):
    real, fake = random_features(61, 4, 0), random_features(47, 4, 1)
    real[7] = real[3]
    expected = precision_recall(real, fake), density_coverage(real, fake)
    shapes = []

    def watched(x, y):
        shapes.append((len(x), len(y)))
        return squared_distances(x, y)

    monkeypatch.setattr(module, "ENTRIES", entries)
    monkeypatch.setattr(module, "squared_distances", watched)
    assert (precision_recall(real, fake), density_coverage(real, fake)) == expected
    assert all(n == 1 or n * m <= entries for n, m in shapes) and max(m for _, m in shapes) == 61


def test_parity_with_torch_fidelity():
    fidelity = pytest.importorskip("torch_fidelity.metric_prc")
    real, fake = random_features(300, 16, 0), random_features(250, 16, 1, 0.9, 0.1)
    for whole in (True, False):
        theirs = fidelity.prc_features_to_metric(
            fake, real, prc_neighborhood=3, prc_batch_size=100, save_cpu_ram=whole, verbose=False
        )
        assert precision_recall(real, fake) == pytest.approx((theirs["precision"], theirs["recall"]), abs=1e-6)


def test_refuse():
    x = random_features(10, 4, 0)
    for real, fake, message in [
        (x[:3], x, "at least 4 real images, not 3"),
        (x, x[:3], "at least 4 generated images, not 3"),
    ]:
        with pytest.raises(ValueError, match=message):
            precision_recall(real, fake)
    with pytest.raises(ValueError, match="k of at least 1"):
        precision_recall(x, x, k=0)
    with pytest.raises(ValueError, match="at least 6 real images, not 5"):
        density_coverage(x[:5], x)
    with pytest.raises(ValueError, match="at least 1 generated image"):
        density_coverage(x, x[:0])
    with pytest.raises(ValueError, match="at least 4 real images, not 0"):
        precision_recall(x[:0], x)
    assert density_coverage(x, x[:1])[1] > 0
    for score in (precision_recall, density_coverage):
        with pytest.raises(ValueError, match="3 columns instead of 4"):
            score(x, x[:, :3])
        with pytest.raises(ValueError, match="NaN or infinity"):
            score(x * torch.nan, x)
