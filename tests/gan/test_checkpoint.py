"""Files that survive failures, and files that are refused: garbage, torn ones, and those that would run code."""

import argparse
import os
import pickle
import random
import re

import pytest
import torch

from data.files import write_atomically
from gan.checkpoint import CheckpointError, load, path_of, save, saved, step_of

STATE = {"step": 5, "ema": {"w": torch.arange(12.0).view(3, 4), "n": torch.tensor(3)}, "pending": [torch.ones(2)], "x": {0: 1.5}}


@pytest.fixture
def file(tmp_path):
    return path_of(tmp_path, 5)


# --- writing -----------------------------------------------------------------------------------------------------------------


def full_disk(*_):
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("before", [None, b"old"])
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failed_write_leaves_what_was_there_and_nothing_else(tmp_path, monkeypatch, call, before):
    path = tmp_path / "file"
    if before:
        path.write_bytes(before)
    monkeypatch.setattr(os, call, full_disk)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, b"new")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == ({"file": before} if before else {})


def test_a_write_replaces_and_tidies_up(tmp_path):
    path = tmp_path / "file"
    for data in (b"a longer text", b"short"):
        write_atomically(path, data)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"file": b"short"}


def test_data_is_synced_before_it_gets_its_name(tmp_path, monkeypatch):
    path, calls = tmp_path / "file", []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append(("fsync", os.fstat(fd).st_size, path.exists())), fsync(fd)))
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append(("replace",)), replace(a, b)))
    write_atomically(path, b"12345")
    assert calls == [("fsync", 5, False), ("replace",)]


def test_a_saved_state_loads_equal(tmp_path):
    path = save(STATE, tmp_path, 5, keep=2)
    found = load(path)
    assert path == path_of(tmp_path, 5)
    assert found.keys() == STATE.keys() and found["step"] == 5 and found["x"] == {0: 1.5}
    assert torch.equal(found["ema"]["w"], STATE["ema"]["w"]) and found["ema"]["n"].dtype == torch.int64
    assert torch.equal(found["pending"][0], torch.ones(2))


def test_saving_keeps_the_newest(tmp_path):
    for step in (5, 99_999_999, 100_000_000):
        save({**STATE, "step": step}, tmp_path, step, keep=2)
    assert [step_of(p) for p in saved(tmp_path)] == [99_999_999, 100_000_000]


def test_a_first_save_on_a_full_disk_says_that_nothing_is_saved(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(CheckpointError, match=r"step 5 can't be saved in .*: the disk is full; nothing was saved yet"):
        save(STATE, tmp_path, 5, keep=2)


def test_a_failed_save_drops_no_older_checkpoint(tmp_path, monkeypatch):
    for step in (1, 2):
        save({**STATE, "step": step}, tmp_path, step, keep=2)
    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(CheckpointError, match=r"step_00000002\.pt is whole"):
        save(STATE, tmp_path, 3, keep=1)
    assert [step_of(p) for p in saved(tmp_path)] == [1, 2]


def test_saved_sorts_by_step_and_passes_over_strangers(tmp_path):
    names = ["step_100000000.pt", "step_00000012.pt", "step_00000002.pt"]
    strangers = [
        ".step_00000003.pt.tmp",
        "step_4.pt.bak",
        "step_x.pt",
        "step_.pt",
        "step_-1.pt",
        "mystep_00000005.pt",
        "step_6.txt",
    ]
    for name in names + strangers:
        (tmp_path / name).touch()
    assert [p.name for p in saved(tmp_path)] == ["step_00000002.pt", "step_00000012.pt", "step_100000000.pt"]
    assert saved(tmp_path / "nowhere") == []


# --- reading -----------------------------------------------------------------------------------------------------------------


def test_a_missing_checkpoint_is_named(file):
    with pytest.raises(CheckpointError, match=rf"no checkpoint {re.escape(str(file))}"):
        load(file)


@pytest.mark.parametrize(
    "data",
    [b"", b"\n", b"hello world\n", b"a: 1\n", b"<html>", b"\0" * 1000, b"\x89PNG\r\n\x1a\n", b"PK\x05\x06" + b"\0" * 18, b"X\x01"],
)
def test_garbage_is_refused_by_name(file, data):
    file.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"step_00000005\.pt is damaged .*; delete it"):
        load(file)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_random_bytes_are_refused(file):
    numbers = random.Random(0)
    for _ in range(300):
        file.write_bytes(numbers.randbytes(numbers.randrange(1, 200)))
        with pytest.raises(CheckpointError):
            load(file)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_torn_file_is_refused(file, zipped):
    torch.save(STATE, file, _use_new_zipfile_serialization=zipped)
    whole = file.read_bytes()
    for length in [*range(1, len(whole), 29), len(whole) - 1]:
        file.write_bytes(whole[:length])
        with pytest.raises(CheckpointError):
            load(file)


@pytest.mark.parametrize("thing", [[1, 2], torch.ones(2), {"state_dict": {}}], ids=["list", "tensor", "another dict"])
def test_a_file_of_another_program_is_refused(file, thing):
    torch.save(thing, file)
    with pytest.raises(CheckpointError, match="step_00000005"):
        load(file)


class Bait:
    """Unpickling this makes a directory."""

    def __init__(self, trace):
        self.trace = str(trace)

    def __reduce__(self):
        return os.mkdir, (self.trace,)


def zipped(thing, file):
    torch.save(thing, file)


def legacy(thing, file):
    torch.save(thing, file, _use_new_zipfile_serialization=False)


def pickled(thing, file):
    file.write_bytes(pickle.dumps(thing))


@pytest.mark.parametrize("write", [zipped, legacy, pickled])
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_code_in_a_checkpoint_never_runs(file, tmp_path, write):
    trace = tmp_path / "trace"
    write({"step": 5, "ema": Bait(trace)}, file)
    with pytest.raises(CheckpointError, match="is damaged"):
        load(file)
    assert not trace.exists()
    pickle.loads(pickle.dumps(Bait(trace)))
    assert trace.exists()  # the bait is live


@pytest.mark.parametrize("write", [zipped, legacy, pickled, lambda thing, file: file.write_bytes(b"<html>")])
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_refusal_never_advises_to_trust_the_file(file, write):
    """PyTorch's own message tells how to load it all the same, with weights_only=False."""
    write({"step": 5, "ema": argparse.Namespace(a=1)}, file)
    with pytest.raises(CheckpointError) as caught:
        load(file)
    assert "`False`" not in str(caught.value) and "trust" not in str(caught.value)
