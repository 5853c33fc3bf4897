"""Our reader against the library's: the same keys and values, and errors, never crashes, where a file is damaged."""

import os
import pickle
import random
from concurrent.futures import ThreadPoolExecutor

import lmdb
import numpy as np
import pytest

from data import DataError
from data.database.reader import DESCRIPTION, Database, database_at
from data.sources.pack import PackSource


def write(file, values, **options):
    with lmdb.open(str(file), subdir=False, map_size=2**28, lock=False, max_dbs=2) as environment:
        handle = environment.open_db(**options) if options else None
        with environment.begin(write=True, db=handle) as transaction:
            for key, value in values.items():
                transaction.put(key, value)
    return file


def read_all(database):
    found = database.records()
    return {found.key(i): database.read(int(found.offsets[i]), int(found.sizes[i])) for i in range(len(found.ends))}


@pytest.mark.parametrize("keys", ["like LSUN's", "of any length"])
@pytest.mark.parametrize("seed", [0, 1])
def test_keys_and_values_are_the_librarys_after_many_changes(tmp_path, keys, seed):
    """Values in the tree's pages, exactly filling pages, and on pages of their own; deletions and pages used again."""
    choose, wanted = random.Random(seed), {}
    with lmdb.open(str(tmp_path / "a"), subdir=False, map_size=2**28, lock=False) as environment:
        for _ in range(20):
            with environment.begin(write=True) as transaction:
                for _ in range(choose.choice([1, 50, 300])):
                    key = choose.randbytes(40 if keys == "like LSUN's" else choose.randrange(1, 300))
                    wanted[key] = choose.randbytes(choose.choice([0, 1, 10, 300, 1990, 2010, 2030, 4080, 4081, 9000]))
                    transaction.put(key, wanted[key])
                for key in choose.sample(sorted(wanted), len(wanted) // 8):
                    transaction.delete(key)
                    del wanted[key]
    database = Database(tmp_path / "a")
    found = read_all(database)
    assert found == wanted and list(found) == sorted(wanted) and database.entries() == len(wanted)


def test_an_empty_database_and_named_ones(tmp_path):
    assert read_all(Database(write(tmp_path / "empty", {}))) == {}
    database = Database(write(tmp_path / "named", {b"k": b"v"}, key=b"inside"))
    inside = database.records(database.tree("inside"))
    assert inside.key(0) == b"k" and database.read(int(inside.offsets[0]), 1) == b"v" and database.texts() == {}
    with pytest.raises(DataError, match="has no other"):
        database.tree("other")


def test_every_truncation_is_a_sentence(tmp_path):
    whole = write(tmp_path / "whole", {f"{i:040}".encode(): bytes(3000) for i in range(300)}).read_bytes()
    cut = tmp_path / "cut"
    for size in [0, 10, 100, 4096, 5000, 8192, 12_000, len(whole) // 2, len(whole) - 4096]:
        cut.write_bytes(whole[:size])
        with pytest.raises(DataError, match=r"cut (is cut short|is no LMDB|is damaged).*again") as error:
            read_all(Database(cut))
        assert "\n" not in str(error.value)


def test_values_behind_the_end_are_noticed_before_any_is_read(tmp_path):
    file = write(tmp_path / "a", {f"{i}".encode(): bytes(9000) for i in range(5)})  # one page of keys, and then the values
    file.write_bytes(file.read_bytes()[:20_000])
    with pytest.raises(DataError, match="a is cut short: it has 20,000 of at least"):
        Database(file).records()


def test_bytes_of_zero_where_a_download_left_a_hole(tmp_path):
    file = write(tmp_path / "a", {f"{i:040}".encode(): bytes(3000) for i in range(300)})
    data = bytearray(file.read_bytes())
    data[8192:] = bytes(len(data) - 8192)
    file.write_bytes(data)
    with pytest.raises(DataError, match=r"damaged \(page .* is no page of keys"):
        Database(file).records()


def patched(file, place, value, pages=(0, 1)):
    """The same bytes at the same place of both meta pages, of 4,096 bytes each."""
    data = bytearray(file.read_bytes())
    for page in pages:
        data[4096 * page + place : 4096 * page + place + len(value)] = value
    file.write_bytes(data)
    return file


@pytest.mark.parametrize("where", [(88, 48), (120, 8), (128, 8), (94, 2)], ids=["all", "entries", "root", "levels"])
def test_a_damaged_description_is_no_empty_database(tmp_path, where):
    file = write(tmp_path / "a", {f"{i:040}".encode(): bytes(3000) for i in range(300)})
    patched(file, where[0], b"\xff" * where[1])
    with pytest.raises(DataError, match=r"a is damaged \(it can't have .* again"):
        Database(file).entries()
    with pytest.raises(DataError, match="a is damaged"):
        Database(file).records()


@pytest.mark.parametrize("size", [0, 1, 256, 4097, 2**17, 2**32 - 1])
def test_page_sizes_that_cannot_be(tmp_path, size):
    file = patched(write(tmp_path / "a", {b"k": b"v"}), 40, size.to_bytes(4, "little"))
    with pytest.raises(DataError, match=rf"a is damaged \(it says that its pages have {size:,} bytes\)"):
        Database(file)


def test_a_branch_that_leads_to_itself(tmp_path):
    file = write(tmp_path / "a", {f"{i:040}".encode(): bytes(300) for i in range(300)})
    depth, _, root = DESCRIPTION.unpack(Database(file)._main)
    assert depth == 2
    data = bytearray(file.read_bytes())
    page = data[root * 4096 : (root + 1) * 4096]
    for pointer in np.frombuffer(page[16 : int.from_bytes(page[12:14], "little")], "<u2").tolist():
        page[pointer : pointer + 6] = root.to_bytes(4, "little") + b"\0\0"
    data[root * 4096 : (root + 1) * 4096] = page
    file.write_bytes(data)
    patched(file, 94, b"\x20\0")
    with pytest.raises(DataError, match="two of its pages lead to the same one"):
        Database(file).records()


def test_a_file_cut_short_is_called_so_whatever_its_pages_lead_to(tmp_path):
    file = write(tmp_path / "a", {f"{i:040}".encode(): bytes(300) for i in range(3000)})
    whole = file.read_bytes()
    for pages in range(3, len(whole) // 4096, 7):
        file.write_bytes(whole[: 4096 * pages])
        with pytest.raises(DataError, match=f"a is cut short: it has {4096 * pages:,} of at least"):
            Database(file).records()


def test_changed_bytes_give_an_answer_or_a_sentence_and_nothing_else(tmp_path):
    values = {f"{i}".encode(): bytes(1 + 50 * i) for i in range(100)}
    whole = write(tmp_path / "whole", values).read_bytes()
    choose, damaged, refused = random.Random(0), tmp_path / "a", 0
    for _ in range(400):
        data = bytearray(whole)
        for _ in range(choose.choice([1, 4, 100])):
            page = choose.randrange(len(data) // 4096)
            data[4096 * page + choose.choice([choose.randrange(220), choose.randrange(4096)])] = choose.choice([0, 1, 255, 128])
        damaged.write_bytes(data)
        try:
            read_all(Database(damaged))
        except DataError as error:
            refused += 1
            assert "\n" not in str(error)
    assert 20 < refused < 400


def test_keys_that_are_no_text(tmp_path):
    file = write(tmp_path / "a", {b"\xff\xfe": b"v", b"job": b"1"})
    assert Database(file).texts() == {r"\xff\xfe": b"v", "job": b"1"} and not PackSource.recognises(file)


@pytest.mark.parametrize("content", [b"", b"words" * 5000, bytes(20_000)])
def test_what_is_no_database(tmp_path, content):
    (tmp_path / "a").write_bytes(content)
    assert [database_at(path) for path in (tmp_path / "a", tmp_path, tmp_path / "nowhere")] == [None] * 3
    with pytest.raises(DataError, match=r"a is (no LMDB|cut short)"):
        Database(tmp_path / "a")
    with pytest.raises(DataError, match="nowhere can't be read"):
        Database(tmp_path / "nowhere")


def test_several_values_per_key_are_refused(tmp_path):
    file = tmp_path / "a"
    with lmdb.open(str(file), subdir=False, map_size=2**24, lock=False, max_dbs=1) as environment:
        handle = environment.open_db(b"twice", dupsort=True)
        with environment.begin(write=True, db=handle) as transaction:
            transaction.put(b"k", b"1")
            transaction.put(b"k", b"2")
    database = Database(file)
    with pytest.raises(DataError, match="several values per key"):
        database.records(database.tree("twice"))


def test_a_write_meanwhile_is_noticed(tmp_path):
    file = write(tmp_path / "a", {b"a": b"1"})
    database = Database(file)
    database.check_unchanged()
    write(file, {b"b": bytes(9000)})
    with pytest.raises(DataError, match="changed while it's in use"):
        database.check_unchanged()


def test_threads_forks_and_pickles_read_the_same(tmp_path):
    values = {f"{i:04}".encode(): np.random.default_rng(i).bytes(5000) for i in range(200)}
    database = Database(write(tmp_path / "a", values))
    found = database.records()

    def right(i):
        return database.read(int(found.offsets[i]), int(found.sizes[i])) == values[found.key(i)]

    child = os.fork()
    if child == 0:  # reads at the same time as the parent
        os._exit(0 if all(right(i) for i in range(200) for _ in range(5)) else 1)
    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(right, list(range(200)) * 5))
    assert os.waitpid(child, 0)[1] == 0
    assert read_all(pickle.loads(pickle.dumps(database))) == values
    assert [path.name for path in tmp_path.iterdir()] == ["a"]  # no lock file
