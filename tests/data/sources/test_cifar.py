import io
import os
import urllib.error
import zipfile
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
import torchvision.datasets.cifar as torchvision_cifar
from PIL import Image

from data import DataError, load
from data.sources.cifar import CIFAR10_CLASSES
from data.sources.opening import open_source
from tests.helpers import ROOT


def write_zip(path, folders, size=32):
    """One image per folder, all of one colour: the folder's place in the list."""
    with zipfile.ZipFile(path, "w") as archive:
        for i, folder in enumerate(folders):
            file = io.BytesIO()
            Image.new("RGB", (size, size), (i, i, i)).save(file, "webp", lossless=True)
            archive.writestr(f"{folder}/0.webp", file.getvalue())


@pytest.fixture
def offline(monkeypatch):
    """No network, and a list of what was asked for."""
    asked = []

    def refuse(url, *args, **kwargs):
        asked.append(url)
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(torchvision_cifar, "download_and_extract_archive", refuse)
    monkeypatch.delenv("GAN_DATA", raising=False)
    return asked


class FakeCifar:
    """Stands for torchvision.datasets.CIFAR10: the same fields, four images."""

    base_folder, filename, url = "cifar-10-batches-py", "cifar-10-python.tar.gz", "https://example.org/cifar.tar.gz"
    tgz_md5 = "d41d8cd98f00b204e9800998ecf8427e"  # of an empty file
    calls: ClassVar[list[dict]] = []

    def __init__(self, root, train, download):
        self.calls.append({"root": root, "train": train, "download": download})
        self.data = np.arange(4 * 32 * 32 * 3, dtype=np.uint32).astype(np.uint8).reshape(4, 32, 32, 3)
        self.targets, self.classes = [3, 1, 0, 2], ["a", "b", "c", "d"]

    def __getitem__(self, i):
        return Image.fromarray(self.data[i]), self.targets[i]


@pytest.fixture
def fake(monkeypatch):
    FakeCifar.calls.clear()
    monkeypatch.setattr("torchvision.datasets.CIFAR10", FakeCifar)
    return FakeCifar


def test_class_order_is_torchvisions_even_where_classes_lack(tmp_path):
    write_zip(tmp_path / "cifar10-train.zip", ["truck", "airplane", "dog"])
    found = load("cifar10", tmp_path)
    assert found.classes == CIFAR10_CLASSES
    assert [found.classes[i] for i in found.labels] == ["airplane", "dog", "truck"]
    assert found.images[:, 0, 0, 0].tolist() == [1, 2, 0]


def test_splits_come_from_their_own_zips(tmp_path, offline):
    write_zip(tmp_path / "cifar10-train.zip", ["cat", "dog"])
    write_zip(tmp_path / "cifar10-test.zip", ["frog"])
    assert len(load("cifar10", tmp_path)) == 2 and len(load("cifar10", tmp_path, split="test")) == 1
    # A zip given directly, and named after the other split, leads to its sibling, never to the wrong images.
    assert len(load("cifar10", tmp_path / "cifar10-train.zip", split="train")) == 2
    assert len(load("cifar10", tmp_path / "cifar10-train.zip", split="test")) == 1
    (tmp_path / "cifar10-test.zip").unlink()
    with pytest.raises(DataError, match=r"nothing at .*cifar10-test.zip"):
        load("cifar10", tmp_path / "cifar10-train.zip", split="test")
    assert not offline


def test_a_zip_of_any_name_may_be_the_path(tmp_path):
    write_zip(tmp_path / "mine.zip", ["cat"])
    assert load("cifar10", tmp_path / "mine.zip").labels.tolist() == [3]


def test_cifar100_from_a_zip(tmp_path):
    write_zip(tmp_path / "cifar100-train.zip", [f"class{i:02}" for i in range(100)])
    found = load("cifar100", tmp_path)
    assert len(found.classes) == 100 and found.labels.tolist() == list(range(100))


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_foreign_folders_are_refused(tmp_path, name):
    write_zip(tmp_path / "other.zip", ["cat", "unicorn"])
    with pytest.raises(DataError, match=f"isn't {name}"):
        load(name, tmp_path / "other.zip")


def test_small_images_in_a_zip_are_bad(tmp_path):
    write_zip(tmp_path / "cifar10-train.zip", ["cat"], size=31)
    with pytest.raises(DataError, match="31×31 is smaller than 32×32"):
        load("cifar10", tmp_path)


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_other_resolutions_are_refused(tmp_path, name):
    with pytest.raises(DataError, match=r"dataset\.resolution=32"):
        load(name, tmp_path, 64)


def test_torchvision_layout(tmp_path, fake):
    (tmp_path / fake.base_folder).mkdir()
    for path in (tmp_path, tmp_path / fake.base_folder):
        found = load("cifar10", path, split="test")
        assert fake.calls[-1] == {"root": tmp_path, "train": False, "download": False}
    assert found.images.shape == (4, 3, 32, 32) and found.images.is_contiguous()
    assert found.images[0, :, 0, 1].tolist() == [3, 4, 5]  # the second pixel's red, green, blue
    assert found.labels.tolist() == [3, 1, 0, 2] and found.labels.dtype == torch.int64
    assert found.classes == ("a", "b", "c", "d")


def test_archive_is_unpacked_by_torchvision(tmp_path, fake):
    (tmp_path / fake.filename).write_bytes(b"")
    assert len(load("cifar10", tmp_path / fake.filename, download=False)) == 4
    assert fake.calls == [{"root": tmp_path, "train": True, "download": True}]


def test_zip_comes_before_torchvisions_files(tmp_path, fake):
    write_zip(tmp_path / "cifar10-train.zip", ["cat"])
    (tmp_path / fake.base_folder).mkdir()
    assert len(load("cifar10", tmp_path)) == 1 and not fake.calls


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_no_network_says_what_to_put_where(tmp_path, offline, name):
    with pytest.raises(DataError, match="no route to host") as error:
        load(name, tmp_path)
    archive = {"cifar10": "cifar-10-python.tar.gz", "cifar100": "cifar-100-python.tar.gz"}[name]
    for word in (archive, f"{name}-train.zip", str(tmp_path), "GAN_DATA", "dataset.path"):
        assert word in str(error.value)
    assert "\n" not in str(error.value) and len(offline) == 1


def test_root_falls_back_to_environment_then_datasets(tmp_path, offline, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="isn't in datasets"):
        load("cifar10")
    monkeypatch.setenv("GAN_DATA", str(tmp_path / "elsewhere"))
    with pytest.raises(DataError, match=r"isn't in .*elsewhere"):
        load("cifar10")


def test_download_false_never_asks_the_network(tmp_path, offline):
    with pytest.raises(DataError, match="downloading is off"):
        load("cifar10", tmp_path, download=False)
    assert not offline


def test_nothing_is_downloaded_among_pictures_or_where_nothing_is(tmp_path, offline, monkeypatch):
    (tmp_path / "holiday/rome").mkdir(parents=True)
    Image.new("RGB", (32, 32)).save(tmp_path / "holiday/rome/1.jpg")
    for place in (tmp_path / "holiday", tmp_path):
        with pytest.raises(
            DataError, match=r"holds images but no cifar10, which isn't downloaded among them: set dataset\.name=folder"
        ):
            load("cifar10", place)
    monkeypatch.setenv("GAN_DATA", str(tmp_path / "holiday/rome"))
    with pytest.raises(DataError, match="rome holds images but no cifar10"):
        load("cifar10")
    monkeypatch.setenv("GAN_DATA", str(tmp_path))  # where data sets of several kinds may lie
    with pytest.raises(DataError, match="can't be downloaded"):
        load("cifar10")
    assert len(offline) == 1 and not offline.clear()
    with pytest.raises(DataError, match=r"there is no directory .*nowhere: make it if cifar10 is to be downloaded into it"):
        load("cifar10", tmp_path / "nowhere")
    assert not offline and not (tmp_path / "nowhere").exists()


def test_a_broken_download_leaves_nothing_behind(tmp_path, offline, monkeypatch):
    def break_off(url, root, filename, md5):
        Path(root, filename).write_bytes(b"half")
        raise RuntimeError("File not found or corrupted.")

    monkeypatch.setattr(torchvision_cifar, "download_and_extract_archive", break_off)
    with pytest.raises(DataError, match="can't be downloaded"):
        load("cifar10", tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("unpacked_too", [False, True])
def test_corrupt_files_are_named_and_kept(tmp_path, offline, unpacked_too):
    archive = tmp_path / "cifar-10-python.tar.gz"
    archive.write_bytes(b"half an archive")
    broken = archive
    if unpacked_too:
        broken = tmp_path / "cifar-10-batches-py"
        broken.mkdir()
        (broken / "data_batch_1").write_bytes(b"half a batch")
    with pytest.raises(DataError, match=f"{broken.name} is .*corrupt.*delete it"):
        load("cifar10", tmp_path)
    assert archive.read_bytes() == b"half an archive" and not offline


def test_a_file_that_is_no_zip(tmp_path):
    (tmp_path / "cifar.bin").write_bytes(b"words")
    with pytest.raises(DataError, match="can't be read as a zip"):
        load("cifar10", tmp_path / "cifar.bin")


def test_real_test_split():
    root = os.environ.get("GAN_DATA")
    if not root or not Path(root, "cifar10-test.zip").is_file():
        pytest.skip("needs the real CIFAR-10: set GAN_DATA to a directory with cifar10-test.zip")
    found = load("cifar10", root, split="test")
    assert found.images.shape == (10_000, 3, 32, 32) and found.images.dtype == torch.uint8
    assert found.labels.bincount().tolist() == [1_000] * 10 and found.classes == CIFAR10_CLASSES
    # The published channel statistics of CIFAR-10's test images.
    mean = found.images.double().mean(dim=(0, 2, 3)) / 255
    assert mean.tolist() == pytest.approx([0.4942, 0.4851, 0.4504], abs=0.002)
    assert found.skipped == ()


def test_the_recipe_of_the_documents_makes_the_zips(fake, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs/data.md").read_text()
    exec(text.partition("```python\nimport io, zipfile")[2].partition("```")[0], {"io": io, "zipfile": zipfile})
    found = open_source(tmp_path / "cifar10-test.zip")
    assert found.names == ["a/00002.png", "b/00001.png", "c/00003.png", "d/00000.png"] and [c["train"] for c in fake.calls] == [
        True,
        False,
    ]
    with zipfile.ZipFile(tmp_path / "cifar10-train.zip") as archive:
        assert np.array_equal(np.asarray(Image.open(archive.open("d/00000.png"))), fake("", True, False).data[0])
