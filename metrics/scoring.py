"""Two sides of images in, scores with their cards out."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor

from data.memory import capacity, in_words
from metrics.features import Extractor
from metrics.frechet import Moments, frechet_distance
from metrics.protocol import Card, ProtocolError, Score
from metrics.score_table import SCORES, Embedded, Entry, Gatherer
from metrics.statistics import Statistics, cached, fingerprint

ALL = "all"  # in place of the names of scores
INTRA = "intra"  # the score that takes the sides class by class


@dataclass
class Side:
    """One side of a comparison: images, or saved statistics of them.

    batches() starts a fresh pass over uint8 images (n, 3, H, W); count: how many there are. about: card fields it settles, such as
    ema, batch_norm, seed and protocol. fixed: whether the same images will be asked for again, so that caching pays.
    sha256: identifies the images; None: not known yet. identify() computes it; None: hash the pixels, which takes a pass.
    decoded(): what decides their pixels besides, where identify() looks at files: cached statistics belong to it.
    classes(): the same images class by class, by name, where they have labels.
    """

    name: str
    count: int | None
    batches: Callable[[], Iterator[Tensor]] | None
    statistics: Statistics | None = None
    about: dict = field(default_factory=dict)
    fixed: bool = True
    sha256: str | None = None
    identify: Callable[[], str] | None = None
    decoded: Callable[[], str] | None = None
    classes: Callable[[], dict[str, "Side"]] | None = None

    def open(self) -> Iterator[Tensor]:
        """A fresh pass over the images. ProtocolError where there are only statistics of them."""
        if self.batches is None:
            raise ProtocolError(f"{self.name} holds only a mean and a covariance, and the images are needed")
        return self.batches()


def identified(side: Side) -> Side:
    """The same side with its sha256, computed once for all scores against it. A generator has none."""
    if side.batches is None or not side.fixed or side.sha256:
        return side
    return replace(side, sha256=side.identify() if side.identify else fingerprint(side.open()))


def passes(*sides: Side, wanted: Iterable[str] = ()) -> int | None:
    """How many images the wanted scores of these look at, statistics excepted; None where that isn't known beforehand."""
    counts = [side.count for side in sides if side.batches is not None]
    known = [count for count in counts if count is not None]
    times = 2 if INTRA in wanted else 1  # all together, and class by class
    return times * sum(known) if len(known) == len(counts) else None


def require_known(wanted: Iterable[str]) -> None:
    """ProtocolError for an unknown score, before anything is decoded for it."""
    known = SCORES.entries()
    unknown = [name for name in wanted if name not in known and name not in (ALL, INTRA)]
    if unknown:
        raise ProtocolError(f"unknown score {unknown[0]!r}; choose among {', '.join([*known, INTRA])}, or say {ALL}")


def require_given(extractor: Extractor, wanted: Iterable[str]) -> None:
    """ProtocolError for a known score that the network can't give: before anything is decoded for it."""
    known = SCORES.entries()
    if lacking := [name for name in wanted if name in known and known[name].gatherer and not extractor.classes]:
        raise ProtocolError(f"{extractor.name} gives no class probabilities, so there is no score {lacking[0]!r}; leave it out")


def score(
    extractor: Extractor, real: Side, generated: Side, wanted: Iterable[str] = ("fid", "is"), seed: int = 0, splits: int = 10,
    progress: Callable[[int], None] = lambda n: None,
) -> tuple[list[Score], list[str]]:  # fmt: skip
    """Scores of `generated` against `real`, and warnings worth printing. ProtocolError for what can't be computed.

    wanted: names of registered scores, in any order: fid, interval, infinity, is, kid, pr, dc (see metrics.score_table); or all,
    as far as the network gives what they need; and intra, the distance of each class by itself and the mean of these, beside that
    of all images (Miyato & Koyama 2018). seed: of the subsets that some of them draw. splits: parts over which the Inception Score
    is a mean. progress: called with the number of images after each batch. Reference statistics are cached when nothing needs
    single features.
    """
    wanted, known = list(wanted), SCORES.entries()
    require_known(wanted)
    if INTRA in wanted:
        pairs = _pairs_of_classes(real, generated)
        wanted.append("fid")
    chosen = {name: entry for name, entry in known.items() if name in wanted}
    if ALL in wanted:
        chosen = {name: entry for name, entry in known.items() if extractor.classes or not entry.gatherer}
    try:
        card, a, b = _embed_both(extractor, real, generated, chosen, splits, progress)
        values = [value for entry in chosen.values() for value in entry.compute(a, b, seed)]
    except ValueError as error:  # too few images for a score, statistics that are no numbers
        raise ProtocolError(str(error)) from None
    scores: dict[str, Score] = {}
    for value in values:
        name = extractor.score_name(value.base) + value.suffix
        scores[name] = Score(name, value.value, card, value.spread, value.spread_of, value.interval)
    warnings = [*_warnings(extractor, a, b), *(value.warning for value in values if value.warning)]
    if INTRA in wanted:
        found, more = _intra(extractor, pairs, card, progress)
        scores |= {s.name: s for s in found}
        warnings = list(dict.fromkeys([*warnings, *more]))
    return list(scores.values()), warnings


def _pairs_of_classes(real: Side, generated: Side) -> dict[str, tuple[Side, Side]]:
    """Both sides class by class. ProtocolError unless both have the same classes."""
    a, b = (_by_class(side) for side in (real, generated))
    if a.keys() != b.keys():
        only = sorted(a.keys() ^ b.keys())
        raise ProtocolError(
            f"{real.name} and {generated.name} don't have the same classes: only one of them has {only[0]}; leave {INTRA!r} out"
        )
    return {name: (a[name], b[name]) for name in a}


def _by_class(side: Side) -> dict[str, Side]:
    """ProtocolError for a side without classes."""
    if side.classes is None:
        raise ProtocolError(
            f"{side.name} has no classes, which the score {INTRA!r} compares one by one: leave it out, or name a data set with "
            "classes and a run with generator.conditional=true"
        )
    return side.classes()


def _intra(
    extractor: Extractor, pairs: dict[str, tuple[Side, Side]], card: Card, progress: Callable[[int], None]
) -> tuple[list[Score], list[str]]:  # fmt: skip
    """The distance of each class, `..._intra:<class>`, and their mean, `..._intra`; and warnings."""
    name = f"{extractor.score_name('fid')}_{INTRA}"
    found, warnings = [], []
    for label, (real, generated) in pairs.items():
        (one,), more = score(extractor, real, generated, ["fid"], progress=progress)
        found.append(replace(one, name=f"{name}:{label}"))
        warnings += more
    counts = [(s.card.real_count or 0, s.card.generated_count or 0) for s in found]
    totals = [sum(column) for column in zip(*counts)]
    card = replace(card, real_count=totals[0], generated_count=totals[1])
    return [Score(name, sum(s.value for s in found) / len(found), card), *found], warnings


def _embed_both(
    extractor: Extractor, real: Side, generated: Side, chosen: dict[str, Entry], splits: int, progress: Callable[[int], None]
) -> tuple[Card, Embedded, Embedded]:
    """Both sides as the chosen scores need them, and the card that these share."""
    of_both = [name for name, entry in chosen.items() if entry.features is True]
    of_generated = [name for name, entry in chosen.items() if entry.features]
    gatherers = {name: entry.gatherer for name, entry in chosen.items() if entry.gatherer}
    _check(extractor, real, of_both, others="fid, interval and infinity")
    _check(extractor, generated, [*of_generated, *gatherers], others="fid alone")
    if real.statistics is not None:
        sha256, a = real.statistics.card.get("pixels"), Embedded(real.statistics)
    else:
        real = identified(real)
        sha256 = real.sha256
        if of_both or not sha256:
            a = embed(extractor, real, bool(of_both), {}, progress)
        else:
            a = Embedded(reference_statistics(extractor, real, progress))
    if generated.statistics is not None:
        b = Embedded(generated.statistics)
    else:
        gathered = {name: gatherer(generated.count or 0, splits) for name, gatherer in gatherers.items()}
        b = embed(extractor, generated, bool(of_generated), gathered, progress)
    return card_of(extractor, real, generated, a.statistics.count, b.statistics.count, sha256), a, b


def card_of(
    extractor: Extractor, real: Side, generated: Side, real_count: int | None, count: int | None, real_sha256: str | None
) -> Card:  # fmt: skip
    """The card of scores of `count` generated images against `real_count` real ones."""
    return Card(
        features=extractor.name, weights_sha256=extractor.sha256, input_size=extractor.size, resize=extractor.resize,
        precision=extractor.precision, real=real.name, real_count=real_count, real_sha256=real_sha256, generated=generated.name,
        generated_count=count, **generated.about,
    )  # fmt: skip


def embed(extractor: Extractor, side: Side, keep: bool, gathered: dict[str, Gatherer], progress: Callable[[int], None]) -> Embedded:
    """One pass of the images through the network. keep: hold on to all features. gathered: what sees the class probabilities."""
    size, limit = 4 * (side.count or 0) * extractor.dim, capacity()
    if keep and limit is not None and size > limit:
        raise ProtocolError(
            f"the features of {side.count:,} images take {in_words(size)}, and there are {in_words(limit)} of memory here: score "
            "fewer, or fid and is alone, which keep none"
        )
    moments = Moments(extractor.dim)
    kept: list[Tensor] = []
    for images in side.open():
        features, probabilities = extractor(images)
        moments.update(features)
        if keep:
            kept.append(features.cpu())
        for name, gatherer in gathered.items():
            if probabilities is None:
                raise ProtocolError(f"{extractor.name} gives no class probabilities, so there is no score {name!r}; leave it out")
            gatherer.update(probabilities)
        progress(len(images))
    if moments.count < 2:
        raise ProtocolError(f"{side.name} has {moments.count} image(s); a score needs at least 2")
    return Embedded(Statistics(moments.mean, moments.covariance, moments.count, {}), torch.cat(kept) if keep else None, gathered)


def check_floor(real: Side, generated: Side) -> None:
    """ProtocolError if `floor` can't be computed, or not for as many images as there are."""
    if real.batches is None:
        raise ProtocolError(f"{real.name} holds only a mean and a covariance; a floor needs the images")
    if generated.count is None:
        raise ProtocolError(
            f"{generated.name} doesn't say of how many images it is, and a floor depends on that: leave --floor out"
        )


class Floor(NamedTuple):
    """What a perfect generator would score: the distance of other real images from the reference."""

    score: Score  # at the counts of the score that it stands beside
    measured: float  # the distance between two parts of the real images, from which it is scaled
    parts: tuple[int, int]  # images in each


def floor(extractor: Extractor, real: Side, card: Card, progress: Callable[[int], None] = lambda n: None) -> Floor:
    """An estimate of what a perfect generator would score against these real images, at the counts on a score's card.

    The real images are split in two parts, the first with as many images as were generated, but at most half. The distance between
    the parts is pure bias, which is proportional to 1 / n1 + 1 / n2 once there are a few images per feature (Chong and Forsyth
    2020); it is scaled accordingly to the card's counts.

    ProtocolError for statistics and below 4 images.
    """
    total = real.count or 0
    wanted = min(card.generated_count or total, total // 2)
    if wanted < 2:
        raise ProtocolError(f"{real.name} is too small to be halved")
    parts = Moments(extractor.dim), Moments(extractor.dim)
    first = 0
    for images in real.open():
        features, _ = extractor(images)
        index = torch.arange(first, first + len(images))
        chosen = (index + 1) * wanted // total > index * wanted // total  # evenly over all, which may be sorted by class
        parts[0].update(features[chosen])
        parts[1].update(features[~chosen])
        first += len(images)
        progress(len(images))
    measured = frechet_distance(parts[0].mean, parts[0].covariance, parts[1].mean, parts[1].covariance)
    counts = card.generated_count or parts[0].count, card.real_count or total
    value = measured * sum(1 / n for n in counts) / sum(1 / part.count for part in parts)
    about = {"generated": f"other images like {real.name}", "ema": None, "batch_norm": None, "seed": None, "protocol": None}
    score = Score(f"{extractor.score_name('fid')}_floor", value, replace(card, **about))
    return Floor(score, measured, (parts[0].count, parts[1].count))


def reference_statistics(extractor: Extractor, real: Side, progress: Callable[[int], None] = lambda n: None) -> Statistics:
    """Mean and covariance of the reference images, from the cache where they have been computed before.

    A side that holds nothing but statistics gives those. progress: called with all of them at once where they are cached.
    """
    if real.batches is None and real.statistics is not None:
        return real.statistics
    card = {"pixels": identified(real).sha256 or fingerprint(real.open()), **identity_of(extractor)}
    key = {**card, "behaviour": extractor.behaviour, "decoded": real.decoded() if real.decoded else None}

    walked = False

    def compute() -> Statistics:
        nonlocal walked
        walked = True
        found = embed(extractor, real, False, {}, progress).statistics
        return Statistics(found.mean, found.covariance, found.count, {**card, "real": real.name})

    statistics = cached(key, compute)
    if not walked:
        progress(statistics.count or 0)
    return statistics


def identity_of(extractor: Extractor) -> dict:
    """What a card says of how pixels become features."""
    return {
        "features": extractor.name, "weights": extractor.sha256, "resize": extractor.resize, "size": extractor.size,
        "precision": extractor.precision,
    }  # fmt: skip


def _check(extractor: Extractor, side: Side, of_images: list[str], others: str) -> None:
    """ProtocolError if saved statistics come from another extractor, as far as they say, or if there are scores of images.

    others: the scores that statistics are enough for.
    """
    if side.statistics is not None:
        if len(side.statistics.mean) != extractor.dim:
            raise ProtocolError(
                f"{side.name}: the statistics have {len(side.statistics.mean)} features, {extractor.name} has {extractor.dim}; "
                "choose --features to match"
            )
        for name, wanted in identity_of(extractor).items():
            found = side.statistics.card.get(name, wanted)
            if found != wanted:
                raise ProtocolError(f"{side.name} was computed with {name} {found}, this score with {wanted}; compute it anew")
    if of_images and side.batches is None:
        raise ProtocolError(
            f"{side.name} holds only a mean and a covariance, and {of_images[0]} needs the images: name those, or ask for {others}"
        )


def _warnings(extractor: Extractor, a: Embedded, b: Embedded) -> list[str]:
    few = [s.statistics.count for s in (a, b) if s.statistics.count is not None and s.statistics.count <= extractor.dim]
    if not few:
        return []
    return [
        f"{min(few):,} images are no more than the {extractor.dim:,} features: the covariance is singular and the distance biased"
    ]
