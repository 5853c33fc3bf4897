"""A lower bound on the memory that a run needs, checked before it starts, so that it doesn't fail or stall later."""

import math
from pathlib import Path

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
CLASSES = 10  # of a classifier whose data set hasn't been opened yet
ADVICE = "lower train.batch_size, generator.latent or the widths"


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
            weights, largest = _of_gan(config) if isinstance(config, Config) else _of_classifier(config)
    except RuntimeError as error:
        if not lacks_memory(error):
            raise
        raise RunError(f"{what} would take more memory than any machine has: {ADVICE}") from None
    size = 4 * weights
    if device.type == "cpu":
        size += 4 * largest * config.train.batch_size
    require_memory(size, what, ADVICE)


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


def _of_gan(config: Config) -> tuple[int, int]:
    """(values kept for all weights and their copies, values of the largest feature map per image of a batch)."""
    config = resolve(config)
    generator, discriminator = build_generator(config), build_discriminator(config)
    resolution = config.dataset.resolution
    weights = COPIES * sum(p.numel() for p in generator.parameters())
    weights += (COPIES - 1) * sum(p.numel() for p in discriminator.parameters())
    largest = max(_largest(generator, generator.latent), _largest(discriminator, 3, resolution, resolution))
    return weights, largest // config.train.gradient_accumulation


def _of_classifier(config: classification.Config) -> tuple[int, int]:
    model, resolution = build_classifier(**config.model.model_dump(), classes=CLASSES), config.dataset.resolution
    return 3 * sum(p.numel() for p in model.parameters()), _largest(model, 3, resolution, resolution)


def _largest(network: nn.Module, *shape: int) -> int:
    """Values of the largest map of one image, among the outputs of its convolutions and linear layers."""
    found = [1]
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear)]
    hooks = [layer.register_forward_hook(lambda _, __, out: found.append(out.numel())) for layer in layers]
    with torch.no_grad():
        network.eval()(torch.zeros(1, *shape, device="meta"), *example_labels(network, 1, "meta"))
    for hook in hooks:
        hook.remove()
    return max(found)
