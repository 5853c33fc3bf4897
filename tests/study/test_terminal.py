"""What `compare` prints: the verdict first, nothing cut at 80 columns; and bars that say what is at work."""

import json

import pytest

from study.run import Progress
from study.study import Study
from study.terminal import in_terminal
from tests.study.results import NAN


def test_the_verdict_is_the_first_line_and_nothing_is_wider_than_80_columns_or_cut(study_file, study):
    loaded, folder = study({"c2": [10.0, 14.0], "c2sp": [8.0, 8.1], "c3": [9.0, 10.0], "c4": [NAN, 9.0]})
    text = in_terminal(loaded, folder.path)
    lines = text.splitlines()
    assert lines[0].startswith("Against c3. ") and lines[1] == ""  # a sentence, as long as it is
    assert max(map(len, lines[1:])) <= 80 and "…" not in text
    assert "12.00 ± 2.83" in text and "1 of 2" in text and "baseline" in text and "declared beforehand" in text


def test_long_names_go_on_below_themselves(study_file, tmp_path):
    labels = [f"row {i} of equal parameters and a long name, as the paper has it" for i in range(2)]
    rows = [{"label": label, "train.lr_g": 1e-4 * (i + 1)} for i, label in enumerate(labels)]
    text = in_terminal(Study.load(study_file(rows=rows, axes={}, baseline=labels[0])), tmp_path)
    table = text.splitlines()[1:]
    assert max(map(len, table)) <= 80 and all(word in " ".join(table) for word in labels[1].split())


@pytest.fixture
def at_work(study, monkeypatch):
    """Four runs of four steps: one done, one half way, one being scored, one not begun."""
    loaded, folder = study({"c2": [10.0], "c3": []})
    for job, step in zip(loaded.jobs[1:], (2, 4)):
        folder.run(job).mkdir(parents=True)
        (folder.run(job) / "metrics.jsonl").write_text(json.dumps({"step": step}) + "\n")
    return loaded, folder


def test_the_bar_says_how_many_runs_are_done_and_what_the_others_do(at_work):
    with Progress(*at_work, shown=False) as bar:
        assert bar._at_work() == "1 of 4 runs, c3/seed_0 50%, c2/seed_1 scoring"
        assert bar._count() == 4 + 2 + 4


def test_a_run_that_ends_says_how_long_the_others_will_take(at_work, monkeypatch, capsys):
    clock = iter([0.0, 600.0])
    monkeypatch.setattr("study.run.time.monotonic", lambda: next(clock))
    with Progress(*at_work, shown=False) as bar:
        bar.end("c3/seed_0", "c3/seed_0: fd_f 9.00")
    assert capsys.readouterr().err == "c3/seed_0: fd_f 9.00 (2 of 4 runs, about 20 minutes to go)\n"
