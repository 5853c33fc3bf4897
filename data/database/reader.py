"""LMDB files, read by position: where each value lies is looked up once, and a value is then one read of the file.

The library maps the file into memory instead, where a value that isn't cached costs a disk access for every 4 KB of it, and where a
walk over the keys touches every value, which takes hours with LSUN on a spinning disk. Here a walk reads the pages that hold keys
and no others. Reading is safe from threads and after forks, writes nothing, takes no lock, and a file cut short gives an error
instead of a signal.

Format (LMDB 0.9, data version 1; lmdb's mdb.c describes it): pages of `psize` bytes. Pages 0 and 1 are meta pages, the one with the
later transaction counts. A tree page: 16 bytes of header (flags at 10, end of the pointers at 12), then a 2-byte pointer to each
node. A node: 8 bytes of header (lower half, upper half, flags, key length, 2 bytes each), key, data. In a branch page the first
three are the child's page number; in a leaf page the halves are the length of the data, which lies in the node or, flagged BIG, on
pages of its own.
"""

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.images import DataError

MAGIC, VERSION = 0xBEEFC0DE, 1
BRANCH, LEAF, KINDS, BIG, TREE, DUPLICATES = 1, 2, 15, 1, 2, 4  # flags of pages, and their mask; flags of nodes
HEADER = 16
NO_PAGE = 2**64 - 1
PAGE_SIZES = [2**n for n in range(9, 17)]
DEPTH = 32  # levels of a tree at most, as in the library
DESCRIPTION = struct.Struct("<6xH24xQQ")  # of a tree: levels, entries, number of the root page
AHEAD = 4096  # pages that the disk is asked for at a time, so that it can choose the order


@dataclass(frozen=True)
class Records:
    """Keys of a tree in order, and where their values lie.

    keys: uint8, one after the other; ends (of each key in `keys`), offsets, sizes: (N,) int64; flags: (N,) uint8.
    """

    keys: np.ndarray
    ends: np.ndarray
    offsets: np.ndarray
    sizes: np.ndarray
    flags: np.ndarray

    def key(self, i: int) -> bytes:
        return self.keys[self.ends[i - 1] if i else 0 : self.ends[i]].tobytes()


class Database:
    """One LMDB file, opened for reading. DataError if it is missing, no LMDB file, truncated, damaged or changed while open."""

    def __init__(self, file: Path):
        self.file = file
        try:
            self._descriptor = os.open(file, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        except OSError as error:
            raise DataError(f"{file} can't be read ({error.strerror}): set dataset.path to where the data lies") from None
        self.size, self.mtime_ns = self._stat()
        self.psize = 4096
        metas = []
        for number in (0, 1):
            page = self._page(number).tobytes()
            magic, version = struct.unpack_from("<II", page, HEADER)
            if (magic, version) != (MAGIC, VERSION):
                raise DataError(f"{file} is no LMDB file of version {VERSION}: get it again, or make it anew")
            # from 40 on: the tree of free pages, which begins with the page size; the main tree; the last page; the transaction
            metas.append((struct.unpack_from("<Q", page, 144)[0], page[88:136], page[40:88]))
            self.psize = struct.unpack_from("<I", page, 40)[0]
            if self.psize not in PAGE_SIZES:
                raise self._damaged(f"it says that its pages have {self.psize:,} bytes")
        _, self._main, self._free = max(metas)

    def __del__(self):
        if hasattr(self, "_descriptor"):
            os.close(self._descriptor)

    def __reduce__(self):
        return Database, (self.file,)

    def read(self, offset: int, size: int) -> bytes:
        value = os.pread(self._descriptor, size, offset)
        if len(value) != size:
            raise self._cut_short(offset + size)
        return value

    def will_need(self, offsets: np.ndarray, sizes: np.ndarray) -> None:
        """Ask the disk for these values now, in the order of the file; returns at once."""
        if hasattr(os, "posix_fadvise"):
            for i in offsets.argsort():
                os.posix_fadvise(self._descriptor, int(offsets[i]), int(sizes[i]), os.POSIX_FADV_WILLNEED)

    def check_unchanged(self) -> None:
        """DataError if the file was written to since it was opened: positions may then be wrong."""
        if self._stat() != (self.size, self.mtime_ns):
            raise DataError(f"{self.file} was changed while it's in use: wait until it's complete, then give the command again")

    def check_whole(self) -> None:
        """DataError unless every page in use lies within the file, unlike in a truncated copy. For files that are written to."""
        main = self.records()
        for tree in (self._free, *(self.read(int(main.offsets[i]), int(main.sizes[i])) for i in np.flatnonzero(main.flags & TREE))):
            self.records(tree)

    def entries(self, tree: bytes | None = None) -> int:
        """How many keys a tree has. DataError if its description can't be right."""
        return self._described(tree)[1]

    def tree(self, name: str) -> bytes:
        """The description of a named tree, for `records`."""
        main = self.records()
        for i in np.flatnonzero(main.flags & TREE):
            if main.key(i) == name.encode():
                return self.read(int(main.offsets[i]), int(main.sizes[i]))
        raise DataError(f"{self.file} is damaged: it has no {name}; make it anew")

    def texts(self) -> dict[str, bytes]:
        """The values outside of named trees; for files with few of them."""
        main = self.records()
        plain = np.flatnonzero(main.flags & TREE == 0)
        return {main.key(i).decode(errors="backslashreplace"): self.read(int(main.offsets[i]), int(main.sizes[i])) for i in plain}

    def records(self, tree: bytes | None = None, progress=lambda n: None) -> Records:
        """All keys of the main tree, or of a named one, in order. progress: called with the number of keys just found."""
        depth, entries, root = self._described(tree)
        if not entries:
            return Records(*(np.empty(0, kind) for kind in (np.uint8, np.int64, np.int64, np.int64, np.uint8)))
        pages = np.array([root])
        for _ in range(depth - 1):
            pages = np.concatenate([self._children(number, page) for number, page in self._pages(pages)])
            if pages.max() >= self.size // self.psize:  # first, since a file cut short has fewer pages than lead to others
                raise self._cut_short((int(pages.max()) + 1) * self.psize)
            if len(np.unique(pages)) < len(pages):
                raise self._damaged("two of its pages lead to the same one")
        leaves = []
        for number, page in self._pages(pages):
            leaves.append(self._leaf(number, page))
            progress(len(leaves[-1][1]))
        keys, lengths, offsets, sizes, flags = (np.concatenate(parts) for parts in zip(*leaves))
        if len(lengths) != entries:
            raise self._damaged(f"it has {len(lengths):,} of {entries:,} keys")
        if (offsets + sizes).max() > self.size:
            raise self._cut_short(int((offsets + sizes).max()))
        return Records(keys, lengths.cumsum(dtype=np.int64), offsets, sizes, flags)

    def _described(self, tree: bytes | None) -> tuple[int, int, int]:
        """levels, entries, number of the root page"""
        found = self._main if tree is None else tree
        if len(found) != DESCRIPTION.size:
            raise self._damaged("a tree has no description")
        depth, entries, root = DESCRIPTION.unpack(found)
        if (entries == 0) != (root == NO_PAGE) or depth > DEPTH or entries > self.size:
            raise self._damaged(f"it can't have {entries:,} keys in {depth} levels")
        return depth, entries, root

    def _pages(self, numbers: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        for start in range(0, len(numbers), AHEAD):
            part = numbers[start : start + AHEAD].tolist()
            if len(part) > 1 and hasattr(os, "posix_fadvise"):
                for number in sorted(part):
                    os.posix_fadvise(self._descriptor, number * self.psize, self.psize, os.POSIX_FADV_WILLNEED)
            yield from ((number, self._page(number)) for number in part)

    def _page(self, number: int) -> np.ndarray:
        offset = number * self.psize
        if offset + self.psize > self.size:
            raise self._cut_short(offset + self.psize)
        return np.frombuffer(os.pread(self._descriptor, self.psize, offset), np.uint8)

    def _nodes(self, number: int, page: np.ndarray, kind: int) -> tuple[np.ndarray, np.ndarray]:
        """Where the nodes of a tree page begin (n,), and their four header fields (n, 4)."""
        flags, lower = page[10:14].view("<u2").tolist()
        pointers = page[HEADER : lower & ~1].view("<u2").astype(np.int64)
        if flags & KINDS != kind or not len(pointers) or pointers.max() + 8 > self.psize:
            raise self._no_page_of_keys(number)
        return pointers, page[pointers[:, None] + np.arange(8)].view("<u2").astype(np.int64)

    def _children(self, number: int, page: np.ndarray) -> np.ndarray:
        _, fields = self._nodes(number, page, BRANCH)
        return fields[:, 0] | fields[:, 1] << 16 | fields[:, 2] << 32

    def _leaf(self, number: int, page: np.ndarray) -> tuple[np.ndarray, ...]:
        """keys, one after the other; lengths of keys, offsets, sizes, flags (n,)."""
        pointers, (low, high, flags, lengths) = (found.T for found in self._nodes(number, page, LEAF))
        if (flags & DUPLICATES).any():
            raise DataError(f"{self.file} has several values per key, which no LSUN database has: set dataset.path to another")
        begins = pointers + 8
        data, sizes, big = begins + lengths, low | high << 16, (flags & BIG).astype(bool)
        if (lengths == 0).any() or (data + np.where(big, 8, sizes)).max() > self.psize:
            raise self._no_page_of_keys(number)
        if (lengths == lengths[0]).all():
            keys = page[begins[:, None] + np.arange(lengths[0])].ravel()
        else:
            keys = np.concatenate([page[begin : begin + length] for begin, length in zip(begins, lengths)])
        offsets = number * self.psize + data
        own = page[data[big, None] + np.arange(8)].view("<u8")[:, 0]
        if len(own) and own.max() > 2**40:  # such a product might not fit into 64 bits
            raise self._no_page_of_keys(number)
        offsets[big] = own.astype(np.int64) * self.psize + HEADER
        return keys, lengths.astype(np.int32), offsets, sizes, flags.astype(np.uint8)  # small: there are millions

    def _stat(self) -> tuple[int, int]:
        stat = os.fstat(self._descriptor)
        return stat.st_size, stat.st_mtime_ns

    def _cut_short(self, wanted: int) -> DataError:
        missing = f"it has {self.size:,} of at least {wanted:,} bytes"
        return DataError(f"{self.file} is cut short: {missing}; get it again, or wait until it's wholly copied")

    def _no_page_of_keys(self, number: int) -> DataError:
        return self._damaged(f"page {number} is no page of keys")

    def _damaged(self, how: str) -> DataError:
        return DataError(f"{self.file} is damaged ({how}): get it, or make it, again")


def database_at(path: Path) -> Path | None:
    """The LMDB file at a path: the path itself, or the data.mdb in it. None without LMDB's magic number."""
    file = path / "data.mdb" if path.is_dir() else path
    try:
        if not file.is_file():  # reading a pipe might never end
            return None
        with open(file, "rb") as opened:
            return file if opened.read(HEADER + 4)[HEADER:] == MAGIC.to_bytes(4, "little") else None
    except OSError:
        return None
