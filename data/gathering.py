"""`gather`: decode a whole source into memory, or read the decoded copy that an earlier start cached."""

import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from tqdm import tqdm

from data import copies
from data.decoding import Crop, TooSmall, quiet_decoding
from data.files import printable
from data.images import DataError, ImageSet, advice_for
from data.notes import speaks
from data.sources.source import Source, shown, unusable
from data.workers import cores

PART = 64  # images that a thread decodes at a time
SOON = 1.0  # seconds of decoding of which nothing is said, and after which a copy isn't worth its place
SHORT = 16  # letters of a name beside the bar
LONG = 5.0  # seconds yet to wait, of which also a log is told


def gather(source: Source, resolution: int, on_bad: str, crop: Crop = "center") -> ImageSet:
    """Decode a whole source into memory in a few threads (Pillow releases the interpreter lock while it decodes).

    If that took long, the pixels are cached, and the next start reads them from there, bit for bit.

    on_bad: "refuse" raises DataError that counts the unusable images and names the first; "skip" leaves them out.
    Raises DataError as well when no usable image is left.
    """
    key = copies.key(source, resolution, on_bad, crop)
    kept = copies.read(key) if key else None
    if kept:
        pixels, bad = kept
    else:
        start = time.monotonic()
        pixels, bad = _decoded(source, resolution, on_bad, crop, ", once: later starts read a copy" if key else "")
        took = time.monotonic() - start
    source.check_unchanged()
    if key and not kept and took >= SOON and source.stamp() == key["stamp"]:  # else written to while it was decoded
        copies.write(key, pixels, bad)
    labels = np.delete(source.labels, bad) if bad else source.labels
    skipped = tuple(source.name(i) for i in bad)
    # Without the images left out it's another order than a streamed set's, which shows others in their place.
    fingerprint = None if bad else source.fingerprint
    about = source.classes, source.about, skipped, fingerprint, shown(resolution, crop), copies.decoded_by(source)
    return ImageSet(torch.from_numpy(pixels), torch.from_numpy(labels), *about)


def _decoded(source: Source, resolution: int, on_bad: str, crop: Crop, once: str) -> tuple[np.ndarray, list[int]]:
    """(N, 3, R, R) uint8 without the unusable images, and the places of these. once: what to add to what people are told."""
    count = len(source)
    try:
        pixels = np.empty((count, 3, resolution, resolution), dtype=np.uint8)
    except MemoryError:
        size = count * 3 * resolution**2 / 2**30
        raise DataError(f"{source.path} needs {size:.1f} GiB of memory, more than is free: set dataset.memory lower") from None
    problems: dict[int, str] = {}
    small: list[int] = []  # the shorter sides of images that are too small

    def work(part: range) -> int:
        for i in part:
            try:
                pixels[i] = source.pixels(i, resolution, crop)
            except Exception as error:
                problems[i] = f"{source.name(i)} ({unusable(error, source)})"
                if isinstance(error, TooSmall):
                    small.append(error.side)
        return len(part)

    parts = [range(i, min(i + PART, count)) for i in range(0, count, PART)]
    with quiet_decoding(), ThreadPoolExecutor(min(8, cores())) as pool, _Waiting(count, source.path.name, once) as waiting:
        for done in pool.map(work, parts):
            waiting.advance(done)

    bad = sorted(problems)
    advice = f"{advice_for(min(small))}, or " if len(small) == len(bad) > 0 else ""
    if len(bad) == count:
        raise DataError(
            f"{source.path}: none of the {count:,} images can be used, the first is {problems[0]}: {advice}choose other images"
        )
    if bad and on_bad == "refuse":
        first = ", ".join(problems[i] for i in bad[:3]) + (", …" if len(bad) > 3 else "")
        advice = advice or "fix them, or "
        raise DataError(
            f"{source.path}: {len(bad):,} of {count:,} images can't be used: {first}; "
            f"{advice}leave them out with dataset.on_bad=skip"
        )
    return (np.delete(pixels, bad, axis=0) if bad else pixels), bad


class _Waiting:
    """A bar on a terminal; one line in a log, where the wait is going to be long; of several processes, one speaks for all."""

    def __init__(self, count: int, name: str, once: str):
        about = printable(f"decoding {count:,} images of {name}")
        self.count, self.done, self.start = count, 0, time.monotonic()
        self.line = f"{about}{once}"
        speaking = speaks()
        options = {"unit": " images", "unit_scale": True, "delay": SOON, "leave": False, "dynamic_ncols": True}
        short = name if len(name) <= SHORT else f"{name[:SHORT]}…"  # so that 80 columns have room for what is left
        self.bar = tqdm(total=count, desc=f"decoding {short}", disable=None if speaking else True, **options)
        self.told = not self.bar.disable or not speaking

    def advance(self, n: int) -> None:
        self.bar.update(n)
        self.done += n
        passed = time.monotonic() - self.start
        if not self.told and passed >= SOON and passed * (self.count / self.done - 1) >= LONG:
            self.told = True
            tqdm.write(self.line, file=sys.stderr)

    def __enter__(self) -> "_Waiting":
        return self

    def __exit__(self, *exception) -> None:
        self.bar.close()
