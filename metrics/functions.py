"""Scores as functions of images, for scripts: each returns a `Score`, a value with its card.

    score = metrics.frechet_distance(real, generated)
    score.value, score.card

Images are what metrics.given takes: uint8 tensors or arrays at once, or iterables and data loaders, which are read once, batch by
batch. `features` is the name of a network, see `metrics.open_extractor`, whose options (weights, resize, precision, size, device,
insist) all functions take; or an Extractor. What can't be computed raises a UserError in one sentence.
"""

import warnings
from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from data.files import stamp_of
from metrics.features import Extractor, open_extractor
from metrics.features.extractor import builder_of
from metrics.features.network import DEFAULT, Builder
from metrics.given import Given, Images
from metrics.is_score import InceptionScore
from metrics.neighbours import Memorisation, memorisation_of, nearest
from metrics.protocol import ProtocolError, Score
from metrics.score_table import SCORES
from metrics.scoring import ALL, Side, card_of, embed, identity_of, score
from metrics.statistics import Statistics

REAL, GENERATED = "real images", "generated images"


class Reference:
    """Real images, embedded once, to score against repeatedly, for example in a training loop. Keeps their mean and covariance.

    reference = metrics.Reference(loader)
    reference.frechet_distance(sample(64) for _ in range(100))
    """

    def __init__(self, images: Images | str | Path, features: str | Extractor = DEFAULT, **options):
        """images: or the path of an npz that `save`, `fid --save-statistics` or pytorch-fid wrote."""
        self.extractor = _extractor(features, options)
        if isinstance(images, str | Path):
            found = Statistics.load(Path(images))
            self._side = Side(found.card.get("real", Path(images).name), found.count, None, found)
            return
        given = Given(images, REAL)
        found = embed(self.extractor, given.side(), False, {}, lambda n: None).statistics
        card = {"pixels": given.sha256, **identity_of(self.extractor), "real": REAL}
        self._side = Side(REAL, found.count, None, replace(found, card=card))

    @property
    def count(self) -> int | None:
        """How many images it stands for; None where a foreign file doesn't say."""
        return self._side.count

    def frechet_distance(self, images: Images) -> Score:
        """The squared Fréchet distance of the images to the reference: FID where the features are the 2015 Inception network's."""
        return _scores(self.extractor, self._side, Given(images, GENERATED), ["fid"], 0)[0]

    def save(self, path: str | Path) -> None:
        """Write an npz of mean and covariance, whole or not at all."""
        assert self._side.statistics is not None
        self._side.statistics.save(Path(path))


def scores(
    images_a: Images, images_b: Images, names: str | Iterable[str] = ("fid",), features: str | Extractor = DEFAULT, seed: int = 0,
    **options,
) -> dict[str, Score]:  # fmt: skip
    """Several scores of b against the real images a, in one pass over each: {name: Score}.

    names: of registered scores, as `--scores` takes them: fid, interval, infinity, is, kid, pr, dc, or your own.
    """
    names = [names] if isinstance(names, str) else list(names)
    b = Given(images_b, GENERATED)
    counted = {name for name, entry in SCORES.entries().items() if entry.gatherer} | {ALL}
    b = b.in_memory() if counted & set(names) else b
    return {found.name: found for found in _scores(_extractor(features, options), Given(images_a, REAL), b, names, seed)}


def frechet_distance(images_a: Images, images_b: Images, features: str | Extractor = DEFAULT, **options) -> Score:
    """The squared Fréchet distance between images (Heusel et al. 2017): FID where the features are the 2015 Inception network's."""
    return _scores(_extractor(features, options), Given(images_a, REAL), Given(images_b, GENERATED), ["fid"], 0)[0]


def kernel_distance(images_a: Images, images_b: Images, features: str | Extractor = DEFAULT, seed: int = 0, **options) -> Score:
    """The unbiased kernel distance over seeded subsets (Bińkowski et al. 2018): KID where the features are Inception's."""
    return _scores(_extractor(features, options), Given(images_a, REAL), Given(images_b, GENERATED), ["kid"], seed)[0]


def precision_recall(
    images_a: Images, images_b: Images, features: str | Extractor = DEFAULT, **options
) -> tuple[Score, Score]:  # fmt: skip
    """Improved precision and recall of b against the real images a (Kynkäänniemi et al. 2019)."""
    first, second = _scores(_extractor(features, options), Given(images_a, REAL), Given(images_b, GENERATED), ["pr"], 0)
    return first, second


def density_coverage(
    images_a: Images, images_b: Images, features: str | Extractor = DEFAULT, **options
) -> tuple[Score, Score]:  # fmt: skip
    """Density and coverage of b against the real images a (Naeem et al. 2020)."""
    first, second = _scores(_extractor(features, options), Given(images_a, REAL), Given(images_b, GENERATED), ["dc"], 0)
    return first, second


def inception_score(images: Images, features: str | Extractor = DEFAULT, splits: int = 10, **options) -> Score:
    """exp E KL(p(y | x) || p(y)), the mean over `splits` parts (Salimans et al. 2016), by the classes of the features' network.

    Images of an iterable that doesn't say how many it has are held in memory.
    """
    extractor = _extractor(features, options)
    given = Given(images, GENERATED).in_memory()
    try:
        gatherer = InceptionScore(given.count or 0, splits)
        seen = embed(extractor, given.side(), False, {"is": gatherer}, lambda n: None)
        mean, spread = gatherer.result()
    except ValueError as error:
        raise ProtocolError(str(error)) from None
    card = card_of(extractor, Side("none", None, None), given.side(), None, seen.statistics.count, None)
    return Score(extractor.score_name("inception_score"), mean, card, spread, f"{splits} splits")


def memorisation(
    samples: Images, training: Images, held_out: Images, features: str | Extractor = DEFAULT, **options
) -> Memorisation:  # fmt: skip
    """Whether samples lie closer to training images, in feature space, than held-out real images do."""
    extractor = _extractor(features, options)
    given = Given(samples, "samples"), Given(training, "training images"), Given(held_out, "held-out images")
    a, b, c = (_features(extractor, side) for side in given)
    try:
        return memorisation_of(nearest(a, b).distances[:, 0], nearest(c, b).distances[:, 0])
    except ValueError as error:
        raise ProtocolError(str(error)) from None


# --- what they share ---------------------------------------------------------------------------------------------------------


def _scores(extractor: Extractor, real: Given | Side, generated: Given, names: list[str], seed: int) -> list[Score]:
    found, said = score(extractor, real if isinstance(real, Side) else real.side(), generated.side(), names, seed)
    for sentence in said:
        warnings.warn(sentence, stacklevel=3)
    if isinstance(real, Given) and not real.whole:  # hashed as it was read
        found = [replace(s, card=replace(s.card, real_sha256=real.sha256)) for s in found]
    return found


def _features(extractor: Extractor, given: Given) -> Tensor:
    """(n, d) float32 on the CPU; ProtocolError where there are no images."""
    found = [extractor(batch)[0].cpu() for batch in given.batches()]
    if not found:
        raise ProtocolError(f"there are no {given.name}: pass some")
    return torch.cat(found)


def _extractor(features: str | Extractor, options: dict) -> Extractor:
    if isinstance(features, Extractor):
        if options:
            raise ProtocolError(f"an Extractor has its options already: leave out {', '.join(options)}, or name the features")
        return features
    options = {"device": "auto", **options}
    if ":" in features:  # somebody's own function, which may have changed since
        return open_extractor(features, **options)
    weights = options.get("weights")
    changed = None if weights is None else stamp_of(Path(weights))
    return _opened(features, tuple(sorted(options.items())), builder_of(features), changed)


@lru_cache(maxsize=2)
def _opened(features: str, options: tuple, builder: Builder, changed: tuple[int, int] | None) -> Extractor:
    """builder, changed: what is registered by the name, and the size and time of the weights: with others it is opened anew."""
    return open_extractor(features, **dict(options))
