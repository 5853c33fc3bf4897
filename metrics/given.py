"""Images passed by a user's code (tensors, arrays, iterables, data loaders) as one side of a comparison."""

from collections.abc import Iterable, Iterator, Sized

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, RandomSampler, SequentialSampler, default_collate

from metrics.features.network import FeatureError
from metrics.scoring import Side
from metrics.statistics import Fingerprint

BATCH = 64

# (N, 3, H, W) or (N, H, W, 3) uint8, at once; or an iterable of batches or single images, with or without labels beside them.
Images = Tensor | np.ndarray | Iterable


class Given:
    """One side of a comparison: a pass over the images, batch by batch, and the sha256 of their pixels.

    An iterable may allow one pass only, so it is hashed while it is read, and no statistics of it are kept on the disk.
    """

    def __init__(self, images: Images, name: str):
        if isinstance(images, str | bytes) or not isinstance(images, Tensor | np.ndarray | Iterable):
            raise FeatureError(
                f"{name} are of type {type(images).__name__}: pass a uint8 tensor, an array or an iterable of batches"
            )
        self.images, self.name = images, name
        self.whole = isinstance(images, Tensor | np.ndarray)
        self._digest = Fingerprint()

    @property
    def count(self) -> int | None:
        """How many images there are; None for an iterable that doesn't say."""
        if isinstance(self.images, Tensor | np.ndarray):
            return len(self.images)
        loader = self.images
        if not isinstance(loader, DataLoader) or loader.batch_sampler is None or loader.collate_fn is not default_collate:
            return None
        if type(loader.sampler) in (SequentialSampler, RandomSampler) and not loader.drop_last:
            own_batches = getattr(loader.batch_sampler, "sampler", loader.sampler) is loader.sampler
            shown, there = loader.sampler, loader.dataset
            if own_batches and isinstance(shown, Sized) and isinstance(there, Sized) and len(shown) == len(there):
                return len(there)
        return None

    @property
    def sha256(self) -> str:
        """Of the pixels of the last pass."""
        return self._digest.hexdigest()

    def side(self) -> Side:
        return Side(self.name, self.count, self.batches, fixed=self.whole)

    def batches(self) -> Iterator[Tensor]:
        """(n, 3, H, W) uint8 on the CPU. FeatureError for anything else."""
        self._digest = Fingerprint()
        for images in [self.images] if self.whole else self.images:
            for batch in as_batch(images, self.name).split(BATCH):
                self._digest.update(batch)
                yield batch

    def in_memory(self) -> "Given":
        """The same images, counted: those of an iterable that doesn't say how many it has are held as uint8."""
        if self.count is not None:
            return self
        batches = list(self.batches())
        if not batches:
            raise FeatureError(f"there are no {self.name}: the iterable is empty, or was read before")
        return Given(torch.cat(batches), self.name)


def as_batch(images: object, name: str) -> Tensor:
    """What an iterable yields -> (n, 3, H, W) uint8. FeatureError for anything else.

    Of a tuple or list the first item counts, as data loaders yield (images, labels). A single image (3, H, W) is a batch of one.
    Channels may come last.
    """
    if isinstance(images, tuple | list) and images:
        images = images[0]
    if isinstance(images, np.ndarray):
        images = torch.from_numpy(np.require(images, requirements=["C", "W"]))  # torch warns of read-only memory
    if not isinstance(images, Tensor):
        raise FeatureError(f"{name} contain a {type(images).__name__}: pass uint8 tensors or arrays (N, 3, H, W)")
    images = images.detach()
    if images.dim() == 3:
        images = images[None]
    if images.dim() == 4 and images.shape[1] != 3 and images.shape[3] == 3:
        images = images.permute(0, 3, 1, 2)
    if images.dtype != torch.uint8:
        raise FeatureError(
            f"{name} are {images.dtype}, not uint8: a GAN's [-1, 1] become x.add(1).mul(127.5).round().to(torch.uint8)"
        )
    if images.dim() != 4 or images.shape[1] != 3:
        raise FeatureError(f"{name} have shape {tuple(images.shape)}: pass (N, 3, H, W), grey ones with three equal channels")
    return images.cpu()
