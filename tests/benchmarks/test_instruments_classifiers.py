"""Erosion in trained classifiers: rows for every kernel, and the drift that one-sided padding leaves."""

import json
import re
import runpy
import shutil
import subprocess
import sys

import pytest

from gan.classification.config import Config
from gan.classification.training import train
from tests.helpers import ROOT, save_split

SCRIPT = "benchmarks/instruments_classifiers.py"


def refusal(monkeypatch, *arguments):
    """What the script ends with, run in this process; Python prints it and exits with 1."""
    monkeypatch.setattr(sys, "argv", [SCRIPT, *map(str, arguments)])
    monkeypatch.setattr(sys, "path", sys.path.copy())
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(ROOT / SCRIPT), run_name="__main__")
    return stopped.value.code


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """runs/KERNEL/seed_N of tiny networks, as `compare` lays them."""
    root = tmp_path_factory.mktemp("study")
    save_split(root / "pictures", 40, "train")
    save_split(root / "pictures", 20, "test")
    for kernel, seed in (("c2", 0), ("c2", 1), ("c2sp", 0)):
        settings = ["dataset.name=folder", f"dataset.path={root / 'pictures'}", "model.depth=14", "model.width=4"]
        settings += ["train.epochs=1", "train.batch_size=40", f"model.kernel={kernel}", f"train.seed={seed}", "train.device=cpu"]
        train(Config.load(None, settings), root / "runs" / kernel / f"seed_{seed}", progress=False)
    return root / "runs"


def test_one_sided_kernels_lean_and_symmetric_ones_do_not(quick_python, runs, tmp_path):
    command = [quick_python, SCRIPT, str(runs), "--images", "20", "--out", str(tmp_path / "erosion.md")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "erosion.md").read_text() == done.stdout
    rows = [line.strip("| \n").split(" | ") for line in done.stdout.splitlines() if line.startswith("| c")]
    assert [row[:3] for row in rows] == [
        ["c2", "2", "untrained"], ["c2", "2", "trained"], ["c2sp", "1", "untrained"], ["c2sp", "1", "trained"]
    ]  # fmt: skip
    lean = {(row[0], row[2]): [float(re.match(r"\S+", cell)[0]) for cell in row[6:8]] for row in rows}
    for when in ("untrained", "trained"):  # half a pixel a layer, up and to the left
        assert all(c2 < c2sp - 0.01 for c2, c2sp in zip(lean["c2", when], lean["c2sp", when])), lean


def test_a_folder_without_results_is_told(tmp_path, monkeypatch):
    said = refusal(monkeypatch, tmp_path)
    assert said == f"no finished run of `classify`, with its config.yaml and checkpoints, in {tmp_path}"


def test_unlike_networks_do_not_share_a_table(runs, tmp_path, monkeypatch):
    result = json.loads((runs / "c2/seed_0/result.json").read_text())
    for name, change, complaint in (
        ("deeper", {"depth": 20}, "differ in more than kernel and seed"),
        ("dense", {"family": "densenet"}, "only ResNets"),
    ):
        shutil.copytree(runs / "c2/seed_0", tmp_path / name / "run")
        result["card"]["model"] |= change
        (tmp_path / name / "run/result.json").write_text(json.dumps(result))
        assert complaint in refusal(monkeypatch, runs, tmp_path / name)
