"""Scores as functions of images: whatever the images come in, the value is that of the features' closed form."""

import gc
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SubsetRandomSampler, TensorDataset, default_collate

import metrics
from metrics.features import open_extractor
from metrics.features.network import NETWORKS, Network
from metrics.frechet import frechet_from_features
from metrics.is_score import inception_score
from metrics.kernel_mmd import kernel_distance
from metrics.prdc import density_coverage, precision_recall
from tests.helpers import FEATURES, LABEL, NAME, random_images

pytestmark = [
    pytest.mark.usefixtures("tiny_networks"),
    pytest.mark.filterwarnings("ignore:.*images are no more than the.*features"),
]

A, B = random_images(40, 8, 8), random_images(30, 8, 8, seed=1) // 2


@pytest.fixture
def embedded(tiny_networks):
    """The features of A and B."""
    extractor = open_extractor(FEATURES)
    return extractor(A)[0], extractor(B)[0]


def ways(images):
    """The same images in all the forms that somebody may have."""
    labels = torch.zeros(len(images))
    return {
        "tensor": images,
        "array": images.numpy(),
        "channels last": images.permute(0, 2, 3, 1).numpy(),
        "batches": list(images.split(7)),
        "generator": (batch for batch in images.split(7)),
        "single images": iter(images),
        "loader": DataLoader(TensorDataset(images), batch_size=9),
        "loader with labels": DataLoader(TensorDataset(images, labels), batch_size=9, drop_last=False),
        "pairs": [(batch, 0) for batch in images.numpy().reshape(-1, 10, 3, 8, 8)],
    }


@pytest.mark.parametrize("way", ways(A))
def test_the_distance_is_that_of_the_features_whatever_the_images_come_in(way, embedded):
    score = metrics.frechet_distance(ways(A)[way], ways(B)[way], FEATURES)
    assert score.value == pytest.approx(frechet_from_features(*embedded), rel=1e-6)
    assert score.name == NAME and (score.card.real_count, score.card.generated_count) == (40, 30)
    assert score.card.real_sha256 == metrics.frechet_distance(A, B, FEATURES).card.real_sha256


def test_the_other_scores_are_those_of_the_features(embedded):
    a, b = embedded
    kid = metrics.kernel_distance(A, B, FEATURES, seed=3)
    assert (kid.value, kid.spread) == pytest.approx(kernel_distance(a, b, size=30, seed=3)) and kid.name == f"kd_{LABEL}"
    assert [s.value for s in metrics.precision_recall(A, B, FEATURES)] == list(precision_recall(a, b))
    assert [s.value for s in metrics.density_coverage(A, B, FEATURES)] == list(density_coverage(a, b))
    found = metrics.scores(A, B, ["fid", "pr"], FEATURES)
    assert list(found) == [NAME, f"precision_{LABEL}", f"recall_{LABEL}"]
    assert found[NAME].card == metrics.precision_recall(A, B, FEATURES)[0].card


@pytest.mark.parametrize("way", ways(B))
def test_the_inception_score_is_that_of_the_probabilities(way, with_classes):
    extractor = open_extractor("classy")
    score = metrics.inception_score(ways(B)[way], extractor, splits=3)
    assert (score.value, score.spread) == pytest.approx(inception_score(extractor(B)[1], splits=3))
    assert (score.name, score.spread_of, score.card.generated_count) == ("score_classy", "3 splits", 30)
    assert metrics.scores(A, ways(B)[way], ["is"], extractor)["score_classy"].card.generated_count == 30


def test_a_reference_gives_the_same_distance_and_is_saved_and_loaded(tmp_path):
    reference = metrics.Reference(DataLoader(TensorDataset(A), batch_size=9), FEATURES)
    expected = metrics.frechet_distance(A, B, FEATURES)
    score = reference.frechet_distance(B.split(4))
    assert score.value == pytest.approx(expected.value, rel=1e-7) and score.card == expected.card and reference.count == 40
    reference.save(tmp_path / "real.npz")
    again = metrics.Reference(tmp_path / "real.npz", FEATURES)
    assert again.frechet_distance(B) == reference.frechet_distance(B)
    with pytest.raises(metrics.UserError, match="computed with features"):
        metrics.Reference(tmp_path / "real.npz", "module:tests.metrics.test_functions.six").frechet_distance(B)


def six():
    """Six features, of other weights."""
    return torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(4), torch.nn.Flatten(), torch.nn.Linear(48, 6))


def test_a_reference_reads_a_stream_one_batch_at_a_time():
    alive, most = weakref.WeakSet(), 0

    def batches():
        nonlocal most
        for seed in range(20):
            batch = random_images(8, 8, 8, seed=seed)
            alive.add(batch)
            gc.collect()
            most = max(most, len(alive))
            yield batch

    metrics.Reference(A, FEATURES).frechet_distance(batches())
    assert most <= 2


def test_few_images_are_warned_of():
    with pytest.warns(UserWarning, match="4 images are no more than the 6 features"):
        metrics.frechet_distance(A, B[:4], FEATURES)


def test_an_array_that_cannot_be_written_to_is_read():
    images = A.numpy().copy()
    images.flags.writeable = False
    assert metrics.frechet_distance(images, B, FEATURES) == metrics.frechet_distance(A, B, FEATURES)


WRONG = [
    (lambda: metrics.frechet_distance(A.float(), B, FEATURES), r"real images are torch.float32, not uint8: .*round"),
    (lambda: metrics.frechet_distance(A, B[:, :1], FEATURES), r"generated images have shape \(30, 1, 8, 8\)"),
    (lambda: metrics.frechet_distance(A, "samples.zip", FEATURES), "generated images are of type str: pass a uint8 tensor"),
    (lambda: metrics.frechet_distance(A, 3, FEATURES), "generated images are of type int"),
    (lambda: metrics.frechet_distance(A, [None], FEATURES), "generated images contain a NoneType: pass uint8 tensors"),
    (lambda: metrics.frechet_distance(A, [], FEATURES), "needs at least 2"),
    (lambda: metrics.frechet_distance(A, B, "incepton"), "did you mean 'inception'"),
    (lambda: metrics.frechet_distance(A, B, open_extractor(FEATURES), resize="tf1"), "leave out resize"),
    (lambda: metrics.precision_recall(A, B[:3], FEATURES), "at least 4 generated images"),
    (lambda: metrics.inception_score(iter([]), FEATURES), "there are no generated images"),
    (lambda: metrics.inception_score(B, FEATURES), "gives no class probabilities"),
    (lambda: metrics.inception_score(B[:3], FEATURES), "10 splits need at least 1 image each"),
    (lambda: metrics.memorisation(A, iter([]), B, FEATURES), "there are no training images"),
    (lambda: metrics.memorisation(A, B, B[:1], FEATURES), "at least 2 samples and 2 held-out images"),
    (lambda: metrics.Reference("nowhere.npz", FEATURES), "there are no statistics at nowhere.npz"),
]


@pytest.mark.parametrize("call, words", WRONG, ids=[words for _, words in WRONG])
def test_what_cannot_be_scored_is_one_sentence(call, words):
    with pytest.raises(metrics.UserError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_copies_of_training_images_are_found():
    images = random_images(90, 8, 8, seed=5)
    training, held_out = images[:50], images[50:]
    noise = torch.randint(0, 3, (40, 3, 8, 8), dtype=torch.uint8)
    copies = metrics.memorisation(training[:40] // 4 * 4 + noise, training, held_out, FEATURES)
    honest = metrics.memorisation(random_images(40, 8, 8, seed=6), training, held_out, FEATURES)
    assert copies.share > copies.high and copies.closest > copies.closest_high
    assert honest.low < honest.share < honest.high and honest.closest < honest.closest_high
    assert np.isclose((honest.low + honest.high) / 2, 0.5)


class Colours(nn.Module):
    """Mean colours of the four quarters, with a probability for each."""

    def forward(self, x):
        return nn.functional.adaptive_avg_pool2d(x, 2).flatten(1)


def colours(options, mean=0.0):
    network = Network(
        name="colours", sha256="c" * 64, trunk=Colours(), dim=12, size=32, resize="clean", mean=(mean,) * 3, std=(1.0,) * 3,
        head=nn.Identity(), classes=12,
    )  # fmt: skip
    return network


@pytest.fixture
def with_colours(monkeypatch):
    """Features "colours", which give class probabilities; registered for this test alone."""
    monkeypatch.setattr(NETWORKS, "_entries", dict(NETWORKS.entries() and NETWORKS._entries))
    NETWORKS.add("colours", colours, __name__)
    return "colours"


@pytest.mark.parametrize(
    "loader",
    [
        lambda data: DataLoader(data, sampler=SubsetRandomSampler(range(20))),
        lambda data: DataLoader(data, batch_sampler=BatchSampler(RandomSampler(data), 7, drop_last=True)),
        lambda data: DataLoader(data, sampler=RandomSampler(data, replacement=True, num_samples=60)),
        lambda data: DataLoader(TensorDataset(data.tensors[0].unflatten(0, (3, 10))), batch_size=None),
        lambda data: DataLoader(data, batch_size=7, collate_fn=lambda items: default_collate(items[1:])),
    ],
    ids=["a subset", "batches that drop the last", "more than there are", "a batch for each item", "items that are left out"],
)
def test_loaders_that_show_other_images_than_there_are_are_counted_by_reading(with_colours, loader):
    torch.manual_seed(0)
    seen = torch.cat([batch for batch, *_ in loader(TensorDataset(B))])
    torch.manual_seed(0)
    found = metrics.inception_score(loader(TensorDataset(B)), with_colours, splits=2)
    assert found.card.generated_count == len(seen) != len(loader(TensorDataset(B)).dataset)
    assert found.value == pytest.approx(metrics.inception_score(seen, with_colours, splits=2).value)


def test_all_scores_of_images_that_are_not_counted(with_colours):
    found = metrics.scores(A, (batch for batch in B.split(7)), "all", with_colours)
    assert found == metrics.scores(A, B, "all", with_colours) and any("score" in name for name in found)


def test_a_network_that_is_registered_anew_is_opened_anew(with_colours):
    first = metrics.frechet_distance(A, B, with_colours)
    NETWORKS.add("colours", lambda options: replace(colours(options), trunk=nn.Sequential(Colours(), nn.ReLU())), __name__)
    NETWORKS.add("colours", lambda options: replace(colours(options), std=(2.0,) * 3), __name__)
    assert metrics.frechet_distance(A, B, with_colours).value == pytest.approx(first.value / 4, rel=1e-4)
