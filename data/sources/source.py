"""What a folder, a zip, an LSUN database and a pack have in common: a `Source`, which reads one image when asked for it."""

import errno
from collections.abc import Iterator
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import numpy as np
from PIL import Image

from data.decoding import Crop, as_rgb, fit, reason
from data.images import DataError


class Source:
    """N images in a fixed order. Reading is safe from threads and from forked or spawned processes.

    A kind of source gives `path`, `about`, `classes`, `len()`, `name(i)`, `read(i)` (where nothing is stored encoded: `image(i)`),
    `labels` and `fingerprint`. One that is found by what lies at a path (data/sources/opening.py) also gives `recognises`, and is
    made from (path, split, categories).
    """

    path: Path
    about: str  # one line for messages and cards
    classes: tuple[str, ...] = ("all",)
    encoded = True  # whether images must be decoded, which worker processes should then do
    both_splits = False  # whether it mixes images of a train and a test split

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Whether what lies at a path is of this kind."""
        raise NotImplementedError

    def check_settings(self, resolution: int, crop: str, categories: str | None) -> None:
        """DataError where images were decoded beforehand in a way that these settings can't change any more."""

    def __len__(self) -> int:
        raise NotImplementedError

    def name(self, i: int) -> str:
        """The name of image i in messages: its path in the folder, its key in the database."""
        raise NotImplementedError

    def read(self, i: int) -> bytes:
        """Image i as it's stored, encoded."""
        raise NotImplementedError

    @cached_property
    def labels(self) -> np.ndarray:
        """(N,) int64, indices into `classes`."""
        return np.zeros(len(self), np.int64)

    @property
    def fingerprint(self) -> str:
        """A sha256 that changes when the images do; runs store it. Each kind of source documents what it is computed from."""
        raise NotImplementedError

    @cached_property
    def hashes(self) -> np.ndarray:
        """(N,) uint64: the first 8 bytes, big-endian, of the sha256 of each name. For choices that no order of files changes."""
        return hashes_of(self.name(i).encode(errors="surrogateescape") for i in range(len(self)))

    def will_need(self, indices: np.ndarray) -> None:
        """Ask the disk for these images now, without waiting, where the source can."""

    def check_unchanged(self) -> None:
        """DataError if the data was written to since it was opened, where that can be told at little cost."""

    def stamp(self) -> str:
        """Sizes and times of the files as they are now, where `fingerprint` or `check_unchanged` may miss a change; else ""."""
        return ""

    def image(self, i: int) -> Image.Image:
        """Image i, upright, 8-bit RGB, in its own size. Raises whatever Pillow raises."""
        return as_rgb(self.read(i))

    def pixels(self, i: int, resolution: int, crop: Crop = "center") -> np.ndarray:
        """Image i as (3, R, R) uint8. Raises whatever Pillow raises, and ValueError when it's too small."""
        return fit(self.image(i), resolution, crop)


class Subset(Source):
    """Some images of another source. chosen: (n,) their indices; name: what was chosen, for messages and protocol cards."""

    def __init__(self, whole: Source, chosen: np.ndarray, name: str):
        self.whole, self.chosen = whole, chosen
        self.encoded = whole.encoded
        self.path, self.classes, self.about = whole.path, whole.classes, f"{whole.about}, {name}"
        self._choice = name

    def __len__(self) -> int:
        return len(self.chosen)

    def name(self, i: int) -> str:
        return self.whole.name(int(self.chosen[i]))

    def read(self, i: int) -> bytes:
        return self.whole.read(int(self.chosen[i]))

    def will_need(self, indices: np.ndarray) -> None:
        self.whole.will_need(self.chosen[indices])

    def check_unchanged(self) -> None:
        self.whole.check_unchanged()

    def stamp(self) -> str:
        return self.whole.stamp()

    def image(self, i: int) -> Image.Image:
        return self.whole.image(int(self.chosen[i]))

    def pixels(self, i: int, resolution: int, crop: Crop = "center") -> np.ndarray:
        return self.whole.pixels(int(self.chosen[i]), resolution, crop)

    @cached_property
    def labels(self) -> np.ndarray:
        return self.whole.labels[self.chosen]

    @cached_property
    def hashes(self) -> np.ndarray:
        return self.whole.hashes[self.chosen]

    @property
    def fingerprint(self) -> str:
        return sha256(f"{self.whole.fingerprint},{self._choice}".encode()).hexdigest()


def split_by_key(source: Source, share: float) -> tuple[Subset, Subset]:
    """(the rest, the held-out part). An image is held out if the sha256 of its key, as a fraction of its range, is below `share`.

    The choice depends on the key alone, so it survives packing, reordering and added images. `about` of each part names it, for a
    score's card. DataError if either part is empty.
    """
    held = source.hashes < np.uint64(min(round(share * 2**64), 2**64 - 1))
    if held.all() or not held.any():
        part = "all" if held.all() else "none"
        raise DataError(f"dataset.hold_out={share:g} holds out {part} of the {len(source):,} images of {source.path}: change it")
    rule = f"sha256(key) < {share:g}"
    return Subset(source, np.flatnonzero(~held), f"without {rule}"), Subset(source, np.flatnonzero(held), f"hold-out {rule}")


def split_categories(categories: str) -> list[str]:
    """ "bedroom, kitchen" -> ["bedroom", "kitchen"]"""
    return [name.strip() for name in categories.split(",")]


def hashes_of(keys: Iterator[bytes]) -> np.ndarray:
    """(N,) uint64: the first 8 bytes, big-endian, of the sha256 of each key."""
    return np.frombuffer(b"".join(sha256(key).digest()[:8] for key in keys), ">u8").astype(np.uint64)


# Of a file in a folder: a dangling link, one that others may not read.
OF_ONE_FILE = {errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENOENT, errno.EISDIR, errno.ENAMETOOLONG}


def unusable(error: Exception, source: Source) -> str:
    """Why an image can't be used, in a few words; raises errors that are not the image's fault (require_image_at_fault)."""
    require_image_at_fault(error, source)
    return reason(error)


def require_image_at_fault(error: Exception, source: Source) -> None:
    """Re-raise errors that are not the image's fault: DataError, MemoryError; a failing disk or connection as a DataError."""
    if isinstance(error, DataError | MemoryError):
        raise error
    number = getattr(error, "errno", None)  # which Pillow's own OSErrors haven't
    if isinstance(error, OSError) and number is not None and number not in OF_ONE_FILE:
        raise DataError(
            f"{source.path} can't be read ({error.strerror}): fix the disk or the connection, then give the same command again"
        ) from error


def shown(resolution: int, crop: str) -> str:
    """Resolution and crop as text: together with a source's fingerprint they identify the pixels."""
    return f"{resolution},{crop}"
