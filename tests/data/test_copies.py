"""Decoded copies: the same pixels, the same fingerprints, and nothing but a whole copy of these very images is ever used."""

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import PIL
import pytest
import torch

from data import DataError, copies, gathering, load
from data.sources.opening import open_source
from data.sources.source import Source
from data.tools.pack import Squares, pack
from gan.config import Config
from gan.processes import Processes
from gan.state import Batches
from tests.data.pictures import encoded, noise
from tests.helpers import ROOT

R, N = 16, 24


@pytest.fixture(autouse=True)
def every_set_is_kept(monkeypatch):
    monkeypatch.setattr(gathering, "SOON", 0)
    copies.decoder.cache_clear()
    yield
    copies.decoder.cache_clear()


@pytest.fixture
def folder(write_folder):
    """24 pictures of 32×32 in two classes."""
    return write_folder({f"{'ab'[i % 2]}/{i:02}.png": encoded(noise(i, (32, 32))) for i in range(N)})


@pytest.fixture
def decoded(monkeypatch):
    """The indices of all images that were decoded."""
    seen = []
    pixels = Source.pixels
    monkeypatch.setattr(Source, "pixels", lambda self, i, *rest: seen.append(i) or pixels(self, i, *rest))
    return seen


def kept():
    return sorted(Path(os.environ["GAN_CACHE"], "decoded").glob("*.pixels"))


def same(a, b):
    others = ("classes", "source", "skipped", "fingerprint", "shown")
    tensors = torch.equal(a.images, b.images) and torch.equal(a.labels, b.labels)
    return tensors and all(getattr(a, name) == getattr(b, name) for name in others)


# --- what a copy gives --------------------------------------------------------------------------------------------------------


def test_the_second_start_decodes_nothing_and_sees_the_same(folder, decoded):
    first = load("folder", folder, R)
    assert len(decoded) == N and len(kept()) == 1
    second = load("folder", folder, R)
    assert len(decoded) == N and same(first, second) and second.images.is_contiguous()
    second.images[0] = 0  # the tensor is the caller's own
    assert same(first, load("folder", folder, R))


def test_without_copies_all_is_as_with_them(folder, decoded, monkeypatch):
    with_copy = [load("folder", folder, R) for _ in range(2)][1]
    monkeypatch.setenv("GAN_COPIES", "0")
    assert same(load("folder", folder, R), with_copy) and len(decoded) == 2 * N


def test_images_left_out_stay_left_out(folder, decoded):
    (folder / "a/03.png").write_bytes(b"no image")
    (folder / "b/00.png").write_bytes(b"")
    first, second = (load("folder", folder, R, on_bad="skip") for _ in range(2))
    assert first.skipped == second.skipped == ("a/03.png", "b/00.png") and len(second) == N
    assert same(first, second) and len(decoded) == N + 2
    with pytest.raises(DataError, match="2 of 26 images can't be used"):
        load("folder", folder, R)


@pytest.mark.parametrize("bad", [False, True])
def test_a_run_remembers_its_images_by_the_same_sha256(folder, bad, monkeypatch):
    """A run begun without copies, by an older version or with GAN_COPIES=0, goes on with one."""
    if bad:
        (folder / "a/03.png").write_bytes(b"no image")
    config = Config.load(None, ["dataset.name=folder", f"dataset.path={folder}", "dataset.on_bad=skip"])
    processes = Processes.start("cpu")
    decoded, read = (Batches(config, processes) for _ in range(2))
    monkeypatch.setenv("GAN_COPIES", "0")
    plain = Batches(config, processes)
    assert decoded.sha256 == read.sha256 == plain.sha256 and len(kept()) == 1
    assert torch.equal(read.get(3, 0), plain.get(3, 0))


# --- what a copy belongs to ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [{"resolution": 12}, {"crop": "cut"}, {"on_bad": "skip"}, {"hold_out": 0.5}, {"hold_out": 0.4}])
def test_other_settings_have_copies_of_their_own(folder, decoded, change):
    load("folder", folder, R)
    decoded.clear()
    found = load("folder", folder, **{"resolution": R, **change})
    assert len(decoded) == len(found) and len(kept()) == 2


def test_the_two_parts_of_a_hold_out_are_two_sets(folder):
    rest, held = (load("folder", folder, R, hold_out=0.5, split=split) for split in ("train", "test"))
    assert len(kept()) == 2 and len(rest) + len(held) == N
    assert same(rest, load("folder", folder, R, hold_out=0.5)) and same(held, load("folder", folder, R, hold_out=0.5, split="test"))


def test_another_picture_under_the_same_name_is_seen(folder):
    before = load("folder", folder, R)
    (folder / "a/00.png").write_bytes(encoded(noise(99, (32, 32))))
    after = load("folder", folder, R)
    assert not torch.equal(before.images[0], after.images[0]) and torch.equal(before.images[1:], after.images[1:])


def test_a_change_that_the_fingerprint_overlooks_is_seen(write_lsun, small, monkeypatch):
    """Of a large database, or folder, the fingerprint is of samples."""
    images = small(4)
    directory = write_lsun(values={f"{i}".encode(): image for i, image in enumerate(images)})
    monkeypatch.setattr("data.sources.lsun.LsunSource.fingerprint", "the same")
    before = load("lsun", directory, R)
    file = directory / "data.mdb"
    os.utime(file, ns=(0, file.stat().st_mtime_ns + 1))
    assert torch.equal(load("lsun", directory, R).images, before.images) and len(kept()) == 2


@pytest.mark.parametrize("what", ["Pillow", "libjpeg", "decoding.py"])
def test_another_decoder_decodes_anew(folder, decoded, what, monkeypatch, tmp_path):
    load("folder", folder, R)
    copies.decoder.cache_clear()  # another process
    if what == "Pillow":
        monkeypatch.setattr(PIL, "__version__", "0.1")
    elif what == "libjpeg":
        monkeypatch.setattr(copies.features, "version", lambda name: "0.1")
    else:
        (tmp_path / "decoding.py").write_text("# other code")
        monkeypatch.setattr(copies.decoding, "__file__", str(tmp_path / "decoding.py"))
    load("folder", folder, R)
    assert len(decoded) == 2 * N


def test_what_changes_while_it_is_decoded_is_not_kept(folder, monkeypatch):
    pixels = Source.pixels

    def change(self, i, *rest):
        if i == N - 1:
            (folder / "a/00.png").write_bytes(encoded(noise(99, (32, 32))))
        return pixels(self, i, *rest)

    monkeypatch.setattr(Source, "pixels", change)
    load("folder", folder, R)
    assert not kept()


def test_packs_and_quick_sets_are_not_kept(folder, tmp_path, monkeypatch):
    pack(open_source(folder), tmp_path / "a.pack", Squares(R))
    load("folder", tmp_path / "a.pack", R)
    monkeypatch.setattr(gathering, "SOON", 60)
    load("folder", folder, R)
    assert not kept()


# --- copies that are not whole ------------------------------------------------------------------------------------------------


def cut(data):
    return data[:-1]


def longer(data):
    return data + b"\0"


def flipped_pixel(data):
    return data[:-100] + bytes([data[-100] ^ 1]) + data[-99:]


def other_place_left_out(data):
    return data.replace(b'"bad": [3]', b'"bad": [4]')


def more_left_out_than_there_are(data):
    return data.replace(b'"bad": [3]', b'"bad": "' + b"x" * 99 + b'"')


def another_key(data):
    return data.replace(b'"crop": "center"', b'"crop": "cut"   ')


HARM = [cut, longer, flipped_pixel, other_place_left_out, more_left_out_than_there_are, another_key]
FOREIGN = {"empty": b"", "no key": b"{}\n", "deep": b"[" * 10**5 + b"\n", "noise": b"\xff" * 1000, "number": b"7\n"}


@pytest.mark.parametrize("harm", [*HARM, *FOREIGN], ids=lambda harm: getattr(harm, "__name__", harm))
def test_a_damaged_copy_is_ignored_and_made_anew(write_folder, small, decoded, harm):
    folder = write_folder({f"{i}.png": image for i, image in enumerate(small(6))} | {"3.png": b""})
    whole = load("folder", folder, R, on_bad="skip")
    (file,) = kept()
    data = file.read_bytes()
    damaged = FOREIGN[harm] if harm in FOREIGN else harm(data)
    assert damaged != data
    file.write_bytes(damaged)
    decoded.clear()
    assert same(load("folder", folder, R, on_bad="skip"), whole) and len(decoded) == 6
    assert file.read_bytes() == data
    decoded.clear()
    load("folder", folder, R, on_bad="skip")
    assert not decoded


WRITER = """
import os, sys
import numpy as np
from data import copies
os.fsync = lambda descriptor: (print("writing", flush=True), sys.stdin.read())
copies.write({"images": 1}, np.zeros((1, 3, 16, 16), np.uint8), [])
"""


@pytest.mark.parametrize("then", ["another set is decoded", "a copy is read"])
def test_what_a_killed_writer_left_is_removed_but_not_what_a_living_one_writes(folder, then):
    directory = Path(os.environ["GAN_CACHE"], "decoded")
    if then == "a copy is read":
        load("folder", folder, R)
    before = len(kept())
    writer = subprocess.Popen([sys.executable, "-c", WRITER], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert writer.stdout.readline() == "writing\n"
        load("folder", folder, R)
        assert len(list(directory.glob(".*.tmp"))) == 1 and len(kept()) == before  # it goes without, and harms nothing
    finally:
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
    load("folder", folder, R)
    assert not list(directory.glob(".*.tmp")) and len(kept()) == 1


# --- room ---------------------------------------------------------------------------------------------------------------------


def test_the_copies_not_used_for_longest_make_room(folder, monkeypatch):
    size = N * 3 * R * R
    monkeypatch.setenv("GAN_COPIES", str(2.5 * (size + 1000) / 2**30))
    for crop in ("center", "pad"):
        load("folder", folder, R, crop=crop)
    for i, file in enumerate(kept()):
        os.utime(file, (i, i))
    (oldest,) = [file for file in kept() if b'"crop": "center"' in file.read_bytes()[:1000]]
    load("folder", folder, R)  # used just now
    assert oldest.stat().st_mtime > time.time() - 60
    load("folder", folder, R, crop="cut")
    starts = b"".join(file.read_bytes()[:1000] for file in kept())
    assert [crop for crop in ("center", "pad", "cut") if f'"crop": "{crop}"'.encode() in starts] == ["center", "cut"]


def test_a_set_above_the_cap_is_not_kept(folder, monkeypatch):
    monkeypatch.setenv("GAN_COPIES", str((N * 3 * R * R - 1) / 2**30))
    load("folder", folder, R)
    assert not kept()


def test_a_cap_that_is_no_number_is_a_sentence(folder, monkeypatch):
    for wrong in ("much", "-1", "nan"):
        monkeypatch.setenv("GAN_COPIES", wrong)
        with pytest.raises(DataError, match=f"GAN_COPIES is how many GiB .* not '{wrong}'"):
            load("folder", folder, R)


def test_a_disk_that_is_nearly_full_stays_as_it_is(folder, monkeypatch):
    monkeypatch.setattr(copies, "SPARE", 2**62)
    load("folder", folder, R)
    assert not kept()


def test_a_cache_that_cannot_be_written_only_costs_time(folder, decoded, monkeypatch, tmp_path, capfd):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("GAN_CACHE", str(tmp_path / "file"))
    first, second = (load("folder", folder, R) for _ in range(2))
    assert same(first, second) and len(decoded) == 2 * N
    assert capfd.readouterr() == ("", "")


def test_a_write_that_fails_leaves_nothing(folder, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    load("folder", folder, R)
    assert [file.name for file in Path(os.environ["GAN_CACHE"], "decoded").iterdir() if file.name != ".lock"] == []


# --- what is said meanwhile ---------------------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_sees_a_bar(folder, monkeypatch):
    seen = Terminal()
    monkeypatch.setattr(sys, "stderr", seen)
    load("folder", folder, R)
    assert "decoding folder: " in seen.getvalue() and f"/{N:.1f}" in seen.getvalue()
    assert seen.getvalue().endswith("\r")  # and then no more of it
    seen.truncate(0)
    load("folder", folder, R)
    assert "decoding" not in seen.getvalue()


def test_a_log_is_told_of_a_long_wait_in_one_line(folder, monkeypatch, capsys):
    monkeypatch.setattr(gathering, "PART", 4)
    load("folder", folder, R)
    assert capsys.readouterr().err == "", "short waits aren't worth a word"
    monkeypatch.setattr(gathering, "LONG", 0)
    load("folder", folder, R, crop="pad")
    assert capsys.readouterr().err == f"decoding {N} images of folder, once: later starts read a copy\n"
    monkeypatch.setenv("GAN_COPIES", "0")
    load("folder", folder, R)
    assert capsys.readouterr().err == f"decoding {N} images of folder\n"
    monkeypatch.setenv("RANK", "1")  # of torchrun's processes the first speaks
    monkeypatch.setenv("WORLD_SIZE", "2")
    load("folder", folder, R)
    assert capsys.readouterr().err == ""
