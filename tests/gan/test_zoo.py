"""The zoo: entries made of runs, opened by name wherever a run can stand, and what is said of damaged ones."""

import hashlib
import json
import shlex
from os import replace

import pytest
import torch

import gan
from data.files import locked
from gan import zoo, zoo_entry
from gan.config import Config
from gan.models.build import resolve_to_train
from gan.sampling import load_generator
from metrics.protocol import Score
from tests.helpers import FEATURES, NAME, ROOT, one_error


@pytest.fixture
def entry(run, call, tmp_path, monkeypatch, tiny_networks):
    """`zoo:tiny`, of a run, in a zoo of its own; gives its folder."""
    monkeypatch.setenv("GAN_ZOO", str(tmp_path / "zoo"))
    status, _, err = call("zoo", "add", run, "tiny", "--count", 20, "--features", FEATURES, "--device", "cpu")
    assert status == 0, err
    return tmp_path / "zoo"


def test_an_entry_has_a_card_and_draws_what_the_run_draws(entry, run):
    card = zoo.card("tiny")
    file = entry / "tiny.safetensors"
    assert card.sha256 == hashlib.sha256(file.read_bytes()).hexdigest() and card.bytes == file.stat().st_size < 2_000_000
    assert (card.steps, card.seed, card.resolution, card.dtype) == (4, 0, 32, "float32")
    assert card.generator == "dcgan transposed c3sp" and card.data == "folder fifty.zip"
    score = Score.from_dict(card.scores[0])
    assert score.name == NAME and (score.card.generated, score.card.generated_count) == ("zoo:tiny", 20)
    assert torch.equal(gan.load("tiny", device="cpu").sample(5), gan.load(run, device="cpu").sample(5))
    assert sorted(f.name for f in entry.iterdir()) == ["tiny.json", "tiny.safetensors"]
    assert str(run.parent) not in file.read_bytes().decode("latin1") + (entry / "tiny.json").read_text()


@pytest.mark.parametrize(
    "overrides, words",
    [
        (["dataset.name=cifar10"], "cifar10, train split"),
        (["dataset.name=folder", "dataset.path=/a/b.zip"], "folder b.zip"),
        (
            ["dataset.name=folder", "dataset.path=/a/b.zip", "dataset.hold_out=0.1"],
            "folder b.zip, without the held-out share of 0.1",
        ),
    ],
)
def test_a_card_says_what_was_learned_from_not_what_it_was_scored_against(overrides, words):
    assert zoo_entry.trained_on(Config.load(None, overrides)) == words


def test_the_commands_take_an_entry_where_a_run_can_stand(entry, call, fifty, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, err = call("zoo")
    assert (status, out) == (0, "") and "tiny" in err and NAME in err
    assert (
        call("sample", "zoo:tiny", "--count", 4)[0] == 0 and len(list(tmp_path.glob("runs/zoo-tiny/samples/*_seed_0_4.png"))) == 1
    )
    status, _, err = call("fid", fifty, "zoo:tiny", "--count", 20, "--features", FEATURES, "--device", "cpu")
    assert status == 0 and "zoo:tiny step 4 (20 images) against" in err
    status, _, err = call("probe", "zoo:tiny", "--samples", 16, "--real", "none", "--device", "cpu")
    assert status == 0, err
    record = json.loads((tmp_path / "runs/zoo-tiny/probe.json").read_text())
    assert record["card"]["step"] == 4 and list(record["erosion"]) == ["generator"]
    assert call("export", "zoo:tiny", "--to", "g.safetensors")[0] == 0
    assert call("sample", "g.safetensors", "--count", 4)[0] == 0 and len(list(tmp_path.glob("runs/g/samples/*_seed_0_4.png"))) == 1


def test_the_score_is_that_of_the_stored_weights(run, tmp_path, monkeypatch, tiny_networks):
    monkeypatch.setenv("GAN_ZOO", str(tmp_path / "zoo"))
    size = 120_000
    monkeypatch.setattr(zoo_entry, "LARGEST", size)
    extractor = gan_extractor()
    trained = gan.load(run, device="cpu")
    weights = sum(t.numel() for t in trained.generator.state_dict().values())
    monkeypatch.setattr(zoo_entry, "LARGEST", weights * 3)
    card = zoo_entry.add(load_generator(run, None), "half", extractor, 20, None)
    assert card.dtype == "bfloat16" and card.bytes <= weights * 3 and card.revision is None
    stored = gan.load("zoo:half", device="cpu")
    assert all(torch.equal(t, t.bfloat16().float()) for t in stored.generator.parameters())
    real = zoo_entry.reference(trained.config)
    import metrics

    images = torch.cat(list(real.open()))
    assert card.scores[0]["value"] == pytest.approx(metrics.frechet_distance(images, stored.sample(20), extractor).value)


def gan_extractor():
    from metrics import open_extractor

    return open_extractor(FEATURES)


def test_weights_that_are_too_large_leave_an_old_entry_alone(entry, run, monkeypatch):
    before = {file.name: file.read_bytes() for file in entry.iterdir()}
    monkeypatch.setattr(zoo_entry, "LARGEST", 1000)
    with pytest.raises(zoo.ZooError, match="train a narrower generator"):
        zoo_entry.add(load_generator(run, None), "tiny", gan_extractor(), 20, None, overwrite=True)
    assert {file.name: file.read_bytes() for file in entry.iterdir()} == before


@pytest.mark.parametrize(
    "arguments",
    [
        ["train.seed=3"],
        ["configs/cifar10/sngan.yaml", "generator.kernel=c2sp", "train.steps=2000"],
        ["configs/celeba/dcgan_sn_cpu.yaml", "dataset.name=folder", "dataset.path=celeba-64.zip", "generator.width=32"],
    ],
    ids=" ".join,
)
def test_the_command_of_a_card_trains_with_its_settings(arguments):
    file = ROOT / (arguments[0] if arguments[0].endswith("yaml") else zoo_entry.QUICKSTART)
    config = resolve_to_train(Config.load(file, [a for a in arguments if not a.endswith("yaml")]))
    program, script, train, *found = shlex.split(zoo_entry.command(config))
    assert (program, script, train) == ("python", "run_gan.py", "train")
    again = Config.load(
        ROOT / (found[0] if found[0].endswith("yaml") else zoo_entry.QUICKSTART), [a for a in found if not a.endswith("yaml")]
    )
    assert resolve_to_train(again).difference(config) == [] and again.dataset.path == config.dataset.path
    assert len(found) <= len(arguments)


ADD = ["--count", 20, "--features", FEATURES, "--device", "cpu"]


def test_an_entry_is_replaced_only_if_told_to(entry, run, call):
    before = (entry / "tiny.json").read_bytes()
    status, _, err = call("zoo", "add", run, "tiny", *ADD, "--checkpoint", 2)
    assert status == 1 and "there is a zoo:tiny: choose another name, or say --overwrite" in one_error(err)
    assert (entry / "tiny.json").read_bytes() == before
    assert call("zoo", "add", run, "tiny", *ADD, "--checkpoint", 2, "--overwrite")[0] == 0 and zoo.card("tiny").steps == 2
    assert torch.equal(gan.load("tiny", device="cpu").sample(3), gan.load(run, 2, device="cpu").sample(3))
    assert sorted(file.name for file in entry.iterdir()) == ["tiny.json", "tiny.safetensors"]


class Killed(BaseException):
    pass


@pytest.mark.parametrize("before", ["the card", "the weights have their name"])
def test_a_kill_between_weights_and_card_leaves_the_old_entry_or_the_new(entry, run, monkeypatch, before):
    def kill(*_):
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        if before == "the card":
            patch.setattr(zoo_entry, "write_atomically", kill)
        else:
            patch.setattr(zoo_entry.os, "replace", lambda a, b: kill() if a == zoo.pending("tiny") else replace(a, b))
        zoo_entry.add(load_generator(run, 2), "tiny", gan_extractor(), 20, None, overwrite=True)
    step = 4 if before == "the card" else 2
    assert zoo.card("tiny").steps == step
    assert torch.equal(gan.load("tiny", device="cpu").sample(3), gan.load(run, step, device="cpu").sample(3))
    zoo_entry.add(load_generator(run, 2), "tiny", gan_extractor(), 20, None, overwrite=True)
    assert sorted(file.name for file in entry.iterdir()) == ["tiny.json", "tiny.safetensors"]


def test_one_name_is_made_by_one_process_at_a_time(entry, run):
    with locked(entry / ".tiny.lock"), pytest.raises(zoo.ZooError, match="zoo:tiny is being made by another process: wait for it"):
        zoo_entry.add(load_generator(run, None), "tiny", gan_extractor(), 20, None, overwrite=True)


@pytest.mark.parametrize(
    "change",
    [
        {"steps": 5},
        {"scores": [], zoo.SEAL: None},
        {"parameters": "many", zoo.SEAL: None},
        {"data": ["x"], zoo.SEAL: None},
    ],
    ids=str,
)
def test_a_changed_or_foreign_card_is_one_sentence(entry, call, change):
    card = {**json.loads((entry / "tiny.json").read_text()), **change}
    (entry / "tiny.json").write_text(json.dumps({key: value for key, value in card.items() if value is not None}))
    for command in (["zoo"], ["sample", "zoo:tiny"]):
        status, _, err = call(*command)
        assert status == 1 and "tiny.json is damaged" in one_error(err)


def test_a_card_steers_no_terminal(entry, call):
    card = {**json.loads((entry / "tiny.json").read_text()), "data": "a\x1b[31m[red]b[/red]"}
    card.pop(zoo.SEAL)
    (entry / "tiny.json").write_text(json.dumps(card))
    status, _, err = call("zoo")
    assert status == 0 and "\x1b" not in err and "a\\x1b[31m[red]b[/red]" in err


def test_a_folder_that_cannot_be_is_one_sentence(call, monkeypatch):
    monkeypatch.setenv("GAN_ZOO", "~nosuchuser/zoo")
    status, _, err = call("zoo")
    assert status == 1 and "names the home directory of a user who has none here" in one_error(err)


def damage(entry, what):
    if what == "weights":
        (entry / "tiny.safetensors").write_bytes((entry / "tiny.safetensors").read_bytes()[:-1] + b"x")
    elif what == "no weights":
        (entry / "tiny.safetensors").unlink()
    else:
        (entry / "tiny.json").write_text('{"name": "tiny"}' if what == "card" else "{")


@pytest.mark.parametrize("what", ["weights", "no weights", "card", "torn card"])
def test_a_damaged_entry_is_said_in_one_sentence(entry, call, what):
    damage(entry, what)
    status, _, err = call("sample", "zoo:tiny")
    assert status == 1 and "restore" in one_error(err)


REFUSED = [
    (["sample", "zoo:tinny"], "the zoo has no generator 'tinny'; did you mean tiny?"),
    (["sample", "zoo:tiny", "--checkpoint", "2"], "zoo:tiny holds one generator; leave its checkpoint 2 out"),
    (["evaluate", "zoo:tiny"], "`fid` scores it: fid REAL zoo:tiny"),
    (["fid", "shapes", "zoo:tinny"], "did you mean tiny?"),
    (["probe", "zoo:tiny", "train.seed=1"], None),
    (["zoo", "add", "nowhere", "x"], "nowhere is not a run directory"),
    (["zoo", "add", "{run}", "../x", "--features", FEATURES], "'../x' can't name a generator"),
]


@pytest.mark.parametrize("arguments, words", REFUSED, ids=[" ".join(a) for a, _ in REFUSED])
def test_what_cannot_be_done_is_one_sentence(entry, run, call, arguments, words):
    status, _, err = call(*(a.format(run=run) for a in arguments))
    assert status == (2 if words is None else 1) and (words is None or words in one_error(err))


def test_every_entry_that_comes_along_is_whole_and_draws():
    for name in zoo.names():
        card = zoo.card(name)
        trained = gan.load(f"zoo:{name}", device="cpu")
        images = trained.sample(4)
        assert images.shape == (4, 3, card.resolution, card.resolution) and images.float().std() > 10
        assert card.bytes == (zoo.folder() / f"{name}.safetensors").stat().st_size <= zoo_entry.LARGEST
        assert zoo_entry.command(trained.config) == card.command and card.steps == trained.step
    assert zoo.names()
