"""`compare` for real, on runs of a few steps: processes, failures, interruption, two at once, a cluster's executor.

Runs are processes wherever `compare` starts them; `compare` itself is one where signals, locks or a cluster are the matter.
"""

import errno
import json
import signal
import subprocess
import sys
import time

import pytest
import torch
import yaml

from data import DataError
from data.files import write_atomically
from gan.run_directory import RunError
from study import launch
from study.folder import StudyFolder
from study.generators import advantage, diversity
from study.job import run_job
from study.launch import command
from study.run import run_all
from study.study import StudyError, jobs_of, load_study
from tests.helpers import ROOT, assert_same, final_state

SMALL = {
    "generator.width": 4, "discriminator.width": 4, "generator.latent": 8, "train.batch_size": 8, "train.steps": 8,
    "train.log_every": 2, "train.checkpoint_every": 4, "train.sample_every": 8, "train.device": "cpu", "evaluate.every": 2,
    "evaluate.samples": 20, "evaluate.features": "module:tiny_features.build",
}  # fmt: skip


@pytest.fixture
def study_of(tmp_path, fifty, monkeypatch):
    """study_of(settings, **changes) -> the file of a study of c2 and c3 whose runs take a second, also in other processes."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "tiny_features.py").write_text(
        "import torch\nfrom torch import nn\n\ndef build():\n    torch.manual_seed(0)\n"
        "    return nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, 6))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path / "code"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "code"))
    monkeypatch.setenv("GAN_CACHE", str(tmp_path / "cache"))

    def write(settings=None, **changes):
        study = {
            "title": "Tiny",
            "base": {"dataset": {"name": "folder", "path": str(fifty)}},
            "settings": {**SMALL, **(settings or {})},
            "axes": {"generator.kernel": ["c2", "c3"]},
            "baseline": {"generator.kernel": "c3"},
            "seeds": [0],
            "scoring": {"samples": 30, "features": "module:tiny_features.build"},
        }
        file = tmp_path / "tiny.yaml"
        file.write_text(yaml.safe_dump({**study, **changes}))
        return file

    return write


def line_of(file, out, *options):
    return [sys.executable, str(ROOT / "run_gan.py"), "compare", str(file), "--out", str(out), "--quiet", *options]


def test_a_study_trains_scores_and_reports_every_run_and_then_has_nothing_to_do(study_of, tmp_path, call):
    file, out = study_of({"dataset.hold_out": 0.1}), tmp_path / "out"
    code, _, said = call("compare", file, "--out", out, "--workers", "2", "--quiet")
    assert code == 0, said
    table = json.loads((out / "table.json").read_text())
    assert [(r["row"], r["runs"], r["asked"]) for r in table["table"]] == [("c2", 1, 1), ("c3", 1, 1)]
    assert all(r["ms_per_step"] > 0 and r["peak_bytes"] > 0 for r in table["table"])
    assert (out / "report.html").read_text().count("data:image/png") == 3
    assert [r["step"] for r in json.loads((out / "runs/c2/seed_0/record.json").read_text())["curve"]] == [2, 4, 6, 8]
    said = call("compare", file, "--out", out, "--quiet")[2]
    assert "2 done, 0 to do" in said
    assert json.loads((out / "table.json").read_text()) == table


def test_one_failing_row_leaves_the_others(study_of, fifty, tmp_path, call, monkeypatch):
    rows = [{"label": "gone", "dataset.path": str(tmp_path / "gone.zip")}, {"label": "there"}]
    scoring = {"samples": 30, "features": "module:tiny_features.build", "reference": str(fifty)}
    study = study_of(rows=rows, axes={}, baseline="there", scoring=scoring)
    code, _, said = call("compare", study, "--out", tmp_path / "out", "--workers", "2", "--quiet")
    assert code == 1
    assert "gone/seed_0 failed: error:" in said and "gone.zip" in said
    assert "1 of 2 runs failed" in said and "repeat the command" in said
    assert (tmp_path / "out/runs/there/seed_0/record.json").is_file()
    assert "gone, seed 0 failed: error:" in (tmp_path / "out/table.md").read_text()
    monkeypatch.setattr(launch, "command", lambda folder, job: [sys.executable, "-S", "-c", "raise SystemExit('error: again')"])
    said = call("compare", study_of(rows=rows[:1], axes={}, baseline="gone"), "--out", tmp_path / "alone", "--quiet")[2]
    assert "1 of 1 runs failed: mend the cause" in said


def test_a_run_that_diverges_is_a_result(study_of, tmp_path):
    study = load_study(study_of({"train.lr_g": 1e30, "train.lr_d": 1e30}))
    folder = StudyFolder(tmp_path / "out")
    result = run_job(study, folder, jobs_of(study)[0])
    assert result["status"] == "diverged" and "not finite" in result["why"]
    assert folder.done(study, jobs_of(study)[0])


def test_classifiers_are_studied_too(pictures, tmp_path, call):
    study = {
        "title": "Classifiers",
        "task": "classify",
        "base": {"dataset": {"name": "folder", "path": str(pictures)}, "model": {"depth": 8, "width": 4}},
        "settings": {"train.epochs": 2, "train.batch_size": 8, "train.device": "cpu"},
        "axes": {"model.kernel": ["c2sp", "c3"]},
        "baseline": {"model.kernel": "c3"},
        "seeds": [0],
    }
    file, out = tmp_path / "classifiers.yaml", tmp_path / "out"
    file.write_text(yaml.safe_dump(study))
    for kernel in ("c2sp", "c3"):
        assert call("compare", file, "--out", out, "--only", f"{kernel}/seed_0")[0] == 0
    code, _, said = call("compare", file, "--out", out, "--quiet")
    assert code == 0 and "2 done, 0 to do" in said
    rows = {r["row"]: r for r in json.loads((out / "table.json").read_text())["table"]}
    accuracy = json.loads((out / "runs/c3/seed_0/result.json").read_text())["test_accuracy"]
    assert rows["c3"]["final_mean"] == pytest.approx(100 * (1 - accuracy))
    assert rows["c2sp"]["difference"] == pytest.approx(rows["c2sp"]["final_mean"] - rows["c3"]["final_mean"])
    assert rows["c2sp"]["parameters"] < rows["c3"]["parameters"] and rows["c3"]["ms_per_step"] > 0
    assert "test error, %" in (out / "table.md").read_text() and "verdict" not in (out / "table.md").read_text()


def test_the_best_checkpoint_is_scored_beside_the_last(study_of, tmp_path):
    study = load_study(study_of())
    result = run_job(study, StudyFolder(tmp_path / "out"), jobs_of(study)[0])
    lowest = min(result["curve"], key=lambda r: r["fd_module:tiny_features.build"])
    assert result["best"]["step"] == lowest["step"] and result["last"]["step"] == 8
    assert result["last"]["scores"][0]["card"]["generated_count"] == 30


def test_a_stopped_study_goes_on_to_the_same_bits(study_of, tmp_path, call, monkeypatch):
    file = study_of({"train.steps": 200, "train.log_every": 1, "evaluate.every": 0, "train.checkpoint_every": 100})
    line = line_of(file, tmp_path / "out", "--workers", "1")
    with subprocess.Popen(line, stderr=subprocess.PIPE, text=True) as process:
        log = tmp_path / "out/runs/c2/seed_0/metrics.jsonl"
        wait_until(lambda: log.is_file() and log.read_text().count("\n") > 10)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=120)[1]
    assert process.returncode == 130 and "the same command goes on from there" in said
    assert not (tmp_path / "out/runs/c2/seed_0/record.json").exists()
    assert list(tmp_path.glob("out/runs/c2/seed_0/checkpoints/step_*.pt")), "the run was not asked to save"
    study = load_study(file)
    resumed, whole = StudyFolder(tmp_path / "out"), StudyFolder(tmp_path / "whole")
    whole.adopt(study)
    job = jobs_of(study)[0]
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as `compare` has it: another number of threads adds in another order
    subprocess.run(command(resumed, job), check=True, capture_output=True, timeout=300)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    code, _, said = call(*command(whole, job)[2:])
    torch.set_num_threads(threads)
    assert code == 0, said
    assert_same(final_state(resumed.run(job)), final_state(whole.run(job)))


def test_two_compares_in_one_folder_are_refused(study_of, tmp_path, call):
    file = study_of({"train.steps": 100_000})
    line = line_of(file, tmp_path / "out", "--workers", "1")
    with subprocess.Popen(line, stderr=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: (tmp_path / "out/study.yaml").is_file())
            code, _, said = call("compare", file, "--out", tmp_path / "out")
            assert code == 1 and "is in use by another compare" in said
        finally:
            process.terminate()
    assert process.returncode == 128 + signal.SIGTERM


def test_a_cluster_runs_the_same_commands(study_of, tmp_path):
    study = study_of(axes={}, baseline="one", rows=[{"label": "one"}])
    line = line_of(study, tmp_path / "out", "--launcher", "submitit", "--launch", "timeout_min=5")
    found = subprocess.run(line, capture_output=True, text=True, timeout=300)
    assert found.returncode == 0, found.stderr
    assert (tmp_path / "out/runs/one/seed_0/record.json").is_file()


def test_a_full_disk_ends_in_one_sentence_and_the_run_goes_on_later(study_of, tmp_path, call, monkeypatch):
    def full(path, data):
        if path.name == "record.json":
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write(path, data)

    file, out, write = study_of(), tmp_path / "out", write_atomically
    monkeypatch.setattr("study.job.write_atomically", full)
    code, _, said = call("compare", file, "--out", out, "--only", "c2/seed_0")
    assert code == 1 and "the disk is full" in said and "what has finished is kept" in said and said.count("\n") == 1
    monkeypatch.undo()
    result = run_job(load_study(file), StudyFolder(out), jobs_of(load_study(file))[0])
    assert result["status"] == "finished"


@pytest.mark.parametrize(
    ("scoring", "settings", "words"),
    [
        ({"real": 51}, {}, "has 50 images, fewer than the 51 asked for"),
        ({"split": "test"}, {}, "has no test split"),
        ({"split": "test"}, {"dataset.hold_out": 0.2}, "the instruments need at least 32"),
    ],
)
def test_what_scoring_needs_is_opened_before_the_training(study_of, tmp_path, scoring, settings, words):
    study = load_study(study_of(settings, scoring={"samples": 30, "features": "module:tiny_features.build", **scoring}))
    with pytest.raises((DataError, RunError), match=words):
        run_job(study, StudyFolder(tmp_path / "out"), jobs_of(study)[0])
    assert not (tmp_path / "out").exists()


def test_runs_are_not_trained_where_the_images_are_others_than_those_of_finished_runs(study_of, tmp_path):
    study, folder = load_study(study_of()), StudyFolder(tmp_path / "out")
    first, second = jobs_of(study)
    run_job(study, folder, first)
    record = folder.run(first) / "record.json"
    record.write_text(record.read_text().replace('"real_sha256": "', '"real_sha256": "0'))
    with pytest.raises(StudyError, match=r"c2/seed_0 was scored against other images \(folder fifty.zip, train split\) than"):
        run_job(study, folder, second)
    assert not folder.run(second).exists()


def test_a_run_that_leaves_no_result_has_failed(study_of, tmp_path, monkeypatch):
    monkeypatch.setattr(launch, "command", lambda folder, job: [sys.executable, "-S", "-c", "print('all is well')"])
    study, path = load_study(study_of()), tmp_path / "out"
    assert len(run_all(study, path, 1, "submitit", {}, print, progress=False)) == 2
    assert StudyFolder(path).failure(jobs_of(study)[0]) == "it ended without a result"


def test_a_study_file_edited_while_its_runs_go_on_changes_the_next_compare_only(study_of, tmp_path, call):
    study, folder = load_study(study_of()), StudyFolder(tmp_path / "out")
    folder.adopt(study)
    (folder.path / "study.yaml").write_text("title: half an ed")
    job = jobs_of(study)[0]
    code, _, said = call(*command(folder, job)[2:])
    assert code == 0, said
    assert folder.done(study, job)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--launcher", "cloud"], "--launcher is here, slurm or submitit"),
        (["--launcher", "submitit", "--launch", "colour=red"], "submitit doesn't take these options"),
        (["--launcher", "submitit", "--launch", "timeout_min"], "is not of the form key=value"),
        (["--launcher", "slurm", "--workers", "2"], "--workers counts processes on this machine"),
        (["scoring.features=efficentnet"], "efficientnet_lite0"),
        (["scoring.reference=nowhere.zip"], "nowhere.zip"),
        (["--only", "c9/seed_0"], "it has c2/seed_0, c3/seed_0"),
    ],
)
def test_wrong_options_are_one_sentence(study_of, tmp_path, call, options, words):
    code, _, said = call("compare", study_of(), "--out", tmp_path / "out", *options)
    assert code == 1 and words in said and len(said.strip().splitlines()) <= 2


def test_torchrun_is_refused(study_of, tmp_path, call, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    code, _, said = call("compare", study_of(), "--out", tmp_path / "out")
    assert code == 1 and "start it with python, not with torchrun" in said


def test_diversity_is_one_for_the_data_and_zero_for_one_picture():
    class Painter(torch.nn.Module):
        latent = 4

        def __init__(self, spread):
            super().__init__()
            self.spread = torch.nn.Parameter(torch.tensor(spread))

        def forward(self, z):
            noise = torch.rand(len(z), 3, 8, 8, generator=torch.Generator().manual_seed(int(1e6 * z[0, 0].abs())))
            return (noise - 0.5) * self.spread

    real = torch.randint(64, 192, (500, 3, 8, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    assert diversity(Painter(1.0).eval(), real, 0) == pytest.approx(1.0, abs=0.02)
    assert diversity(Painter(0.0).eval(), real, 0) == pytest.approx(0.0, abs=1e-3)


def test_the_advantage_is_that_of_the_last_tenth_of_what_was_logged(tmp_path):
    assert advantage(tmp_path) is None
    logged = [{"step": i, "d_loss": 2.0, "d_real": 1.0, "d_fake": 0.0} for i in range(38)]
    logged += [{"step": i, "d_loss": 2.0, "d_real": 0.25, "d_fake": fake} for i, fake in ((38, 0.5), (39, 0.25), (40, 0.0))]
    logged.insert(39, {"step": 38, "fd_pixels": 3.0})
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in logged))
    assert advantage(tmp_path) == pytest.approx((0.25 + 0 + 0.25 + 1) / 4)


def wait_until(true, seconds=120):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.1)
