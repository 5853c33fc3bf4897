"""The three ways to make a square."""

import numpy as np
import pytest
from PIL import Image

from data import DataError, load
from data.decoding import fit
from tests.data.pictures import noise


def test_cut_takes_the_central_pixels_as_they_are():
    image = noise(0, (40, 30))
    assert (fit(image, 16, "cut") == np.asarray(image)[7:23, 12:28].transpose(2, 0, 1)).all()
    with pytest.raises(ValueError, match="40×30 is smaller than 32×32"):
        fit(image, 32, "cut")


def test_pad_shows_the_whole_image_between_black_bars():
    found = fit(Image.new("RGB", (64, 32), "white"), 16, "pad")
    assert (found[:, :4] == 0).all() and (found[:, -4:] == 0).all() and (found[:, 4:12] == 255).all()
    assert fit(Image.new("RGB", (64, 8)), 16, "pad").shape == (3, 16, 16)
    with pytest.raises(ValueError, match="smaller"):
        fit(Image.new("RGB", (15, 8)), 16, "pad")


def test_center_of_celeba_is_its_square_of_178():
    image = noise(0, (178, 218))
    wanted = image.crop((0, 20, 178, 198)).resize((64, 64), Image.Resampling.LANCZOS)
    assert (fit(image, 64) == np.asarray(wanted).transpose(2, 0, 1)).all()


def test_celeba_is_found_by_its_published_names(tmp_path):
    (tmp_path / "img_align_celeba").mkdir()
    noise(0, (178, 218)).save(tmp_path / "img_align_celeba/000001.jpg")
    noise(0, (50, 50)).save(tmp_path / "other.jpg")
    for path in (tmp_path, tmp_path / "img_align_celeba"):
        assert load("celeba", path, 64).images.shape == (1, 3, 64, 64)
    (tmp_path / "root/celeba").mkdir(parents=True)  # as torchvision has it, beside other data
    noise(1, (178, 218)).save(tmp_path / "root/other.jpg")
    (tmp_path / "img_align_celeba").rename(tmp_path / "root/celeba/img_align_celeba")
    for path in (tmp_path / "root", tmp_path / "root/celeba"):
        found = load("celeba", path, 64)
        assert len(found) == 1 and "img_align_celeba" in found.source
    with pytest.raises(DataError, match=r"there is no celeba at .*img_align_celeba or img_align_celeba.zip"):
        load("celeba", tmp_path / "nowhere", 64)
    with pytest.raises(DataError, match=r"dataset\.crop is one of center, pad, cut"):
        load("celeba", tmp_path, 64, crop="centre")
