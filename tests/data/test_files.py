"""Atomic writes: whole or not at all, whoever else writes, whoever is killed."""

import contextlib
import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import filelock
import pytest

import data.files
from data.files import (
    UserError,
    cache_directory,
    folder_beside,
    located,
    locked,
    printable,
    reason,
    remove_abandoned,
    replacing,
    replacing_folder,
    swap_in,
    write_atomically,
)
from tests.helpers import ROOT

WRITER = """
import sys
from pathlib import Path
from data.files import replacing
with replacing(Path(sys.argv[1])) as file:
    file.write(sys.argv[2].encode())
    file.flush()
    print("writing", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def writer():
    """writer(path, text) -> a process that is half way through writing, and ends when its input does."""
    started = []

    def start(path, text):
        command = [sys.executable, "-c", WRITER, str(path), text]
        started.append(subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        assert started[-1].stdout.readline() == "writing\n"
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_block_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    (tmp_path / "a").write_bytes(b"old")
    for error in (OSError, ValueError, KeyboardInterrupt):
        with pytest.raises(error), replacing(tmp_path / "a") as file:
            file.write(b"ne")
            raise error
    assert (tmp_path / "a").read_bytes() == b"old" and names(tmp_path) == ["a"]


def test_nothing_is_seen_before_the_block_ends(tmp_path):
    with replacing(tmp_path / "a") as file:
        file.write(b"x" * 10**6)
        assert not (tmp_path / "a").exists()
    assert (tmp_path / "a").stat().st_size == 10**6


def test_a_new_file_has_the_permissions_of_any_other(tmp_path):
    write_atomically(tmp_path / "a", b"")
    (tmp_path / "b").write_bytes(b"")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_two_processes_do_not_mix_what_they_write(tmp_path, writer):
    first, second = writer(tmp_path / "a", "first" * 9), writer(tmp_path / "a", "second")
    second.communicate()
    assert (tmp_path / "a").read_bytes() == b"second"
    first.communicate()
    assert (tmp_path / "a").read_bytes() == b"first" * 9 and names(tmp_path) == ["a"]


def test_what_a_killed_writer_left_is_removed_by_the_next_and_a_living_one_is_let_be(tmp_path, writer):
    killed, living = writer(tmp_path / "a", "killed"), writer(tmp_path / "a", "living")
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert len(names(tmp_path)) == 2
    write_atomically(tmp_path / "a", b"next")
    assert len(names(tmp_path)) == 2  # the file, and what is being written
    living.communicate()
    assert names(tmp_path) == ["a"] and (tmp_path / "a").read_bytes() == b"living"


def test_only_abandoned_files_are_removed(tmp_path, writer):
    killed = writer(tmp_path / "a", "")
    killed.kill()
    killed.communicate()
    (abandoned,) = names(tmp_path)
    others = [".mine.tmp", "a.tmp", f".elsewhere-{killed.pid}.a.tmp", abandoned.replace(str(killed.pid), str(os.getpid()))]
    for name in others:
        (tmp_path / name).touch()
    remove_abandoned(tmp_path, "b")
    assert names(tmp_path) == sorted([abandoned, *others])
    remove_abandoned(tmp_path)
    assert names(tmp_path) == sorted(others)
    remove_abandoned(tmp_path / "nowhere")


def test_what_other_machines_left_is_removed_after_a_week_from_the_cache_alone(tmp_path, monkeypatch):
    for folder in (tmp_path / "cache", tmp_path / "mine"):
        folder.mkdir()
        old, new = folder / ".node-7.cluster-123.a.tmp", folder / ".node-8.cluster-123.a.tmp"
        for path in (old, new):
            path.touch()
        os.utime(old, (time.time() - 8 * 24 * 3600,) * 2)
    monkeypatch.setenv("GAN_CACHE", str(tmp_path / "cache"))
    cache_directory()
    remove_abandoned(tmp_path / "mine")
    write_atomically(tmp_path / "mine/a", b"")
    assert names(tmp_path / "cache") == [new.name] and names(tmp_path / "mine") == [old.name, new.name, "a"]


def test_the_next_command_that_comes_by_tidies_the_cache(tmp_path, writer, monkeypatch):
    monkeypatch.setenv("GAN_CACHE", str(tmp_path))
    (tmp_path / "decoded").mkdir()
    for place in (tmp_path / "a", tmp_path / "decoded/b"):
        killed = writer(place, "killed")
        killed.kill()
        killed.communicate()
    assert len(names(tmp_path)) == 2 and len(names(tmp_path / "decoded")) == 1
    cache_directory()
    assert names(tmp_path) == ["decoded"] and names(tmp_path / "decoded") == []


@pytest.mark.parametrize("when", ["open", "write", "sync"])
def test_a_full_disk_names_the_file_that_was_asked_for(tmp_path, monkeypatch, when):
    def full(*arguments):
        hidden = [str(argument) for argument in arguments if str(argument).endswith(".tmp")]
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), *hidden)

    if when == "open":
        monkeypatch.setattr(data.files, "open", full, raising=False)
    if when == "sync":
        monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError) as error, replacing(tmp_path / "a") as file:
        file.write(b"x")
        if when == "write":
            full()
    assert error.value.filename == str(tmp_path / "a") and error.value.errno == errno.ENOSPC and names(tmp_path) == []


def test_names_of_files_steer_no_terminal_and_break_no_line():
    found = str(UserError("a\nb\x1b[31m\u202egnp.exe \udcff grün 写真"))
    assert found == r"a\nb\x1b[31m\u202egnp.exe \udcff grün 写真" and str(UserError(found)) == found


@pytest.mark.parametrize("path", ["~nosuchuser/a", "a\0b"])
def test_a_path_that_cannot_be_is_a_sentence(path, monkeypatch):
    with pytest.raises(UserError, match=r"home directory of a user who has none here|zero byte"):
        located(path)
    if "\0" not in path:
        monkeypatch.setenv("GAN_CACHE", path)
        with pytest.raises(UserError, match="write the path in full"):
            cache_directory()


def test_a_path_is_looked_for_here_and_below_gan_data(tmp_path, monkeypatch):
    (tmp_path / "all/cats").mkdir(parents=True)
    monkeypatch.setenv("GAN_DATA", str(tmp_path / "all"))
    monkeypatch.chdir(tmp_path)
    assert located("cats") == tmp_path / "all/cats" and str(located("all")) == "all" and str(located("dogs")) == "dogs"
    (tmp_path / "cats").mkdir()
    assert str(located("cats")) == "cats"


def test_a_folder_is_there_as_a_whole_or_not_at_all(tmp_path):
    for before in (False, True):
        if before:
            (tmp_path / "a").mkdir()
        with pytest.raises(KeyError), replacing_folder(tmp_path / "a") as folder:
            (folder / "x").write_bytes(b"1")
            raise KeyError
        assert names(tmp_path) == ["a"] * before
    with replacing_folder(tmp_path / "a") as folder:
        (folder / "x").write_bytes(b"1")
        assert names(tmp_path / "a") == []
    assert names(tmp_path) == ["a"] and names(tmp_path / "a") == ["x"]


def test_what_a_killed_process_left_goes_with_the_next_write_whatever_its_name(tmp_path, writer):
    killed = writer(tmp_path / "a", "")
    killed.kill()
    killed.communicate()
    (left,) = tmp_path.iterdir()
    (tmp_path / left.name.replace(".a.", ".folder.")).mkdir()
    write_atomically(tmp_path / "b", b"")
    assert names(tmp_path) == ["b"]


def test_an_error_names_the_file_that_was_meant(tmp_path, monkeypatch):
    for place in (tmp_path / "none" / "a", tmp_path / ("n" * 300)):
        with pytest.raises(OSError) as caught:
            write_atomically(place, b"")
        assert caught.value.filename == str(place)
    with pytest.raises(OSError) as caught, replacing(tmp_path / "a"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.filename == str(tmp_path / "a") and reason(caught.value) == "the disk is full"
    with pytest.raises(FileNotFoundError) as caught, replacing(tmp_path / "a"):
        (tmp_path / "other").read_bytes()
    assert caught.value.filename == str(tmp_path / "other")


def test_a_name_as_long_as_a_name_may_be_is_written(tmp_path):
    write_atomically(tmp_path / ("é" * 127), b"x")
    assert len(names(tmp_path)) == 1


def test_a_lock_is_held_by_one_and_leaves_nothing(tmp_path):
    with locked(tmp_path / "l"), pytest.raises(filelock.Timeout), locked(tmp_path / "l"):
        pass
    (tmp_path / "l").touch()  # as kill -9 leaves it
    with locked(tmp_path / "l"):
        pass
    assert names(tmp_path) == []


def test_a_device_or_a_pipe_is_written_to_and_stays_what_it_is(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "null").symlink_to("/dev/null")
    heard = []
    listener = threading.Thread(target=lambda: heard.append((tmp_path / "pipe").read_bytes()))
    listener.start()
    write_atomically(tmp_path / "pipe", b"x")
    listener.join()
    write_atomically(tmp_path / "null", b"x")
    with open(tmp_path / "out", "wb") as out:  # as by `--json /dev/stdout > out`
        write_atomically(Path(f"/dev/fd/{out.fileno()}"), b"x")
    assert (tmp_path / "out").read_bytes() == b"x"
    (tmp_path / "out").unlink()
    assert heard == [b"x"] and (tmp_path / "pipe").is_fifo() and (tmp_path / "null").is_char_device()
    assert names(tmp_path) == ["null", "pipe"]


def test_a_file_is_made_in_a_folder_beside_its_place_of_which_nothing_stays(tmp_path):
    (tmp_path / "a.x").write_bytes(b"old")
    for fails in (True, False):
        with contextlib.suppress(KeyError), folder_beside(tmp_path / "a.x") as folder:
            (folder / "a.x").write_bytes(b"new")
            assert (tmp_path / "a.x").read_bytes() == b"old"
            if fails:
                raise KeyError
            swap_in(folder / "a.x", tmp_path / "a.x")
        assert names(tmp_path) == ["a.x"]
    assert (tmp_path / "a.x").read_bytes() == b"new"


def test_a_folder_that_a_killed_process_left_goes_too(tmp_path, writer):
    killed = writer(tmp_path / "a", "")
    killed.kill()
    killed.communicate()
    (left,) = tmp_path.iterdir()
    left.unlink()
    left.mkdir()
    (left / "half").touch()
    with folder_beside(tmp_path / "b"):
        assert len(names(tmp_path)) == 1
    assert names(tmp_path) == []


def test_control_characters_are_written_out():
    assert printable("a\x1b[31m\nb\u202ec é\udcff") == "a\\x1b[31m\\nb\\u202ec é\\udcff"
