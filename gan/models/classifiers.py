"""The image classifiers of Wu et al. 2019: CIFAR ResNets and DenseNets, with every 3x3 convolution replaced by any kernel.

resnet     depth 6n + 2, three stages of n blocks, widths w, 2w, 4w (He et al. 2016), with the blocks of compact_blocks.py
densenet   DenseNet-BC, depth 6n + 4, growth k, compression 1/2 (Huang et al. 2017). "Wide-DenseNet" is a large k at a small depth

Wu et al. 2019 replace each C3 at unchanged width, the first convolution included. Both take pictures of any size.
"""

from math import sqrt

import torch
from torch import Tensor, nn

from gan.kernels import conv2d, turn_corners
from gan.models.compact_blocks import ResidualBlock, norm_relu, pointwise, through
from gan.models.layers import normal_

FAMILIES = ("resnet", "densenet")


class Classifier(nn.Module):
    """Normalised images (N, 3, H, W) -> logits (N, classes).

    features: (N, 3, H, W) -> the last map (N, dim, H/4, W/4), after norm and relu;  embed: -> its mean over positions (N, dim).
    """

    def __init__(self, layers: list[nn.Module], dim: int, classes: int):
        super().__init__()
        self.dim, self.classes = dim, classes
        self.features = nn.Sequential(*layers, *norm_relu(dim))
        self.head = nn.Linear(dim, classes)
        turn_corners(self)
        init_he(self)

    def embed(self, x: Tensor) -> Tensor:
        return self.features(x).float().mean(dim=(2, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.embed(x))


def build_classifier(family: str, kernel: str = "c3", depth: int = 20, classes: int = 10, **shape) -> Classifier:
    """A classifier with initial weights from torch's global generator.

    shape: width (16 channels in the first stage), block (basic) and expansion (6) of a resnet, growth (12) of a densenet; what the
    family has no use for does nothing. ValueError for a depth that the family does not have.
    """
    builders = {"resnet": (resnet, ("width", "block", "expansion")), "densenet": (densenet, ("growth",))}
    if family not in builders:
        raise ValueError(f"unknown family {family!r}: choose one of {', '.join(FAMILIES)}")
    if unknown := shape.keys() - {name for _, names in builders.values() for name in names}:
        raise TypeError(f"build_classifier takes no {', '.join(sorted(unknown))}")
    builder, used = builders[family]
    return builder(kernel, depth, classes, **{name: shape[name] for name in used if name in shape})


def resnet(kernel: str, depth: int, classes: int, width: int = 16, block: str = "basic", expansion: int = 6) -> Classifier:
    """A pre-activation CIFAR ResNet of depth 6n + 2. ValueError for another depth."""
    n = blocks_per_stage("resnet", depth)
    layers: list[nn.Module] = [conv2d(kernel, 3, width, bias=False)]
    channels = width
    for stage in range(3):
        for i in range(n):
            wider = width * 2**stage
            layers.append(ResidualBlock(block, channels, wider, kernel, expansion, down=stage > 0 and i == 0))
            channels = wider
    return Classifier(layers, channels, classes)


def densenet(kernel: str, depth: int, classes: int, growth: int = 12) -> Classifier:
    """A DenseNet-BC of depth 6n + 4. ValueError for another depth."""
    n = blocks_per_stage("densenet", depth)
    channels = 2 * growth
    layers: list[nn.Module] = [conv2d(kernel, 3, channels, bias=False)]
    for stage in range(3):
        for _ in range(n):
            layers.append(DenseLayer(channels, growth, kernel))
            channels += growth
        if stage < 2:
            layers.append(nn.Sequential(*norm_relu(channels), pointwise(channels, channels // 2), nn.AvgPool2d(2)))
            channels //= 2
    return Classifier(layers, channels, classes)


def blocks_per_stage(family: str, depth: int) -> int:
    """n of depth 6n + 2 (resnet) or 6n + 4 (densenet). ValueError, with the nearest depths, for another depth."""
    rest = {"resnet": 2, "densenet": 4}[family]
    n, left = divmod(depth - rest, 6)
    if left or n < 1:
        n = max(n, 1)
        raise ValueError(f"a {family} has depth 6n + {rest}: {6 * n + rest} or {6 * (n + 1) + rest}, not {depth}")
    return n


class DenseLayer(nn.Module):
    """(N, C, H, W) -> (N, C + growth, H, W): the input, and beside it conv(relu(norm(1x1(relu(norm(x))))))."""

    def __init__(self, channels: int, growth: int, kernel: str):
        super().__init__()
        self.grow = nn.Sequential(
            *norm_relu(channels),
            pointwise(channels, 4 * growth),
            *norm_relu(4 * growth),
            conv2d(kernel, 4 * growth, growth, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, through(self.grow, x)], dim=1)


def init_he(module: nn.Module) -> None:
    """N(0, 2 / fan-in) for convolutions (He et al. 2015), Glorot uniform and zero bias for the linear layer."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            normal_(layer.weight, 0.0, sqrt(2) / sqrt(layer.weight[0].numel()))
        elif isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
