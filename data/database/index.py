"""The key index of an LMDB database: which key is image i, and where it lies. Made once, by one walk that touches no image.

The file: one line of JSON that tells what it belongs to and the sha256 of the rest, padded to HEADER bytes; then for each key its
end, the offset and the size of its value (3 × N int64), the first 8 bytes of its sha256 (N uint64, for hold-outs); and the keys.
It's mapped into memory, so that all processes share one copy.
"""

import json
import os
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data.database.reader import TREE, Database
from data.files import cache_directory, printable, remove_abandoned, replacing
from data.images import DataError
from data.notes import note
from data.sources.source import hashes_of

FORMAT = 2
HEADER = 1024


@dataclass(frozen=True)
class KeyIndex:
    """ends, offsets, sizes: (N,) int64; hashes: (N,) uint64; keys: uint8, one after the other; digest: of keys and sizes."""

    ends: np.ndarray
    offsets: np.ndarray
    sizes: np.ndarray
    hashes: np.ndarray
    keys: np.ndarray
    digest: str

    def __len__(self) -> int:
        return len(self.ends)

    def key(self, i: int) -> bytes:
        return self.keys[self.ends[i - 1] if i else 0 : self.ends[i]].tobytes()


def key_index(database: Database) -> KeyIndex:
    """Load the index of a database from the cache directory or from beside data.mdb; if there is none, build and cache it.

    Raises DataError for a database without entries, a damaged one, and one that is being written.
    """
    stamp = {"format": FORMAT, "entries": database.entries(), "size": database.size, "mtime_ns": database.mtime_ns}
    if not stamp["entries"]:
        raise DataError(f"{database.file} holds no images: set dataset.path to another database")
    beside, kept = _places(database.file)
    remove_abandoned(beside.parent, beside.name)  # of versions that wrote there
    for place in (kept, beside):
        found = _load(place, stamp)
        if found:
            return found
    index = _build(database)
    database.check_unchanged()
    try:
        _write(kept, stamp, index)
    except OSError:  # read-only or full
        note(f"the index of {database.file} can't be kept: set GAN_CACHE to a directory that can be written to")
    return index


def _places(file: Path) -> tuple[Path, Path]:
    """Beside the file, and in the cache."""
    name = sha256(os.path.realpath(file).encode()).hexdigest()[:32]
    return file.with_name(f"{file.stem}.keys"), cache_directory() / f"{name}.keys"


def _build(database: Database) -> KeyIndex:
    about = printable(f"reading the keys of {database.file.parent.name}, once")
    with tqdm(total=database.entries(), desc=about, unit=" keys", unit_scale=True, delay=1, leave=False) as bar:
        found = database.records(progress=bar.update)
    if (found.flags & TREE).any():
        raise DataError(f"{database.file} isn't one of LSUN's databases: its values are databases themselves")
    hashes = hashes_of(found.key(i) for i in range(len(found.ends)))
    digest = sha256(found.ends.tobytes() + found.sizes.tobytes() + found.keys.tobytes()).hexdigest()
    return KeyIndex(found.ends, found.offsets, found.sizes, hashes, found.keys, digest)


def _load(place: Path, stamp: dict) -> KeyIndex | None:
    """None for an index that isn't there, is damaged, or belongs to other data: then it's made anew."""
    try:
        with open(place, "rb") as file:
            header = json.loads(file.read(HEADER))
        if {key: header[key] for key in stamp} != stamp:
            return None
        whole = np.memmap(place, np.uint8, "r", HEADER)
        if header["sha256"] != _seal(header["digest"], whole):
            return None
        n = 8 * stamp["entries"]
        ends, offsets, sizes = (whole[k * n : (k + 1) * n].view(np.int64) for k in range(3))
        hashes, keys = whole[3 * n : 4 * n].view(np.uint64), whole[4 * n :]
        return KeyIndex(ends, offsets, sizes, hashes, keys, header["digest"]) if len(keys) == ends[-1] else None
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return None


def _seal(digest: str, *body: np.ndarray) -> str:
    """sha256 of the index's contents: one wrong offset would give another image, or noise."""
    seal = sha256(digest.encode())
    for part in body:
        seal.update(np.ascontiguousarray(part))
    return seal.hexdigest()


def _write(place: Path, stamp: dict, index: KeyIndex) -> None:
    """Write the index atomically, also if several processes write it at once."""
    body = index.ends, index.offsets, index.sizes, index.hashes, index.keys
    header = json.dumps({**stamp, "digest": index.digest, "sha256": _seal(index.digest, *body)}).encode()
    place.parent.mkdir(parents=True, exist_ok=True)
    with replacing(place) as file:
        for part in (header.ljust(HEADER), *body):
            file.write(part)
