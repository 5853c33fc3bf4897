"""Nearest images and memorisation against loops, and shares under the null against what they are said to be."""

import pytest
import torch

from metrics.neighbours import ROWS, memorisation_of, nearest
from tests.helpers import random_features


def test_the_nearest_are_those_that_a_loop_finds(monkeypatch):
    monkeypatch.setattr("metrics.neighbours.ROWS", 4)
    x, others = random_features(11, 3, 0), random_features(9, 3, 1)
    found = nearest(x, others, 3)
    for i, row in enumerate(x):
        distances = [float((row - other).square().sum().sqrt()) for other in others]
        order = sorted(range(len(others)), key=distances.__getitem__)[:3]
        assert found.indices[i].tolist() == order
        assert found.distances[i].tolist() == pytest.approx([distances[j] for j in order])
    assert ROWS == 512


def test_no_row_is_its_own_neighbour_where_both_sets_are_one(monkeypatch):
    monkeypatch.setattr("metrics.neighbours.ROWS", 4)
    x = random_features(11, 3, 0)
    found = nearest(x, x, 2, own=True)
    assert all(i not in row for i, row in enumerate(found.indices.tolist())) and bool((found.distances > 0).all())
    assert nearest(x, x, 1).distances.tolist() == [[0.0]] * 11


@pytest.mark.parametrize("k, own", [(0, False), (4, False), (3, True)])
def test_more_neighbours_than_there_are_images_are_refused(k, own):
    x = random_features(3, 2, 0)
    with pytest.raises(ValueError, match="add images"):
        nearest(x, x, k, own)


def test_the_share_counts_pairs_and_ties_half():
    samples, held_out = torch.tensor([0.0, 1.0, 2.0, 5.0]).double(), torch.tensor([1.0, 2.0, 3.0]).double()
    pairs = [1.0 if s < h else 0.5 if s == h else 0.0 for s in samples.tolist() for h in held_out.tolist()]
    assert memorisation_of(samples, held_out).share == pytest.approx(sum(pairs) / len(pairs))


def test_copies_have_a_share_of_one_and_garbage_of_zero():
    held_out = random_features(50, 1, 0)[:, 0].abs() + 1
    copies, garbage = torch.zeros(20).double(), torch.full((20,), 99.0).double()
    assert (memorisation_of(copies, held_out).share, memorisation_of(copies, held_out).closest) == (1, 1)
    assert (memorisation_of(garbage, held_out).share, memorisation_of(garbage, held_out).closest) == (0, 0)
    mixed = memorisation_of(torch.cat([copies, garbage.repeat(4)]), held_out)
    assert mixed.share < mixed.low and mixed.closest == pytest.approx(0.2) and mixed.closest > mixed.closest_high


def test_where_samples_are_real_images_the_share_stays_in_its_range_as_often_as_said():
    inside = 0
    for seed in range(400):
        drawn = random_features(60, 1, seed)[:, 0]
        found = memorisation_of(drawn[:25], drawn[25:])
        inside += found.low <= found.share <= found.high
    assert 0.92 <= inside / 400 <= 0.98
