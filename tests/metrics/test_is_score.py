"""metrics.is_score against the formula in loops and its closed forms."""

import numpy as np
import pytest
import torch

from metrics.is_score import InceptionScore, inception_score
from tests.reference import naive_scores


def random_probabilities(n, classes, seed, sharpness=3.0):
    logits = torch.randn(n, classes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * sharpness
    return logits.softmax(dim=1)


@pytest.mark.parametrize("classes", [2, 10, 1000])
def test_every_class_once_and_surely_scores_the_number_of_classes(classes):
    p = torch.eye(classes).repeat(20, 1)
    assert inception_score(p) == pytest.approx((classes, 0), rel=1e-9, abs=1e-6)


def test_one_answer_for_all_images_scores_1():
    for row in (torch.ones(10) / 10, torch.eye(10)[3], random_probabilities(1, 10, 0)[0]):
        assert inception_score(row.repeat(50, 1), splits=5) == pytest.approx((1, 0), abs=1e-6)


def test_parts_are_scored_apart():
    # Within a part only one class occurs: 1, though all the images together would score 4.
    p = torch.eye(4).repeat_interleave(25, dim=0)
    assert inception_score(p, splits=4) == pytest.approx((1, 0), abs=1e-9)
    assert inception_score(p, splits=1) == pytest.approx((4, 0), rel=1e-9)
    # Two parts that score 1 and 2: mean 1.5, deviation with ddof 0.
    p = torch.eye(2)[[0, 0, 0, 0, 0, 1, 0, 1]]
    assert inception_score(p, splits=2) == pytest.approx((1.5, 0.5), rel=1e-9)


@pytest.mark.parametrize(("n", "splits"), [(10, 10), (11, 10), (103, 10), (97, 7), (64, 1)])
def test_equals_the_loops(n, splits):
    for seed in range(3):
        p = random_probabilities(n, 6, seed)
        p[::3] = torch.eye(6, dtype=torch.float64)[seed]  # 0 log 0
        assert inception_score(p, splits) == pytest.approx(naive_scores.inception_score(p, splits), rel=1e-10, abs=1e-12)
        assert inception_score(p.numpy(), splits) == inception_score(p, splits)


@pytest.mark.parametrize("batch", [1, 7, 10, 64, 103])
def test_streaming_equals_all_at_once(batch):
    p = random_probabilities(103, 12, seed=0)
    stream = InceptionScore(103)
    for piece in p.split(batch):
        stream.update(piece)
    assert stream.result() == pytest.approx(inception_score(p), rel=1e-12)


def test_memory_does_not_grow():
    stream = InceptionScore(10**9)
    stream.update(random_probabilities(64, 10, 0))
    assert stream._classes.numel() == 100


def test_float32_is_summed_in_float64():
    p = random_probabilities(5000, 100, seed=0, sharpness=0.01).float()
    assert inception_score(p)[0] - 1 == pytest.approx(naive_scores.inception_score(p[:5000], 10)[0] - 1, rel=1e-3)


def test_parity_with_torch_fidelity():
    fidelity = pytest.importorskip("torch_fidelity.metric_isc")
    logits = torch.randn(333, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2
    theirs = fidelity.isc_features_to_metric(logits, splits=10, shuffle=False)
    ours = inception_score(logits.softmax(dim=1))
    assert ours == pytest.approx((theirs["inception_score_mean"], theirs["inception_score_std"]), rel=1e-9)


def test_refuses_a_wrong_number_of_images():
    for count, splits in ((9, 10), (0, 1), (5, 0)):
        with pytest.raises(ValueError, match="splits need at least 1 image each"):
            InceptionScore(count, splits)
    with pytest.raises(ValueError, match="splits need at least 1 image each"):
        inception_score(torch.eye(5))
    stream = InceptionScore(20)
    p = random_probabilities(15, 4, 0)
    stream.update(p)
    with pytest.raises(ValueError, match="15 images arrived, but 20 were announced"):
        stream.result()
    with pytest.raises(ValueError, match="30 images arrived, but 20 were announced"):
        stream.update(p)
    stream.update(p[:5])  # a refused batch left nothing behind
    assert stream.result() == pytest.approx(inception_score(torch.cat([p, p[:5]])), rel=1e-12)


def test_refuses_what_is_no_probability():
    p = random_probabilities(10, 4, 0)
    negative, short = p.clone(), p * 0.99
    negative[3, :2] += torch.tensor([-1.0, 1.0])
    for bad in (negative, short, torch.randn(10, 4) * 5):
        with pytest.raises(ValueError, match="not probabilities"):
            inception_score(bad)
    with pytest.raises(ValueError, match="NaN"):
        inception_score(p * torch.nan)
    inception_score(p * 1.0005)  # what half precision may leave
    stream = InceptionScore(20)
    stream.update(p)
    with pytest.raises(ValueError, match="3 columns instead of 4"):
        stream.update(random_probabilities(10, 3, 0))


def test_a_lower_bound_of_1_and_an_upper_one_of_the_classes():
    for seed in range(30):
        mean, std = inception_score(random_probabilities(40, 5, seed, sharpness=float(seed)), splits=2)
        assert 1 - 1e-12 <= mean <= 5 + 1e-12 and np.isfinite(std)
