"""Files and errors, for everybody: the base of all errors that a user can put right, atomic writes, where to look, the cache."""

import errno
import glob
import os
import re
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import BinaryIO

import filelock

WEEK = 7 * 24 * 3600  # seconds after which another machine's temporary file was left by something that was killed
LONG = 60  # letters of a name that a temporary one repeats

OPENED = re.compile(r"/dev/(stdout|stderr|fd/\d+)|/proc/(self|\d+)/fd/\d+")

REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "your disk quota is used up",
    errno.EFBIG: "files may not grow this large here, see `ulimit -f`",
    errno.EROFS: "that disk is read-only",
    errno.EMFILE: "too many files are open, see `ulimit -n`",
    errno.ENFILE: "too many files are open on this machine",
}


class UserError(Exception):
    """Something that a user can put right: one sentence that says what is wrong and what to do. Nothing computed is lost by it."""

    style, exit_code = "red", 1  # how the command line says it, and ends
    said_by_all = True  # of several processes, whether each says it, or the main one alone

    def __init__(self, *arguments: object):
        super().__init__(*(printable(argument) if isinstance(argument, str) else argument for argument in arguments))


UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def duration(seconds: float) -> str:
    """'40 seconds', '7 minutes', '3.5 hours'."""
    if seconds < 90:
        return f"{max(1, round(seconds))} seconds"
    return f"{round(seconds / 60)} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


def counted(count: int, noun: str) -> str:
    """'1 run', '1,200 runs'."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


def printable(text: str) -> str:
    """The text on one line, without what would steer a terminal or can't be written: names of files may hold anything."""
    return UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def in_short(error: object, most: int = 200) -> str:
    """What another library says, on one line and no longer than `most` characters: some quote what they stumbled over."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= most else f"{text[:most]} …"


def write_atomically(path: Path, data: bytes | memoryview) -> None:
    """Replace `path` by `data`, or leave it as it was. OSError (a full disk, no permission) after tidying up."""
    with replacing(path) as file:
        file.write(data)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A new file beside `path` that takes its place when the block ends; if that raises, `path` stays as it was.

    The temporary file is called after the machine and the process, so two commands that write the same `path` don't mix: the last
    one wins. What killed processes of this machine left there is removed first. A device or a pipe is written to as it is: nothing
    takes its place. OSError (a full disk, no permission), which names `path`, after tidying up.
    """
    if is_special(path):
        with open(path, "wb") as file:
            yield file
        return
    beside = _beside(path)
    try:
        with open(beside, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException as error:
        _remove(beside)
        _name(error, path, beside)
        raise


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """As `replacing`, a folder that takes the place of `path`, which must not exist or be empty."""
    with folder_beside(path) as beside:
        yield beside
        os.sync()  # once, and not after each of ten thousand files
        os.replace(beside, path)


@contextmanager
def folder_beside(path: Path) -> Iterator[Path]:
    """A folder beside `path` that goes when the block ends: for a file that has its name already while it's made (`swap_in`)."""
    beside = _beside(path)
    try:
        beside.mkdir()
        yield beside
    except BaseException as error:
        _name(error, path, beside)
        raise
    finally:
        _remove(beside)


def swap_in(made: Path, path: Path) -> None:
    """Let a finished file take the place of `path`: all of it is on the disk before it has that name."""
    with open(made, "rb") as file:
        os.fsync(file.fileno())
    os.replace(made, path)


def stamp_of(path: Path) -> tuple[int, int] | None:
    """Size and time of a file; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def is_special(path: Path) -> bool:
    """Whether a device, a pipe or a socket lies there, or whatever this process has open by a number, as /dev/stdout."""
    return bool(OPENED.fullmatch(os.path.abspath(path))) or (path.exists() and not path.is_file() and not path.is_dir())


def _beside(path: Path) -> Path:
    remove_abandoned(path.parent)
    return path.with_name(f".{socket.gethostname()}-{os.getpid()}.{path.name[-LONG:]}.tmp")


def _name(error: BaseException, path: Path, beside: Path) -> None:
    """Let an error of writing name the file that was meant, where it names the temporary one, or none."""
    if isinstance(error, OSError) and (error.filename == str(beside) or (error.filename is None and error.errno in REASONS)):
        error.filename, error.filename2 = str(path), None


def reason(error: OSError) -> str:
    """Why a file can't be read or written, in words: 'the disk is full', 'permission denied'."""
    return REASONS.get(error.errno or 0) or (error.strerror or str(error) or type(error).__name__).lower()


def remove_abandoned(folder: Path, name: str | None = None) -> None:
    """Remove the temporary files that killed processes of this machine left there, of files called `name` or of all."""
    wanted = re.compile(rf"\.{re.escape(socket.gethostname())}-(\d+)\..*\.tmp", re.DOTALL)
    with suppress(OSError):
        for file in folder.glob(f".*.{glob.escape(name) if name else '*'}.tmp"):
            found = wanted.fullmatch(file.name)
            if found and not _alive(int(found[1])):
                _remove(file)


def _remove(path: Path) -> None:
    with suppress(OSError):  # another user's: then it stays
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


@contextmanager
def locked(file: Path, patience: float = 0) -> Iterator[None]:
    """Hold the lock `file`; the system takes it back from a process that is killed. It is removed at the end.

    filelock.Timeout, an OSError, if another process holds it for longer than `patience` seconds.
    """
    lock = filelock.FileLock(file)
    lock.acquire(timeout=patience)
    try:
        yield
    finally:
        with suppress(OSError):
            file.unlink()  # while it is held: who has it open already sees that it is gone, and makes another
        lock.release()


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)  # asks, and sends nothing
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # another user's
        pass
    return True


def located(path: str | Path) -> Path:
    """A path that a user gave, here or below the directory that GAN_DATA names. UserError for one that can't be."""
    here = expanded(path)
    there = expanded(os.environ.get("GAN_DATA") or "") / here
    return there if not here.exists() and there.exists() else here


def expanded(path: str | Path) -> Path:
    """A path with the home directory in place of ~. UserError for one that can't be."""
    if "\0" in os.fspath(path):
        raise UserError(f"{os.fspath(path)!r} can't be a path: leave the zero byte out")
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise UserError(f"{path} names the home directory of a user who has none here: write the path in full") from None


def cache_directory() -> Path:
    """For what can be made again: $GAN_CACHE, else gan-scores in the user's cache directory, or without one in that for temporary
    files. Whoever asks first removes what killed processes left there."""
    if os.environ.get("GAN_CACHE"):
        place = expanded(os.environ["GAN_CACHE"])
    else:
        try:
            place = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "gan-scores"
        except RuntimeError:  # a user without a home, as in containers
            place = Path(tempfile.gettempdir()) / "gan-scores"
    _tidy_once(place)
    return place


@cache
def _tidy_once(cache: Path) -> None:
    for folder in (cache, cache / "decoded"):
        remove_abandoned(folder)
        _remove_older(folder, time.time() - WEEK)


def _remove_older(cache: Path, before: float) -> None:
    """Remove every machine's temporary files from a cache, where nobody else has any, if last written to before a time."""
    with suppress(OSError):
        for file in cache.glob(".*.tmp"):
            if file.stat().st_mtime < before:
                _remove(file)
