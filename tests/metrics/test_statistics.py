"""Files of feature statistics: what goes in comes out, nothing is unpickled, and the cache is never stale and never in the way."""

import io
import json
import os
import pickle
import random
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from metrics import statistics
from metrics.statistics import Statistics, StatisticsError, cache_directory, cached, fingerprint


def some(d=4, count=7, seed=0, **card):
    rows = torch.randn(20, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return Statistics(rows.mean(0), rows.T.cov(), count, card)


def assert_equal(a, b):
    assert torch.equal(a.mean, b.mean) and torch.equal(a.covariance, b.covariance)
    assert (a.count, a.card) == (b.count, b.card)


def files_below(path):
    return [p for p in path.rglob("*") if p.is_file()]


# --- files -------------------------------------------------------------------------------------------------------------------


def test_what_is_saved_is_loaded(tmp_path):
    saved = some(features="tiny", real="shapes « train »")
    saved.save(tmp_path / "new" / "s.npz")
    assert_equal(Statistics.load(tmp_path / "new" / "s.npz"), saved)
    assert files_below(tmp_path) == [tmp_path / "new" / "s.npz"]


def test_a_flipped_bit_changes_nothing_or_is_refused(tmp_path):
    saved, numbers, refused = some(real="shapes"), random.Random(0), 0
    saved.save(tmp_path / "s.npz")
    whole = (tmp_path / "s.npz").read_bytes()
    for _ in range(200):
        data = bytearray(whole)
        data[numbers.randrange(len(data))] ^= 1 << numbers.randrange(8)
        (tmp_path / "s.npz").write_bytes(data)
        try:
            assert_equal(Statistics.load(tmp_path / "s.npz"), saved)
        except StatisticsError:
            refused += 1
    assert refused > 100


def test_what_a_killed_process_left_in_the_cache_goes_with_the_next_statistics(tmp_path, monkeypatch):
    monkeypatch.setenv("GAN_CACHE", str(tmp_path))
    dead = subprocess.Popen([sys.executable, "-S", "-c", ""])
    dead.wait()
    (tmp_path / f".{socket.gethostname()}-{dead.pid}.0123.npz.tmp").touch()
    cached({"pixels": "b"}, some)
    assert len(list(tmp_path.iterdir())) == 1


def test_pytorch_fid_reads_our_files(tmp_path):
    saved = some()
    saved.save(tmp_path / "s.npz")
    with np.load(tmp_path / "s.npz", allow_pickle=False) as file:
        mu, sigma, card = file["mu"][:], file["sigma"][:], file["card"]
    assert mu.dtype == sigma.dtype == np.float64
    assert np.array_equal(mu, saved.mean.numpy()) and np.array_equal(sigma, saved.covariance.numpy())
    assert json.loads(str(card)) == {"count": 7}


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_mu_and_sigma_are_enough(tmp_path, write, dtype):
    mu, sigma = np.arange(3, dtype=dtype), np.eye(3, dtype=dtype)
    write(tmp_path / "theirs.npz", mu=mu, sigma=sigma)
    found = Statistics.load(tmp_path / "theirs.npz")
    assert found.mean.tolist() == [0, 1, 2] and torch.equal(found.covariance, torch.eye(3, dtype=torch.float64))
    assert found.mean.dtype == torch.float64 and (found.count, found.card) == (None, {})


@pytest.mark.parametrize("count", ["many", 2.5, True, 0, -3, [7]], ids=str)
def test_a_count_that_is_none_is_refused_in_one_sentence(tmp_path, count):
    some(count=count).save(tmp_path / "s.npz")
    with pytest.raises(StatisticsError, match=r"s\.npz says that it is of .*, which is no whole number; make it anew"):
        Statistics.load(tmp_path / "s.npz")


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def array(value):
    boxed = np.empty(1, dtype=object)
    boxed[0] = value
    return boxed


@pytest.mark.parametrize("place", ["mu", "sigma", "card", "file"])
def test_nothing_is_unpickled(tmp_path, place):
    bomb, path = Bomb(tmp_path / "exploded"), tmp_path / "bomb.npz"
    if place == "file":
        path.write_bytes(pickle.dumps({"mu": bomb, "sigma": bomb}))
    else:
        np.savez(path, **{"mu": np.zeros(3), "sigma": np.eye(3), place: array(bomb)})
    with pytest.raises(StatisticsError, match=r"bomb\.npz is no npz of plain arrays mu and sigma"):
        Statistics.load(path)
    assert not (tmp_path / "exploded").exists()
    with pytest.raises(TypeError):  # the bomb is a live one: os.mkdir answers None, which is no mapping
        dict(pickle.loads(pickle.dumps(bomb)))
    assert (tmp_path / "exploded").exists()


def npz(**arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


GOOD = dict(mu=np.zeros(3), sigma=np.eye(3))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04 and no more",
        npz(**GOOD)[:-30],
        npz(**GOOD)[:100],
        npz(mu=np.zeros(3)),
        npz(sigma=np.eye(3)),
        npz(mu=np.zeros((1, 3)), sigma=np.eye(3)),
        npz(mu=np.zeros(3), sigma=np.eye(4)),
        npz(mu=np.zeros(3), sigma=np.zeros(3)),
        npz(mu=np.float64(0), sigma=np.eye(1)),
        npz(mu=np.array(["a", "b", "c"]), sigma=np.eye(3)),
        npz(**GOOD, card=np.array("{not json")),
        npz(**GOOD, card=np.array("[1, 2]")),
        npy(np.eye(3)),
    ],
    ids=[
        "empty", "torn at the start", "torn at the end", "torn in the middle", "no sigma", "no mu", "mu is a matrix",
        "unlike sizes", "sigma is a vector", "mu is a number", "text", "card isn't json", "card is a list", "npy",
    ],
)  # fmt: skip
def test_what_is_no_file_of_statistics_is_refused_in_one_sentence(tmp_path, content):
    (tmp_path / "bad.npz").write_bytes(content)
    with pytest.raises(StatisticsError, match=r"bad\.npz") as refusal:
        Statistics.load(tmp_path / "bad.npz")
    assert "make it anew" in str(refusal.value) and "\n" not in str(refusal.value)


def test_missing_files_and_directories_are_refused(tmp_path):
    with pytest.raises(StatisticsError, match=r"there are no statistics at .*nowhere\.npz"):
        Statistics.load(tmp_path / "nowhere.npz")
    (tmp_path / "dir.npz").mkdir()
    with pytest.raises(StatisticsError, match=r"dir\.npz is no npz"):
        Statistics.load(tmp_path / "dir.npz")


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_damaged_bytes_are_refused_or_do_no_harm(tmp_path, write):
    """Every 11th byte in turn, with all its bits turned over."""
    good = some(3)
    write(tmp_path / "s.npz", mu=good.mean.numpy(), sigma=good.covariance.numpy())
    whole = (tmp_path / "s.npz").read_bytes()
    refused = 0
    for i in range(0, len(whole), 11):
        (tmp_path / "s.npz").write_bytes(whole[:i] + bytes([whole[i] ^ 255]) + whole[i + 1 :])
        try:
            found = Statistics.load(tmp_path / "s.npz")
        except StatisticsError:
            refused += 1
        else:
            assert torch.equal(found.mean, good.mean) and torch.equal(found.covariance, good.covariance), f"byte {i}"
    assert refused > 10


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, broken):
    path = tmp_path / "s.npz"
    some(seed=1).save(path)

    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, broken, refuse)
    with pytest.raises(OSError):
        some(seed=2).save(path)
    assert files_below(tmp_path) == [path]
    assert_equal(Statistics.load(path), some(seed=1))


# --- the cache ---------------------------------------------------------------------------------------------------------------


class Computation:
    """Counts how often it is asked."""

    def __init__(self, result=None):
        self.result = result or some(pixels="a")
        self.calls = 0

    def __call__(self):
        self.calls += 1
        return self.result


KEY = dict(pixels="a", features="tiny", weights="b", resize="clean", size=32, precision="fp32")


def test_the_second_time_is_not_computed(cache):
    first, second = Computation(), Computation(some(seed=9))
    assert_equal(cached(KEY, first), first.result)
    assert_equal(cached(KEY, second), first.result)
    assert (first.calls, second.calls) == (1, 0) and len(files_below(cache)) == 1


def test_keys_in_another_order_are_the_same_key(cache):
    cached(KEY, Computation())
    cached(dict(reversed(KEY.items())), Computation())
    assert len(files_below(cache)) == 1


@pytest.mark.parametrize("field", KEY)
def test_whatever_moves_a_feature_is_another_file(cache, field):
    cached(KEY, Computation())
    other = Computation(some(seed=9))
    assert_equal(cached({**KEY, field: "other"}, other), other.result)
    assert other.calls == 1 and len(files_below(cache)) == 2


def test_another_format_makes_old_files_unused(cache, monkeypatch):
    cached(KEY, Computation())
    monkeypatch.setattr(statistics, "FORMAT", statistics.FORMAT + 1)
    other = Computation()
    cached(KEY, other)
    assert other.calls == 1


def test_a_damaged_file_is_computed_and_written_again(cache):
    cached(KEY, Computation())
    (file,) = files_below(cache)
    file.write_bytes(file.read_bytes()[:200])
    again = Computation()
    assert_equal(cached(KEY, again), again.result)
    assert again.calls == 1 and files_below(cache) == [file]
    assert_equal(Statistics.load(file), again.result)


def test_a_cache_that_cannot_be_written_only_costs_time(cache):
    cache.write_text("a file where the directory should be")
    for _ in range(2):
        computation = Computation()
        assert_equal(cached(KEY, computation), computation.result)
        assert computation.calls == 1


def test_a_damaged_file_that_cannot_be_removed_only_costs_time(cache, monkeypatch):
    cached(KEY, Computation())
    (file,) = files_below(cache)
    file.write_bytes(b"garbage")

    def read_only(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "unlink", read_only)
    monkeypatch.setattr(os, "replace", read_only)
    computation = Computation()
    assert_equal(cached(KEY, computation), computation.result)


def test_a_cache_that_fills_the_disk_holds_no_half_file(cache, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    computation = Computation()
    assert_equal(cached(KEY, computation), computation.result)
    assert files_below(cache) == []


def test_the_cache_is_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("GAN_CACHE", "~/mine")
    assert cache_directory() == Path("~/mine").expanduser()
    monkeypatch.delenv("GAN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_directory() == tmp_path / "gan-scores"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_directory() == Path.home() / ".cache" / "gan-scores"


# --- fingerprints ------------------------------------------------------------------------------------------------------------


def images(n=10, height=4, width=4):
    return torch.randint(0, 256, (n, 3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("batch", [1, 3, 10])
def test_a_fingerprint_does_not_depend_on_batches_or_memory_layout(batch):
    parts = images().split(batch)
    assert fingerprint(iter(parts)) == fingerprint([images()])
    assert fingerprint([p.contiguous(memory_format=torch.channels_last) for p in parts]) == fingerprint([images()])


def one_level_up(x):
    x = x.clone()
    x[7, 2, 3, 1] ^= 1
    return x


@pytest.mark.parametrize(
    "change",
    [
        one_level_up,
        lambda x: x.flip(0),
        lambda x: x.flip(3),
        lambda x: x[:-1],
        lambda x: torch.cat([x, x[:1]]),
        lambda x: x.reshape(10, 3, 2, 8),
        lambda x: x.reshape(5, 3, 8, 4),
    ],
    ids=["one pixel", "order of images", "order of pixels", "one less", "one more", "shape", "fewer, larger"],
)
def test_a_fingerprint_tells_apart(change):
    assert fingerprint([change(images())]) != fingerprint([images()])
