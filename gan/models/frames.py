"""What every generator and every discriminator looks like from outside."""

import torch
from torch import Tensor, nn

from gan.models.recompute import recomputed


class Frame(nn.Module):
    recompute = False  # activation checkpointing, wherever a gradient is wanted

    def run(self, network: nn.Sequential, x: Tensor) -> Tensor:
        return recomputed(network, x) if self.recompute and torch.is_grad_enabled() else network(x)


class GeneratorFrame(Frame):
    """z (N, latent) -> project -> a seed map (N, C, S, S) -> trunk -> images (N, 3, R, R) in [-1, 1].

    Subclasses set `latent`, `project` (z -> C * S * S numbers: a linear layer, or what stands for one), `seed` (its shape C, S, S)
    and `trunk` (the convolutional rest).
    """

    latent: int
    seed: tuple[int, int, int]
    project: nn.Module
    trunk: nn.Sequential

    def forward(self, z: Tensor) -> Tensor:
        return self.run(self.trunk, self.project(z).view(-1, *self.seed))


class DiscriminatorFrame(Frame):
    """Images (N, 3, R, R) in [-1, 1] -> features -> pool -> head (linear) -> logits (N,).

    Subclasses set `features` (convolutional) and `head`, and define `pool`: the last map (N, C, S, S) -> what the head takes.
    """

    features: nn.Sequential
    head: nn.Linear

    def pool(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.pool(self.run(self.features, x))).squeeze(1)
