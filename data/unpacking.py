"""What is stored compressed as a whole, unpacked so that it can be read at any place."""

import errno
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

from data.files import cache_directory, in_short
from data.images import DataError

PIECE = 2**20
MOST, SLACK = 200, 2**26  # images shrink less than so many times, or take fewer bytes: anything else is a trap, or no images


def unpacked(path: Path, opener: Callable[[Path], IO[bytes]], packed: int | None = None) -> IO[bytes]:
    """What `opener(path)` reads, in a file without a name in the cache directory, which goes with the process however that ends.

    packed: bytes that it takes in `path`, if not all. DataError: damaged, no space, or more than anything but a trap would hold.
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
