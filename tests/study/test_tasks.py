"""What one run of a study does: its cost, its scores, and what tells that it didn't converge."""

from types import SimpleNamespace

import pytest
import torch

from data import DataError
from data.files import UserError
from gan.config import Config
from gan.loop import Interrupted
from gan.models.build import build, resolve
from gan.run_directory import RunError
from study.folder import StudyFolder
from study.run import run_job
from study.study import Study, StudyError
from study.tasks import GanRun, check_runs, diversity, logit_spread


@pytest.mark.parametrize("rule", [None, "equal_parameters", "equal_macs", "same"])
def test_generators_are_as_large_as_their_c3_row_unless_the_study_says_otherwise(study_file, tmp_path, rule):
    generator = {"family": "sngan", "width": 32} | ({"width_rule": rule} if rule else {})
    study = Study.load(study_file(base={"generator": generator}, axes={"generator.kernel": ["c2", "c3"]}))
    found = [GanRun(study.config(job), tmp_path).model_facts() for job in study.jobs[:2]]
    ratio = {key: found[0][key] / found[1][key] for key in ("parameters", "macs")}
    assert (abs(ratio["parameters"] - 1) < 0.05) == (rule in (None, "equal_parameters"))
    assert (abs(ratio["macs"] - 1) < 0.05) == (rule == "equal_macs")
    assert all(facts["executed_macs"] < facts["macs"] and facts["executed_step_macs"] < facts["step_macs"] for facts in found)


def test_the_best_checkpoint_is_scored_beside_the_last(study_of, tmp_path):
    study = Study.load(study_of())
    result = run_job(study, StudyFolder(tmp_path / "out"), study.jobs[0])
    lowest = min(result["curve"], key=lambda r: r[result["last"]["scores"][0]["name"]])
    assert result["best"]["step"] == lowest["step"] and result["last"]["step"] == 8
    assert result["last"]["scores"][0]["card"]["generated_count"] == 30


@pytest.mark.parametrize(
    ("scoring", "settings", "words"),
    [
        ({"real": 51}, {}, "has 50 images, fewer than the 51 asked for"),
        ({"split": "test"}, {}, "has no test split"),
        ({"split": "test"}, {"dataset.hold_out": 0.2}, "the instruments need at least 32"),
    ],
)
def test_what_scoring_needs_is_opened_before_the_training(study_of, tmp_path, scoring, settings, words):
    study = Study.load(study_of(settings, scoring={"samples": 30, "features": "module:tiny_features.build", **scoring}))
    with pytest.raises((DataError, RunError), match=words):
        run_job(study, StudyFolder(tmp_path / "out"), study.jobs[0])
    assert not (tmp_path / "out").exists()


class Painter(torch.nn.Module):
    """A generator of noise of so much spread, in [-0.5, 0.5] times it."""

    latent = 4

    def __init__(self, spread):
        super().__init__()
        self.spread = torch.nn.Parameter(torch.tensor(spread))
        self.eval()

    def forward(self, z):
        noise = torch.rand(len(z), 3, 8, 8, generator=torch.Generator().manual_seed(int(1e6 * z[0, 0].abs())))
        return (noise - 0.5) * self.spread


def test_diversity_is_one_for_the_data_and_zero_for_one_picture():
    real = torch.randint(64, 192, (500, 3, 8, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    assert diversity(Painter(1.0), real, 0) == pytest.approx(1.0, abs=0.02)
    assert diversity(Painter(0.0), real, 0) == pytest.approx(0.0, abs=1e-3)


class Judge(torch.nn.Module):
    """A discriminator whose logits are a constant and so many times the mean of an image."""

    def __init__(self, scale):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(scale))

    def forward(self, x):
        return 0.25 + self.scale * x.mean(dim=(1, 2, 3))


@pytest.mark.parametrize("scale", [0.0, 1e-3, 2.0])
def test_a_discriminator_that_gives_every_image_the_same_logit_is_told_by_their_spread(scale):
    real = torch.full((500, 3, 8, 8), 255, dtype=torch.uint8)
    assert logit_spread(Painter(0.0), Judge(scale), real, 0) == pytest.approx(scale / 2, rel=0.01, abs=1e-9)  # half at 1, half at 0


def test_a_conditional_discriminator_is_asked_about_one_class():
    small = ["generator.conditional=true", "generator.width=4", "discriminator.width=4", "generator.latent=8"]
    networks = build(resolve(Config.load(None, small)), 3)
    generator, discriminator = (network.eval() for network in networks)
    generator.class_names = ("a", "b", "c")
    real = torch.randint(0, 256, (60, 3, 32, 32), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    assert logit_spread(generator, discriminator, real, 0) > 1e-4


def test_ctrl_c_while_runs_are_checked_stops_the_study(study_file, tmp_path, monkeypatch):
    study = Study.load(study_file())

    def interrupted(*_):
        raise Interrupted("stopped", 15)

    monkeypatch.setattr("study.tasks.require_memory_to_train", interrupted)
    with pytest.raises(Interrupted):
        check_runs(study, study.jobs, tmp_path)


def test_what_rows_need_is_looked_for_before_any_starts_and_each_cause_is_said_once(study_of, tmp_path):
    gone = [{"label": f"gone {i}", "dataset.path": str(tmp_path / "gone.zip"), "train.lr_g": 1e-4 * i} for i in (1, 2)]
    rows = [{"label": "there"}, *gone, {"label": "split", "evaluate.split": "test"}]
    scoring = {"samples": 30, "features": "module:tiny_features.build", "reference": str(tmp_path / "any.zip")}
    study = Study.load(study_of(rows=rows[:3], axes={}, baseline="there", scoring=scoring))
    with pytest.raises(StudyError, match=r"^gone 1 and gone 2: there is nothing at .*gone.zip") as found:
        check_runs(study, study.jobs, tmp_path)
    assert str(found.value).count("gone.zip") == 1 and "there:" not in str(found.value)
    study = Study.load(study_of({"evaluate.split": "test"}))
    with pytest.raises(StudyError, match=r"^\S*fifty.zip has no test split"):  # of all rows: none is named
        check_runs(study, study.jobs, tmp_path)
    study = Study.load(study_of({"evaluate.features": "incepton"}))
    with pytest.raises(StudyError, match="did you mean 'inception'"):
        check_runs(study, study.jobs, tmp_path)


def test_the_checkpoints_of_all_runs_must_have_room(study_of, tmp_path, monkeypatch):
    study = Study.load(study_of(seeds=[0, 1, 2]))
    check_runs(study, study.jobs, tmp_path / "out")
    monkeypatch.setattr("data.space.shutil.disk_usage", lambda _: SimpleNamespace(free=100_000))
    with pytest.raises(UserError, match=r"the study, with the checkpoints of 6 runs, takes at least"):
        check_runs(study, study.jobs, tmp_path / "out")
