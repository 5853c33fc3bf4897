"""Standard error that is closed, full or read by nobody stops nothing."""

import os
import subprocess
import sys
import time

import pytest

from cli.streams import Forgiving
from tests.helpers import ROOT

CODE = """
import sys
from cli.main import say
from cli.streams import forgiving_stderr
with forgiving_stderr():
    for _ in range(3000):
        say("x" * 100)
        print("y" * 100, file=sys.stderr)
open(sys.argv[1], "w").write("done")
"""


@pytest.mark.parametrize(
    "stderr", ["2>&-", "2>/dev/full", "2> >(sleep 0)", "2> >(sleep 30)"], ids=["closed", "full", "gone", "unread"]
)
def test_a_command_whose_words_nobody_hears_ends_all_the_same(tmp_path, stderr):
    if "/dev/full" in stderr and not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    line = f'"{sys.executable}" -c "$0" "{tmp_path}/done" {stderr}'
    process = subprocess.Popen(["bash", "-c", line, CODE], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 60
    while not (tmp_path / "done").exists():
        assert time.monotonic() < end, "it waits for somebody to read"
        time.sleep(0.05)
    assert process.wait(timeout=60) == 0


def test_a_closed_stream_is_never_given_to_another_file(tmp_path):
    """The number of a closed stream would go to the next file, and what C libraries say would stand in it."""
    code = "import cli.main, os, sys; f = open(sys.argv[1], 'w'); os.write(2, b'said'); f.write('mine')"
    subprocess.run(["bash", "-c", f'"{sys.executable}" -c "{code}" "{tmp_path}/file" 2>&-'], cwd=ROOT, check=True, timeout=60)
    assert (tmp_path / "file").read_text() == "mine"


def test_what_is_heard_is_passed_on(capsys):
    stream = Forgiving(sys.stderr)
    print("a", file=stream, flush=True)
    assert capsys.readouterr().err == "a\n" and stream.encoding == sys.stderr.encoding
