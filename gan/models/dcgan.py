"""DCGAN (Radford et al. 2016) and the "standard CNN" of the spectral-norm paper (Miyato et al. 2018, table 3), at any size.

Both are a stack of up-layers against a stack of strided layers; they differ in where the stack starts, how it ends, and what stands
between the strided layers.
"""

import itertools
from dataclasses import dataclass

from torch import Tensor, nn

from gan.kernels import conv2d
from gan.models.families import Family, Layers, register
from gan.models.frames import DiscriminatorFrame, GeneratorFrame
from gan.models.layers import add_spectral_norm, channel_counts, init_normal, norm_layer
from gan.models.sizes import seed_map

WIDEST = 16  # channels per unit of width: those of 128 pixels, at 256 too


@dataclass(frozen=True)
class Variant(Family):
    """What tells the two papers' networks apart."""

    flat_layers = True

    width: int  # of both networks
    generator_kernel: str
    discriminator_kernel: str
    discriminator_norm: str
    doublings: int | None  # of G, from a map as D ends with; None: as many as gan.models.sizes says
    norm_on_seed: bool  # a norm and a ReLU before the first up-layer
    paints_with_last_up_layer: bool  # else a c3 does, after the last one
    same_size_layers_in_discriminator: bool  # of the kernel, around strided c4; else the strided layers have the kernel
    slope: float  # of the discriminator's leaky ReLU

    def smallest(self, resolution: int) -> tuple[int, int]:
        """The side of the smallest map, and how many doublings lead from it to R."""
        return (resolution // 2**self.doublings, self.doublings) if self.doublings else seed_map(resolution)

    def published_generator(self, resolution: int) -> Layers:
        return Layers(self.generator_kernel, self.width, "batch", "transposed")

    def published_discriminator(self, resolution: int) -> Layers:
        return Layers(self.discriminator_kernel, self.width, self.discriminator_norm)

    def generator(self, resolution: int, latent: int, layers: Layers) -> "Generator":
        return Generator(self, resolution, latent, layers)

    def discriminator(self, resolution: int, layers: Layers) -> "Discriminator":
        return Discriminator(self, resolution, layers)


class Generator(GeneratorFrame):
    """z (N, latent) -> images (N, 3, R, R) in [-1, 1].

    A seed map of S x S, then up-layers that double it and halve its channels; all of them have the kernel and the upsampling.
    dcgan: S as gan.models.sizes says, 4 for a power of two; the last up-layer paints, from w channels. cnn: S = R/8, 8w channels,
    and a c3 paints from w channels.
    layers.flat more layers of the kernel follow the seed map and every up-layer that doesn't paint.
    """

    def __init__(self, variant: Variant, resolution: int, latent: int, layers: Layers):
        super().__init__()
        size, ups = variant.smallest(resolution)
        plan = tuple(min(2.0**i, WIDEST) for i in reversed(range(ups if variant.paints_with_last_up_layer else ups + 1)))
        channels = channel_counts(plan, layers.width, layers.multiple)

        self.latent = latent
        self.seed = (channels[0], size, size)
        self.project = nn.Linear(latent, channels[0] * size * size)
        trunk = [norm_layer(layers.norm, channels[0]), nn.ReLU(inplace=True)] if variant.norm_on_seed else []
        trunk += _flat(layers, channels[0])
        for c_in, c_out in itertools.pairwise(channels):
            trunk += [layers.up(c_in, c_out), norm_layer(layers.norm, c_out), nn.ReLU(inplace=True), *_flat(layers, c_out)]
        if variant.paints_with_last_up_layer:
            trunk += [layers.up(channels[-1], 3)]
        else:
            trunk += [conv2d("c3", channels[-1], 3, padding_mode=layers.padding)]
        self.trunk = nn.Sequential(*trunk, nn.Tanh())
        init_normal(self)


def _flat(layers: Layers, channels: int) -> list[nn.Module]:
    """layers.flat times kernel, norm, ReLU."""
    flat: list[nn.Module] = []
    for _ in range(layers.flat):
        flat += [layers.conv(channels, channels), norm_layer(layers.norm, channels), nn.ReLU(inplace=True)]
    return flat


class Discriminator(DiscriminatorFrame):
    """Images (N, 3, R, R) in [-1, 1] -> logits (N,).

    dcgan: strided layers of the kernel down to S x S, from w channels doubling. cnn: the kernel at stride 1, alternating with
    strided c4, from w channels to 8w at R/8. Batch norm, where asked for, spares the first layer, as Radford et al. advise.
    """

    def __init__(self, variant: Variant, resolution: int, layers: Layers):
        super().__init__()
        size, downs = variant.smallest(resolution)
        if variant.same_size_layers_in_discriminator:
            plan = [(layers.kernel, 1, 1)]
            for i in range(1, downs + 1):
                plan += [("c4", 2, 2**i), (layers.kernel, 1, 2**i)]
        else:
            plan = [(layers.kernel, 2, min(2**i, WIDEST)) for i in range(downs)]
        features: list[nn.Module] = []
        c_in = 3
        for i, (kernel, stride, part) in enumerate(plan):
            (c_out,) = channel_counts((part,), layers.width, layers.multiple)
            features += [conv2d(kernel, c_in, c_out, stride, padding_mode=layers.padding)]
            features += [norm_layer(layers.norm if i else "none", c_out), nn.LeakyReLU(variant.slope, inplace=True)]
            c_in = c_out
        self.features = nn.Sequential(*features)
        self.head = nn.Linear(c_in * size**2, 1)
        init_normal(self)
        if layers.norm == "spectral":
            add_spectral_norm(self)

    def pool(self, x: Tensor) -> Tensor:
        return x.flatten(1)


# Radford et al.: 4x4x8w seed map at 64 pixels, w = 128, 1024 channels; k = 4 as in every later implementation.
register(
    "dcgan",
    Variant(
        width=128,
        generator_kernel="c4",
        discriminator_kernel="c4",
        discriminator_norm="batch",
        doublings=None,
        norm_on_seed=True,
        paints_with_last_up_layer=True,
        same_size_layers_in_discriminator=False,
        slope=0.2,
    ),
)
# Miyato et al.: three up-layers from R/8 to R and a 3x3 layer; D alternates 3x3 and strided 4x4 layers.
register(
    "cnn",
    Variant(
        width=64,
        generator_kernel="c4",
        discriminator_kernel="c3",
        discriminator_norm="spectral",
        doublings=3,
        norm_on_seed=False,
        paints_with_last_up_layer=False,
        same_size_layers_in_discriminator=True,
        slope=0.1,
    ),
)
