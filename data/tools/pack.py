"""`data pack`: decode, crop, shrink and store every image of a source once. data/sources/pack.py describes the file.

The pack is written as `.NAME.partial`, committed every few hundred images together with its progress, so that it can be resumed
after any interruption; it gets its name when it's complete.
"""

import io
import json
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path

import lmdb
import numpy as np
import PIL
from PIL import Image

from data import workers as worker
from data.copies import decoder
from data.database.writer import alone, commit, explained, open_writer, publish
from data.decoding import FILTER, Crop
from data.images import DataError
from data.sources.pack import FORMAT, ROW, PackSource, key, parts, sealed, total_sha256, unsealed, verify
from data.sources.source import Source, unusable
from data.space import require_space

PART = 64  # images that a worker decodes at a time
COMMIT = 1024, 2**26  # images or bytes between two commits: what a kill can cost
LISTED = 1000  # names of unusable images that are kept
Decoded = list[tuple[bytes, bytes] | str]  # (what is stored, sha256 of the pixels), or why an image can't be used


@dataclass(frozen=True)
class Squares:
    """What a pack stores of each image.

    size: R, the side in pixels; crop: see data/decoding.py; stored: "raw" or "webp" (lossless).
    """

    size: int
    crop: Crop = "center"
    stored: str = "raw"


def pack(
    source: Source,
    out: Path,
    squares: Squares,
    workers: int = 1,
    on_bad: str = "refuse",
    progress: Callable[[int], None] = lambda n: None,
) -> PackSource:
    """Make the pack `out`, or go on making it, or find it made.

    on_bad: "skip" counts, lists and leaves out images that can't be used; "refuse" raises DataError at the first. Either way a
        later call goes on. ("report" of the command line is "skip" here: the manifest lists what was left out.)
    progress: called with the number of images dealt with.

    Raises DataError: another process packs into `out`; `out` or the half-finished pack was made of something else; disk full; a
    worker died; no usable image.
    """
    if isinstance(source, PackSource):
        source.require_crop(squares.crop, f"choose --crop {source.manifest['crop']}, or pack the original images")
    job = {
        "format": FORMAT,
        "fingerprint": source.fingerprint,
        **asdict(squares),
        "filter": FILTER,
        "classes": list(source.classes),
    }
    with alone(out) as partial:
        if out.exists():
            progress(len(source))
            return _made_already(out, job)
        job |= {"decoder": decoder()}  # two would mix if Pillow were changed halfway
        if squares.stored == "raw":
            there = partial.stat().st_size if partial.exists() else 0
            needed = len(source) * 3 * squares.size**2 - there
            require_space(out, needed, f"{out}", "free some, or choose another --out or --format webp")
        growing = _GrowingPack(partial, job, _space(len(source), squares.size))
        try:
            progress(growing.state["next"])
            for decoded in _decode_all(source, growing.state["next"], squares, workers):
                source.check_unchanged()  # what changed under the workers' hands is not kept
                growing.add(decoded, source)
                if on_bad == "refuse" and growing.state["bad"]:
                    growing.commit()
                    raise DataError(
                        f"{source.path}: {growing.state['first_bad'][0]} can't be used; leave such images out with --on-bad skip, "
                        "which goes on from here, or fix it"
                    )
                progress(len(decoded))
            growing.finish(source.about)
        finally:
            growing.environment.close()
        if growing.begun:  # by another process, on a disk that may have changed what it had been given
            _require_whole(partial)
        publish(partial, out)
        return PackSource(out)


class _GrowingPack:
    """An unfinished pack: images wait in memory until a commit, which writes them and `state` in one transaction."""

    def __init__(self, file: Path, job: dict, map_size: int):
        self.file, self.job = file, job
        self.waiting: list[tuple[bytes, bytes, int, int]] = []  # stored, sha256, hash of the name, label
        self.state = {"next": 0, "count": 0, "bad": 0, "first_bad": [], "rows": ""}
        self.environment, (self.images, self.rows) = open_writer(file, map_size, (b"images", b"rows"))
        try:
            with self.environment.begin() as texts:
                begun, state = texts.get(b"job"), texts.get(b"state")
            if begun and state:
                self._go_on(begun, state)
        except lmdb.Error as error:
            self.environment.close()
            raise explained(error, file) from None
        except DataError:
            self.environment.close()
            raise
        self.begun = self.state["next"] > 0

    def _go_on(self, begun: bytes, text: bytes) -> None:
        """Resume from what an interrupted process has committed. DataError if it is damaged or of another job."""
        state = unsealed(text, {"next", "count", "bad", "first_bad"}, begun)
        try:
            job = json.loads(begun)
        except ValueError:
            job = None
        if state is None or not isinstance(job, dict):
            raise _damaged(self.file, "how far it is can't be read")
        if job != self.job:
            raise DataError(f"{self.file} was begun with another {_changes(job, self.job)}: remove it, or choose another --out")
        rows, digest = self._rows(), ""
        for value in rows:
            digest = _chained(digest, value)
        if sum(map(len, rows)) != state["count"] * ROW.itemsize or state.get("rows", digest) != digest:
            raise _damaged(self.file, "the list of its images isn't the one that was written")
        self.state = {**state, "rows": digest}

    def _rows(self) -> list[bytes]:
        with self.environment.begin(db=self.rows) as transaction:
            return [value for _, value in transaction.cursor()]

    def add(self, decoded: Decoded, source: Source) -> None:
        """The next images of the source, in order."""
        for i, found in enumerate(decoded, self.state["next"]):
            if isinstance(found, str):
                self.state["bad"] += 1
                self.state["first_bad"] = [*self.state["first_bad"], f"{source.name(i)} ({found})"][:LISTED]
            else:
                self.waiting.append((*found, int(source.hashes[i]), int(source.labels[i])))
        self.state["next"] += len(decoded)
        if len(self.waiting) >= COMMIT[0] or sum(len(stored) for stored, *_ in self.waiting) >= COMMIT[1]:
            self.commit()

    def commit(self, manifest: dict | None = None) -> None:
        first = self.state["count"]
        rows = np.array([tuple(row) for _, *row in self.waiting], ROW)
        state = {**self.state, "count": first + len(rows)}
        if len(rows):
            state["rows"] = _chained(state["rows"], rows.tobytes())
        job = json.dumps(self.job).encode()
        texts = {b"job": job, b"state": sealed(state, job), **({b"manifest": sealed(manifest)} if manifest else {})}

        def write(transaction: lmdb.Transaction) -> None:
            for i, (stored, *_) in enumerate(self.waiting, first):
                transaction.put(key(i), stored, db=self.images, append=True)
            if len(rows):
                transaction.put(key(first), rows.tobytes(), db=self.rows, append=True)
            for name, text in texts.items():
                transaction.put(name, text)

        commit(self.environment, self.file, write)
        self.state = state
        self.waiting.clear()

    def finish(self, about: str) -> None:
        """Write the manifest: from then on it's a pack."""
        self.commit()
        bad = {"skipped": self.state["bad"], "first_skipped": self.state["first_bad"]}
        if not self.state["count"]:
            raise DataError(f"no image can be used, the first is {bad['first_skipped'][0]}: choose others, or a smaller --size")
        rows = np.frombuffer(b"".join(self._rows()), ROW)
        made = {"source": about, "count": len(rows), **bad, "sha256": total_sha256(rows, self.job["size"])}
        made["rows_sha256"] = sha256(rows.tobytes()).hexdigest()
        self.commit(
            {
                **{k: v for k, v in self.job.items() if k != "decoder"},
                **made,
                "made_with": f"Pillow {PIL.__version__}, lmdb {lmdb.__version__}",
            }
        )


def _decode_all(source: Source, start: int, squares: Squares, workers: int) -> Iterator[Decoded]:
    """The images from `start` on, in order, a part at a time, by worker processes that are a few parts ahead."""
    workers = min(workers, -(-len(source) // PART))  # no more than there are parts
    pool = worker.process_pool(workers, source)
    try:
        yield from worker.in_order(pool, partial(_decode, squares=squares), parts(start, len(source), PART), 2 * workers)
    except BrokenProcessPool:
        worker.kill(pool)
        raise DataError(
            "a decoding process died, perhaps for lack of memory: give the same command again, which goes on where it stopped, "
            "or with fewer --workers"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _decode(part: range, squares: Squares) -> Decoded:
    """In a worker."""
    found: Decoded = []
    for i in part:
        try:
            pixels = np.ascontiguousarray(worker.shared.pixels(i, squares.size, squares.crop))
        except Exception as error:
            found.append(unusable(error, worker.shared))
        else:
            found.append((_encoded(pixels) if squares.stored == "webp" else pixels.tobytes(), sha256(pixels).digest()))
    return found


def _encoded(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels.transpose(1, 2, 0)).save(file, "webp", lossless=True)
    return file.getvalue()


def _made_already(out: Path, job: dict) -> PackSource:
    if not PackSource.recognises(out):
        raise DataError(f"{out} exists and is no pack: choose another --out")
    found = PackSource(out)
    if changes := _changes(found.manifest, job):
        raise DataError(f"{out} exists and was made with another {changes}: choose another --out, or remove it")
    return found


def _require_whole(file: Path) -> None:
    try:
        problems = verify(PackSource(file))
    except DataError as error:
        problems = [str(error).removeprefix(f"{file} is damaged: ")]
    if problems:
        raise _damaged(file, problems[0].removesuffix("; pack again"))


def _chained(digest: str, rows: bytes) -> str:
    """The sha256 of all rows so far: of the digest of the earlier ones, followed by `rows`."""
    return sha256(digest.encode() + rows).hexdigest()


def _damaged(file: Path, how: str) -> DataError:
    return DataError(f"{file}, which is half finished, is damaged ({how}): remove it, then give the same command again")


def _changes(old: dict, job: dict) -> str:
    names = {"fingerprint": "source", "decoder": "version of Pillow or of this program's decoding code"}
    return ", ".join(names.get(name, name) for name in job if old.get(name) != job[name])


def _space(count: int, size: int) -> int:
    """Bytes for the images stored raw, in whole pages, and some more."""
    pages = -(-(16 + 3 * size * size) // 4096)
    return int(1.05 * count * pages * 4096) + 2**26
