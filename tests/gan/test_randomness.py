"""Draws are functions of their names: equal names give equal numbers, other names unrelated ones, all of them normal."""

import math

import pytest
import torch

from gan.randomness import LATENT_BLOCK, derive, latents, step_noise, step_uniform


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (("1", "2"), ("12",)),
        (("1", "2"), ("1/2",)),
        (("a", "b"), ("a'/'b",)),
        ((1, "z"), ("1", "z")),
        ((1, 23), (12, 3)),
        ((0, "z", 1), (0, "z1")),
        ((0, "z", 1), (1, "z", 0)),
        ((0, "z"), ("z", 0)),
        ((0,), (0, "")),
        ((2**64,), (0,)),
    ],
)
def test_other_parts_give_another_seed(a, b):
    assert derive(*a) != derive(*b)


def test_derived_seeds_stay_what_they_were():
    """Runs, also those of other processes and machines, rest on these numbers."""
    assert derive(0, "z0", 7) == 8128751824313627566
    assert derive(1, "order") == 2702712423361000210


def test_derived_seeds_are_distinct_and_fill_63_bits():
    seeds = [derive(seed, name, step) for seed in range(10) for name in ("z", "z0", "flip0") for step in range(200)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    share = [sum(seed >> bit & 1 for seed in seeds) / len(seeds) for bit in range(63)]
    assert all(abs(s - 0.5) < 5 * 0.5 / math.sqrt(len(seeds)) for s in share)


@pytest.mark.parametrize("world", [1, 2, 4])
def test_ranks_draw_their_rows_of_one_draw(world):
    n = 8 // world
    whole = step_noise((8, 5), 0, 1, "cpu", 3, "z", 11)
    assert torch.equal(torch.cat([step_noise((n, 5), rank, world, "cpu", 3, "z", 11) for rank in range(world)]), whole)
    whole = step_uniform(8, 0, 1, "cpu", 3, "flip", 11)
    assert torch.equal(torch.cat([step_uniform(n, rank, world, "cpu", 3, "flip", 11) for rank in range(world)]), whole)


@pytest.mark.parametrize("parts", [(4, "z", 11), (3, "z0", 11), (3, "z", 12)], ids=["seed", "stream", "step"])
def test_seed_stream_and_step_each_change_a_draw(parts):
    a, b = (step_noise((500, 100), 0, 1, "cpu", *p).flatten() for p in ((3, "z", 11), parts))
    assert abs((a * b).mean()) < 5 / math.sqrt(len(a))  # unrelated, not just unequal
    assert (step_uniform(50, 0, 1, "cpu", *parts) != step_uniform(50, 0, 1, "cpu", 3, "z", 11)).all()


@pytest.mark.parametrize("first", [0, 1, LATENT_BLOCK - 1, LATENT_BLOCK, 100])
@pytest.mark.parametrize("count", [1, 2, LATENT_BLOCK, LATENT_BLOCK + 1])
def test_a_latent_does_not_depend_on_how_it_is_asked_for(first, count):
    z = latents(5, first, count, 7)
    assert z.shape == (count, 7)
    assert torch.equal(z, latents(5, 0, 200, 7)[first : first + count])


def test_latents_of_other_images_and_seeds_are_unrelated():
    a, b = latents(0, 0, 300, 128), latents(1, 0, 300, 128)
    rows = torch.cat([a, b]).double()
    cosine = torch.nn.functional.normalize(rows) @ torch.nn.functional.normalize(rows).T
    assert cosine.fill_diagonal_(0).abs().max() < 6 / math.sqrt(128)


DRAWS = {
    "latents": lambda: latents(0, 0, 1000, 100),
    "one coordinate": lambda: latents(0, 0, 100_000, 1),
    "step_noise": lambda: step_noise((1000, 100), 0, 1, "cpu", 0, "z", 0),
    "first number of each step": lambda: torch.stack(
        [step_noise((1, 16), 0, 1, "cpu", 0, "z", step)[0, 0] for step in range(4000)]
    ),
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_draws_are_standard_normal(draw):
    x = draw().double().flatten()
    n = len(x)
    assert abs(x.mean()) < 4 / math.sqrt(n)
    assert abs(x.var() - 1) < 4 * math.sqrt(2 / n)
    assert abs((x**3).mean()) < 4 * math.sqrt(15 / n)
    assert abs((x**4).mean() - 3) < 4 * math.sqrt(96 / n)
    steps = torch.arange(1, n + 1, dtype=torch.float64) / n
    assert (torch.special.ndtr(x.sort()[0]) - steps).abs().max() < 1.95 / math.sqrt(n)  # Kolmogorov-Smirnov, p = 0.001


def test_uniform_numbers_fill_the_unit_interval():
    x = step_uniform(100_000, 0, 1, "cpu", 0, "epsilon", 0).double()
    assert x.min() >= 0 and x.max() < 1
    counts = torch.histc(x, 20, 0, 1)
    assert ((counts - 5000).square() / 5000).sum() < 43.8  # chi-squared of 19 degrees of freedom, p = 0.001


def test_drawing_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    latents(0, 0, 3, 4), step_noise((2, 3), 0, 1, "cpu", 0), step_uniform(3, 0, 1, "cpu", 0)
    assert torch.equal(torch.get_rng_state(), before)
