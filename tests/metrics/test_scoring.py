"""Two sides in, scores with their cards out: the right numbers, the right names, refusals in one sentence."""

import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from metrics import scoring
from metrics.features import Extractor, open_extractor
from metrics.features.network import Network
from metrics.frechet import frechet_distance, frechet_from_features
from metrics.is_score import inception_score
from metrics.kernel_mmd import kernel_distance
from metrics.protocol import Card, ProtocolError, differences
from metrics.score_table import SCORES, Value, register
from metrics.scoring import Side, floor, identified, passes, reference_statistics, score
from metrics.statistics import Statistics, StatisticsError, fingerprint

DIM, CLASSES = 6, 5
WANTED = tuple(SCORES.entries())


def tiny(sha256="a" * 64, head=True, genuine=False, dim=DIM, resize="clean", precision="fp32"):
    """A random network of `dim` features of 8-pixel images."""
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Conv2d(3, 16, 4, 4), nn.ReLU(), nn.Flatten(), nn.Linear(64, dim))
    classes = nn.Sequential(nn.Linear(dim, CLASSES)) if head else None
    network = Network(
        name="tiny", sha256=sha256, trunk=trunk, head=classes, dim=dim, classes=CLASSES if head else None, size=8, resize=resize,
        mean=(127.5,) * 3, std=(4.0,) * 3, genuine=genuine,
    )  # fmt: skip
    return Extractor(network, precision)


class Counted(Extractor):
    """Counts the images it embeds."""

    def __init__(self, extractor):
        self.__dict__ = dict(extractor.__dict__)
        self.images = 0

    def __call__(self, images):
        self.images += len(images)
        return super().__call__(images)


def noise(n=200, seed=0, shift=0.0, spread=40.0):
    """Images of Gaussian pixels; `shift` in grey levels."""
    x = torch.randn(n, 3, 8, 8, generator=torch.Generator().manual_seed(seed)) * spread + 127.5 + shift
    return x.round().clamp(0, 255).to(torch.uint8)


def side(images=None, name="images", batch=64, **more):
    images = noise() if images is None else images
    return Side(name, len(images), lambda: iter(images.split(batch)), **more)


def known(statistics, name="known"):
    return Side(name, statistics.count, None, statistics)


def values(scores):
    return {s.name: s.value for s in scores}


# --- the numbers -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wanted", [["fid"], ["fid", "kid"]], ids=["by moments", "by features"])
def test_a_side_is_at_distance_zero_of_itself(wanted):
    scores, _ = score(tiny(), side(), side(), wanted)
    assert values(scores)["fd_tiny"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("wanted", [["fid"], ["fid", "pr"]], ids=["by moments", "by features"])
def test_the_distance_is_that_of_the_features(wanted):
    extractor, real, fake = tiny(), noise(seed=1), noise(150, seed=2, shift=20)
    a, b = extractor(real)[0], extractor(fake)[0]
    found = values(score(extractor, side(real), side(fake), wanted)[0])["fd_tiny"]
    assert found == pytest.approx(frechet_from_features(a, b), rel=1e-6)
    plain = [x.double() for x in (a, b)]
    assert found == pytest.approx(
        frechet_distance(plain[0].mean(0), plain[0].T.cov(), plain[1].mean(0), plain[1].T.cov()), rel=1e-6
    )
    assert found > 1


def test_the_inception_score_is_that_of_the_generated_side():
    extractor, fake = tiny(), noise(seed=2, spread=80)
    (found,), _ = score(extractor, side(noise(seed=1)), side(fake), ["is"], splits=4)
    mean, spread = inception_score(extractor(fake)[1], splits=4)
    assert (found.name, found.spread_of) == ("score_tiny", "4 splits")
    assert (found.value, found.spread) == (pytest.approx(mean), pytest.approx(spread)) and mean > 1.01


def test_the_kernel_distance_uses_as_many_images_as_the_smaller_side():
    extractor, real, fake = tiny(), noise(seed=1), noise(120, seed=2, shift=20)
    (found,), _ = score(extractor, side(real), side(fake), ["kid"], seed=3)
    expected = kernel_distance(extractor(real)[0], extractor(fake)[0], size=120, seed=3)
    assert (found.name, found.spread_of) == ("kd_tiny", "subsets of 120")
    assert (found.value, found.spread) == pytest.approx(expected)


@pytest.mark.parametrize("batch", [1, 7, 64, 1000])
def test_batches_do_not_move_a_score(batch):
    real, fake = noise(60, seed=1), noise(60, seed=2, shift=20)
    expected, found = (
        values(score(tiny(), side(real, batch=b), side(fake, batch=b), ["fid", "is", "kid", "pr", "dc"])[0]) for b in (60, batch)
    )
    assert found == pytest.approx(expected, rel=1e-4)


def test_every_score_tells_near_from_far():
    near, far = (values(score(tiny(), side(noise(seed=1)), side(noise(seed=2, shift=shift)), WANTED)[0]) for shift in (2, 120))
    assert set(near) == {
        "fd_tiny", "fd_tiny_infinity", "score_tiny", "kd_tiny", "precision_tiny", "recall_tiny", "density_tiny", "coverage_tiny",
    }  # fmt: skip
    for name in ("fd_tiny", "fd_tiny_infinity", "kd_tiny"):
        assert near[name] < far[name] / 10
    for name in ("precision_tiny", "recall_tiny", "density_tiny", "coverage_tiny"):
        assert near[name] > 0.8 > 0.4 > far[name] >= 0
    assert max(near[name] for name in ("precision_tiny", "recall_tiny", "coverage_tiny")) <= 1
    assert 1 <= near["score_tiny"] <= CLASSES


def test_an_interval_holds_its_distance_and_brings_it_along():
    (found,), _ = score(tiny(), side(noise(seed=1)), side(noise(seed=2, shift=20)), ["interval"])
    low, high = found.interval
    assert found.name == "fd_tiny" and low < found.value < high and 0 < found.spread < high - low
    assert found.spread_of == "generated images"


def test_a_distance_and_its_interval_are_one_score():
    real, fake = side(noise(seed=1)), side(noise(seed=2, shift=20))
    (plain,), _ = score(tiny(), real, fake, ["fid"])
    (both,), _ = score(tiny(), real, fake, ["interval", "fid"])
    assert both.value == pytest.approx(plain.value, rel=1e-6) and plain.interval is None and plain.spread is None


def test_endless_images_are_nearer_than_these():
    real = noise(2000, seed=1)
    scores, _ = score(tiny(), side(real), side(noise(200, seed=2)), ["fid", "infinity"])
    found = {s.name: s for s in scores}
    assert found["fd_tiny_infinity"].value < found["fd_tiny"].value
    assert found["fd_tiny_infinity"].spread_of == "fit" and found["fd_tiny_infinity"].spread > 0


def test_endless_images_are_not_trusted_below_four_images_a_feature():
    warned = [score(tiny(), side(noise(200)), side(noise(n, seed=1)), ["infinity"])[1] for n in (4 * DIM - 1, 4 * DIM)]
    assert "fewer than 4 times the 6 features" in warned[0][-1] and "score at least 24" in warned[0][-1] and warned[1] == []
    assert score(tiny(), side(noise(200)), side(noise(4 * DIM - 1, seed=1)), ["fid"])[1] == []


@pytest.mark.parametrize("wanted", ["kid", "interval", "infinity"])
def test_a_seed_decides_which_images_are_drawn(wanted):
    a, b, c = (
        score(tiny(), side(noise(1100, seed=1)), side(noise(1100, seed=2, shift=9)), [wanted], seed=s)[0][0] for s in (0, 0, 1)
    )
    assert (a.value, a.spread) == (b.value, b.spread) != (c.value, c.spread)


# --- the table of scores -----------------------------------------------------------------------------------------------------


@pytest.fixture
def registered():
    """register(...) for the length of a test."""
    before = dict(SCORES._entries)
    yield register
    SCORES._entries.clear()
    SCORES._entries.update(before)


def test_a_registered_score_is_asked_for_by_its_name(registered):
    @registered("nearness", features=True)
    def nearness(real, generated, seed):
        return [Value("nearness", float(len(real.features) + len(generated.features) + seed), 2.0, "nothing", (0.0, 9.0))]

    (found,), _ = score(tiny(), side(noise(30)), side(noise(20)), ["nearness"], seed=7)
    assert (found.name, found.value, found.spread, found.spread_of, found.interval) == ("nearness_tiny", 57, 2, "nothing", (0, 9))
    assert (found.card.real_count, found.card.generated_count) == (30, 20)


def test_a_score_of_mean_and_covariance_needs_no_images(registered):
    @registered("shift")
    def shift(real, generated, seed):
        (a, _), (b, _) = real.moments, generated.moments
        return [Value("shift", float((a - b).norm()))]

    statistics = Statistics(torch.zeros(DIM).double(), torch.eye(DIM).double(), 100, {})
    moved = Statistics(torch.full((DIM,), 2.0).double(), torch.eye(DIM).double(), 100, {})
    assert score(tiny(), known(statistics), known(moved), ["shift"])[0][0].value == pytest.approx(2 * DIM**0.5)


def test_a_score_that_says_not_what_it_needs_is_told(registered):
    @registered("careless")
    def careless(real, generated, seed):
        return [Value("careless", float(real.features.sum()))]

    with pytest.raises(ProtocolError, match="register the score with features=True"):
        score(tiny(), side(), side(), ["careless"])


@pytest.mark.parametrize("asked", [WANTED, WANTED[::-1]], ids=["as listed", "reversed"])
def test_results_stand_in_one_order_whatever_was_asked_first(asked):
    names = list(values(score(tiny(), side(noise(seed=1)), side(noise(seed=2)), asked)[0]))
    assert names == [
        "fd_tiny", "fd_tiny_infinity", "score_tiny", "kd_tiny", "precision_tiny", "recall_tiny", "density_tiny", "coverage_tiny",
    ]  # fmt: skip


# --- statistics instead of images --------------------------------------------------------------------------------------------


def test_statistics_stand_for_their_images():
    extractor, real, fake = tiny(), side(noise(seed=1)), side(noise(seed=2, shift=20))
    expected = values(score(extractor, real, fake, ["fid"])[0])
    a, b = reference_statistics(extractor, real), reference_statistics(extractor, fake)
    for pair in ((known(a), fake), (real, known(b)), (known(a), known(b))):
        assert values(score(extractor, *pair, ["fid"])[0]) == pytest.approx(expected, rel=1e-9)


def test_the_score_of_the_classes_needs_no_real_images():
    extractor = tiny()
    statistics = reference_statistics(extractor, side(noise(seed=1)))
    assert set(values(score(extractor, known(statistics), side())[0])) == {"fd_tiny", "score_tiny"}


@pytest.mark.parametrize("wanted", ["kid", "pr", "dc", "interval", "infinity"])
@pytest.mark.parametrize("which", ["real", "generated"])
def test_statistics_are_enough_where_a_score_looks_at_no_image_of_that_side(wanted, which):
    extractor, images = tiny(), side()
    statistics = known(reference_statistics(extractor, images), "theirs.npz")
    pair = (statistics, images) if which == "real" else (images, statistics)
    if which == "real" and wanted in ("interval", "infinity"):
        assert values(score(extractor, *pair, [wanted])[0]) == values(score(extractor, images, images, [wanted])[0])
        return
    others = "fid, interval and infinity" if which == "real" else "fid alone"
    words = rf"theirs\.npz holds only a mean and a covariance, and {wanted} needs the images: name those, or ask for {others}$"
    with pytest.raises(ProtocolError, match=words):
        score(extractor, *pair, ["fid", wanted])


def test_statistics_have_no_classes():
    extractor, images = tiny(), side()
    with pytest.raises(ProtocolError, match="theirs holds only a mean and a covariance"):
        score(extractor, images, known(reference_statistics(extractor, images), "theirs"), ["is"])


@pytest.mark.parametrize("which", ["real", "generated"])
def test_statistics_of_another_network_are_refused_with_both_sizes(which):
    foreign, images = known(Statistics(torch.zeros(9).double(), torch.eye(9).double(), None, {})), side()
    pair = (foreign, images) if which == "real" else (images, foreign)
    with pytest.raises(ProtocolError, match="the statistics have 9 features, tiny has 6; choose --features to match"):
        score(tiny(), *pair, ["fid"])


@pytest.mark.parametrize(
    "other", [dict(resize="tf1"), dict(sha256="b" * 64), dict(precision="bf16")], ids=["resize", "weights", "precision"]
)
def test_statistics_that_say_they_were_computed_otherwise_are_refused(other, tmp_path):
    reference_statistics(tiny(**other), side()).save(tmp_path / "other.npz")
    with pytest.raises((ProtocolError, StatisticsError)):
        score(tiny(), known(Statistics.load(tmp_path / "other.npz")), side(), ["fid"])


def test_saved_statistics_and_their_images_give_comparable_scores(tmp_path):
    extractor, real, fake = tiny(), side(name="real"), side(noise(seed=2))
    reference_statistics(extractor, real).save(tmp_path / "real.npz")
    (a,), _ = score(extractor, real, fake, ["fid"])
    (b,), _ = score(extractor, known(Statistics.load(tmp_path / "real.npz"), "real"), fake, ["fid"])
    assert differences(a.card, b.card) == []


def test_unusable_statistics_are_refused_in_one_sentence():
    broken = known(Statistics(torch.full((DIM,), torch.nan).double(), torch.eye(DIM).double(), 100, {}))
    with pytest.raises((ProtocolError, StatisticsError), match="NaN"):
        score(tiny(), broken, side(), ["fid"])


# --- refusals and warnings ---------------------------------------------------------------------------------------------------


def test_an_unknown_score_is_refused_with_the_known_ones():
    with pytest.raises(ProtocolError, match="unknown score 'fidd'; choose among fid, interval, infinity, is, kid, pr, dc"):
        score(tiny(), side(), side(), ["fid", "fidd"])


def test_a_network_without_classes_has_no_inception_score():
    with pytest.raises(ProtocolError, match="tiny gives no class probabilities, so there is no score 'is'; leave it out"):
        score(tiny(head=False), side(), side())
    assert list(values(score(tiny(head=False), side(), side(), ["fid"])[0])) == ["fd_tiny"]


@pytest.mark.parametrize("n", [0, 1])
def test_a_score_needs_two_images(n):
    for pair in ((side(noise(n), "few"), side()), (side(), side(noise(n), "few"))):
        pair = [Side(s.name, s.count, s.batches if s.count else lambda: iter([])) for s in pair]
        with pytest.raises(ProtocolError, match=rf"few has {n} image\(s\); a score needs at least 2"):
            score(tiny(), *pair, ["fid"])


@pytest.mark.parametrize("wanted, n", [("is", 5), ("pr", 3), ("dc", 3), ("interval", 3), ("infinity", 3)])
def test_too_few_images_for_a_score_are_refused_in_one_sentence(wanted, n):
    with pytest.raises(ProtocolError):
        score(tiny(), side(noise(n, seed=1)), side(noise(n, seed=2)), [wanted])


@pytest.mark.parametrize("n, warned", [(DIM - 1, True), (DIM, True), (DIM + 1, False)])
@pytest.mark.parametrize("which", ["real", "generated"])
def test_no_more_images_than_features_are_warned_of(n, warned, which):
    few, many = side(noise(n, seed=1)), side(noise(40, seed=2))
    _, warnings = score(tiny(), *((few, many) if which == "real" else (many, few)), ["fid"])
    assert len(warnings) == warned
    assert not warned or warnings[0].startswith(f"{n} images are no more than the 6 features: the covariance is singular")


def test_statistics_of_unknown_count_are_not_warned_of():
    found = reference_statistics(tiny(), side())
    assert score(tiny(), known(Statistics(found.mean, found.covariance, None, {})), side(), ["fid"])[1] == []


# --- cards and names ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wanted", [["fid", "is"], ["fid", "is", "kid", "pr", "dc", "infinity"]], ids=["streamed", "kept"])
def test_a_card_tells_how_its_score_came_about(wanted):
    real, fake = noise(80, seed=1), noise(50, seed=2)
    about = {"ema": True, "batch_norm": "eval", "seed": 3}
    scores, _ = score(tiny(resize="tf1"), side(real, "shapes"), side(fake, "run step 7", about=about, fixed=False), wanted)
    card = scores[0].card
    assert all(s.card == card for s in scores)
    assert (card.features, card.weights_sha256, card.input_size, card.resize, card.precision) == (
        "tiny",
        "a" * 64,
        8,
        "tf1",
        "fp32",
    )
    assert (card.real, card.real_count, card.real_sha256) == ("shapes", 80, fingerprint([real]))
    assert (card.generated, card.generated_count) == ("run step 7", 50)
    assert (card.ema, card.batch_norm, card.seed, card.flips) == (True, "eval", 3, False)
    assert "torch" in card.versions


def test_a_card_says_what_it_does_not_know():
    card = score(tiny(), known(Statistics(torch.zeros(DIM).double(), torch.eye(DIM).double(), None, {}), "x.npz"), side(), ["fid"])[
        0
    ][0].card
    assert (card.real, card.real_count, card.real_sha256) == ("x.npz", None, None)
    assert (card.ema, card.batch_norm, card.seed) == (None, None, None)


def test_other_reference_images_make_scores_that_cannot_be_compared():
    a, b = (score(tiny(), side(noise(seed=s), "same name"), side(), ["fid"])[0][0].card for s in (1, 2))
    assert [difference.split(":")[0] for difference in differences(a, b)] == ["real_sha256"]


def test_names_claim_fid_only_for_the_genuine_network():
    real, fake = side(noise(seed=1)), side(noise(seed=2, shift=20))
    names = values(score(tiny(), real, fake, WANTED)[0])
    assert [name for name in names if "fid" in name or "inception_score" in name or "kid" in name] == []
    assert set(values(score(tiny(genuine=True), real, fake, WANTED)[0])) == {
        "fid", "fid_infinity", "inception_score", "kid", "precision", "recall", "density", "coverage",
    }  # fmt: skip


def test_a_network_of_ones_own_never_gives_a_fid(monkeypatch):
    own = SimpleNamespace(network=lambda: nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten()))
    monkeypatch.setitem(sys.modules, "own", own)
    extractor = open_extractor("module:own.network", size=32)
    assert list(values(score(extractor, side(), side(), ["fid"])[0])) == ["fd_module:own.network_e3b0c442"]


# --- passes over the images --------------------------------------------------------------------------------------------------


def test_reference_images_are_embedded_once(cache):
    extractor, real = Counted(tiny()), side(noise(100, seed=1))
    first, _ = score(extractor, real, side(noise(30, seed=2)), ["fid"])
    assert extractor.images == 130
    second, _ = score(extractor, side(noise(100, seed=1), "another name"), side(noise(30, seed=2)), ["fid"])
    assert extractor.images == 160 and first[0].value == second[0].value
    assert second[0].card.real == "another name"
    assert len(list(cache.iterdir())) == 1


@pytest.mark.parametrize("change", ["pixel", "weights", "resize", "precision"])
def test_a_changed_pixel_or_network_is_embedded_anew(change, cache):
    images = noise(100, seed=1)
    score(tiny(), side(images), side(), ["fid"])
    changes = {"weights": dict(sha256="b" * 64), "resize": dict(resize="tf1"), "precision": dict(precision="bf16")}
    extractor = Counted(tiny(**changes.get(change, {})))
    if change == "pixel":
        images = images.clone()
        images[99, 2, 7, 7] ^= 1
    score(extractor, side(images), side(noise(30)), ["fid"])
    assert extractor.images == 130 and len(list(cache.iterdir())) == 2


def test_changed_code_of_a_users_network_is_noticed_though_its_weights_stay(monkeypatch, cache):
    pools = {"mean": nn.AdaptiveAvgPool2d(2), "max": nn.AdaptiveMaxPool2d(2)}
    found = {}
    for name, pool in pools.items():
        monkeypatch.setitem(sys.modules, "own", SimpleNamespace(network=lambda pool=pool: nn.Sequential(pool, nn.Flatten())))
        found[name] = score(open_extractor("module:own.network", size=32), side(), side(), ["fid"])[0][0]
    assert found["mean"].name == found["max"].name  # neither has weights
    assert all(abs(s.value) < 1e-6 for s in found.values()) and len(list(cache.iterdir())) == 2


def test_statistics_are_cached_by_what_decoded_their_images_too(cache):
    for decoder in ("Pillow 13", "Pillow 13", "Pillow 14"):
        reference_statistics(tiny(), side(identify=lambda: "of files", decoded=lambda decoder=decoder: decoder))
    assert len(list(cache.iterdir())) == 2
    assert "decoded" not in reference_statistics(tiny(), side()).card


def test_a_generator_as_reference_is_neither_hashed_nor_cached(cache):
    passes = []

    def batches():
        passes.append(1)
        return iter(noise().split(64))

    scores, _ = score(tiny(), Side("a run", 200, batches, fixed=False), side(), ["fid"])
    assert len(passes) == 1 and not cache.exists() and scores[0].card.real_sha256 is None


def watched(images, **more):
    """A side, and a list that grows with every pass over it."""
    passes = []
    return Side("watched", len(images), lambda: (passes.append(1), iter(images.split(64)))[1], **more), passes


def test_a_side_that_knows_its_sha256_is_read_once_and_then_never():
    real, passes = watched(noise(seed=1), sha256="c" * 64)
    scores, _ = score(tiny(), real, side(), ["fid"])
    assert len(passes) == 1 and scores[0].card.real_sha256 == "c" * 64
    score(tiny(), real, side(), ["fid"])
    assert len(passes) == 1 and identified(real) is real


def test_a_side_is_asked_what_it_knows_of_its_images_before_they_are_hashed():
    asked = []
    real, passes = watched(noise(seed=1), identify=lambda: asked.append(1) or "d" * 64)
    real = identified(real)
    for _ in range(3):
        scores, _ = score(tiny(), real, side(), ["fid"])
    assert len(asked) == len(passes) == 1 and scores[0].card.real_sha256 == "d" * 64


def test_an_identified_side_is_hashed_once_for_many_scores():
    images = noise(seed=1)
    real, passes = watched(images)
    real = identified(real)
    for _ in range(3):
        scores, _ = score(tiny(), real, side(), ["fid"])
    assert len(passes) == 2 and scores[0].card.real_sha256 == fingerprint([images])


@pytest.mark.parametrize("kind", ["statistics", "generator"])
def test_what_cannot_be_identified_stays_as_it_is(kind):
    statistics = Statistics(torch.zeros(DIM).double(), torch.eye(DIM).double(), 100, {})
    given = known(statistics) if kind == "statistics" else side(fixed=False)
    assert identified(given) is given


def test_progress_counts_every_embedded_image():
    steps = []
    score(tiny(), side(noise(100, seed=1)), side(noise(70, seed=2)), ["fid"], progress=steps.append)
    assert sum(steps) == 170 and max(steps) <= 64


def test_a_reference_that_is_cached_counts_at_once():
    real = side(noise(100, seed=1))
    score(tiny(), real, side(noise(70, seed=2)), ["fid"])
    steps = []
    score(tiny(), real, side(noise(70, seed=2)), ["fid"], progress=steps.append)
    assert steps[0] == 100 and sum(steps) == 170 == passes(real, side(noise(70, seed=2)))


def test_features_are_kept_only_where_they_are_needed(monkeypatch):
    kept = []
    embed = scoring.embed
    monkeypatch.setattr(scoring, "embed", lambda *a: (kept.append(a[2]), embed(*a))[1])
    score(tiny(), side(noise(seed=1)), side(noise(seed=2)), ["fid", "is"])
    assert kept == [False, False]
    score(tiny(), side(noise(seed=1)), side(noise(seed=2)), ["fid", "kid"])
    assert kept[2:] == [True, True]


CARD = Card("tiny", "a" * 64, 8, "clean", "fp32", "images", 200, None, "images", 200)

# --- the floor ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 7, 64, 301])
def test_the_floor_is_the_distance_between_two_parts_scaled_to_the_counts_of_the_score(batch):
    images = noise(301)
    features = tiny()(images)[0]
    (against,), _ = score(tiny(), side(images, "noise"), side(about={"ema": True, "protocol": "sn"}), ["fid"])  # 200 generated
    found = floor(tiny(), side(images, "noise", batch=batch), against.card)
    card = found.score.card
    assert (found.score.name, card.real, card.generated) == ("fd_tiny_floor", "noise", "other images like noise")
    assert (card.real_count, card.generated_count, card.ema, card.protocol) == (301, 200, None, None)
    assert card.weights_sha256 == against.card.weights_sha256 and card.real_sha256 == fingerprint([images])
    assert found.parts == (150, 151)
    assert found.measured == pytest.approx(frechet_from_features(features[1::2], features[0::2]), rel=0.5)
    assert found.score.value == pytest.approx(found.measured * (1 / 200 + 1 / 301) / (1 / 150 + 1 / 151))
    assert 0 < found.score.value < values(score(tiny(), side(images), side(noise(shift=30)), ["fid"])[0])["fd_tiny"] / 5


def test_the_floor_is_what_other_real_images_score():
    real, card = noise(400), replace(CARD, real_count=400, generated_count=100)
    others = [score(tiny(), side(real), side(noise(100, seed=seed)), ["fid"])[0][0].value for seed in range(1, 9)]
    found = floor(tiny(), side(real), card)
    assert found.parts == (100, 300)
    assert found.score.value == pytest.approx(sum(others) / len(others), rel=0.35)
    ten = floor(tiny(), side(real), replace(card, generated_count=4000))  # more than there are: halves, scaled down
    assert ten.parts == (200, 200) and ten.score.value < 0.6 * ten.measured


def test_the_floor_is_the_same_every_time():
    assert floor(tiny(), side(), CARD) == floor(tiny(), side(), CARD)


def test_three_images_have_no_halves():
    with pytest.raises(ProtocolError, match="three is too small to be halved"):
        floor(tiny(), side(noise(3), "three"), CARD)
    assert floor(tiny(), side(noise(4)), CARD).parts == (2, 2)


def test_statistics_have_no_halves():
    with pytest.raises(ProtocolError, match=r"known\.npz"):
        floor(tiny(), known(Statistics(torch.zeros(DIM).double(), torch.eye(DIM).double(), 100, {}), "known.npz"), CARD)


def test_statistics_of_statistics_are_themselves_or_refused():
    statistics = Statistics(torch.zeros(DIM).double(), torch.eye(DIM).double(), 100, {})
    try:
        found = reference_statistics(tiny(), known(statistics, "known.npz"))
    except (ProtocolError, StatisticsError) as refusal:
        assert "known.npz" in str(refusal)
    else:
        assert torch.equal(found.mean, statistics.mean) and torch.equal(found.covariance, statistics.covariance)
