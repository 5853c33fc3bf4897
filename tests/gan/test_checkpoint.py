"""Files that survive failures, and files that are refused: garbage, torn ones, and those that would run code."""

import argparse
import os
import pickle
import random
import re

import pytest
import torch

from data.files import write_atomically
from gan.checkpoint import CheckpointError, latest_good, load, path_of, save, saved, step_of

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


# --- checksums ---------------------------------------------------------------------------------------------------------------


def flipped(whole, place, bit=0):
    data = bytearray(whole)
    data[place] ^= 1 << bit
    return bytes(data)


@pytest.mark.parametrize("sealed", [True, False], ids=["ours", "of before"])
def test_a_flipped_bit_changes_nothing_or_is_refused(tmp_path, file, sealed):
    save(STATE, tmp_path, 5, keep=2)
    if not sealed:  # as files were before there was a checksum of the whole
        torch.save(STATE, file)
    whole, numbers, refused = file.read_bytes(), random.Random(0), 0
    for place in [*(numbers.randrange(len(whole)) for _ in range(150)), *range(len(whole) - 100, len(whole), 7)]:
        file.write_bytes(flipped(whole, place, numbers.randrange(8)))
        try:
            assert torch.equal(load(file)["ema"]["w"], STATE["ema"]["w"]), place
        except CheckpointError:
            refused += 1
    assert refused > 120 if sealed else refused > 20


def test_a_damaged_file_is_refused_with_the_one_before(tmp_path):
    for step in (3, 5):
        save({**STATE, "step": step}, tmp_path, step, keep=2)
    newest = path_of(tmp_path, 5)
    whole = newest.read_bytes()
    newest.write_bytes(flipped(whole, whole.index(STATE["ema"]["w"].numpy().tobytes()) + 2))
    with pytest.raises(
        CheckpointError, match=r"step_00000005\.pt is damaged \(.*\); delete it, the one before is step_00000003\.pt"
    ):
        load(newest)
    best = save(STATE, tmp_path, 5, 0, "best.pt")
    best.write_bytes(flipped(best.read_bytes(), 700))
    with pytest.raises(CheckpointError, match=r"best\.pt is damaged .*; delete it, and the next score in training keeps another"):
        load(best)


def test_a_file_of_before_there_was_a_checksum_still_loads(file):
    torch.save(STATE, file)
    assert torch.equal(load(file)["ema"]["w"], STATE["ema"]["w"])


def test_a_checksum_leaves_the_file_one_that_pytorch_reads(tmp_path):
    assert torch.load(save(STATE, tmp_path, 5, keep=2), weights_only=True)["step"] == 5


def test_a_file_of_another_step_than_its_name_says_is_refused(tmp_path):
    save(STATE, tmp_path, 5, keep=2).rename(path_of(tmp_path, 7))
    with pytest.raises(CheckpointError, match=r"step_00000007\.pt holds step 5, not the one of its name"):
        load(path_of(tmp_path, 7))


@pytest.mark.parametrize("sick", [float("nan"), float("inf")])
@pytest.mark.parametrize("network", ["ema", "generator", "discriminator", "model"])
def test_the_last_good_checkpoint_is_whole_and_finite(tmp_path, sick, network):
    for step in (1, 2, 3):
        state = {"step": step, network: {"w": torch.ones(2), "running_mean": torch.zeros(2), "n": torch.tensor(3)}}
        if step == 2:
            state[network]["running_mean"][1] = sick
        save(state, tmp_path, step, keep=5)
    newest = path_of(tmp_path, 3)
    newest.write_bytes(newest.read_bytes()[:-400])
    assert latest_good(tmp_path) == path_of(tmp_path, 1)
    assert latest_good(tmp_path / "nowhere") is None
