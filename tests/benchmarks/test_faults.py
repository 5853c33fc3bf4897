"""A short form of the campaign of kills, full disks and damaged files, in a process of its own."""

import subprocess
import sys

import pytest

from tests.helpers import ROOT

# Of the twenty-one kinds those that say most in little time: a run that is killed and goes on, an output that is replaced, an entry
# that is two files; a checkpoint, weights and a log that are damaged; two commands at once.
KINDS = [
    "train", "sample zip", "zoo add", "gan/checkpoints/step_00000009.pt", "gan/metrics.jsonl", "e.safetensors", "two at once",
]  # fmt: skip


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="needs os.fork")
def test_random_faults_lose_nothing():
    command = [sys.executable, "benchmarks/faults.py", "--trials", str(len(KINDS)), "--seed", "4", "--kinds", *KINDS]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert (done.returncode, done.stdout) == (0, f"{len(KINDS)} trials, 0 of them found something\n"), done.stdout + done.stderr
