"""What a study does with one GAN: its cost, the scores of its last and best checkpoint, its diversity, the instruments."""

from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor

from gan import checkpoint, sampling
from gan.config import Config
from gan.evaluation import generator_side, open_side, reference_of
from gan.models.build import build
from gan.models.counting import macs, parameter_count
from gan.probe import measure, summary, write_record
from gan.probe.figure import draw_probe
from gan.probe.inputs import Real, halves, real_images
from gan.randomness import derive, latents
from gan.run_directory import read_log
from gan.timing import training_macs
from gan.training import train
from metrics.devices import open_device
from metrics.features import Extractor, open_extractor
from metrics.scoring import Side, identified, score
from study.study import Scoring

__all__ = ["curve", "materials", "model_facts", "score_run", "train"]

DIVERSITY_IMAGES = 1000
PROBED = 1000  # images that the instruments look at, of each kind
GRID = 64
WALKED = 100_000  # images, of which a few are picked by a walk over all; of more, only those few are opened


@dataclass(frozen=True)
class Materials:
    """What the runs of a study are scored with."""

    extractor: Extractor
    real: Side  # the reference
    own: Real  # real images of the generator's size, for what compares pixels; another reference may not have them
    samples: int  # generated images


def materials(config: Config, scoring: Scoring) -> Materials:
    """All of it, opened. What can't be opened raises, with a reason."""
    device = open_device(config.train.device)
    extractor = open_extractor(scoring.features, scoring.weights, precision=scoring.precision, device=device)
    if scoring.reference is not None:
        real, own = open_side(scoring.reference, scoring.real), real_images(config, PROBED, split=scoring.split)
    else:
        real = reference_of(config, scoring.split, scoring.real)
        own = halves(real, PROBED) if real.count <= WALKED else real_images(config, PROBED, split=scoring.split)
    return Materials(extractor, identified(real), own, scoring.samples)


def curve(directory: Path) -> list[dict]:
    """The scores taken in training: [{"step": ..., name: value, ...}]."""
    return [record for record in read_log(directory) if "d_loss" not in record]


def score_run(config: Config, directory: Path, materials: Materials, seed: int) -> dict:
    """Scores of the last and, where one was kept, of the best checkpoint; what tells a collapse; a grid of fixed latents."""
    extractor, real, own, samples = materials.extractor, materials.real, materials.own, materials.samples
    device = extractor.device
    wanted = ["fid", "is"] if extractor.classes else ["fid"]
    found = {"advantage": advantage(directory)}
    for which in ("last", "best"):
        if which == "best" and not (directory / "checkpoints" / checkpoint.BEST).exists():
            continue
        trained = sampling.load_generator(directory, None if which == "last" else "best", device)
        if which == "best" and trained.step == found["last"]["step"]:
            found["best"] = found["last"]
            continue
        side = generator_side(trained.generator, f"{directory.parent.name} step {trained.step}", seed, samples)
        scores, warnings = score(extractor, real, side, wanted, seed)
        found[which] = {"step": trained.step, "scores": [s.to_dict() for s in scores], "warnings": warnings}
        if which == "last":
            found["diversity"] = diversity(trained.generator, own.images, seed)
            grid = sampling.draw(trained.generator, latents(derive(seed, "grid"), 0, GRID, config.generator.latent).to(device))
            sampling.save_grid(grid, directory / "grid.png")
    found["probe"] = instruments(directory, own, device)
    return found


def instruments(directory: Path, real: Real, device: torch.device) -> dict[str, float]:
    """The headline numbers of `probe`, whose record and figure are left in the run's folder."""
    found = measure(directory, real=real, samples=PROBED, device=device)
    write_record(found.record, directory / "probe.json")
    draw_probe(found, directory / "probe.png")
    return summary(found.record)


def diversity(generator: torch.nn.Module, real: Tensor, seed: int) -> float:
    """Variance over images, averaged over pixels and colours, of 1,000 generated images by that of real ones (N, 3, R, R) uint8.

    Twice this variance is the mean squared distance between two images: near 1 for a generator as varied as the data, near 0 for
    one that has collapsed to a single picture.
    """
    generated = torch.cat(list(sampling.samples(generator, seed, DIVERSITY_IMAGES)))
    spread = [x.double().var(dim=0).mean() for x in (generated.cpu(), real.cpu())]
    return float(spread[0] / spread[1])


def advantage(directory: Path) -> float | None:
    """How far D's mean outputs on real and on generated images were apart over the last tenth of what training logged, if it did.

    A discriminator that has given up says the same of every image, and its generator stands still: near 0, where the studies
    in results/ have 0.008 to 5.
    """
    logged = [record for record in read_log(directory) if "d_loss" in record]
    last = logged[-max(1, len(logged) // 10) :]
    return fmean(abs(record["d_real"] - record["d_fake"]) for record in last) if last else None


def model_facts(config: Config, directory: Path) -> dict:
    """Parameters and multiply-adds per image, of the generator unless named otherwise, and the multiply-adds of a training step."""
    g, d = build(config)
    resolution = config.dataset.resolution
    cost_g, cost_d = macs(g, 1, g.latent), macs(d, 1, 3, resolution, resolution)
    return {
        "parameters": parameter_count(g), "discriminator_parameters": parameter_count(d),
        "macs": cost_g, "discriminator_macs": cost_d, "step_macs": training_macs(config, cost_g, cost_d),
    }  # fmt: skip
