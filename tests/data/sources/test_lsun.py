"""LSUN's layout: directories, categories, splits; the pixels are the folder reader's; held-out images."""

import os

import numpy as np
import pytest
import torch

import data.sources.lsun
from data import DataError, load
from data.database.reader import Database
from data.sources.lsun import LsunSource
from data.sources.opening import open_source
from data.sources.source import split_by_key
from tests.data.pictures import encoded, noise

R = 16


@pytest.fixture
def three(write_lsun, small):
    """bedroom and kitchen of train, bedroom of val: 12, 5 and 4 images."""
    images = small(21)
    write_lsun("bedroom_train", {f"b{i:02}".encode(): images[i] for i in range(12)})
    write_lsun("kitchen_train", {f"k{i:02}".encode(): images[12 + i] for i in range(5)})
    return write_lsun("bedroom_val", {f"v{i:02}".encode(): images[17 + i] for i in range(4)}).parent


def pixels(i):
    return torch.from_numpy(np.array(noise(i))).permute(2, 0, 1)


def test_categories_are_classes_one_after_the_other(three):
    found = load("lsun", three, R)
    assert found.classes == ("bedroom", "kitchen") and found.labels.tolist() == [0] * 12 + [1] * 5
    assert torch.equal(found.images, torch.stack([pixels(i) for i in range(17)]))
    assert found.source == "lsun bedroom,kitchen, train split"
    assert load("lsun", three, R, categories="kitchen, bedroom").classes == ("kitchen", "bedroom")
    assert len(load("lsun", three, R, categories="kitchen")) == 5


def test_splits_and_the_directory_itself(three):
    assert len(load("lsun", three, R, split="test")) == 4
    assert len(load("lsun", three / "bedroom_train_lmdb", R)) == 12
    assert len(load("lsun", three / "bedroom_train_lmdb", R, split="test")) == 4
    assert len(load("lsun", three / "bedroom_val_lmdb", R, split="train")) == 12
    assert (
        len(open_source(three / "bedroom_val_lmdb")) == 4
        and open_source(three / "bedroom_val_lmdb").about == "lsun bedroom, val split"
    )
    assert open_source(three / "bedroom_train_lmdb").about == "lsun bedroom, train split"
    assert len(open_source(three / "bedroom_val_lmdb/data.mdb")) == 4
    assert len(load("folder", three / "bedroom_train_lmdb", R)) == 12  # by any name
    with pytest.raises(DataError, match=r"no .*kitchen_val_lmdb: unpack"):
        load("lsun", three / "kitchen_train_lmdb", R, split="test")


def test_what_is_missing_is_named(three, tmp_path):
    with pytest.raises(DataError, match="holds no tower_train_lmdb but bedroom, kitchen"):
        load("lsun", three, R, categories="tower")
    with pytest.raises(DataError, match=r"holds no CATEGORY_train_lmdb/data.mdb: unpack"):
        load("lsun", tmp_path / "elsewhere", R)
    (three / "bedroom_train_lmdb/data.mdb").write_bytes(b"")
    with pytest.raises(DataError, match=r"bedroom_train_lmdb/data.mdb is cut short"):
        load("lsun", three, R)


def test_every_kind_of_image_is_what_the_folder_reader_makes_of_it(write_lsun, write_folder, odd_pictures):
    directory = write_lsun(values={name.encode(): data for name, data in odd_pictures.items()})
    folder = load("folder", write_folder({f"{name}.png": data for name, data in odd_pictures.items()}), R)
    assert torch.equal(load("lsun", directory, R).images, folder.images)
    streamed = load("lsun", directory, R, memory=0, workers=0)
    assert torch.equal(streamed.read(range(len(odd_pictures))), folder.images)


def test_real_photos_streamed_equal_those_in_memory(write_lsun, photos):
    directory = write_lsun()
    whole, streamed = load("lsun", directory, 64), load("lsun", directory, 64, memory=0, workers=0)
    order = torch.randperm(len(photos), generator=torch.Generator().manual_seed(0))
    assert torch.equal(whole.images[order], streamed.read(order)) and len(streamed) == len(photos)
    assert whole.fingerprint == streamed.fingerprint and torch.equal(whole.labels, streamed.labels)


@pytest.mark.parametrize("place", [0, 299, 599])
def test_a_fingerprint_is_also_of_some_values(write_lsun, small, tmp_path, place, monkeypatch):
    """Equal keys, equal sizes: the first and the last value are among those looked at, and all of a small database are."""
    monkeypatch.setattr(data.sources.lsun, "SAMPLES", 601)
    values = {f"{i:03}".encode(): bytes(100) for i in range(600)}
    other = {**values, f"{place:03}".encode(): bytes([0] * 50 + [1] + [0] * 49)}
    sets = {"a": values, "b": values, "c": other}
    found = [LsunSource(write_lsun(values=each, root=tmp_path / name)).fingerprint for name, each in sets.items()]
    assert found[0] == found[1] != found[2]
    monkeypatch.setattr(data.sources.lsun, "SAMPLES", 2)
    found = [LsunSource(tmp_path / name / "bedroom_train_lmdb").fingerprint for name in "ac"]
    assert (found[0] == found[1]) is (place == 299)


BAD = {"a_word": b"no image", "empty": b"", "pixel": encoded(noise(0, (1, 1))), "torn": encoded(noise(0, (64, 64)))[:500]}


def test_a_database_that_is_written_to_while_it_is_read_into_memory(write_lsun, small, monkeypatch):
    directory = write_lsun(values={f"{i}".encode(): image for i, image in enumerate(small(20))})
    read = Database.read

    def touched(self, offset, size):
        os.utime(self.file, (1, 1))
        return read(self, offset, size)

    open_source(directory)  # makes the index
    monkeypatch.setattr(Database, "read", touched)
    with pytest.raises(DataError, match="was changed while it's in use"):
        load("lsun", directory, 16)


@pytest.mark.parametrize("name", BAD)
def test_an_unusable_value_is_refused_by_its_key_or_skipped(write_lsun, small, name):
    images = dict(zip([b"m", b"n", b"z"], small(3)))
    directory = write_lsun(values={**images, name.encode(): BAD[name]})
    with pytest.raises(DataError, match=f"1 of 4 images can't be used: {name} "):
        load("lsun", directory, R)
    assert load("lsun", directory, R, on_bad="skip").skipped == (name,)


def test_a_hold_out_depends_on_keys_alone(write_lsun, small):
    names = [f"{i:03}" for i in range(200)]
    image = small(1)[0]
    source = LsunSource(write_lsun(values={name.encode(): image for name in names}))
    rest, held = split_by_key(source, 0.2)
    assert {rest.name(i) for i in range(len(rest))} | {held.name(i) for i in range(len(held))} == set(names)
    assert len(rest) + len(held) == 200 and 20 < len(held) < 60
    assert held.about == "lsun bedroom, train split, hold-out sha256(key) < 0.2"
    more = LsunSource(write_lsun("kitchen_train", {f"{i:03}".encode(): image for i in range(300)}))
    _, still = split_by_key(more, 0.2)
    chosen = {still.name(i) for i in range(len(still))}
    assert chosen & set(names) == {held.name(i) for i in range(len(held))}  # added images change nobody's side
    assert rest.fingerprint != held.fingerprint != source.fingerprint
    with pytest.raises(DataError, match="holds out none of the 200"):
        split_by_key(source, 1e-9)


def test_a_held_out_share_is_the_test_split(write_lsun):
    directory = write_lsun()
    train, test = (load("lsun", directory, 32, hold_out=0.3, split=split) for split in ("train", "test"))
    whole = load("lsun", directory, 32)
    assert len(train) + len(test) == len(whole) and len(test) > 3
    sums = [x.images.flatten(1).long().sum(1) for x in (train, test, whole)]
    assert sorted(torch.cat(sums[:2]).tolist()) == sorted(sums[2].tolist())
