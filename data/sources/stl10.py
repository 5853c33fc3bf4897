"""`stl10` and `stl10_unlabeled`: the published binary files, 96x96 pixels, shrunk to whatever is asked for.

An Analysis of Single-Layer Networks in Unsupervised Feature Learning (Coates, Ng, Lee, 2011).
"""

from functools import cached_property
from hashlib import file_digest
from pathlib import Path

import numpy as np
from PIL import Image

from data.images import DataError
from data.sources.registry import Request, register
from data.sources.source import Source

FOLDER, ARCHIVE = "stl10_binary", "stl10_binary.tar.gz"
CLASSES = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")  # as class_names.txt has them
SIDE = 96
SIZE = 3 * SIDE**2  # bytes of an image


class Stl10Source(Source):
    """One of the files train_X.bin, test_X.bin and unlabeled_X.bin, with its labels where it has any.

    An image is three planes, red, green, blue, each column by column; a label is a byte, 1 to 10. DataError for other files.
    """

    encoded = False

    def __init__(self, folder: Path, part: str):
        self.path = folder / f"{part}_X.bin"
        self.about = f"stl10 {part} split from {folder.name}"
        size = self.path.stat().st_size
        if not size or size % SIZE:
            raise DataError(f"{self.path} has {size:,} bytes, no whole number of images of {SIDE}×{SIDE}: unpack {ARCHIVE} anew")
        self._images = np.memmap(self.path, np.uint8, "r").reshape(-1, 3, SIDE, SIDE)
        self._labels = None
        if part != "unlabeled":
            self.classes = CLASSES
            self._labels = np.fromfile(folder / f"{part}_y.bin", np.uint8).astype(np.int64) - 1
            if len(self._labels) != len(self) or self._labels.min() < 0 or self._labels.max() >= len(CLASSES):
                raise DataError(f"{folder / f'{part}_y.bin'} doesn't hold a label, 1 to 10, for each image: unpack {ARCHIVE} anew")

    def __len__(self) -> int:
        return len(self._images)

    def name(self, i: int) -> str:
        return f"{self.path.name}:{i}"

    def image(self, i: int) -> Image.Image:
        return Image.fromarray(np.ascontiguousarray(self._images[i].transpose(2, 1, 0)))  # (colour, column, row)

    @cached_property
    def labels(self) -> np.ndarray:
        return np.zeros(len(self), np.int64) if self._labels is None else self._labels

    @cached_property
    def fingerprint(self) -> str:
        """Of all bytes of the images."""
        with open(self.path, "rb") as file:
            return file_digest(file, "sha256").hexdigest()


def _place(root: Path) -> Path:
    """The folder that holds the files: `root`, or FOLDER within it."""
    return root / FOLDER if (root / FOLDER).is_dir() else root


def _holds(root: Path) -> bool:
    return any((_place(root) / f"{part}_X.bin").is_file() for part in ("train", "test", "unlabeled"))


@register("stl10", splits=True, holds=_holds)
@register("stl10_unlabeled", splits=True, holds=_holds)
def stl10(request: Request) -> Source:
    """5,000 images of ten classes to train with, or the 100,000 without labels; 8,000 of ten classes to test with.

    The place to look in: the folder stl10_binary that the published archive unpacks to, or the one that holds it.
    """
    folder = _place(request.root)
    part = "test" if request.split == "test" else "unlabeled" if request.name == "stl10_unlabeled" else "train"
    wanted = [folder / f"{part}_X.bin", *([] if part == "unlabeled" else [folder / f"{part}_y.bin"])]
    for file in wanted:
        if not file.is_file():
            raise DataError(
                f"there is no {file}: unpack {ARCHIVE} (from https://cs.stanford.edu/~acoates/stl10) and set dataset.path, or "
                f"GAN_DATA, to the directory that holds {FOLDER}"
            )
    return Stl10Source(folder, part)
