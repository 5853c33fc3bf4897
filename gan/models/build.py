"""From settings to networks: `resolve` fills in a family's published settings, `build` makes its generator and discriminator."""

import functools
from dataclasses import replace

import torch
from torch import nn

from gan.config import Config, Generator
from gan.kernels import SameConv2d, parse_kernel, turn_corners
from gan.models.attention import insert_attention
from gan.models.counting import macs, parameter_count
from gan.models.families import FAMILIES, Layers
from gan.models.frames import DiscriminatorFrame, GeneratorFrame
from gan.models.layers import add_spectral_norm
from gan.randomness import derive
from gan.settings import ConfigError

CLASSES = {"cifar100": 100}  # of a data set that hasn't been opened yet; of any other 10


def resolve(config: Config) -> Config:
    """The same settings with every null filled in by the family's published choice; a resolved config is returned unchanged."""
    resolution = config.dataset.resolution
    family = config.discriminator.family or config.generator.family
    g = _published(config.generator.family, "generator", resolution)
    d = _published(family, "discriminator", resolution)
    published = {
        "generator.kernel": g.kernel,
        "generator.upsampling": g.upsampling,
        "generator.width": g.width,
        "generator.norm": g.norm,
        "discriminator.family": family,
        "discriminator.kernel": d.kernel,
        "discriminator.width": d.width,
        "discriminator.norm": d.norm,
    }
    given = config.values()
    return config.replace({key: value for key, value in published.items() if given[key] is None})


def _published(family: str, network: str, resolution: int) -> Layers:
    """The settings that a family was published with. ConfigError if a user's family doesn't define them."""
    try:
        return getattr(FAMILIES[family], f"published_{network}")(resolution)
    except (KeyError, NotImplementedError) as error:
        raise ConfigError(
            f"the family {family} has no {network} of {resolution} pixels: choose another {network}.family or dataset.resolution"
        ) from error


def resolve_to_train(config: Config) -> Config:
    """`resolve`, for training. ConfigError for combinations that are wrong with the family's published settings."""
    config = resolve(config)
    if config.discriminator.norm == "batch" and config.objective.penalised:
        raise ConfigError(
            "objective.gradient_penalty, r1 and r2 penalise the gradient at each image, and batch norm in the discriminator mixes "
            "the images of a batch (Gulrajani et al. 2017, section 4); set discriminator.norm=none or spectral"
        )
    return config


def build(config: Config, classes: int | None = None) -> tuple[GeneratorFrame, DiscriminatorFrame]:
    """Generator and discriminator of a resolved config, with initial weights that are a function of train.seed.

    classes: how many the data set has, needed with generator.conditional; None: a guess by the data set's name.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(config.train.seed, "generator"))
        generator = build_generator(config, classes)
        torch.manual_seed(derive(config.train.seed, "discriminator"))
        discriminator = build_discriminator(config, classes)
    return generator, discriminator


def build_generator(config: Config, classes: int | None = None) -> GeneratorFrame:
    """The generator of a resolved config, its width by generator.width_rule; initial weights from torch's global generator."""
    config = resolve(config)
    classes = _classes(config, classes)
    rule, layers = config.generator.width_rule, _layers(config.generator, _fuse(config))
    if rule == "paper":  # x 3/k, in multiples of four for the four channel groups
        layers = replace(layers, width=layers.width * 3 / parse_kernel(layers.kernel)[0], multiple=4)
    elif rule in ("equal_parameters", "equal_macs"):
        width, multiple = matched_width(config, classes)
        layers = replace(layers, width=width, multiple=multiple)
    return _generator(config.generator, config.dataset.resolution, layers, classes)


def build_discriminator(config: Config, classes: int | None = None) -> DiscriminatorFrame:
    """The discriminator of a resolved config; initial weights from torch's global generator."""
    config = resolve(config)
    d = config.discriminator
    layers = Layers(d.kernel, d.width, d.norm, fuse=_fuse(config), padding=d.padding)
    discriminator = FAMILIES[d.family].discriminator(config.dataset.resolution, layers)
    _check_padding(discriminator, d.padding, "discriminator", d.family)
    turn_corners(discriminator)
    if d.attention:
        images = torch.empty(2, 3, *2 * [config.dataset.resolution], device="meta")
        discriminator.features = _attentive(discriminator.features, images, d.attention, d.norm == "spectral", "discriminator")
    if known := _classes(config, classes):
        discriminator.condition(known)
        if d.norm == "spectral":
            add_spectral_norm(discriminator.embed)
    return discriminator


def _classes(config: Config, classes: int | None) -> int:
    """The number of classes of a config's networks: 0 unless they are conditional."""
    if not config.generator.conditional:
        return 0
    return classes or CLASSES.get(config.dataset.name, 10)


def _layers(g: Generator, fuse: bool = False) -> Layers:
    return Layers(g.kernel, g.width, g.norm, g.upsampling, fuse=fuse, padding=g.padding, flat=g.flat_layers)


def _fuse(config: Config) -> bool:
    return config.train.fused == "auto"


def _generator(g: Generator, resolution: int, layers: Layers, classes: int) -> GeneratorFrame:
    family = FAMILIES[g.family]
    if layers.flat and not family.flat_layers:
        raise ConfigError(
            f"generator.flat_layers: family {g.family} adds no such layers; leave the setting at 0, or choose one of "
            f"{', '.join(name for name, other in FAMILIES.items() if other.flat_layers)}"
        )
    joined = g.latent if classes and layers.norm != "batch" else 0  # numbers that tell the class, behind z
    generator = family.generator(resolution, g.latent + joined, layers)
    _check_padding(generator, layers.padding, "generator", g.family)
    turn_corners(generator)
    if g.attention:
        generator.trunk = _attentive(
            generator.trunk, torch.empty(2, *generator.seed, device="meta"), g.attention, False, "generator"
        )
    if classes:
        try:
            generator.condition(classes, joined)
        except ValueError:
            raise ConfigError(
                f"generator.conditional: family {g.family} has no batch norm to tell the class to; set generator.norm=none, which "
                "joins the class to z"
            ) from None
    if g.spectral_norm:
        layers = [m for m in generator.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d | nn.Linear)]
        if any(not layer.weight.is_meta and not layer.weight.any() for layer in layers):
            raise ConfigError(
                f"generator.spectral_norm: layers of family {g.family} begin with zeros, which have no norm to divide by; leave it "
                "false"
            )
        add_spectral_norm(generator)
    return generator


def _attentive(layers: nn.Sequential, given: torch.Tensor, side: int, spectral: bool, section: str) -> nn.Sequential:
    """Layers with self-attention where their maps have `side` pixels. ConfigError where none has."""
    try:
        layers, attention = insert_attention(layers, given, side)
    except ValueError as sides:
        raise ConfigError(f"{section}.attention={side}: its layers work on maps of {sides} pixels; choose one of these") from None
    if spectral:
        add_spectral_norm(attention)
    return layers


def _check_padding(network: nn.Module, padding: str, section: str, family: str) -> None:
    """ConfigError for a network with spatial layers that don't use the requested padding."""
    spatial = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d) and m.kernel_size != (1, 1)]
    pads = lambda m: isinstance(m, SameConv2d | nn.ConvTranspose2d) or m.padding not in ((0, 0), "valid")
    if any(layer.padding_mode != padding for layer in spatial if pads(layer)):
        raise ConfigError(
            f"{section}.padding={padding}: not all layers of family {family} pad so; build them with layers.conv and layers.up "
            "(docs/extending.md), or leave the setting at zeros"
        )


def matched_width(config: Config, classes: int = 0) -> tuple[float, int]:
    """The width at which the generator costs as much as its c3 row, and the number its channel counts are multiples of.

    Cost is parameters or, by generator.width_rule, multiply-adds per image, those of the definition. Channel counts that are
    multiples of 16 run fastest, so the largest of 16, 8, 4, 2 that comes within the tolerance is taken; otherwise the nearest
    count there is.
    """
    return _matched_width(config.generator, config.dataset.resolution, classes)


@functools.lru_cache(maxsize=256)
def _matched_width(g: Generator, resolution: int, classes: int, tolerance: float = 0.02) -> tuple[float, int]:
    layers = _layers(g)
    counted: dict[tuple, int] = {}  # widths that differ by little round to the same channels

    def cost(**changes) -> int:
        with torch.device("meta"):
            generator = _generator(g, resolution, replace(layers, **changes), classes)
            if g.width_rule != "equal_macs":
                return parameter_count(generator)
            network = changes.get("kernel", layers.kernel), *(p.shape for p in generator.parameters())
            if network not in counted:
                counted[network] = macs(generator, 1, generator.latent)
            return counted[network]

    wanted = cost(kernel="c3")
    if cost() == wanted:  # c3; c3sp unless its transposed layers cost more
        return layers.width, 1
    best = None
    for multiple in (16, 8, 4, 2, 1):
        low, high = 0.0, 8 * layers.width
        for _ in range(20):  # bisection; the cost is a staircase in the width, so both sides of the last step are tried
            width = (low + high) / 2
            low, high = (width, high) if cost(width=width, multiple=multiple) < wanted else (low, width)
        error, width = min((abs(cost(width=w, multiple=multiple) / wanted - 1), w) for w in (low, high))
        if best is None or error < best[0]:
            best = (error, width, multiple)
        if error <= tolerance:
            break
    return best[1:]
