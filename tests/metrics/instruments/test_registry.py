"""An instrument is one file: what it registers is measured with the others."""

import pytest
import torch
from torch import nn

from metrics.instruments.registry import INSTRUMENTS, Number, image_numbers, layer_numbers, numbers_of, register
from tests.helpers import random_images

OF_IMAGES = [
    "phase_mean_variance", "nyquist_peaks_db", "half_nyquist_peaks_db", "phase_variance_ratio", "border_left_right",
    "border_top_bottom", "border_asymmetry",
]  # fmt: skip
OF_PAIRS = ["border_left_right_excess", "border_top_bottom_excess", "border_asymmetry_excess", "spectrum_gap", "dct_gap"]
OF_LAYERS = ["overlap_variation", "phase_gain", "constant_response", "noise_response"]


@pytest.fixture
def registered():
    """register(...) for the length of a test."""
    before = dict(INSTRUMENTS._entries)
    yield register
    INSTRUMENTS._entries.clear()
    INSTRUMENTS._entries.update(before)


def test_every_number_is_described_once_and_measured():
    images, others = random_images(8), random_images(8, seed=1)
    assert [n.name for n in numbers_of("images")] == list(image_numbers(images)) == OF_IMAGES
    assert [n.name for n in numbers_of("pairs")] == OF_PAIRS
    assert list(image_numbers(images, others)) == OF_IMAGES + OF_PAIRS
    assert [n.name for n in numbers_of("layers")] == list(layer_numbers(nn.ConvTranspose2d(2, 3, 4, 2, 1))) == OF_LAYERS
    for number in numbers_of("images", "pairs", "layers"):
        assert len(number.code) == 2 and number.code[0] in "SWI" and number.meaning and "\n" not in number.meaning


def test_images_are_at_no_distance_from_themselves():
    images = random_images(8)
    assert {name: value for name, value in image_numbers(images, images).items() if name in OF_PAIRS} == dict.fromkeys(OF_PAIRS, 0)


def test_a_new_instrument_of_each_kind_is_measured_with_the_others(registered):
    @registered("images", Number("brightness", "I6", "grey levels", "mean over all pixels"))
    def brightness(images):
        return {"brightness": images.float().mean().item()}

    @registered("pairs", Number("brightness_gap", "I6", "grey levels", "more than the real ones"))
    def brightness_gap(images, real):
        return {"brightness_gap": brightness(images)["brightness"] - brightness(real)["brightness"]}

    @registered("layers", Number("inputs", "W5", "", "channels"))
    def inputs(layer, level):
        return {"inputs": float(layer.in_channels)}

    images, real = torch.full((4, 3, 32, 32), 90, dtype=torch.uint8), torch.full((4, 3, 32, 32), 70, dtype=torch.uint8)
    found = image_numbers(images, real)
    assert (found["brightness"], found["brightness_gap"]) == (90, 20) and "brightness_gap" not in image_numbers(images)
    assert layer_numbers(nn.ConvTranspose2d(2, 3, 4, 2, 1))["inputs"] == 2


def test_an_instrument_that_gives_other_numbers_than_it_said_is_told(registered):
    @registered("images", Number("brightness", "I6", "grey levels", "mean over all pixels"))
    def brightness(images):
        return {"darkness": 0.0}

    with pytest.raises(ValueError, match="instrument brightness gives darkness, and is registered with brightness"):
        image_numbers(random_images(4))
