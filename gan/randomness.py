"""Everything random, as a function of (seed, stream, step): no generator keeps running, so nothing has to be saved to resume.

A stream is a name ("noise", "flips", ...) that keeps uses of one seed apart. What a training step draws is drawn for the batch of
all processes and each rank takes its rows, so that one process and many see the same numbers.
"""

import hashlib

import torch
from torch import Tensor


def derive(*parts: int | str) -> int:
    """A 63-bit seed from a seed and names: equal parts give equal seeds, any other parts unrelated ones."""
    digest = hashlib.blake2b("/".join(map(repr, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator(device: torch.device | str, *parts: int | str) -> torch.Generator:
    return torch.Generator(device).manual_seed(derive(*parts))


def step_noise(shape: tuple[int, ...], rank: int, world: int, device, *parts: int | str) -> Tensor:
    """Standard normal numbers (n, ...) for this rank: its n rows of the world * n that the step draws."""
    n = shape[0]
    draw = torch.randn(n * world, *shape[1:], generator=generator(device, *parts), device=device)
    return draw[rank * n : (rank + 1) * n]


def step_uniform(n: int, rank: int, world: int, device, *parts: int | str) -> Tensor:
    """Uniform numbers in [0, 1), shape (n,), for this rank."""
    draw = torch.rand(n * world, generator=generator(device, *parts), device=device)
    return draw[rank * n : (rank + 1) * n]


LATENT_BLOCK = 64


def latents(seed: int, first: int, count: int, length: int) -> Tensor:
    """Latents (count, length) of images first ... first + count - 1 of a seed. Image i has the same z in any batch, anywhere."""
    blocks = range(first // LATENT_BLOCK, (first + count - 1) // LATENT_BLOCK + 1)
    draws = [torch.randn(LATENT_BLOCK, length, generator=generator("cpu", seed, "latent", block)) for block in blocks]
    start = first - blocks.start * LATENT_BLOCK
    return torch.cat(draws)[start : start + count]
