"""Processes of a study's runs, with commands that take no time: what they leave, and what becomes of them when they are stopped."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from study import launch
from study.folder import StudyFolder
from study.study import Study, StudyError
from tests.helpers import ROOT


@pytest.fixture
def jobs(study_file):
    return Study.load(study_file()).jobs


def python(monkeypatch, text):
    """Every run is this Python text."""
    monkeypatch.setattr(launch, "command", lambda folder, job: [sys.executable, "-S", "-c", text])


def test_a_run_that_was_killed_says_so_and_not_what_stood_last_in_its_log(monkeypatch, tmp_path, jobs):
    python(monkeypatch, "import os, sys; print('fine', flush=True); os.kill(os.getpid(), 9)")
    ends = list(launch.run_here(StudyFolder(tmp_path), jobs[:1], 1, []))
    assert [(end.code, end.said) for end in ends] == [(-9, "it was killed by SIGKILL")]


def test_every_run_ends_and_failures_end_with_their_last_line(monkeypatch, tmp_path, jobs):
    python(monkeypatch, "import sys; print('first'); sys.exit('error: last')")
    ends = list(launch.run_here(StudyFolder(tmp_path), jobs[:3], 3, []))
    assert {(end.code, end.said) for end in ends} == {(1, "error: last")} and len(ends) == 3


def test_what_stops_a_run_from_starting_is_said_in_words(monkeypatch, tmp_path, jobs):
    def full(folder, job):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(launch, "command", full)
    (end,) = launch.run_here(StudyFolder(tmp_path), jobs[:1], 1, [])
    assert (end.code, end.said) == (1, f"error: {StudyFolder(tmp_path).run(jobs[0])}: the disk is full")


def test_one_cause_that_fails_every_run_is_said_once_and_ends_the_study(monkeypatch, tmp_path, jobs):
    failing = "import sys; sys.exit(f'error: {sys.argv[1]} has no images')"
    monkeypatch.setattr(launch, "command", lambda folder, job: [sys.executable, "-S", "-c", failing, job.name])
    ends = []
    with pytest.raises(StudyError, match=r"the first 3 runs failed alike \(.* has no images\), so the other 5 were not tried"):
        for end in launch.run_here(StudyFolder(tmp_path), jobs, 1, []):
            ends.append(end)
    assert len(ends) == 3 and len(list(tmp_path.glob("runs/*/*/log.txt"))) <= 4


def test_runs_that_fail_for_reasons_of_their_own_or_beside_good_ones_end_nothing(monkeypatch, tmp_path, jobs):
    for text in (
        "import sys, random; sys.exit(f'error: {random.random()}')",
        "import sys; sys.exit('error' * ('c3' in sys.argv[1]))",
    ):
        monkeypatch.setattr(launch, "command", lambda folder, job, text=text: [sys.executable, "-S", "-c", text, job.name])
        assert len(list(launch.run_here(StudyFolder(tmp_path), jobs, 1, []))) == len(jobs)


def test_runs_are_asked_to_save_when_the_loop_over_them_ends_early(monkeypatch, tmp_path, jobs):
    python(monkeypatch, "import os, time; print(os.getpid(), flush=True); time.sleep(600)")
    monkeypatch.setattr(launch, "command", _first_ends_at_once(launch.command, jobs[0]))
    start = time.monotonic()
    ends = launch.run_here(StudyFolder(tmp_path), jobs, 2, [])
    next(ends)
    ends.close()
    assert time.monotonic() - start < 60
    for log in tmp_path.glob("runs/*/*/log.txt"):
        for pid in log.read_text().split():
            with pytest.raises(ProcessLookupError):
                os.kill(int(pid), 0)


def _first_ends_at_once(others, first):
    return lambda folder, job: [sys.executable, "-S", "-c", ""] if job == first else others(folder, job)


def test_gpus_are_dealt_out_in_turns_of_those_that_are_visible(monkeypatch, study_file):
    monkeypatch.setattr(launch.torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert launch.gpus_for(Study.load(study_file())) == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    gpus = launch.gpus_for(Study.load(study_file()))
    assert [launch._environment(slot, 4, gpus)["CUDA_VISIBLE_DEVICES"] for slot in range(4)] == ["3", "5", "3", "5"]
    assert launch.default_workers(gpus) == 2
    assert launch.gpus_for(Study.load(study_file(settings={"train.device": "cpu"}))) == []
    monkeypatch.setattr(launch.torch.cuda, "device_count", lambda: 0)
    for hidden in ("-1", "0", ""):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
        assert launch.gpus_for(Study.load(study_file())) == []
    assert launch._environment(1, 4, [])["OMP_NUM_THREADS"] == "1"


def test_a_full_disk_starts_no_more_runs(monkeypatch, tmp_path, jobs):
    real, full = shutil.disk_usage, []
    python(monkeypatch, "print('begun')")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: real(path)._replace(free=0 if full else 2**30))
    ends = []
    for end in launch.run_here(StudyFolder(tmp_path), jobs, 1, []):
        ends.append(end)
        full.append(True)
    assert len(ends) == len(jobs) and ends[-1].said == "not started: the disk is full" and ends[-1].code == 1
    assert len(list(tmp_path.glob("runs/*/*/log.txt"))) <= 2  # the next one may have begun before the disk was full


def test_what_a_run_said_in_an_earlier_attempt_is_not_said_again(monkeypatch, tmp_path, jobs):
    folder = StudyFolder(tmp_path)
    for text, said in (("import sys; sys.exit('error: old')", "error: old"), ("import sys; sys.exit(1)", "it printed nothing")):
        python(monkeypatch, text)
        assert [end.said for end in launch.run_here(folder, jobs[:1], 1, [])] == [said]


def test_a_job_that_fails_on_a_cluster_is_explained_by_its_own_last_line(monkeypatch, tmp_path, jobs):
    python(monkeypatch, "import sys; print('begun'); sys.exit('error: no such zip')")
    ends = list(launch.run_submitit(StudyFolder(tmp_path), jobs[:1], "local", {}, 1))
    assert [(end.code, end.said) for end in ends] == [(1, "error: no such zip")]


def test_no_more_processes_than_asked_for_run_at_once_without_a_cluster(monkeypatch, tmp_path, jobs):
    marks = tmp_path / "marks"
    marks.mkdir()
    text = f"import os, sys, time; p = {str(marks)!r} + '/' + str(os.getpid()); open(p, 'w').close(); time.sleep(0.5); "
    text += (
        f"n = len(os.listdir({str(marks)!r})); os.remove(p); sys.exit(f'error: {{n}} at once, ' + os.environ['OMP_NUM_THREADS'])"
    )
    python(monkeypatch, text)
    ends = list(launch.run_submitit(StudyFolder(tmp_path), jobs[:3], "local", {}, 1))
    assert [end.said for end in ends] == ["error: 1 at once, 1"] * 3


def test_several_runs_share_a_gpu(monkeypatch, tmp_path, jobs):
    monkeypatch.setattr(launch, "cores", lambda: 6)
    python(monkeypatch, "import os, sys; sys.exit(os.environ['CUDA_VISIBLE_DEVICES'] + ' ' + os.environ['OMP_NUM_THREADS'])")
    ends = list(launch.run_here(StudyFolder(tmp_path), jobs[:3], 3, ["5"]))
    assert [end.said for end in ends] == ["5 2"] * 3


def test_a_machine_without_slurm_is_named(tmp_path, jobs, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(StudyError, match=r"can't be submitted: .*srun"):
        list(launch.run_submitit(StudyFolder(tmp_path), jobs[:1], "slurm", {}, 1))


def test_a_run_is_stopped_once_its_launcher_is_gone(tmp_path):
    run = "import sys; sys.path.insert(0, sys.argv[1]); from study.launch import follow_parent; follow_parent()"
    run += "; print('ready', flush=True); import time; time.sleep(600)"
    launcher = "import os, subprocess, sys, time; p = subprocess.Popen([sys.executable, '-c', sys.argv[2], sys.argv[1]], "
    launcher += (
        "env={**os.environ, 'GAN_COMPARE_PID': str(os.getpid())}, start_new_session=True); print(p.pid, flush=True); p.wait()"
    )
    with subprocess.Popen([sys.executable, "-S", "-c", launcher, str(ROOT), run], stdout=subprocess.PIPE, text=True) as process:
        pid = int(process.stdout.readline())
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGKILL)
    end = time.monotonic() + 20
    while _lives(pid):
        assert time.monotonic() < end, "the run goes on without its launcher"
        time.sleep(0.1)


def _lives(pid):
    """Whether the process runs: one that has ended may wait for its new parent, as a zombie."""
    found = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout.strip()
    return bool(found) and not found.startswith("Z")
