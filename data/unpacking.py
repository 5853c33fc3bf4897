"""Unpack a compressed file, such as a .tar.gz, so that it can be read at any offset."""

import errno
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

from data.files import cache_directory, in_short
from data.images import DataError

PIECE = 2**20
MOST, SLACK = 200, 2**26  # limits: compression factor, and bytes on top; more is a decompression bomb, or no images


def unpacked(path: Path, opener: Callable[[Path], IO[bytes]], packed: int | None = None) -> IO[bytes]:
    """Unpack `opener(path)` into an unnamed temporary file in the cache directory, which disappears with the process.

    packed: its compressed bytes, if not all of `path`. DataError if it is damaged, a decompression bomb, or the disk is full.
    """
    packed = path.stat().st_size if packed is None else packed
    file, total = _nameless(), 0
    try:
        with opener(path) as stream:
            while piece := stream.read(PIECE):
                total += len(piece)
                if total > MOST * packed + SLACK:
                    raise DataError(f"{path} unpacks to more than {MOST} times its size, which images don't: unpack it yourself")
                file.write(piece)
        file.seek(0)
    except DataError:
        raise
    except MemoryError:
        raise
    except Exception as error:  # damaged bytes make gzip, bz2 and lzma raise a dozen kinds of error
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            text = f"{path} can't be unpacked into {cache_directory()} ({os.strerror(error.errno)})"
            raise DataError(f"{text}: free some space, or set GAN_CACHE to another directory") from None
        raise DataError(f"{path} can't be unpacked ({in_short(error)}): it's damaged or cut short, get it again") from None
    return file


def _nameless() -> IO[bytes]:
    try:
        cache_directory().mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryFile(dir=cache_directory())
    except OSError:  # a cache that can't be written
        return tempfile.TemporaryFile()
