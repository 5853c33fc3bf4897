"""The commands `fid` and `evaluate`, with features that take a millisecond."""

import errno
import json

import numpy as np
import pytest
import torch

from data.sources.opening import open_source
from data.sources.shapes import COUNTS
from data.tools.export import export
from data.tools.pack import Squares, pack
from gan import evaluation, sampling
from gan import plots as report
from gan.training import train
from metrics import scoring
from metrics.protocol import PROTOCOLS, Score, require_alike
from metrics.statistics import Statistics
from tests.fixtures import other_network
from tests.helpers import FEATURES, LABEL, NAME, PulledPlug, label_of, one_error

OTHER = "module:tiny_networks.other"

pytestmark = pytest.mark.usefixtures("tiny_networks")


# --- evaluate ----------------------------------------------------------------------------------------------------------------


def test_evaluate_writes_scores_with_cards_and_prints_them(run, call):
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    status, out, err = call("evaluate", run, "--scores", "fid,kid", "--count", 30, "--features", FEATURES, "--seed", 2)
    assert (status, out) == (0, "")
    (record,) = json.loads((run / "scores.json").read_text())
    fd, kd = map(Score.from_dict, record["scores"])
    assert (record["step"], fd.name, kd.name) == (4, NAME, f"kd_{LABEL}") and fd.value > 0
    assert (fd.card.generated, fd.card.generated_count, fd.card.real_count) == ("run step 4", 30, 50)
    assert (fd.card.ema, fd.card.batch_norm, fd.card.seed) == (True, "eval", 2) and "fifty.zip" in fd.card.real
    assert NAME in err and f"{fd.value:.4g}" in err and "run step 4 (30 images) against" in err
    assert f"scores with their cards: {run}/scores.json" in err and "warning" not in err
    assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file() and p.name != "scores.json"} == before


def test_evaluate_gives_both_scores_of_a_network_with_classes(run, call, with_classes):
    assert call("evaluate", run, "--count", 20)[0] == 0
    (record,) = json.loads((run / "scores.json").read_text())
    assert [(s["name"], s["spread_of"]) for s in record["scores"]] == [("fd_classy", None), ("score_classy", "10 splits")]


def test_all_scores_are_those_that_the_network_can_give(run, call, with_classes):
    status, _, err = call("evaluate", run, "--count", 30, "--scores", "all", "--features", FEATURES)
    assert status == 0 and err.splitlines()[-1] == f"next: python run_gan.py probe {run}"
    found = {s["name"].rpartition("_classy")[0] for s in json.loads((run / "scores.json").read_text())[0]["scores"]}
    assert {"fd", "score", "kd", "precision", "density"} <= {name.split("@")[0] for name in found}


def test_all_scores_of_a_network_without_classes_leave_that_one_out(run, call):
    assert call("evaluate", run, "--count", 30, "--scores", "all", "--features", FEATURES)[0] == 0
    names = [s["name"] for s in json.loads((run / "scores.json").read_text())[0]["scores"]]
    assert NAME in names and not [name for name in names if name.startswith("score_")]


@pytest.mark.parametrize("command", [["evaluate", "{run}"], ["fid", "{zip}", "{zip}"]], ids=lambda words: words[0])
def test_an_unknown_score_is_named_before_a_network_is_opened(run, fifty, call, monkeypatch, command):
    monkeypatch.setattr("metrics.features.open_extractor", lambda *_, **__: pytest.fail("opened a network"))
    status, _, err = call(*(word.format(run=run, zip=fifty) for word in command), "--scores", "fid,fidd")
    assert status == 1 and "unknown score 'fidd'; choose among" in one_error(err) and "or say all" in one_error(err)


def test_evaluate_works_with_the_default_network(run, call):
    status, _, err = call("evaluate", run, "--count", 20, "--real-count", 20, "--device", "cpu")
    assert status == 0 and "fd_efficientnet_lite0" in err and "score_efficientnet_lite0" in err
    assert "warning: 20 images are no more than the 1,280 features" in err


def test_evaluating_all_checkpoints_draws_one_record_each(run, call, monkeypatch):
    drawn = []
    plot = report.plot_scores
    monkeypatch.setattr(report, "plot_scores", lambda scores, path: (drawn.append(scores), plot(scores, path)))
    status, _, err = call("evaluate", run, "--checkpoint", "all", "--scores", "fid,kid", "--count", 20, "--features", FEATURES)
    assert status == 0 and f"scores over training: {run}/scores.png" in err
    records = json.loads((run / "scores.json").read_text())
    assert [r["step"] for r in records] == [2, 4]
    assert drawn == [{r["step"]: {s["name"]: s["value"] for s in r["scores"]} for r in records}]
    assert (run / "scores.png").read_bytes().startswith(b"\x89PNG") and (run / "scores.png").stat().st_size > 5000
    a, b = (Score.from_dict(r["scores"][0]) for r in records)
    require_alike([a, b])
    assert a.value != b.value and (a.card.generated, b.card.generated) == ("run step 2", "run step 4")


def test_one_checkpoint_draws_nothing(run, call):
    assert call("evaluate", run, "--checkpoint", "2", "--scores", "fid", "--count", 20, "--features", FEATURES)[0] == 0
    assert json.loads((run / "scores.json").read_text())[0]["step"] == 2 and not (run / "scores.png").exists()


def test_evaluate_against_another_reference_says_so(run, call, fifty):
    assert (
        call("evaluate", run, "--real", fifty, "--real-count", 40, "--scores", "fid", "--count", 20, "--features", FEATURES)[0] == 0
    )
    (record,) = json.loads((run / "scores.json").read_text())
    card = record["scores"][0]["card"]
    assert (card["real"], card["real_count"]) == ("fifty.zip", 40)


def test_a_later_evaluate_adds_to_an_earlier_one(run, call):
    for more in (["--checkpoint", "2"], ["--checkpoint", "last"], ["--checkpoint", "last", "--seed", 1], ["--features", OTHER]):
        more = more if "--features" in more else [*more, "--features", FEATURES]
        assert call("evaluate", run, "--scores", "fid", "--count", 20, *more)[0] == 0
    records = json.loads((run / "scores.json").read_text())
    found = [(r["step"], s["name"], s["card"]["seed"]) for r in records for s in r["scores"]]
    assert found == [(2, NAME, 0), (4, f"fd_{label_of(OTHER, other_network)}", 0), (4, NAME, 1)]


def test_a_kill_loses_only_the_checkpoint_at_work(run, call, monkeypatch):
    load = sampling.load_generator

    def killed_at_the_last(run, step, device):
        if step == 4:
            raise PulledPlug
        return load(run, step, device)

    monkeypatch.setattr(sampling, "load_generator", killed_at_the_last)
    with pytest.raises(PulledPlug):
        call("evaluate", run, "--checkpoint", "all", "--scores", "fid", "--count", 20, "--features", FEATURES)
    assert [r["step"] for r in json.loads((run / "scores.json").read_text())] == [2]


def test_the_reference_of_all_checkpoints_is_hashed_once(run, call, monkeypatch):
    passes = []
    identity = evaluation.identity
    monkeypatch.setattr(evaluation, "identity", lambda *given: (passes.append(1), identity(*given))[1])
    arguments = ["--checkpoint", "all", "--scores", "fid", "--count", 20, "--features", FEATURES]
    assert call("evaluate", run, *arguments)[0] == 0 and len(passes) == 1
    assert len(json.loads((run / "scores.json").read_text())) == 2


def test_evaluate_takes_the_part_that_is_asked_for_or_that_of_the_run(tiny, call, tmp_path):
    options = ["dataset.hold_out=0.3", "evaluate.split=test", "train.steps=2", "train.checkpoint_every=2"]
    train(tiny("dcgan", *options), tmp_path / "run", progress=False)
    found = []
    for more in ([], ["--split", "test"], ["--split", "train"]):
        (tmp_path / "run/scores.json").unlink(missing_ok=True)
        arguments = ["--scores", "fid", "--count", 20, "--features", FEATURES, *more]
        assert call("evaluate", tmp_path / "run", *arguments)[0] == 0
        ((record,),) = (r["scores"] for r in json.loads((tmp_path / "run/scores.json").read_text()))
        found.append((record["card"]["real"], record["card"]["real_count"]))
    assert found[0] == found[1] and "hold-out" in found[0][0] and "without" in found[2][0]
    assert found[0][1] + found[2][1] == 50


@pytest.mark.parametrize("command", ["evaluate", "fid"])
def test_resize_and_precision_reach_the_features_and_the_card(run, fifty, call, tmp_path, command):
    arguments = [run] if command == "evaluate" else [fifty, run, "--overwrite", "--json", tmp_path / "s.json"]
    found = {}
    for resize in ("clean", "pytorch_fid", "tf1"):
        options = ["--scores", "fid", "--count", 20, "--features", FEATURES, "--resize", resize, "--precision", "bf16"]
        assert call(command, *arguments, *options)[0] == 0
        scores = json.loads((run / "scores.json" if command == "evaluate" else tmp_path / "s.json").read_text())
        score = scores[0]["scores"][0] if command == "evaluate" else scores[0]
        assert (score["card"]["resize"], score["card"]["precision"]) == (resize, "bf16")
        found[resize] = score["value"]
    assert len(set(found.values())) == 3
    status, _, err = call(command, *arguments, "--features", FEATURES, "--resize", "nearest")
    assert status == 1 and "resize is one of" in one_error(err)


EVALUATE_REFUSES = [
    (["{run}/nowhere"], "is not a run directory: it has no config.yaml"),
    (["{run}", "--split", "test"], "has no test split"),
    (["{run}", "--split", "validation"], "splits train and test"),
    (["{run}", "--split", "train", "--real", "shapes"], "leave it out with --real shapes"),
    (["{run}", "--device", "meta"], "this PyTorch finds no device 'meta'"),
    (["{run}", "--device", "mps:7"], "this PyTorch finds no device 'mps:7'"),
    (["{run}", "--checkpoint", "first"], "--checkpoint is last, best, all or a step"),
    (["{run}", "--checkpoint", "3"], "has no checkpoint of step 3; it has 2, 4"),
    (["{run}", "--checkpoint", "best"], "keeps no best checkpoint; train it with evaluate.every"),
    (["{run}", "--scores", "fidd"], "unknown score 'fidd'"),
    (["{run}", "--scores", "is"], "gives no class probabilities"),
    (["{run}", "--real", "nowhere"], "nowhere is no run, zoo:NAME, folder, zip, pack, LSUN database or npz"),
    (["{run}", "--real-count", "51", "--scores", "fid"], "has 50 images, fewer than the 51"),
    (["{run}", "--features", "incepton"], "did you mean 'inception'"),
]


@pytest.mark.parametrize("arguments, words", EVALUATE_REFUSES, ids=[" ".join(a) for a, _ in EVALUATE_REFUSES])
def test_what_evaluate_cannot_do_ends_in_one_sentence(run, call, arguments, words):
    arguments = [a.format(run=run) for a in arguments]
    more = [] if "--features" in arguments else ["--features", FEATURES]
    status, out, err = call("evaluate", *arguments, "--count", 20, *more)
    assert (status, out) == (1, "") and words in one_error(err)
    assert not (run / "scores.json").exists()


# --- fid ---------------------------------------------------------------------------------------------------------------------


def test_fid_by_images_and_by_saved_statistics_agree(fifty, run, call, tmp_path):
    output = ["--json", tmp_path / "s.json", "--overwrite"]

    def value(real, *more):
        status, out, err = call("fid", real, run, "--count", 30, "--features", FEATURES, *output, *more)
        assert (status, out) == (0, ""), err
        return json.loads((tmp_path / "s.json").read_text())[0]["value"]

    by_images = value(fifty, "--save-statistics", tmp_path / "real.npz")
    assert by_images > 0 and value(tmp_path / "real.npz") == pytest.approx(by_images, rel=1e-9)
    assert Statistics.load(tmp_path / "real.npz").count == 50


def test_fid_of_a_pack_and_an_lsun_database_of_the_same_images_is_zero(fifty, call, tmp_path):
    pack(open_source(fifty), tmp_path / "fifty.pack", Squares(32))
    lsun = tmp_path / "shapes_train_lmdb"
    export(open_source(fifty), lsun)
    arguments = ["--features", FEATURES, "--json", tmp_path / "s.json"]
    status, _, err = call("fid", tmp_path / "fifty.pack", lsun, "--scores", "fid,kid", *arguments)
    assert status == 0, err
    score, _ = json.loads((tmp_path / "s.json").read_text())
    assert score["value"] == pytest.approx(0, abs=1e-6)
    assert "fifty.pack" in score["card"]["real"] and "shapes, train" in score["card"]["generated"]


def test_the_floor_is_printed_with_its_count_and_written(fifty, call, tmp_path):
    status, _, err = call("fid", fifty, fifty, "--features", FEATURES, "--floor", "--json", tmp_path / "s.json")
    fd, floor = map(Score.from_dict, json.loads((tmp_path / "s.json").read_text()))
    assert (fd.name, floor.name, floor.card.generated_count) == (NAME, f"{NAME}_floor", 50)
    assert status == 0 and floor.value > fd.value
    assert f"about {floor.value:.3g} in {NAME}, at 50 images against 50 (two parts of the reference, 25 and 25 images" in err


def test_a_protocol_that_a_data_set_is_too_small_for_is_refused(fifty, call, monkeypatch):
    monkeypatch.setitem(COUNTS, "train", 60)
    status, _, err = call("fid", "shapes", fifty, "--features", FEATURES, "--protocol", "sn")
    assert status == 1 and "has 60 images, fewer than the 5,000 asked for" in one_error(err)


def test_a_protocol_is_named_on_the_card(fifty, call, tmp_path, monkeypatch):
    monkeypatch.setitem(COUNTS, "test", 60)
    monkeypatch.setitem(PROTOCOLS, "landscape", PROTOCOLS["landscape"]._replace(real=40, generated=30))
    arguments = ["--features", FEATURES, "--json", tmp_path / "s.json"]
    assert call("fid", "shapes", fifty, *arguments, "--protocol", "landscape")[0] == 0
    assert (
        call("fid", "shapes:test", fifty, *arguments[:2], "--real-count", 40, "--count", 30, "--json", tmp_path / "t.json")[0] == 0
    )
    with_it, without = (Score.from_dict(json.loads((tmp_path / name).read_text())[0]) for name in ("s.json", "t.json"))
    assert (with_it.card.protocol, without.card.protocol) == ("landscape", None)
    assert with_it.value == without.value and (with_it.card.real_count, with_it.card.generated_count) == (40, 30)
    require_alike([with_it, without])


@pytest.mark.parametrize("option", ["--floor", "--save-statistics"])
def test_what_is_asked_for_besides_loses_no_score(fifty, call, tmp_path, monkeypatch, option):
    def fails(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device", "s.npz")

    monkeypatch.setattr(scoring, "floor", fails)
    monkeypatch.setattr(Statistics, "save", fails)
    more = [option, *([tmp_path / "s.npz"] if option == "--save-statistics" else [])]
    monkeypatch.setattr(scoring, "cached", lambda key, compute: compute())
    status, _, err = call("fid", fifty, fifty, "--features", FEATURES, "--json", tmp_path / "s.json", *more)
    assert status == 1 and f"{tmp_path}/s.json" in err and NAME in err
    assert "s.npz can't be read or written (the disk is full): fix that and give the same command again" in one_error(
        err[err.index("error: ") :]
    )
    assert json.loads((tmp_path / "s.json").read_text())[0]["name"] == NAME


FID_REFUSES = [
    (["{npz}", "{zip}", "--real-count", "20"], "s.npz holds a mean and a covariance of all its images; leave its count of 20 out"),
    (["{zip}", "{npz}", "--count", "20"], "s.npz holds a mean and a covariance of all its images; leave its count of 20 out"),
    (["shapes", "{zip}", "--protocol", "sn", "--count", "20"], "protocol sn settles how many images are scored"),
    (["shapes", "{zip}", "--protocol", "sn", "--real-count", "20"], "protocol sn settles how many images are scored"),
    (["{many}", "{zip}"], "many.npz says that it is of 'many' images"),
    (["{zip}", "{zip}", "--device", "meta"], "this PyTorch finds no device 'meta'"),
    (["{npz}", "{zip}", "--floor"], "shapes"),
    (["{npz}", "{zip}", "--scores", "kid"], "shapes holds only a mean and a covariance"),
    (["{npz9}", "{zip}"], "the statistics have 9 features"),
    (["{nan}", "{zip}"], "NaN"),
    (["{zip}", "{zip}", "--count", "3", "--scores", "pr"], "images"),
    (["{zip}", "{zip}", "--protocol", "sn"], "protocol sn chooses the split of a data set"),
    (["{zip}", "{zip}", "--protocol", "miyato"], "unknown protocol 'miyato'"),
    (["{zip}", "nowhere"], "nowhere is no run"),
    (["{zip}", "{zip}", "--save-statistics", "{zip}/s.npz"], "fifty.zip"),
    (["{zip}", "{foreign}", "--floor"], "foreign.npz doesn't say of how many images it is"),
]


@pytest.mark.parametrize("arguments, words", FID_REFUSES, ids=[" ".join(a) for a, _ in FID_REFUSES])
def test_what_fid_cannot_do_ends_in_one_sentence(fifty, call, tmp_path, arguments, words):
    zeros, eye = torch.zeros(9).double(), torch.eye(9).double()
    Statistics(zeros[:6], eye[:6, :6], 50, {"real": "shapes"}).save(tmp_path / "s.npz")
    Statistics(zeros, eye, 50, {}).save(tmp_path / "s9.npz")
    Statistics(zeros[:6] / 0, eye[:6, :6], 50, {}).save(tmp_path / "nan.npz")
    Statistics(zeros[:6], eye[:6, :6], "many", {}).save(tmp_path / "many.npz")
    np.savez(tmp_path / "foreign.npz", mu=zeros[:6].numpy(), sigma=eye[:6, :6].numpy())  # as pytorch-fid writes them
    places = {
        "many": tmp_path / "many.npz",
        "foreign": tmp_path / "foreign.npz",
        "zip": fifty,
        "npz": tmp_path / "s.npz",
        "npz9": tmp_path / "s9.npz",
        "nan": tmp_path / "nan.npz",
    }
    status, out, err = call("fid", *(a.format(**places) for a in arguments), "--features", FEATURES)
    assert (status, out) == (1, "") and words in one_error(err)


@pytest.mark.parametrize("option", ["--json", "--save-statistics"])
@pytest.mark.parametrize("place", ["{zip}/s.npz", "{folder}"], ids=["below a file", "a directory"])
def test_a_file_that_cannot_be_written_is_told_before_the_work(fifty, call, tmp_path, monkeypatch, option, place):
    monkeypatch.setattr(scoring, "score", lambda *_, **__: pytest.fail("scored"))
    (tmp_path / "folder.npz").mkdir()
    place = place.format(zip=fifty, folder=tmp_path / "folder.npz")
    status, _, err = call("fid", fifty, fifty, "--features", FEATURES, option, place)
    assert status == 1 and f"{place} can't be written (" in one_error(err) and one_error(err).endswith("): choose another\n")


def test_statistics_of_statistics_are_copied_or_refused(fifty, call, tmp_path):
    Statistics(torch.zeros(6).double(), torch.eye(6).double(), 50, {"real": "shapes"}).save(tmp_path / "s.npz")
    status, _, err = call("fid", tmp_path / "s.npz", fifty, "--features", FEATURES, "--save-statistics", tmp_path / "again.npz")
    assert "Traceback" not in err
    if status == 0:
        assert torch.equal(Statistics.load(tmp_path / "again.npz").covariance, torch.eye(6).double())


def test_statistics_are_saved_where_they_can_be_read_again(fifty, call):
    status, _, err = call("fid", fifty, fifty, "--features", FEATURES, "--save-statistics", "real.stats")
    assert status == 2 and "name a file such as real.npz" in " ".join(err.replace("│", " ").split())
