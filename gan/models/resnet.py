"""Residual generators and discriminators at any size, all from one pair of blocks.

sngan      Miyato et al. 2018: up to 32 pixels table 4 (block widths 256 in G, 128 in D), for 48 table 5 (512 down to 64 in G), for
           128 table 6 (1024 down to 64); other sizes by their doublings, six of them as Brock et al. 2019 (BigGAN, 256 pixels)
wgan_gp    Gulrajani et al. 2017, CIFAR-10 ResNet up to 32 pixels (width 128, no norm in D, mean pooling); larger ones follow the
           sngan plan at half the widest layers, where that paper gives no such net
landscape  Kurach et al. 2019, The GAN Landscape: `resnet_cifar` up to 32 pixels, `resnet5` beyond. 3x3 shortcuts, zero insertion,
           images in [0, 1]: the nets whose parameter counts match those reported by Wu et al. 2019
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import sqrt

import torch
from torch import Tensor, nn

from gan.fusing import sequential
from gan.models.families import Family, Layers, register
from gan.models.frames import DiscriminatorFrame, GeneratorFrame
from gan.models.layers import add_spectral_norm, channel_counts, init_normal, norm_layer
from gan.models.sizes import halvings, seed_map
from gan.models.upsampling import FILLERS, filler


@dataclass(frozen=True)
class Style:
    """What a family does everywhere, whatever the resolution."""

    discriminator_norm: str = "spectral"
    upsampling: str = "nearest"
    pool: str = "sum"  # how D reduces its last map: sum or mean
    spatial_shortcut: bool = False  # shortcuts use the kernel, in every block; otherwise 1x1, where the shape changes
    unit_range: bool = False  # sigmoid output and [0, 1] input instead of tanh and [-1, 1]
    normal_weights: bool = False  # initial ones from N(0, 0.02) instead of Glorot's


@dataclass(frozen=True)
class Plan:
    """Channels per block in units of width; the generator's first entry is its seed map."""

    generator_width: int
    generator: tuple[float, ...]
    discriminator_width: int
    discriminator: tuple[float, ...]
    downs: int  # how many of D's blocks, from the first, halve the map, where it can be halved


def small_plan(resolution: int, width: int) -> Plan:
    """Up to 32 pixels: blocks of one width, as many as there are doublings."""
    _, doublings = seed_map(resolution)
    return Plan(width, (1,) * (doublings + 1), 128, (1, 1, 1, 1), downs=2)


MIYATO = {  # by doublings: 48 (table 5), 64, 128 (table 6) and 256 pixels
    3: Plan(64, (8, 4, 2, 1), 64, (1, 2, 4, 8, 16), downs=4),
    4: Plan(64, (16, 8, 4, 2, 1), 64, (1, 2, 4, 8, 16), downs=5),
    5: Plan(64, (16, 16, 8, 4, 2, 1), 64, (1, 2, 4, 8, 16, 16), downs=5),
    6: Plan(64, (16, 16, 8, 8, 4, 2, 1), 64, (1, 2, 4, 8, 8, 16, 16), downs=6),
}


def miyato_plan(resolution: int, small: int = 256, widest: int = 16) -> Plan:
    """small: width up to 32 pixels. widest: the most channels per unit of width beyond that."""
    if resolution <= 32:
        return small_plan(resolution, small)
    plan = MIYATO[seed_map(resolution)[1]]
    generator, discriminator = (tuple(min(c, widest) for c in counts) for counts in (plan.generator, plan.discriminator))
    return Plan(plan.generator_width, generator, plan.discriminator_width, discriminator, plan.downs)


def kurach_plan(resolution: int) -> Plan:
    """resnet5 has five blocks in G, of which those behind the last doubling keep the size; for a sixth doubling one more."""
    if resolution <= 32:
        return small_plan(resolution, 256)
    sixth = (8,) if seed_map(resolution)[1] == 6 else ()
    return Plan(64, (*sixth, 8, 8, 4, 4, 2, 1), 64, (1, 2, 4, 4, 8, 8), downs=6)


class UpBlock(nn.Module):
    """(N, in, H, W) -> (N, out, 2H, 2W), or (N, out, H, W) where `up` is false.

        y = conv(relu(norm(up_conv(relu(norm(x)))))) + shortcut(x)

    The 1x1 shortcut runs before the map is doubled: the same picture for a quarter of the work (except for the bias, which unpool
    leaves where the values are, and binomial weakens at the border).
    """

    def __init__(self, c_in: int, c_out: int, layers: Layers, up: bool, spatial_shortcut: bool):
        super().__init__()

        def widen() -> nn.Module:
            if up:
                return layers.up(c_in, c_out)
            return layers.conv(c_in, c_out)

        self.residual = nn.Sequential(
            norm_layer(layers.norm, c_in),
            nn.ReLU(inplace=layers.norm == "batch"),  # without a norm, x itself goes on to the shortcut
            widen(),
            norm_layer(layers.norm, c_out),
            nn.ReLU(inplace=True),
            layers.conv(c_out, c_out),
        )
        if spatial_shortcut:
            self.shortcut = widen()
        elif up:
            fill = layers.upsampling if layers.upsampling in FILLERS else "nearest"
            self.shortcut = nn.Sequential(nn.Conv2d(c_in, c_out, 1), filler(fill, layers.padding))
        else:
            self.shortcut = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.residual(x) + self.shortcut(x)


class DownBlock(nn.Module):
    """(N, in, H, W) -> (N, out, H/2, W/2), or (N, out, H, W) where `down` is false.

        y = pool(conv(relu(conv(relu(x))))) + shortcut(x),   the first block without its first relu, as x is the image

    The 1x1 shortcut runs after the 2x2 average: equal, for a quarter of the work.
    """

    def __init__(self, c_in: int, c_out: int, layers: Layers, down: bool, spatial_shortcut: bool, first: bool):
        super().__init__()
        pool = [nn.AvgPool2d(2)] if down else []
        hidden = c_out if first or spatial_shortcut else c_in
        before = [] if first else [norm_layer(layers.norm, c_in), nn.ReLU(inplace=layers.norm == "batch")]
        residual = [
            *before,
            layers.conv(c_in, hidden),
            norm_layer(layers.norm, hidden),
            nn.ReLU(inplace=True),
            layers.conv(hidden, c_out),
            *pool,
        ]
        self.residual = sequential(residual, layers.fuse)
        if spatial_shortcut:
            self.shortcut = sequential([layers.conv(c_in, c_out), *pool], layers.fuse)
        elif down or c_in != c_out:
            self.shortcut = nn.Sequential(*pool, nn.Conv2d(c_in, c_out, 1))
        else:
            self.shortcut = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.residual(x) + self.shortcut(x)


class FlatLayer(nn.Sequential):
    """(N, C, H, W) -> the same: conv(relu(norm(x))), without a shortcut, so that what it shifts stays shifted."""

    def __init__(self, channels: int, layers: Layers):
        relu = nn.ReLU(inplace=layers.norm == "batch")
        super().__init__(norm_layer(layers.norm, channels), relu, layers.conv(channels, channels))


def _flat(layers: Layers, channels: int) -> list[nn.Module]:
    return [FlatLayer(channels, layers) for _ in range(layers.flat)]


class Generator(GeneratorFrame):
    """z (N, latent) -> images (N, 3, R, R) in [-1, 1]. Every spatial layer has the kernel, the one that paints included.

    layers.flat more layers of the kernel follow the seed map and every block.
    """

    def __init__(self, style: Style, plan: Plan, resolution: int, latent: int, layers: Layers):
        super().__init__()
        channels = channel_counts(plan.generator, layers.width, layers.multiple)
        side, ups = seed_map(resolution)
        self.latent = latent
        self.seed = (channels[0], side, side)
        self.project = nn.Linear(latent, channels[0] * side * side)
        blocks: list[nn.Module] = _flat(layers, channels[0])
        for i, (c_in, c_out) in enumerate(itertools.pairwise(channels)):
            blocks += [UpBlock(c_in, c_out, layers, i < ups, style.spatial_shortcut), *_flat(layers, c_out)]
        self.trunk = nn.Sequential(
            *blocks,
            norm_layer(layers.norm, channels[-1]),
            nn.ReLU(inplace=True),
            layers.conv(channels[-1], 3),
            UnitRangeOutput() if style.unit_range else nn.Tanh(),
        )
        init_normal(self) if style.normal_weights else init_xavier(self)


class Discriminator(DiscriminatorFrame):
    """Images (N, 3, R, R) in [-1, 1] -> logits (N,)."""

    def __init__(self, style: Style, plan: Plan, resolution: int, layers: Layers):
        super().__init__()
        channels = [3, *channel_counts(plan.discriminator, layers.width, layers.multiple)]
        downs = min(plan.downs, halvings(resolution))
        self.unit_range, self.mean = style.unit_range, style.pool == "mean"
        self.features = nn.Sequential(
            *(
                DownBlock(c_in, c_out, layers, i < downs, style.spatial_shortcut, first=i == 0)
                for i, (c_in, c_out) in enumerate(itertools.pairwise(channels))
            ),
            nn.ReLU(inplace=True),
        )
        self.head = nn.Linear(channels[-1], 1)
        init_normal(self) if style.normal_weights else init_xavier(self)
        if layers.norm == "spectral":
            add_spectral_norm(self)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        return super().forward((x + 1) / 2 if self.unit_range else x, labels)

    def pool(self, x: Tensor) -> Tensor:
        return x.mean(dim=(2, 3)) if self.mean else x.sum(dim=(2, 3))


class UnitRangeOutput(nn.Module):
    """A sigmoid picture in [0, 1], stretched to [-1, 1] like every other family's."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * torch.sigmoid(x) - 1


def init_xavier(module: nn.Module) -> None:
    """Glorot uniform; gain sqrt(2) in residual branches and flat layers, 1 on shortcuts, seed and output; zero biases.

    Miyato et al. 2018.
    """
    inside = {layer for block in module.modules() if isinstance(block, UpBlock | DownBlock) for layer in block.residual.modules()}
    inside |= {layer for block in module.modules() if isinstance(block, FlatLayer) for layer in block}
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.xavier_uniform_(layer.weight, sqrt(2) if layer in inside else 1.0)
            nn.init.zeros_(layer.bias)


class Residual(Family):
    """The family of a style, and of what makes a plan for each resolution."""

    flat_layers = True

    def __init__(self, style: Style, plan: Callable[[int], Plan]):
        self.style, self.plan = style, plan

    def published_generator(self, resolution: int) -> Layers:
        return Layers("c3", self.plan(resolution).generator_width, "batch", self.style.upsampling)

    def published_discriminator(self, resolution: int) -> Layers:
        return Layers("c3", self.plan(resolution).discriminator_width, self.style.discriminator_norm)

    def generator(self, resolution: int, latent: int, layers: Layers) -> Generator:
        return Generator(self.style, self.plan(resolution), resolution, latent, layers)

    def discriminator(self, resolution: int, layers: Layers) -> Discriminator:
        return Discriminator(self.style, self.plan(resolution), resolution, layers)


register("sngan", Residual(Style(), miyato_plan))
register("wgan_gp", Residual(Style(discriminator_norm="none", pool="mean"), partial(miyato_plan, small=128, widest=8)))
register(
    "landscape",
    Residual(
        Style(upsampling="unpool", pool="mean", spatial_shortcut=True, unit_range=True, normal_weights=True),
        kurach_plan,
    ),
)
