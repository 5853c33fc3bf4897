"""Where a run's files lie: what `train` and `evaluate` write is what RunFiles names, and naming touches nothing."""

import pytest

from gan.run_directory import RunError, RunFiles


def test_every_file_of_a_run_is_named_in_one_place(run):
    files = RunFiles(run)
    written = {file for file in run.rglob("*") if file.is_file() and not file.name.startswith(("events.out.tfevents", ".lock"))}
    assert {files.settings_file, files.metrics, files.timing, files.curves, files.latest(), files.grid(4)} <= written
    named = set(vars(files).values())
    assert [file for file in written if file not in named and file.parent not in (files.checkpoints, files.samples)] == []


def test_naming_the_files_of_a_directory_does_not_make_it(tmp_path):
    files = RunFiles(tmp_path / "none")
    assert files.latest() is None and not files.path.exists()
    for step in (None, "best", 3):
        with pytest.raises(RunError, match="train it"):
            files.checkpoint_of(step)
    assert not files.path.exists()


def test_a_checkpoint_is_found_by_step_as_the_last_or_as_the_best(run):
    files = RunFiles(run)
    assert files.checkpoint_of(2).name == "step_00000002.pt" and files.checkpoint_of(None) == files.latest() == files.checkpoint_of(
        4
    )
    with pytest.raises(RunError, match="no checkpoint of step 3; it has 2, 4"):
        files.checkpoint_of(3)
    with pytest.raises(RunError, match="keeps no best checkpoint"):
        files.checkpoint_of("best")
