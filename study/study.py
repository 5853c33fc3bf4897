"""A study: rows (settings that differ) x seeds (training runs of each), and the folder that holds its runs.

Rows share seeds: runs of one seed see the same images in the same order and the same latents, so that rows are compared in pairs.
"""

import itertools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import yaml
from pydantic import Field, ValidationError

from data.files import UserError
from gan import config as gan_config
from gan.classification import config as classification_config
from gan.config import ConfigError, Section, read_yaml
from gan.models.build import resolve_to_train
from metrics.precision import Precision, settled

# Of `dataset`: which real images a run has, and what it sees of them.
PICTURES = ("name", "path", "resolution", "crop", "on_bad", "categories", "hold_out")

# What the scores taken in training depend on, which are drawn on one axis, and the best checkpoint that they choose.
OF_CURVES = {key for key in gan_config.KEYS if key.startswith("evaluate.")}
OF_CURVES -= {"evaluate.weights", "evaluate.instruments"}


class StudyError(UserError):
    """A study can't be read, started or gone on with; the message says why and what to do."""


class Scoring(Section):
    """How the finished runs are scored: all alike, so that the scores may stand in one table."""

    split: Literal["train", "test"] = "train"  # of the runs' own data set
    reference: str | None = None  # another reference, as for `fid`: a folder, a zip, statistics
    samples: int = Field(default=10_000, ge=20)  # generated images
    real: int | None = Field(default=None, ge=2)  # reference images, a seeded choice; null: all
    features: str = "efficientnet_lite0"
    weights: str | None = None
    precision: Precision = "fp32"


class Study(Section):
    title: str
    task: Literal["gan", "classify"] = "gan"  # what a run is: one of `train`, or one of `classify`
    base: str | dict[str, Any]  # a config file, relative to the study file, or its contents
    settings: dict[str, Any] = Field(default={})  # for all rows: dotted key -> value
    rows: list[dict[str, Any]] = Field(default=[{}], min_length=1)  # dotted key -> value, and `label`
    axes: dict[str, list[Any]] = Field(default={})  # dotted key -> values; each of their combinations goes with each of the rows
    baseline: str | dict[str, Any]  # a row's label, or the settings that turn a row into the one that it is compared with
    seeds: list[Annotated[int, Field(ge=0, strict=True)]] = Field(min_length=1)
    scoring: Scoring = Scoring()
    auto_precision: Literal["fp32", "bf16"] | None = None  # what `auto` became when the study began; `compare` fills it in
    worse_than: float | None = Field(default=None, gt=0)  # a distance (test error in percent) above which a run hasn't converged


@dataclass(frozen=True)
class Row:
    label: str
    settings: dict[str, Any]
    parts: tuple[tuple[str, frozenset[str]], ...]  # of the label, each with the keys that it stands for

    @property
    def slug(self) -> str:
        """The label as a folder's name."""
        return re.sub(r"[^A-Za-z0-9.=-]+", "_", self.label).strip("_")


@dataclass(frozen=True)
class Job:
    """One training run of a study."""

    row: Row
    seed: int

    @property
    def name(self) -> str:
        return f"{self.row.slug}/seed_{self.seed}"


def load_study(path: Path, overrides: list[str] = ()) -> Study:
    """A study from its file, or from the folder of one that was started.

    overrides: 'section.key=value' goes to all rows, 'scoring.key=value' to how they are scored.
    """
    path = Path(path)
    file = path / "study.yaml" if path.is_dir() else path
    if path.is_dir() and not file.is_file():
        raise StudyError(f"{path} holds no study.yaml; give a study file, such as those in configs/studies")
    if not file.exists() and file.suffix not in (".yaml", ".yml"):
        raise StudyError(f"there is no study at {path}: give a study file, or the folder of a study that was started")
    tree = read_yaml(file)
    for key, value in map(value_of, overrides):
        section = "scoring" if key.startswith("scoring.") else "settings"
        below = tree.get(section) or {}
        if isinstance(below, dict):  # anything else is named by the validation
            tree[section] = {**below, key.removeprefix("scoring."): value}
    if isinstance(tree.get("base"), str):
        tree["base"] = read_yaml(file.parent / tree["base"])
    try:
        study = Study.model_validate(tree)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg'].removeprefix('Value error, ')}" for e in error.errors())
        raise StudyError(f"{file} is not a study: {problems}") from None
    check(study)
    return study


def value_of(text: str) -> tuple[str, Any]:
    """('key', value) of 'key=value', the value read as YAML. ConfigError where it isn't any."""
    key, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"{text!r} is not of the form key=value; for example train.steps=1000")
    try:
        return key, yaml.safe_load(value)
    except (yaml.YAMLError, ValueError):  # ValueError: an impossible date
        raise ConfigError(f"{key}: {value!r} is not a value that YAML can read; put quotes around it") from None


def rows_of(study: Study) -> list[Row]:
    """Every row of `rows` with every combination of `axes`, in the file's order."""
    rows = []
    for row in study.rows:
        own = {key: value for key, value in row.items() if key != "label"}
        named = [(str(row["label"]), frozenset(own))] if "label" in row else [(str(v), frozenset([k])) for k, v in own.items()]
        for values in itertools.product(*study.axes.values()):
            axes = dict(zip(study.axes, values))
            parts = tuple(part for part in (*named, *((str(v), frozenset([k])) for k, v in axes.items())) if part[0] != "")
            rows.append(Row(" ".join(text for text, _ in parts) or "base", {**own, **axes}, parts))
    return rows


def jobs_of(study: Study) -> list[Job]:
    """Seed by seed, so that an unfinished study has whole seeds to compare."""
    return [Job(row, seed) for seed in study.seeds for row in rows_of(study)]


def settings_of(study: Study) -> type[gan_config.Config] | type[classification_config.Config]:
    """The Config of the study's runs."""
    return classification_config.Config if study.task == "classify" else gan_config.Config


def config_of(study: Study, job: Job) -> gan_config.Config | classification_config.Config:
    """The resolved settings of one run. Generators have as many parameters as their c3 row unless the study says otherwise."""
    changes = {**study.settings, **job.row.settings, "train.seed": job.seed}
    generator = study.base.get("generator")
    if study.task == "gan" and "width_rule" not in (generator if isinstance(generator, dict) else {}):
        changes = {"generator.width_rule": "equal_parameters", **changes}
    config = settings_of(study).load(study.base, changes=changes)
    if study.auto_precision:
        config = config.replace(dict.fromkeys(config.automatic(), study.auto_precision))
    return resolve_to_train(config) if study.task == "gan" else config


def settle_precision(study: Study, path: Path, launcher: str = "here") -> Study:
    """The study without `auto`: one precision for all its rows, since unlike ones share no table.

    What it became when the study in folder `path` began, also on another machine; else bf16 where every device that the rows train
    on multiplies it natively. StudyError where that is for the nodes of a cluster to say.
    """
    configs = [config_of(study, Job(row, study.seeds[0])) for row in rows_of(study)]
    if study.scoring.precision != "auto" and not any(config.automatic() for config in configs):
        return study
    if (path / "study.yaml").is_file():
        old = load_study(path)
        became = old.auto_precision or config_of(old, jobs_of(old)[0]).train.precision
    elif launcher == "slurm":
        raise StudyError("precision auto would become what suits this machine, not the cluster's nodes: set it to bf16 or fp32")
    else:
        devices = {config.train.device for config in configs}
        found = {settled("auto", ("cuda" if torch.cuda.is_available() else "cpu") if d == "auto" else d) for d in devices}
        became = "bf16" if found == {"bf16"} else "fp32"
    scoring = study.scoring.model_copy(update={"precision": became} if study.scoring.precision == "auto" else {})
    return study.model_copy(update={"auto_precision": became, "scoring": scoring})


def partner_of(study: Study, row: Row) -> Row | None:
    """The row that this one's differences are taken against; None for a baseline itself, or where the study has no such row."""
    if isinstance(study.baseline, str):
        found = [r for r in rows_of(study) if r.label == study.baseline]
    else:
        wanted = {**row.settings, **study.baseline}
        found = [r for r in rows_of(study) if r.settings == wanted]
    return found[0] if found and found[0] != row else None


def facet_of(study: Study, row: Row) -> tuple[str, str]:
    """A row's label in two parts: what it shares with the row that it is compared with, and what tells it from that one.

    ("nearest", "c2sp") where the baseline is generator.kernel = c3; ("", the label) where one row is everybody's baseline.
    """
    if isinstance(study.baseline, str):
        return "", row.label
    own = [str(row.settings[key]) for key in study.baseline if key in row.settings]
    shared = [text for text, keys in row.parts if not keys & study.baseline.keys()]
    for _, keys in row.parts:  # a label of the row's own that also names what the baseline sets: its other settings instead
        if len(keys) > 1 and keys & study.baseline.keys():
            shared += [
                f"{key.partition('.')[2]}={row.settings[key]}" for key in row.settings if key in keys - study.baseline.keys()
            ]
    return " ".join(shared), " ".join(own) or row.label


def baseline_name(study: Study) -> str:
    return study.baseline if isinstance(study.baseline, str) else " ".join(map(str, study.baseline.values()))


def check(study: Study) -> None:
    """StudyError or ConfigError for what would fail later: every run's settings are resolved once."""
    rows = rows_of(study)
    if not rows:
        raise StudyError("the study has no rows: an axis of it is empty")
    for row in rows:
        if not re.search("[A-Za-z0-9]", row.slug):
            raise StudyError(f"the row {row.label!r} has no letter or digit to name a folder by; give it a label")
    for kind, names in (("label", [r.label for r in rows]), ("folder name", [r.slug for r in rows])):
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise StudyError(f"two rows of the study have the {kind} {twice[0]!r}; give each row a label of its own")
    if len(set(study.seeds)) < len(study.seeds):
        raise StudyError("a seed stands twice in the study; each must be another one")
    if any("train.seed" in settings for settings in (study.settings, *(row.settings for row in rows))):
        raise StudyError("train.seed is set by the study's `seeds`; leave it out of settings, rows and axes")
    for job in jobs_of(study):
        if config_of(study, job).train.device.startswith("cuda:"):
            raise StudyError("train.device=cuda:N: compare deals GPUs out itself; say cuda, and which with CUDA_VISIBLE_DEVICES")
    if study.scoring.real and (study.scoring.reference or "").endswith(".npz"):
        raise StudyError("scoring.real chooses images, and scoring.reference holds statistics only; leave one of them out")
    if isinstance(study.baseline, str) and study.baseline not in [r.label for r in rows]:
        raise StudyError(f"baseline {study.baseline!r} is no row of the study; its rows are {', '.join(r.label for r in rows)}")
    if isinstance(study.baseline, dict) and not any(partner_of(study, row) for row in rows) and len(rows) > 1:
        raise StudyError(f"baseline {study.baseline} turns no row of the study into another; name a setting of its rows or axes")
    if study.task == "gan":
        _check_comparable(study)


def _check_comparable(study: Study) -> None:
    """StudyError for rows that would be trained for hours and then could not be compared."""
    facets: dict[str, tuple[Row, gan_config.Config]] = {}
    for row in rows_of(study):
        config = config_of(study, Job(row, study.seeds[0]))
        first, other = facets.setdefault(facet_of(study, row)[0], (row, config))
        if unlike := config.changes(other, set(gan_config.KEYS) - OF_CURVES):
            raise StudyError(
                f"{row.label!r} would be compared with {first.label!r}, whose scores in training are taken in another way "
                f"({'; '.join(unlike)}): put evaluate.* into the study's settings"
            )
        unlike = [f"dataset.{key}" for key in PICTURES if getattr(config.dataset, key) != getattr(other.dataset, key)]
        if unlike and study.scoring.reference is None:
            raise StudyError(
                f"{row.label!r} would be compared with {first.label!r}, which differs in {', '.join(unlike)} and is scored against "
                "other real images: give all rows one scoring.reference, or a baseline of settings that pairs rows of the same "
                "images, such as {generator.kernel: c3}"
            )
