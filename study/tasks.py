"""One run of a study, a GAN or a classifier: two classes with the same methods.

`open` comes before `train`, so that what scoring needs but can't be opened is reported before hours of training.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from data.datasets import look
from data.files import UserError, counted
from data.space import require_space
from data.waiting import progress
from gan import sampling
from gan.classification import config as classification_config
from gan.classification.result import read_result
from gan.classification.state import Batches
from gan.classification.training import train as train_classifier
from gan.config import Config
from gan.evaluation import generator_side, open_side, reference_of
from gan.loop import Interrupted
from gan.memory import require_memory_to_train, space_to_train
from gan.models.build import build
from gan.models.classifiers import build_classifier
from gan.models.counting import example_labels, macs, parameter_count
from gan.probe import inputs, measure, summary, write_record
from gan.probe.figure import draw_probe
from gan.probe.inputs import Real, halves, real_images
from gan.randomness import derive, latents
from gan.run_directory import RunFiles, read_log
from gan.timing import training_macs
from gan.training import train
from metrics.devices import open_device
from metrics.features import Extractor, open_extractor
from metrics.precision import settled
from metrics.scoring import Side, identified, passes, score
from study.folder import StudyFolder
from study.study import Job, Scoring, Study, StudyError

DIVERSITY_IMAGES = 1000
JUDGED = 500  # images of each kind that the discriminator is shown
PROBED = 1000  # images that the instruments look at, of each kind
GRID = 64  # samples
WALKED = 100_000  # images up to which all are read to pick a few; of larger sets only the chosen ones are opened
CLASSES = {"cifar10": 10, "cifar100": 100}


@dataclass(frozen=True)
class Materials:
    """What a GAN is scored with."""

    extractor: Extractor
    real: Side  # the reference
    own: Real  # real images of the generator's size, for what compares pixels; another reference may not have them
    samples: int  # generated images


class GanRun:
    """One GAN: its cost, the scores of its last and best checkpoint, its diversity, the instruments."""

    def __init__(self, config: Config, directory: Path, shown: bool = False):
        """shown: what takes long has a bar."""
        self.config, self.directory, self.shown = config, directory, shown

    def open(self, scoring: Scoring) -> Side:
        """Features and real images to score with; returns the reference. What can't be opened raises, with a reason."""
        config = self.config
        device = open_device(config.train.device)
        extractor = open_extractor(scoring.features, scoring.weights, precision=scoring.precision, device=device)
        if scoring.reference is not None:
            real, own = open_side(scoring.reference, scoring.real), real_images(config, PROBED, split=scoring.split)
        else:
            real = reference_of(config, scoring.split, scoring.real)
            few = real.count is not None and real.count <= WALKED
            own = halves(real, PROBED) if few else real_images(config, PROBED, split=scoring.split)
        self.materials = Materials(extractor, identified(real), own, scoring.samples)
        return self.materials.real

    def train(self) -> None:
        """To its end, or on to it. Diverged."""
        train(self.config, self.directory, progress=self.shown)

    def curve(self) -> list[dict]:
        """The scores taken in training: [{"step": ..., name: value, ...}]."""
        return [record for record in read_log(self.directory) if "d_loss" not in record]

    def model_facts(self) -> dict:
        """Parameters and multiply-adds per image, of the generator unless named otherwise, and those of a training step: of the
        definition, and as a CPU executes them."""
        g, d = build(self.config)
        resolution = self.config.dataset.resolution
        facts = {"parameters": parameter_count(g), "discriminator_parameters": parameter_count(d)}
        precision = settled(self.config.train.precision, "cpu")
        for prefix, executed in (("", False), ("executed_", True)):
            cost_g = macs(g, 1, self.config.generator.latent, executed=executed, precision=precision)
            cost_d = macs(d, 1, 3, resolution, resolution, executed=executed, precision=precision)
            facts |= {f"{prefix}macs": cost_g, f"{prefix}discriminator_macs": cost_d}
            facts[f"{prefix}step_macs"] = training_macs(self.config, cost_g, cost_d)
        return facts

    def scores(self) -> dict:
        """Scores of the last and, where one was kept, of the best checkpoint; what tells a collapse; a grid of fixed latents."""
        seed, own, device = self.config.train.seed, self.materials.own, self.materials.extractor.device
        trained = sampling.load_generator(self.directory, None, device)
        found: dict = {"last": self._scored(trained), "diversity": diversity(trained.generator, own.images, seed)}
        (generator, discriminator), _ = inputs.trained(self.directory, None, device)
        assert discriminator is not None  # which only a lone generator lacks, as those of the zoo
        found["logit_spread"] = logit_spread(generator, discriminator, own.images, seed)
        z = latents(derive(seed, "grid"), 0, GRID, self.config.generator.latent).to(device)
        sampling.save_grid(sampling.grid(trained.generator, z), self.directory / "grid.png", sampling.GRID_COLUMNS, scale=1)
        sampling.save_grid(own.images[:GRID], self.directory / "real.png", sampling.GRID_COLUMNS, scale=1)
        if RunFiles(self.directory).best.exists():
            best = sampling.load_generator(self.directory, "best", device)
            found["best"] = found["last"] if best.step == trained.step else self._scored(best)
        found["probe"] = self._instruments(own, device)
        return found

    def _scored(self, trained: sampling.Trained) -> dict:
        extractor, seed = self.materials.extractor, self.config.train.seed
        name = f"{self.directory.parent.name} step {trained.step}"
        side = generator_side(trained.generator, name, seed, self.materials.samples)
        wanted, real = ["fid", "is"] if extractor.classes else ["fid"], self.materials.real
        with progress("images", passes(real, side), "scoring", self.shown) as advance:
            scores, warnings = score(extractor, real, side, wanted, seed, progress=advance)
        return {"step": trained.step, "scores": [s.to_dict() for s in scores], "warnings": warnings}

    def _instruments(self, real: Real, device: torch.device) -> dict[str, float]:
        """The headline numbers of `probe`, whose record is left in the run's folder."""
        self.probe = measure(self.directory, real=real, samples=PROBED, device=device)
        write_record(self.probe.record, RunFiles(self.directory).probe)
        return summary(self.probe.record)

    def draw(self) -> None:
        """The figure of the instruments: last, so that a picture that can't be drawn costs no score."""
        draw_probe(self.probe, RunFiles(self.directory).probe_figure)


class ClassifierRun:
    """One classifier: its cost, and its test error with a card."""

    check: Callable[[Batches], None] | None = None  # raises where its images aren't those of the runs it's compared with

    def __init__(self, config: classification_config.Config, directory: Path, shown: bool = False):
        """shown: what takes long has a bar."""
        self.config, self.directory, self.shown = config, directory, shown

    def open(self, scoring: Scoring) -> None:
        """Nothing: the training itself opens the test images."""

    def train(self) -> None:
        """To its end, or on to it. Diverged."""
        train_classifier(self.config, self.directory, progress=self.shown, check=self.check)

    def curve(self) -> list[dict]:
        """Test error over training: [{"step": ..., "test_error": percent}]."""
        tested = [record for record in read_log(self.directory) if "test_accuracy" in record]
        return [{"step": r["step"], "test_error": 100 * (1 - r["test_accuracy"])} for r in tested]

    def model_facts(self) -> dict:
        """Parameters, multiply-adds per image, and those of one training step: forward, and a backward pass twice as dear."""
        config, file = self.config, RunFiles(self.directory).result  # knows the classes; a run that diverged has none
        classes = len(read_result(file)["card"]["classes"]) if file.exists() else CLASSES.get(config.dataset.name, 10)
        model = build_classifier(**config.model.model_dump(), classes=classes)
        cost = macs(model, 1, 3, *[config.dataset.resolution] * 2)
        return {"parameters": parameter_count(model), "macs": cost, "step_macs": 3 * cost * config.train.batch_size}

    def scores(self) -> dict:
        """The test error in percent, whose card is that of result.json, and which images were named wrongly.

        No best checkpoint: the test set chooses nothing.
        """
        result = read_result(RunFiles(self.directory).result)
        error = 100 * (1 - result["test_accuracy"])
        scores = [{"name": "test_error", "value": error, "card": result["card"]}]
        last = {"step": result["card"]["steps"], "scores": scores, "wrong": result.get("wrong")}  # older results have none
        return {"last": last, "diversity": None}

    def draw(self) -> None:
        """Nothing: the training has drawn its pictures."""


def check_runs(study: Study, jobs: list[Job], path: Path) -> None:
    """Raise, before any of these runs starts, what some or all of them would end with; each cause once, with the rows it concerns.

    Their data are looked for, and their feature networks opened; the memory of one run and the checkpoints of all must have room.
    """
    of_rows = {job.row.label: study.config(job) for job in jobs}
    causes: dict[str, list[str]] = {}
    looked: dict[str, str | None] = {}  # what was found wrong, by what was looked for
    for label, config in of_rows.items():
        for what, check in _needs(study, config):
            if what not in looked:
                looked[what] = _trouble(check)
            if trouble := looked[what]:
                causes.setdefault(trouble, []).append(label)
                break
    if causes:
        named = [cause if len(rows) == len(of_rows) else f"{' and '.join(rows)}: {cause}" for cause, rows in causes.items()]
        raise StudyError("; ".join(named))
    reasons = [_trouble(lambda config=config: _require_memory(config)) for config in of_rows.values()]
    if all(reasons):  # else the others are trained, and these are counted as failed
        raise StudyError(str(reasons[0]))
    folder, sizes = StudyFolder(path), {label: space_to_train(config, path) for label, config in of_rows.items()}
    there = sum(file.stat().st_size for job in jobs for file in RunFiles(folder.run(job)).checkpoints.glob("*.pt"))
    needed = sum(sizes[job.row.label] for job in jobs) - there
    advice = "free some, set train.keep_checkpoints=1, or choose another --out"
    require_space(path, needed, f"the study, with the checkpoints of {counted(len(jobs), 'run')},", advice)


def _needs(study: Study, config: Config | classification_config.Config) -> Iterator[tuple[str, Callable[[], object]]]:
    """(what a run of these settings needs, in words that are equal for equal things; what raises if it isn't there)."""
    arguments, scored = config.dataset.arguments, config.evaluate if isinstance(config, Config) and config.evaluate.every else None
    splits = {"train", study.scoring.split if isinstance(config, Config) else "test", *([scored.split] if scored else [])}
    for split in sorted(splits, reverse=True):  # train first
        yield f"{arguments} {split}", lambda split=split: look(**arguments, split=split)
    if scored:
        features, weights, precision = scored.features, scored.weights, scored.precision
        yield f"{features} {weights} {precision}", lambda: open_extractor(features, weights, precision=precision)


def _trouble(check: Callable[[], object]) -> str | None:
    """What a check raises, in words."""
    try:
        check()
    except Interrupted:  # Ctrl-C, just now
        raise
    except UserError as error:
        return str(error)
    return None


def _require_memory(config: Config | classification_config.Config) -> None:
    require_memory_to_train(config, open_device(config.train.device))


def open_run(config: Config | classification_config.Config, directory: Path, shown: bool = False) -> GanRun | ClassifierRun:
    """shown: what takes long has a bar."""
    return GanRun(config, directory, shown) if isinstance(config, Config) else ClassifierRun(config, directory, shown)


def diversity(generator: torch.nn.Module, real: Tensor, seed: int) -> float:
    """Variance over images, averaged over pixels and colours, of 1,000 generated images by that of real ones (N, 3, R, R) uint8.

    Twice this variance is the mean squared distance between two images: near 1 for a generator as varied as the data, near 0 for
    one that has collapsed to a single picture.
    """
    generated = torch.cat(list(sampling.samples(generator, seed, DIVERSITY_IMAGES)))
    spread = [x.double().var(dim=0).mean() for x in (generated.cpu(), real.cpu())]
    return float(spread[0] / spread[1])


def logit_spread(generator: torch.nn.Module, discriminator: torch.nn.Module, real: Tensor, seed: int) -> float:
    """Standard deviation of a discriminator's logits over 500 real images (N, 3, R, R) uint8 and 500 generated ones.

    Both networks in eval mode; to a conditional discriminator all images are of the first class.

    Near 0 the discriminator gives every image the same logit, and the generator no longer learns. The difference of the mean logits
    doesn't tell: it passes through 0 whenever the two networks are even.
    """
    images = torch.cat([real[:JUDGED].cpu(), *(x.cpu() for x in sampling.samples(generator, seed, JUDGED))])
    device = next(discriminator.parameters()).device
    logits = []
    with torch.no_grad():
        for some in images.split(100):
            labels = example_labels(discriminator, len(some), device)
            logits.append(discriminator(some.to(device).float() / 127.5 - 1, *labels).double())
    return float(torch.cat(logits).std())
