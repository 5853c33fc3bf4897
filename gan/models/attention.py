"""Self-attention over the positions of a map, at one resolution of a network (Zhang et al. 2019, SAGAN, arXiv 1805.08318)."""

from copy import deepcopy

import torch
from torch import Tensor, nn


class SelfAttention(nn.Module):
    """(N, C, H, W) -> the same: y = gamma v(sum_i beta_ji h(x_i)) + x, with beta_ji = softmax over i of f(x_i) . g(x_j). Eqs. 1-3.

    f, g, h: 1x1 to C/8 channels; v: 1x1 back to C. gamma is 0 at first, so the network begins as it is without. Memory grows with
    (H W)² for each image.
    """

    left_out_of_flat_twin = True  # it can move anything anywhere, whatever the padding

    def __init__(self, channels: int):
        super().__init__()
        inner = max(1, channels // 8)
        self.query, self.key, self.value = (nn.Conv2d(channels, inner, 1, bias=False) for _ in range(3))  # g, f, h
        self.out = nn.Conv2d(inner, channels, 1, bias=False)  # v
        self.gamma = nn.Parameter(torch.zeros(()))
        for layer in (self.query, self.key, self.value, self.out):
            nn.init.xavier_uniform_(layer.weight)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (layer(x).flatten(2) for layer in (self.query, self.key, self.value))  # (N, C/8, H W)
        beta = (query.transpose(1, 2) @ key).softmax(dim=2).to(value.dtype)  # (N, j, i)
        return x + self.gamma * self.out((value @ beta.transpose(1, 2)).unflatten(2, x.shape[2:]))


def insert_attention(network: nn.Sequential, given: Tensor, side: int) -> tuple[nn.Sequential, SelfAttention]:
    """The layers of a network with self-attention where its maps first have `side` pixels: before the layer that works on that map.

    given: of the shape that the network takes; its values don't matter. ValueError names the sides there are.
    """
    layers, maps, sides = list(network), given.to("meta"), []
    for i, layer in enumerate(deepcopy(network).to("meta")):
        if i and any(isinstance(m, nn.Conv2d | nn.ConvTranspose2d) for m in layer.modules()):
            sides.append(maps.shape[-1])
            if maps.shape[-1] == side:
                attention = SelfAttention(maps.shape[1])
                return type(network)(*layers[:i], attention, *layers[i:]), attention
        maps = layer(maps)
    raise ValueError(", ".join(str(s) for s in sorted(set(sides))))
