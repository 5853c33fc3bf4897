"""Doubling the resolution of a feature map: the axis beside the kernel.

Transposed convolutions write every output phase with another set of taps, which is where checkerboards come from; the others fill
in the pixels first and then apply an ordinary kernel at stride 1 (Odena et al. 2016; Shi et al. 2016 for the pixel shuffle).
"""

import torch
from torch import Tensor, nn

from gan.fast_padding import memory_format_of
from gan.kernels import conv2d, conv_transpose2d

UPSAMPLINGS = ("transposed", "nearest", "bilinear", "pixelshuffle", "unpool")


class Unpool(nn.Module):
    """Zero insertion: (N, C, H, W) -> (N, C, 2H, 2W) with each value at the top-left of its 2x2 cell and zeros beside it.

    Dosovitskiy et al. 2015; what the ResNets of Kurach et al. (the paper's base code) upsample with.
    """

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        y = torch.empty((n, c, 2 * h, 2 * w), dtype=x.dtype, device=x.device, memory_format=memory_format_of(x)).zero_()
        y[:, :, ::2, ::2] = x
        return y


def filler(upsampling: str) -> nn.Module:
    """The layer without parameters that doubles a map: nearest, bilinear (half-pixel grid) or unpool."""
    if upsampling == "unpool":
        return Unpool()
    return nn.Upsample(scale_factor=2, mode=upsampling)


def upsample_conv(upsampling: str, kernel: str, in_channels: int, out_channels: int) -> nn.Module:
    """(N, in, H, W) -> (N, out, 2H, 2W): one of UPSAMPLINGS together with one of gan.kernels.KERNELS."""
    if upsampling == "transposed":
        return conv_transpose2d(kernel, in_channels, out_channels, stride=2)
    if upsampling == "pixelshuffle":
        return nn.Sequential(conv2d(kernel, in_channels, 4 * out_channels), nn.PixelShuffle(2))
    return nn.Sequential(filler(upsampling), conv2d(kernel, in_channels, out_channels))
