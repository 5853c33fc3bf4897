"""DCGAN (Radford et al. 2016) and the "standard CNN" of the spectral-norm paper (Miyato et al. 2018, table 3), 32 to 128 pixels.

Both are a stack of up-layers against a stack of strided layers; they differ in where the stack starts, how it ends, and what stands
between the strided layers.
"""

import itertools
from dataclasses import dataclass
from math import log2

from torch import Tensor, nn

from gan.kernels import conv2d
from gan.models.frames import DiscriminatorFrame, GeneratorFrame
from gan.models.layers import add_spectral_norm, channel_counts, init_normal, norm_layer
from gan.models.upsampling import upsample_conv


@dataclass(frozen=True)
class Variant:
    width: int  # of both networks
    generator_kernel: str
    discriminator_kernel: str
    generator_norm: str
    discriminator_norm: str
    slope: float  # of the discriminator's leaky ReLU
    radford: bool  # last up-layer paints the picture, norm on the seed map, no stride-1 layers in D
    upsampling: str = "transposed"


VARIANTS = {
    # Radford et al.: 4x4x8w seed map at 64 pixels, w = 128, 1024 channels; k = 4 as in every later implementation.
    "dcgan": Variant(128, "c4", "c4", "batch", "batch", 0.2, radford=True),
    # Miyato et al.: three up-layers from R/8 to R and a 3x3 layer; D alternates 3x3 and strided 4x4 layers.
    "cnn": Variant(64, "c4", "c3", "batch", "spectral", 0.1, radford=False),
}


class Generator(GeneratorFrame):
    """z (N, latent) -> images (N, 3, R, R) in [-1, 1].

    dcgan: 4x4 seed map of w R/8 channels, halved by each up-layer; the last one paints. cnn: R/8 seed map of 8w channels, three
    up-layers to w channels and a c3 that paints. `kernel` and `upsampling` are those of the up-layers.
    """

    def __init__(
        self, family: str, resolution: int, kernel: str, upsampling: str, width: float, latent: int, norm: str, multiple: int = 1
    ):  # fmt: skip
        super().__init__()
        variant = VARIANTS[family]
        size = 4 if variant.radford else resolution // 8
        ups = int(log2(resolution // size))
        plan = tuple(2.0**i for i in reversed(range(ups))) if variant.radford else (8, 4, 2, 1)
        channels = channel_counts(plan, width, multiple)

        self.latent = latent
        self.seed = (channels[0], size, size)
        self.project = nn.Linear(latent, channels[0] * size * size)
        layers = [norm_layer(norm, channels[0]), nn.ReLU(inplace=True)] if variant.radford else []
        for c_in, c_out in itertools.pairwise(channels):
            layers += [upsample_conv(upsampling, kernel, c_in, c_out), norm_layer(norm, c_out), nn.ReLU(inplace=True)]
        if variant.radford:
            layers += [upsample_conv(upsampling, kernel, channels[-1], 3)]
        else:
            layers += [conv2d("c3", channels[-1], 3)]
        self.trunk = nn.Sequential(*layers, nn.Tanh())
        init_normal(self)


class Discriminator(DiscriminatorFrame):
    """Images (N, 3, R, R) in [-1, 1] -> logits (N,).

    dcgan: strided layers of `kernel` down to 4x4, from w channels doubling. cnn: `kernel` at stride 1, alternating with strided
    c4, from w channels to 8w at R/8. Batch norm, where asked for, spares the first layer, as Radford et al. advise.
    """

    def __init__(self, family: str, resolution: int, kernel: str, width: float, norm: str):
        super().__init__()
        variant = VARIANTS[family]
        if variant.radford:
            downs = int(log2(resolution // 4))
            plan = [(kernel, 2, 2**i) for i in range(downs)]
        else:
            downs = 3
            plan = [(kernel, 1, 1)]
            for i in range(1, 4):
                plan += [("c4", 2, 2**i), (kernel, 1, 2**i)]
        layers: list[nn.Module] = []
        c_in = 3
        for i, (k, stride, part) in enumerate(plan):
            (c_out,) = channel_counts((part,), width, 1)
            layers += [conv2d(k, c_in, c_out, stride)]
            layers += [norm_layer(norm if i else "none", c_out), nn.LeakyReLU(variant.slope, inplace=True)]
            c_in = c_out
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(c_in * (resolution >> downs) ** 2, 1)
        init_normal(self)
        if norm == "spectral":
            add_spectral_norm(self)

    def pool(self, x: Tensor) -> Tensor:
        return x.flatten(1)
