"""A generator in one safetensors file: its EMA weights, and in the header its settings and its step. No code is ever unpickled."""

import json
from pathlib import Path

import torch
import yaml
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from data.files import UserError, write_atomically
from gan.config import Config, ConfigError

FORMAT = "1"


class WeightsError(UserError):
    """A file of weights can't be read; the message says why."""


def write(generator: nn.Module, config: Config, step: int, path: Path, dtype: torch.dtype = torch.float32) -> None:
    """Write the weights, rounded to a dtype, with settings and step in the header. The file is written atomically."""
    state = {name: t.to(dtype) if t.is_floating_point() else t for name, t in generator.state_dict().items()}
    header = {"format": FORMAT, "config": config.dump(), "step": str(step)}
    if names := getattr(generator, "class_names", ()):
        header["classes"] = json.dumps(names)
    write_atomically(path, save({name: t.cpu().contiguous() for name, t in state.items()}, header))


def read(path: Path) -> tuple[Config, dict[str, Tensor], int]:
    """Settings, float32 weights and step. WeightsError where the file isn't one of `write`'s."""
    config, step = read_header(path)
    try:
        with safe_open(path, framework="pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is damaged ({error}): fetch or write it again") from None
    return config, {name: t.float() if t.is_floating_point() else t for name, t in state.items()}, step


def read_header(path: Path) -> tuple[Config, int]:
    """Settings and step alone. WeightsError where the file isn't one of `write`'s."""
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
    except FileNotFoundError:
        raise WeightsError(f"there is no file {path}") from None
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"{path} can't be read as safetensors ({' '.join(str(error).split())}): fetch or write it again"
        ) from None
    if header.get("format") != FORMAT:
        raise WeightsError(
            f"{path} holds no generator of this program: write it with `python run_gan.py export RUN --to {path.name}`"
        )
    try:
        return Config.load_saved(yaml.safe_load(header["config"])), int(header["step"])
    except (ConfigError, KeyError, ValueError, yaml.YAMLError) as error:
        raise WeightsError(f"the settings in {path} can't be read: {json.dumps(str(error))}") from None


def read_classes(path: Path) -> tuple[str, ...]:
    """The names of the classes of a conditional generator. WeightsError where the file doesn't say them."""
    try:
        with safe_open(path, framework="pt") as file:
            return tuple(json.loads(file.metadata()["classes"]))
    except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
        raise WeightsError(f"{path} doesn't name the classes of its generator ({type(error).__name__}): write it again") from None


def load_into(generator: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    """Fill a generator. WeightsError if the weights are another network's."""
    try:
        generator.load_state_dict(state)
    except RuntimeError as error:
        raise WeightsError(f"{path}: the weights don't fit its settings: {' '.join(str(error).split())[:160]}") from None
