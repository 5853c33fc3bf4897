"""Trained generators that are part of the repository: NAME.safetensors and NAME.json, a card, in the folder zoo/.

A card says what a generator was trained on, how, and how good it is: the data, steps and seed, the command and the revision of
the code, scores with their own cards, and the sha256 of the weights, which is checked whenever they are opened.
"""

import difflib
import hashlib
import json
import os
from dataclasses import dataclass, fields
from pathlib import Path

from data.files import UserError
from metrics.protocol import Score

ROOT = Path(__file__).parents[1]
PREFIX = "zoo:"  # of a name, wherever a run could stand


class ZooError(UserError):
    """An entry of the zoo isn't there, is damaged or can't be made; the message says what to do."""


@dataclass(frozen=True)
class ZooCard:
    """The card of an entry, as NAME.json holds it."""

    name: str
    data: str  # what it was trained on
    resolution: int  # pixels
    generator: str  # family, upsampling and kernel
    parameters: int
    dtype: str  # of the stored weights
    steps: int
    seed: int
    command: str  # that trained it
    revision: str | None  # of the code; None where git couldn't say
    sha256: str  # of the file of weights
    bytes: int
    scores: list[dict]  # of the stored weights, each with its protocol's card


def folder() -> Path:
    """$GAN_ZOO, else zoo/ of the repository."""
    return Path(os.environ["GAN_ZOO"]).expanduser() if os.environ.get("GAN_ZOO") else ROOT / "zoo"


def names() -> list[str]:
    """Of all entries, in alphabetical order."""
    return sorted(file.stem for file in folder().glob("*.json"))


def card(name: str) -> ZooCard:
    """ZooError for a name that isn't there, or a card that can't be read."""
    known = names()
    if name not in known:
        near = difflib.get_close_matches(name, known, 1, 0.4)
        meant = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}" if known else f"{folder()} is empty"
        raise ZooError(f"the zoo has no generator {name!r}; {meant}")
    file = folder() / f"{name}.json"
    try:
        record = json.loads(file.read_text())
        found = ZooCard(**{field.name: record[field.name] for field in fields(ZooCard)})
        [Score.from_dict(score) for score in found.scores]  # for what they raise
        return found
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ZooError(f"{file} is damaged ({type(error).__name__}): restore it, or make the entry anew") from None


def file_of(run: str | Path) -> Path | None:
    """The file of weights that a user names: 'zoo:NAME', whose sha256 is checked, or FILE.safetensors. None for anything else."""
    text = str(run)
    if not text.startswith(PREFIX):
        return Path(run) if text.endswith(".safetensors") else None
    name = text.removeprefix(PREFIX)
    expected, file = card(name).sha256, folder() / f"{name}.safetensors"
    try:
        found = hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise ZooError(f"{file} can't be read ({error.strerror}): restore it") from None
    if found != expected:
        raise ZooError(f"{file} isn't what its card describes (sha256 {found[:8]}…, expected {expected[:8]}…): restore both")
    return file


def home(run: str | Path) -> Path:
    """The folder for files made from a run: the run itself; for zoo:NAME runs/zoo-NAME, for NAME.safetensors runs/NAME."""
    text = str(run)
    if text.startswith(PREFIX):
        return Path("runs") / f"zoo-{text.removeprefix(PREFIX)}"
    return Path("runs") / Path(run).stem if text.endswith(".safetensors") else Path(run)
