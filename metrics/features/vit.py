"""A vision transformer as DINOv2 (Oquab et al. 2023) has it, for features alone.

Source: Dosovitskiy et al., "An image is worth 16x16 words", ICLR 2021 (arXiv 2010.11929), with the scaled residuals of Touvron et
al. 2021 (arXiv 2103.17239, LayerScale). Parameters are named as in the weights of DINOv2, so that these load as they are.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    """Multi-head self-attention, (N, T, d) -> (N, T, d)."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        n, t, d = x.shape
        q, k, v = self.qkv(x).view(n, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)  # each (N, heads, T, d / heads)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, t, d))


class Mlp(nn.Module):
    def __init__(self, dim: int):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Scale(nn.Module):
    """A learned factor for each channel."""

    def __init__(self, dim: int):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class Block(nn.Module):
    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.norm1, self.norm2 = (nn.LayerNorm(dim, eps=1e-6) for _ in range(2))
        self.attn, self.mlp = Attention(dim, heads), Mlp(dim)
        self.ls1, self.ls2 = Scale(dim), Scale(dim)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


class PatchEmbedding(nn.Module):
    """(N, 3, S, S) -> (N, (S / patch)^2, d), row by row."""

    def __init__(self, dim: int, patch: int):
        super().__init__()
        self.proj = nn.Conv2d(3, dim, patch, patch)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x).flatten(2).transpose(1, 2)


class VisionTransformer(nn.Module):
    """(N, 3, S, S) -> the class token after the last norm, (N, d). S is a multiple of the patch.

    grid: patches a side at which the positions were learned. Other sizes get them by bicubic interpolation, at a scale of
    (S / patch + 0.1) / grid: the tenth is part of how DINOv2's own code does it, and moves features.
    """

    def __init__(self, dim: int, depth: int, heads: int, patch: int, grid: int):
        super().__init__()
        self.grid = grid
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + grid**2, dim))
        self.mask_token = nn.Parameter(torch.zeros(1, dim))  # of training: here so that the weights fit
        self.patch_embed = PatchEmbedding(dim, patch)
        self.blocks = nn.Sequential(*(Block(dim, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(dim, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patch_embed(x)
        tokens = torch.cat([self.cls_token.expand(len(x), -1, -1), patches], dim=1)
        x = tokens + self.positions(int(patches.shape[1] ** 0.5))
        return self.norm(self.blocks(x))[:, 0]

    def positions(self, side: int) -> Tensor:
        """(1, 1 + side^2, d)."""
        if side == self.grid:
            return self.pos_embed
        learned = self.pos_embed[:, 1:].float().view(1, self.grid, self.grid, -1).permute(0, 3, 1, 2)
        scale = (side + 0.1) / self.grid
        resized = F.interpolate(learned, scale_factor=(scale, scale), mode="bicubic", antialias=False)
        return torch.cat([self.pos_embed[:, :1], resized.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)
