"""`gan.load` and `gan.train`: what the commands `sample` and `train` do, for scripts and notebooks."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import torch

from gan import training, zoo
from gan.config import Config
from gan.models.build import resolve_to_train
from gan.run_directory import read_config
from gan.sampling import Trained, load_generator
from gan.settings import ConfigError
from metrics.devices import open_device


def load(name: str | PathLike, step: int | str | None = None, device: str | torch.device = "auto") -> Trained:
    """Load a trained generator: from a run directory, the zoo (`zoo:NAME`, or NAME if no such path exists) or a .safetensors file.

    step: which checkpoint of a run: a step number or "best"; None: the last. device: "auto", "cpu", "cuda" or "cuda:N".
    Raises RunError, CheckpointError, WeightsError, ZooError or DeviceError, all of them UserErrors.
    """
    name = str(name)
    if not Path(name).exists() and name in zoo.names():
        name = zoo.PREFIX + name
    return load_generator(name, step, open_device(device))


@dataclass(frozen=True)
class Progress:
    """What `train` passes to its callback."""

    step: int  # generator updates so far
    losses: dict[str, float]  # of this step, by the names of metrics.jsonl
    generator: Trained  # the EMA generator, which training goes on changing: sample from it within the callback


def train(
    config: Config | Mapping | str | PathLike | None = None, directory: str | PathLike | None = None, *, every: int = 100,
    callback: Callable[[Progress], object] | None = None, progress: bool = False,
) -> Trained:  # fmt: skip
    """Train a GAN, or resume the run in `directory`, as `run_gan.py train` does, and return its EMA generator.

    config: a Config, a YAML file, or its contents as a mapping, such as {"generator": {"kernel": "c2sp"}}; None: the defaults.
    directory: default: a directory in runs/ named after the settings, so that the same settings resume the same run.
    callback: called every `every` steps. An exception in it ends the training; the next call resumes from the last checkpoint.
    progress: show a progress bar.
    Raises DataError, ConfigError, RunError, CheckpointError, Diverged or Interrupted, all of them UserErrors.
    """
    if every < 1:
        raise ConfigError(f"every is the number of steps between callbacks, at least 1, not {every}")
    if not isinstance(config, Config):
        config = Config.load(dict(config) if isinstance(config, Mapping) else config)
    directory = Path(directory) if directory is not None else Path("runs") / run_name(config)

    settings: list[Config] = []  # those of the run, once it has its directory

    def watch(step: int, values: Callable[[], dict[str, float]], ema: torch.nn.Module) -> None:
        if callback is not None and step % every == 0:
            settings[:] = settings or [read_config(directory)]
            callback(Progress(step, values(), Trained(ema, settings[0], step)))

    training.train(config, directory, progress, watch)
    return load_generator(directory, None, open_device(config.train.device))


def run_name(config: Config) -> str:
    """'dcgan-c2sp-1a2b3c4d': a directory name that depends on the settings alone, not on where they train."""
    resolved = resolve_to_train(config)
    kept = {key: value for key, value in resolved.values().items() if key not in Config.RUNTIME}
    digest = hashlib.sha256(repr(sorted(kept.items())).encode()).hexdigest()[:8]
    return f"{resolved.generator.family}-{resolved.generator.kernel}-{digest}"
