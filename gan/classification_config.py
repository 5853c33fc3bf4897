"""Settings of `classify`: the sections, their defaults and reasons. Files, overrides and errors work as in gan/config.py."""

import difflib
import os
from pathlib import Path
from typing import Literal, get_args

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from gan import checkpoint
from gan.config import ConfigError, Dataset, Kernel, Section, read_yaml
from gan.models.classifiers import blocks_per_stage
from gan.run_directory import RunDirectory, RunError


class Model(Section):
    family: Literal["resnet", "densenet"] = "resnet"
    kernel: Kernel = "c3"  # of every spatial convolution, the first one included; widths stay
    depth: int = Field(default=20, gt=0)  # 6n + 2 (resnet) or 6n + 4 (densenet)
    width: int = Field(default=16, gt=0)  # channels of resnet's first stage
    block: Literal["basic", "shift", "inverted_bottleneck", "depthwise_separable"] = "basic"  # of resnet; the others are compact
    expansion: int = Field(default=6, gt=0)  # of shift and inverted_bottleneck
    growth: int = Field(default=12, gt=0)  # of densenet

    @model_validator(mode="after")
    def _possible(self):
        blocks_per_stage(self.family, self.depth)
        return self


class Augment(Section):
    """What is done to training images besides dataset.flip; all of it a function of seed and step."""

    crop: int = Field(default=4, ge=0)  # pixels of padding on each side, of which a random window is cut; 0: none
    cutout: int = Field(default=0, ge=0)  # side of the square that is blanked: 16 in DeVries & Taylor 2017; 0: none
    mixup: float = Field(default=0.0, ge=0)  # alpha of Beta(alpha, alpha): 1 in Zhang et al. 2018; 0: none


class Train(Section):
    epochs: int = Field(default=20, gt=0)
    batch_size: int = Field(default=128, gt=0)
    seed: int = Field(default=0, ge=0)
    lr: float = Field(default=0.1, gt=0)  # the highest
    momentum: float = Field(default=0.9, gt=0, lt=1)  # Nesterov's
    weight_decay: float = Field(default=1e-4, ge=0)  # of convolutions and the linear layer; never of norms and biases
    schedule: Literal["step", "cosine", "linear"] = "step"  # step: a tenth at 1/2 and again at 3/4; the others: to 0
    warmup: float = Field(default=0.0, ge=0, lt=1)  # share of the run in which lr rises linearly; with `linear`: one cycle
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    precision: Literal["fp32", "tf32", "bf16"] = "fp32"  # tf32 concerns CUDA alone
    channels_last: bool = True
    compile: bool = False
    deterministic: bool = True  # bitwise repeatable on CUDA too; false lets cuDNN choose faster algorithms
    device: str = "auto"  # auto: cuda if there is one, else cpu
    log_every: int = Field(default=50, gt=0)  # steps
    test_every: int = Field(default=1, gt=0)  # epochs
    checkpoint_every: int = Field(default=500, gt=0)  # steps
    keep_checkpoints: int = Field(default=2, gt=0)

    @field_validator("device")
    @classmethod
    def _known_device(cls, device: str) -> str:
        if device not in ("auto", "cpu", "cuda") and not (device.startswith("cuda:") and device[5:].isdigit()):
            raise ValueError(f"must be auto, cpu, cuda or cuda:N, got {device!r}")
        return device


class Config(Section):
    dataset: Dataset = Dataset(name="cifar10")
    model: Model = Model()
    augment: Augment = Augment()
    train: Train = Train()

    def replace(self, changes: dict[str, object]) -> "Config":
        """A copy with dotted keys changed: {'train.seed': 1}."""
        tree = self.model_dump()
        for key, value in changes.items():
            section, name = key.split(".")
            tree[section][name] = value
        return Config.model_validate(tree)


KEYS = [f"{section}.{key}" for section, field in Config.model_fields.items() for key in field.annotation.model_fields]

# Settings that may differ when a run goes on: where it runs and what it writes, not what it computes.
RUNTIME = {"dataset.path", "dataset.memory", "dataset.workers"}
RUNTIME |= {"train.device", "train.test_every", "train.checkpoint_every", "train.keep_checkpoints"}


def load_config(path: str | os.PathLike | None, overrides: list[str] = ()) -> Config:
    """Read a YAML file (or take the defaults) and apply 'section.key=value' overrides. ConfigError says what is wrong, by key."""
    tree = read_yaml(path) if path is not None else {}
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise ConfigError(f"{override!r} is not of the form key=value; for example train.epochs=100")
        if key not in KEYS:
            raise ConfigError(_unknown(key))
        section, name = key.split(".")
        try:
            value = yaml.safe_load(text)
        except (yaml.YAMLError, ValueError):  # ValueError: an impossible date
            raise ConfigError(f"{key}: {text!r} is not a value that YAML can read; put quotes around it") from None
        below = tree.get(section) or {}
        if isinstance(below, dict):  # anything else is named by the validation
            tree[section] = {**below, name: value}
    try:
        return Config.model_validate({section: value if value is not None else {} for section, value in tree.items()})
    except ValidationError as error:
        where = f" (settings of {path})" if path is not None else ""
        raise ConfigError("; ".join(_explain(e) for e in error.errors()) + where) from None


def dump(config: Config) -> str:
    """YAML text from which load_config gives back the same settings."""
    return yaml.safe_dump(config.model_dump(), sort_keys=False)


def difference(old: Config, new: Config) -> list[str]:
    """'key: old -> new' for every key that differs and not in RUNTIME. Every schedule depends on train.epochs: they must agree."""
    a, b = old.model_dump(), new.model_dump()
    values = [(key, *(tree[key.split(".")[0]][key.split(".")[1]] for tree in (a, b))) for key in KEYS if key not in RUNTIME]
    return [f"{key}: {before} -> {after}" for key, before, after in values if before != after]


def _unknown(key: str) -> str:
    same_name = [k for k in KEYS if k.split(".")[-1] == key.split(".")[-1]]
    near = same_name[:1] or difflib.get_close_matches(key, KEYS, 1, 0.5)
    return f"unknown key {key!r}" + (f"; did you mean {near[0]}?" if near else f"; sections are {', '.join(Config.model_fields)}")


def _explain(error: dict) -> str:
    """One of pydantic's errors in a sentence that names the key."""
    key = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return _unknown(key)
    given = error["input"]
    if error["type"] == "literal_error":
        section, _, name = key.partition(".")
        choices = _choices(Config.model_fields[section].annotation.model_fields[name].annotation)
        near = difflib.get_close_matches(str(given), [str(c) for c in choices], 1)
        return f"{key}: {given!r} is not one of {', '.join(map(str, choices))}" + (f"; did you mean {near[0]}?" if near else "")
    if error["type"] == "value_error":
        return f"{key}: {error['ctx']['error']}"
    return f"{key}: {given!r} is wrong, it {error['msg'].removeprefix('Input ')}"


def _choices(annotation) -> list:
    """The values of a Literal, also inside 'Literal | None'."""
    return [c for part in get_args(annotation) for c in (get_args(part) or [part]) if c is not type(None)]


# --- the run directory -------------------------------------------------------------------------------------------------------


class ClassifierRun(RunDirectory):
    """A run directory whose config.yaml holds the settings of `classify`."""

    def _compare_config(self) -> None:
        file = self.path / "config.yaml"
        if file.exists():
            changes = difference(read_classifier_config(self.path), self.config)
            if changes:
                raise RunError(
                    f"{self.path} holds a run with other settings ({'; '.join(changes)}); "
                    "choose another directory with --out, or go back to its settings"
                )
        elif any(self.path.glob("checkpoints/*.pt")):
            raise RunError(f"{self.path} has checkpoints but no config.yaml; put it back, or choose another --out")
        checkpoint.write_atomically(file, dump(self.config).encode())


def read_classifier_config(path: str | Path) -> Config:
    """The settings of a run of `classify`. RunError if `path` is none."""
    file = Path(path) / "config.yaml"
    if not file.is_file():
        raise RunError(f"{path} is not a run directory: it has no config.yaml; make one with `python run_gan.py classify`")
    try:
        return load_config(file)
    except ConfigError as error:
        raise RunError(f"{path} holds no run of `classify` that can be read ({error}); choose another --out") from None
