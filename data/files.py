"""Files and errors, for everybody: the base of all errors that a user can put right, atomic writes, where to look, the cache."""

import glob
import os
import re
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


class UserError(Exception):
    """Something that a user can put right: one sentence that says what is wrong and what to do. Nothing computed is lost by it."""

    style, exit_code = "red", 1  # how the command line says it, and ends
    said_by_all = True  # of several processes, whether each says it, or the main one alone


def write_atomically(path: Path, data: bytes | memoryview) -> None:
    """Replace `path` by `data`, or leave it as it was. OSError (a full disk, no permission) after tidying up."""
    with replacing(path) as file:
        file.write(data)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A new file beside `path` that takes its place when the block ends; if that raises, `path` stays as it was.

    The temporary file is called after the machine and the process, so two commands that write the same `path` don't mix: the last
    one wins. What a killed process of this machine left is removed first. OSError (a full disk, no permission) after tidying up.
    """
    remove_abandoned(path.parent, path.name)
    beside = path.with_name(f".{socket.gethostname()}-{os.getpid()}.{path.name}.tmp")
    try:
        with open(beside, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def remove_abandoned(folder: Path, name: str | None = None) -> None:
    """Remove the temporary files that killed processes of this machine left there, of files called `name` or of all."""
    wanted = re.compile(rf"\.{re.escape(socket.gethostname())}-(\d+)\..*\.tmp", re.DOTALL)
    with suppress(OSError):  # another user's: then they stay
        for file in folder.glob(f".*.{glob.escape(name) if name else '*'}.tmp"):
            found = wanted.fullmatch(file.name)
            if found and not _alive(int(found[1])):
                file.unlink(missing_ok=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)  # asks, and sends nothing
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # another user's
        pass
    return True


def located(path: str | Path) -> Path:
    """A path that a user gave, here or below the directory that GAN_DATA names."""
    here = Path(path).expanduser()
    there = Path(os.environ.get("GAN_DATA") or "").expanduser() / here
    return there if not here.exists() and there.exists() else here


def cache_directory() -> Path:
    """For what can be made again: $GAN_CACHE, else gan-scores in the user's cache directory, or without one in that for temporary
    files."""
    if os.environ.get("GAN_CACHE"):
        return Path(os.environ["GAN_CACHE"]).expanduser()
    try:
        return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "gan-scores"
    except RuntimeError:  # a user without a home, as in containers
        return Path(tempfile.gettempdir()) / "gan-scores"
