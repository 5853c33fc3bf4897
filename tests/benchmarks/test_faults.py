"""A short form of the campaign of kills, full disks and damaged files: a trial of each kind, in a process of its own."""

import subprocess
import sys

import pytest

from tests.helpers import ROOT


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="needs os.fork")
def test_random_faults_lose_nothing():
    command = [sys.executable, "benchmarks/faults.py", "--trials", "13", "--seed", "4"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert (done.returncode, done.stdout) == (0, "13 trials, 0 of them found something\n"), done.stdout + done.stderr
