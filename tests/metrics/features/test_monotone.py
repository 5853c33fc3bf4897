"""The default distance grows with damage: real CIFAR-10 under stronger and stronger noise and blur."""

import math
from itertools import pairwise

import pytest
import torch
from torchvision.transforms.functional import gaussian_blur

from metrics.features import open_extractor
from metrics.frechet import frechet_from_features
from tests.helpers import real_cifar10

COUNT = 100
STRENGTHS = {"noise": (4, 8, 16, 32), "blur": (0.5, 0.75, 1.0, 1.5)}  # standard deviations in grey levels, and in pixels


@pytest.fixture(scope="module")
def pictures():
    """Two disjoint sets of real images with as many of each class."""
    images, _ = real_cifar10("test", 2 * COUNT)
    return images[0::2], images[1::2]


@pytest.fixture(scope="module")
def clean(pictures):
    return pictures[1]


@pytest.fixture(scope="module")
def distance(pictures):
    """distance(images) to the reference."""
    extractor = open_extractor(precision="auto")
    reference = extractor(pictures[0])[0]
    return lambda images: frechet_from_features(reference, extractor(images)[0])


@pytest.fixture(scope="module")
def undamaged(distance, clean):
    return distance(clean)


def damaged(images, kind, sigma):
    if kind == "blur":
        return gaussian_blur(images, 2 * math.ceil(3 * sigma) + 1, sigma)
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    return (images + sigma * noise).round().clamp(0, 255).byte()


@pytest.mark.parametrize("kind", STRENGTHS)
def test_the_distance_grows_with_damage(distance, clean, undamaged, kind):
    distances = [undamaged, *(distance(damaged(clean, kind, sigma)) for sigma in STRENGTHS[kind])]
    assert all(low < high for low, high in pairwise(distances)), distances
