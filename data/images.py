"""What every data set of this package is: an `ImageSet`; and how every failure is told: a `DataError`."""

from dataclasses import dataclass

from torch import Tensor


class DataError(Exception):
    """The data can't be used as asked: one sentence that says what is wrong and what to do about it."""


@dataclass(frozen=True)
class ImageSet:
    """A decoded data set.

    images: (N, 3, R, R) uint8, contiguous, RGB in 0..255
    labels: (N,) int64, indices into `classes`
    classes: class names; ("all",) where the data has no classes
    source: one line for people: which data, which split, read from what
    skipped: names of the images left out because they couldn't be used, in order
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    source: str
    skipped: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.images)

    @property
    def resolution(self) -> int:
        return self.images.shape[-1]
