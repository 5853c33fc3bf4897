"""The report of a study, from made-up results."""

import base64
import csv
import json
import re

import pytest
import torch

from gan.sampling import save_grid
from study.analysis import analyse
from study.costs import measure_costs
from study.figures import plot_curves
from study.folder import StudyFolder
from study.report import write_report
from study.study import Study, StudyError
from tests.helpers import leave_result
from tests.study.results import NAN, result


def test_settings_that_changed_since_are_refused_by_the_report_too(study):
    loaded, folder = study({"c2": [10.0], "c3": [9.0]})
    changed = loaded.model_copy(update={"settings": {**loaded.settings, "train.lr_g": 0.1}})
    with pytest.raises(StudyError, match=r"train\.lr_g: 0\.0002 -> 0\.1"):
        write_report(changed, folder.path)


def test_every_row_has_its_interval_drawn_beside_the_table(study):
    loaded, folder = study({"c2": [8.0, 9.1], "c2sp": [7.0, 9.0], "c3": [9.0, 10.0], "c4": [NAN, NAN]})
    write_report(loaded, folder.path)
    html = (folder.path / "report.html").read_text()
    table, contrasts = html.split("<table>")[1:3]
    assert table.count('<svg class="forest"') == 4 + 1 and contrasts.count('<svg class="forest"') == 1 + 1  # rows, and the axis
    assert table.count("<circle") == 2 and contrasts.count("<circle") == 1
    assert html.count('<td data-head="verdict">') == 5 and "Against c3. " in html


def test_a_study_without_a_comparison_draws_none(study_file, tmp_path):
    loaded, folder = Study.load(study_file(axes={}, baseline="base")), StudyFolder(tmp_path / "out")
    for job in loaded.jobs:
        leave_result(folder, loaded, job, **result(9.0))
    write_report(loaded, folder.path)
    assert "<svg" not in (folder.path / "report.html").read_text()


def test_rows_that_have_no_score_are_named_where_figures_leave_them_out(study):
    loaded, folder = study({"c2": [NAN, NAN], "c3": [9.0, 10.0]})
    write_report(loaded, folder.path)
    assert "In no figure, since no run of it has a score: c2." in (folder.path / "report.html").read_text()


def test_a_row_may_be_called_anything(study_file, tmp_path):
    label = r"_<b>$\foo$ a|b"
    loaded, folder = Study.load(study_file(rows=[{"label": label}], axes={}, baseline=label)), StudyFolder(tmp_path / "out")
    for job in loaded.jobs:
        leave_result(folder, loaded, job, **result(9.0))
    write_report(loaded, folder.path)
    html = (folder.path / "report.html").read_text()
    assert r"<td>_&lt;b&gt;$\foo$ a|b</td>" in html and "<b>" not in html
    figure = plot_curves(analyse(loaded, folder).lines)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [label]


def test_the_tables_are_there_where_a_picture_cannot_be_drawn(study, monkeypatch):
    loaded, folder = study({"c2": [10.0], "c3": [9.0]})

    def fails(*_):
        raise ZeroDivisionError

    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr("study.report.plot_curves", fails)
        write_report(loaded, folder.path)
    assert {"table.md", "table.csv", "table.json"} <= {file.name for file in folder.path.iterdir()}
    (folder.run(loaded.jobs[0]) / "grid.png").write_bytes(b"\x89PNG")
    with pytest.raises(StudyError, match=r"c2/seed_0/grid\.png is damaged \(.*\): delete it, and no samples of that run are shown"):
        write_report(loaded, folder.path)
    (folder.run(loaded.jobs[0]) / "grid.png").unlink()
    write_report(loaded, folder.path)
    assert [file.name for file in folder.path.iterdir() if file.name.startswith(".")] == []


def test_the_report_is_one_file_and_says_the_same_in_all_forms(study, monkeypatch):
    loaded, folder = study({"c2": [10.0, 14.0], "c3": [9.0, 10.0]}, title="Kernels <&> more")
    cost = {"ms_per_step": 5, "images_per_s": 7, "peak_bytes": 2**20}
    monkeypatch.setattr("gan.timing.step_costs", lambda configs: dict.fromkeys(configs, cost))
    measure_costs(loaded, folder.path, print)
    write_report(loaded, folder.path)
    html = (folder.path / "report.html").read_text()
    assert "Kernels &lt;&amp;&gt; more" in html and "12.00 ± 2.83" in html
    assert html.count("data:image/png;base64,") == 2  # curves and trade-off: no run left a grid
    assert "http" not in html and "<script" not in html
    assert html.count("overflow-x") == 1  # the settings alone scroll sideways
    table = list(csv.DictReader((folder.path / "table.csv").open()))
    assert [(r["row"], float(r["final_mean"]), float(r["ms_per_step"])) for r in table] == [("c2", 12.0, 5.0), ("c3", 9.5, 5.0)]
    record = json.loads((folder.path / "table.json").read_text())
    assert record["runs"][0]["last"]["scores"][0]["card"]["weights_sha256"] == "a" * 64


def test_a_report_of_nothing_finished_is_still_a_report(study):
    loaded, folder = study({"c2": [], "c3": []})
    folder.path.mkdir()
    assert "Unfinished: 0 of 4" in write_report(loaded, folder.path)


def test_a_report_of_a_study_that_never_began_says_so(study):
    loaded, folder = study({"c2": [], "c3": []})
    with pytest.raises(StudyError, match="repeat the command without --report"):
        write_report(loaded, folder.path)


def test_the_nearest_training_images_of_a_run_stand_in_the_report(study):
    loaded, folder = study({"c2": [10.0, 10.5], "c3": [9.0, 9.5]})
    assert "Nearest training images" not in (write_report(loaded, folder.path), (folder.path / "report.html").read_text())[1]
    run = folder.run(loaded.jobs[0])
    found = {"share": 0.7, "low": 0.4, "high": 0.6, "closest": 0.5, "closest_high": 0.05}
    (run / "neighbours.json").write_text(json.dumps({"features": found, "pixels": {**found, "share": 0.5, "closest": 0.01}}))
    (run / "neighbours.png").write_bytes(b"picture")
    write_report(loaded, folder.path)
    report = (folder.path / "report.html").read_text()
    assert "Nearest training images" in report and f"<b>{loaded.jobs[0].name}</b>" in report
    assert "features: 70.0% of samples lie closer" in report and "pixels: 50.0%" in report and "cGljdHVyZQ==" in report


def test_pictures_of_a_report_have_letters_of_one_size(study):
    loaded, folder = study({"c2": [10.0], "c3": [9.0]})
    write_report(loaded, folder.path)
    html = (folder.path / "report.html").read_text()
    two, one = (int(width) for width in re.findall(r'<img alt="[^"]*" width="(\d+)"', html))
    assert (two, one) == (762, 472)  # curves have two panels, cost against quality has one here


def test_pictures_that_cannot_be_drawn_anew_are_kept_and_those_of_runs_that_are_gone_are_not(study, tmp_path):
    loaded, folder = study({"c2": [10.0], "c3": [9.0]})
    for job in loaded.jobs:
        if folder.record(job):
            save_grid(torch.zeros(64, 3, 32, 32, dtype=torch.uint8), folder.run(job) / "grid.png", 8, scale=1)
    folder.adopt(loaded)
    write_report(loaded, folder.path)
    assert folder.export(loaded, tmp_path / "light") == 2
    light = StudyFolder(tmp_path / "light")
    drawn = (light.path / "grids.png").read_bytes()
    (light.path / "grids.zip").unlink()
    write_report(loaded, light.path)
    assert (light.path / "grids.png").read_bytes() == drawn
    assert base64.b64encode(drawn).decode() in (light.path / "report.html").read_text()
    elsewhere = loaded.model_copy(update={"seeds": [7]})
    write_report(elsewhere, light.path)  # no run of it is there
    assert (light.path / "grids.png").read_bytes() == drawn and not (light.path / "curves.png").exists()
    assert StudyFolder(light.path).export(loaded, tmp_path / "light again") == 2
    assert (tmp_path / "light again/grids.png").read_bytes() == drawn

    for job in loaded.jobs:  # of runs that lie here and lost their samples nothing is shown
        (folder.run(job) / "grid.png").unlink(missing_ok=True)
    write_report(loaded, folder.path)
    assert not (folder.path / "grids.png").exists() and (folder.path / "curves.png").exists()
    folder.export(loaded, tmp_path / "light again")
    assert (tmp_path / "light again/grids.png").read_bytes() == drawn  # perhaps the last there is
    other = loaded.model_copy(update={"seeds": [1]})
    folder.export(other, tmp_path / "light again", overwrite=True)
    assert not {"grids.png", "grids.zip"} & {file.name for file in (tmp_path / "light again").iterdir()}


def test_pictures_are_drawn_of_the_rows_and_seeds_that_a_study_has(study, tmp_path):
    loaded, folder = study({"c2": [10.0], "c3": [9.0]})
    for job in loaded.jobs:
        if folder.record(job):
            save_grid(torch.zeros(64, 3, 32, 32, dtype=torch.uint8), folder.run(job) / "grid.png", 8, scale=1)
    write_report(loaded, folder.path)
    folder.export(loaded, tmp_path / "light")
    both = (tmp_path / "light/grids.png").read_bytes()
    fewer = loaded.model_copy(update={"axes": {"generator.kernel": ["c3"]}})
    write_report(fewer, tmp_path / "light")
    assert (tmp_path / "light/grids.png").read_bytes() != both  # grids.zip has them all
    write_report(loaded, tmp_path / "light")
    assert (tmp_path / "light/grids.png").read_bytes() == both
