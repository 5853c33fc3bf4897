"""A generator in one safetensors file: its EMA weights, and in the header its settings and its step. No code is ever unpickled.

The header also has a sha256 of all the rest and of the weights, which is checked whenever the file is read. Files of before have
none.
"""

import hashlib
import json
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from data.checksums import KEY
from data.files import UserError, in_short, reason, write_atomically
from gan import yaml_text
from gan.config import Config
from gan.settings import ConfigError
from metrics.features.network import tensors_sha256

FORMAT = "1"


class WeightsError(UserError):
    """A file of weights can't be read; the message says why."""


class Stored(NamedTuple):
    """What a file holds."""

    config: Config
    state: dict[str, Tensor]  # float32
    step: int
    classes: tuple[str, ...]  # names, of a conditional generator


def write(generator: nn.Module, config: Config, step: int, path: Path, dtype: torch.dtype = torch.float32) -> None:
    """Write the weights, rounded to a dtype, with settings and step in the header. The file is written atomically."""
    state = {name: t.to(dtype) if t.is_floating_point() else t for name, t in generator.state_dict().items()}
    state = {name: t.cpu().contiguous() for name, t in state.items()}
    header = {"format": FORMAT, "config": config.dump(), "step": str(step)}
    if names := getattr(generator, "class_names", ()):
        header["classes"] = json.dumps(names)
    write_atomically(path, save(state, {**header, KEY: _sha256(header, state)}))


def read(path: Path) -> Stored:
    """What `write` has written. WeightsError for any other file, and for one that is damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            header, names = file.metadata() or {}, file.keys()
            state = {name: file.get_tensor(name) for name in names}
    except FileNotFoundError:
        raise WeightsError(f"there is no file {path}") from None
    except (SafetensorError, OSError) as error:
        why = reason(error) if isinstance(error, OSError) else in_short(error)
        raise WeightsError(f"{path} can't be read as safetensors ({why}): fetch or write it again") from None
    if header.get("format") != FORMAT:
        raise WeightsError(
            f"{path} holds no generator of this program: write it with `python run_gan.py export RUN --to {path.name}`"
        )
    found = header.pop(KEY, None)
    if found is not None and found != _sha256(header, state):
        raise WeightsError(f"{path} is damaged (its bytes are not those that were written): fetch or write it again")
    config, step, classes = _settings(header, path)
    return Stored(config, {name: t.float() if t.is_floating_point() else t for name, t in state.items()}, step, classes)


def _sha256(header: dict[str, str], state: dict[str, Tensor]) -> str:
    """Of the header and the weights, in whatever order they lie in the file."""
    text = json.dumps(header, sort_keys=True) + tensors_sha256(dict(sorted(state.items())))
    return hashlib.sha256(text.encode()).hexdigest()


def _settings(header: dict[str, str], path: Path) -> tuple[Config, int, tuple[str, ...]]:
    """Settings, step and the names of the classes. WeightsError where the header doesn't say them."""
    try:
        tree = yaml_text.read(header["config"])
        if not isinstance(tree, dict):
            raise ValueError("they are no sections with keys")
        config, step = Config.load_saved(tree), int(header["step"])
        classes = json.loads(header["classes"]) if config.generator.conditional else []
        if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
            raise ValueError("the classes are no names")
        return config, step, tuple(classes)
    except (ConfigError, yaml_text.YamlError, KeyError, ValueError, RecursionError) as error:
        raise WeightsError(f"the settings in {path} can't be read ({in_short(error)}): fetch or write it again") from None


def load_into(generator: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    """Fill a generator. WeightsError if the weights are another network's."""
    try:
        generator.load_state_dict(state)
    except RuntimeError as error:
        raise WeightsError(f"{path}: the weights don't fit its settings: {in_short(error, 160)}") from None
