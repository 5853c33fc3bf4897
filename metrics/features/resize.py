"""Resizing images to a network's input size, in the four ways in which published scores were computed.

The way is part of the score: between two of them the FID of the same images differs by whole points. Images are resized as float32
and, except by pillow, not rounded to integers.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def bilinear(x: Tensor, size: int) -> Tensor:
    """Between pixel centres, without antialiasing, as pytorch-fid: shrinking by more than 2 skips pixels."""
    return F.interpolate(x, (size, size), mode="bilinear", align_corners=False)


def bilinear_tf1(x: Tensor, size: int) -> Tensor:
    """As TensorFlow 1's ResizeBilinear inside the 2015 graph: output pixel i is read at i * in / out, from corner to corner.

    Without the half-pixel offset the picture moves up and left, by 0.45 input pixels when 32 become 299.
    """
    left, right, weight = _tf1_neighbours(x.shape[3], size, x.device)
    x = torch.lerp(x[..., left], x[..., right], weight)
    above, below, weight = _tf1_neighbours(x.shape[2], size, x.device)
    return torch.lerp(x[:, :, above], x[:, :, below], weight[:, None])


def _tf1_neighbours(size: int, out: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """For each of `out` output pixels: the two input pixels it lies between, int64, and the weight of the second, float32."""
    scale = torch.full((), size, dtype=torch.float32, device=device) / out  # in float32, as TensorFlow does
    position = torch.arange(out, dtype=torch.float32, device=device) * scale
    first = position.floor().long().clamp(max=size - 1)
    return first, (first + 1).clamp(max=size - 1), position - first


def bicubic_clean(x: Tensor, size: int) -> Tensor:
    """PIL's antialiased bicubic on float channels, cut to 0..255 where it overshoots, as clean-fid (Parmar et al. 2022)."""
    return F.interpolate(x, (size, size), mode="bicubic", align_corners=False, antialias=True).clamp(0, 255)


def bicubic_pillow(x: Tensor, size: int) -> Tensor:
    """PIL's antialiased bicubic on 8-bit images: across, rounded to levels, then down, rounded again, as `Image.resize` did when
    scores were published (Pillow 13 goes down first)."""
    for shape in ((x.shape[2], size), (size, size)):
        x = F.interpolate(x, shape, mode="bicubic", align_corners=False, antialias=True).round().clamp(0, 255)
    return x


RESIZES = {"pytorch_fid": bilinear, "tf1": bilinear_tf1, "clean": bicubic_clean, "pillow": bicubic_pillow}


def resize(images: Tensor, size: int, how: str) -> Tensor:
    """(N, 3, H, W) uint8 -> (N, 3, size, size) float32 in 0..255, on the same device.

    how: one of RESIZES (KeyError otherwise). Images that have the size already keep their values exactly in every way.
    """
    return RESIZES[how](images.float(), size)
