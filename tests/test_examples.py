"""The scripts in examples/ run, each for a moment, and show what they say."""

import os
import re
import subprocess

from tests.helpers import ROOT


def run(python, script, *arguments, folder):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [python, ROOT / "examples" / script, *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_examples_are_short_and_all_of_them_are_run():
    scripts = sorted((ROOT / "examples").glob("*.py"))
    assert [script.name for script in scripts] == ["convert_resnet.py", "own_gan.py", "study_from_python.py"]
    assert all(len(script.read_text().splitlines()) <= 60 for script in scripts)


def test_a_gan_of_ones_own_is_scored_while_it_trains(quick_python, tmp_path):
    found = re.findall(
        r"^step (\d+): fd_efficientnet_lite0 ([\d.]+), of 40 images$", run(quick_python, "own_gan.py", 2, folder=tmp_path), re.M
    )
    assert [step for step, _ in found] == ["2"] and all(float(value) > 0 for _, value in found)


def test_a_converted_network_is_smaller_and_learns(quick_python, tmp_path):
    out = run(quick_python, "convert_resnet.py", 8, folder=tmp_path)
    (before,), (after,) = re.findall(r"^3×3: ([\d.]+) M", out, re.M), re.findall(r"^c2sp: ([\d.]+) M", out, re.M)
    first, last = (float(loss) for loss in re.findall(r"loss ([\d.]+)", out))
    assert float(after) < 0.6 * float(before) and last < first


def test_a_study_from_python_ends_in_a_table_and_a_report(quick_python, tmp_path):
    out = run(quick_python, "study_from_python.py", 2, tmp_path / "study", 0, folder=tmp_path)
    assert "c2sp" in out and "failed: none" in out and (tmp_path / "study/report.html").is_file()
