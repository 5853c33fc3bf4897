"""Resampling by the centred filter [1 3 3 1], per channel and without parameters, as the r3 networks do.

The binomial filter of Karras et al. 2020 (StyleGAN2) and Huang et al. 2024 (R3GAN), with zeros beyond the border unless told
otherwise. On the half-pixel grid its four taps lie around the new pixel's centre, so that nothing drifts.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan.fast_padding import extend


class _Binomial(nn.Module):
    """taps: (4, 4), [1 3 3 1] by [1 3 3 1], with a sum of `gain`. padding: one of gan.padding.PADDINGS."""

    taps: Tensor
    mode = "binomial"  # what tables call it

    def __init__(self, gain: float, padding: str):
        super().__init__()
        self.padding_mode = padding
        line = (1, 3, 3, 1)
        self.register_buffer("taps", torch.tensor([[gain * a * b / 64 for a in line] for b in line]), persistent=False)

    def extended(self, x: Tensor) -> tuple[Tensor, int]:
        """x, and how many pixels have been added at each side: none where zeros follow, which the convolution adds by itself."""
        return (x, 0) if self.padding_mode == "zeros" else (extend(x, 1, self.padding_mode), 1)

    def weight(self, x: Tensor) -> Tensor:
        """The same taps for every channel of x: (C, 1, 4, 4)."""
        return self.taps.to(x.dtype).expand(x.shape[1], 1, 4, 4)


class BinomialUp(_Binomial):
    """(N, C, H, W) -> (N, C, 2H, 2W): zeros between the pixels, then the filter. A constant stays constant except at the border."""

    def __init__(self, padding: str = "zeros"):
        super().__init__(4, padding)

    def forward(self, x: Tensor) -> Tensor:
        x, added = self.extended(x)
        return F.conv_transpose2d(x, self.weight(x), stride=2, padding=1 + 2 * added, groups=x.shape[1])


class BinomialDown(_Binomial):
    """(N, C, H, W) -> (N, C, H/2, W/2): the filter, then every other pixel."""

    def __init__(self, padding: str = "zeros"):
        super().__init__(1, padding)

    def forward(self, x: Tensor) -> Tensor:
        x, added = self.extended(x)
        return F.conv2d(x, self.weight(x), stride=2, padding=1 - added, groups=x.shape[1])
