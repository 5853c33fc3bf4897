"""A directory or a zip of images, class subfolders optional. How they are decoded stands in data/decoding.py."""

import os
import zipfile
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data.images import DataError
from data.sources.source import Source

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".webp")
WHOLE = 2**33  # bytes of a directory that are read wholly to tell it from others; of the files of a larger one, three pieces each
PIECE = 4096


class FileSource(Source):
    """All images of a directory or a zip, sorted by name; a class is a first-level folder.

    With an image at the top level there are no classes: every label is 0. When the first level is nothing but `train`
    and `test`, these are the splits and the classes lie one level deeper; otherwise all images are the train split.
    split: None takes all there are, and no folder for a split. about: one line for people.

    Raises DataError: missing or unreadable path, no images, no such split, categories.
    """

    def __init__(self, path: Path, split: str | None = None, categories: str | None = None, about: str | None = None):
        if categories:
            raise DataError(f"{path} holds no LSUN databases, which alone have categories: leave --categories {categories} out")
        self.path = path
        self._prefix = ""
        self._is_zip = path.is_file()
        self._stamp = _stamp(path) if self._is_zip else None
        # Kept open: to read the list of 50,000 files takes as long as to read their labels and checksums.
        self._zip = (os.getpid(), _open_zip(path)) if self._is_zip else None
        names = _image_names(self._zip[1].namelist() if self._zip else _walk(path), path)
        found = {_first(name) for name in names}
        self.both_splits = split is None and found == {"train", "test"}
        if split and found <= {"train", "test"}:
            self._prefix = f"{split}/"
        elif split == "test":
            # The same images twice would make a real-against-real distance of zero, and nobody would know why.
            raise DataError(f"{path} has no test split: sort its images into folders train and test, or set dataset.hold_out=0.1")
        self.names = [name.removeprefix(self._prefix) for name in names if name.startswith(self._prefix)]
        if not self.names:
            raise DataError(f"{path} has no images in a folder '{split}': add them, or ask for the other split")
        self.about = about or f"folder {path.name}" + (f", {split} split" if split else "")
        flat = any("/" not in name for name in self.names)
        self.classes = ("all",) if flat else tuple(sorted({_first(name) for name in self.names}))

    def __len__(self) -> int:
        return len(self.names)

    def name(self, i: int) -> str:
        return self.names[i]

    def read(self, i: int) -> bytes:
        name = self._prefix + self.names[i]
        if self._is_zip:
            return self._archive().read(name)
        file = self.path / name
        try:
            return file.read_bytes()
        except FileNotFoundError:
            if file.is_symlink():  # a dangling link was one all along
                raise
            raise DataError(f"{file} is gone since the images were listed: put it back, or give the command again") from None

    @cached_property
    def labels(self) -> np.ndarray:
        if self.classes == ("all",):
            return np.zeros(len(self), np.int64)
        index = {name: i for i, name in enumerate(self.classes)}
        return np.array([index[_first(name)] for name in self.names], dtype=np.int64)

    @cached_property
    def fingerprint(self) -> str:
        """Of names, sizes and CRC-32, which a zip has ready: a directory and a zip of it have the same.

        A directory above WHOLE bytes is told by the beginning, middle and end of each file: a change elsewhere goes unnoticed.
        """
        if self._is_zip:
            found = (self._archive().getinfo(self._prefix + name) for name in self.names)
            checked = [(info.file_size, info.CRC) for info in found]
        else:
            checked = _checksums([self.path / self._prefix / name for name in self.names])
        lines = (f"{name}\0{size}\0{crc}\n" for name, (size, crc) in zip(self.names, checked))
        return sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()

    def _archive(self) -> zipfile.ZipFile:
        """The open zip of this process: forked ones would share one position in the file."""
        if self._zip is None or self._zip[0] != os.getpid():
            try:
                self._zip = (os.getpid(), zipfile.ZipFile(self.path))
            except (OSError, zipfile.BadZipFile) as error:
                raise DataError(f"{self.path} can't be read any more ({error}): put it back, or give the command again") from None
        return self._zip[1]

    def check_unchanged(self) -> None:
        if self._is_zip and _stamp(self.path) != self._stamp:
            raise DataError(f"{self.path} was changed while it's in use: wait until it's complete, then give the command again")

    def stamp(self) -> str:
        """Of a zip "": its checksums tell every change."""
        if self._is_zip:
            return ""
        lines = (f"{name}\0{_stamp(self.path / self._prefix / name)}\n" for name in self.names)
        return sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_zip": None}


def _open_zip(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        advice = "if it was cut short, get it again; if it is an image, name its directory"
        raise DataError(f"{path} can't be read as a zip ({error}): {advice}") from None


def _checksums(files: list[Path]) -> list[tuple[int, int]]:
    """(bytes, CRC-32) of each file; -1 for what can't be read, which is for `on_bad` to judge."""
    sizes = [_size(file) for file in files]
    whole = sum(sizes) <= WHOLE
    bar = tqdm(total=len(files), desc=f"checksums of {len(files):,} files", delay=2, leave=False, disable=None)
    with ThreadPoolExecutor(8) as pool, bar:
        found = []
        for size, crc in zip(sizes, pool.map(lambda file: _crc(file, whole), files)):
            found.append((size, crc))
            bar.update()
    return found


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return -1


def _crc(file: Path, whole: bool) -> int:
    try:
        with open(file, "rb") as opened:
            if whole:
                return zlib.crc32(opened.read())
            size, crc = opened.seek(0, os.SEEK_END), 0
            for start in (0, (size - PIECE) // 2, size - PIECE):
                opened.seek(max(0, start))
                crc = zlib.crc32(opened.read(PIECE), crc)
            return crc
    except OSError:
        return -1


def _walk(root: Path) -> Iterator[str]:
    """Relative names, with "/", of all files below a directory; linked directories count. DataError if nothing is there."""
    if not root.exists():
        raise DataError(f"there is nothing at {root}: give a directory or a zip of images (to train: by dataset.path, or GAN_DATA)")
    for here, directories, files in os.walk(root, followlinks=True):
        real = os.path.realpath(here)
        # A link to a directory above would make the walk endless.
        directories[:] = [d for d in directories if not f"{real}/".startswith(os.path.realpath(f"{here}/{d}") + "/")]
        for file in files:
            yield Path(here, file).relative_to(root).as_posix()


def _image_names(files: Iterator[str] | list[str], path: Path) -> list[str]:
    files = {file for file in files if not any(part.startswith((".", "__MACOSX")) for part in file.split("/"))}
    names = sorted(file for file in files if file.lower().endswith(SUFFIXES))
    if not names:
        zips = sorted(file for file in files if file.lower().endswith(".zip"))
        if zips:
            raise DataError(f"{path} holds no images but zips: set dataset.path to one of them ({', '.join(zips[:8])})")
        kinds = ", ".join(suffix[1:] for suffix in SUFFIXES)
        raise DataError(f"{path} holds no images ({kinds}): set dataset.path to where they lie")
    return names


def _stamp(path: Path) -> tuple[int, int] | None:
    """Size and time of a file; None where there is none."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_size, stat.st_mtime_ns


def _first(name: str) -> str:
    """The first-level folder of a name, or "" for an image at the top level."""
    return name.partition("/")[0] if "/" in name else ""
