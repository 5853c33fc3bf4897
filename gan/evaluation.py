"""The images that are scored (a run's generator, a data set, files of images, saved statistics), and the scores of a run."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import data
import gan.classification.features  # noqa: F401 (registers cifar_resnet)
from data import DataError
from data.by_name import BY_NAME
from data.checksums import sealed, whole
from data.copies import decoded_by
from data.files import located, locked, write_atomically
from data.notes import note
from data.sources.arrays import stored_arrays
from data.sources.folder import FileSource
from data.sources.opening import open_source
from data.streaming import full_size_batches
from data.waiting import progress
from gan import checkpoint, sampling, zoo
from gan.config import Config
from gan.randomness import derive
from gan.run_directory import RunError, RunFiles, read_config
from metrics.features import Extractor, open_extractor
from metrics.protocol import PROTOCOLS, ProtocolError, Score, differences
from metrics.scoring import Side, identified, reference_statistics, score
from metrics.statistics import Statistics, StatisticsError

BATCH = 64
PATIENCE = 60  # seconds to wait for another `evaluate`, which adds its scores in a moment


def require_there(*names: str) -> None:
    """Raise what `open_side` would for a name that is nothing, or a run without weights: before any other is opened and decoded."""
    for text in names:
        path, (name, _, split) = located(text), text.partition(":")
        if RunFiles(path).settings_file.is_file():
            read_config(path)
            RunFiles(path).checkpoint_of(None)
        elif path.suffix == ".npz" and not path.exists():
            raise StatisticsError(f"there are no statistics at {path}")
        elif zoo.file_of(path) is None and not path.exists():
            if name not in BY_NAME:
                raise DataError(
                    f"{text} is no run, zoo:NAME, folder, zip, pack, LSUN database or npz, and no data set "
                    f"({', '.join(f'{n}[:test]' for n in BY_NAME)})"
                )
            data.look(name, split=split or "train")


def open_side(
    text: str, count: int | None = None, seed: int = 0, step: int | str | None = None, device: str | torch.device = "cpu",
    shuffle: bool = False,
) -> Side:  # fmt: skip
    """What a user names: a run, a folder or archive of images, a pack, LSUN databases, an npz or npy of images, an npz of
    statistics, or a data set: cifar10, cifar10:test.

    count: how many images: a seeded choice (default: all), or the first `count` of a generator (default: 10,000).
    shuffle: in a seeded order, for scores that average over parts: with files sorted by class, each part would lack classes.
    DataError, RunError, DeviceError, StatisticsError or ProtocolError in one sentence for what can't be opened.
    """
    require_there(text)
    path = located(text)
    if path.suffix == ".npz" and _is_statistics(path):
        if count is not None:
            raise ProtocolError(f"{path.name} holds a mean and a covariance of all its images; leave its count of {count:,} out")
        statistics = Statistics.load(path)
        return Side(statistics.card.get("real", path.name), statistics.count, None, statistics)
    if RunFiles(path).settings_file.is_file() or zoo.file_of(path):
        trained = sampling.load_generator(path, step, device)
        return generator_side(trained.generator, f"{path.name} step {trained.step}", seed, count or 10_000)
    name, _, split = text.partition(":")
    if name in BY_NAME:
        if not split and path.exists():
            raise DataError(
                f"{text} is a data set, and {path} is there, too: say ./{text} for that, or {text}:train for the data set"
            )
        return image_side(data.load(name, split=split or "train"), count, seed, shuffle)
    source = open_source(path)
    if source.both_splits:
        note(f"{path}: the images of its splits train and test, together")
    name = path.name if isinstance(source, FileSource) else source.about  # which categories, which split; what was packed
    chosen = choice(len(source), count, seed, name, shuffle)
    read = lambda own: full_size_batches(source, own, BATCH)
    identify = lambda own: identity(source.fingerprint, own, "as they are")
    labels = lambda: torch.from_numpy(source.labels)
    return _sides(name, source.classes, labels, chosen, read, identify, lambda: decoded_by(source))


def _is_statistics(path: Path) -> bool:
    """Whether an npz holds statistics; True also if it can't be read: Statistics.load then says why."""
    try:
        return {"mu", "sigma"} <= {array.name for array in stored_arrays(path)}
    except DataError:
        return True


def choice(total: int, count: int | None, seed: int, name: str, shuffle: bool = False) -> list[int]:
    """Which of `total` images are scored: all, or a seeded choice of `count`, in their own order or shuffled."""
    count = total if count is None else count
    if count > total:
        raise DataError(f"{name} has {total:,} images, fewer than the {count:,} asked for")
    chosen = np.random.default_rng(seed).permutation(total)[:count]
    return (chosen if shuffle else np.sort(chosen)).tolist()


def identity(fingerprint: str, chosen: list[int], how: str) -> str:
    """A sha256 that stands for images without decoding them: their source's fingerprint, which are chosen, resolution and crop."""
    return sha256(f"{fingerprint},{how},".encode() + np.array(chosen, np.int64).tobytes()).hexdigest()


def image_side(images: data.ImageSet | data.StreamedSet, count: int | None, seed: int, shuffle: bool = False) -> Side:
    """One side of a comparison: `count` images of a data set, a seeded choice, or all; also by class if it has several."""
    chosen = choice(len(images), count, seed, images.source, shuffle)
    read = lambda own: images.batches(own, BATCH)
    identify = lambda own: identity(str(images.fingerprint), own, images.shown)
    known = identify if images.fingerprint else None  # else the pixels themselves are hashed
    return _sides(images.source, images.classes, lambda: images.labels, chosen, read, known, lambda: images.decoded)


def _sides(
    name: str, classes: tuple[str, ...], labels: Callable[[], Tensor], chosen: list[int],
    read: Callable[[list[int]], Iterator[Tensor]], identify: Callable[[list[int]], str] | None, decoded: Callable[[], str],
) -> Side:  # fmt: skip
    """The chosen images as one side of a comparison; also class by class, those of which there are any, where there are several."""

    def part(name: str, own: list[int]) -> Side:
        side = Side(name, len(own), lambda: read(own))
        return replace(side, identify=lambda: identify(own), decoded=decoded) if identify else side

    def by_class() -> dict[str, Side]:
        of, every = labels()[chosen], torch.tensor(chosen)
        parts = {label: every[of == i].tolist() for i, label in enumerate(classes)}
        return {label: part(f"{name}, {label}", own) for label, own in parts.items() if own}

    whole = part(name, chosen)
    return replace(whole, classes=by_class) if len(classes) > 1 else whole


def generator_side(generator: nn.Module, name: str, seed: int, count: int) -> Side:
    """`count` images of an EMA generator in eval mode; of a conditional one also count // classes images of each class."""

    def side(name: str, count: int, of_class: int | None = None) -> Side:
        batches = lambda: sampling.samples(generator, seed, count, BATCH, of_class)
        return Side(name, count, batches, about={"ema": True, "batch_norm": "eval", "seed": seed}, fixed=False)

    names = getattr(generator, "class_names", ())
    share = count // max(1, len(names))
    classes = lambda: {label: side(f"{name}, {label}", share, i) for i, label in enumerate(names)}
    return replace(side(name, count), classes=classes if names else None)


def reference_of(config: Config, split: str = "train", count: int | None = None, seed: int = 0) -> Side:
    """The real images that a run's settings name, cropped and resized as the run sees them."""
    return image_side(data.load(**config.dataset.arguments, split=split), count, seed)


def checkpoint_sides(
    run: Path, steps: list[int | str | None], count: int, seed: int, device: str | torch.device
) -> Iterator[tuple[int, Side]]:
    """(step, its first `count` images of a seed) for each checkpoint, loaded one at a time. steps: as load_generator takes them."""
    for step in steps:
        trained = sampling.load_generator(run, step, device)
        yield trained.step, generator_side(trained.generator, f"{run.name} step {trained.step}", seed, count)


def evaluate_run(
    run: Path, sides: Iterable[tuple[int, Side]], extractor: Extractor, real: Side, wanted: list[str], seed: int,
    progress: Callable[[int], None] = lambda n: None,
) -> tuple[dict[int, list[Score]], list[str]]:  # fmt: skip
    """Score the samples of a run's checkpoints, from `checkpoint_sides`: {step: scores}, and the warnings of the last.

    The scores of each step are added to RUN/scores.json at once, where they replace the same scores by the same protocol.
    """
    read_scores(run)  # a damaged file is reported before the work
    real = identified(real)
    found: dict[int, list[Score]] = {}
    warnings: list[str] = []
    for step, side in sides:
        found[step], warnings = score(extractor, real, side, wanted, seed, progress=progress)
        add_scores(run, step, found[step])
    return found, warnings


def add_scores(run: Path, step: int, scores: list[Score]) -> None:
    """Add scores of a step to RUN/scores.json. It is read again under a lock: another `evaluate` may have added to it meanwhile."""
    file = RunFiles(run).scores
    with locked(file.with_name(f".{file.name}.lock"), PATIENCE):
        records = [sealed(record) for record in merge(read_scores(run), step, scores)]
        write_atomically(file, (json.dumps(records, indent=2) + "\n").encode())


def read_scores(run: Path) -> list[dict]:
    """The records of RUN/scores.json, [{"step": ..., "scores": [...], "sha256": ...}], by step; [] if there are none yet.

    RunError if the file is damaged.
    """
    file = RunFiles(run).scores
    try:
        records = json.loads(file.read_text()) if file.exists() else []
        for record in records:
            int(record["step"]), [Score.from_dict(s) for s in record["scores"]]  # for what they raise
        sound = all(map(whole, records))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise RunError(f"{file} isn't what `evaluate` writes; move it away, and `evaluate` begins a new one") from None
    if not sound:
        raise RunError(f"{file} is damaged: a number isn't the one that was written; move it away, and `evaluate` begins a new one")
    return records


def merge(records: list[dict], step: int, scores: list[Score]) -> list[dict]:
    """The records with these scores put first at their step; old scores of the same name and a comparable card are dropped."""

    def replaced(old: Score) -> bool:
        return any(old.name == new.name and not differences(old.card, new.card) for new in scores)

    by_step = {record["step"]: record["scores"] for record in records}
    kept = [old for old in by_step.get(step, []) if not replaced(Score.from_dict(old))]
    by_step[step] = [s.to_dict() for s in scores] + kept
    return [{"step": step, "scores": by_step[step]} for step in sorted(by_step)]


def apply_protocol(name: str, real: str, *counts: int | None) -> tuple[str, int | None, int]:
    """A published protocol for a data set -> (data set with split, real images, generated images).

    counts: what the user asked for; ProtocolError unless all are None, since the protocol fixes them.
    """
    if name not in PROTOCOLS:
        raise ProtocolError(f"unknown protocol {name!r}; choose {', '.join(PROTOCOLS)}")
    protocol = PROTOCOLS[name]
    if any(count is not None for count in counts):
        raise ProtocolError(f"protocol {name} settles how many images are scored; leave --count and --real-count out")
    dataset = real.partition(":")[0]
    if dataset not in BY_NAME:
        raise ProtocolError(f"protocol {name} chooses the split of a data set ({', '.join(BY_NAME)}); {real} is none")
    return f"{dataset}:{protocol.split}", protocol.real, protocol.generated


def checkpoint_steps(run: Path, which: str) -> list[int | str | None]:
    """'last', 'best', 'all' or a step -> what load_generator takes. RunError for what a run hasn't."""
    if which == "all":
        steps = [checkpoint.step_of(path) for path in checkpoint.saved(RunFiles(run).checkpoints)]
        if not steps:
            raise RunError(f"{run} has no checkpoint yet; train it first")
        return steps
    if which not in ("last", "best") and not (which.isascii() and which.isdigit() and len(which) < 19):
        raise RunError(f"--checkpoint is last, best, all or a step, not {which!r}")
    step = None if which == "last" else which if which == "best" else int(which)
    if RunFiles(run).settings_file.is_file():  # what is no run, load_generator names
        read_config(run)
        RunFiles(run).checkpoint_of(step)
    return [step]


class TrainingScores:
    """Scores while training: `evaluate.samples` images from the EMA against real images, all on the training device.

    Made before images are decoded, it opens the network, and finds out whether there are images to score against; `against` comes
    after. best: the name of the score that chooses the best checkpoint. ProtocolError where the features can't give it.
    """

    LATENTS = "select"  # the random stream (gan.randomness) of their latents

    def __init__(self, config: Config, device: torch.device):
        e = config.evaluate
        if e.split == "test":
            data.look(**config.dataset.arguments, split="test")
        self.config = config
        self.extractor = open_extractor(e.features, e.weights, precision=e.precision, device=device)
        if e.best == "is" and not self.extractor.classes:
            raise ProtocolError(f"{self.extractor.name} gives no class probabilities, so no score 'is'; set evaluate.best=fid")
        self.best = self.extractor.score_name("fid" if e.best == "fid" else "inception_score")
        self.real: Side | None = None

    def against(self, images: data.ImageSet | data.StreamedSet, shown: bool = False) -> None:
        """Take the reference: `images`, which the run trains on, unless `evaluate.split` is test. shown: beside a bar."""
        e = self.config.evaluate
        images = data.load(**self.config.dataset.arguments, split="test") if e.split == "test" else images
        side = image_side(images, min(e.real or len(images), len(images)), self.config.train.seed)
        with progress("images", side.count, "the reference of scores", shown) as advance:
            statistics = reference_statistics(self.extractor, side, advance)  # once for all steps
        self.real = replace(side, statistics=statistics, batches=None)

    def __call__(self, ema: nn.Module, advance: Callable[[int], object] = lambda n: None) -> dict[str, float]:
        """{'fd_...': distance, 'score_...': Inception-Score-like}; changes nothing that trains.

        Of other latents than `evaluate` and `compare` take: what chooses the best checkpoint mustn't score it.
        advance: called with the number of images after each batch.
        """
        assert self.real is not None, "against comes first"
        side = generator_side(ema, "training", derive(self.config.train.seed, self.LATENTS), self.config.evaluate.samples)
        wanted = ["fid", "is"] if self.extractor.classes else ["fid"]
        scores, _ = score(self.extractor, self.real, side, wanted, progress=advance)
        return {s.name: s.value for s in scores}
