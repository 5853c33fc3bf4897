"""Class labels, in the forms that networks take, and conditional batch norm.

Labels are class numbers (N,) int64, or shares (soft labels) (N, K) float32 of K classes: rows that sum to 1, for interpolation
between classes. A single row (1, K) is for all images.
"""

from math import sqrt

import torch
from torch import Tensor, nn

from gan.models.layers import normal_


def as_shares(labels: Tensor | None, classes: int) -> Tensor:
    """Labels as shares (N, K), one-hot for class numbers. ValueError for None: a conditional network needs labels."""
    if labels is None:
        raise ValueError("a conditional network needs labels: (N,) int64, or shares (N, classes)")
    return labels if labels.is_floating_point() else (labels[:, None] == torch.arange(classes, device=labels.device)).float()


class ConditionalBatchNorm2d(nn.Module):
    """(N, C, H, W) -> gain[y] (x - mean) / deviation + bias[y], with y as `shares` now says.

    Dumoulin et al. 2017; de Vries et al. 2017, section 4.2; in a GAN Miyato & Koyama 2018. Mean and deviation are those of all
    classes together. Every class begins with the gain and bias of the norm that this one replaces.
    """

    left_out_of_flat_twin = True  # as every norm (metrics.instruments.shift)
    shares: Tensor | None = None  # (N or 1, K): of the images that come next; GeneratorFrame.choose sets it

    def __init__(self, norm: nn.BatchNorm2d, classes: int):
        super().__init__()
        self.norm = nn.BatchNorm2d(norm.num_features, norm.eps, norm.momentum, affine=False)
        of_all = lambda values: nn.Parameter(torch.empty(classes, len(values)).copy_(values.detach()))
        self.gain, self.bias = of_all(norm.weight), of_all(norm.bias)

    def forward(self, x: Tensor) -> Tensor:
        shares = as_shares(self.shares, len(self.gain)).to(self.gain.dtype)
        gain, bias = ((shares @ table)[:, :, None, None].to(x.dtype) for table in (self.gain, self.bias))
        return torch.addcmul(bias, self.norm(x), gain)


def condition_norms(network: nn.Module, classes: int) -> int:
    """Replace every batch norm within a network by a conditional one. Returns how many there were."""
    found = [(m, name, child) for m in network.modules() for name, child in m.named_children() if isinstance(child, nn.BatchNorm2d)]
    for module, name, norm in found:
        setattr(module, name, ConditionalBatchNorm2d(norm, classes))
    return len(found)


def embedding(classes: int, size: int, gain: float = 1.0) -> nn.Linear:
    """Shares (N, K) -> (N, size), without a bias: a vector for each class, mixed by its share. Weights N(0, gain²/K)."""
    layer = nn.Linear(classes, size, bias=False)
    normal_(layer.weight, 0.0, gain / sqrt(classes))
    return layer
