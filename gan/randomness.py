"""Everything random, as a function of (seed, stream, step): no generator keeps running, so nothing has to be saved to resume.

A stream is a name ("noise", "flips", ...) that keeps uses of one seed apart. What a training step draws is drawn for the batch of
all processes and each rank takes its rows, so that one process and many see the same numbers.
"""

import hashlib
from collections.abc import Callable

import torch
from torch import Tensor


def derive(*parts: int | str) -> int:
    """A 63-bit seed from a seed and names: equal parts give equal seeds, any other parts unrelated ones."""
    digest = hashlib.blake2b("/".join(map(repr, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator(device: torch.device | str, *parts: int | str) -> torch.Generator:
    """A torch generator on a device, seeded with `derive(*parts)`."""
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


def choose_classes(uniform: Tensor, counts: Tensor) -> Tensor:
    """Classes (n,) int64 for uniform numbers (n,) in [0, 1), in proportion to counts (K,), whole numbers on the same device."""
    edges = counts.cumsum(0).double() / counts.sum()
    return torch.searchsorted(edges, uniform.double(), right=True).clamp(max=len(counts) - 1)


LATENT_BLOCK = 64


def latents(seed: int, first: int, count: int, length: int) -> Tensor:
    """Latents (count, length) of images first ... first + count - 1 of a seed. Image i has the same z in any batch, anywhere."""
    return _of_images(
        first, count, lambda block: torch.randn(LATENT_BLOCK, length, generator=generator("cpu", seed, "latent", block))
    )


def class_labels(seed: int, first: int, count: int, counts: Tensor) -> Tensor:
    """Labels (count,) int64 of images first ... first + count - 1 of a seed, in proportion to counts (K,): as `latents`."""
    uniform = lambda block: torch.rand(LATENT_BLOCK, generator=generator("cpu", seed, "label", block))
    return choose_classes(_of_images(first, count, uniform), counts.cpu())


def _of_images(first: int, count: int, draw: Callable[[int], Tensor]) -> Tensor:
    """Rows first ... first + count - 1 of what is drawn in blocks."""
    blocks = range(first // LATENT_BLOCK, (first + count - 1) // LATENT_BLOCK + 1)
    start = first - blocks.start * LATENT_BLOCK
    return torch.cat([draw(block) for block in blocks])[start : start + count]
