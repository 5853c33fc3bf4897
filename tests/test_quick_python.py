"""The Python that tests start processes with does what Python does."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="an ordinary Python is taken here")
SAYS = (
    "import os, sys, torch; print(sys.argv, os.getcwd(), os.environ['SAID'], torch.get_num_threads(), repr(sys.stdin.read())); "
    "print('why', file=sys.stderr); sys.exit(int(sys.argv[1]))"
)


def ended(program, *arguments, **options):
    done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60, **options)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("code", ["0", "3"])
def test_streams_folder_environment_arguments_and_code_are_those_of_python(quick_python, tmp_path, code):
    told = {"cwd": tmp_path, "env": {**os.environ, "SAID": "é", "OMP_NUM_THREADS": "1"}, "input": "in"}
    found = ended(quick_python, "-c", SAYS, code, "a b", **told)
    assert found == ended(sys.executable, "-c", SAYS, code, "a b", **told) and found[0] == int(code) and found[2] == "why\n"


def test_scripts_and_modules_run_with_what_lies_beside_them(quick_python, tmp_path):
    (tmp_path / "beside.py").write_text("import sys; print(__name__, sys.argv[1:], sys.path[0])")
    (tmp_path / "script.py").write_text("import beside; print(__file__, __name__); 1 / 0")
    for arguments in (["script.py", "x"], ["-m", "beside", "y"], ["-S", "-c", "print('really')"]):
        (*found, said), (*wanted, complained) = (ended(p, *arguments, cwd=tmp_path) for p in (quick_python, sys.executable))
        assert found == wanted and said.splitlines()[-1:] == complained.splitlines()[-1:]
    assert ended(quick_python, tmp_path / "script.py", env={**os.environ, "PYTHONPATH": str(tmp_path)})[2].endswith(
        "division by zero\n"
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_signals_end_it(quick_python, number):
    code = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    with subprocess.Popen([quick_python, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        pid = int(process.stdout.readline())
        process.send_signal(number)
        assert process.wait(30) == -number
    end = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < end, "the fork goes on"
        time.sleep(0.01)


def test_it_has_not_imported_this_repository_and_starts_another_like_itself(quick_python):
    ours = ("gan", "cli", "metrics", "data", "study")
    code = f"import sys; print([m for m in sys.modules if m.split('.')[0] in {ours}], sys.executable)"
    assert ended(quick_python, "-c", code) == (0, f"[] {quick_python}\n", "")
