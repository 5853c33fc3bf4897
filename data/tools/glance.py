"""`data grid`: a few images to look at, as training sees them."""

import numpy as np
import torch
from torch import Tensor

from data.decoding import Crop, quiet_decoding
from data.images import DataError
from data.order import EpochOrder
from data.sources.pack import PackSource
from data.sources.source import Source, require_image_at_fault, unusable

SIDE = 128  # pixels at most, unless asked for
TRIED = 100  # images that can't be used before the search ends, and as many as are wanted


def glance(
    source: Source, count: int, seed: int = 0, size: int | None = None, crop: Crop | None = None
) -> tuple[Tensor, list[str]]:
    """Images chosen at random, each once: (n, 3, R, R) uint8, n at most `count`, and what was left out, as "name (reason)".

    crop: by default a pack's own, else "center". size: R; by default a pack's own, else at most 128 and no more than half of the
    chosen images have. Raises DataError when none of those tried can be used, or a pack was cropped otherwise.
    """
    if isinstance(source, PackSource):
        crop = crop or source.manifest["crop"]
        source.require_crop(crop, f"leave --crop {crop} out")
    crop = crop or "center"
    order = EpochOrder(len(source), seed)
    tried = order.indices(0, min(len(source), 2 * count + TRIED)).tolist()
    with quiet_decoding():
        size = size or (source.size if isinstance(source, PackSource) else _common_side(source, tried[: min(count, SIDE)]))
        found, left_out = [], []
        for i in tried:
            try:
                found.append(np.array(source.pixels(i, size, crop)))
            except Exception as error:
                left_out.append(f"{source.name(i)} ({unusable(error, source)})")
            if len(found) == count:
                break
    source.check_unchanged()
    if not found:
        raise DataError(
            f"{source.path}: none of {len(tried):,} images can be used, the first is {left_out[0]}: choose other images"
        )
    return torch.from_numpy(np.stack(found)), left_out


def _common_side(source: Source, indices: list[int]) -> int:
    """The middle one of the shorter sides, at most SIDE."""
    sides = []
    for i in indices:
        try:
            sides.append(min(source.image(i).size))
        except Exception as error:
            require_image_at_fault(error, source)  # the caller says why
    return min(SIDE, sorted(sides)[(len(sides) - 1) // 2]) if sides else SIDE
