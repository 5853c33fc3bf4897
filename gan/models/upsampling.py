"""Upsampling: doubling the resolution of a feature map, together with a kernel.

Transposed convolutions compute each output phase from a different set of taps, which causes checkerboards; the others double the
map first and then apply an ordinary kernel at stride 1 (Odena et al. 2016; Shi et al. 2016 for the pixel shuffle).
"""

import torch.nn.functional as F
from torch import Tensor, nn

from gan.fast_padding import extend
from gan.fusing import sequential
from gan.kernels import conv2d, conv_transpose2d
from gan.models.binomial import BinomialUp
from gan.resampling import Unpool

FILLERS = ("nearest", "bilinear", "unpool", "binomial")  # without weights of their own
UPSAMPLINGS = ("transposed", "nearest", "bilinear", "pixelshuffle", "unpool", "binomial")


def filler(upsampling: str, padding: str = "zeros") -> nn.Module:
    """The layer without parameters that doubles a map: nearest, bilinear (half-pixel grid), unpool or binomial.

    padding: how the map goes on beyond its border, for the two that look there. bilinear has the taps of binomial, [1 3 3 1], but
    with zeros it repeats the border nevertheless, as PyTorch's does.
    """
    if upsampling == "unpool":
        return Unpool()
    if upsampling == "binomial":
        return BinomialUp(padding)
    if upsampling == "bilinear" and padding in ("reflect", "circular"):
        return BilinearUp(padding)
    return nn.Upsample(scale_factor=2, mode=upsampling)


class BilinearUp(nn.Module):
    """(N, C, H, W) -> (N, C, 2H, 2W), as nn.Upsample, of a map that goes on beyond its border by one of gan.padding.PADDINGS."""

    mode = "bilinear"  # what tables call it

    def __init__(self, padding: str):
        super().__init__()
        self.padding_mode = padding

    def forward(self, x: Tensor) -> Tensor:
        doubled = F.interpolate(extend(x, 1, self.padding_mode), scale_factor=2, mode="bilinear")
        return F.pad(doubled, (-2, -2, -2, -2))  # in the memory format of x, which a slice's would not be


def upsample_conv(
    upsampling: str, kernel: str, in_channels: int, out_channels: int, fuse: bool = False, padding: str = "zeros"
) -> nn.Module:  # fmt: skip
    """(N, in, H, W) -> (N, out, 2H, 2W): one of UPSAMPLINGS together with one of gan.kernels.KERNELS.

    fuse: computes the two as one where that is faster (gan.fusing). padding: one of gan.padding.PADDINGS, of what the kernel sees;
    in a transposed layer of its input.
    """
    if upsampling == "transposed":
        return conv_transpose2d(kernel, in_channels, out_channels, stride=2, padding_mode=padding)
    if upsampling == "pixelshuffle":
        return nn.Sequential(conv2d(kernel, in_channels, 4 * out_channels, padding_mode=padding), nn.PixelShuffle(2))
    return sequential([filler(upsampling, padding), conv2d(kernel, in_channels, out_channels, padding_mode=padding)], fuse)
