"""Files and errors, for everybody: the base of all errors that a user can put right, atomic writes, the cache directory."""

import os
import tempfile
from pathlib import Path


class UserError(Exception):
    """Something that a user can put right: one sentence that says what is wrong and what to do. Nothing computed is lost by it."""

    style, exit_code = "red", 1  # how the command line says it, and ends
    said_by_all = True  # of several processes, whether each says it, or the main one alone


def write_atomically(path: Path, data: bytes | memoryview) -> None:
    """Replace `path` by `data`, or leave it as it was. OSError (a full disk, no permission) after tidying up."""
    beside = path.with_name(f".{path.name}.tmp")
    try:
        with open(beside, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise


def cache_directory() -> Path:
    """For what can be made again: $GAN_CACHE, else gan-scores in the user's cache directory, or without one in that for temporary
    files."""
    if os.environ.get("GAN_CACHE"):
        return Path(os.environ["GAN_CACHE"]).expanduser()
    try:
        return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "gan-scores"
    except RuntimeError:  # a user without a home, as in containers
        return Path(tempfile.gettempdir()) / "gan-scores"
