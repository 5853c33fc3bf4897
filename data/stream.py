"""Images as they are, in batches, from a folder, zip, pack or LSUN database: for scores, which must not crop on their own."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from data.images import DataError
from data.opening import open_source
from data.source import Source


def count_images(path: Path | Source) -> int:
    """How many images lie there. DataError if none, or if nothing does."""
    return len(_opened(path))


def native_batches(path: Path | Source, chosen: list[int], batch_size: int = 64) -> Iterator[Tensor]:
    """(n, 3, H, W) uint8 RGB of one size: the images at the `chosen` places, by sorted names or in the order of a database.

    Memory for two batches, however many there are. DataError names an image that can't be decoded or that is not of the
    first one's size.
    """
    source = _opened(path)
    path = source.path

    def image(i: int) -> Image.Image | DataError:
        try:
            return source.image(int(i))
        except Exception as error:  # broken bytes make Pillow raise a dozen kinds of error
            return DataError(f"{path}: {source.name(int(i))} can't be decoded ({error}); mend or remove it")

    first = None
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for start in range(0, len(chosen), batch_size):
            part = chosen[start : start + batch_size]
            batch = list(pool.map(image, part))
            first = first or getattr(batch[0], "size", None)
            for i, found in zip(part, batch):
                _refuse(found, first, path, source, int(i))
            yield torch.from_numpy(np.stack([np.asarray(found) for found in batch])).permute(0, 3, 1, 2).contiguous()


def _opened(path: Path | Source) -> Source:
    return path if isinstance(path, Source) else open_source(path)


def _refuse(found: Image.Image | DataError, first: tuple[int, int], path: Path, source: Source, i: int) -> None:
    if isinstance(found, DataError):
        raise found
    if found.size != first:
        raise DataError(
            f"{path}: {source.name(i)} is {found.size[0]}×{found.size[1]}, the first image {first[0]}×{first[1]}; "
            "a score needs images of one size: `data pack` makes them so"
        )
