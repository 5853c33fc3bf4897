"""The registry of generator families. To add one, subclass Family and `register` it (docs/extending.md)."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import nn

from gan.kernels import conv2d
from gan.models.frames import DiscriminatorFrame, GeneratorFrame
from gan.models.upsampling import upsample_conv


@dataclass(frozen=True)
class Layers:
    """The layers' settings of one network. Their number, and the proportions of their widths, are the family's plan."""

    kernel: str  # one of gan.kernels.KERNELS
    width: float  # channels per unit of the plan
    norm: str  # batch, spectral (of a discriminator) or none
    upsampling: str = "nearest"  # one of gan.models.upsampling.UPSAMPLINGS; of a generator
    multiple: int = 1  # of which every channel count is one; of a generator
    fuse: bool = False  # computes resampling and the convolution beside it as one where that is faster (gan.fusing)
    padding: str = "zeros"  # one of gan.padding.PADDINGS
    flat: int = 0  # more layers of the same size at each resolution; of a generator

    def conv(self, in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
        """The kernel: (N, in, H, W) -> (N, out, H / stride, W / stride)."""
        return conv2d(self.kernel, in_channels, out_channels, stride, padding_mode=self.padding)

    def up(self, in_channels: int, out_channels: int) -> nn.Module:
        """The upsampling and the kernel: (N, in, H, W) -> (N, out, 2H, 2W)."""
        return upsample_conv(self.upsampling, self.kernel, in_channels, out_channels, self.fuse, self.padding)


class Family(ABC):
    """A generator and a discriminator that were published together, at any resolution R that `dataset.resolution` can name.

    A setting that a user leaves null becomes what `published_generator` or `published_discriminator` says.
    """

    flat_layers = False  # whether its generator adds `layers.flat` layers of the same size at each resolution

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
