"""A directory, zip or tar of images, class subfolders optional. How they are decoded stands in data/decoding.py."""

from collections import Counter
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import numpy as np

from data.decoding import SUFFIXES
from data.images import DataError
from data.notes import note
from data.sources.containers import Container, open_container
from data.sources.source import Source

# The folders in which each split is looked for, in this order; upper or lower case.
SPLITS = {"train": ("train",), "test": ("test", "val", "valid", "validation")}
SPLIT_FOLDERS = {name for names in SPLITS.values() for name in names}
NAMED = 3  # kinds of files left out that are named


class FileSource(Source):
    """All images of a directory, zip or tar, sorted by name; a class is a first-level folder.

    With an image at the top level there are no classes: every label is 0. When the first level is nothing but SPLITS, these are
    the splits and the classes lie one level deeper, also if one folder lies around them; otherwise all images are the train split.
    split: None takes all images, whatever their folders. about: one line for messages. left_out: one line on the files that are no
    images, which is printed once; "" without any.

    Raises DataError: missing or unreadable path, no images, no such split, categories.
    """

    def __init__(self, path: Path, split: str | None = None, categories: str | None = None, about: str | None = None):
        if categories:
            raise DataError(f"{path} holds no LSUN databases, which alone have categories: leave --categories {categories} out")
        self.path = path
        self._files = open_container(path)
        names, self.left_out = _images_of(self._files)
        if self.left_out:
            note(f"{path}: left out {self.left_out}")
        around, folders = _splits_of(names)
        self.both_splits = split is None and all(_folder(folders, name) for name in SPLITS)
        self._prefix = around
        if split and folders:
            self._prefix = f"{around}{_folder(folders, split) or split}/"
            _tell_splits(path, folders)
        elif split == "test":
            # The same images twice would make a real-against-real distance of zero, and nobody would know why.
            raise DataError(f"{path} has no test split: sort its images into folders train and test, or set dataset.hold_out=0.1")
        self.names = [name.removeprefix(self._prefix) for name in names if name.startswith(self._prefix)]
        if not self.names:
            raise DataError(f"{path} has no images in a folder '{split}': add them, or ask for the other split")
        self.about = about or f"folder {path.name}" + (f", {split} split" if split else "")
        self._splits = () if split else tuple(f"{folder}/" for folder in folders.values())  # below which classes are
        below = [self._within_split(name) for name in self.names]
        flat = any("/" not in name for name in below)
        self.classes = ("all",) if flat else tuple(sorted({_first(name) for name in below}))

    def __len__(self) -> int:
        return len(self.names)

    def name(self, i: int) -> str:
        return self.names[i]

    def read(self, i: int) -> bytes:
        return self._files.read(self._prefix + self.names[i])

    @cached_property
    def labels(self) -> np.ndarray:
        if self.classes == ("all",):
            return np.zeros(len(self), np.int64)
        index = {name: i for i, name in enumerate(self.classes)}
        return np.array([index[_first(self._within_split(name))] for name in self.names], dtype=np.int64)

    @cached_property
    def fingerprint(self) -> str:
        """Of names, sizes and CRC-32, which a zip has ready: a directory and an archive of it have the same.

        A directory above WHOLE bytes is told by the beginning, middle and end of each file: a change elsewhere goes unnoticed.
        """
        checked = self._files.checksums(self._stored_names())
        lines = (f"{name}\0{size}\0{crc}\n" for name, (size, crc) in zip(self.names, checked))
        return sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()

    def check_unchanged(self) -> None:
        self._files.check_unchanged()

    def stamp(self) -> str:
        return self._files.stamp(self._stored_names())

    def _within_split(self, name: str) -> str:
        return next((name.removeprefix(split) for split in self._splits if name.startswith(split)), name)

    def _stored_names(self) -> list[str]:
        return [self._prefix + name for name in self.names]


def _images_of(files: Container) -> tuple[list[str], str]:
    """The names of images, sorted, and one line on the files left out."""
    names = sorted(file for file in files.names if file.lower().endswith(SUFFIXES))
    others = sorted(set(files.names).difference(names))
    if not names:
        zips = [file for file in others if file.lower().endswith((".zip", ".tar", ".tar.gz", ".tgz"))]
        if zips:
            raise DataError(f"{files.path} holds no images but zips: set dataset.path to one of them ({', '.join(zips[:8])})")
        found = f", but {_counted(others, files.odd)}" if others or files.odd else ""
        kinds = ", ".join(suffix[1:] for suffix in SUFFIXES[:8])
        raise DataError(f"{files.path} holds no images ({kinds}, …){found}: set dataset.path to where they lie")
    return names, _counted(others, files.odd)


def _counted(others: list[str], odd: Counter[str]) -> str:
    """ "3 files that are no images (2 .heic, 1 .txt; the first is a/b.heic)" """
    parts = []
    if others:
        suffixes = Counter(Path(file).suffix.lower() or "without suffix" for file in others).most_common()
        kinds = [f"{count:,} {suffix}" for suffix, count in suffixes[:NAMED]] + ["…"] * (len(suffixes) > NAMED)
        what = "file that is no image" if len(others) == 1 else "files that are no images"
        parts.append(f"{len(others):,} {what} ({', '.join(kinds)}; the first is {others[0]})")
    parts += [f"{count:,} × {what}" for what, count in sorted(odd.items())]
    return ", ".join(parts)


def _splits_of(names: list[str]) -> tuple[str, dict[str, str]]:
    """(the folder around all splits, "" or "name/"; {"train": "Train", ...}: the folders of splits, {} where these are none)."""
    first = {_first(name) for name in names}
    if first <= _split_folders(first):
        return "", {folder.lower(): folder for folder in first}
    if len(first) == 1:
        around = f"{first.pop()}/"
        second = {_first(name.removeprefix(around)) for name in names}
        only_train = {name.lower() for name in second} <= set(SPLITS["train"]) and all(name.count("/") > 2 for name in names)
        if (len(second) > 1 or only_train) and second <= _split_folders(second):
            return around, {folder.lower(): folder for folder in second}
    return "", {}


def _split_folders(folders: set[str]) -> set[str]:
    found = {folder for folder in folders if folder.lower() in SPLIT_FOLDERS}
    return found if len({folder.lower() for folder in found}) == len(found) else set()  # train and Train can't be one


def _folder(folders: dict[str, str], split: str) -> str | None:
    return next((folders[name] for name in SPLITS[split] if name in folders), None)


def _tell_splits(path: Path, folders: dict[str, str]) -> None:
    """Print how split folders with other names than train and test are used."""
    test = _folder(folders, "test")
    used = {_folder(folders, "train"), test}
    unused = sorted(set(folders.values()) - used)
    said = [f"the folder {test} is its test split"] if test and test.lower() != "test" else []
    said += [f"{' and '.join(unused)} belongs to no split and is left out"] if unused else []
    if said:
        note(f"{path}: {', '.join(said)}")


def _first(name: str) -> str:
    """The first-level folder of a name, or "" for an image at the top level."""
    return name.partition("/")[0] if "/" in name else ""
