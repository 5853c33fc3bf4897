"""Data sets that stay on the disk: images are read on request, and batches are prefetched for training."""

import os
import sys
import weakref
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from data import workers as worker
from data.copies import decoded_by
from data.decoding import Crop, TooSmall, quiet_pillow
from data.files import printable
from data.images import DataError, advice_for
from data.order import EpochOrder
from data.sources.source import Source, shown, unusable

AHEAD = 8  # batches
MANY = 1000  # unusable images in a row: then something else is wrong
TOLD = 5  # unusable images that are named on the terminal
AT_ONCE = 2**24  # bytes of images in their own size that a batch takes, or one image if that is more
IN_FLIGHT = 2**28  # bytes of such images that are at work, or one batch if that is more
DECODING = 10  # bytes for each pixel of an image that is being decoded: as it's stored, as Pillow holds it, as an array


class StreamedSet:
    """What an ImageSet is, without its pixels in memory: the same names and methods, images read from the source each time.

    on_bad: "refuse" raises DataError that names an unusable image when it's met; "skip" gives the next usable one in its place,
        which is a function of the data alone, and lists it in `skipped`.
    workers: processes that decode; 0: threads of this process, enough for packs, whose images need no decoding.
    """

    def __init__(self, origin: Source, resolution: int, on_bad: str = "refuse", crop: Crop = "center", workers: int = 0):
        workers = min(workers, AHEAD)  # as many batches are read at a time
        self.origin, self.resolution, self.on_bad, self.crop, self.workers = origin, resolution, on_bad, crop, workers
        self.threads = AHEAD if workers else min(4, AHEAD, worker.cores())  # one waits for each process at work
        self.classes, self.source = origin.classes, origin.about
        self.fingerprint, self.shown, self.decoded = origin.fingerprint, shown(resolution, crop), decoded_by(origin)
        self._skipped: dict[str, None] = {}
        quiet_pillow()
        self._processes: ProcessPoolExecutor | None = None
        if workers:
            self._processes = worker.process_pool(workers, (origin, resolution, on_bad, crop))
            self._processes.submit(os.getpid).result()  # they are forked here, before other threads run
            weakref.finalize(self, self._processes.shutdown, wait=False, cancel_futures=True)

    def __len__(self) -> int:
        return len(self.origin)

    @property
    def labels(self) -> Tensor:
        """(N,) int64"""
        return torch.from_numpy(self.origin.labels)

    @property
    def skipped(self) -> tuple[str, ...]:
        """The unusable images met so far."""
        return tuple(self._skipped)

    @property
    def images(self) -> "StreamedSet":
        """So that `.images[indices]` means the same as for an ImageSet."""
        return self

    def __getitem__(self, indices: Sequence[int] | Tensor) -> Tensor:
        return self.read(indices)

    def read(self, indices: Sequence[int] | Tensor) -> Tensor:
        """(n, 3, R, R) uint8: the images at `indices`."""
        out = torch.empty(len(indices), 3, self.resolution, self.resolution, dtype=torch.uint8)
        self.read_into(out, indices)
        return out

    def read_into(self, out: Tensor, indices: Sequence[int] | Tensor) -> None:
        """The same into (n, 3, R, R) uint8 that is there. From any thread."""
        wanted = torch.as_tensor(indices).tolist()
        self.origin.check_unchanged()
        if self._processes is None:
            bad = fill(out.numpy(), self.origin, wanted, self.on_bad, self.crop)
        else:
            try:
                pixels, bad = self._processes.submit(_fill_in_worker, wanted).result()
            except BrokenProcessPool:
                worker.kill(self._processes)
                raise DataError(
                    "a decoding process died, perhaps for lack of memory: give the same command again, which goes on from the last "
                    "checkpoint, or with a smaller dataset.workers"
                ) from None
            out.copy_(torch.from_numpy(pixels))
        for text in bad:
            self._tell(text)

    def batches(self, indices: Sequence[int] | Tensor, batch_size: int = 64) -> Iterator[Tensor]:
        """The images at `indices`, in that order, a batch at a time, read ahead."""
        parts = (indices[start : start + batch_size] for start in range(0, len(indices), batch_size))
        with ThreadPoolExecutor(self.threads) as pool:
            yield from worker.in_order(pool, self.read, parts, self.threads)

    def _tell(self, text: str) -> None:
        if text not in self._skipped:
            self._skipped[text] = None
            if len(self._skipped) <= TOLD:
                more = "; further ones are left out silently" if len(self._skipped) == TOLD else ""
                tqdm.write(printable(f"left out {text}{more}"), file=sys.stderr)


def full_size_batches(source: Source, indices: list[int], batch_size: int = 64) -> Iterator[Tensor]:
    """The images at `indices` in their own size, neither cropped nor shrunk, for scores: (n, 3, H, W) uint8 RGB.

    n: at most batch_size, fewer of large images. Memory: IN_FLIGHT bytes and a batch, however many images and cores there are.
    DataError names an image that can't be decoded or that is not of the first one's size.
    """
    if not len(indices):
        return
    quiet_pillow()
    width, height = _full_size(source, int(indices[0]))[1].size
    batch_size = max(1, min(batch_size, AT_ONCE // (3 * width * height)))
    parts = (indices[start : start + batch_size] for start in range(0, len(indices), batch_size))
    at_work = (3 * batch_size + DECODING) * width * height  # bytes for each thread, of which each waits with a batch
    threads = max(1, min(8, worker.cores(), IN_FLIGHT // at_work))

    def decoded(part: Sequence[int]) -> np.ndarray:
        out = np.empty((len(part), 3, height, width), np.uint8)
        for row, i in zip(out, part):
            name, image = _full_size(source, int(i))
            if image.size != (width, height):
                raise DataError(
                    f"{source.path}: {name} is {image.width}×{image.height}, the first image {width}×{height}; "
                    "a score needs images of one size: `data pack` makes them so"
                )
            row[...] = np.asarray(image).transpose(2, 0, 1)
        return out

    with ThreadPoolExecutor(threads) as pool:
        for batch in worker.in_order(pool, decoded, parts, threads):
            source.check_unchanged()
            yield torch.from_numpy(batch)


def _full_size(source: Source, i: int) -> tuple[str, Image.Image]:
    name = source.name(i)
    try:
        return name, source.image(i)
    except Exception as error:
        raise DataError(f"{source.path}: {name} can't be decoded ({unusable(error, source)}); fix or remove it") from None


class Feeder:
    """Batches in an EpochOrder, prefetched by a few threads. What `get` returns depends on the position alone.

    n: images per batch; stride: how much further the next batch is expected to begin. device: a CUDA device gets pinned memory.
    """

    def __init__(self, images: StreamedSet, order: EpochOrder, n: int, stride: int, device: torch.device | str = "cpu"):
        self.images, self.order, self.n, self.stride = images, order, n, stride
        self.device = torch.device(device)
        self._threads = ThreadPoolExecutor(
            images.threads, thread_name_prefix="feeder", initializer=_begin_thread, initargs=(self.device,)
        )
        self._ahead: dict[int, Future[Tensor]] = {}  # position -> batch
        self._advised = -1  # the last window of the order that the disk was asked for
        weakref.finalize(self, self._threads.shutdown, wait=False, cancel_futures=True)

    def get(self, position: int) -> Tensor:
        """(n, 3, R, R) uint8 on the CPU: images position … position + n - 1 of the order. Not to be written to."""
        wanted = [position + i * self.stride for i in range(AHEAD)]
        for gone in self._ahead.keys() - set(wanted):  # already passed, or guessed wrong
            self._ahead.pop(gone).cancel()
        self._advise(wanted[-1] + self.n)
        for expected in wanted:
            if expected not in self._ahead:
                self._ahead[expected] = self._threads.submit(_assemble, self.images, self.order, expected, self.n, self.device)
        return self._ahead[position].result()

    def _advise(self, reached: int) -> None:
        """Prefetch, in the order of the file, the windows of the order up to the one that holds position `reached`."""
        window = self.order.window
        if self.order.block > 1:
            for number in range(max(self._advised + 1, (reached - AHEAD * self.stride) // window), reached // window + 1):
                self._threads.submit(self.images.origin.will_need, self.order.indices(number * window, window).numpy())
                self._advised = number


def fill(out: np.ndarray, source: Source, indices: list[int], on_bad: str, crop: Crop) -> list[str]:
    """The images at `indices` into (n, 3, R, R) uint8. Returns the unusable ones, with the reason; DataError if that is refused."""
    bad = []
    many = min(MANY, len(source))
    for row, first in zip(out, indices):
        for i in range(first, first + many):
            i %= len(source)
            try:
                row[...] = source.pixels(i, out.shape[-1], crop)
                break
            except Exception as error:
                bad.append(f"{source.name(i)} ({unusable(error, source)})")
                if on_bad == "refuse":
                    advice = advice_for(error.side) if isinstance(error, TooSmall) else "fix it"
                    text = f"{source.path}: {bad[-1]} can't be used; {advice}, or leave such images out with dataset.on_bad=skip"
                    raise DataError(text) from None
        else:
            which = f"{many:,} images in a row" if many < len(source) else f"the {many:,} images"
            raise DataError(f"{source.path}: none of {which} can be used, the last is {bad[-1]}: choose other images")
    return bad


def _fill_in_worker(indices: list[int]) -> tuple[np.ndarray, list[str]]:
    source, resolution, on_bad, crop = worker.shared
    out = np.empty((len(indices), 3, resolution, resolution), np.uint8)
    return out, fill(out, source, indices, on_bad, crop)


def _assemble(images: StreamedSet, order: EpochOrder, position: int, n: int, device: torch.device) -> Tensor:
    """One batch, in a thread. Not a method of Feeder: a waiting task would keep the Feeder alive."""
    shape = (n, 3, images.resolution, images.resolution)
    out = torch.empty(shape, dtype=torch.uint8, pin_memory=device.type == "cuda")
    images.read_into(out, order.indices(position, n))
    return out


def _begin_thread(device: torch.device) -> None:
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)  # else pinned memory would belong to the first GPU
