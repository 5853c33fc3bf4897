"""The settings of `train`: every value has its default and its reason here."""

from typing import Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from data import datasets
from data.decoding import CROPS
from data.extensions import import_extensions
from data.images import RESOLUTIONS
from gan.kernels import KERNELS
from gan.models import FAMILIES
from gan.models.upsampling import UPSAMPLINGS
from gan.objectives import LOSSES
from gan.padding import PADDINGS
from gan.settings import TEXTS, Section, Tree, texts_of
from metrics.precision import Precision

import_extensions()  # before the choices below are made

Family = Literal[tuple(FAMILIES)]
Kernel = Literal[KERNELS]
Upsampling = Literal[UPSAMPLINGS]
Padding = Literal[PADDINGS]


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


KEYS = Config.keys()
TEXTS |= {key for section, field in Config.model_fields.items() for key in texts_of(section, field.annotation)}
