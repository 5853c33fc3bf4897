"""`load`: one call for every data set by its name."""

import difflib
import os
from pathlib import Path

from data.cifar import cifar
from data.folder import folder
from data.images import DataError, ImageSet
from data.shapes import shapes

NAMES = ("cifar10", "cifar100", "folder", "shapes")
DEFAULT_ROOT = "datasets"


def load(
    name: str,
    path: str | Path | None = None,
    resolution: int = 32,
    *,
    split: str = "train",
    on_bad: str = "refuse",
    download: bool = True,
) -> ImageSet:
    """Load a whole data set into memory.

    name: one of NAMES.
    path: a directory or a file; else the environment variable GAN_DATA; else `datasets` in the working directory
        (for `folder` there is no such last resort). `shapes` needs no path.
    resolution: R, the side of the images in pixels. CIFAR is 32 only; `folder` crops and shrinks, never enlarges.
    split: "train" or "test".
    on_bad: what to do about images that are broken or too small: "refuse" the data set, or "skip" them and list
        them in `ImageSet.skipped`.
    download: whether CIFAR may be fetched when it isn't found.

    Returns: ImageSet with images (N, 3, R, R) uint8. Raises DataError for everything a user can put right.
    """
    if name not in NAMES:
        nearest = difflib.get_close_matches(str(name), NAMES, n=1, cutoff=0)[0]
        raise DataError(f"there is no data set '{name}': did you mean '{nearest}'? (known: {', '.join(NAMES)})")
    if split not in ("train", "test"):
        raise DataError(f"a data set has the splits train and test, not '{split}'")
    if on_bad not in ("refuse", "skip"):
        raise DataError(f"dataset.on_bad is refuse or skip, not '{on_bad}'")
    if not isinstance(resolution, int) or resolution < 1:
        raise DataError(f"dataset.resolution must be a whole number of pixels, at least 1, not {resolution!r}")

    if name == "shapes":
        return shapes(resolution, split)
    root = path or os.environ.get("GAN_DATA")
    if name == "folder":
        if not root:
            raise DataError("the data set 'folder' needs to know where: set dataset.path, or GAN_DATA, to it")
        return folder(Path(root).expanduser(), resolution, split, on_bad)
    return cifar(name, Path(root or DEFAULT_ROOT).expanduser(), resolution, split, on_bad, download)
