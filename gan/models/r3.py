"""The networks of R3GAN (Huang et al. 2024, "The GAN is dead; long live the GAN!", NeurIPS, arXiv 2501.05441), at any kernel.

    x + 1x1(lrelu(kxk(lrelu(1x1(x)))))      the block: no norm, the last layer initially 0, nothing but additions on the way through

Generator: a learned SxS basis scaled by z, then stages of two blocks, doubled in between. Discriminator: the same mirrored, down to
SxS, where an SxS depthwise layer and a linear one end it. S is 4, as published, where R is a power of two (gan.models.sizes). Maps
are resampled by [1 3 3 1], which has no kernel of its own.

r3          kxk is dense and the inner width that of the map: 9/11 of a block's parameters are in a 3x3, so that a kernel can show
r3_grouped  as published: the inner width is doubled and kxk has groups of 16 channels, 9 % of the parameters
"""

import itertools
from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor, nn

from data.files import UserError
from gan.kernels import conv2d
from gan.models.binomial import BinomialDown
from gan.models.conditioning import embedding
from gan.models.families import Family, Layers, register
from gan.models.frames import DiscriminatorFrame, GeneratorFrame
from gan.models.layers import channel_counts, normal_
from gan.models.sizes import seed_map
from gan.models.upsampling import FILLERS, filler

WIDTH = 768  # of the first four stages, up to 32 pixels from 4; halved at each doubling after that
BLOCKS = 2  # per stage
SLOPE = 0.2  # of the leaky ReLU
GAIN = sqrt(2 / (1 + SLOPE**2))  # which keeps the variance (He et al. 2015, eq. 15)


@dataclass(frozen=True)
class Style:
    """What tells the two families apart."""

    expansion: int  # inner channels of a block per channel of the map
    group: int | None  # channels of a kxk layer's group; None: one group


class Block(nn.Module):
    """(N, C, H, W) -> the same. depth: blocks in the network, by which the initial weights shrink.

    Initial weights: N(0, gain²/fan in), smaller by depth^(-1/4); 0 in the last layer (Fixup for three layers, Zhang et al. 2019).
    """

    def __init__(self, channels: int, layers: Layers, style: Style, depth: int):
        super().__init__()
        inner = channels * style.expansion
        groups = inner // style.group if style.group else 1
        self.residual = nn.Sequential(
            nn.Conv2d(channels, inner, 1),
            nn.LeakyReLU(SLOPE, inplace=True),
            conv2d(layers.kernel, inner, inner, groups=groups, padding_mode=layers.padding),
            nn.LeakyReLU(SLOPE, inplace=True),
            nn.Conv2d(inner, channels, 1, bias=False),
        )
        first, _, spatial, _, last = self.residual
        for layer in (first, spatial):
            init_fan_in(layer, GAIN * depth**-0.25)
        nn.init.zeros_(last.weight)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.residual(x)


class Basis(nn.Module):
    """z (N, latent) -> (N, C * S * S): each of C learned SxS maps, times its number from a linear layer of z."""

    def __init__(self, latent: int, channels: int, side: int):
        super().__init__()
        self.maps = nn.Parameter(torch.empty(channels, side, side))
        self.linear = init_fan_in(nn.Linear(latent, channels, bias=False))
        normal_(self.maps)

    def forward(self, z: Tensor) -> Tensor:
        return (self.linear(z)[:, :, None] * self.maps.flatten(1)).flatten(1)


class Generator(GeneratorFrame):
    """z (N, latent) -> images (N, 3, R, R), around [-1, 1] but not bounded: as published, no activation ends it."""

    def __init__(self, style: Style, channels: list[int], side: int, latent: int, layers: Layers):
        super().__init__()
        self.latent = latent
        self.seed = (channels[0], side, side)
        self.project = Basis(latent, channels[0], side)
        blocks = lambda c: [Block(c, layers, style, BLOCKS * len(channels)) for _ in range(BLOCKS)]
        trunk = blocks(channels[0])
        for c_in, c_out in itertools.pairwise(channels):
            change = [] if c_in == c_out else [init_fan_in(nn.Conv2d(c_in, c_out, 1, bias=False))]
            trunk += [nn.Sequential(*change, filler(layers.upsampling, layers.padding)), *blocks(c_out)]
        self.trunk = nn.Sequential(*trunk, init_fan_in(nn.Conv2d(channels[-1], 3, 1, bias=False)))


class Discriminator(DiscriminatorFrame):
    """Images (N, 3, R, R) in [-1, 1] -> logits (N,)."""

    def __init__(self, style: Style, channels: list[int], side: int, layers: Layers):
        super().__init__()
        blocks = lambda c: [Block(c, layers, style, BLOCKS * len(channels)) for _ in range(BLOCKS)]
        features = [init_fan_in(nn.Conv2d(3, channels[0], 1, bias=False)), *blocks(channels[0])]
        for c_in, c_out in itertools.pairwise(channels):
            change = [] if c_in == c_out else [init_fan_in(nn.Conv2d(c_in, c_out, 1, bias=False))]
            features += [nn.Sequential(BinomialDown(layers.padding), *change), *blocks(c_out)]
        self.features = nn.Sequential(*features)
        self.basis = init_fan_in(nn.Conv2d(channels[-1], channels[-1], side, groups=channels[-1], bias=False))
        self.head = init_fan_in(nn.Linear(channels[-1], 1, bias=False))

    def pool(self, x: Tensor) -> Tensor:
        return self.basis(x).flatten(1)

    def condition(self, classes: int) -> None:
        """As published, the head gives as many numbers as it takes, instead of one, and the class is all that weighs them."""
        self.classes = classes
        size = self.head.in_features
        self.head = init_fan_in(nn.Linear(size, size, bias=False))
        self.embed = embedding(classes, size, 1 / sqrt(size))

    def judge(self, h: Tensor, shares: Tensor) -> Tensor:
        """<embed(y), head(h)>"""
        return (self.embed(shares) * self.head(h)).sum(dim=1)


def init_fan_in(layer: nn.Module, gain: float = 1.0) -> nn.Module:
    """Weights from N(0, gain² / fan in), zero biases; returns the layer."""
    normal_(layer.weight, 0.0, gain / sqrt(layer.weight[0].numel()))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class R3(Family):
    """The family of a style. UserError for a norm, which it has none of, and for an upsampling that has weights."""

    def __init__(self, style: Style):
        self.style = style

    def published_generator(self, resolution: int) -> Layers:
        return Layers("c3", WIDTH, "none", "binomial")

    def published_discriminator(self, resolution: int) -> Layers:
        return Layers("c3", WIDTH, "none")

    def channels(self, resolution: int, layers: Layers) -> list[int]:
        """Of the maps from S x S to R x R; where the inner layers have groups, in whole ones."""
        if layers.norm != "none":
            raise UserError(f"the r3 networks have no norm: leave {layers.norm!r} out, or choose another family")
        _, doublings = seed_map(resolution)
        plan = tuple(min(1.0, 2.0 ** (3 - stage)) for stage in range(doublings + 1))
        whole = self.style.group // self.style.expansion if self.style.group else 1
        multiple = layers.multiple if layers.multiple % whole == 0 else max(layers.multiple, whole)
        return channel_counts(plan, layers.width, multiple)

    def generator(self, resolution: int, latent: int, layers: Layers) -> Generator:
        if layers.upsampling not in FILLERS:
            raise UserError(
                f"the r3 generators upsample without weights: generator.upsampling={layers.upsampling} can't be; "
                f"choose one of {', '.join(FILLERS)}"
            )
        return Generator(self.style, self.channels(resolution, layers), seed_map(resolution)[0], latent, layers)

    def discriminator(self, resolution: int, layers: Layers) -> Discriminator:
        return Discriminator(self.style, self.channels(resolution, layers)[::-1], seed_map(resolution)[0], layers)


register("r3", R3(Style(expansion=1, group=None)))
register("r3_grouped", R3(Style(expansion=2, group=16)))
