"""Decoded copies: a cache of the pixels of sets that take long to decode, so that the next start reads them in seconds.

They lie in `decoded` in the cache directory, one file per set, named by a hash of all that decides the pixels. In a file: one line
of JSON (`key`, what decides the pixels; `bad`, the places of images left out; `sha256`, of all the rest) and the pixels, as they
lie in memory. A file is used if every byte is what was written, else made anew. The folder is written to by one process at a time,
the others go without; the system takes its lock back from one that was killed, and the next start removes what that one left.
"""

import contextlib
import json
import os
import platform
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from hashlib import sha256
from pathlib import Path

import filelock
import numpy as np
import PIL
from PIL import features

from data import decoding
from data.files import cache_directory, remove_abandoned, replacing
from data.images import DataError
from data.sources.source import Source
from data.workers import cores

FORMAT = 1  # of these files
CAP = 4.0  # GiB that all copies may take, unless GAN_COPIES says otherwise
SPARE = 2**30  # bytes of the disk that are left free
PIECE = 2**22  # bytes that a thread reads and hashes at a time, while they are in its core's cache
LINE = 2**26  # bytes that the first line may have
SUFFIX = ".pixels"


def key(source: Source, resolution: int, on_bad: str, crop: str) -> dict | None:
    """All that decides the pixels of a decoded source, and which are left out.

    None where no copy is to be kept: it would be too large, or reading takes no decoding. DataError if GAN_COPIES is no number.
    """
    if not source.encoded or not 0 < len(source) * 3 * resolution**2 <= _cap():
        return None
    return {
        "format": FORMAT,
        "source": source.fingerprint,
        "stamp": source.stamp(),
        "images": len(source),
        "resolution": resolution,
        "crop": crop,
        "on_bad": on_bad,
        "decoder": decoder(),
    }


@cache
def decoder() -> list[str | None]:
    """Pillow and what it decodes lossy images with; and our own code, whatever changes in it."""
    libraries = [features.version(name) for name in ("jpg", "libjpeg_turbo", "webp", "avif", "jpg_2000", "libtiff")]
    return [PIL.__version__, *libraries, platform.machine(), sha256(Path(decoding.__file__).read_bytes()).hexdigest()]


def decoded_by(source: Source) -> str:
    """What decides an encoded source's pixels and isn't in its fingerprint: the decoder; times of files that may have changed."""
    return json.dumps([source.stamp(), *decoder()]) if source.encoded else ""


def read(key: dict) -> tuple[np.ndarray, list[int]] | None:
    """The pixels, (n, 3, R, R) uint8, and the indices of the images left out; None without an undamaged copy."""
    place = _place(key)
    remove_abandoned(place.parent)
    try:
        with open(place, "rb") as file:
            header = json.loads(file.readline(LINE))
            bad = header["bad"]
            shape = (key["images"] - len(bad), 3, key["resolution"], key["resolution"])
            if header["key"] != key or os.fstat(file.fileno()).st_size != file.tell() + np.prod(shape, dtype=np.int64):
                return None
            offset = file.tell()
        pixels = np.empty(shape, np.uint8)

        def read_piece(piece: np.ndarray, start: int) -> None:
            with open(place, "rb") as file:
                file.seek(offset + start)
                file.readinto(piece)

        if header["sha256"] != _seal(key, bad, pixels, read_piece):
            return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError, MemoryError):
        return None
    with contextlib.suppress(OSError):  # a read-only cache
        os.utime(place)  # the least recently used copy is removed first
    return pixels, bad


def write(key: dict, pixels: np.ndarray, bad: list[int]) -> None:
    """Keep a copy, written atomically. If it can't be written, the next start simply decodes again."""
    place = _place(key)
    header = json.dumps({"key": key, "bad": bad, "sha256": _seal(key, bad, pixels)}).encode() + b"\n"
    with contextlib.suppress(OSError, NotImplementedError):  # read-only, full, in use by another process, no locks there
        place.parent.mkdir(parents=True, exist_ok=True)
        with _alone(place.parent):
            remove_abandoned(place.parent)
            if shutil.disk_usage(place.parent).free < pixels.nbytes + SPARE:
                return
            _make_room(place, pixels.nbytes)
            with replacing(place) as file:
                file.write(header)
                file.write(pixels)


def _place(key: dict) -> Path:
    name = sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]
    return cache_directory() / "decoded" / f"{name}{SUFFIX}"


def _seal(
    key: dict, bad: list[int], pixels: np.ndarray, prepare: Callable[[np.ndarray, int], None] = lambda piece, start: None
) -> str:  # fmt: skip
    """sha256 over the sha256 of each piece of the pixels, `key` and `bad`. Threaded, since every start computes it.

    prepare: called with each piece and its start before that is hashed, to fill it.
    """
    whole = pixels.reshape(-1)

    def digest(start: int) -> bytes:
        piece = whole[start : start + PIECE]
        prepare(piece, start)
        return sha256(piece).digest()

    with ThreadPoolExecutor(min(8, cores())) as pool:
        digests = pool.map(digest, range(0, len(whole), PIECE))
        return sha256(json.dumps([key, bad], sort_keys=True).encode() + b"".join(digests)).hexdigest()


def _alone(folder: Path) -> filelock.FileLock:
    """To be held while writing; filelock.Timeout, an OSError, when another process holds it."""
    return filelock.FileLock(folder / ".lock", timeout=0)


def _make_room(place: Path, size: int) -> None:
    """Remove the least recently used copies until a new one of this size fits below the cap."""
    others = [(file.stat(), file) for file in place.parent.glob(f"*{SUFFIX}") if file != place]
    others.sort(key=lambda found: found[0].st_mtime_ns)
    total = size + sum(stat.st_size for stat, _ in others)
    for stat, file in others:
        if total <= _cap():
            break
        file.unlink(missing_ok=True)
        total -= stat.st_size


def _cap() -> float:
    """Bytes that all copies may take: $GAN_COPIES GiB, else CAP."""
    text = os.environ.get("GAN_COPIES") or CAP
    try:
        cap = float(text)
    except ValueError:
        cap = -1.0
    if not cap >= 0:
        raise DataError(f"GAN_COPIES is how many GiB decoded copies may take, 0 for none, not {text!r}: change or unset it")
    return cap * 2**30
