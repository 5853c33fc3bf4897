"""Typed settings: YAML files, dotted overrides, and errors that name the key and the nearest right one.

pydantic checks types and ranges; PyYAML reads and writes the files. The settings themselves stand in gan/config.py (`train`),
gan/classification/config.py (`classify`) and study/study.py (`compare`).
"""

import difflib
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from data import datasets
from data.files import UserError, reason
from data.notes import note
from gan import yaml_text
from metrics.precision import settled

TOLD = 8  # wrong values that a message names
TEXTS = {"scoring.reference", "scoring.features", "scoring.weights"}  # keys whose values are any text; these are a study's

# Which command has a section that not all have.
COMMANDS = dict.fromkeys(("generator", "discriminator", "objective", "schedule", "evaluate"), "train")
COMMANDS["model"] = "classify"


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
        if (
            isinstance(value, bool)
            and annotation is not bool
            and not any(isinstance(choice, bool) for choice in choices(annotation))
        ):
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


def _is_text(annotation: Any) -> bool:
    return annotation is str or str in get_args(annotation)


def texts_of(section: str, kind: type[Section]) -> set[str]:
    """The keys of a section whose values are any text."""
    return {f"{section}.{key}" for key, field in kind.model_fields.items() if _is_text(field.annotation)}
