"""The key index: made once, in the cache, never in the user's folders, never stale."""

import errno
import os
import shutil
import socket
import subprocess
from pathlib import Path

import lmdb
import pytest

import data.database.index
import data.files
from data import DataError
from data.database.index import HEADER, key_index
from data.database.reader import Database


@pytest.fixture
def file(write_lsun, small):
    return write_lsun(values={f"{i * 7 % 50:040}".encode(): image for i, image in enumerate(small(50))}) / "data.mdb"


@pytest.fixture
def builds(monkeypatch):
    """How often an index was built."""
    calls, build = [], data.database.index._build
    monkeypatch.setattr(data.database.index, "_build", lambda database: calls.append(database.file) or build(database))
    return calls


@pytest.fixture
def kept(file):
    """kept() -> the one index in the cache."""
    return lambda: next(Path(os.environ["GAN_CACHE"]).glob("*.keys"))


def keys_of(index):
    return [index.key(i) for i in range(len(index))]


def refuse(monkeypatch, *directories):
    """No file can be made there, as on read-only media. (root may write everywhere, so permissions would not do.)"""

    def opened(file, mode):
        if Path(file).parent in directories:
            raise OSError(errno.EROFS, "Read-only file system")
        return open(file, mode)

    monkeypatch.setattr(data.files, "open", opened, raising=False)


def test_made_once_in_the_cache_and_nowhere_else(file, builds, kept, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    first = key_index(Database(file))
    again = key_index(Database(file))
    assert len(builds) == 1 and [p.name for p in file.parent.iterdir()] == ["data.mdb"]
    assert not list(Path().iterdir()) and list(Path(os.environ["GAN_CACHE"]).iterdir()) == [kept()]
    assert keys_of(first) == keys_of(again) == [f"{i:040}".encode() for i in range(50)]
    assert first.digest == again.digest and (first.hashes == again.hashes).all() and (first.offsets == again.offsets).all()


def test_one_that_lies_beside_the_data_is_used(file, builds, kept):
    wanted = keys_of(key_index(Database(file)))
    shutil.move(kept(), file.with_name("data.keys"))
    assert keys_of(key_index(Database(file))) == wanted and len(builds) == 1
    assert not list(Path(os.environ["GAN_CACHE"]).iterdir())


def test_what_a_killed_process_left_beside_the_data_is_removed(file):
    gone = subprocess.Popen(["true"])
    gone.wait()
    left = file.with_name(f".{socket.gethostname()}-{gone.pid}.data.keys.tmp")
    theirs = file.with_name(f".{socket.gethostname()}-{gone.pid}.other.tmp")
    for path in (left, theirs):
        path.touch()
    key_index(Database(file))
    assert not left.exists() and theirs.exists()


def test_with_nowhere_to_write_it_lives_in_memory(file, builds, monkeypatch, capsys):
    refuse(monkeypatch, Path(os.environ["GAN_CACHE"]))
    for _ in range(2):
        assert len(key_index(Database(file))) == 50
    assert len(builds) == 2 and capsys.readouterr().err.count("can't be kept: set GAN_CACHE") == 1


def test_a_full_disk_leaves_no_half_of_it(file, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert len(key_index(Database(file))) == 50
    assert [p.name for p in file.parent.iterdir()] == ["data.mdb"] and not list(Path(os.environ["GAN_CACHE"]).iterdir())


def test_other_data_under_the_same_name_is_noticed(file, builds):
    old = key_index(Database(file))
    stat = file.stat()
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert key_index(Database(file)).digest == old.digest and len(builds) == 2
    with (
        lmdb.open(str(file), subdir=False, lock=False, map_size=2**28) as environment,
        environment.begin(write=True) as transaction,
    ):
        transaction.put(b"z" * 40, b"new")
    new = key_index(Database(file))
    assert len(builds) == 3 and len(new) == 51 and new.digest != old.digest


@pytest.mark.parametrize("damage", ["empty", "cut", "words", "longer"])
def test_a_damaged_index_is_made_anew(file, builds, kept, damage):
    wanted = keys_of(key_index(Database(file)))
    place = kept()
    whole = place.read_bytes()
    place.write_bytes({"empty": b"", "cut": whole[:-1], "words": b"words" * 999, "longer": whole + b"x"}[damage])
    assert keys_of(key_index(Database(file))) == wanted and len(builds) == 2
    assert place.read_bytes() == whole


@pytest.mark.parametrize("part", ["header", "ends", "offsets", "sizes", "hashes", "keys"])
def test_one_flipped_bit_makes_it_anew(file, builds, kept, part):
    key_index(Database(file))
    place = kept()
    whole = place.read_bytes()
    where = {name: HEADER + 400 * i + 80 for i, name in enumerate(["ends", "offsets", "sizes", "hashes", "keys"])}
    where["header"] = whole.index(b'"digest": "') + 20  # a fingerprint that is another
    place.write_bytes(whole[: where[part]] + bytes([whole[where[part]] ^ 1]) + whole[where[part] + 1 :])
    key_index(Database(file))
    assert len(builds) == 2 and place.read_bytes() == whole


def test_a_database_that_is_being_written(file, monkeypatch):
    build = data.database.index._build

    def build_slowly(database):
        index = build(database)
        with lmdb.open(str(file), subdir=False, lock=False, map_size=2**28) as environment, environment.begin(write=True) as t:
            t.put(b"z" * 40, bytes(10_000))
        return index

    monkeypatch.setattr(data.database.index, "_build", build_slowly)
    with pytest.raises(DataError, match="changed while it's in use: wait until it's complete"):
        key_index(Database(file))
    assert [p.name for p in file.parent.iterdir()] == ["data.mdb"]


def test_no_images(write_lsun):
    with pytest.raises(DataError, match="holds no images"):
        key_index(Database(write_lsun(values={}) / "data.mdb"))
