"""The model families: `resolve` fills in what a family was published with, `build` makes its two networks from settings."""

import functools

import torch
from torch import nn

from gan.config import Config, ConfigError
from gan.kernels import parse_kernel
from gan.models import dcgan, resnet
from gan.models.counting import macs, parameter_count
from gan.randomness import derive

Networks = tuple[nn.Module, nn.Module]


def resolve(config: Config) -> Config:
    """The same settings with every null filled in by the family's published choice."""
    g, d = config.generator, config.discriminator
    resolution = config.dataset.resolution
    g_defaults = _published(g.family, resolution)
    d_family = d.family or g.family
    d_defaults = _published(d_family, resolution)
    return config.replace(
        {
            "generator.kernel": g.kernel or g_defaults["generator_kernel"],
            "generator.upsampling": g.upsampling or g_defaults["upsampling"],
            "generator.width": g.width or g_defaults["generator_width"],
            "generator.norm": g.norm or g_defaults["generator_norm"],
            "discriminator.family": d_family,
            "discriminator.kernel": d.kernel or d_defaults["discriminator_kernel"],
            "discriminator.width": d.width or d_defaults["discriminator_width"],
            "discriminator.norm": d.norm or d_defaults["discriminator_norm"],
        }
    )


def resolve_to_train(config: Config) -> Config:
    """`resolve`, for what is going to be trained. ConfigError for what only the family's choices show to be wrong."""
    config = resolve(config)
    if config.discriminator.norm == "batch" and (config.objective.gradient_penalty or config.objective.r1):
        raise ConfigError(
            "objective.gradient_penalty and r1 penalise the gradient at each image, and batch norm in the discriminator mixes the "
            "images of a batch (Gulrajani et al. 2017, section 4); set discriminator.norm=none or spectral"
        )
    return config


def _published(family: str, resolution: int) -> dict:
    if family in dcgan.VARIANTS:
        row = vars(dcgan.VARIANTS[family])
        return {**row, "generator_width": row["width"], "discriminator_width": row["width"]}
    style, plan = resnet.STYLES[family], resnet.PLANS[family, resolution]
    return {**vars(style), **vars(plan), "generator_kernel": "c3", "discriminator_kernel": "c3", "generator_norm": "batch"}


def build(config: Config) -> Networks:
    """Generator and discriminator of a resolved config, with initial weights that are a function of train.seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(config.train.seed, "generator"))
        generator = build_generator(config)
        torch.manual_seed(derive(config.train.seed, "discriminator"))
        discriminator = build_discriminator(config)
    return generator, discriminator


def build_generator(config: Config) -> nn.Module:
    kernel, width = config.generator.kernel, config.generator.width
    if config.generator.width_rule == "paper":  # x 3/k, in multiples of four for the four channel groups
        return _generator(config, kernel, width * 3 / parse_kernel(kernel)[0], multiple=4)
    if config.generator.width_rule in ("equal_parameters", "equal_macs"):
        return _generator(config, kernel, *matched_width(config))
    return _generator(config, kernel, width)


def build_discriminator(config: Config) -> nn.Module:
    d = config.discriminator
    module = dcgan if d.family in dcgan.VARIANTS else resnet
    return module.Discriminator(d.family, config.dataset.resolution, d.kernel, d.width, d.norm)


def _generator(config: Config, kernel: str, width: float, multiple: int = 1) -> nn.Module:
    g = config.generator
    module = dcgan if g.family in dcgan.VARIANTS else resnet
    return module.Generator(g.family, config.dataset.resolution, kernel, g.upsampling, width, g.latent, g.norm, multiple)


@functools.lru_cache(maxsize=256)
def matched_width(config: Config, tolerance: float = 0.02) -> tuple[float, int]:
    """The width at which the generator costs as much as its c3 row, and the number its channel counts are multiples of.

    Cost is parameters or, by generator.width_rule, multiply-adds per image. Channel counts that are multiples of 16 run fastest, so
    the largest of 16, 8, 4, 2 that comes within the tolerance is taken; otherwise the nearest count there is.
    """

    def cost(kernel: str, width: float, multiple: int) -> int:
        with torch.device("meta"):
            generator = _generator(config, kernel, width, multiple)
            count_macs = config.generator.width_rule == "equal_macs"
            return macs(generator, 1, generator.latent) if count_macs else parameter_count(generator)

    wanted = cost("c3", config.generator.width, 1)
    if cost(config.generator.kernel, config.generator.width, 1) == wanted:  # c3; c3sp unless its transposed layers cost more
        return config.generator.width, 1
    best = None
    for multiple in (16, 8, 4, 2, 1):
        low, high = 0.0, 8 * config.generator.width
        for _ in range(20):  # bisection; the cost is a staircase in the width, so both sides of the last step are tried
            width = (low + high) / 2
            low, high = (width, high) if cost(config.generator.kernel, width, multiple) < wanted else (low, width)
        error, width = min((abs(cost(config.generator.kernel, w, multiple) / wanted - 1), w) for w in (low, high))
        if best is None or error < best[0]:
            best = (error, width, multiple)
        if error <= tolerance:
            break
    return best[1:]
