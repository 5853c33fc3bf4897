"""The figures of a study: what they leave out, and what must fit."""

from study.analysis import analyse
from study.figures import band, plot_curves
from study.folder import StudyFolder
from study.study import Study
from tests.helpers import leave_result
from tests.study.results import MODEL, result


def test_curves_are_of_the_seeds_that_finished(study):
    early = {"status": "diverged", "why": "NaN", "curve": [{"step": 1, "fd_f": 9e9}], "model": MODEL, "timing": {}}
    loaded, folder = study({"c2": [10.0, early], "c3": [9.0, 10.0]})
    line = analyse(loaded, folder).lines[0]
    assert band(line) == ([1, 2, 3, 4], [30.0, 20.0, 20.0, 20.0], [0.0] * 4)


def test_a_legend_of_long_labels_stays_within_the_figure(study_file, tmp_path):
    labels = [f"row number {i} of a study with long labels" for i in range(7)]
    rows = [{"label": label, "train.lr_g": 1e-4 * (i + 1)} for i, label in enumerate(labels)]
    loaded, folder = Study.load(study_file(rows=rows, axes={}, baseline=labels[0])), StudyFolder(tmp_path / "out")
    for job in loaded.jobs:
        leave_result(folder, loaded, job, **result(9.0))
    figure = plot_curves(analyse(loaded, folder).lines)
    figure.canvas.draw()
    box = figure.legends[0].get_window_extent()
    assert box.x0 >= 0 and box.x1 <= figure.bbox.width
