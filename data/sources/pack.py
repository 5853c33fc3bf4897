"""Packs: images of one size in one LMDB file, ready to be read at random. data/tools/pack.py makes them.

In the file: database `images`, 8-byte big-endian index -> pixels (raw: 3×R×R uint8; webp: lossless WebP); database `rows`, index of
the first image of a part -> ROW of each image of the part; and, unnamed, the JSON texts `job` (what is being packed), `state` (how
far it is) and, in a finished pack alone, `manifest`. The last two end with a sha256 of all they say, but for those of old packs.
"""

import io
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import numpy as np
from PIL import Image

from data.database.reader import Database, database_at
from data.decoding import CROPS, Crop, fit, reason
from data.images import DataError, advice_for
from data.sources.source import Source, split_categories

FORMAT = 1
STORED = "raw", "webp"
MANIFEST = {  # what a manifest holds, by type
    int: ("format", "count", "size", "skipped"),
    str: ("stored", "source", "sha256", "fingerprint", "crop", "filter", "made_with"),
    list: ("classes", "first_skipped"),
}
NAMES = {"rows_sha256", *(name for names in MANIFEST.values() for name in names)}
SEAL = b', "seal": "'
ROW = np.dtype([("sha256", "V32"), ("hash", "<u8"), ("label", "<i4")])  # of the pixels; of the name, for hold-outs


class PackSource(Source):
    """A finished pack. DataError if it is unfinished, damaged, of an unknown format, or asked for a test split or categories."""

    encoded = False

    def __init__(self, path: Path, split: str | None = None, categories: str | None = None):
        if split == "test":
            raise DataError(f"{path} is a pack and has no test split: pack that too, or hold images out with dataset.hold_out=0.01")
        if categories:
            raise DataError(f"{path} is a pack, all of which is used: leave --categories {categories} out")
        self.path = path = database_at(path) or path
        self._database = Database(path)
        texts = self._database.texts()
        if "manifest" not in texts:
            raise DataError(
                f"{path} is a half-finished pack: give the same `data pack` command again, which goes on with it; if that doesn't "
                "help, it's damaged: remove it"
            )
        self.manifest = _manifest(texts["manifest"], path)
        self._count, self.size, self._stored = (self.manifest[key] for key in ("count", "size", "stored"))
        found = self._database.records(self._database.tree("images"))
        whole = self._stored != "raw" or (found.sizes == 3 * self.size**2).all()
        if not whole or found.keys.tobytes() != np.arange(self._count, dtype=">u8").tobytes():
            raise DataError(f"{path} is damaged: its images aren't those of its manifest; pack again")
        self._offsets, self._sizes = found.offsets, found.sizes
        self.classes = tuple(self.manifest["classes"])
        self.about = f"pack {path.name} of {self.manifest['source']}"

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Whether an LMDB file is a pack, finished or not, rather than one of LSUN's databases."""
        file = database_at(path)
        if file is None:
            return False
        database = Database(file)
        return database.entries() <= 5 and {"job", "state"} <= database.texts().keys()

    def __len__(self) -> int:
        return self._count

    def name(self, i: int) -> str:
        return f"image {i}"

    def read(self, i: int) -> bytes:
        return self._database.read(int(self._offsets[i]), int(self._sizes[i]))

    def will_need(self, indices: np.ndarray) -> None:
        self._database.will_need(self._offsets[indices], self._sizes[indices])

    def check_unchanged(self) -> None:
        self._database.check_unchanged()

    def image(self, i: int) -> Image.Image:
        return Image.fromarray(self._whole(i).transpose(1, 2, 0))

    def pixels(self, i: int, resolution: int, crop: Crop = "center") -> np.ndarray:
        return self._whole(i) if resolution == self.size else fit(self.image(i), resolution, crop)

    def require_crop(self, crop: str, advice: str) -> None:
        """DataError if it was made with another: at whatever size, that can't be undone."""
        if (made := self.manifest["crop"]) != crop:
            raise DataError(f"{self.path} was made with --crop {made}: {advice}")

    def check_settings(self, resolution: int, crop: str, categories: str | None) -> None:
        """It was cropped when it was made: other settings would be silently without effect."""
        self.require_crop(crop, f"pack again with --crop {crop}, or set dataset.crop={self.manifest['crop']}")
        if self.size < resolution:
            raise DataError(
                f"{self.path} holds images of {self.size} pixels: pack again with --size {resolution}, or "
                f"{advice_for(self.size, cropped=True)}"
            )
        if categories and self.classes not in (("all",), tuple(split_categories(categories))):
            raise DataError(
                f"{self.path} holds {', '.join(self.classes)}, not {categories}: pack that, or set dataset.categories=null"
            )

    @property
    def fingerprint(self) -> str:
        """The sha256 of all pixels, from the manifest."""
        return self.manifest["sha256"]

    @cached_property
    def labels(self) -> np.ndarray:
        return self.rows["label"].astype(np.int64)

    @cached_property
    def hashes(self) -> np.ndarray:
        """Of the names in what was packed: a hold-out stays the same."""
        return self.rows["hash"].astype(np.uint64)

    @cached_property
    def rows(self) -> np.ndarray:
        """(N,) of ROW. DataError unless they are what the manifest was made of."""
        found = self.stored_rows()
        if wrong := self.problem(found):
            raise DataError(f"{self.path} is damaged: {wrong}; pack again")
        return found

    def problem(self, rows: np.ndarray) -> str:
        """What is wrong with the rows, if anything."""
        if total_sha256(rows, self.size) != self.fingerprint:
            return "the list of checksums is not the one that the manifest was made of"
        if self.manifest.get("rows_sha256") not in (None, sha256(rows.tobytes()).hexdigest()):
            return "labels or the hashes of names are not those that were packed"
        return ""

    def stored_rows(self) -> np.ndarray:
        """(N,) of ROW, as they are."""
        where = self._database.records(self._database.tree("rows"))
        values = (self._database.read(int(offset), int(size)) for offset, size in zip(where.offsets, where.sizes))
        found = b"".join(values)
        if len(found) != self._count * ROW.itemsize:
            described = len(found) // ROW.itemsize
            raise DataError(f"{self.path} is damaged: it describes {described:,} of {self._count:,} images; pack again")
        return np.frombuffer(found, ROW)

    def _whole(self, i: int) -> np.ndarray:
        return unpack(self.read(i), self._stored, self.size)


def sealed(found: dict, beside: bytes = b"") -> bytes:
    """A dict as JSON text that ends with a sha256 of itself and of `beside`."""
    text = json.dumps(found).encode()
    return text[:-1] + SEAL + sha256(beside + text).hexdigest().encode() + b'"}'


def unsealed(text: bytes, known: set[str], beside: bytes = b"") -> dict | None:
    """The dict that was `sealed`; None if its sha256 is wrong. Older texts have none, and only `known` keys."""
    body, mark, seal = text.rpartition(SEAL)
    if mark:
        text = body + b"}"
        if seal != sha256(beside + text).hexdigest().encode() + b'"}':
            return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and (mark or found.keys() <= known) else None


def _manifest(text: bytes, path: Path) -> dict:
    found = unsealed(text, NAMES)
    if found and found.get("format", FORMAT) != FORMAT:
        raise DataError(f"{path} is a pack of format {found['format']}, not {FORMAT}: pack again")
    if not found or not _is_manifest(found):
        raise DataError(f"{path} is damaged: its manifest can't be read; pack again")
    return found


def _is_manifest(found: dict) -> bool:
    kinds = ((name, kind) for kind, names in MANIFEST.items() for name in names)
    if not all(isinstance(found.get(name), kind) for name, kind in kinds):
        return False
    return found["size"] > 0 and found["count"] > 0 and found["stored"] in STORED and found["crop"] in CROPS


def key(i: int) -> bytes:
    return i.to_bytes(8, "big")


def unpack(value: bytes, stored: str, size: int) -> np.ndarray:
    """A stored image as (3, R, R) uint8. ValueError or what Pillow raises for damaged bytes."""
    if stored == "raw":
        return np.frombuffer(value, np.uint8).reshape(3, size, size)
    return np.asarray(Image.open(io.BytesIO(value), formats=["WEBP"]).convert("RGB")).transpose(2, 0, 1)


def total_sha256(rows: np.ndarray, size: int) -> str:
    """One sha256 for all pixels: of each image's sha256 in turn, and the shape."""
    return sha256(rows["sha256"].tobytes() + f"(3, {size}, {size})".encode()).hexdigest()


def verify(source: PackSource, progress: Callable[[int], None] = lambda n: None) -> list[str]:
    """Read every image and compare it with its sha256, and all of these with the manifest's; what is wrong, a line each."""
    rows = source.stored_rows()
    problems = list(filter(None, [source.problem(rows)]))

    def check(part: range) -> list[str]:
        found = []
        for i in part:
            try:
                same = sha256(source._whole(i).tobytes()).digest() == rows["sha256"][i].tobytes()
            except Exception as error:  # damaged bytes make Pillow raise a dozen kinds of error
                found.append(f"image {i} can't be read ({reason(error)})")
            else:
                found += [] if same else [f"image {i} has other pixels than were packed"]
        progress(len(part))
        return found

    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(check, parts(0, len(source), 256)):
            problems += found
    return problems


def parts(start: int, stop: int, size: int) -> Iterator[range]:
    return (range(i, min(i + size, stop)) for i in range(start, stop, size))
