"""Making an entry of the zoo from a run."""

import contextlib
import hashlib
import json
import os
import re
import shlex
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import filelock
import torch
import yaml

from data import DataError
from data.checksums import sealed
from data.files import folder_beside, locked, swap_in, write_atomically
from data.sources.registry import data_sets
from data.waiting import Estimate
from gan import weights, zoo
from gan.config import Config
from gan.evaluation import generator_side, reference_of
from gan.models.build import resolve_to_train
from gan.models.counting import parameter_count
from gan.sampling import Trained, load_generator
from gan.zoo import ROOT, ZooCard, ZooError
from metrics.features import Extractor
from metrics.scoring import Side, passes, score

LARGEST = 2_000_000  # bytes of an entry's weights
QUICKSTART = "configs/quickstart.yaml"


def add(
    found: Trained, name: str, extractor: Extractor, count: int, revision: str | None, overwrite: bool = False,
    waiting: Estimate | None = None,
) -> ZooCard:  # fmt: skip
    """Store a run's EMA generator as an entry, with the scores of `count` images of the weights as they are stored.

    revision: of the code, for the card. waiting: a bar of images.
    ZooError for a name that can't be one or is taken, unless told to overwrite, and for too many weights; errors of opening and
    scoring as they come. An old entry of that name stays until the new one is whole.
    """
    require_free(name, overwrite)
    trained = Trained(found.generator, portable(found.config), found.step)
    real = reference(found.config)
    if waiting:
        waiting.expect((passes(real) or 0) + count)
    folder = zoo.folder()
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.safetensors"
    with _alone(name), folder_beside(file) as made:
        require_free(name, overwrite)  # it may have been made meanwhile
        beside = made / file.name
        dtype = store(trained, beside)
        stored = load_generator(beside, None, extractor.device)
        side = generator_side(stored.generator, f"zoo:{name}", 0, count)
        wanted = ["fid", "is"] if extractor.classes else ["fid"]
        scores, _ = score(extractor, real, side, wanted, progress=waiting or (lambda n: None))
        g, d = stored.config.generator, stored.config.dataset
        card = ZooCard(
            name=name, data=trained_on(stored.config), resolution=d.resolution, generator=f"{g.family} {g.upsampling} {g.kernel}",
            parameters=parameter_count(stored.generator), dtype=str(dtype).removeprefix("torch."), steps=stored.step,
            seed=stored.config.train.seed, command=command(stored.config), revision=revision,
            sha256=hashlib.sha256(beside.read_bytes()).hexdigest(), bytes=beside.stat().st_size,
            scores=[s.to_dict() for s in scores],
        )  # fmt: skip
        swap_in(beside, zoo.pending(name))
        try:
            write_atomically(folder / f"{name}.json", (json.dumps(sealed(asdict(card), zoo.SEAL), indent=2) + "\n").encode())
        except OSError:
            zoo.pending(name).unlink(missing_ok=True)
            raise
        os.replace(zoo.pending(name), file)
    return card


def require_free(name: str, overwrite: bool) -> None:
    """ZooError for a name that can't be one, and for that of an entry that isn't to be replaced."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
        raise ZooError(f"{name!r} can't name a generator: use letters, digits, - and _")
    if name in zoo.names() and not overwrite:
        raise ZooError(f"there is a zoo:{name}: choose another name, or say --overwrite to replace it")


@contextlib.contextmanager
def _alone(name: str) -> Iterator[None]:
    """One `zoo add` at a time for a name."""
    try:
        with locked(zoo.folder() / f".{name}.lock"):
            yield
    except filelock.Timeout:
        raise ZooError(f"zoo:{name} is being made by another process: wait for it, or choose another name") from None


def portable(config: Config) -> Config:
    """The settings without what is one machine's own: of the data's path only its last part, no device, no number of workers."""
    path = config.dataset.path
    kept = {"dataset.path": Path(path).name if path else None, "dataset.workers": None, "train.device": "auto"}
    kept |= {"evaluate.weights": None} if config.evaluate.weights else {}
    return config.replace(kept)


def trained_on(config: Config) -> str:
    """What a run learned from, in words: 'cifar10, train split'."""
    d = config.dataset
    images = " ".join(part for part in (d.name, Path(d.path).name if d.path else "") if part)
    if d.hold_out:
        return f"{images}, without the held-out share of {d.hold_out:.4g}"
    return f"{images}, train split" if data_sets()[d.name].splits else images


def reference(config: Config) -> Side:
    """The test split of a run's data where there is one, else what it was trained on."""
    try:
        return reference_of(config, "test")
    except DataError:
        return reference_of(config, "train")


def store(trained: Trained, file: Path) -> torch.dtype:
    """Write the weights, in float32 where they fit into 2 MB, else in bf16. ZooError if that is too large still."""
    for dtype in (torch.float32, torch.bfloat16):
        weights.write(trained.generator, trained.config, trained.step, file, dtype)
        if file.stat().st_size <= LARGEST:
            return dtype
    size = file.stat().st_size
    raise ZooError(f"the weights take {size / 1e6:.1f} MB in bf16, more than {LARGEST / 1e6:g}: train a narrower generator")


def command(config: Config) -> str:
    """The shortest command that trains with these settings: a config of the repository, and what differs from it."""
    known = [file for file in sorted(ROOT.glob("configs/*.yaml")) + sorted(ROOT.glob("configs/*/*.yaml")) if _trains(file)]
    commands = []
    for file in known:
        base = resolve_to_train(Config.load(file))
        changes = [
            (key, value) for key, value in config.values().items() if key not in Config.RUNTIME and base.values()[key] != value
        ]
        if config.dataset.path is not None:
            changes.append(("dataset.path", config.dataset.path))
        named = [] if str(file.relative_to(ROOT)) == QUICKSTART else [str(file.relative_to(ROOT))]
        commands.append([*named, *(f"{key}={_text(value)}" for key, value in changes)])
    return shlex.join(["python", "run_gan.py", "train", *min(commands, key=len)])


def _trains(file: Path) -> bool:
    tree = yaml.safe_load(file.read_text())
    return "generator" in tree and "base" not in tree


def _text(value: object) -> str:
    return yaml.safe_dump(value, default_flow_style=True).removesuffix("\n").removesuffix("\n...")
