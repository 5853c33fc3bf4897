"""`ImageSet`, a decoded data set, and `DataError`, which every failure to use data raises."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from data.files import UserError

if TYPE_CHECKING:  # PyTorch takes seconds to import, and whatever only looks into data does without it
    from torch import Tensor


RESOLUTIONS = tuple(range(16, 257, 8))  # sides of the images that networks are made for


class DataError(UserError):
    """The data can't be used as asked: one sentence that says what is wrong and what to do about it."""


def advice_for(side: int, cropped: bool = False) -> str:
    """What to do with images whose shorter side is `side` pixels where more are asked for. cropped: once and for all, in a pack."""
    possible = [resolution for resolution in RESOLUTIONS if resolution <= side]
    advice = f"set dataset.resolution={possible[-1]}" if possible else f"enlarge them to {RESOLUTIONS[0]} pixels or more yourself"
    return advice if cropped else f"{advice}, or set dataset.crop=pad, which puts black around them"


@dataclass(frozen=True)
class ImageSet:
    """A decoded data set.

    images: (N, 3, R, R) uint8, contiguous, RGB in 0..255
    labels: (N,) int64, indices into `classes`
    classes: class names; ("all",) where the data has no classes
    source: one line for people: which data, which split, read from what
    skipped: names of the images left out because they couldn't be used, in order
    fingerprint: a sha256 that stands for the pixels, where the source has one; None: hash the pixels themselves
    shown: how the images of such a source are shown: resolution and crop
    decoded: what else decides the pixels of such a source, and isn't in its fingerprint: data.copies.decoded_by
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    source: str
    skipped: tuple[str, ...] = ()
    fingerprint: str | None = None
    shown: str = ""
    decoded: str = ""

    def __len__(self) -> int:
        return len(self.images)

    @property
    def resolution(self) -> int:
        return self.images.shape[-1]

    def read(self, indices: Sequence[int] | Tensor) -> Tensor:
        """(n, 3, R, R) uint8: the images at `indices`."""
        return self.images[indices]

    def batches(self, indices: Sequence[int] | Tensor, batch_size: int = 64) -> Iterator[Tensor]:
        """The images at `indices`, in that order, a batch at a time."""
        return (self.read(indices[start : start + batch_size]) for start in range(0, len(indices), batch_size))
