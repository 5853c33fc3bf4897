"""`auto`: settled once by the device, told, kept with the run, the study and the card."""

import json

import pytest
import torch

from gan import loop, progress
from gan.config import Config
from gan.run_directory import RunError, read_config
from gan.training import train
from metrics import precision
from study.study import Study, StudyError
from tests.fixtures import DEVICE
from tests.helpers import FEATURES

pytestmark = pytest.mark.skipif(DEVICE == "cuda", reason="a CPU's answer is what is changed here")


@pytest.fixture(params=[True, False], ids=["native", "emulated"])
def native(request, monkeypatch):
    """A CPU that has instructions for bf16, and one that hasn't."""
    return pretend(monkeypatch, request.param)


def pretend(monkeypatch, native):
    monkeypatch.setattr(precision, "native_bf16", lambda device: native)
    return native


SHORT = ("train.steps=2", "evaluate.precision=auto")


def test_a_run_stores_and_says_what_auto_became(native, tiny, tmp_path, capsys):
    train(tiny("dcgan", "train.precision=auto", *SHORT), tmp_path / "run")
    stored, became = read_config(tmp_path / "run"), "bf16" if native else "fp32"
    assert (stored.train.precision, stored.evaluate.precision) == (became, became)
    said = capsys.readouterr().err
    assert f"precision {became} (auto: what suits this CPU)\n" in said and "warning" not in said


def test_a_run_that_goes_on_elsewhere_keeps_it_and_says_that_it_is_slow_there(tiny, tmp_path, monkeypatch, capsys):
    pretend(monkeypatch, True)
    train(tiny("dcgan", "train.precision=auto", *SHORT), tmp_path / "run", progress=False)
    pretend(monkeypatch, False)
    capsys.readouterr()
    train(tiny("dcgan", "train.precision=auto", "train.steps=3", "evaluate.precision=auto"), tmp_path / "run")
    assert read_config(tmp_path / "run").train.precision == "bf16"
    said = capsys.readouterr().err
    assert "precision bf16 (auto: as this run was begun)\n" in said
    assert said.count("warning: train.precision is bf16, for which this CPU has no instructions") == 1
    assert "in another --out: a run keeps its precision" in said


def test_auto_is_no_way_around_what_a_run_was_begun_with(tiny, tmp_path):
    train(tiny("dcgan", "train.steps=2"), tmp_path / "run", progress=False)
    with pytest.raises(RunError, match=r"train\.precision: fp32 -> bf16"):
        train(tiny("dcgan", "train.steps=3", "train.precision=bf16"), tmp_path / "run", progress=False)


def test_emulated_bf16_is_warned_of_once_before_the_first_step(native, tiny, tmp_path, monkeypatch, capsys):
    def first_step(self):
        raise SystemExit

    monkeypatch.setattr("gan.step.Step.__call__", first_step)
    with pytest.raises(SystemExit):
        train(tiny("dcgan", "train.precision=bf16"), tmp_path / "run", progress=False)
    assert capsys.readouterr().err.count("about ten times slower than fp32: set it to auto, or fp32\n") == (not native)


def test_a_precision_that_is_not_used_is_not_warned_of(tiny, monkeypatch, capsys):
    pretend(monkeypatch, False)
    monkeypatch.setattr(loop, "emulated", lambda p, device: p == "bf16")
    config = tiny("dcgan", "evaluate.precision=bf16")
    loop.announce_precision(config, config, torch.device("cpu"), False, False)
    assert capsys.readouterr().err == ""
    config = tiny("dcgan", "evaluate.precision=bf16", "evaluate.every=1")
    loop.announce_precision(config, config, torch.device("cpu"), False, False)
    assert "warning: evaluate.precision is bf16" in capsys.readouterr().err


def test_settling_changes_nothing_else():
    asked = Config.load(None, ["train.precision=auto", "train.steps=7"])
    assert asked.settled("cpu", Config.load(None, ["train.precision=bf16"])) == asked.replace({"train.precision": "bf16"})
    assert Config().settled("cpu") == Config()


@pytest.mark.parametrize("command", ["evaluate", "fid"])
def test_the_card_says_what_auto_became(native, command, run, fifty, call, tmp_path, tiny_networks):
    options = ["--scores", "fid", "--count", 20, "--features", FEATURES, "--precision", "auto"]
    target = [run, "--real", fifty] if command == "evaluate" else [fifty, run, "--json", tmp_path / "scores.json"]
    code, _, err = call(command, *target, *options)
    assert code == 0, err
    found = json.loads((run / "scores.json" if command == "evaluate" else tmp_path / "scores.json").read_text())
    score = found[0]["scores"][0] if command == "evaluate" else found[0]
    assert score["card"]["precision"] == ("bf16" if native else "fp32")
    assert f"precision {score['card']['precision']} (auto" in err


@pytest.fixture
def study(tmp_path):
    """A study whose scores, training and training scores are all `auto`."""
    file = tmp_path / "study.yaml"
    file.write_text(
        "title: t\nbase: {train: {precision: auto}}\nbaseline: c3\nseeds: [0, 1]\n"
        "settings: {evaluate.precision: auto}\n"
        "rows: [{label: c3}, {label: c2, generator.kernel: c2}, {label: x, train.precision: fp32}]\n"
        "scoring: {precision: auto}\n"
    )
    return file


def precisions(study):
    configs = [study.config(job) for job in study.jobs if job.row.label != "x"]
    return {config.train.precision for config in configs} | {config.evaluate.precision for config in configs}


def test_a_study_settles_it_once_for_all_rows(native, study, tmp_path):
    became = "bf16" if native else "fp32"
    settled = Study.load(study).settled(tmp_path / "out")
    assert settled.auto_precision == settled.scoring.precision == became and precisions(settled) == {became}
    explicit = [settled.config(job).train.precision for job in settled.jobs if job.row.label == "x"]
    assert explicit == ["fp32", "fp32"]


def test_a_study_keeps_it_on_another_machine(study, tmp_path, monkeypatch):
    from study.folder import StudyFolder

    pretend(monkeypatch, True)
    StudyFolder(tmp_path / "out").adopt(Study.load(study).settled(tmp_path / "out"))
    pretend(monkeypatch, False)
    again = Study.load(study).settled(tmp_path / "out")
    assert again.auto_precision == "bf16" and precisions(again) == {"bf16"}
    assert Study.load(tmp_path / "out").auto_precision == "bf16"  # what the runs read


def test_a_study_begun_with_a_named_precision_goes_on_with_it(study, tmp_path):
    from study.folder import StudyFolder

    named = tmp_path / "named.yaml"
    named.write_text(study.read_text().replace("auto", "bf16"))
    StudyFolder(tmp_path / "out").adopt(Study.load(named))
    assert Study.load(study).settled(tmp_path / "out").scoring.precision == "bf16"


def test_a_study_without_auto_is_left_alone(study, tmp_path):
    study.write_text(study.read_text().replace("auto", "fp32"))
    loaded = Study.load(study)
    assert loaded.settled(tmp_path / "out") is loaded


def test_the_login_node_of_a_cluster_is_not_asked(study, tmp_path):
    with pytest.raises(StudyError, match="what suits this machine, not the cluster's nodes: set it to bf16 or fp32"):
        Study.load(study).settled(tmp_path / "out", "slurm")


def test_the_pace_is_said_once(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    bar = progress.tqdm(total=1000, disable=False)
    pace = progress.Pace(1000, 100, bar)
    for _ in range(60):
        now[0] += 0.25
        pace.tick()
    assert capsys.readouterr().err.count("4 steps a second: about 4 minutes to go") == 1


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.2, "1 seconds"), (40, "40 seconds"), (95, "2 minutes"), (420, "7 minutes"), (9000, "2.5 hours")]
)
def test_durations_are_rounded(seconds, said):
    assert progress.duration(seconds) == said


def test_tf32_on_a_cpu_is_warned_of(tiny, capsys):
    config = tiny("dcgan", "train.precision=tf32")
    loop.announce_precision(config, config, torch.device("cuda"), False, False)
    assert capsys.readouterr().err == ""
    loop.announce_precision(config, config, torch.device("cpu"), False, False)
    assert capsys.readouterr().err == "warning: train.precision is tf32, which only GPUs have: this CPU computes in fp32\n"
