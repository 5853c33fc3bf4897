"""The order in which training reads images, as a function of (seed, position): nothing to save, nothing to restore."""

import hashlib
import threading

import torch
from torch import Tensor

MIXED = 32  # blocks that are shuffled among each other


class EpochOrder:
    """An endless sequence of epochs, each a new permutation of all images.

    Two objects with the same (count, seed, block) agree at every position, whatever was read before: so a resumed run, or a run
    with another kernel, sees the same batches. Threads may share one object.
    """

    def __init__(self, count: int, seed: int, block: int = 1):
        """count: number of images, at least 1 (ValueError otherwise); seed: any integer.

        block: 1 shuffles all images. More keeps blocks of consecutive images near each other, for disks with slow random access:
        whole blocks are shuffled, then the images within windows of MIXED blocks.
        """
        if count < 1 or block < 1:
            raise ValueError(f"an order needs at least 1 image and blocks of at least 1, not {count} and {block}")
        self.count, self.seed, self.block = count, seed, block
        self._permutations: dict[int, Tensor] = {}  # epoch -> (count,) int64; at most two, for a batch across a border
        self._lock = threading.Lock()

    @property
    def window(self) -> int:
        """How many images in a row come from the same few blocks."""
        return MIXED * self.block if self.block > 1 else 1

    def indices(self, position: int, n: int) -> Tensor:
        """The images at positions position .. position + n - 1.

        Returns: (n,) int64 on the CPU, values in 0 .. count - 1. Raises ValueError when position or n is negative.
        """
        if position < 0 or n < 0:
            raise ValueError(f"position and n must not be negative, but are {position} and {n}")
        pieces = [torch.empty(0, dtype=torch.int64)]
        while n > 0:
            epoch, start = divmod(position, self.count)
            piece = self._permutation(epoch)[start : start + n]
            pieces.append(piece)
            position, n = position + len(piece), n - len(piece)
        return torch.cat(pieces)  # always a copy: writing to it can't spoil the cache

    def _permutation(self, epoch: int) -> Tensor:
        with self._lock:
            return self._kept(epoch)

    def _kept(self, epoch: int) -> Tensor:
        if epoch not in self._permutations:
            # A hash, not seed + epoch: epoch 1 of seed 0 must not be epoch 0 of seed 1.
            digest = hashlib.blake2b(f"{self.seed},{epoch}".encode(), digest_size=8).digest()
            generator = torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)  # 63 bits
            while len(self._permutations) >= 2:
                del self._permutations[next(iter(self._permutations))]
            self._permutations[epoch] = self._shuffled(generator)
        return self._permutations[epoch]

    def _shuffled(self, generator: torch.Generator) -> Tensor:
        if self.block == 1:
            return torch.randperm(self.count, generator=generator)
        blocks = torch.randperm(-(-self.count // self.block), generator=generator)
        images = (blocks[:, None] * self.block + torch.arange(self.block)).flatten()  # (blocks · block,)
        images = images[images < self.count]
        pieces = [piece[torch.randperm(len(piece), generator=generator)] for piece in images.split(self.window)]
        return torch.cat(pieces)
