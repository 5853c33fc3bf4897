"""Two sides of images in, scores with their cards out."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from metrics.features import Extractor
from metrics.frechet import Moments, frechet_distance, frechet_from_features
from metrics.frechet_uncertainty import frechet_bootstrap, frechet_infinity
from metrics.inception_score import InceptionScore
from metrics.kernel_distance import kernel_distance
from metrics.precision_recall import density_coverage, precision_recall
from metrics.protocol import Card, ProtocolError, Score
from metrics.statistics import Statistics, cached, fingerprint

WANTED = ("fid", "is", "kid", "pr", "dc", "interval", "infinity")  # what `score` can be asked for
NEED_FEATURES = {"kid", "pr", "dc", "interval", "infinity"}  # of all images at once: 5 KB an image with the default network


@dataclass
class Side:
    """One side of a comparison: images, or somebody's statistics of them.

    batches() starts a fresh pass over uint8 images (n, 3, H, W); count: how many there are. about: card fields it settles, such as
    ema, batch_norm, seed and protocol. fixed: whether the same images will be asked for again, so that caching pays.
    sha256: what stands for the images; None: not known yet. identify() finds it; None: hash the pixels, which takes a pass.
    """

    name: str
    count: int | None
    batches: Callable[[], Iterator[Tensor]] | None
    statistics: Statistics | None = None
    about: dict = field(default_factory=dict)
    fixed: bool = True
    sha256: str | None = None
    identify: Callable[[], str] | None = None


def identified(side: Side) -> Side:
    """The same side, knowing its sha256: looked for once, however many scores are taken against it. A generator has none."""
    if side.batches is None or not side.fixed or side.sha256:
        return side
    return replace(side, sha256=side.identify() if side.identify else fingerprint(side.batches()))


@dataclass(frozen=True)
class Embedded:
    statistics: Statistics
    features: Tensor | None = None  # (n, d) float32
    inception_score: tuple[float, float] | None = None


def embed(extractor: Extractor, side: Side, keep: bool, splits: int | None, progress: Callable[[int], None]) -> Embedded:
    """One pass of the images through the network. keep: hold on to all features. splits: for the Inception Score, or None."""
    moments = Moments(extractor.dim)
    kept: list[Tensor] = []
    inception = InceptionScore(side.count, splits) if splits else None
    for images in side.batches():
        features, probabilities = extractor(images)
        moments.update(features)
        if keep:
            kept.append(features.cpu())
        if inception is not None:
            if probabilities is None:
                raise ProtocolError(f"{extractor.name} gives no class probabilities, so there is no score 'is'; leave it out")
            inception.update(probabilities)
        progress(len(images))
    if moments.count < 2:
        raise ProtocolError(f"{side.name} has {moments.count} image(s); a score needs at least 2")
    statistics = Statistics(moments.mean, moments.covariance, moments.count, {})
    return Embedded(statistics, torch.cat(kept) if keep else None, inception.result() if inception else None)


def score(
    extractor: Extractor, real: Side, generated: Side, wanted: Iterable[str] = ("fid", "is"), seed: int = 0, splits: int = 10,
    progress: Callable[[int], None] = lambda n: None,
) -> tuple[list[Score], list[str]]:  # fmt: skip
    """Scores of `generated` against `real`, and warnings worth printing. ProtocolError for what can't be computed.

    wanted: of WANTED; 'is' is that of the generated side. Reference statistics are cached when nothing needs single features.
    """
    wanted = list(wanted)
    unknown = [w for w in wanted if w not in WANTED]
    if unknown:
        raise ProtocolError(f"unknown score {unknown[0]!r}; choose among {', '.join(WANTED)}")
    try:
        return _score(extractor, real, generated, wanted, seed, splits, progress)
    except ValueError as error:  # too few images for a score, statistics that are no numbers
        raise ProtocolError(str(error)) from None


def _score(
    extractor: Extractor, real: Side, generated: Side, wanted: list[str], seed: int, splits: int, progress: Callable[[int], None]
) -> tuple[list[Score], list[str]]:
    keep = bool(NEED_FEATURES & set(wanted))
    for side in (real, generated):
        if side.statistics is not None:
            _check_statistics(extractor, side)
        if side.batches is None and (keep or ("is" in wanted and side is generated)):
            raise ProtocolError(f"{side.name} holds only a mean and a covariance; scores other than fid need the images")
    if real.statistics:
        sha256, a = real.statistics.card.get("pixels"), Embedded(real.statistics)
    else:
        real = identified(real)
        sha256 = real.sha256
        if keep or not sha256:
            a = embed(extractor, real, keep, None, progress)
        else:
            a = Embedded(reference_statistics(extractor, real, progress))
    if generated.statistics:
        b = Embedded(generated.statistics)
    else:
        b = embed(extractor, generated, keep, splits if "is" in wanted else None, progress)
    card = Card(
        features=extractor.name, weights_sha256=extractor.sha256, input_size=extractor.size, resize=extractor.resize,
        precision=extractor.precision, real=real.name, real_count=a.statistics.count, real_sha256=sha256, generated=generated.name,
        generated_count=b.statistics.count, **generated.about,
    )  # fmt: skip

    def named(base: str, value: float, **more) -> Score:
        return Score(extractor.score_name(base), value, card, **more)

    scores = []
    if {"fid", "interval"} & set(wanted):
        value = _distance(a, b)
        interval = frechet_bootstrap(_moments(a), b.features, seed=seed) if "interval" in wanted else None
        more = {"spread": interval.std, "spread_of": "images", "interval": (interval.low, interval.high)} if interval else {}
        scores.append(named("fid", value, **more))
    if "infinity" in wanted:
        limit = frechet_infinity(_moments(a), b.features, seed=seed)
        name = f"{extractor.score_name('fid')}_infinity"
        scores.append(Score(name, limit.value, card, spread=limit.error, spread_of="fit"))
    if "is" in wanted:
        mean, spread = b.inception_score
        scores.append(named("inception_score", mean, spread=spread, spread_of=f"{splits} splits"))
    if "kid" in wanted:
        size = min(1000, len(a.features), len(b.features))
        mean, spread = kernel_distance(a.features, b.features, size=size, seed=seed)
        scores.append(named("kid", mean, spread=spread, spread_of=f"subsets of {size}"))
    if "pr" in wanted:
        found = precision_recall(a.features, b.features)
        scores += [named("precision", found.precision), named("recall", found.recall)]
    if "dc" in wanted:
        found = density_coverage(a.features, b.features)
        scores += [named("density", found.density), named("coverage", found.coverage)]
    return scores, _warnings(extractor, a, b)


def check_halves(real: Side) -> None:
    """ProtocolError if `floor` can't be had."""
    if real.batches is None:
        raise ProtocolError(f"{real.name} holds only a mean and a covariance; a floor needs the images")


def floor(extractor: Extractor, real: Side, card: Card, progress: Callable[[int], None] = lambda n: None) -> Score:
    """The distance between two halves of the real images (every other one): what perfection scores at that count.

    card: of a score against the same images, from which the floor's follows.
    """
    check_halves(real)
    halves = Moments(extractor.dim), Moments(extractor.dim)
    index = 0
    for images in real.batches():
        features, _ = extractor(images)
        start = index % 2
        halves[start].update(features[0::2])
        halves[1 - start].update(features[1::2])
        index += len(images)
        progress(len(images))
    count = min(half.count for half in halves)
    if count < 2:
        raise ProtocolError(f"{real.name} is too small to be halved")
    distance = frechet_distance(halves[0].mean, halves[0].covariance, halves[1].mean, halves[1].covariance)
    about = {"generated": f"{real.name}, the other half", "ema": None, "batch_norm": None, "seed": None, "protocol": None}
    card = replace(card, real=f"{real.name}, half", real_count=halves[0].count, generated_count=count, **about)
    return Score(f"{extractor.score_name('fid')}_floor", distance, card)


def reference_statistics(extractor: Extractor, real: Side, progress: Callable[[int], None] = lambda n: None) -> Statistics:
    """Mean and covariance of the reference images, from the cache where they have been computed before."""
    if real.batches is None:
        return real.statistics
    key = {"pixels": identified(real).sha256 or fingerprint(real.batches()), **_identity(extractor)}

    def compute() -> Statistics:
        found = embed(extractor, real, False, None, progress).statistics
        return Statistics(found.mean, found.covariance, found.count, {**key, "real": real.name})

    return cached(key, compute)


def _identity(extractor: Extractor) -> dict:
    """All that turns pixels into features."""
    return {
        "features": extractor.name, "weights": extractor.sha256, "resize": extractor.resize, "size": extractor.size,
        "precision": extractor.precision,
    }  # fmt: skip


def _check_statistics(extractor: Extractor, side: Side) -> None:
    """Saved statistics must come from this very extractor, as far as they say."""
    if len(side.statistics.mean) != extractor.dim:
        raise ProtocolError(
            f"{side.name}: the statistics have {len(side.statistics.mean)} features, {extractor.name} has {extractor.dim}; "
            "choose --features to match"
        )
    for name, wanted in _identity(extractor).items():
        found = side.statistics.card.get(name, wanted)
        if found != wanted:
            raise ProtocolError(f"{side.name} was computed with {name} {found}, this score with {wanted}; compute it anew")


def _distance(a: Embedded, b: Embedded) -> float:
    if a.features is not None and b.features is not None:
        return frechet_from_features(a.features, b.features)
    return frechet_distance(*_moments(a), *_moments(b))


def _moments(side: Embedded) -> tuple[Tensor, Tensor]:
    return side.statistics.mean, side.statistics.covariance


def _warnings(extractor: Extractor, a: Embedded, b: Embedded) -> list[str]:
    few = [s.statistics.count for s in (a, b) if s.statistics.count is not None and s.statistics.count <= extractor.dim]
    if not few:
        return []
    return [
        f"{min(few):,} images are no more than the {extractor.dim:,} features: the covariance is singular and the distance biased"
    ]
