"""Feature statistics of a reference set: computed once and cached as npz under a key that changes with images and network.

A file holds `mu` (d,) and `sigma` (d, d) in float64, as pytorch-fid writes and reads them, and a `card` of JSON text. Files in the
cache are named by a hash of the images' pixels and of all that turns pixels into features: a changed image or weight is another
file.
"""

import contextlib
import hashlib
import io
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data.checksums import sealed_zip, whole_zip
from data.files import UserError, cache_directory, write_atomically

FORMAT = 2  # of what is cached; a new one makes old files unused


class StatisticsError(UserError):
    """A file of statistics can't be used; the message says why."""


@dataclass(frozen=True)
class Statistics:
    """Mean (d,) and covariance (d, d, ddof 1), float64, of `count` images (None where a foreign file doesn't say)."""

    mean: Tensor
    covariance: Tensor
    count: int | None
    card: dict

    def save(self, path: Path) -> None:
        """Write an npz, whole or not at all."""
        buffer = io.BytesIO()
        text = json.dumps({**self.card, "count": self.count})
        np.savez(buffer, mu=self.mean.numpy(), sigma=self.covariance.numpy(), card=np.array(text))
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, sealed_zip(buffer))

    @classmethod
    def load(cls, path: Path) -> "Statistics":
        """Read ours, pytorch-fid's, TTUR's or clean-fid's npz. Nothing is unpickled. StatisticsError for anything else."""
        try:
            if not whole_zip(path):
                raise StatisticsError(f"{path} is damaged: its bytes are not those that were written; make it anew")
            with np.load(path, allow_pickle=False) as file:
                mu, sigma = (torch.from_numpy(file[name].astype(np.float64)) for name in ("mu", "sigma"))
                card = dict(json.loads(str(file["card"]))) if "card" in file else {}
        except StatisticsError:
            raise
        except FileNotFoundError:
            raise StatisticsError(f"there are no statistics at {path}") from None
        except Exception as error:  # foreign or damaged bytes make numpy and zipfile raise a dozen kinds of error
            raise StatisticsError(f"{path} is no npz of plain arrays mu and sigma ({type(error).__name__}); make it anew") from None
        if mu.ndim != 1 or sigma.shape != (len(mu), len(mu)):
            raise StatisticsError(
                f"{path} holds mu {tuple(mu.shape)} and sigma {tuple(sigma.shape)}, which don't fit each other; make it anew"
            )
        count = card.pop("count", None)
        if not (count is None or (type(count) is int and count > 0)):
            raise StatisticsError(f"{path} says that it is of {count!r} images, which is no whole number; make it anew")
        return cls(mu, sigma, count, card)


class Fingerprint:
    """sha256 of uint8 images (n, 3, H, W) that come batch by batch, independent of how they are batched."""

    def __init__(self) -> None:
        self._digest, self._shape = hashlib.sha256(), None

    def update(self, batch: Tensor) -> None:
        self._shape = tuple(batch.shape[1:])
        self._digest.update(batch.contiguous().numpy().data)

    def hexdigest(self) -> str:
        digest = self._digest.copy()
        digest.update(f"{self._shape}".encode())
        return digest.hexdigest()


def fingerprint(batches: Iterable[Tensor]) -> str:
    """The sha256 of all the batches, see Fingerprint."""
    found = Fingerprint()
    for batch in batches:
        found.update(batch)
    return found.hexdigest()


def cached(key: dict, compute: Callable[[], Statistics]) -> Statistics:
    """The statistics for a key (pixels' sha256, features, weights, ...), from the cache or computed and put there."""
    name = hashlib.sha256(json.dumps({**key, "format": FORMAT}, sort_keys=True).encode()).hexdigest()[:32]
    path = cache_directory() / f"{name}.npz"
    with contextlib.suppress(StatisticsError):  # not there, or damaged: then it is computed and written anew
        return Statistics.load(path)
    found = compute()
    with contextlib.suppress(OSError):  # a cache that can't be written only costs time
        found.save(path)  # which also removes what killed processes left there
    return found
