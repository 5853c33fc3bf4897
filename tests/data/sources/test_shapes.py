import pytest
import torch

import data.sources.shapes
from data import DataError, load
from data.sources.shapes import CLASSES, shapes


@pytest.mark.parametrize("resolution", [16, 32, 64])
def test_form(resolution):
    found = shapes(resolution, count=25)
    assert found.images.shape == (25, 3, resolution, resolution) and found.images.dtype == torch.uint8
    assert found.images.is_contiguous()
    assert found.labels.dtype == torch.int64 and found.classes == CLASSES and found.resolution == resolution


def test_default_counts_and_balance():
    train, test = load("shapes"), load("shapes", split="test", resolution=16)
    assert len(train) == 10_000 and len(test) == 2_000
    assert train.labels.bincount().tolist() == [1_000] * 10
    assert test.labels.bincount().tolist() == [200] * 10
    assert len(train.images.flatten(1).unique(dim=0)) == 10_000  # no image twice


def test_an_image_depends_on_neither_count_nor_chunk(monkeypatch):
    few, many = shapes(32, count=37).images, shapes(32, count=600).images
    assert torch.equal(few, many[:37])
    monkeypatch.setattr(data.sources.shapes, "PIXELS_AT_ONCE", 5 * 32 * 32)
    assert torch.equal(shapes(32, count=600).images, many)


def test_generated_pixels_stay_what_they_were():
    # Published numbers rest on these pixels: whoever changes the drawing must do it knowingly.
    found = shapes(32, count=100).images.double()
    assert found.mean(dim=(0, 2, 3)).tolist() == pytest.approx([109.908, 111.404, 99.743], abs=0.005)


def test_splits_and_seeds_differ():
    train = shapes(32, "train", count=50).images
    assert (train != shapes(32, "test", count=50).images).flatten(1).any(1).all()
    assert (train != shapes(32, "train", count=50, seed=1).images).flatten(1).any(1).all()


def test_the_same_scene_at_every_resolution():
    small = shapes(32, count=40).images.float()
    large = torch.nn.functional.avg_pool2d(shapes(64, count=40).images.float(), 2)
    assert (small - large).abs().mean() < 4


def test_colourful_and_full_of_contrast():
    images = shapes(32, count=500).images.float()
    saturation = images.amax(1) - images.amin(1)  # (N, R, R)
    assert saturation.mean() > 80
    assert images.amin() < 40 and images.amax() > 230
    assert images.flatten(1).std(1).min() > 12  # no picture is empty
    assert images.mean(dim=(0, 2, 3)).std() < 30  # no colour rules


def test_classes_can_be_told_apart():
    # Nearest neighbour on the mere outline (distance of a pixel's colour from the corner's) must beat chance clearly.
    def outline(found):
        corner = found.images[:, :, :2, :2].float().mean(dim=(2, 3), keepdim=True)
        away = (found.images.float() - corner).square().sum(1).sqrt().flatten(1)
        return away / away.norm(dim=1, keepdim=True)

    train, test = shapes(16, count=4_000), shapes(16, "test", count=500)
    nearest = torch.cdist(outline(test), outline(train)).argmin(1)
    assert (train.labels[nearest] == test.labels).float().mean() > 0.4


def test_refuses_what_it_cannot_draw():
    with pytest.raises(DataError, match="16×16"):
        load("shapes", resolution=8)
    with pytest.raises(DataError, match="at least 1"):
        shapes(32, count=0)


def test_a_set_that_is_in_use_is_not_drawn_again():
    first = load("shapes", resolution=16, split="test")
    assert load("shapes", resolution=16, split="test") is first
    assert load("shapes", resolution=16, split="train") is not first
