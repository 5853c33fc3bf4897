"""The registry of data sets, by name. Each file registers those that it defines; there is no other list.

A data set of your own is one file: in this folder, or anywhere if GAN_EXTENSIONS names it. With

    from data.datasets import Request, register
    from data.sources.source import Source

    class Mine(Source): ...  # len, name, read or image, labels, fingerprint: see data/sources/source.py

    @register("mine")
    def open_mine(request: Request) -> Source:
        return Mine(request.root, request.stored_split)

in mine.py, `GAN_EXTENSIONS=mine.py python run_gan.py train dataset.name=mine dataset.path=...` trains on it.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from data.decoding import CROPS
from data.extensions import import_extensions
from data.files import located
from data.images import DataError, ImageSet

if TYPE_CHECKING:
    from data.sources.source import Source

DEFAULT_ROOT = "datasets"  # in the working directory


@dataclass(frozen=True)
class Request:
    """A request for a data set: the settings `dataset.*`, and a split. DataError for a value that no data set accepts.

    name: of the data set. path: as the user gave it, or None. resolution: R, in pixels. split: "train" or "test".
    on_bad: images that are broken or too small: "refuse" the data set, or "skip" them. crop: see data/decoding.py.
    categories: of LSUN, "bedroom,kitchen"; None: all that lie there.
    hold_out: share of the images, chosen by their keys, that is the test split, and no part of the train split.
    memory: GiB that decoded images may take; larger sets are streamed.
    workers: processes that decode what is streamed; None: as many as there are cores, at most 8, and none for packs.
    download: whether it may be fetched when it isn't found.
    """

    name: str
    path: str | Path | None = None
    resolution: int = 32
    split: str = "train"
    on_bad: str = "refuse"
    crop: str = "center"
    categories: str | None = None
    hold_out: float = 0.0
    memory: float = 4.0
    workers: int | None = None
    download: bool = True

    def __post_init__(self):
        if self.split not in ("train", "test"):
            raise DataError(f"a data set has the splits train and test, not '{self.split}'")
        if self.on_bad not in ("refuse", "skip"):
            raise DataError(f"dataset.on_bad is refuse or skip, not '{self.on_bad}'")
        if self.crop not in CROPS:
            raise DataError(f"dataset.crop is one of {', '.join(CROPS)}, not '{self.crop}'")
        if not isinstance(self.resolution, int) or self.resolution < 1:
            raise DataError(f"dataset.resolution must be a whole number of pixels, at least 1, not {self.resolution!r}")
        if not isinstance(self.hold_out, int | float) or not 0 <= self.hold_out < 1:
            raise DataError(f"dataset.hold_out is a share of the images, at least 0 and below 1, not {self.hold_out!r}")
        if not isinstance(self.memory, int | float) or not self.memory >= 0:
            raise DataError(f"dataset.memory is a number of GiB, at least 0, not {self.memory!r}")
        if self.workers is not None and (not isinstance(self.workers, int) or self.workers < 0):
            raise DataError(f"dataset.workers is a number of processes, at least 0, not {self.workers!r}")

    @property
    def root(self) -> Path:
        """Where to look: `path`, here or below GAN_DATA; without one, GAN_DATA; without that, `datasets` where the command runs."""
        return located(self.path or os.environ.get("GAN_DATA") or DEFAULT_ROOT)

    @property
    def stored_split(self) -> str | None:
        """The split to open; None, for all there is, where both are held out of that afterwards."""
        return None if self.hold_out else self.split


@dataclass(frozen=True)
class DataSet:
    """open: request -> a Source, or an ImageSet that is ready. splits: it has a test split of its own; categories: it has those.

    paths: it's looked for at `dataset.path`. holds: whether what lies at a path is of this data set; None: who knows.
    look: raises what `open` would for images that aren't there, where `open` itself decodes them; None: it doesn't.
    """

    open: "Callable[[Request], Source | ImageSet]"
    splits: bool
    categories: bool
    paths: bool = True
    holds: Callable[[Path], bool] | None = None
    look: Callable[[Request], object] | None = None


_DATA_SETS: dict[str, DataSet] = {}
Open = TypeVar("Open", bound="Callable[[Request], Source | ImageSet]")


def register(
    name: str, *, splits: bool = False, categories: bool = False, paths: bool = True, holds: Callable[[Path], bool] | None = None,
    look: Callable[[Request], object] | None = None,
) -> Callable[[Open], Open]:  # fmt: skip
    """Decorates the function that opens the data set `name`: Request -> a Source, which is then decoded, cropped, held out from and
    streamed as asked; or an ImageSet, of which all that is done.

    splits: it always has a test split of its own, and `dataset.hold_out` is refused. categories: it has `dataset.categories`.
    paths: it's looked for at `dataset.path`, which is refused otherwise. holds: whether what lies at a path is of this data set:
    where it isn't, and the user named a path but no data set, images there mean `folder`; None: it's asked for all the same.
    look: of a function that decodes or downloads, what says beforehand that there is nothing to open, by a DataError.
    ValueError for a name that is taken.
    """

    def add(function: Open) -> Open:
        if name in _DATA_SETS:
            raise ValueError(f"there is a data set '{name}' already, of {_DATA_SETS[name].open.__module__}")
        _DATA_SETS[name] = DataSet(function, splits, categories, paths, holds, look)
        return function

    return add


def data_sets() -> dict[str, DataSet]:
    """All that are registered, in alphabetical order, those of the files that GAN_EXTENSIONS names among them."""
    import_extensions()
    return dict(sorted(_DATA_SETS.items()))
