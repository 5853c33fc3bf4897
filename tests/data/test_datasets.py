import dataclasses
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from data import NAMES, DataError, ImageSet, load
from data.sources.opening import open_one_split
from data.tools.pack import pack


@pytest.mark.parametrize(("typed", "meant"), [("cifar-10", "cifar10"), ("CIFAR100", "cifar100"), ("shape", "shapes")])
def test_unknown_name_is_answered_with_the_nearest(typed, meant):
    with pytest.raises(DataError, match=f"did you mean '{meant}'"):
        load(typed)


@pytest.mark.parametrize("wrong", [{"split": "val"}, {"on_bad": "ignore"}, {"resolution": 0}, {"resolution": 32.0}])
def test_wrong_settings_are_refused_by_value(wrong):
    with pytest.raises(DataError, match=str(next(iter(wrong.values())))):
        load("shapes", **wrong)


@pytest.mark.parametrize("setting", [{"share": 0.5}, {"categories": "bedroom"}])
@pytest.mark.parametrize("name", ["shapes", "cifar10"])
def test_settings_of_other_data_sets_are_refused_not_ignored(name, setting):
    with pytest.raises(DataError, match=rf"^{name} has .*set dataset\.(hold_out|categories)="):
        load(name, **setting)


def test_faces_are_not_whatever_lies_there(tmp_path, write_lsun, small, monkeypatch):
    lsun = write_lsun(values={b"a": small(1)[0]})
    (tmp_path / "data").mkdir()
    Image.new("RGB", (32, 32)).save(tmp_path / "data/holiday.png")
    monkeypatch.setenv("GAN_DATA", str(tmp_path / "data"))
    with pytest.raises(DataError, match="there is no celeba at"):
        load("celeba")
    for path in (lsun, lsun.parent):
        with pytest.raises(DataError, match="there is no celeba at"):
            load("celeba", path)
    with pytest.raises(DataError, match="there is no celeba at"):
        load("celeba", lsun / "data.mdb")
    assert len(load("celeba", tmp_path / "data")) == 1  # named by the user: a folder of faces
    (tmp_path / "data").rename(tmp_path / "img_align_celeba")
    pack(open_one_split(tmp_path / "img_align_celeba", None), tmp_path / "faces.pack", 32)
    for place in ("img_align_celeba", "faces.pack"):
        monkeypatch.setenv("GAN_DATA", str(tmp_path / place))
        assert len(load("celeba")) == 1


def test_splits_are_not_mixed(tmp_path, write_folder, small):
    images = small(8)
    folder = write_folder({f"{('train', 'test')[i % 2]}/a/{i}.png": image for i, image in enumerate(images)})
    with pytest.raises(DataError, match=r"has a test split of its own: set dataset\.hold_out=0"):
        load("folder", folder, 16, share=0.5)
    with pytest.raises(DataError, match="has the splits train and test: choose one with --split"):
        open_one_split(folder, None)
    assert len(open_one_split(folder, "test")) == 4
    shutil.rmtree(folder / "test")  # then there is nothing to mix
    assert len(open_one_split(folder, None)) == 4
    assert len(load("folder", folder, 16, share=0.5)) + len(load("folder", folder, 16, share=0.5, split="test")) == 4


def test_more_images_than_memory_is_a_sentence(write_folder, small, monkeypatch):
    def none_left(*arguments, **options):
        raise MemoryError

    folder = write_folder({f"{i}.png": image for i, image in enumerate(small(4))})
    monkeypatch.setattr(np, "empty", none_left)
    with pytest.raises(DataError, match=r"set dataset\.memory lower"):
        load("folder", folder, 16)


def test_names():
    assert NAMES == ("cifar10", "cifar100", "celeba", "celeba_hq", "folder", "lsun", "shapes")


def test_image_set_is_frozen_and_counts():
    zeros = torch.zeros(5, 3, 8, 8, dtype=torch.uint8)
    images = ImageSet(zeros, torch.zeros(5, dtype=torch.int64), ("all",), "nothing")
    assert len(images) == 5 and images.resolution == 8 and images.skipped == ()
    with pytest.raises(dataclasses.FrozenInstanceError):
        images.source = "other"
