"""Images as they are, in batches, from a folder, zip, pack or LSUN database: for scores, which must not crop on their own."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from data.images import DataError
from data.sources.opening import open_source
from data.sources.source import Source, unusable
from data.workers import cores, in_order


def count_images(path: Path | Source) -> int:
    """How many images lie there. DataError if none, or if nothing does."""
    return len(_opened(path))


def native_batches(path: Path | Source, chosen: list[int], batch_size: int = 64) -> Iterator[Tensor]:
    """(n, 3, H, W) uint8 RGB of one size: the images at the `chosen` places, by sorted names or in the order of a database.

    Memory for a few batches, however many there are. DataError names an image that can't be decoded or that is not of the
    first one's size.
    """
    source = _opened(path)
    parts = (chosen[start : start + batch_size] for start in range(0, len(chosen), batch_size))
    threads = min(8, cores())
    first = None
    with ThreadPoolExecutor(threads) as pool:
        for batch in in_order(pool, lambda part: [_image(source, int(i)) for i in part], parts, threads):
            first = first or batch[0][1].size
            for name, image in batch:
                if image.size != first:
                    raise DataError(
                        f"{source.path}: {name} is {image.width}×{image.height}, the first image {first[0]}×{first[1]}; "
                        "a score needs images of one size: `data pack` makes them so"
                    )
            source.check_unchanged()
            yield torch.from_numpy(np.stack([np.asarray(image) for _, image in batch])).permute(0, 3, 1, 2).contiguous()


def _image(source: Source, i: int) -> tuple[str, Image.Image]:
    name = source.name(i)
    try:
        return name, source.image(i)
    except Exception as error:
        raise DataError(f"{source.path}: {name} can't be decoded ({unusable(error, source)}); mend or remove it") from None


def _opened(path: Path | Source) -> Source:
    return path if isinstance(path, Source) else open_source(path)
