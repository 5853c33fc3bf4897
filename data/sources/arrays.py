"""Images in one uint8 array (N, H, W, 3), as samplers save them in an .npy or .npz. Nothing is ever unpickled."""

import os
import zipfile
import zlib
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy
from PIL import Image

from data.files import in_short, stamp_of
from data.images import DataError
from data.sources.source import Source
from data.unpacking import unpacked

SUFFIXES = (".npy", ".npz")
NAMED = 8  # arrays that a message lists


@dataclass(frozen=True)
class Stored:
    """An array in a file. header: the bytes before its values; member: its entry, in an .npz."""

    name: str
    dtype: np.dtype
    shape: tuple[int, ...]
    fortran: bool
    header: int
    member: zipfile.ZipInfo | None = None

    def __str__(self) -> str:
        return f"{self.name} {self.dtype} ({', '.join(map(str, self.shape))})"

    @property
    def is_images(self) -> bool:
        return self.dtype == np.uint8 and len(self.shape) == 4 and self.shape[3] == 3 and min(self.shape) > 0 and not self.fortran


class ArraySource(Source):
    """The images of an .npy, or of the one array in an .npz that holds images; its checksum is checked once, when it's opened.

    DataError: no such array, and what is there instead; damaged; a test split, categories.
    """

    encoded = False

    def __init__(self, path: Path, split: str | None = None, categories: str | None = None):
        if split == "test":
            raise DataError(f"{path} has no test split: name another file for it, or hold images out with dataset.hold_out=0.1")
        if categories:
            raise DataError(f"{path} holds no LSUN databases, which alone have categories: leave --categories {categories} out")
        self.path = path
        self.about = f"array {path.name}"
        self._stamp = stamp_of(path)
        self._open()

    def _open(self) -> None:
        found = stored_arrays(self.path)
        images = [array for array in found if array.is_images]
        if len(images) != 1:
            there = ", ".join(map(str, found[:NAMED])) + (", …" if len(found) > NAMED else "")
            raise DataError(
                f"{self.path} holds {'several arrays' if images else 'no array'} of images, which are uint8 (N, H, W, 3), but "
                f"{there or 'nothing'}: save the images alone, with numpy.savez"
            )
        self._array = images[0]
        self._count, *self._shape = self._array.shape
        try:
            self._file, self._offset, self._crc = _values(self.path, self._array)
        except (OSError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
            raise DataError(f"{self.path} can't be read ({in_short(error)}): it's damaged or cut short, make it anew") from None

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """By its suffix alone; other kinds are recognised by their contents."""
        return path.suffix.lower() in SUFFIXES and path.is_file()

    def __len__(self) -> int:
        return self._count

    def name(self, i: int) -> str:
        return f"image {i}"

    def image(self, i: int) -> Image.Image:
        size = int(np.prod(self._shape))
        data = os.pread(self._file.fileno(), size, self._offset + i * size)
        if len(data) != size:
            raise DataError(f"{self.path} is cut short: make it anew")
        return Image.fromarray(np.frombuffer(data, np.uint8).reshape(self._shape))

    def check_unchanged(self) -> None:
        if stamp_of(self.path) != self._stamp:
            raise DataError(f"{self.path} was changed while it's in use: wait until it's complete, then give the command again")

    @cached_property
    def fingerprint(self) -> str:
        """Of the shape and the CRC-32 of all values."""
        return sha256(f"{self._array.shape},{self._crc}".encode()).hexdigest()

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_file": None}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._open()


def stored_arrays(path: Path) -> list[Stored]:
    """The arrays of an .npy or .npz, by their headers alone. DataError for what is neither."""
    try:
        with open(path, "rb") as file:
            if file.read(len(npy.MAGIC_PREFIX)) == npy.MAGIC_PREFIX:
                file.seek(0)
                return [_header(file, path.stem)]
        with zipfile.ZipFile(path) as archive:
            return [_member(archive, info) for info in archive.infolist()]
    except FileNotFoundError:
        raise DataError(f"there is nothing at {path}") from None
    except Exception as error:  # foreign bytes make numpy and zipfile raise a dozen kinds of error
        raise DataError(f"{path} can't be read as an .npy or .npz ({in_short(error)}): make it anew") from None


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Stored:
    with archive.open(info) as file:
        return _header(file, info.filename.removesuffix(".npy"), info)


def _header(file: IO[bytes], name: str, member: zipfile.ZipInfo | None = None) -> Stored:
    version = npy.read_magic(file)
    read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
    if read is None:
        raise ValueError(f"{name} is of version {version[0]}.{version[1]}")
    shape, fortran, dtype = read(file)
    return Stored(name, dtype, shape, fortran, file.tell(), member)


def _values(path: Path, array: Stored) -> tuple[IO[bytes], int, int]:
    """(a file that holds the array's values, where they begin, their CRC-32). Raises what zipfile raises, or ValueError."""
    member, start = array.member, 0
    if member is not None and member.compress_type != zipfile.ZIP_STORED:
        with zipfile.ZipFile(path) as archive:
            file = unpacked(path, lambda path: archive.open(member), member.compress_size)
    else:
        file = open(path, "rb")  # noqa: SIM115 (the source keeps it open)
    if member is not None and member.compress_type == zipfile.ZIP_STORED:
        file.seek(member.header_offset)
        local = file.read(30)  # of which the last four bytes are the lengths of what lies between it and the content
        start = member.header_offset + 30 + int.from_bytes(local[26:28], "little") + int.from_bytes(local[28:30], "little")
    size = array.header + int(np.prod(array.shape, dtype=object))
    file.seek(start)
    crc, left = zlib.crc32(file.read(array.header)), size - array.header
    values = 0
    while left and (piece := file.read(min(left, 2**20))):
        crc, values, left = zlib.crc32(piece, crc), zlib.crc32(piece, values), left - len(piece)
    stored = path.stat().st_size if member is None else member.file_size
    if left or stored != size:  # more than that is no array either, but an archive, say, that lost its beginning
        raise ValueError(f"it has not the {size:,} bytes that {array} takes, but {stored:,}")
    if member is not None and crc != member.CRC:
        raise ValueError("bad CRC-32")
    return file, start + array.header, values
