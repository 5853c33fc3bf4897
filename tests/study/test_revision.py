"""Which code a run was made with."""

import subprocess

from study import revision


def repository(path):
    for line in ("init -q", "config user.email a@b.c", "config user.name n", "add .", "commit -q -m first"):
        subprocess.run(["git", "-C", str(path), *line.split()], check=True, capture_output=True)


def test_a_changed_file_of_code_is_a_change_and_others_are_none(tmp_path, monkeypatch):
    (tmp_path / "gan").mkdir()
    (tmp_path / "gan" / "loop.py").write_text("a = 1\n")
    repository(tmp_path)
    monkeypatch.setattr(revision, "ROOT", tmp_path)
    clean = revision.revision()
    assert len(clean["commit"]) == 40 and clean["changed"] is False
    (tmp_path / "notes.txt").write_text("not code")
    assert revision.revision() == clean
    (tmp_path / "gan" / "loss.py").write_text("b = 1\n")
    assert revision.revision() == {**clean, "changed": True}


def test_without_a_repository_of_its_own_nothing_is_known(tmp_path, monkeypatch):
    unknown = {"commit": None, "changed": None}
    monkeypatch.setattr(revision, "ROOT", tmp_path)
    assert revision.revision() == unknown
    (tmp_path / "mine.txt").write_text("somebody else's")
    repository(tmp_path)
    (tmp_path / "vendored").mkdir()
    monkeypatch.setattr(revision, "ROOT", tmp_path / "vendored")
    assert revision.revision() == unknown
    monkeypatch.setenv("PATH", "")
    assert revision.revision() == unknown


def test_a_run_that_goes_on_with_other_code_has_both_revisions(tmp_path, monkeypatch):
    first, second = ({"commit": letter * 40, "changed": False} for letter in "ab")
    for now, expected in ((first, [first]), (first, [first]), (second, [first, second])):
        monkeypatch.setattr(revision, "revision", lambda now=now: now)
        assert revision.noted(tmp_path / "run") == expected
    (tmp_path / "run/revisions.json").write_text("[torn")
    assert revision.noted(tmp_path / "run") == [second]
