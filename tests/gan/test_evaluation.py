"""Where scored images come from, the commands `fid` and `evaluate`, and scores while training, which must change nothing else."""

import json
import shutil
import sys
import zipfile
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from data import DataError
from data.shapes import COUNTS, shapes
from gan import checkpoint, cli, report, sampling
from gan.config import dump
from gan.evaluation import TrainingScores, checkpoint_steps, choice, open_side
from gan.run_directory import RunError, read_log
from gan.state import State
from gan.training import train
from metrics import features
from metrics.features import Network
from metrics.protocol import Score, require_alike
from metrics.statistics import Statistics, StatisticsError

FEATURES = "module:tiny_networks.build"
NAME = f"fd_{FEATURES}"
SCORED = ["evaluate.every=5", "evaluate.samples=20", f"evaluate.features={FEATURES}"]


def network():
    return nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, 6))


@pytest.fixture(autouse=True)
def surroundings(tmp_path, monkeypatch):
    """A cache of this test's own, and networks that take a millisecond, by import path."""
    monkeypatch.setenv("GAN_CACHE", str(tmp_path / "cache"))
    other = lambda: nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 5))
    monkeypatch.setitem(sys.modules, "tiny_networks", SimpleNamespace(build=network, other=other))


@pytest.fixture
def with_classes(monkeypatch):
    """Makes every name of features that of one random network with five classes."""

    def build(*_):
        torch.manual_seed(0)
        mean, std = (127.5,) * 3, (40.0,) * 3
        return Network("classy", "a" * 64, network(), nn.Linear(6, 5), 6, 5, 32, "clean", mean, std)

    monkeypatch.setattr(features, "_builder", lambda name: build)


@pytest.fixture
def call(monkeypatch, capsys):
    """call("fid", ...) -> exit status, stdout, stderr of the same command line, in this process."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["run_gan.py", *map(str, arguments)])
        monkeypatch.setattr(cli.console, "width", 200)
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        return stopped.value.code or 0, *capsys.readouterr()

    return run


@pytest.fixture
def run(tiny, tmp_path):
    """Four steps, with checkpoints of steps 2 and 4."""
    train(tiny("dcgan", "train.steps=4", "train.checkpoint_every=2"), tmp_path / "run", progress=False)
    return tmp_path / "run"


@pytest.fixture
def scored(tiny, tmp_path):
    """Twelve steps, scored at 5, 10 and 12."""
    train(tiny("dcgan", *SCORED), tmp_path / "scored", progress=False)
    return tmp_path / "scored"


def gather(side):
    return torch.cat(list(side.batches()))


def final_state(run):
    return checkpoint.load(checkpoint.saved(run / "checkpoints")[-1])


def assert_same(a, b, where=""):
    """Bitwise equality of nested dicts and lists of tensors and numbers."""
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    elif isinstance(a, dict | list | tuple):
        assert len(a) == len(b), where
        for key in a if isinstance(a, dict) else range(len(a)):
            assert_same(a[key], b[key], f"{where}.{key}")
    else:
        assert a == b, where


def one_error(stderr):
    """The only line that is left once the progress bar has wiped itself out."""
    stderr = stderr.rpartition("\r")[2]
    assert stderr.startswith("error: ") and stderr.count("\n") == 1, stderr
    return stderr


# --- where images come from --------------------------------------------------------------------------------------------------


def test_a_run_is_opened_as_its_last_ema_generator(run):
    side = open_side(str(run), 70, seed=3)
    expected = sampling.samples(sampling.load_generator(run).generator, 3, 70, 64)
    assert torch.equal(gather(side), torch.cat(list(expected)))
    assert (side.name, side.count, side.fixed) == ("run step 4", 70, False)
    assert side.about == {"ema": True, "batch_norm": "eval", "seed": 3}
    assert open_side(str(run)).count == 10_000 and open_side(str(run), step=2).name == "run step 2"


def test_a_zip_and_a_directory_of_the_same_images_are_the_same_side(fifty, tmp_path):
    with zipfile.ZipFile(fifty) as archive:
        archive.extractall(tmp_path / "fifty")
    a, b = open_side(str(fifty)), open_side(str(tmp_path / "fifty"))
    assert torch.equal(gather(a), gather(b)) and torch.equal(gather(a), shapes(32, count=50).images)
    assert (a.count, a.name, a.fixed, a.about) == (50, "fifty.zip", True, {}) and b.name == "fifty"
    assert torch.equal(gather(a), gather(a)), "each pass starts anew"


def test_an_npz_is_opened_as_statistics_of_what_it_names(tmp_path):
    mean, covariance = torch.zeros(3).double(), torch.eye(3).double()
    Statistics(mean, covariance, 7, {"real": "shapes"}).save(tmp_path / "ours.npz")
    Statistics(mean, covariance, None, {}).save(tmp_path / "theirs.npz")
    ours, theirs = (open_side(str(tmp_path / f"{name}.npz")) for name in ("ours", "theirs"))
    assert (ours.name, ours.count, ours.batches) == ("shapes", 7, None) and ours.statistics.mean.tolist() == [0, 0, 0]
    assert (theirs.name, theirs.count) == ("theirs.npz", None)


def test_a_data_set_is_opened_by_its_name_and_split(monkeypatch):
    monkeypatch.setitem(COUNTS, "train", 30)
    monkeypatch.setitem(COUNTS, "test", 20)
    train_side, named, test_side = (open_side(text) for text in ("shapes", "shapes:train", "shapes:test"))
    assert torch.equal(gather(train_side), shapes(32, "train", 30).images)
    assert torch.equal(gather(train_side), gather(named)) and train_side.name == named.name
    assert torch.equal(gather(test_side), shapes(32, "test", 20).images) and "test" in test_side.name


@pytest.mark.parametrize(
    "text, error, words",
    [
        ("cifar11", DataError, "cifar11 is no run, folder, zip or npz, and no data set"),
        ("shapes:validation", DataError, "splits train and test"),
        ("nowhere.npz", StatisticsError, "there are no statistics at"),
        ("empty", DataError, "holds no images"),
        ("text.zip", DataError, "can't be read as a zip"),
        ("begun", RunError, "has no checkpoint yet"),
    ],
)
def test_what_cannot_be_opened_is_named(tiny, tmp_path, monkeypatch, text, error, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "config.yaml").write_text(dump(tiny()))
    (tmp_path / "text.zip").write_text("text")
    with pytest.raises(error, match=words) as refusal:
        open_side(text)
    assert "\n" not in str(refusal.value)


def test_a_seed_chooses_images_once_each_and_in_order():
    chosen = choice(1000, 100, 0, "x")
    assert chosen == sorted(set(chosen)) and len(chosen) == 100 and chosen[0] >= 0 and 500 < chosen[-1] < 1000
    assert chosen == choice(1000, 100, 0, "x") != choice(1000, 100, 1, "x")
    assert choice(5, None, 0, "x") == choice(5, 5, 3, "x") == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("kind", ["zip", "data set"])
def test_a_count_chooses_by_seed_and_more_than_there_are_is_refused(kind, fifty, monkeypatch):
    monkeypatch.setitem(COUNTS, "train", 50)
    text = str(fifty) if kind == "zip" else "shapes"
    everything = gather(open_side(text))
    for seed in (0, 1):
        side = open_side(text, 20, seed)
        assert side.count == 20 and torch.equal(gather(side), everything[choice(50, 20, seed, "x")])
    with pytest.raises(DataError, match="has 50 images, fewer than the 51 asked for"):
        open_side(text, 51)


@pytest.mark.parametrize("which, steps", [("last", [None]), ("best", ["best"]), ("all", [2, 4]), ("2", [2])])
def test_checkpoints_are_chosen_by_word_or_step(run, which, steps):
    assert checkpoint_steps(run, which) == steps


@pytest.mark.parametrize("which", ["first", "-1", "2.5", ""])
def test_another_word_for_a_checkpoint_is_refused(run, which):
    with pytest.raises(RunError, match=f"--checkpoint is last, best, all or a step, not '{which}'"):
        checkpoint_steps(run, which)


# --- evaluate ----------------------------------------------------------------------------------------------------------------


def test_evaluate_writes_scores_with_cards_and_prints_them(run, call):
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    status, out, err = call("evaluate", run, "--scores", "fid,kid", "--count", 30, "--features", FEATURES, "--seed", 2)
    assert (status, out) == (0, "")
    (record,) = json.loads((run / "scores.json").read_text())
    fd, kd = map(Score.from_dict, record["scores"])
    assert (record["step"], fd.name, kd.name) == (4, NAME, f"kd_{FEATURES}") and fd.value > 0
    assert (fd.card.generated, fd.card.generated_count, fd.card.real_count) == ("run step 4", 30, 50)
    assert (fd.card.ema, fd.card.batch_norm, fd.card.seed) == (True, "eval", 2) and "fifty.zip" in fd.card.real
    assert NAME in err and f"{fd.value:.4g}" in err and "run step 4 (30 images) against" in err
    assert f"scores with their cards: {run}/scores.json" in err and "warning" not in err
    assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file() and p.name != "scores.json"} == before


def test_evaluate_gives_both_scores_of_a_network_with_classes(run, call, with_classes):
    assert call("evaluate", run, "--count", 20)[0] == 0
    (record,) = json.loads((run / "scores.json").read_text())
    assert [(s["name"], s["spread_of"]) for s in record["scores"]] == [("fd_classy", None), ("score_classy", "10 splits")]


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


EVALUATE_REFUSES = [
    (["{run}/nowhere"], "config"),
    (["{run}", "--checkpoint", "first"], "--checkpoint is last, best, all or a step"),
    (["{run}", "--checkpoint", "3"], "has no checkpoint of step 3; it has 2, 4"),
    (["{run}", "--checkpoint", "best"], "keeps no best checkpoint; train it with evaluate.every"),
    (["{run}", "--scores", "fidd"], "unknown score 'fidd'"),
    (["{run}", "--scores", "is"], "gives no class probabilities"),
    (["{run}", "--real", "nowhere"], "nowhere is no run, folder, zip or npz"),
    (["{run}", "--real-count", "51"], "has 50 images, fewer than the 51"),
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
    def value(real, *more):
        status, out, err = call("fid", real, run, "--count", 30, "--features", FEATURES, "--json", tmp_path / "s.json", *more)
        assert (status, out) == (0, ""), err
        return json.loads((tmp_path / "s.json").read_text())[0]["value"]

    by_images = value(fifty, "--save-statistics", tmp_path / "real.npz")
    assert by_images > 0 and value(tmp_path / "real.npz") == pytest.approx(by_images, rel=1e-9)
    assert Statistics.load(tmp_path / "real.npz").count == 50


def test_the_floor_is_printed_with_its_count(fifty, call):
    status, _, err = call("fid", fifty, fifty, "--features", FEATURES, "--floor")
    assert status == 0 and f"floor: {NAME} between two halves of the reference (25 images each) is " in err


def test_a_protocol_that_a_data_set_is_too_small_for_is_refused(fifty, call, monkeypatch):
    monkeypatch.setitem(COUNTS, "train", 60)
    status, _, err = call("fid", "shapes", fifty, "--features", FEATURES, "--protocol", "sn")
    assert status == 1 and "has 60 images, fewer than the 5,000 asked for" in one_error(err)


FID_REFUSES = [
    (["{npz}", "{zip}", "--floor"], "shapes"),
    (["{npz}", "{zip}", "--scores", "kid"], "shapes holds only a mean and a covariance"),
    (["{npz9}", "{zip}"], "the statistics have 9 features"),
    (["{nan}", "{zip}"], "NaN"),
    (["{zip}", "{zip}", "--count", "3", "--scores", "pr"], "images"),
    (["{zip}", "{zip}", "--protocol", "sn"], "protocol sn chooses the split of a data set"),
    (["{zip}", "{zip}", "--protocol", "miyato"], "unknown protocol 'miyato'"),
    (["{zip}", "nowhere"], "nowhere is no run"),
    (["{zip}", "{zip}", "--save-statistics", "{zip}/s.npz"], "fifty.zip"),
]


@pytest.mark.parametrize("arguments, words", FID_REFUSES, ids=[" ".join(a) for a, _ in FID_REFUSES])
def test_what_fid_cannot_do_ends_in_one_sentence(fifty, call, tmp_path, arguments, words):
    zeros, eye = torch.zeros(9).double(), torch.eye(9).double()
    Statistics(zeros[:6], eye[:6, :6], 50, {"real": "shapes"}).save(tmp_path / "s.npz")
    Statistics(zeros, eye, 50, {}).save(tmp_path / "s9.npz")
    Statistics(zeros[:6] / 0, eye[:6, :6], 50, {}).save(tmp_path / "nan.npz")
    places = {"zip": fifty, "npz": tmp_path / "s.npz", "npz9": tmp_path / "s9.npz", "nan": tmp_path / "nan.npz"}
    status, out, err = call("fid", *(a.format(**places) for a in arguments), "--features", FEATURES)
    assert (status, out) == (1, "") and words in one_error(err)


def test_scores_are_shown_even_if_their_file_cannot_be_written(fifty, call):
    status, _, err = call("fid", fifty, fifty, "--features", FEATURES, "--json", fifty / "s.json")
    assert status == 1 and NAME in err and "s.json" in one_error(err[err.index("error: ") :])


def test_statistics_of_statistics_are_copied_or_refused(fifty, call, tmp_path):
    Statistics(torch.zeros(6).double(), torch.eye(6).double(), 50, {"real": "shapes"}).save(tmp_path / "s.npz")
    status, _, err = call("fid", tmp_path / "s.npz", fifty, "--features", FEATURES, "--save-statistics", tmp_path / "again.npz")
    assert "Traceback" not in err
    if status == 0:
        assert torch.equal(Statistics.load(tmp_path / "again.npz").covariance, torch.eye(6).double())


# --- while training ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["dcgan", "sngan", "wgan_gp"])
def test_scoring_changes_nothing_that_trains(tiny, tmp_path, family):
    train(tiny(family), tmp_path / "without", progress=False)
    train(tiny(family, *SCORED, "evaluate.every=1"), tmp_path / "with", progress=False)
    without, scored = final_state(tmp_path / "without"), final_state(tmp_path / "with")
    assert without.keys() == scored.keys() and without["step"] == 12
    assert_same(without, scored)
    losses = [r for r in read_log(tmp_path / "with") if "d_loss" in r]
    assert losses == read_log(tmp_path / "without")
    image = "samples/step_00000012.png"
    assert (tmp_path / "without" / image).read_bytes() == (tmp_path / "with" / image).read_bytes()


def test_scores_are_logged_at_their_steps_and_at_the_end(scored):
    log = read_log(scored)
    assert [r["step"] for r in log if NAME in r] == [5, 10, 12]
    assert [r["step"] for r in log if "d_loss" in r] == [4, 8, 12]
    assert all(set(r) == {"step", NAME} for r in log if "d_loss" not in r)
    assert (scored / "curves.png").exists()


def test_a_network_with_classes_logs_both_scores(tiny, tmp_path, with_classes):
    train(tiny("dcgan", *SCORED), tmp_path / "run", progress=False)
    scores = [r for r in read_log(tmp_path / "run") if "d_loss" not in r]
    assert len(scores) == 3 and all(list(r) == ["step", "fd_classy", "score_classy"] for r in scores)
    best = checkpoint.load(tmp_path / "run/checkpoints/best.pt")
    assert best["score"] == min(r["fd_classy"] for r in scores)


def test_without_evaluate_nothing_is_scored(run):
    assert all("d_loss" in r for r in read_log(run)) and not (run / "checkpoints/best.pt").exists()


class PulledPlug(BaseException):
    pass


@pytest.mark.parametrize("step, every", [(4, 5), (9, 1), (11, 5)], ids=["before", "between", "after"])
def test_a_crash_loses_no_score_and_repeats_none(tiny, tmp_path, step, every):
    config = tiny("dcgan", *SCORED, f"evaluate.every={every}")
    train(config, tmp_path / "whole", progress=False)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(PulledPlug):
        update = State.update_ema

        def update_or_die(state):
            if state.step == step:
                raise PulledPlug
            update(state)

        patch.setattr(State, "update_ema", update_or_die)
        train(config, tmp_path / "broken", progress=False)
    train(config, tmp_path / "broken", progress=False)
    assert (tmp_path / "whole/metrics.jsonl").read_bytes() == (tmp_path / "broken/metrics.jsonl").read_bytes()
    assert_same(final_state(tmp_path / "whole"), final_state(tmp_path / "broken"))
    assert_same(*(checkpoint.load(tmp_path / name / "checkpoints/best.pt") for name in ("whole", "broken")))


def test_the_best_checkpoint_is_that_of_the_lowest_distance(scored):
    found = {r["step"]: r[NAME] for r in read_log(scored) if NAME in r}
    best = checkpoint.load(scored / "checkpoints/best.pt")
    assert (best["step"], best["score"]) == min(found.items(), key=lambda item: item[1])
    assert sampling.load_generator(scored, "best").step == best["step"]
    assert [checkpoint.step_of(p) for p in checkpoint.saved(scored / "checkpoints")] == [10, 12], "best isn't one of the last"


def test_evaluate_repeats_the_score_of_training(scored, call):
    arguments = ["--checkpoint", "best", "--scores", "fid", "--count", 20, "--features", FEATURES, "--device", "cpu"]
    assert call("evaluate", scored, *arguments)[0] == 0
    (record,) = json.loads((scored / "scores.json").read_text())
    best = checkpoint.load(scored / "checkpoints/best.pt")
    assert record["step"] == best["step"] and record["scores"][0]["value"] == pytest.approx(best["score"], rel=1e-6)


def test_sample_draws_from_the_best_checkpoint(scored, call, tmp_path):
    shutil.copy(scored / "checkpoints/step_00000010.pt", scored / "checkpoints/best.pt")
    pictures = []
    for which in ("best", "10", "last"):
        status, _, err = call("sample", scored, "--checkpoint", which, "--grid", tmp_path / f"{which}.png", "--count", 4)
        assert status == 0 and f"from step {12 if which == 'last' else 10}:" in err
        pictures.append((tmp_path / f"{which}.png").read_bytes())
    assert pictures[0] == pictures[1] != pictures[2]


def test_a_run_without_a_best_checkpoint_says_how_to_get_one(run, call):
    with pytest.raises(RunError, match=r"keeps no best checkpoint; train it with evaluate\.every=1000, say"):
        sampling.load_generator(run, "best")
    status, _, err = call("sample", run, "--checkpoint", "best")
    assert status == 1 and "keeps no best checkpoint" in one_error(err)


def test_a_later_worse_score_does_not_replace_the_best(tiny, tmp_path, monkeypatch):
    distances = iter([3.0, 2.0, 5.0, 2.0])
    monkeypatch.setattr(TrainingScores, "__call__", lambda self, ema: {NAME: next(distances)})
    train(tiny("dcgan", *SCORED, "evaluate.every=3"), tmp_path, progress=False)
    best = checkpoint.load(tmp_path / "checkpoints/best.pt")
    assert (best["step"], best["score"]) == (6, 2.0)


@pytest.mark.parametrize("change", ["features", "samples"])
def test_scores_of_another_protocol_do_not_compete_for_the_best(tiny, tmp_path, change):
    """Settings of evaluate may change when a run goes on; its distances then can't be compared with those before."""
    train(tiny("dcgan", *SCORED, "train.steps=6"), tmp_path, progress=False)
    path = tmp_path / "checkpoints/best.pt"
    torch.save({**checkpoint.load(path), "score": 1e-9}, path)  # as a network of small features gives
    changed = "evaluate.features=module:tiny_networks.other" if change == "features" else "evaluate.samples=40"
    train(tiny("dcgan", *SCORED, changed), tmp_path, progress=False)
    assert checkpoint.load(path)["step"] > 6


def test_settings_of_evaluate_may_change_when_a_run_goes_on(tiny, tmp_path):
    train(tiny("dcgan", "train.steps=6"), tmp_path, progress=False)
    train(tiny("dcgan", *SCORED, "evaluate.real=30"), tmp_path, progress=False)
    assert [r["step"] for r in read_log(tmp_path) if NAME in r] == [10, 12]


@pytest.mark.parametrize("real", [49, 50, 1000])
def test_reference_images_are_as_many_as_asked_for_or_all(tiny, tmp_path, monkeypatch, real):
    sides = []
    call = TrainingScores.__call__
    monkeypatch.setattr(TrainingScores, "__call__", lambda self, ema: (sides.append(self.real), call(self, ema))[1])
    train(tiny("dcgan", *SCORED, f"evaluate.real={real}", "train.steps=5"), tmp_path, progress=False)
    assert sides[0].count == sides[0].statistics.count == min(real, 50)


def test_unknown_features_end_a_training_before_its_first_step_in_one_sentence(tiny, tmp_path, call):
    (tmp_path / "c.yaml").write_text(dump(tiny("dcgan", *SCORED, "evaluate.features=incepton")))
    status, _, err = call("train", tmp_path / "c.yaml", "--out", tmp_path / "run", "-q")
    assert status == 1 and "did you mean 'inception'" in one_error(err)
    assert read_log(tmp_path / "run") == []
