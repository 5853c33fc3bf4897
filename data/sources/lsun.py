"""`lsun`: the official LMDB layout, `CATEGORY_SPLIT_lmdb/data.mdb`, whose values are encoded images under arbitrary keys.

LSUN: Construction of a Large-scale Image Dataset using Deep Learning with Humans in the Loop (Yu et al., 2015).
"""

from functools import cached_property
from hashlib import sha256
from pathlib import Path

import numpy as np

from data.database.index import KeyIndex, key_index
from data.database.reader import Database, database_at
from data.decoding import require_size
from data.images import DataError
from data.sources.pack import PackSource
from data.sources.registry import Request, register
from data.sources.source import Source, split_categories

SPLITS = {"train": "train", "test": "val"}  # LSUN's own test images have no published categories
END = "_lmdb"
SAMPLES, SAMPLE = 256, 2**16  # for the fingerprint: how many values of a database, and how many bytes of each


class LsunSource(Source):
    """The images of one or several databases, concatenated, each in the order of its keys. A class is a category.

    path: the directory that holds the *_lmdb directories, or one of these; one of the other split leads to its sibling.
    split: "train", "test" (LSUN's val), or None: whatever `path` names directly, and train of several.
    categories: "bedroom", or "bedroom,kitchen"; None takes all that lie there, in alphabetical order.

    Raises DataError: nothing there, no such category, cut short, damaged.
    """

    def __init__(self, path: Path, split: str | None = None, categories: str | None = None):
        path = path.parent if path.name == "data.mdb" else path
        if path.is_file() or (path / "data.mdb").is_file():
            directories = [_of_split(path, split)]
            only = _category(directories[0])
            if categories and split_categories(categories) != [only]:
                raise DataError(f"{path} holds {only}, not {categories}: name the directory above it, or leave categories out")
        else:
            directories = _below(path, f"_{SPLITS[split or 'train']}{END}", categories)
        self.path = directories[0] if len(directories) == 1 else directories[0].parent
        self.classes = tuple(_category(directory) for directory in directories)
        stored = next((name for name in SPLITS.values() if directories[0].name.endswith(f"_{name}{END}")), None)
        self.about = f"lsun {','.join(self.classes)}" + (f", {stored} split" if stored else "")
        self._databases = [Database(_file(directory)) for directory in directories]
        self._indexes = [key_index(database) for database in self._databases]
        self._ends = np.cumsum([len(index) for index in self._indexes])

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Whether it's an LMDB database (PackSource is asked before), a directory of one, or one that holds such directories."""
        named = path.name == "data.mdb" or database_at(path) is not None
        return named or (path / "data.mdb").is_file() or any(file.is_file() for file in path.glob(f"*{END}/data.mdb"))

    def __len__(self) -> int:
        return int(self._ends[-1])

    def name(self, i: int) -> str:
        _, index, i = self._where(i)
        return index.key(i).decode(errors="backslashreplace")

    def read(self, i: int) -> bytes:
        database, index, i = self._where(i)
        require_size(int(index.sizes[i]))
        return database.read(int(index.offsets[i]), int(index.sizes[i]))

    def will_need(self, indices: np.ndarray) -> None:
        which = np.searchsorted(self._ends, indices, side="right")
        for k, (database, index) in enumerate(zip(self._databases, self._indexes)):
            own = indices[which == k] - (self._ends[k - 1] if k else 0)
            database.will_need(index.offsets[own], index.sizes[own])

    def check_unchanged(self) -> None:
        for database in self._databases:
            database.check_unchanged()

    def stamp(self) -> str:
        return ",".join(f"{database.size}-{database.mtime_ns}" for database in self._databases)

    @cached_property
    def labels(self) -> np.ndarray:
        return np.repeat(np.arange(len(self._indexes)), [len(index) for index in self._indexes]).astype(np.int64)

    @cached_property
    def hashes(self) -> np.ndarray:
        return np.concatenate([index.hashes for index in self._indexes])

    @cached_property
    def fingerprint(self) -> str:
        """Of all keys, the sizes of all values and of the file, and the contents of SAMPLES values spread over it.

        Another image of the same size under the same key goes unnoticed unless it is sampled: reading all would take hours.
        """
        parts = [
            f"{index.digest},{database.size},{_sampled(database, index)}" for index, database in zip(self._indexes, self._databases)
        ]
        return sha256("\n".join(parts).encode()).hexdigest()

    def _where(self, i: int) -> tuple[Database, KeyIndex, int]:
        which = int(np.searchsorted(self._ends, i, side="right"))
        return self._databases[which], self._indexes[which], i - (int(self._ends[which - 1]) if which else 0)


def _sampled(database: Database, index: KeyIndex) -> str:
    chosen = np.unique(np.linspace(0, len(index) - 1, SAMPLES).round().astype(np.int64))
    offsets, sizes = index.offsets[chosen], np.minimum(index.sizes[chosen], SAMPLE)
    database.will_need(offsets, sizes)
    digest = sha256()
    for offset, size in zip(offsets.tolist(), sizes.tolist()):
        digest.update(database.read(offset, size))
    return digest.hexdigest()


def _holds(root: Path) -> bool:
    return PackSource.recognises(root) or LsunSource.recognises(root)


@register("lsun", categories=True, holds=_holds)
def lsun(request: Request) -> Source:
    """The databases at a place, or a pack made of some, whose own categories are checked as its size is."""
    root = request.root
    if PackSource.recognises(root):
        return PackSource(root, request.stored_split)
    return LsunSource(root, request.stored_split, request.categories)


def _of_split(directory: Path, split: str | None) -> Path:
    """Given bedroom_train_lmdb but asked for test, bedroom_val_lmdb: never one split under the other's name."""
    if split is None:
        return directory
    wanted = f"_{SPLITS[split]}{END}"
    for other in SPLITS.values():
        if directory.name.endswith(f"_{other}{END}"):
            directory = directory.with_name(directory.name.removesuffix(f"_{other}{END}") + wanted)
            if not _file(directory).is_file():
                raise DataError(f"there is no {directory}: unpack LSUN's {directory.name}.zip there, or ask for the other split")
            return directory
    if split == "test":
        raise DataError(f"{directory} has no test split: name it CATEGORY_val_lmdb, or hold images out with dataset.hold_out=0.01")
    return directory


def _below(root: Path, end: str, categories: str | None) -> list[Path]:
    found = {d.name.removesuffix(end): d for d in sorted(root.glob(f"*{end}")) if (d / "data.mdb").is_file()}
    hint = "unpack LSUN's zips there, or set dataset.path, or GAN_DATA, to where the *_lmdb directories lie"
    if not found:
        raise DataError(f"{root} holds no CATEGORY{end}/data.mdb: {hint}")
    wanted = split_categories(categories) if categories else list(found)
    for name in wanted:
        if name not in found:
            raise DataError(f"{root} holds no {name}{end} but {', '.join(found)}: {hint}, or change dataset.categories")
    return [found[name] for name in wanted]


def _file(directory: Path) -> Path:
    return directory if directory.is_file() else directory / "data.mdb"


def _category(directory: Path) -> str:
    name = directory.name.removesuffix(END)
    for split in SPLITS.values():
        name = name.removesuffix(f"_{split}")
    return name
