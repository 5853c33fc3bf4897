"""The instruments there are. Each registers itself in the file that defines it, with what it looks at and what it gives:

    @register("images", Number("grain", "I6", "grey levels", "standard deviation of the residual"))
    def grain(images: Tensor) -> dict[str, float]: ...

in a file of this folder appears in `probe`; a file elsewhere must be imported first.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from metrics.registry import Registry

# images: (images); pairs: (generated, real). All uint8 (N, C, R, R), R even and at least 16.
# layers: (layer, level), a layer that enlarges its map (see metrics.instruments.impulse), and its mean input (in,) or None for 1.
Subject = Literal["images", "pairs", "layers"]
Measure = Callable[..., dict[str, float]]  # of the above -> a number for each name


@dataclass(frozen=True)
class Number:
    """What is known of a number before it is measured."""

    name: str  # in a record
    code: str  # of the instrument, in documents: a letter and a digit
    unit: str  # "" for a bare number
    meaning: str  # one line that goes on after the unit


@dataclass(frozen=True)
class Instrument:
    """A registered instrument: what it measures, the numbers it gives, and its function."""

    subject: Subject
    numbers: tuple[Number, ...]
    measure: Measure


INSTRUMENTS: Registry[Instrument] = Registry("metrics.instruments")


def register(subject: Subject, *numbers: Number) -> Callable[[Measure], Measure]:
    """A decorator for a function that measures `subject` and gives these numbers by name."""

    def add(measure: Measure) -> Measure:
        INSTRUMENTS.add(measure.__name__, Instrument(subject, numbers, measure), measure.__module__)
        return measure

    return add


def numbers_of(*subjects: Subject) -> list[Number]:
    """The numbers of all instruments that look at one of these."""
    every = INSTRUMENTS.entries().values()
    return [number for subject in subjects for found in every if found.subject == subject for number in found.numbers]


def image_numbers(images: Tensor, real: Tensor | None = None) -> dict[str, float]:
    """All that there is to measure of uint8 images (N, C, R, R), R even and at least 16; with real ones, in comparison too."""
    return _measured("images", images) | ({} if real is None else _measured("pairs", images, real))


def layer_numbers(layer: nn.Module, level: Tensor | None = None) -> dict[str, float]:
    """All that there is to measure of a layer that enlarges its map. level: (in,) mean input, by default 1."""
    return _measured("layers", layer, level)


def _measured(subject: Subject, *arguments: object) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, instrument in INSTRUMENTS.entries().items():
        if instrument.subject == subject:
            values = instrument.measure(*arguments)
            promised = [number.name for number in instrument.numbers]
            if sorted(values) != sorted(promised):
                raise ValueError(f"instrument {name} gives {', '.join(values)}, and is registered with {', '.join(promised)}")
            found |= values
    return found
