"""Settings of `classify`: the sections, their defaults and reasons. Files, overrides and errors: gan/settings.py."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from gan.config import Dataset, Kernel, Running
from gan.models.classifiers import FAMILIES, blocks_per_stage
from gan.models.compact_blocks import BRANCHES
from gan.settings import ConfigError, Section, Tree


def idle_settings(family: str, block: str) -> tuple[str, ...]:
    """The keys of `model` that have no effect on such a network."""
    if family == "densenet":
        return "width", "block", "expansion"
    return ("growth",) if block in ("shift", "inverted_bottleneck") else ("growth", "expansion")


class Model(Section):
    """The classifier: family, kernel, depth, width, blocks."""

    family: Literal[tuple(FAMILIES)] = "resnet"
    kernel: Kernel = "c3"  # of every spatial convolution, the first one included; widths stay
    depth: int = Field(default=20, gt=0)  # 6n + 2 (resnet) or 6n + 4 (densenet)
    width: int = Field(default=16, gt=0)  # channels of resnet's first stage
    block: Literal[tuple(BRANCHES)] = "basic"  # of resnet; the others are compact
    expansion: int = Field(default=6, gt=0)  # of shift and inverted_bottleneck
    growth: int = Field(default=12, gt=0)  # of densenet

    @model_validator(mode="before")
    @classmethod
    def _without_idle(cls, given):
        """Settings without effect keep their default, so that no card shows them; rows of a study may share such settings."""
        if not isinstance(given, dict):
            return given
        idle = idle_settings(given.get("family", "resnet"), given.get("block", "basic"))
        return {name: value for name, value in given.items() if name not in idle}

    @model_validator(mode="after")
    def _possible(self):
        blocks_per_stage(self.family, self.depth)
        return self


class Augment(Section):
    """What is done to training images besides dataset.flip; all of it a function of seed and step."""

    crop: int = Field(default=4, ge=0)  # pixels of padding on each side, of which a random window is cut; 0: none
    cutout: int = Field(default=0, ge=0)  # side of the square that is blanked: 16 in DeVries & Taylor 2017; 0: none
    mixup: float = Field(default=0.0, ge=0)  # alpha of Beta(alpha, alpha): 1 in Zhang et al. 2018; 0: none


class Train(Running):
    """The optimisation of a classifier; and how it computes (Running)."""

    epochs: int = Field(default=20, gt=0)
    batch_size: int = Field(default=128, gt=0)
    seed: int = Field(default=0, ge=0)
    lr: float = Field(default=0.1, gt=0)  # the highest
    momentum: float = Field(default=0.9, gt=0, lt=1)  # Nesterov's
    weight_decay: float = Field(default=1e-4, ge=0)  # of convolutions and the linear layer; never of norms and biases
    schedule: Literal["step", "cosine", "linear"] = "step"  # step: a tenth at 1/2 and again at 3/4; the others: to 0
    warmup: float = Field(default=0.0, ge=0, lt=1)  # share of the run in which lr rises linearly; with `linear`: one cycle
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    test_every: int = Field(default=1, gt=0)  # epochs


class Config(Tree):
    """All settings of `classify`."""

    dataset: Dataset = Dataset(name="cifar10")
    model: Model = Model()
    augment: Augment = Augment()
    train: Train = Train()

    RUNTIME: ClassVar[set[str]] = {
        "dataset.path",
        "dataset.memory",
        "dataset.workers",
        "dataset.block",
        "train.device",
        "train.log_every",
        "train.test_every",
        "train.checkpoint_every",
        "train.keep_checkpoints",
    }

    @classmethod
    def load(
        cls, source: str | os.PathLike | dict | None = None, overrides: Sequence[str] = (), changes: Mapping[str, Any] | None = None
    ) -> Self:  # fmt: skip
        """As Tree.load. ConfigError also for an override that does nothing; `changes` may, since the rows of a study share them."""
        found = super().load(source, overrides, changes)
        typed = {override.partition("=")[0] for override in overrides}
        idle = [f"model.{name}" for name in idle_settings(found.model.family, found.model.block) if f"model.{name}" in typed]
        if idle:
            what = found.model.family if found.model.family == "densenet" else f"resnet of {found.model.block} blocks"
            raise ConfigError(f"a {what} has no use for {' and '.join(idle)}; leave {'it' if len(idle) == 1 else 'them'} out")
        return found

    @property
    def length(self) -> int:
        return self.train.epochs
