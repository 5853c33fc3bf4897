"""A lower bound on the memory that a run needs, checked before it starts, so that it doesn't fail or stall later."""

import math
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from data.memory import capacity, in_words, lacks_memory
from data.space import require_space
from gan.classification import config as classification
from gan.config import Config
from gan.models.build import build_discriminator, build_generator, resolve
from gan.models.classifiers import build_classifier
from gan.models.counting import example_labels
from gan.run_directory import RunError, RunFiles

COPIES = 5  # of a weight while a GAN trains: itself, the gradient, two averages of Adam, and of the generator's the EMA
CLASSIFIER_COPIES = 3  # itself, the gradient, momentum
CLASSES = 10  # of a classifier whose data set hasn't been opened yet
ADVICE = {
    Config: "lower train.batch_size, generator.latent or the widths",
    classification.Config: "lower train.batch_size, model.width or model.depth",
}


def require_memory(size: float, what: str, advice: str) -> None:
    """RunError if so many bytes are more than this process can ever have. what: 'a batch of 10 images'; advice: 'use fewer'."""
    limit = capacity()
    if limit is not None and size > limit:
        raise RunError(f"{what} takes at least {in_words(size)} of memory, and there are {in_words(limit)} here: {advice}")


def require_memory_to_train(config: Config | classification.Config, device: torch.device) -> None:
    """RunError if a run of these settings can't fit into memory: its weights and, on a CPU, the largest feature map of one batch.

    That is a lower bound, so nothing is refused that could run. The networks are built on the meta device, without memory.
    """
    what = "the run"
    try:
        with torch.device("meta"):
            networks = _networks(config)
            size = 4 * sum(copies * sum(p.numel() for p in network.parameters()) for network, copies, _ in networks)
            if device.type == "cpu":
                size += 4 * _map_values(config, networks, (capacity() or math.inf) - size)
    except RuntimeError as error:
        if not lacks_memory(error):
            raise
        raise RunError(f"{what} would take more memory than any machine has: {ADVICE[type(config)]}") from None
    require_memory(size, what, ADVICE[type(config)])


def require_space_to_train(config: Config | classification.Config, directory: str | Path) -> None:
    """UserError if the checkpoints of a run can't lie in its directory."""
    advice = "free some, choose another --out, or set train.keep_checkpoints=1"
    require_space(Path(directory), space_to_train(config, directory), "a run with its checkpoints", advice)


def space_to_train(config: Config | classification.Config, directory: str | Path) -> int:
    """Bytes that a run's checkpoints will take beside those that lie there. Networks are built without memory to find out."""
    t, files = config.train, RunFiles(directory)
    kept = t.keep_checkpoints
    if isinstance(config, Config):
        kept = min(kept, math.ceil(t.steps / t.checkpoint_every))
        kept += config.evaluate.every > 0  # best.pt
    kept += 1  # written before the oldest goes
    there = sum(file.stat().st_size for file in files.checkpoints.glob("*.pt"))
    return max(0, kept * _checkpoint(config) - there)


def _checkpoint(config: Config | classification.Config) -> int:
    """Bytes: of a GAN the weights, two averages of Adam for each, and the EMA; of a classifier weights and momentum."""
    with torch.device("meta"):
        if not isinstance(config, Config):
            model = build_classifier(**config.model.model_dump(), classes=CLASSES)
            return 8 * sum(p.numel() for p in model.parameters())
        config = resolve(config)
        generator, discriminator = build_generator(config), build_discriminator(config)
        values = [sum(p.numel() for p in network.parameters()) for network in (generator, discriminator)]
    return 4 * (4 * values[0] + 3 * values[1])


class Weighed(NamedTuple):
    """A network on the meta device."""

    network: nn.Module
    copies: int  # of its weights while it trains
    shape: tuple[int, ...]  # of what it takes, one image


def _networks(config: Config | classification.Config) -> list[Weighed]:
    resolution = config.dataset.resolution
    if not isinstance(config, Config):
        model = build_classifier(**config.model.model_dump(), classes=CLASSES)
        return [Weighed(model, CLASSIFIER_COPIES, (3, resolution, resolution))]
    config = resolve(config)
    generator, discriminator = build_generator(config), build_discriminator(config)
    return [
        Weighed(generator, COPIES, (generator.latent,)),
        Weighed(discriminator, COPIES - 1, (3, resolution, resolution)),
    ]


def _map_values(config: Config | classification.Config, networks: list[Weighed], room: float) -> int:
    """Values of the largest feature map of a batch; 0 where it takes less than `room` bytes in any case.

    To know its size the network has to run; on the meta device PyTorch imports its compiler for that, which takes seconds.
    """
    images = config.train.batch_size // (config.train.gradient_accumulation if isinstance(config, Config) else 1)
    side = 2 * config.dataset.resolution  # of maps: more than any has
    most = max(_channels(layer) for network, *_ in networks for layer in _layers(network))
    if 4 * most * side**2 * images < room:
        return 0
    return images * max(_largest(network, *shape) for network, _, shape in networks)


def _layers(network: nn.Module) -> list[nn.Module]:
    return [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear)]


def _channels(layer: nn.Module) -> int:
    return layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels


def _largest(network: nn.Module, *shape: int) -> int:
    """Values of the largest map of one image, among the outputs of its convolutions and linear layers."""
    found = [1]
    hooks = [layer.register_forward_hook(lambda _, __, out: found.append(out.numel())) for layer in _layers(network)]
    with torch.no_grad():
        network.eval()(torch.zeros(1, *shape, device="meta"), *example_labels(network, 1, "meta"))
    for hook in hooks:
        hook.remove()
    return max(found)
