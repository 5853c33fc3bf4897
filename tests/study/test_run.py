"""`compare` for real, on runs of a few steps: processes, failures, interruption, two at once, a cluster's executor.

Runs are processes wherever `compare` starts them; `compare` itself is one where signals, locks or a cluster are the matter.
"""

import errno
import json
import shutil
import signal
import subprocess
import sys
import time
import zipfile

import pytest
import torch
import yaml
from PIL import Image

from data.checksums import sealed
from data.files import write_atomically
from study import launch
from study.folder import StudyFolder
from study.launch import Ended, command
from study.run import run_all, run_job
from study.study import Study, StudyError
from tests.helpers import ROOT, assert_same, final_state


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
    record = json.loads((out / "runs/c2/seed_0/record.json").read_text())
    assert [r["step"] for r in record["curve"]] == [2, 4, 6, 8]
    assert record["seconds"]["training"] > 0 and record["seconds"]["scoring"] > 0
    assert record["code"].keys() == {"commit", "changed"} and record["instructions"]
    assert record["precision"] == {"training": "fp32", "scoring": "fp32"}
    said = call("compare", file, "--out", out, "--quiet")[2]
    assert "2 done, 0 to do" in said
    assert json.loads((out / "table.json").read_text()) == table


@pytest.mark.usefixtures("unrendered", "kept_shapes")
def test_one_failing_row_leaves_the_others(study_of, fifty, tmp_path, call, monkeypatch):
    with zipfile.ZipFile(tmp_path / "broken.zip", "w") as broken:
        for i in range(40):
            broken.writestr(f"{i}.png", b"no image")
    monkeypatch.setattr("study.run.measure_costs", lambda *_: False)
    rows = [{"label": "broken", "dataset.path": str(tmp_path / "broken.zip")}, {"label": "there"}]
    scoring = {"samples": 30, "features": "module:tiny_features.build", "reference": str(fifty)}
    study = study_of(rows=rows, axes={}, baseline="there", scoring=scoring)
    code, _, said = call("compare", study, "--out", tmp_path / "out", "--workers", "2", "--quiet")
    assert code == 1
    assert "broken/seed_0 failed: error:" in said and "broken.zip" in said and "of 2 runs" in said
    assert "1 of 2 runs failed" in said and "repeat the command" in said
    assert (tmp_path / "out/runs/there/seed_0/record.json").is_file()
    assert "broken, seed 0 failed: error:" in (tmp_path / "out/table.md").read_text()
    monkeypatch.setattr(launch, "command", lambda folder, job: [sys.executable, "-S", "-c", "raise SystemExit('error: again')"])
    said = call("compare", study_of(rows=rows[1:], axes={}, baseline="there"), "--out", tmp_path / "alone", "--quiet")[2]
    assert "1 of 1 run failed: fix the cause" in said


def test_a_run_that_diverges_is_a_result(study_of, tmp_path):
    study = Study.load(study_of({"train.lr_g": 1e30, "train.lr_d": 1e30}))
    folder = StudyFolder(tmp_path / "out")
    result = run_job(study, folder, study.jobs[0])
    assert result["status"] == "diverged" and "not finite" in result["why"]
    assert folder.done(study, study.jobs[0])


@pytest.mark.usefixtures("unrendered", "kept_shapes")
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
    assert rows["c2sp"]["change"] == pytest.approx(rows["c2sp"]["final_mean"] / rows["c3"]["final_mean"] - 1)
    assert rows["c2sp"]["parameters"] < rows["c3"]["parameters"] and rows["c3"]["ms_per_step"] > 0
    assert "test error, %" in (out / "table.md").read_text() and "so far" not in (out / "table.md").read_text()
    shutil.copytree(pictures, tmp_path / "others")
    Image.new("RGB", (32, 32)).save(next((tmp_path / "others/test").rglob("*.png")))
    line = ("compare", file, f"dataset.path={tmp_path / 'others'}", "--seeds", "0,1", "--out", out, "--only", "c3/seed_1")
    code, _, said = call(*line)
    assert code == 1 and "c2sp/seed_0 was trained or tested on other images" in said and "let dataset.path name the same" in said
    assert not (out / "runs/c3/seed_1/metrics.jsonl").exists()


@pytest.mark.usefixtures("unrendered", "kept_shapes")
def test_a_study_grows_by_seeds_until_it_knows_enough(study_of, tmp_path, call, in_this_process):
    file, out = study_of({"evaluate.every": 0}), tmp_path / "out"
    code, _, said = call("compare", file, "--out", out, "--quiet", "--until", "1%", "--max-seeds", "3")
    assert code == 0, said
    assert "2 seeds for intervals of ± 1 %" in said and Study.load(out).seeds in ([0, 1], [0, 1, 2])  # by how alike they come out
    code, printed, said = call("compare", file, "--out", out, "--seeds", "0,1,2")
    assert code == 0 and printed.startswith("Against c3. ") and "3 of 3" in printed and Study.load(out).seeds == [0, 1, 2]
    code, printed, said = call("compare", file, "--plan", "--pilot", out)
    assert code == 0 and "| ± 10%" in printed and "as its runs took them" in printed, said


@pytest.mark.usefixtures("unrendered", "kept_shapes")
def test_rows_are_tuned_before_they_are_compared(study_of, tmp_path, call, in_this_process):
    tune = {"grid": {"train.lr_g": [1e-4, 4e-4]}, "seeds": [7]}
    file, out = study_of({"evaluate.every": 0}, tune=tune), tmp_path / "out"
    code, printed, said = call("compare", file, "--out", out)
    assert code == 0, said
    chosen = Study.load(out).tuned
    assert chosen.keys() == {"c2", "c3"} and all(s["train.lr_g"] in (1e-4, 4e-4) for s in chosen.values())
    record = json.loads((out / "runs/c2/seed_0/record.json").read_text())
    assert record["config"]["train"]["lr_g"] == chosen["c2"]["train.lr_g"]
    assert len(list(out.glob("tuning/runs/*/seed_7/record.json"))) == 4
    written = (out / "table.md").read_text()
    assert "## Tuning" in written and written.count("| chosen |") >= 2 and "Tuning" in (out / "report.html").read_text()
    code, printed, said = call("compare", file, "--out", out, "--report", "--export", tmp_path / "light")
    assert code == 0 and (out / "table.md").read_text() == written and "1 of 1" in printed
    assert Study.load(tmp_path / "light").tuned == chosen
    (out / "study.yaml").unlink()  # what rows chose is known from the tuning
    assert call("compare", file, "--out", out, "--quiet")[0] == 0 and Study.load(out).tuned == chosen
    code, _, said = call("compare", out, "train.lr_d=0.01", "--only", "c3/seed_0")
    assert code == 1 and "was trained with other settings (train.lr_d" in said
    tried = json.loads((out / "runs/c3/seed_0/record.json").read_text())["config"]["train"]["lr_g"]
    shutil.rmtree(out / "runs/c3")
    code, _, said = call("compare", file, "--out", out, "--only", "c3/seed_0")  # at what its row chose, though the file doesn't say
    assert code == 0, said
    assert json.loads((out / "runs/c3/seed_0/record.json").read_text())["config"]["train"]["lr_g"] == tried


def test_a_study_that_tunes_is_one_from_its_first_run_on(study_of, tmp_path, call, monkeypatch):
    tune = {"grid": {"train.lr_g": [1e-4, 4e-4]}, "seeds": [7]}
    file, out = study_of({"evaluate.every": 0}, tune=tune), tmp_path / "out"
    monkeypatch.setattr("study.run.run_here", lambda folder, jobs, *_: (Ended(job, 1, "error: no disk") for job in jobs))
    code, _, said = call("compare", file, "--out", out, "--quiet")
    assert code == 1 and "4 of 4 runs failed" in said and Study.load(out).tuned is None
    assert call("compare", out, "--report", "--quiet")[0] == 0
    code, _, said = call("compare", file, "--out", out, "--only", "c3/seed_0")
    assert code == 1 and "rows choose their settings first" in said


def test_a_stopped_study_goes_on_to_the_same_bits(study_of, tmp_path, call, monkeypatch):
    file = study_of({"train.steps": 60, "train.log_every": 1, "evaluate.every": 0, "train.checkpoint_every": 30})
    line = line_of(file, tmp_path / "out", "--workers", "1")
    with subprocess.Popen(line, stderr=subprocess.PIPE, text=True) as process:
        log = tmp_path / "out/runs/c2/seed_0/metrics.jsonl"
        wait_until(lambda: log.is_file() and log.read_text().count("\n") > 3)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=120)[1]
    assert process.returncode == 130 and "the same command goes on from there" in said
    assert not (tmp_path / "out/runs/c2/seed_0/record.json").exists()
    assert list(tmp_path.glob("out/runs/c2/seed_0/checkpoints/step_*.pt")), "the run was not asked to save"
    study = Study.load(file)
    resumed, whole = StudyFolder(tmp_path / "out"), StudyFolder(tmp_path / "whole")
    whole.adopt(study)
    job = study.jobs[0]
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
    monkeypatch.setattr("study.run.write_atomically", full)
    code, _, said = call("compare", file, "--out", out, "--only", "c2/seed_0")
    assert code == 1 and "the disk is full" in said and "what has finished is kept" in said and said.count("\n") == 1
    monkeypatch.undo()
    result = run_job(Study.load(file), StudyFolder(out), Study.load(file).jobs[0])
    assert result["status"] == "finished"


def test_runs_are_not_trained_where_the_images_are_others_than_those_of_finished_runs(study_of, tmp_path):
    study, folder = Study.load(study_of()), StudyFolder(tmp_path / "out")
    first, second = study.jobs
    run_job(study, folder, first)
    record = folder.run(first) / "record.json"
    text = record.read_text().replace('"real_sha256": "', '"real_sha256": "0')
    record.write_text(text)
    with pytest.raises(StudyError, match=r"record\.json is damaged"):
        folder.record(first)
    record.write_text(json.dumps(sealed(json.loads(text))))
    with pytest.raises(StudyError, match=r"c2/seed_0 was scored against other images \(folder fifty.zip, train split\) than"):
        run_job(study, folder, second)
    assert not folder.run(second).exists()


def test_a_run_that_leaves_no_result_has_failed(study_of, tmp_path, monkeypatch):
    monkeypatch.setattr(launch, "command", lambda folder, job: [sys.executable, "-S", "-c", "print('all is well')"])
    study, path = Study.load(study_of()), tmp_path / "out"
    assert len(run_all(study, path, 1, "submitit", {}, print, progress=False)) == 2
    assert StudyFolder(path).failure(study.jobs[0]) == "it ended without a result"


def test_a_single_run_is_of_the_study_that_its_folder_goes_by(study_of, tmp_path, call):
    study, folder = Study.load(study_of()), StudyFolder(tmp_path / "out")
    folder.adopt(study)
    for change in (["train.lr_d=0.01"], ["train.steps=9"], ["scoring.samples=21"], ["train.lr_d=0.01", "--seeds", "0,5"]):
        name = "c3/seed_5" if "--seeds" in change else "c3/seed_0"
        code, _, said = call("compare", folder.path, *change, "--only", name, "--trust")
        key = change[0].partition("=")[0]
        assert code == 1 and f"has other settings ({key}: " in said and f"{name} would be of another" in said
    assert not (folder.path / "runs").exists()


def test_a_study_file_edited_while_its_runs_go_on_changes_the_next_compare_only(study_of, tmp_path, call):
    study, folder = Study.load(study_of()), StudyFolder(tmp_path / "out")
    folder.adopt(study)
    (folder.path / "study.yaml").write_text("title: half an ed")
    job = study.jobs[0]
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
        (["--seeds", "0,one"], "--seeds takes whole numbers with commas between"),
        (["--until", "0.1"], "--until takes a percentage, such as 10%"),
        (["--plan"], "name a started one with --pilot"),
    ],
)
def test_wrong_options_are_one_sentence(study_of, tmp_path, call, options, words):
    code, _, said = call("compare", study_of(), "--out", tmp_path / "out", *options)
    assert code == 1 and words in said and len(said.strip().splitlines()) <= 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--report", "--only", "c3/seed_0"], "--only trains one run here and ends: leave --report out"),
        (["--plan", "--export", "light"], "--plan prints a plan and ends: leave --export out"),
        (["--report", "--until", "10%"], "--report trains nothing and ends: leave --until out"),
        (["--report", "--workers", "3"], "leave --workers out"),
        (["--only", "c3/seed_0", "--launcher", "slurm"], "--only trains one run here and ends: leave --launcher out"),
        (["--only", "c3/seed_0", "--pilot", "elsewhere"], "leave --pilot out"),
        (["--max-seeds", "3"], "--max-seeds ends what --until begins: add --until, or leave it out"),
        (["--plan", "--seeds", "0,1"], "--plan prints a plan and ends: leave --seeds out"),
        (["--report", "--max-seeds", "3"], "--report trains nothing and ends: leave --max-seeds out"),
        (["--only", "c3/seed_0", "--launch", "a=b"], "leave --launch out"),
        (["--report", "--overwrite"], "add --export, or leave it out"),
        (["--pilot", "elsewhere"], "add --plan, or leave it out"),
        (["--launch", "slurm_partition=gpu"], "add --launcher slurm or submitit"),
    ],
)
def test_an_option_that_would_be_left_unread_is_refused(study_of, tmp_path, call, options, words):
    code, _, said = call("compare", study_of(), "--out", tmp_path / "out", *options)
    assert code == 2 and words in " ".join(said.replace("│", " ").split()) and not (tmp_path / "out").exists()


def test_what_no_run_could_do_is_said_before_any_starts(study_of, tmp_path, call):
    for settings, words in (
        ({"dataset.path": str(tmp_path / "gone.zip")}, "there is nothing at"),
        ({"train.batch_size": 10**9}, "takes at least"),
    ):
        code, _, said = call("compare", study_of(settings), "--out", tmp_path / "out", "--quiet")
        assert code == 1 and words in said and said.count("error: ") == 1
        assert not (tmp_path / "out/runs").exists()


def test_code_that_a_study_from_elsewhere_names_is_asked_about_once(study_of, tmp_path, call):
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    study_of().rename(foreign / "study.yaml")
    for source in (foreign, foreign / "study.yaml"):
        code, _, said = call("compare", source, "--out", tmp_path / "out", "--only", "c9/seed_0")
        assert code == 1 and "names module:tiny_features.build, a Python function that would run here" in said and "--trust" in said
    for trust in (["--trust"], []):
        assert "it has c2/seed_0" in call("compare", foreign, "--out", tmp_path / "out", "--only", "c9/seed_0", *trust)[2]


def test_a_study_file_of_ones_own_is_trusted_and_so_is_its_folder_then(study_of, tmp_path, call):
    file, out = study_of(), tmp_path / "out"
    StudyFolder(out).adopt(Study.load(file))
    assert "it has c2/seed_0" in call("compare", file, "--out", out, "--only", "c9/seed_0")[2]
    assert "it has c2/seed_0" in call("compare", out, "--only", "c9/seed_0")[2]


def test_torchrun_is_refused(study_of, tmp_path, call, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    code, _, said = call("compare", study_of(), "--out", tmp_path / "out")
    assert code == 1 and "start it with python, not with torchrun" in said


def wait_until(true, seconds=120):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.1)
