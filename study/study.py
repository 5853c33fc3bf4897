"""A study: rows (settings that differ) x seeds (training runs of each), and all that follows from its file.

Rows share seeds: runs of one seed see the same images in the same order and the same latents, so that rows are compared in pairs.
"""

import difflib
import hashlib
import itertools
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import torch
from pydantic import Field, ValidationError

from data.files import UserError
from gan import config as gan_config
from gan.classification import config as classification_config
from gan.models.build import resolve_to_train
from gan.settings import Section, parsed, read_yaml
from metrics.precision import Precision, settled

Config = gan_config.Config | classification_config.Config

# Of `dataset`: which real images a run has, and what it sees of them.
IMAGE_KEYS = ("name", "path", "resolution", "crop", "on_bad", "categories", "hold_out")

MOST = 10_000  # runs of a study
LONG = 40  # letters of a row's folder

# What the scores taken in training depend on, which are drawn on one axis, and the best checkpoint that they choose.
CURVE_KEYS = {key for key in gan_config.KEYS if key.startswith("evaluate.")} - {"evaluate.weights", "evaluate.instruments"}


class StudyError(UserError):
    """A study can't be read, started or gone on with; the message says why and what to do."""


@dataclass(frozen=True)
class Row:
    """Settings that are trained with every seed: a row of the table."""

    label: str
    settings: dict[str, Any]  # dotted key -> value
    parts: tuple[tuple[str, frozenset[str]], ...]  # of the label, each with the keys that it stands for

    @property
    def slug(self) -> str:
        """The label as a folder's name."""
        return folder_name(self.label)


def folder_name(label: str) -> str:
    """Letters, digits, `.`, `-` and `_`, at most LONG of them: the end of a longer name is a hash of all of it.

    The names that earlier versions made, with `=` and of any length, become the same ones.
    """
    name = re.sub(r"[^A-Za-z0-9.-]+", "_", label).strip("_")
    if len(name) <= LONG:
        return name
    return f"{name[: LONG - 9]}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class Job:
    """One training run of a study."""

    row: Row
    seed: int

    @property
    def name(self) -> str:
        return f"{self.row.slug}/seed_{self.seed}"


class Scoring(Section):
    """How the finished runs are scored: all alike, so that the scores may stand in one table."""

    split: Literal["train", "test"] = "train"  # of the runs' own data set
    reference: str | None = None  # another reference, as for `fid`: a folder, a zip, statistics
    samples: int = Field(default=10_000, ge=20)  # generated images
    real: int | None = Field(default=None, ge=2)  # reference images, a seeded choice; null: all
    features: str = "efficientnet_lite0"
    weights: str | None = None
    precision: Precision = "fp32"
    every: int = Field(default=0, ge=0)  # steps between scores in training, taken in this same way; 0: as evaluate.* says

    def protocol(self) -> dict[str, Any]:
        """What a final score depends on: a record holds it."""
        return self.model_dump(exclude={"every"})

    def is_that_of(self, recorded: dict[str, Any]) -> bool:
        """Whether a record's scores were taken in this way; one of an earlier version may lack what has a default since."""
        return {**Scoring().protocol(), **recorded} == self.protocol()

    def in_training(self) -> dict[str, Any]:
        """{key: value} of the settings with which training takes such scores; {} where that is left to evaluate.*."""
        names = ("samples", "real", "split", "features", "weights", "precision", "every") if self.every else ()
        return {f"evaluate.{name}": getattr(self, name) for name in names}


class Tune(Section):
    """Settings that each row may choose for itself, on seeds that are used for nothing else."""

    grid: dict[str, list[Any]] = Field(min_length=1)  # dotted key -> values; every combination is tried
    seeds: list[Annotated[int, Field(ge=0, strict=True)]] = Field(default=[1000, 1001], min_length=1)


class Study(Section):
    """A study's file. What follows from it (rows, jobs, each run's settings) is computed once and cached.

    Read with `Study.load`, which also checks that every run can be trained and compared.
    """

    title: str
    task: Literal["gan", "classify"] = "gan"  # what a run is: one of `train`, or one of `classify`
    base: dict[str, Any]  # a config; in the file it may be the path of one, relative to the study file
    settings: dict[str, Any] = Field(default={})  # for all rows: dotted key -> value
    given_rows: list[dict[str, Any]] = Field(default=[{}], min_length=1, alias="rows")  # dotted key -> value, and `label`
    axes: dict[str, list[Any]] = Field(default={})  # dotted key -> values; each of their combinations goes with each of the rows
    baseline: str | dict[str, Any]  # a row's label, or the settings that turn a row into the one that it is compared with
    seeds: list[Annotated[int, Field(ge=0, strict=True)]] = Field(min_length=1)
    scoring: Scoring = Scoring()
    auto_precision: Literal["fp32", "bf16"] | None = None  # what `auto` became when the study began; `compare` fills it in
    worse_than: float | None = Field(default=None, gt=0)  # a distance (test error in percent) above which a run hasn't converged
    contrasts: list[tuple[str, str]] | None = None  # [row, against], labels; null: symmetric kernels against one-sided twins
    equal_within: float = Field(default=0.1, gt=0, lt=1)  # share; a difference whose whole interval is smaller counts as none
    tune: Tune | None = None  # before the rows are compared, each chooses the best of these settings
    tuned: dict[str, dict[str, Any]] | None = None  # by row, what it chose; `compare` fills it in

    @classmethod
    def load(cls, path: Path, overrides: Sequence[str] = (), seeds: Sequence[int] | None = None) -> Self:
        """A study from its file, or from the folder of one that was started.

        overrides: 'section.key=value' goes to all rows, 'scoring.key=value' to how they are scored. seeds: instead of the file's.
        StudyError, ConfigError.
        """
        path = Path(path)
        file = path / "study.yaml" if path.is_dir() else path
        if path.is_dir() and not file.is_file():
            raise StudyError(f"{path} holds no study.yaml; give a study file, such as those in configs/studies")
        if not file.exists() and file.suffix not in (".yaml", ".yml"):
            raise StudyError(f"there is no study at {path}: give a study file, or the folder of a study that was started")
        tree = read_yaml(file)
        for key, value in map(parsed, overrides):
            section = "scoring" if key.startswith("scoring.") else "settings"
            below = tree.get(section) or {}
            if isinstance(below, dict):  # anything else is named by the validation
                tree[section] = {**below, key.removeprefix("scoring."): value}
        if seeds is not None:
            tree["seeds"] = list(seeds)
        if isinstance(tree.get("base"), str):
            tree["base"] = read_yaml(_base(file, tree["base"]))
        try:
            study = cls.model_validate(tree)
        except ValidationError as error:
            problems = [f"{'.'.join(map(str, e['loc']))}: {e['msg'].removeprefix('Value error, ')}" for e in error.errors()]
            raise StudyError(f"{file} is not a study: {'; '.join(problems)}") from None
        study.check()
        study._require_effect(map(parsed, overrides))
        return study

    def _require_effect(self, overrides: Iterable[tuple[str, Any]]) -> None:
        """StudyError for a setting of all rows that the rows themselves, or the grid they choose from, set again."""
        of_rows = {key for row in self.rows for key in row.settings}
        for key, _ in overrides:
            if key in of_rows or (self.tune and key in self.tune.grid):
                where = "rows or axes" if key in of_rows else "tune.grid"
                raise StudyError(
                    f"{key}: the study's {where} set it, after settings for all rows; change it there, in a copy of the file"
                )

    def dump(self) -> dict[str, Any]:
        """The contents of its file, for JSON or YAML, without fields that `compare` fills in and hasn't filled yet."""
        empty = {name for name in ("auto_precision", "tune", "tuned") if getattr(self, name) is None}
        return self.model_dump(mode="json", by_alias=True, exclude=empty)

    def __copy__(self) -> Self:
        """For model_copy, which then changes fields: drops the cached values, which follow from the old ones."""
        copied = super().__copy__()
        for name in vars(copied).keys() - type(self).model_fields.keys():
            vars(copied).pop(name)
        return copied

    @cached_property
    def rows(self) -> list[Row]:
        """Every row of the file's `rows` with every combination of `axes`, in the file's order."""
        rows = []
        for row in self.given_rows:
            own = {key: value for key, value in row.items() if key != "label"}
            named = [(str(row["label"]), frozenset(own))] if "label" in row else [(str(v), frozenset([k])) for k, v in own.items()]
            for values in itertools.product(*self.axes.values()):
                axes = dict(zip(self.axes, values))
                parts = tuple(part for part in (*named, *((str(v), frozenset([k])) for k, v in axes.items())) if part[0] != "")
                rows.append(Row(" ".join(text for text, _ in parts) or "base", {**own, **axes}, parts))
        return rows

    @cached_property
    def jobs(self) -> list[Job]:
        """All runs, seed by seed, so that an unfinished study has complete seeds to compare."""
        return [Job(row, seed) for seed in self.seeds for row in self.rows]

    def config(self, job: Job) -> Config:
        """The resolved settings of one of its runs. Generators have as many parameters as their c3 row unless the study says
        otherwise."""
        return self._configs[job.name]

    @cached_property
    def _configs(self) -> dict[str, Config]:
        return {job.name: self._resolved(job) for job in self.jobs}

    def _resolved(self, job: Job) -> Config:
        chosen = (self.tuned or {}).get(job.row.label, {})
        changes = {**self.settings, **job.row.settings, **chosen, **self.scoring.in_training(), "train.seed": job.seed}
        generator = self.base.get("generator")
        if self.task == "gan" and "width_rule" not in (generator if isinstance(generator, dict) else {}):
            changes = {"generator.width_rule": "equal_parameters", **changes}
        config = self.kind.load(self.base, changes=changes)
        if self.auto_precision:
            config = config.replace(dict.fromkeys(config.automatic(), self.auto_precision))
        return resolve_to_train(config) if isinstance(config, gan_config.Config) else config

    @property
    def kind(self) -> type[Config]:
        """The class of its runs' settings."""
        return classification_config.Config if self.task == "classify" else gan_config.Config

    def partner(self, row: Row) -> Row | None:
        """The row that this one's differences are taken against; None for a baseline itself, or where there is no such row."""
        return self._partners[row.label]

    @cached_property
    def _partners(self) -> dict[str, Row | None]:
        found = {}
        for row in self.rows:
            if isinstance(self.baseline, str):
                partner = next((r for r in self.rows if r.label == self.baseline), None)
            else:
                wanted = {**row.settings, **self.baseline}
                partner = next((r for r in self.rows if r.settings == wanted), None)
            found[row.label] = partner if partner != row else None
        return found

    @property
    def features(self) -> set[str]:
        """The feature networks that its scores, and those taken in training, of the tuning too, are computed with."""
        if self.task != "gan":
            return set()
        configs = [self.config(job) for job in self.jobs[: len(self.rows)]]
        in_training = {c.evaluate.features for c in configs if isinstance(c, gan_config.Config) and c.evaluate.every}
        return {self.scoring.features, *in_training, *(self.tuning().features if self.tune else ())}

    @cached_property
    def contrast_pairs(self) -> list[tuple[Row, Row]]:
        """Rows that are compared as the study declared beforehand: (row, against)."""
        rows = {row.label: row for row in self.rows}
        if self.contrasts is not None:
            return [(rows[a], rows[b]) for a, b in self.contrasts]
        found = []
        for row in self.rows:
            twin = {key: _one_sided(value) if key.endswith(".kernel") else value for key, value in row.settings.items()}
            found += [
                (row, other)
                for other in self.rows
                if other.settings == twin != row.settings and self.facet(other)[0] == self.facet(row)[0]
            ]
        return found

    def facet(self, row: Row) -> tuple[str, str]:
        """A row's label in two parts: what it shares with the row that it is compared with, and what tells it from that one.

        ("nearest", "c2sp") where the baseline is generator.kernel = c3; ("", the label) where one row is everybody's baseline.
        """
        if isinstance(self.baseline, str):
            return "", row.label
        own = [str(row.settings[key]) for key in self.baseline if key in row.settings]
        shared = [text for text, keys in row.parts if not keys & self.baseline.keys()]
        named = " ".join(f"{key.partition('.')[2]} {row.settings[key]}" for key in self.baseline if key in row.settings)
        for text, keys in row.parts:  # a label of the row's own that also names what the baseline sets: without that, if it ends so
            if len(keys) < 2 or not keys & self.baseline.keys():
                continue
            if named and text.endswith(f" {named}"):
                shared.append(text.removesuffix(named).strip())
            else:  # its other settings instead
                others = keys - self.baseline.keys()
                shared += [f"{key.partition('.')[2]} {value}" for key, value in row.settings.items() if key in others]
        return " ".join(shared), " ".join(own) or row.label

    def tuning(self) -> Self:
        """The study of the settings that rows choose among: a row for each of its rows with each combination of the grid."""
        assert self.tune is not None
        rows = [
            {"label": " ".join([row.label, *(f"{key.partition('.')[2]} {value}" for key, value in zip(self.tune.grid, values))])}
            | row.settings
            | dict(zip(self.tune.grid, values))
            for row in self.rows
            for values in itertools.product(*self.tune.grid.values())
        ]
        first = {key: values[0] for key, values in self.tune.grid.items()}
        changes = {"title": f"{self.title}: tuning", "given_rows": rows, "axes": {}, "baseline": first, "contrasts": []}
        return self.model_copy(update={**changes, "seeds": self.tune.seeds, "tune": None, "tuned": None})

    @property
    def baseline_name(self) -> str:
        return self.baseline if isinstance(self.baseline, str) else " ".join(map(str, self.baseline.values()))

    def settled(self, path: Path, launcher: str = "here") -> Self:
        """The study without `auto`: one precision for all its rows, since unlike ones share no table.

        What it became when the study in folder `path` began, also on another machine; else bf16 where every device that the rows
        train on multiplies it natively. StudyError where that is for the nodes of a cluster to say.
        """
        configs = [self.config(job) for job in self.jobs[: len(self.rows)]]  # of one seed
        if self.scoring.precision != "auto" and not any(config.automatic() for config in configs):
            return self
        old = type(self).load(path) if (path / "study.yaml").is_file() else None
        known = old and (old.auto_precision or old.config(old.jobs[0]).train.precision)
        if known and known != "auto":
            became = known
        elif launcher == "slurm":
            raise StudyError("precision auto would become what suits this machine, not the cluster's nodes: set it to bf16 or fp32")
        else:
            devices = {config.train.device for config in configs}
            found = {settled("auto", ("cuda" if torch.cuda.is_available() else "cpu") if d == "auto" else d) for d in devices}
            became = "bf16" if found == {"bf16"} else "fp32"
        scoring = self.scoring.model_copy(update={"precision": became} if self.scoring.precision == "auto" else {})
        return self.model_copy(update={"auto_precision": became, "scoring": scoring})

    def check(self) -> None:
        """StudyError or ConfigError for what would fail later: every run's settings are resolved once."""
        count = len(self.given_rows) * math.prod(len(values) for values in self.axes.values())
        if count * len(self.seeds) > MOST:
            raise StudyError(
                f"the study has {count:,} rows, {count * len(self.seeds):,} runs with its seeds, more than the {MOST:,} that there "
                "may be: leave out axes or values"
            )
        if not self.rows:
            raise StudyError("the study has no rows: an axis of it is empty")
        for row in self.rows:
            if not re.search("[A-Za-z0-9]", row.slug):
                raise StudyError(f"the row {row.label!r} has no letter or digit to name a folder by; give it a label")
        labels = [row.label for row in self.rows]
        for kind, names in (("label", labels), ("folder name", [row.slug for row in self.rows])):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise StudyError(f"two rows of the study have the {kind} {twice[0]!r}; give each row a label of its own")
        if len(set(self.seeds)) < len(self.seeds):
            raise StudyError("a seed occurs twice in the study; name each seed once")
        if any("train.seed" in settings for settings in (self.settings, *(row.settings for row in self.rows))):
            raise StudyError("train.seed is set by the study's `seeds`; leave it out of settings, rows and axes")
        if any(self.config(job).train.device.startswith("cuda:") for job in self.jobs):
            raise StudyError("train.device=cuda:N: compare assigns the GPUs; set it to cuda, and choose by CUDA_VISIBLE_DEVICES")
        if self.scoring.real and (self.scoring.reference or "").endswith(".npz"):
            raise StudyError("scoring.real chooses images, and scoring.reference holds statistics only; leave one of them out")
        for label in {label for pair in self.contrasts or [] for label in pair} - set(labels):
            raise StudyError(f"contrasts: {label!r} is no row of the study; its rows are {', '.join(labels)}")
        for a, b in self.contrast_pairs if self.contrasts else []:
            if self.facet(a)[0] != self.facet(b)[0]:
                raise StudyError(f"contrasts: {a.label} and {b.label} are in groups that are not compared; leave that pair out")
        self._check_scoring()
        self._check_tuning()
        if isinstance(self.baseline, str) and self.baseline not in labels:
            raise StudyError(f"baseline {self.baseline!r} is no row of the study; its rows are {', '.join(labels)}")
        if isinstance(self.baseline, dict) and not any(map(self.partner, self.rows)) and len(self.rows) > 1:
            raise StudyError(f"baseline {self.baseline} turns no row of the study into another; name a setting of its rows or axes")
        for row in self.rows:
            partner = self.partner(row)
            if partner and self.facet(row)[0] != self.facet(partner)[0]:
                raise StudyError(
                    f"{row.label!r} is to be compared with {partner.label!r}, but their labels put them into unlike groups "
                    f"({self.facet(row)[0]!r} and {self.facet(partner)[0]!r}): name the baseline by its label, or let both labels "
                    "begin with what the two rows share"
                )
        self._check_comparable()

    def _check_scoring(self) -> None:
        """StudyError for scores in training that can't be taken as the final ones are."""
        if not self.scoring.every:
            return
        if self.task == "classify" or self.scoring.reference is not None:
            why = (
                "classifiers are tested by train.test_every"
                if self.task == "classify"
                else "training scores against the run's own data"
            )
            raise StudyError(f"scoring.every: {why}; leave it out")
        given = {key for settings in (self.settings, *(row.settings for row in self.rows)) for key in settings}
        if both := sorted(given & self.scoring.in_training().keys()):
            raise StudyError(f"scoring.every takes scores in training as the final ones are taken: leave {', '.join(both)} out")

    def _check_tuning(self) -> None:
        """StudyError or ConfigError for a grid that can't be searched."""
        if self.tune is None:
            return
        if shared := sorted(set(self.tune.seeds) & set(self.seeds)):
            raise StudyError(f"tune.seeds: seed {shared[0]} is one of the study's own, whose scores the choice would flatter")
        if both := sorted({key for row in self.rows for key in row.settings} & self.tune.grid.keys()):
            raise StudyError(f"tune.grid: {both[0]} is what rows differ in; leave it out of one of the two")
        if all(len(values) == 1 for values in self.tune.grid.values()):
            raise StudyError("tune.grid holds one combination, which leaves nothing to choose: give a key several values")
        self.tuning().check()

    def _check_comparable(self) -> None:
        """StudyError for runs that would be trained for hours and then could not be compared."""
        facets: dict[str, tuple[Row, Config]] = {}
        for job in self.jobs[: len(self.rows)]:  # of one seed
            row, config = job.row, self.config(job)
            first, other = facets.setdefault(self.facet(row)[0], (row, config))
            gans, changes = self.task == "gan", []
            if isinstance(config, gan_config.Config) and isinstance(other, gan_config.Config):
                changes = config.changes(other, set(gan_config.KEYS) - CURVE_KEYS)
            if changes:
                raise StudyError(
                    f"{row.label!r} would be compared with {first.label!r}, whose scores in training are taken in another way "
                    f"({'; '.join(changes)}): put evaluate.* into the study's settings"
                )
            # The errors of classifiers are compared image by image, at whatever size.
            keys = [key for key in IMAGE_KEYS if gans or key not in ("resolution", "crop")]
            unlike = [f"dataset.{key}" for key in keys if getattr(config.dataset, key) != getattr(other.dataset, key)]
            if unlike and self.scoring.reference is None:
                how = (
                    "is scored against other real images: give all rows one scoring.reference"
                    if gans
                    else "is tested on other images"
                )
                raise StudyError(
                    f"{row.label!r} would be compared with {first.label!r}, which differs in {', '.join(unlike)} and {how}"
                    f"{', or' if gans else ': name'} a baseline of settings that pairs rows of the same images, such as "
                    f"{{{'generator' if gans else 'model'}.kernel: c3}}"
                )


def _base(file: Path, base: str) -> Path:
    """The file that a study's `base` names. StudyError where there is none."""
    found = file.parent / base
    if found.is_file():
        return found
    near = difflib.get_close_matches(found.name, [other.name for other in found.parent.glob("*.yaml")], 1)
    hint = f"; did you mean {Path(base).with_name(near[0])}?" if near else ""
    raise StudyError(f"{file} has the base {base}, a path relative to the folder of that file, and there is no {found}{hint}")


def _one_sided(kernel: object) -> object:
    """'c2sp' -> 'c2'; anything else as it is."""
    return kernel.removesuffix("sp") if isinstance(kernel, str) else kernel
