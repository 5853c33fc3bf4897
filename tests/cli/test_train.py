"""`train` goes on with a run by its folder, says what it does, knows a finished run at once, and takes no settings as options."""

import shutil
import socket
import subprocess
import sys

import pytest

from cli.common import open_settings
from data import datasets
from gan.config import Config
from gan.run_directory import read_config, read_log
from tests.helpers import one_error


@pytest.fixture
def begun(tiny, call, tmp_path):
    """Two steps of a run of four, in a folder whose name looks like a setting."""
    file, run = tmp_path / "tiny.yaml", tmp_path / "mine_seed=1"
    file.write_text(tiny("dcgan", "train.steps=2").dump())
    status, _, err = call("train", file, "--out", run)
    assert status == 0, err
    return run


def test_a_run_goes_on_by_its_folder_and_says_from_which_step(begun, call):
    status, _, err = call("train", begun, "train.steps=4")
    assert status == 0 and "50 images; CPU, fp32; goes on from step 2 of 4" in err.replace("CUDA", "CPU")
    assert read_config(begun).train.steps == 4 and read_log(begun)[-1]["step"] == 4
    assert err.splitlines()[-1] == f"next: python run_gan.py evaluate {begun}"


def test_a_start_names_data_device_and_steps(tiny, call, tmp_path):
    (tmp_path / "tiny.yaml").write_text(tiny("dcgan", "train.steps=1").dump())
    _, _, err = call("train", tmp_path / "tiny.yaml", "--out", tmp_path / "run")
    assert "fifty.zip" in err and ": 50 images; " in err and ", fp32; 1 step\n" in err


def test_a_finished_run_says_so_without_looking_at_its_images(begun, call, monkeypatch):
    monkeypatch.setattr(datasets, "load", lambda *_, **__: pytest.fail("decoded for nothing"))
    before = {file: file.stat().st_mtime_ns for file in begun.rglob("*")}
    status, _, err = call("train", begun)
    assert status == 0 and f"{begun} is finished, 2 steps" in err and "train.steps=4" in err
    assert {file: file.stat().st_mtime_ns for file in begun.rglob("*")} == before


def test_a_run_that_lacks_its_last_pictures_is_not_finished(begun, call):
    (begun / "curves.png").unlink()
    status, _, err = call("train", begun)
    assert status == 0 and "is finished" not in err and (begun / "curves.png").exists()


def test_what_a_process_that_was_killed_at_the_very_end_left_is_removed(begun, call):
    dead = subprocess.Popen([sys.executable, "-S", "-c", ""])
    dead.wait()
    left = [begun / ".lock", begun / "samples" / f".{socket.gethostname()}-{dead.pid}.0.grid.png.tmp"]
    for file in left:
        file.touch()
    status, _, err = call("train", begun, "-q")
    assert status == 0 and not any(file.exists() for file in left), err


def test_a_finished_run_is_still_refused_other_settings(begun, call):
    status, _, err = call("train", begun, "train.seed=7", "--quiet")
    assert status == 1 and "train.seed: 0 -> 7" in one_error(err)


def test_a_folder_that_is_no_run_and_another_out_are_refused(begun, call, tmp_path):
    (tmp_path / "empty").mkdir()
    status, _, err = call("train", tmp_path / "empty")
    assert status == 1 and "is not a run directory" in one_error(err)
    status, _, err = call("train", begun, "--out", tmp_path / "other")
    assert status == 2 and "goes on where it is" in " ".join(err.replace("│", " ").split())
    assert not (tmp_path / "other").exists()


def test_a_run_that_is_gone_on_with_keeps_what_it_did_before_there_was_a_choice(begun):
    file = begun / "config.yaml"
    file.write_text("".join(line for line in file.read_text().splitlines(True) if "fused" not in line))
    config, _, changes, out = open_settings([str(begun), "train.steps=3"], None, Config)
    assert (config.train.fused, config.train.steps, changes, out) == (False, 3, ["train.steps=3"], begun)


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["train", "--steps", "3"], "train has no option --steps; settings are given without dashes: train.steps=3"),
        (["train", "--train.seed=1"], "settings are given without dashes: train.seed=1"),
        (["train", "--batch-size", "8"], "train.batch_size=8"),
        (["train", "--kernel", "c2"], "generator.kernel=c2 or discriminator.kernel=c2"),
        (["classify", "--epochs"], "train.epochs=…"),
    ],
    ids=" ".join,
)
def test_settings_given_as_options_are_told_how_to_be_given(words, hint, call):
    status, _, err = call(*words)
    assert status == 1 and hint in one_error(err)


def test_options_that_are_no_settings_are_left_to_the_parser(call):
    assert call("train", "--nonsense")[0] == 2 and call("train", "--help")[0] == 0


def test_a_classifier_goes_on_by_its_folder(pictures, call, tmp_path):
    small = ["dataset.name=folder", f"dataset.path={pictures}", "model.depth=8", "model.width=4", "train.epochs=1"]
    run = tmp_path / "classifier"
    status, _, err = call("classify", *small, "train.batch_size=25", "train.device=cpu", "train.precision=fp32", "--out", run, "-q")
    assert status == 0, err
    before = {file: file.stat().st_mtime_ns for file in run.rglob("*")}
    status, _, err = call("classify", run)
    assert status == 0 and f"{run} is finished, 1 epochs" in err and "accuracy on 30 test images" in err
    assert {file: file.stat().st_mtime_ns for file in run.rglob("*")} == before
    assert err.splitlines()[-1] == f"next: python run_gan.py classify {run} --export weights.safetensors"
    (run / ".lock").touch()  # of a process that was killed at the very end
    assert call("classify", run, "-q")[0] == 0 and not (run / ".lock").exists()
    (run / "result.json").write_text("{")
    status, _, err = call("classify", run)
    assert status == 0 and f"run directory: {run}" in err and "50 images; CPU, fp32; goes on from step 2 of 2" in err
    status, _, err = call("train", run)
    assert status == 1 and "is a run of `classify`" in one_error(err)


def test_help_of_a_command_waits_for_no_settings(call, monkeypatch):
    monkeypatch.delitem(sys.modules, "gan.classification.config", raising=False)
    assert call("classify", "--help")[0] == 0 and "gan.classification.config" not in sys.modules


def test_a_run_that_was_moved_goes_on(begun, call, tmp_path):
    moved = shutil.move(begun, tmp_path / "moved")
    assert call("train", moved, "train.steps=3", "-q")[0] == 0 and read_log(moved)[-1]["step"] == 3
