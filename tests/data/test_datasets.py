"""Data sets by name: what is asked of them, what is refused, and how others add one."""

import dataclasses
import os
import shutil
import subprocess

import numpy as np
import pytest
import torch
from PIL import Image

from data import DataError, ImageSet, load, names, register
from data.sources import opening, registry
from data.sources.folder import FileSource
from data.sources.lsun import LsunSource
from data.sources.opening import open_one_split
from data.sources.pack import PackSource
from data.tools.pack import Squares, pack
from tests.helpers import ROOT


@pytest.mark.parametrize(("typed", "meant"), [("cifar-10", "cifar10"), ("CIFAR100", "cifar100"), ("shape", "shapes")])
def test_unknown_name_is_answered_with_the_nearest(typed, meant):
    with pytest.raises(DataError, match=f"did you mean '{meant}'"):
        load(typed)


@pytest.mark.parametrize(
    "wrong",
    [
        {"split": "val"},
        {"on_bad": "ignore"},
        {"resolution": 0},
        {"resolution": 32.0},
        {"hold_out": -0.2},
        {"hold_out": 1},
        {"hold_out": None},
        {"memory": "4"},
        {"memory": -1},
        {"workers": -1},
        {"workers": 1.5},
    ],
)
def test_wrong_settings_are_refused_by_value(wrong):
    with pytest.raises(DataError, match=str(next(iter(wrong.values())))):
        load("shapes", **wrong)


@pytest.mark.parametrize("setting", [{"hold_out": 0.5}, {"categories": "bedroom"}])
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
    pack(open_one_split(tmp_path / "img_align_celeba", None), tmp_path / "faces.pack", Squares(32))
    for place in ("img_align_celeba", "faces.pack"):
        monkeypatch.setenv("GAN_DATA", str(tmp_path / place))
        assert len(load("celeba")) == 1


def test_splits_are_not_mixed(tmp_path, write_folder, small):
    images = small(8)
    folder = write_folder({f"{('train', 'test')[i % 2]}/a/{i}.png": image for i, image in enumerate(images)})
    with pytest.raises(DataError, match=r"has a test split of its own: set dataset\.hold_out=0"):
        load("folder", folder, 16, hold_out=0.5)
    with pytest.raises(DataError, match="has the splits train and test: choose one with --split"):
        open_one_split(folder, None)
    assert len(open_one_split(folder, "test")) == 4
    shutil.rmtree(folder / "test")  # then there is nothing to mix
    assert len(open_one_split(folder, None)) == 4
    assert len(load("folder", folder, 16, hold_out=0.5)) + len(load("folder", folder, 16, hold_out=0.5, split="test")) == 4


def test_more_images_than_memory_is_a_sentence(write_folder, small, monkeypatch):
    def none_left(*arguments, **options):
        raise MemoryError

    folder = write_folder({f"{i}.png": image for i, image in enumerate(small(4))})
    monkeypatch.setattr(np, "empty", none_left)
    with pytest.raises(DataError, match=r"set dataset\.memory lower"):
        load("folder", folder, 16)


def test_names():
    assert names() == ("celeba", "celeba_hq", "cifar10", "cifar100", "folder", "lsun", "shapes", "stl10", "stl10_unlabeled")


def test_image_set_is_frozen_and_counts():
    zeros = torch.zeros(5, 3, 8, 8, dtype=torch.uint8)
    images = ImageSet(zeros, torch.zeros(5, dtype=torch.int64), ("all",), "nothing")
    assert len(images) == 5 and images.resolution == 8 and images.skipped == ()
    with pytest.raises(dataclasses.FrozenInstanceError):
        images.source = "other"


# --- data sets of others ------------------------------------------------------------------------------------------------------

MINE = '''
"""`mine`: grey scans in one file, an npy of (N, H, W) uint8."""

from functools import cached_property
from hashlib import sha256

import numpy as np
from PIL import Image

from data.datasets import Request, register
from data.images import DataError
from data.sources.source import Source


class Scans(Source):
    encoded = False  # reading is quick: no processes, no decoded copies

    def __init__(self, path):
        self.path, self.about = path, f"scans of {path.name}"
        self.scans = np.load(path, mmap_mode="r")

    def __len__(self):
        return len(self.scans)

    def name(self, i):
        return f"scan {i}"

    def image(self, i):
        return Image.fromarray(self.scans[i]).convert("RGB")

    @cached_property
    def fingerprint(self):
        return sha256(self.path.read_bytes()).hexdigest()


@register("mine")
def mine(request: Request) -> Source:
    if request.stored_split == "test":
        raise DataError("mine has no test split: set dataset.hold_out=0.1")
    return Scans(request.root)
'''

USE = """
import torch
from data import load, names
from gan.config import Config
train, test = (load("mine", "scans.npy", 16, hold_out=0.5, split=split) for split in ("train", "test"))
assert len(train) + len(test) == 40 and len(test) > 0 and train.images.shape[1:] == (3, 16, 16)
streamed = load("mine", "scans.npy", 16, memory=0)
assert torch.equal(streamed.read(range(40)), load("mine", "scans.npy", 16).images)
assert "mine" in names() and Config.model_validate({"dataset": {"name": "mine"}}).dataset.name == "mine"
"""


def in_a_new_process(python, tmp_path, *arguments, **environment):
    (tmp_path / "mine.py").write_text(MINE)
    np.save(tmp_path / "scans.npy", np.random.default_rng(0).integers(0, 256, (40, 40, 36), np.uint8))
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}", "OMP_NUM_THREADS": "1", **environment}
    command = [python, *map(str, arguments)]
    return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)


def test_a_data_set_is_one_file_anywhere(quick_python, tmp_path):
    found = in_a_new_process(quick_python, tmp_path, "-c", USE, GAN_EXTENSIONS="mine.py")
    assert found.returncode == 0, found.stderr


def test_a_data_set_of_ones_own_trains(quick_python, tmp_path):
    settings = ["dataset.name=mine", "dataset.path=scans.npy", "train.steps=1", "train.batch_size=4", "generator.width=2"]
    settings += ["discriminator.width=2", "train.sample_every=1"]
    found = in_a_new_process(
        quick_python, tmp_path, ROOT / "run_gan.py", "train", *settings, "--out", "run", GAN_EXTENSIONS="mine.py"
    )
    assert found.returncode == 0 and (tmp_path / "run/samples/real.png").is_file(), found.stderr


def test_a_script_may_register_before_it_calls_the_commands(quick_python, tmp_path):
    (tmp_path / "script.py").write_text(f"import mine\n{USE}")
    found = in_a_new_process(quick_python, tmp_path, "script.py")
    assert found.returncode == 0, found.stderr


def test_a_file_that_is_not_there_is_a_sentence_for_whoever_looks_at_a_path(quick_python, tmp_path):
    found = in_a_new_process(quick_python, tmp_path, ROOT / "run_gan.py", "data", "info", "scans.npy", GAN_EXTENSIONS="yours.py")
    assert found.returncode == 1 and "yours.py, which is no Python file" in " ".join((found.stderr + found.stdout).split())
    assert "Traceback" not in found.stderr


def test_a_name_is_taken_once(monkeypatch):
    with pytest.raises(ValueError, match=r"a data set 'shapes' already, of data\.sources\.shapes"):
        register("shapes")(lambda request: None)
    monkeypatch.setattr(registry, "_DATA_SETS", dict(registry._DATA_SETS))
    register("aaa", splits=True)(lambda request: load("shapes", None, request.resolution))
    assert names()[0] == "aaa" and len(load("aaa", resolution=16)) == 10_000
    with pytest.raises(DataError, match="aaa has a test split of its own"):
        load("aaa", hold_out=0.1)


def test_a_kind_of_source_may_be_added(write_folder, small, tmp_path, monkeypatch):
    monkeypatch.setattr(opening, "KINDS", list(opening.KINDS))

    @opening.source_kind
    class Other(FileSource):
        @classmethod
        def recognises(cls, path):
            return path.name == "other"

    folder = write_folder({"a.png": small(1)[0]}, tmp_path / "other")
    assert opening.kind_of(folder) is Other and len(load("folder", folder, 16)) == 1
    assert opening.kind_of(tmp_path) is FileSource


@pytest.mark.parametrize("form", ["folder", "zip", "nothing", "pack", "lsun", "data.mdb", "directory of lsun"])
def test_one_look_says_what_lies_there(form, write_folder, write_lsun, small, tmp_path):
    folder = write_folder({"a.png": small(1)[0]})
    lsun = write_lsun(values={b"a": small(1)[0]})
    place, kind = {
        "folder": (folder, FileSource),
        "zip": (tmp_path / "folder.zip", FileSource),
        "nothing": (tmp_path / "nowhere", FileSource),
        "pack": (tmp_path / "a.pack", PackSource),
        "lsun": (lsun, LsunSource),
        "data.mdb": (lsun / "data.mdb", LsunSource),
        "directory of lsun": (lsun.parent, LsunSource),
    }[form]
    shutil.make_archive(str(folder), "zip", folder)
    pack(opening.open_source(folder), tmp_path / "a.pack", Squares(16))
    assert opening.kind_of(place) is kind


def test_an_unknown_setting_is_a_programmers_error():
    with pytest.raises(TypeError, match="sise"):
        load("shapes", sise=32)
