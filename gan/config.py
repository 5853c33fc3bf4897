"""Typed experiment settings: YAML files, dotted overrides, and errors that name the key and the nearest right one.

Every value has its default and its reason here. pydantic checks types and ranges; PyYAML reads and writes the files.
"""

import difflib
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from data import datasets
from data.decoding import CROPS
from data.extensions import import_extensions
from data.files import UserError, reason
from data.images import RESOLUTIONS
from data.notes import note
from gan import yaml_text
from gan.kernels import KERNELS
from gan.models import FAMILIES
from gan.models.upsampling import UPSAMPLINGS
from gan.objectives import LOSSES
from gan.padding import PADDINGS
from metrics.precision import Precision, settled

import_extensions()  # before the choices below are made

Family = Literal[tuple(FAMILIES)]
Kernel = Literal[KERNELS]
Upsampling = Literal[UPSAMPLINGS]
Padding = Literal[PADDINGS]


class ConfigError(UserError):
    """A setting is wrong; the message names it and says what would be right."""


class OtherCommand(ConfigError):
    """The settings are those of another command."""

    def __init__(self, where: str, command: str):
        super().__init__(f"{where} is a config of `{command}`; choose another")
        self.command = command


class Section(BaseModel):
    """A group of settings, such as `train`. Unknown keys, NaN and infinity are refused; instances are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_bool_for_a_number(cls, value: object, info) -> object:
        annotation = cls.model_fields[info.field_name].annotation
        if isinstance(value, bool) and annotation is not bool and value not in choices(annotation):
            quoted = "; put quotes around a text" if _is_text(annotation) else ""
            raise ValueError(f"must not be true or false, got {str(value).lower()}{quoted}")
        return value


class Tree(Section):
    """Sections with settings in them: all the settings of a command. A key is dotted: train.seed."""

    BEFORE: ClassVar[dict[str, Any]] = {}  # keys that older settings files lack, with the values that stand for what they did
    RUNTIME: ClassVar[set[str]]  # keys that may differ when a run goes on: where it runs and what it writes, not what it computes

    @classmethod
    def keys(cls) -> list[str]:
        return [f"{section}.{key}" for section, field in cls.model_fields.items() for key in field.annotation.model_fields]

    @classmethod
    def load(
        cls, source: str | os.PathLike | dict | None = None, overrides: Sequence[str] = (), changes: Mapping[str, Any] | None = None
    ) -> Self:  # fmt: skip
        """The settings of a YAML file, of its contents as a dict, or the defaults; then with `changes`, then with `overrides`.

        overrides: 'train.seed=1', as typed. changes: {'train.seed': 1}. ConfigError names each wrong key and what it may be.
        """
        tree = dict(source) if isinstance(source, dict) else read_yaml(source) if source is not None else {}
        foreign = [COMMANDS[section] for section in tree if section in COMMANDS and section not in cls.model_fields]
        if foreign:
            raise OtherCommand("the base" if isinstance(source, dict) else str(source), foreign[0])
        before, keys = dict(tree), cls.keys()
        typed = [*(changes or {}).items(), *(parsed(override) for override in overrides)]
        for key, value in typed:
            if key not in keys:
                raise ConfigError(_unknown(key, cls))
            section, name = key.split(".")
            below = tree.get(section) or {}
            if isinstance(below, dict):  # anything else is named by the validation
                tree[section] = {**below, name: value}
        cls._fit_the_data_set_to_its_path(tree, {key for key, _ in typed})
        try:
            return cls._validated(tree)
        except ValidationError as error:
            where = f" (in {'the base settings' if isinstance(source, dict) else source})" if source and cls._wrong(before) else ""
            found = error.errors()
            more = [f"and {len(found) - TOLD:,} more"] if len(found) > TOLD else []
            raise ConfigError("; ".join([_explain(e, cls) for e in found[:TOLD]] + more) + where) from None

    @classmethod
    def _fit_the_data_set_to_its_path(cls, tree: dict, typed: set[str]) -> None:
        """Set dataset.name to `folder` where a path that holds images was given without a data set's name."""
        below = tree.get("dataset")
        if "dataset" not in cls.model_fields or not isinstance(below, dict):
            return
        name, path = below.get("name", cls.model_fields["dataset"].default.name), below.get("path")
        if not isinstance(name, str) or not isinstance(path, str):
            return
        if "dataset.name" not in typed and ("dataset.path" in typed or "name" not in below):
            fitting = datasets.fitting(name, path)
            if fitting != name:
                tree["dataset"] = {**below, "name": fitting}
                note(f"dataset.path={path} is no {name}: dataset.name is {fitting}")
        elif typed & {"dataset.name", "dataset.path"}:  # not of what only a file says, which may be that of an old run
            datasets.require_path_of_use(name, path)

    @classmethod
    def load_saved(cls, source: str | os.PathLike | dict, overrides: Sequence[str] = ()) -> Self:
        """The settings that a run was saved with, then `overrides`. A key that an older file lacks gets its value in BEFORE."""
        tree = dict(source) if isinstance(source, dict) else read_yaml(source)
        for key, value in cls.BEFORE.items():
            section, name = key.split(".")
            below = tree.get(section) or {}
            if isinstance(below, dict):  # anything else is named by the validation
                tree[section] = {name: value, **below}
        return cls.load(tree, overrides)

    @classmethod
    def _validated(cls, tree: dict) -> Self:
        return cls.model_validate({section: value if value is not None else {} for section, value in tree.items()})

    @classmethod
    def _wrong(cls, tree: dict) -> bool:
        try:
            cls._validated(tree)
        except ValidationError:
            return True
        return False

    def dump(self) -> str:
        """YAML text from which `load` gives back the same settings."""
        return yaml.safe_dump(self.model_dump(), sort_keys=False)

    def values(self) -> dict[str, Any]:
        """{'train.seed': 0, ...}: every key with its value."""
        return {f"{section}.{key}": value for section, values in self.model_dump().items() for key, value in values.items()}

    def replace(self, changes: Mapping[str, Any]) -> Self:
        """A copy with these keys changed: {'train.seed': 1}; itself where there are none."""
        if not changes:
            return self
        tree = self.model_dump()
        for key, value in changes.items():
            section, name = key.split(".")
            tree[section][name] = value
        return type(self).model_validate(tree)

    def changes(self, new: Self, allowed: Collection[str] = ()) -> list[str]:
        """'key: old -> new' for every key that differs and isn't allowed to."""
        before, after = self.values(), new.values()
        return [f"{key}: {before[key]} -> {after[key]}" for key in before if key not in allowed and before[key] != after[key]]

    def difference(self, new: Self) -> list[str]:
        """'key: old -> new' for what keeps a run with these settings from going on with the new ones."""
        return self.changes(new, self.RUNTIME)

    @property
    def length(self) -> int:
        """How long a run is: steps of a GAN, epochs of a classifier."""
        raise NotImplementedError

    def automatic(self) -> list[str]:
        """The keys whose value `auto` depends on the device: precisions; train.device=auto isn't among them."""
        return [key for key, value in self.values().items() if key.endswith(".precision") and value == "auto"]

    def settled(self, device: object, kept: Self | None = None) -> Self:
        """The settings without `auto`: each precision as in `kept`, a resumed run's settings, else what suits the device."""
        old = kept.values() if kept else {}
        return self.keeping(kept).replace({key: settled(old.get(key, "auto"), device) for key in self.automatic()})

    def keeping(self, old: "Tree | None") -> Self:
        """The settings with the values of BEFORE that `old` has: a resumed run goes on as it was begun."""
        before = old.values() if old else {}
        return self.replace({key: value for key, value in self.BEFORE.items() if before.get(key, self) == value})


class Dataset(Section):
    """Which real images a run trains on, and how they are read."""

    name: Literal[tuple(datasets.names())] = "shapes"  # a path without a name means folder, unless it holds what is named here
    path: str | None = None  # a directory, zip or pack, here or below GAN_DATA; null: GAN_DATA itself, else ./datasets
    resolution: int = 32  # pixels of a side, a multiple of 8 from 16 to 256
    crop: Literal[tuple(CROPS)] = "center"  # centre square, shrunk; all, with black bars; the central R x R as they are
    flip: bool = True  # mirror half of the real images
    on_bad: Literal["refuse", "skip"] = "refuse"  # corrupt or too small images
    categories: str | None = None  # of LSUN: bedroom, or bedroom,kitchen; null: all that lie there
    hold_out: float = Field(default=0.0, ge=0, lt=1)  # share of the images, chosen by their keys, that are not trained on
    memory: float = Field(default=4.0, ge=0)  # GiB of decoded images kept on the training device; larger sets are streamed
    workers: int | None = Field(default=None, ge=0)  # processes, at most 8, that decode what is streamed; null: cores, 0 for packs
    block: int = Field(default=1, gt=0)  # images next to each other that are read together; 256, say, for slow disks

    @field_validator("resolution")
    @classmethod
    def _of_networks(cls, resolution: int) -> int:
        if resolution not in RESOLUTIONS:
            near = [r for r in RESOLUTIONS if abs(r - resolution) < 8] or [min(RESOLUTIONS, key=lambda r: abs(r - resolution))]
            raise ValueError(
                f"{resolution} is no multiple of 8 from {RESOLUTIONS[0]} to {RESOLUTIONS[-1]}, which networks are made for; did "
                f"you mean {' or '.join(map(str, near))}?"
            )
        return resolution

    @property
    def arguments(self) -> dict:
        """The keyword arguments of data.load, except the split."""
        return self.model_dump(exclude={"flip", "block"})


class Generator(Section):
    family: Family = "dcgan"  # docs/models.md has what each is
    kernel: Kernel | None = None  # null: what the family was published with
    upsampling: Upsampling | None = None  # how maps are enlarged; null: as the family was published
    width: float | None = Field(default=None, gt=0)  # channels per unit of the family's plan, for its c3 row
    width_rule: Literal["same", "paper", "equal_parameters", "equal_macs"] = "same"  # paper: width x 3/k; equal: what c3 has
    latent: int = Field(default=128, gt=0)  # length of z ~ N(0, I)
    norm: Literal["batch", "none"] | None = None  # null: as the family was published
    padding: Padding = "zeros"  # how maps go on beyond their border, in every spatial layer: zeros tell position (Xu et al. 2021)
    flat_layers: int = Field(default=0, ge=0, le=64)  # more layers of the same size at each resolution: drift adds up over them
    conditional: bool = False  # both networks are told the class: docs/training.md
    attention: int | None = Field(default=None, gt=0)  # side of the maps that get self-attention (SAGAN, Zhang et al. 2019)
    spectral_norm: bool = False  # on every layer with weights, beside `norm` (Zhang et al. 2019)


class Discriminator(Section):
    """The discriminator."""

    family: Family | None = None  # null: the generator's
    kernel: Kernel | None = None  # null, here and below: what the family was published with
    width: float | None = Field(default=None, gt=0)  # channels per unit of the family's plan
    norm: Literal["spectral", "batch", "none"] | None = None
    padding: Padding = "zeros"  # as the generator's
    attention: int | None = Field(default=None, gt=0)  # as the generator's


class Objective(Section):
    """The loss and the gradient penalties."""

    loss: Literal[tuple(LOSSES)] = "non_saturating"
    gradient_penalty: float = Field(default=0.0, ge=0)  # lambda of WGAN-GP: 10 in the paper
    r1: float = Field(default=0.0, ge=0)  # gamma of Mescheder et al. 2018
    r2: float = Field(default=0.0, ge=0)  # the same on generated images
    penalty_every: int = Field(default=1, gt=0)  # D updates; with n times the weight (lazy, Karras et al. 2020, StyleGAN2)
    penalty_form: Literal["exact", "finite_difference"] = "exact"  # of r1 and r2; finite_difference: no double backward
    penalty_sigma: float = Field(default=0.01, gt=0)  # of the noise between the two sides of a difference (Lin et al. 2025)

    @property
    def penalised(self) -> bool:
        return bool(self.gradient_penalty or self.r1 or self.r2)

    @property
    def differentiates_twice(self) -> bool:
        return bool(self.gradient_penalty or (self.penalised and self.penalty_form == "exact"))


class Augment(Section):
    """What is done to real and generated images alike before the discriminator sees them (gan/augmentation.py)."""

    colour: bool = False  # brightness, saturation, contrast
    translation: float = Field(default=0.0, ge=0, lt=1)  # by up to this share of a side: 0.125 in Zhao et al. 2020
    cutout: float = Field(default=0.0, ge=0, lt=1)  # of this share of each side: 0.5 in Zhao et al. 2020
    probability: float | None = Field(default=None, ge=0, le=1)  # of each change; null: 1, or with a target 0, to begin with
    target: float | None = Field(default=None, gt=-1, lt=1)  # of r_t, to which the probability adapts: 0.6 in Karras et al. 2020
    interval: int = Field(default=4, gt=0)  # steps between adaptations
    images: int = Field(default=500_000, gt=0)  # real ones in which the probability can rise by 1

    @property
    def used(self) -> bool:
        return bool(self.colour or self.translation or self.cutout)

    @property
    def start(self) -> float:
        """The probability at the first step."""
        return self.probability if self.probability is not None else float(self.target is None)


class Schedule(Section):
    """What settings become along half a cosine, and stay: R3GAN, Huang et al. 2024. null: what they were (gan/schedules.py)."""

    steps: int | None = Field(default=None, gt=0)  # until they are there; null: train.steps
    lr_g: float | None = Field(default=None, ge=0)
    lr_d: float | None = Field(default=None, ge=0)
    beta2: float | None = Field(default=None, ge=0, lt=1)
    ema_decay: float | None = Field(default=None, ge=0, lt=1)  # by its half-life
    r1: float | None = Field(default=None, ge=0)
    r2: float | None = Field(default=None, ge=0)
    probability: float | None = Field(default=None, ge=0, le=1)  # of augment

    @property
    def used(self) -> bool:
        return any(value is not None for name, value in self if name != "steps")


class Running(Section):
    """How a run computes, where, and what it keeps: the same in `train` and `classify`."""

    precision: Literal["auto", "fp32", "tf32", "bf16"] = "fp32"  # auto: bf16 where the device multiplies it natively, else fp32
    channels_last: bool = True
    compile: bool = False
    deterministic: bool = True  # bitwise repeatable on CUDA too; false lets cuDNN choose faster algorithms
    device: str = "auto"  # auto: cuda if there is one, else cpu
    log_every: int = Field(default=50, gt=0)  # steps
    checkpoint_every: int = Field(default=500, gt=0)  # steps
    keep_checkpoints: int = Field(default=2, gt=0)

    @field_validator("device")
    @classmethod
    def _known_device(cls, device: str) -> str:
        if device not in ("auto", "cpu", "cuda") and not (device.startswith("cuda:") and device[5:].isdigit()):
            raise ValueError(f"must be auto, cpu, cuda or cuda:N, got {device!r}")
        return device


class Train(Running):
    """The optimisation of a GAN: length, batch, learning rates, EMA; and how it computes (Running)."""

    steps: int = Field(default=3000, gt=0)  # generator updates
    batch_size: int = Field(default=64, gt=0)  # over all processes
    d_steps: int = Field(default=1, gt=0)  # discriminator updates per generator update
    gradient_accumulation: int = Field(default=1, gt=0)  # parts of a batch, one after the other; batch norm sees one at a time
    fused: Literal["auto", False] = "auto"  # resampling and the convolution beside it as one where that is faster (gan.fusing)
    activation_checkpointing: bool = False  # computes activations twice instead of keeping them: same results, less memory
    seed: int = Field(default=0, ge=0)
    lr_g: float = Field(default=2e-4, gt=0)  # two rates: TTUR (Heusel et al. 2017)
    lr_d: float = Field(default=2e-4, gt=0)
    beta1: float = Field(default=0.5, ge=0, lt=1)
    beta2: float = Field(default=0.999, ge=0, lt=1)
    lr_decay: Literal["none", "linear"] = "none"  # linear: to 0 over train.steps
    ema_decay: float = Field(default=0.999, ge=0, lt=1)  # weights that are sampled and scored
    sample_every: int = Field(default=500, gt=0)  # fixed-latent grids


class Evaluate(Section):
    """Scores while training."""

    every: int = Field(default=0, ge=0)  # steps between scores while training; 0: never
    samples: int = Field(default=10_000, ge=20)  # generated images per score
    real: int | None = Field(default=None, ge=2)  # reference images, a seeded choice; null: all
    features: str = "efficientnet_lite0"  # or inception, or module:package.function
    split: Literal["train", "test"] = "train"  # of the run's data set, to score against; test: or what dataset.hold_out keeps
    best: Literal["fid", "is"] = "fid"  # which score chooses the best checkpoint
    weights: str | None = None  # a file of weights for them
    precision: Precision = "fp32"
    instruments: bool = False  # beside the scores, those instruments of `probe` that take a second


class Config(Tree):
    """All settings of `train`."""

    dataset: Dataset = Dataset()
    generator: Generator = Generator()
    discriminator: Discriminator = Discriminator()
    objective: Objective = Objective()
    augment: Augment = Augment()
    train: Train = Train()
    schedule: Schedule = Schedule()
    evaluate: Evaluate = Evaluate()

    BEFORE: ClassVar[dict[str, Any]] = {"train.fused": False}
    RUNTIME: ClassVar[set[str]] = {
        "dataset.path",
        "dataset.memory",
        "dataset.workers",
        "train.device",
        "train.log_every",
        "train.sample_every",
        "train.checkpoint_every",
        "train.keep_checkpoints",
        *(f"evaluate.{key}" for key in Evaluate.model_fields),
    }

    @model_validator(mode="after")
    def _possible(self):
        if self.train.compile and self.objective.differentiates_twice:
            raise ValueError(
                "train.compile=true cannot go with objective.gradient_penalty, nor with exact objective.r1 or r2: PyTorch does not "
                "differentiate twice through compiled code; set train.compile=false or the penalty to 0, or, for r1 and r2, "
                "objective.penalty_form=finite_difference"
            )
        if self.train.precision == "tf32" and self.objective.penalty_form == "finite_difference":
            raise ValueError(
                "train.precision=tf32 rounds away what objective.penalty_form=finite_difference measures; set fp32, or bf16, which "
                "computes the differences in fp32"
            )
        if self.train.compile and self.train.activation_checkpointing:
            raise ValueError("train.compile=true cannot go with train.activation_checkpointing=true; choose one of them")
        if self.evaluate.instruments and not self.evaluate.every:
            raise ValueError("evaluate.instruments=true logs nothing without evaluate.every; set evaluate.every=1000, say")
        return self

    @model_validator(mode="after")
    def _effective(self):
        """Refuse settings that would have no effect, or that contradict each other."""
        for name in ("r1", "r2"):
            if getattr(self.schedule, name) is not None and not getattr(self.objective, name):
                raise ValueError(f"schedule.{name} changes nothing while objective.{name} is 0; set that, or leave this out")
        changes = {f"schedule.lr_{net}" for net in "gd" if getattr(self.schedule, f"lr_{net}") is not None}
        if changes and self.train.lr_decay != "none":
            raise ValueError(f"train.lr_decay=linear cannot go with {' and '.join(sorted(changes))}; choose one of them")
        adapts = {"augment.target": self.augment.target, "schedule.probability": self.schedule.probability}
        adapts = [key for key, value in adapts.items() if value is not None]
        if adapts and not self.augment.used:
            raise ValueError(f"{adapts[0]} changes nothing without augment.colour, augment.translation or augment.cutout; set one")
        if len(adapts) == 2:
            raise ValueError("augment.target adapts the probability that schedule.probability prescribes; choose one of them")
        return self

    @property
    def length(self) -> int:
        return self.train.steps

    def difference(self, new: Self) -> list[str]:
        """As Tree.difference; more train.steps are fine without a schedule."""
        ends_with_run = new.train.lr_decay != "none" or (new.schedule.used and new.schedule.steps is None)
        longer = not ends_with_run and new.train.steps > self.train.steps
        return self.changes(new, self.RUNTIME | {"train.steps"} if longer else self.RUNTIME)


def _is_text(annotation: Any) -> bool:
    return annotation is str or str in get_args(annotation)


def _texts_of(section: str, kind: Any) -> list[str]:
    return [f"{section}.{key}" for key, field in kind.model_fields.items() if _is_text(field.annotation)]


KEYS = Config.keys()
# The keys whose values are any text; classify has no others.
TEXTS = {key for section, field in Config.model_fields.items() for key in _texts_of(section, field.annotation)}
TEXTS |= {"scoring.reference", "scoring.features", "scoring.weights"}  # of a study
TOLD = 8  # wrong values that a message names

# Which command has a section that not all have.
COMMANDS = dict.fromkeys(("generator", "discriminator", "objective", "schedule", "evaluate"), "train")
COMMANDS["model"] = "classify"


def parsed(override: str) -> tuple[str, Any]:
    """'train.seed=1', as typed -> ('train.seed', 1), the value read as YAML. ConfigError if that can't be done.

    For the keys in TEXTS the value is the text itself, unless it's null or in quotes: dataset.path=2020 is a path.
    """
    key, equals, text = override.partition("=")
    if not equals:
        raise ConfigError(f"{yaml_text.shown(override)} is not of the form key=value; for example train.steps=1000")
    if key in TEXTS and text[:1] not in ("", "'", '"') and text not in ("~", "null", "Null", "NULL"):
        return key, text
    try:
        return key, yaml_text.read(text)
    except yaml_text.YamlError:
        shown = yaml_text.shown(text)
        raise ConfigError(f"{_short(key)}: {shown} is not a value that YAML can read; put quotes around it") from None


def read_yaml(path: str | os.PathLike) -> dict:
    """The contents of a YAML file of settings, {} if it is empty. ConfigError if it is missing, too large or no mapping."""
    path = Path(path)
    try:
        with open(path, "rb") as file:
            content = file.read(yaml_text.LONGEST + 1)
        if len(content) > yaml_text.LONGEST:
            raise ConfigError(f"{path} is larger than {yaml_text.LONGEST // 2**20} MiB, as no settings are; choose another")
        tree = yaml_text.read(content)
    except FileNotFoundError:
        near = difflib.get_close_matches(path.name, [p.name for p in path.parent.glob("*.yaml")], 1)
        raise ConfigError(f"no configuration file {path}" + (f"; did you mean {path.parent / near[0]}?" if near else "")) from None
    except OSError as error:
        raise ConfigError(f"{path} can't be read ({reason(error)}): choose another") from None
    except yaml_text.YamlError as error:
        raise ConfigError(f"{path} cannot be read as YAML: {error}") from None
    if tree is not None and not isinstance(tree, dict):
        raise ConfigError(f"{path} must hold sections such as 'train:' with keys below them")
    return tree or {}


def _unknown(key: str, kind: type[Tree]) -> str:
    keys = kind.keys()
    same_name = [k for k in keys if k.split(".")[1] == key.split(".")[-1]]
    near = same_name[:1] or difflib.get_close_matches(key[:100], keys, 1, 0.5)
    return f"unknown key {yaml_text.shown(key)}" + (
        f"; did you mean {near[0]}?" if near else f"; sections are {', '.join(kind.model_fields)}"
    )


def _explain(error: dict, kind: type[Tree]) -> str:
    key = ".".join(str(part) for part in error["loc"])
    if error["type"] in ("extra_forbidden", "invalid_key"):
        return _unknown(key, kind)
    key, given = _short(key), error["input"]
    if error["type"] == "literal_error":
        section, _, name = key.partition(".")
        possible = choices(kind.model_fields[section].annotation.model_fields[name].annotation)
        names = [str(c).lower() if isinstance(c, bool) else str(c) for c in possible]
        shown = yaml_text.shown(given)
        near = difflib.get_close_matches(shown.strip("'"), names, 1)
        return f"{key}: {shown} is not one of {', '.join(names)}" + (f"; did you mean {near[0]}?" if near else "")
    if error["type"] == "value_error":
        return _short(f"{key}: {error['ctx']['error']}" if key else str(error["ctx"]["error"]), 300)
    message = error["msg"].removeprefix("Input ")
    quotes = "; put quotes around it" if error["type"] == "string_type" and isinstance(given, int | float) else ""
    return f"{key}: {yaml_text.shown(given)} is wrong, it {message}{quotes}"


def _short(text: str, most: int = 100) -> str:
    return text if len(text) <= most else f"{text[:most]}…"


def choices(annotation: Any) -> list:
    """The values of a Literal, also inside 'Literal | None'."""
    return [c for part in get_args(annotation) for c in (get_args(part) or [part]) if c is not type(None)]
