"""Trained generators that are part of the repository: NAME.safetensors and NAME.json, a card, in the folder zoo/.

A card says what a generator was trained on, how, and how good it is: the data, steps and seed, the command and the revision of
the code, scores with their own cards, and the sha256 of the weights, which is checked whenever they are opened.
"""

import contextlib
import difflib
import hashlib
import json
import os
from dataclasses import dataclass, fields
from pathlib import Path

from data.checksums import whole
from data.files import UserError, expanded, reason
from metrics.protocol import Score

ROOT = Path(__file__).parents[1]
PREFIX = "zoo:"  # of a name, wherever a run could stand
SEAL = "card_sha256"  # of all that a card says, which is checked whenever it is read


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
    scores: list[dict]  # of the stored weights, each with its protocol's card; at least one

    def __post_init__(self):
        """ValueError or TypeError for what can't stand in a card."""
        kinds = {"resolution": int, "parameters": int, "steps": int, "seed": int, "bytes": int, "scores": list}
        for field in fields(self):
            value = getattr(self, field.name)
            if type(value) is not kinds.get(field.name, str) and not (field.name == "revision" and value is None):
                raise TypeError(f"{field.name} is {value!r}")
        if not [Score.from_dict(score) for score in self.scores]:
            raise ValueError("no scores")


def folder() -> Path:
    """$GAN_ZOO, else zoo/ of the repository."""
    return expanded(os.environ["GAN_ZOO"]) if os.environ.get("GAN_ZOO") else ROOT / "zoo"


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
        if not whole(record, SEAL):
            raise ValueError("not the card that was written")
        return ZooCard(**{field.name: record[field.name] for field in fields(ZooCard)})
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ZooError(f"{file} is damaged ({type(error).__name__}): restore it, or make the entry anew") from None


def file_of(run: str | Path) -> Path | None:
    """The file of weights that a user names: 'zoo:NAME', whose sha256 is checked, or FILE.safetensors. None for anything else."""
    text = str(run)
    if not text.startswith(PREFIX):
        return Path(run) if text.endswith(".safetensors") else None
    name = text.removeprefix(PREFIX)
    expected, file = card(name).sha256, folder() / f"{name}.safetensors"
    found = None
    for place in (file, pending(name)):
        with contextlib.suppress(FileNotFoundError):
            found = _sha256(place)
            if found == expected:
                return place
    if found is None:
        raise ZooError(f"{file} can't be read (there is no such file): restore it")
    raise ZooError(f"{file} isn't what its card describes (sha256 {found[:8]}…, expected {expected[:8]}…): restore both")


def pending(name: str) -> Path:
    """Where the weights of an entry wait for its card, which makes them the entry's: what was killed in between is whole there."""
    return folder() / f".{name}.safetensors"


def _sha256(file: Path) -> str:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ZooError(f"{file} can't be read ({reason(error)}): restore it") from None


def home(run: str | Path) -> Path:
    """The folder for files made from a run: the run itself; for zoo:NAME runs/zoo-NAME, for NAME.safetensors runs/NAME."""
    text = str(run)
    if text.startswith(PREFIX):
        return Path("runs") / f"zoo-{text.removeprefix(PREFIX)}"
    return Path("runs") / Path(run).stem if text.endswith(".safetensors") else Path(run)
