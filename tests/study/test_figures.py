"""The figures of a study: what they leave out, and what must fit."""

import torch

from gan.sampling import save_grid
from study.analysis import analyse
from study.figures import band, plot_curves, plot_grids, plot_tradeoff
from study.folder import StudyFolder
from study.study import Study
from tests.helpers import leave_result, random_images
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


def test_real_images_come_first_and_rows_that_did_not_converge_are_marked(study):
    loaded, folder = study({"c2": [result(300.0), result(310.0)], "c2sp": [12.0, result(300.0)], "c3": [9.0, 10.0]}, worse_than=100)
    for job in loaded.jobs[:3]:
        save_grid(torch.zeros(64, 3, 32, 32, dtype=torch.uint8), folder.run(job) / "grid.png", 8, scale=1)
    lines = analyse(loaded, folder).lines
    titles = [axis.get_title() for axis in plot_grids(loaded, folder, lines).axes]
    assert titles[0] == "c2   (305.0 ± 7.1)\n0 of 2 converged" and titles[2] == "c3   9.5 ± 0.7"
    real = random_images(64)
    save_grid(real, folder.run(loaded.jobs[1]) / "samples/real.png", 8, scale=3)  # as runs have it
    axes = plot_grids(loaded, folder, lines).axes
    assert [axis.get_title().partition("\n")[2] for axis in axes] == ["", "0 of 2 converged", "1 of 2 converged", ""]
    assert axes[0].get_title() == "real images" and [axis.axison for axis in axes] == [False, True, False, False]
    shown = torch.from_numpy(axes[0].images[0].get_array())
    assert shown.shape[:2] == (3 * (4 * 34 + 2), 3 * (6 * 34 + 2))
    assert (shown[6:108:3, 6:108:3, :3].movedim(2, 0) * 255).round()[:, :32, :32].equal(real[0].float())


def test_a_row_of_which_no_run_converged_has_hollow_markers(study):
    loaded, folder = study({"c2": [result(300.0), result(310.0)], "c3": [9.0, 10.0]}, worse_than=100)
    figure = plot_curves(analyse(loaded, folder).lines)
    faces = {line.get_label(): line.get_markerfacecolor() for line in figure.axes[0].lines}
    assert list(faces.values()).count("white") == 1


def test_cost_is_parameters_too_where_rows_differ_in_them(study):
    loaded, folder = study({"c2": [result(10.0, model={**MODEL, "parameters": 450})], "c3": [9.0]})
    axes = plot_tradeoff(analyse(loaded, folder).lines, {}).axes
    assert [axis.get_xlabel() for axis in axes] == ["parameters (10³)", "multiply-adds per step (10⁹)"]
    assert sorted(line.get_xdata()[0] for line in axes[0].lines if line.get_marker() in "os") == [0.45, 1.0]
    loaded, folder = study({"c2": [result(10.0, model={**MODEL, "parameters": 980})], "c3": [9.0]})
    costs = {"c3": {"ms_per_step": 7.0}}
    axes = plot_tradeoff(analyse(loaded, folder).lines, costs).axes
    assert [axis.get_xlabel() for axis in axes] == ["multiply-adds per step (10⁹)", "milliseconds per step"]
    assert [sum(line.get_marker() in "os" for line in axis.lines) for axis in axes] == [2, 1]
