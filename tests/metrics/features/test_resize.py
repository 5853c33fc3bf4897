"""Each way to resize, against loops over its formula or against the library it is named after."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from metrics.features.resize import RESIZES, resize
from tests.helpers import random_images

SHAPES = [(9, 7, 24), (7, 9, 20), (20, 31, 8), (16, 16, 8), (5, 5, 5)]  # height, width, size: up, down, by two, not at all


def bilinear_loops(images, size, source):
    """Bilinear interpolation, pixel by pixel; source(i, length) is where output pixel i lies in the input, in pixel centres."""
    n, c, height, width = images.shape
    x = images.double()
    out = torch.empty(n, c, size, size, dtype=torch.float64)
    for i in range(size):
        for j in range(size):
            y, z = max(source(i, height), 0), max(source(j, width), 0)
            top, left = math.floor(y), math.floor(z)
            bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
            above = x[:, :, top, left] * (1 - z + left) + x[:, :, top, right] * (z - left)
            below = x[:, :, bottom, left] * (1 - z + left) + x[:, :, bottom, right] * (z - left)
            out[:, :, i, j] = above * (1 - y + top) + below * (y - top)
    return out.float()


@pytest.mark.parametrize("height, width, size", SHAPES)
def test_tf1_reads_from_corner_to_corner(height, width, size):
    images = random_images(2, height, width)
    expected = bilinear_loops(images, size, lambda i, length: i * length / size)
    torch.testing.assert_close(resize(images, size, "tf1"), expected, rtol=0, atol=1e-2)


@pytest.mark.parametrize("height, width, size", SHAPES)
def test_pytorch_fid_reads_between_pixel_centres_without_antialias(height, width, size):
    images = random_images(2, height, width)
    expected = bilinear_loops(images, size, lambda i, length: (i + 0.5) * length / size - 0.5)
    torch.testing.assert_close(resize(images, size, "pytorch_fid"), expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize("height, width, size", SHAPES)
def test_clean_is_pils_bicubic_per_channel(height, width, size):
    images = random_images(2, height, width)
    channels = images.numpy().astype(np.float32).reshape(-1, height, width)
    resized = [np.asarray(Image.fromarray(channel).resize((size, size), Image.Resampling.BICUBIC)) for channel in channels]
    expected = torch.from_numpy(np.stack(resized)).clamp(0, 255).view(2, 3, size, size)
    torch.testing.assert_close(resize(images, size, "clean"), expected, rtol=0, atol=1e-2)


def test_clean_cuts_what_overshoots():
    edge = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    edge[..., 4:] = 255
    result = resize(edge, 32, "clean")
    assert result.min() == 0 and result.max() == 255


@pytest.mark.parametrize("how", RESIZES)
def test_an_image_of_the_size_keeps_its_values(how):
    images = random_images(2, 12, 12)
    assert torch.equal(resize(images, 12, how), images.float())


@pytest.mark.parametrize("how", RESIZES)
def test_the_layout_in_memory_changes_nothing(how):
    images = random_images(2, 11, 13)
    strided = images.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(resize(images, 24, how), resize(strided, 24, how), rtol=0, atol=1e-3)


def test_tf1_moves_a_ramp_by_045_pixels():
    ramp = torch.arange(32, dtype=torch.uint8).expand(1, 3, 32, 32)
    moved = (resize(ramp, 299, "pytorch_fid") - resize(ramp, 299, "tf1"))[..., 16:-16].mean()
    assert moved.item() == pytest.approx(-0.5 * (1 - 32 / 299), abs=1e-3)
