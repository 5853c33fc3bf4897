"""Images of a directory or a zip as they are, in batches: for scores, which must not crop or resize on their own."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data.folder import as_rgb, open_images
from data.images import DataError


def count_images(path: Path) -> int:
    """How many images lie there. DataError if none, or if nothing does."""
    with open_images(path) as (names, _):
        return len(names)


def native_batches(path: Path, chosen: list[int], batch_size: int = 64) -> Iterator[Tensor]:
    """(n, 3, H, W) uint8 RGB of one size: the images at the `chosen` places of the sorted names.

    DataError names an image that can't be decoded or that is not of the first one's size.
    """
    with open_images(path) as (names, read):
        names = [names[i] for i in chosen]
        first = None
        for start in range(0, len(names), batch_size):
            batch = []
            for name in names[start : start + batch_size]:
                try:
                    image = as_rgb(read(name))
                except Exception as error:  # broken bytes make Pillow raise a dozen kinds of error
                    raise DataError(f"{path}: {name} can't be decoded ({error}); mend or remove it") from None
                first = first or image.size
                if image.size != first:
                    raise DataError(
                        f"{path}: {name} is {image.size[0]}×{image.size[1]}, the first image {first[0]}×{first[1]}; "
                        "a score needs images of one size"
                    )
                batch.append(torch.from_numpy(np.array(image)).permute(2, 0, 1))
            yield torch.stack(batch).contiguous()
