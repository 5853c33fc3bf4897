"""Cards: which scores may be put side by side, and what survives a file."""

import json
from dataclasses import fields, replace

import pytest

from gan.evaluation import apply_protocol
from metrics.protocol import MUST_AGREE, PROTOCOLS, Card, ProtocolError, Score, differences, library_versions, require_alike

CARD = Card(
    features="tiny", weights_sha256="a" * 64, input_size=32, resize="clean", precision="fp32", real="shapes", real_count=100,
    real_sha256="b" * 64, generated="run step 7", generated_count=50, ema=True, batch_norm="eval", seed=3, protocol="sn",
)  # fmt: skip


def another(value):
    """A value of the same kind that isn't it."""
    return {bool: lambda: not value, int: lambda: value + 1, str: lambda: value + "x"}[type(value)]()


@pytest.mark.parametrize("name", MUST_AGREE)
def test_a_field_that_must_agree_is_named_with_both_values(name):
    card = replace(CARD, real_sha256=None) if name == "real" else CARD  # the name counts where nothing better is known
    value = getattr(card, name)
    other = replace(card, **{name: another(value)})
    assert differences(card, other) == [f"{name}: {value} against {another(value)}"]
    assert differences(other, card) == [f"{name}: {another(value)} against {value}"]
    with pytest.raises(ProtocolError, match=f"these fd_tiny values can't be compared.*{name}: "):
        require_alike([Score("fd_tiny", 1.0, card), Score("fd_tiny", 2.0, card), Score("fd_tiny", 3.0, other)])


def test_the_same_images_may_lie_in_a_file_of_another_name():
    assert differences(CARD, replace(CARD, real="shapes, copied")) == []
    assert differences(CARD, replace(CARD, real="shapes, copied", real_sha256="c" * 64)) != []


def test_an_unknown_count_is_no_known_count():
    assert differences(CARD, replace(CARD, real_count=None)) == ["real_count: 100 against None"]


def test_all_differences_are_named_at_once():
    other = replace(CARD, resize="tf1", generated_count=60)
    assert differences(CARD, other) == ["resize: clean against tf1", "generated_count: 50 against 60"]


@pytest.mark.parametrize("name", sorted({f.name for f in fields(Card)} - set(MUST_AGREE)))
def test_which_generator_which_seed_and_which_versions_may_differ(name):
    other = replace(CARD, **{name: {"torch": "0"} if name == "versions" else another(getattr(CARD, name))})
    assert other != CARD and differences(CARD, other) == []
    require_alike([Score("fd_tiny", 1.0, CARD), Score("fd_tiny", 2.0, other)])


def test_all_that_moves_a_score_must_agree():
    free = {"generated", "seed", "protocol", "versions"}
    assert set(MUST_AGREE) == {f.name for f in fields(Card)} - free and len(set(MUST_AGREE)) == len(MUST_AGREE)


def test_two_kinds_of_score_are_never_alike():
    with pytest.raises(ProtocolError, match="fd_tiny and kd_tiny are different scores"):
        require_alike([Score("fd_tiny", 1.0, CARD), Score("kd_tiny", 1.0, CARD)])


@pytest.mark.parametrize("scores", [[], [Score("fd_tiny", 1.0, CARD)]])
def test_up_to_one_score_is_alike(scores):
    require_alike(scores)


@pytest.mark.parametrize(
    "score",
    [
        Score("fd_tiny", 12.3456789012345678, CARD),
        Score("fd_tiny", 1.0, CARD, spread=0.25, spread_of="images", interval=(0.5, 1.5)),
        Score("fd_tiny", 0.0, replace(CARD, real_count=None, real_sha256=None, ema=None, batch_norm=None, seed=None)),
    ],
    ids=["bare", "with spread and interval", "of images from elsewhere"],
)
def test_a_score_survives_json(score):
    again = Score.from_dict(json.loads(json.dumps(score.to_dict())))
    assert again == score and isinstance(again.interval, tuple | None)


def test_a_later_versions_fields_are_overlooked():
    record = Score("fd_tiny", 1.0, CARD).to_dict()
    record["card"]["colour_space"] = "sRGB"
    assert Score.from_dict(record).card == CARD


def test_a_card_of_before_there_were_protocols_on_it_is_read_and_compared():
    record = Score("fd_tiny", 1.0, CARD).to_dict()
    del record["card"]["protocol"]
    again = Score.from_dict(record)
    assert again.card.protocol is None
    require_alike([again, Score("fd_tiny", 2.0, CARD)])


def test_a_card_tells_the_versions_that_matter():
    assert {"python", "torch", "numpy", "scipy", "pillow", "pytorch-fid", "efficientnet-lite-pytorch"} <= set(CARD.versions)
    assert "unknown" not in library_versions().values()


@pytest.mark.parametrize(
    "name, real, expected",
    [
        ("sn", "cifar10", ("cifar10:train", 5_000, 10_000)),
        ("mimicry", "cifar10", ("cifar10:train", 50_000, 50_000)),
        ("landscape", "cifar10", ("cifar10:test", 10_000, 10_000)),
        ("landscape", "cifar100:train", ("cifar100:test", 10_000, 10_000)),
        ("mimicry", "shapes:test", ("shapes:train", 50_000, 50_000)),
    ],
)
def test_a_protocol_settles_split_and_counts(name, real, expected):
    assert apply_protocol(name, real) == expected


def test_every_protocol_says_whose_it_is():
    assert set(PROTOCOLS) == {"sn", "mimicry", "landscape"} and all(len(p.note) > 20 for p in PROTOCOLS.values())


def test_an_unknown_protocol_is_refused_with_the_known_ones():
    with pytest.raises(ProtocolError, match=r"unknown protocol 'sngan'; choose sn, mimicry, landscape"):
        apply_protocol("sngan", "cifar10")


@pytest.mark.parametrize("real", ["my/folder", "real.npz", "images.zip"])
def test_a_protocol_needs_a_data_set_with_splits(real):
    with pytest.raises(ProtocolError, match=rf"protocol sn chooses the split of a data set.*; {real} is none"):
        apply_protocol("sn", real)


def test_scores_with_a_network_of_ones_own_from_before_names_had_digits_stand_beside_those_of_now():
    card = replace(CARD, features="module:mine.net")
    now = Score("fd_module:mine.net_aaaaaaaa_intra:cat", 1.0, card)
    before = {**now.to_dict(), "name": "fd_module:mine.net_intra:cat"}
    assert Score.from_dict(before) == Score.from_dict(now.to_dict()) == now
    assert Score.from_dict({**now.to_dict(), "name": "fd_tiny", "card": {**before["card"], "features": "tiny"}}).name == "fd_tiny"
