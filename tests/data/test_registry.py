import dataclasses

import pytest
import torch

from data import NAMES, DataError, ImageSet, load


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


def test_names():
    assert NAMES == ("cifar10", "cifar100", "celeba", "celeba_hq", "folder", "lsun", "shapes")


def test_image_set_is_frozen_and_counts():
    zeros = torch.zeros(5, 3, 8, 8, dtype=torch.uint8)
    images = ImageSet(zeros, torch.zeros(5, dtype=torch.int64), ("all",), "nothing")
    assert len(images) == 5 and images.resolution == 8 and images.skipped == ()
    with pytest.raises(dataclasses.FrozenInstanceError):
        images.source = "other"
