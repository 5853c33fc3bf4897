"""Packs whose own description is damaged: one sentence, whatever stands there."""

import lmdb
import pytest

from data import DataError, load
from data.sources.opening import open_source
from data.tools.pack import Squares, pack

R = 16


@pytest.fixture
def packed(write_folder, small, tmp_path):
    return pack(
        open_source(write_folder({f"{i}.png": image for i, image in enumerate(small(5))})), tmp_path / "a.pack", Squares(R)
    ).path


@pytest.mark.parametrize("text", [b"", b"words", b"\xff\xfe", b"{}", b"[1]", b"null", b'{"format": 1, "count": "9"}'])
def test_a_damaged_manifest_is_a_sentence(packed, text):
    with lmdb.open(str(packed), subdir=False, lock=False, max_dbs=2) as environment, environment.begin(write=True) as texts:
        texts.put(b"manifest", text)
    with pytest.raises(DataError, match=r"a.pack is damaged: its manifest can't be read; pack again"):
        load("folder", packed, R)


def test_another_format_and_a_damaged_beginning(packed, tmp_path):
    with lmdb.open(str(packed), subdir=False, lock=False, max_dbs=2) as environment, environment.begin(write=True) as texts:
        texts.put(b"manifest", b'{"format": 7}')
        texts.put(b"job", b"{")
    with pytest.raises(DataError, match="is a pack of format 7, not 1: pack again"):
        load("folder", packed, R)
    packed.rename(tmp_path / ".b.pack.partial")
    with pytest.raises(DataError, match=r"\.b\.pack\.partial, which is half finished, is damaged \(.*\): remove it"):
        pack(open_source(tmp_path / "folder"), tmp_path / "b.pack", Squares(R))


def test_an_image_of_another_length(packed):
    with lmdb.open(str(packed), subdir=False, lock=False, max_dbs=2) as environment:
        images = environment.open_db(b"images")
        with environment.begin(write=True, db=images) as transaction:
            transaction.put((2).to_bytes(8, "big"), bytes(3 * R * R - 1))
    with pytest.raises(DataError, match="its images aren't those of its manifest; pack again"):
        load("folder", packed, R)
