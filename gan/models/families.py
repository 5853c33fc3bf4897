"""The registry of generator families. To add one, subclass Family and `register` it (docs/extending.md)."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from gan.models.frames import DiscriminatorFrame, GeneratorFrame


@dataclass(frozen=True)
class Layers:
    """What the layers of one network are made of. How many there are, and in which proportion of widths, is the family's plan."""

    kernel: str  # one of gan.kernels.KERNELS
    width: float  # channels per unit of the plan
    norm: str  # batch, spectral (of a discriminator) or none
    upsampling: str = "nearest"  # one of gan.models.upsampling.UPSAMPLINGS; of a generator
    multiple: int = 1  # of which every channel count is one; of a generator
    fuse: bool = False  # computes resampling and the convolution beside it as one where that is faster (gan.fusing)


class Family(ABC):
    """A generator and a discriminator that were published together, at any resolution R that `dataset.resolution` can name.

    A setting that a user leaves null becomes what `published_generator` or `published_discriminator` says.
    """

    @abstractmethod
    def published_generator(self, resolution: int) -> Layers: ...

    @abstractmethod
    def published_discriminator(self, resolution: int) -> Layers: ...

    @abstractmethod
    def generator(self, resolution: int, latent: int, layers: Layers) -> GeneratorFrame:
        """z (N, latent) -> images (N, 3, R, R) in [-1, 1], with initial weights from torch's global generator."""

    @abstractmethod
    def discriminator(self, resolution: int, layers: Layers) -> DiscriminatorFrame:
        """Images (N, 3, R, R) in [-1, 1] -> logits (N,), with initial weights from torch's global generator."""


FAMILIES: dict[str, Family] = {}


def register(name: str, family: Family) -> None:
    """Let `generator.family` and `discriminator.family` name this family. ValueError for a name that is taken."""
    if name in FAMILIES:
        raise ValueError(f"there is a family {name!r} already; choose another name")
    FAMILIES[name] = family
