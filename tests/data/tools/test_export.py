"""LSUN's layout from any images: unchanged bytes, keys of forty digits, readable by torchvision."""

import re
import zipfile

import pytest
import torch
from torchvision.datasets.lsun import LSUNClass

from data import DataError, load
from data.sources.opening import open_source
from data.tools.export import export
from data.tools.pack import Squares, pack


@pytest.fixture
def folder(write_folder, photos):
    return write_folder({f"{i:02}.jpg": photo for i, photo in enumerate(photos[:10])})


def test_the_bytes_come_back(folder, photos, tmp_path):
    export(open_source(folder), tmp_path / "bedroom_train_lmdb")
    found = open_source(tmp_path / "bedroom_train_lmdb")
    assert sorted(found.read(i) for i in range(10)) == sorted(photos[:10])
    assert all(re.fullmatch("[0-9a-f]{40}", found.name(i)) for i in range(10))
    assert [path.name for path in found.path.iterdir()] == ["data.mdb"]


def test_torchvision_reads_it_too(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # it drops a file where it runs
    export(open_source(folder), tmp_path / "bedroom_train_lmdb")
    theirs = LSUNClass(str(tmp_path / "bedroom_train_lmdb"))
    ours = open_source(tmp_path / "bedroom_train_lmdb")
    assert len(theirs) == len(ours) and all(theirs[i][0].tobytes() == ours.image(i).tobytes() for i in range(len(ours)))
    theirs.env.close()


def test_repeated_under_other_keys(folder, tmp_path):
    export(open_source(folder), tmp_path / "bedroom_train_lmdb", count=25)
    images = load("lsun", tmp_path / "bedroom_train_lmdb", 32).images
    counts = images.flatten(1).unique(dim=0, return_counts=True)[1]
    assert len(images) == 25 and sorted(counts.tolist()) == [2] * 5 + [3] * 5
    assert torch.equal(images, load("lsun", tmp_path, 32).images)


def test_what_is_there_is_kept_and_packs_are_refused(folder, tmp_path):
    file = export(open_source(folder), tmp_path / "bedroom_train_lmdb", count=3).file
    before = file.read_bytes()
    with pytest.raises(DataError, match=r"data\.mdb exists: choose another --out"):
        export(open_source(folder), tmp_path / "bedroom_train_lmdb")
    assert file.read_bytes() == before
    with pytest.raises(DataError, match="holds no encoded images, as packs and arrays don't: export what it was made of"):
        export(pack(open_source(folder), tmp_path / "a.pack", Squares(32)), tmp_path / "other")


def test_an_interrupted_export_leaves_no_database(folder, tmp_path):
    def stop(n):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(open_source(folder), tmp_path / "x_train_lmdb", progress=stop)
    assert not (tmp_path / "x_train_lmdb/data.mdb").exists()
    assert len(open_source(export(open_source(folder), tmp_path / "x_train_lmdb").file.parent)) == 10


BROKEN = {"b.png": b"no image", "c.png": b""}


@pytest.mark.parametrize("on_bad", ["keep", "skip", "refuse"])
def test_images_that_cannot_be_decoded_are_told_and_kept_left_out_or_refused(write_folder, small, tmp_path, on_bad):
    source = open_source(write_folder({"a.png": small(1)[0], **BROKEN}))
    if on_bad == "refuse":
        with pytest.raises(DataError, match=r"[bc].png \(not an image\) can't be used; leave .*--on-bad skip"):
            export(source, tmp_path / "x_train_lmdb", on_bad=on_bad)
        assert not (tmp_path / "x_train_lmdb/data.mdb").exists()
        return
    made = export(source, tmp_path / "x_train_lmdb", count=6, on_bad=on_bad)
    assert sorted(made.bad) == ["b.png (not an image)", "c.png (not an image)"]  # once, however often they are written
    found = open_source(made.file)
    assert len(found) == made.count == {"keep": 6, "skip": 2}[on_bad]
    assert {found.read(i) for i in range(len(found))} == {small(1)[0], *(BROKEN.values() if on_bad == "keep" else ())}


def test_what_cannot_be_read_cannot_be_kept(small, tmp_path):
    good, bad = small(2)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.png", good)
        archive.writestr("b.png", bad)
    data = bytearray((tmp_path / "a.zip").read_bytes())
    data[data.index(bad) + 50] ^= 255
    (tmp_path / "a.zip").write_bytes(data)
    made = export(open_source(tmp_path / "a.zip"), tmp_path / "x_train_lmdb", on_bad="skip")
    assert made.count == 1 and len(made.bad) == 1 and made.bad[0].startswith("b.png (Bad CRC")


def test_nothing_that_can_be_decoded(write_folder, tmp_path):
    with pytest.raises(DataError, match=r"none of its images can be used, the first is [bc]\.png"):
        export(open_source(write_folder(BROKEN)), tmp_path / "x_train_lmdb", on_bad="skip")
    assert not (tmp_path / "x_train_lmdb/data.mdb").exists()
