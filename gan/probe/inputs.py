"""What the instruments measure: the networks of a run, the untrained ones of a config, and real images to compare with."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from data import DataError
from gan import checkpoint, sampling, zoo
from gan.config import Config
from gan.evaluation import reference_of
from gan.models.build import build, build_discriminator
from gan.randomness import latents
from gan.run_directory import RunError, RunFiles
from metrics.instruments.impulse import only_convolution, spatial_layers, unparametrize
from metrics.scoring import Side

LEAST = 16  # images
Networks = tuple[nn.Module, nn.Module | None]  # generator and discriminator
TEST_SPLITS = ("cifar10", "cifar100", "shapes")  # data sets whose test split serves as the real images: it loads faster


@dataclass(frozen=True)
class Real:
    """Real images of the generator's size: one half to compare with, another to say what two real halves differ by."""

    images: Tensor  # (n, 3, R, R) uint8
    others: Tensor  # (n, 3, R, R) uint8
    source: str


def untrained(config: Config, seed: int, device: torch.device | str = "cpu") -> tuple[nn.Module, nn.Module]:
    """Generator (calibrated, see `calibrate`) and discriminator of a resolved config, with the initial weights of a seed.

    The discriminator stays in train mode: it has no statistics yet, so its batch norm takes those of the images that it sees.
    """
    generator, discriminator = build(config.replace({"train.seed": seed}))
    generator, discriminator = (net.to(device).requires_grad_(False) for net in (generator, discriminator))
    calibrate(generator, latents(seed, 0, 256, generator.latent).to(device), sampling.labels_of(generator, seed, 0, 256))
    return generator, discriminator


@torch.no_grad()
def calibrate(generator: nn.Module, z: Tensor, labels: Tensor | None = None, contrast: float = 0.5) -> None:
    """Prepare an untrained generator: set batch-norm statistics from latents z (N, latent), and labels of a conditional one; then
    scale the last convolution so that its outputs have the standard deviation `contrast`."""
    given = (z,) if labels is None else (z, labels.to(z.device))
    norms = [m for m in generator.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over what follows
    generator.train()(*given)
    generator.eval()
    for norm in norms:
        norm.momentum = 0.1
    last = list(spatial_layers(generator.trunk))[-1][1]
    seen = []
    handle = last.register_forward_hook(lambda module, _, output: seen.append(output.std()))
    generator(*given)
    handle.remove()
    painting = only_convolution(last)
    if parametrize.is_parametrized(painting, "weight"):  # spectral norm would undo it
        unparametrize(painting)
    painting.weight *= contrast / seen[0]


def trained(run: Path, step: int | str | None, device: torch.device | str = "cpu") -> tuple[Networks, int]:
    """(EMA generator, discriminator) of a run, both in eval mode, and their step. RunError, CheckpointError as load_generator.

    A file of a generator alone, as of the zoo, has no discriminator: None.
    """
    found = sampling.load_generator(run, step, device)
    discriminator = None
    if zoo.file_of(run) is None:
        path = RunFiles(run).checkpoint_of(step)
        state = checkpoint.load(path)
        discriminator = build_discriminator(found.config, found.generator.classes)
        with checkpoint.load_errors(path):
            discriminator.load_state_dict(state["discriminator"])
        discriminator = discriminator.to(device).eval().requires_grad_(False)
    return (found.generator, discriminator), found.step


def real_images(config: Config, samples: int, seed: int = 0, split: str | None = None) -> Real:
    """Two halves of up to `samples` images each from the data of a config. DataError if there are none, RunError if too few.

    split: default, test where the data set has one of its own: the instruments look at pixels' neighbourhoods, not at which images.
    """
    split = split or ("test" if config.dataset.name in TEST_SPLITS else "train")
    try:
        side = reference_of(config, split, 2 * samples, seed)  # of a streamed set no more is read than is looked at
    except DataError:  # fewer images than that: then all; or no images, which the next line says again
        side = reference_of(config, split, None, seed)
    return halves(side, samples, seed)


def halves(side: Side, samples: int, seed: int = 0) -> Real:
    """Two seeded, disjoint halves of one side of a comparison, up to `samples` images each.

    RunError if it has too few images, or only statistics of them.
    """
    if side.batches is None:
        raise RunError(f"{side.name} holds statistics, not images; the instruments need a folder, a zip or a data set")
    count = min(samples, side.count // 2)
    if count < LEAST:
        raise RunError(f"{side.name} has {side.count} images; the instruments need at least {2 * LEAST} real ones")
    order = torch.randperm(side.count, generator=torch.Generator().manual_seed(seed))[: 2 * count]
    place = torch.full((side.count,), -1).index_put((order,), torch.arange(2 * count))  # of each image among the chosen, or -1
    kept, first = None, 0
    for batch in side.batches():
        where = place[first : first + len(batch)]
        first += len(batch)
        kept = batch.new_empty(2 * count, *batch.shape[1:]) if kept is None else kept
        kept[where[where >= 0]] = batch[where >= 0]
    return Real(kept[:count], kept[count:], side.name)
