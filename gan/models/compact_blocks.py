"""Residual blocks of CIFAR classifiers: the basic one of any kernel, and the compact ones it is compared with.

Every block is (N, in, H, W) -> (N, out, H, W), or (N, out, H/2, W/2) where `down`, with norms before convolutions (He et al. 2016,
Identity Mappings in Deep Residual Networks):

    y = branch(h) + x,            h = relu(norm(x))
    y = branch(h) + project(h),   h averaged over 2x2 pixels where `down`, where the shape changes

As in the authors' code, maps are halved by averaging and every convolution runs at stride 1, whatever its kernel (Wu et al. 2019).
"""

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan.kernels import SameConv2d, conv2d


def pointwise(c_in: int, c_out: int) -> nn.Conv2d:
    return nn.Conv2d(c_in, c_out, 1, bias=False)


def norm_relu(channels: int) -> list[nn.Module]:
    return [nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]


def through(layers: Iterable[nn.Module], x: Tensor) -> Tensor:
    """Apply the layers in turn, but pad for a convolution before the ReLU in front of it instead of after.

    ReLU maps 0 to 0, so the result is the same to the last bit. Autograd then saves one tensor, which the in-place ReLU and the
    convolution share, instead of two.
    """
    layers, padded = list(layers), False
    for layer, following in zip(layers, [*layers[1:], None]):
        if isinstance(layer, nn.ReLU) and isinstance(following, SameConv2d):
            x, padded = layer(following.pad(x)), True
        else:
            x, padded = layer(x, padded=True) if padded else layer(x), False
    return x


# --- branches: what a block does between its first relu and the sum ----------------------------------------------------------


def basic(c_in: int, c_out: int, kernel: str, expansion: int) -> nn.Sequential:
    """Two convolutions of the kernel (He et al. 2016). `expansion` is not used."""
    return nn.Sequential(
        conv2d(kernel, c_in, c_out, bias=False),
        *norm_relu(c_out),
        conv2d(kernel, c_out, c_out, bias=False),
    )


def shift(c_in: int, c_out: int, kernel: str, expansion: int) -> nn.Sequential:
    """Conv-shift-conv (CSC) of Wu et al. 2018, "Shift: a zero FLOP, zero parameter alternative". `kernel` is not used."""
    hidden = expansion * c_in
    return nn.Sequential(
        pointwise(c_in, hidden),
        *norm_relu(hidden),
        Shift(),
        pointwise(hidden, c_out),
    )


def inverted_bottleneck(c_in: int, c_out: int, kernel: str, expansion: int) -> nn.Sequential:
    """Expand, filter each channel by itself, project (Sandler et al. 2018, MobileNetV2)."""
    hidden = expansion * c_in
    return nn.Sequential(
        pointwise(c_in, hidden),
        *norm_relu(hidden),
        conv2d(kernel, hidden, hidden, groups=hidden, bias=False),
        *norm_relu(hidden),
        pointwise(hidden, c_out),
    )


def depthwise_separable(c_in: int, c_out: int, kernel: str, expansion: int) -> nn.Sequential:
    """Twice: filter each channel by itself, then mix (Howard et al. 2017, MobileNet). `expansion` is not used."""
    return nn.Sequential(
        conv2d(kernel, c_in, c_in, groups=c_in, bias=False),
        *norm_relu(c_in),
        pointwise(c_in, c_out),
        *norm_relu(c_out),
        conv2d(kernel, c_out, c_out, groups=c_out, bias=False),
        *norm_relu(c_out),
        pointwise(c_out, c_out),
    )


BRANCHES: dict[str, Callable[[int, int, str, int], nn.Sequential]] = {
    "basic": basic,
    "shift": shift,
    "inverted_bottleneck": inverted_bottleneck,
    "depthwise_separable": depthwise_separable,
}


class ResidualBlock(nn.Module):
    """A branch (one of BRANCHES) and its shortcut, by the formula above."""

    def __init__(self, block: str, c_in: int, c_out: int, kernel: str, expansion: int, down: bool):
        super().__init__()
        self.enter = nn.Sequential(*norm_relu(c_in), *([nn.AvgPool2d(2)] if down else []))
        self.branch = BRANCHES[block](c_in, c_out, kernel, expansion)
        self.project = pointwise(c_in, c_out) if down or c_in != c_out else None

    def forward(self, x: Tensor) -> Tensor:
        if self.project is None:
            return through([*self.enter, *self.branch], x) + x
        h = self.enter(x)
        return through(self.branch, h) + self.project(h)


class Shift(nn.Module):
    """(N, C, H, W) -> the same, nine groups of channels each moved by one of the nine offsets within 3x3; zeros move in."""

    def forward(self, x: Tensor) -> Tensor:
        c, h, w = x.shape[1:]
        sizes = [c // 9 + (group < c % 9) for group in range(9)]
        padded = F.pad(x, (1, 1, 1, 1))
        groups = zip(padded.split(sizes, dim=1), ((top, left) for top in range(3) for left in range(3)))
        return torch.cat([group[:, :, top : top + h, left : left + w] for group, (top, left) in groups], dim=1)
