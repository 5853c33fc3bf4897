"""Scores while training, which must change nothing else, and the best checkpoint that they choose."""

import json
import shutil
from types import SimpleNamespace

import pytest
import torch

from data.files import UserError
from gan import checkpoint, sampling
from gan.evaluation import TrainingScores, reference_of
from gan.memory import space_to_train
from gan.randomness import derive
from gan.run_directory import RunError, read_log
from gan.settings import ConfigError
from gan.training import train
from metrics.protocol import ProtocolError
from tests.helpers import FEATURES, NAME, PulledPlug, assert_same, crash_at, final_state, one_error

pytestmark = pytest.mark.usefixtures("tiny_networks")
SCORED = ["evaluate.every=5", "evaluate.samples=20", f"evaluate.features={FEATURES}"]


@pytest.fixture
def scored(tiny, tmp_path):
    """Twelve steps, scored at 5, 10 and 12."""
    train(tiny("dcgan", *SCORED), tmp_path / "scored", progress=False)
    return tmp_path / "scored"


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


def test_a_streamed_set_is_scored_as_one_in_memory(tiny, tmp_path):
    for memory in (4, 0):
        options = ["evaluate.real=30", "train.steps=5", f"dataset.memory={memory}", "dataset.workers=0"]
        train(tiny("dcgan", *SCORED, *options), tmp_path / str(memory), progress=False)
    assert read_log(tmp_path / "4") == read_log(tmp_path / "0") and NAME in read_log(tmp_path / "0")[-1]


def test_a_network_with_classes_logs_both_scores(tiny, tmp_path, with_classes):
    train(tiny("dcgan", *SCORED), tmp_path / "run", progress=False)
    scores = [r for r in read_log(tmp_path / "run") if "d_loss" not in r]
    assert len(scores) == 3 and all(list(r) == ["step", "fd_classy", "score_classy"] for r in scores)
    best = checkpoint.load(tmp_path / "run/checkpoints/best.pt")
    assert best["score"] == min(r["fd_classy"] for r in scores)


def test_without_evaluate_nothing_is_scored(run):
    assert all("d_loss" in r for r in read_log(run)) and not (run / "checkpoints/best.pt").exists()


@pytest.mark.parametrize("step, every", [(4, 5), (9, 1), (11, 5)], ids=["before", "between", "after"])
def test_a_crash_loses_no_score_and_repeats_none(tiny, tmp_path, step, every):
    config = tiny("dcgan", *SCORED, f"evaluate.every={every}")
    train(config, tmp_path / "whole", progress=False)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(PulledPlug):
        crash_at(patch, step)
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
    found = {}
    for seed in (0, derive(0, "select")):  # what chooses the best checkpoint isn't what scores it
        (scored / "scores.json").unlink(missing_ok=True)
        assert call("evaluate", scored, *arguments, "--seed", seed)[0] == 0
        (found[seed],) = json.loads((scored / "scores.json").read_text())
    best = checkpoint.load(scored / "checkpoints/best.pt")
    other, same = (record["scores"][0]["value"] for record in found.values())
    assert {record["step"] for record in found.values()} == {best["step"]}
    assert same == pytest.approx(best["score"], rel=1e-7) and other != pytest.approx(same, rel=1e-7)


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
    monkeypatch.setattr(TrainingScores, "__call__", lambda self, ema, *_: {NAME: next(distances)})
    train(tiny("dcgan", *SCORED, "evaluate.every=3"), tmp_path, progress=False)
    best = checkpoint.load(tmp_path / "checkpoints/best.pt")
    assert (best["step"], best["score"]) == (6, 2.0)


@pytest.mark.parametrize("best, expected", [("fid", (6, 2.0)), ("is", (9, 7.0))])
def test_the_chosen_score_chooses_the_best(tiny, tmp_path, monkeypatch, with_classes, best, expected):
    found = iter([(3.0, 6.0), (2.0, 1.0), (5.0, 7.0), (9.0, 7.0)])
    monkeypatch.setattr(TrainingScores, "__call__", lambda self, ema, *_: dict(zip(("fd_classy", "score_classy"), next(found))))
    train(tiny("dcgan", *SCORED, "evaluate.every=3", f"evaluate.best={best}"), tmp_path, progress=False)
    kept = checkpoint.load(tmp_path / "checkpoints/best.pt")
    assert (kept["step"], kept["score"]) == expected


def test_a_score_that_the_features_cannot_give_is_refused_before_the_first_step(tiny, tmp_path):
    with pytest.raises(ProtocolError, match=r"gives no class probabilities, so no score 'is'; set evaluate\.best=fid"):
        train(tiny("dcgan", *SCORED, "evaluate.best=is"), tmp_path, progress=False)
    assert read_log(tmp_path) == []


def test_a_best_of_before_there_was_a_choice_is_kept(tiny, tmp_path):
    train(tiny("dcgan", *SCORED, "train.steps=6"), tmp_path, progress=False)
    path = tmp_path / "checkpoints/best.pt"
    saved = checkpoint.load(path)
    how = {key: value for key, value in saved["how"].items() if key not in ("split", "best")}
    torch.save({**saved, "score": 1e-9, "how": how}, path)
    train(tiny("dcgan", *SCORED), tmp_path, progress=False)
    assert checkpoint.load(path)["score"] == 1e-9


@pytest.mark.parametrize("memory", [4, 0], ids=["in memory", "streamed"])
def test_scores_are_taken_against_the_part_that_is_asked_for(tiny, tmp_path, monkeypatch, memory):
    sides = []
    call = TrainingScores.__call__
    monkeypatch.setattr(TrainingScores, "__call__", lambda self, ema, *_: (sides.append(self.real), call(self, ema))[1])
    held = ["dataset.hold_out=0.3", "train.steps=5", f"dataset.memory={memory}", "dataset.workers=0"]
    for split in ("train", "test"):
        train(tiny("dcgan", *SCORED, *held, f"evaluate.split={split}"), tmp_path / split, progress=False)
    (whole, part), config = sides, tiny("dcgan", *held)
    assert (whole.count, part.count) == tuple(reference_of(config, split).count for split in ("train", "test"))
    assert whole.count > 25 > part.count and "hold-out" in part.name and "without" in whole.name
    assert not torch.equal(whole.statistics.mean, part.statistics.mean)


def test_instruments_that_would_never_run_are_refused(tiny):
    with pytest.raises(ConfigError, match=r"evaluate\.instruments=true logs nothing without evaluate\.every"):
        tiny("dcgan", "evaluate.instruments=true")


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
    monkeypatch.setattr(TrainingScores, "__call__", lambda self, ema, *_: (sides.append(self.real), call(self, ema))[1])
    train(tiny("dcgan", *SCORED, f"evaluate.real={real}", "train.steps=5"), tmp_path, progress=False)
    assert sides[0].count == sides[0].statistics.count == min(real, 50)


def test_unknown_features_end_a_training_before_its_first_step_in_one_sentence(tiny, tmp_path, call):
    (tmp_path / "c.yaml").write_text(tiny("dcgan", *SCORED, "evaluate.features=incepton").dump())
    status, _, err = call("train", tmp_path / "c.yaml", "--out", tmp_path / "run", "-q")
    assert status == 1 and "did you mean 'inception'" in one_error(err)
    assert read_log(tmp_path / "run") == []


def test_what_scores_need_is_looked_for_before_images_are_decoded(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("gan.training.Batches", lambda *_: pytest.fail("decoded"))
    for wrong, words in (("evaluate.features=incepton", "did you mean 'inception'"), ("evaluate.split=test", "has no test split")):
        with pytest.raises(UserError, match=words):
            train(tiny("dcgan", *SCORED, wrong), tmp_path, progress=False)


def test_a_run_whose_checkpoints_have_no_room_is_refused_before_images_are_decoded(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("gan.training.Batches", lambda *_: pytest.fail("decoded"))
    monkeypatch.setattr("data.space.shutil.disk_usage", lambda _: SimpleNamespace(free=10_000))
    with pytest.raises(UserError, match=r"a run with its checkpoints takes at least .*, and .* are free .*: free some, choose"):
        train(tiny("dcgan"), tmp_path, progress=False)


def test_the_room_that_checkpoints_take_is_what_they_have(tiny, tmp_path):
    config = tiny("dcgan", "train.steps=4", "train.checkpoint_every=2")
    expected = space_to_train(config, tmp_path)
    train(config, tmp_path, progress=False)
    sizes = [file.stat().st_size for file in (tmp_path / "checkpoints").glob("*.pt")]
    assert len(sizes) == 2 and expected == pytest.approx(3 * sizes[0], rel=0.4)  # buffers and names are not counted
    assert expected < 3 * sizes[0] and space_to_train(config, tmp_path) == max(0, expected - sum(sizes))


def test_instruments_are_logged_beside_the_scores_and_change_nothing_that_trains(tiny, tmp_path, tiny_networks):
    with_them = tiny(
        "dcgan", "evaluate.every=6", "evaluate.samples=20", f"evaluate.features={FEATURES}", "evaluate.instruments=true"
    )
    train(with_them, tmp_path / "with", progress=False)
    train(tiny("dcgan"), tmp_path / "without", progress=False)
    assert_same(final_state(tmp_path / "with"), final_state(tmp_path / "without"))
    logged = [record for record in read_log(tmp_path / "with") if NAME in record]
    assert [record["step"] for record in logged] == [6, 12]
    assert all(record["phase_mean_variance"] >= 0 and record["phase_gain"] > 0 for record in logged)
