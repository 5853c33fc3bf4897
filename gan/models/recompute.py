"""Activation checkpointing: keep only the maps between the blocks of a network, and compute the rest again when backward needs it.

Chen et al. 2016, arXiv 1604.06174: one more forward pass for the memory of one block instead of all.
"""

import contextlib

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from gan.models.layers import SpectralNorm


def recomputed(network: nn.Sequential, x: Tensor) -> Tensor:
    """network(x), block by block; equal to the last bit in output, gradients and statistics."""
    for segment in segments(network):
        again = Recomputation(segment)
        x = checkpoint(segment, x, use_reentrant=False, preserve_rng_state=False, context_fn=again.contexts)
    return x


def segments(network: nn.Sequential) -> list[nn.Sequential]:
    """Parts with one block or convolution each. They begin with it, so that no in-place activation changes what was kept."""
    parts: list[list[nn.Module]] = [[]]
    for child in network:
        if _convolves(child) and any(map(_convolves, parts[-1])):
            parts.append([])
        parts[-1].append(child)
    return [nn.Sequential(*part) for part in parts]


def _convolves(module: nn.Module) -> bool:
    return any(isinstance(m, nn.Conv2d | nn.ConvTranspose2d) for m in module.modules())


class Recomputation:
    """Contexts in which a second forward of a segment repeats the first: batch norm and spectral norm must not update twice.

    Double backward computes a segment more than twice, so the contexts can be entered any number of times.
    """

    def __init__(self, segment: nn.Module):
        # SyncBatchNorm, too, which several GPUs have instead.
        self.batch_norms = [m for m in segment.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training]
        self.spectral_norms = [m for m in segment.modules() if isinstance(m, SpectralNorm) and m.training]

    def contexts(self) -> tuple["FirstPass", "SecondPass"]:
        return FirstPass(self), SecondPass(self)


class FirstPass(contextlib.AbstractContextManager):
    def __init__(self, again: Recomputation):
        self.again = again

    def __exit__(self, *exception) -> None:
        self.again.vectors = [(norm.u.clone(), norm.v.clone()) for norm in self.again.spectral_norms]


class SecondPass(contextlib.AbstractContextManager):
    def __init__(self, again: Recomputation):
        self.again = again

    def __enter__(self) -> None:
        a = self.again
        self.momenta = [(norm.momentum, norm.num_batches_tracked.clone()) for norm in a.batch_norms]
        self.now = [(norm.u, norm.v) for norm in a.spectral_norms]
        for norm in a.batch_norms:
            norm.momentum = 0.0
        for norm, (u, v) in zip(a.spectral_norms, a.vectors):
            norm.u, norm.v, norm.training = u, v, False

    def __exit__(self, *exception) -> None:
        for norm, (momentum, count) in zip(self.again.batch_norms, self.momenta):
            norm.momentum = momentum
            norm.num_batches_tracked.copy_(count)
        for norm, (u, v) in zip(self.again.spectral_norms, self.now):
            norm.u, norm.v, norm.training = u, v, True
