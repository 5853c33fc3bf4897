"""Base classes of all generators and discriminators: their interface, and class conditioning."""

import torch
import torch.fx
from torch import Tensor, nn

from gan.fast_padding import as_channels_last, memory_format_of, transformed
from gan.models.conditioning import ConditionalBatchNorm2d, as_shares, condition_norms, embedding
from gan.models.recompute import recomputed
from gan.padding import recorded


class Frame(nn.Module):
    """What generators and discriminators share: activation checkpointing, and the number of classes."""

    recompute = False  # activation checkpointing, wherever a gradient is wanted
    classes = 0  # how many it knows; 0: not conditional, and it's called without labels

    def run(self, network: nn.Sequential, x: Tensor) -> Tensor:
        return recomputed(network, x) if self.recompute and torch.is_grad_enabled() else network(x)


def channels_last(network: nn.Module) -> bool:
    """Whether a network's weights lie in that memory format, and so its maps should."""
    return any(memory_format_of(weight) == torch.channels_last for weight in network.parameters() if weight.dim() == 4)


def gradients_laid_as(x: Tensor) -> Tensor:
    """x (N, C, S, S), whose gradients come in its own memory format in eager mode.

    Those of a flattened or averaged map would be contiguous, and derivatives of a channels_last layer several times slower.
    """
    if isinstance(x, torch.fx.Proxy) or torch.compiler.is_compiling() or recorded() or transformed():
        return x
    if x.requires_grad and not x.is_leaf and memory_format_of(x) == torch.channels_last:
        x.register_hook(lambda grad: None if grad is None else as_channels_last(grad))  # None: nothing depends on it
    return x


class GeneratorFrame(Frame):
    """z (N, latent) -> project -> a seed map (N, C, S, S) -> trunk -> images (N, 3, R, R) in [-1, 1].

    Subclasses set `latent`, `project` (z -> C * S * S numbers: a linear layer, or what stands for one), `seed` (its shape C, S, S)
    and `trunk` (the convolutional rest).

    `condition` makes it conditional: then it also takes labels, as gan.models.conditioning describes them.
    """

    latent: int
    seed: tuple[int, int, int]
    project: nn.Module
    trunk: nn.Sequential
    class_names: tuple[str, ...] = ()
    class_counts: Tensor  # (K,) int64: training images of each class, in whose proportion samples are drawn

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.run(self.trunk, self.seed_maps(z, labels))

    def seed_maps(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """z (N, latent) -> the trunk's input (N, C, S, S); also sets the labels of the trunk's next forward passes."""
        if self.classes:
            self.choose(labels)
            if self.embed is not None:
                shares = as_shares(labels, self.classes).to(z.device)
                z = torch.cat([z, self.embed(shares).to(z.dtype).expand(z.shape[0], -1)], dim=1)
        seed = self.project(z).view(-1, *self.seed)
        return as_channels_last(seed) if channels_last(self.trunk) else seed

    def choose(self, labels: Tensor | None) -> None:
        """Set the labels of the trunk's next forward passes."""
        shares = as_shares(labels, self.classes)
        for module in self.trunk.modules():
            if isinstance(module, ConditionalBatchNorm2d):
                module.shares = shares

    def condition(self, classes: int, joined: int = 0) -> None:
        """Take labels of so many classes: by each batch norm (Miyato & Koyama 2018), or by an embedding of `joined` numbers that
        follows z (R3GAN, Huang et al. 2024), which `latent` and `project` have room for. ValueError where it can do neither."""
        self.classes, self.class_names = classes, tuple(map(str, range(classes)))
        self.register_buffer("class_counts", torch.ones(classes, dtype=torch.int64))
        if not joined and not condition_norms(self.trunk, classes):
            raise ValueError("it has no batch norm to tell the class to")
        self.embed = embedding(classes, joined) if joined else None
        self.latent -= joined


class DiscriminatorFrame(Frame):
    """Images (N, 3, R, R) in [-1, 1] -> features -> pool -> head (linear) -> logits (N,).

    Subclasses set `features` (convolutional) and `head`, and define `pool`: the last map (N, C, S, S) -> what the head takes.

    `condition` makes it conditional: then it also takes labels, as gan.models.conditioning describes them.
    """

    features: nn.Sequential
    head: nn.Linear

    def pool(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        h = self.pool(gradients_laid_as(self.run(self.features, x)))
        return self.judge(h, as_shares(labels, self.classes)) if self.classes else self.head(h).squeeze(1)

    def condition(self, classes: int) -> None:
        """Take labels of so many classes."""
        self.classes = classes
        self.embed = nn.Linear(classes, self.head.in_features, bias=False)
        nn.init.xavier_uniform_(self.embed.weight)

    def judge(self, h: Tensor, shares: Tensor) -> Tensor:
        """head(h) + <embed(y), h>: the projection discriminator, Miyato & Koyama 2018, section 3."""
        return self.head(h).squeeze(1) + (self.embed(shares) * h).sum(dim=1)
