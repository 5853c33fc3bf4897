"""The scores there are. Each registers itself in the file that defines it:

    @register("kid", features=True)
    def kid(real: Embedded, generated: Embedded, seed: int) -> list[Value]: ...

in a file of this folder makes `--scores kid`; a file elsewhere must be imported first. Results stand in the alphabetical order of
the files.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

from torch import Tensor

from metrics.registry import Registry
from metrics.statistics import Statistics


class Gatherer(Protocol):
    """Accumulates class probabilities batch by batch for a score, so that they needn't be kept. Created as (images, splits)."""

    splits: int  # parts of the images that are scored each by itself

    def update(self, probabilities: Tensor, /) -> None:
        """Take (n, classes) float32 probabilities."""
        ...

    def result(self) -> tuple[float, float]:
        """Mean and standard deviation over the parts, once all images came."""
        ...


@dataclass(frozen=True)
class Embedded:
    """One side of a comparison after its pass through the network: what scores are computed from."""

    statistics: Statistics
    kept: Tensor | None = None  # (n, d) float32, where a score needs the features of all images
    gathered: dict[str, Gatherer] = field(default_factory=dict)  # by score: what saw the class probabilities of the generated side

    @property
    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean (d,) and covariance (d, d), float64."""
        return self.statistics.mean, self.statistics.covariance

    @property
    def features(self) -> Tensor:
        """(n, d) float32 on the CPU, for scores that are registered with features=True."""
        if self.kept is None:
            raise ValueError("features were not kept: register the score with features=True")
        return self.kept

    def seen(self, score: str) -> Gatherer:
        """What gathered the class probabilities for a score that is registered with `gatherer`; of the generated side alone."""
        if score not in self.gathered:
            raise ValueError(f"no probabilities were gathered for {score!r}: register it with a gatherer")
        return self.gathered[score]


class Value(NamedTuple):
    """A number that a score gives. A later one with the same name replaces an earlier one."""

    base: str  # its name on the 2015 Inception network; Extractor.score_name makes of it the name on any other
    value: float
    spread: float | None = None  # standard deviation over
    spread_of: str | None = None  # these
    interval: tuple[float, float] | None = None  # 95 %
    suffix: str = ""  # of the name, whatever the network
    warning: str | None = None  # a sentence worth printing beside it


Kept = bool | Literal["generated"]
Compute = Callable[[Embedded, Embedded, int], list[Value]]


@dataclass(frozen=True)
class Entry:
    """A registered score."""

    compute: Compute  # (real, generated, seed)
    features: Kept  # whether it needs those of all images at once, or of the generated ones: 5 KB an image with the default network
    gatherer: Callable[[int, int], Gatherer] | None


SCORES: Registry[Entry] = Registry("metrics")


def register(
    name: str, features: Kept = False, gatherer: Callable[[int, int], Gatherer] | None = None
) -> Callable[[Compute], Compute]:
    """A decorator that makes a function of (real, generated, seed) known to `score` and `--scores` by this name.

    Both sides come with their mean and covariance. features: and with all their features; "generated": that side alone, so that
    statistics may stand for the real images. gatherer: what takes (images, splits)
    and then sees the class probabilities of the generated side. A ValueError of the function becomes a sentence for the user.
    """

    def add(compute: Compute) -> Compute:
        SCORES.add(name, Entry(compute, features, gatherer), compute.__module__)
        return compute

    return add
