"""Two runs in one picture: `plot RUN RUN` draws their curves, `sample RUN RUN` the same latents side by side."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cli.plot import names
from gan.plots import LEAST_TICKS, logarithmic, panels, plot_curves, score_names
from gan.sampling import visible_scale
from tests.helpers import one_error


@pytest.fixture
def other(run, tmp_path):
    return shutil.copytree(run, tmp_path / "other")


def test_runs_are_drawn_into_one_picture_which_is_not_replaced(run, other, call, tmp_path):
    with open(other / "metrics.jsonl", "a") as file:
        file.write(json.dumps({"step": 5, "fd_f": 2.0}) + "\n")  # after the last checkpoint
    out = tmp_path / "both.png"
    status, _, err = call("plot", run, other, "--out", out)
    assert status == 0 and err == f"2 runs: {out}\nnext: python run_gan.py sample {run} {other}\n" and out.stat().st_size > 5000
    status, _, err = call("plot", run, other, "--out", out)
    assert status == 1 and "say --overwrite" in one_error(err)


def test_a_run_without_a_log_and_a_folder_that_is_none_are_named(run, other, call, tmp_path):
    (other / "metrics.jsonl").unlink()
    status, _, err = call("plot", run, other, "--out", tmp_path / "a.png")
    assert status == 1 and f"{other} has logged nothing yet" in one_error(err)
    assert call("plot", run, tmp_path / "nowhere", "--out", tmp_path / "a.png")[0] == 1
    assert not (tmp_path / "a.png").exists()


def test_runs_are_told_apart_by_the_shortest_names():
    assert names([Path("runs/a"), Path("runs/b/")]) == ["a", "b"]
    assert names([Path("x/c2/seed_0"), Path("x/c3/seed_0")]) == ["c2/seed_0", "c3/seed_0"]


def test_scores_taken_in_training_are_drawn_and_instruments_are_not(tmp_path, monkeypatch):
    line = {"d_loss": 1.0, "g_loss": 1.0, "d_real": 0.0, "d_fake": 0.0, "penalty": 0.0}
    records = [{"step": 1, **line}, {"step": 1, "fd_f": 3.0, "drift_px": 1.0}, {"step": 2, **line}, {"step": 2, "fd_f": 2.0}]
    assert score_names(records) == ["fd_f"]
    drawn = []
    monkeypatch.setattr("gan.plots.save_figure", lambda figure, path: drawn.append(figure))
    plot_curves(records, tmp_path / "curves.png")
    dashes = [line.get_linestyle() for line in drawn[0].axes[0].lines]
    assert len(set(dashes)) == 2  # told apart without their colours
    assert [axis.get_title() for axis in drawn[0].axes] == ["losses", "mean logits", "fd_f"]
    assert drawn[0].axes[2].lines[0].get_ydata().tolist() == [3.0, 2.0]


@pytest.mark.parametrize("ends", [(70, 176), (110, 400), (40, 44), (18, 39), (21, 30), (1, 1e6), (0.002, 0.3)])
def test_a_logarithmic_axis_has_numbers_from_end_to_end(ends):
    figure, (axis,) = panels(1)
    axis.plot([0, 1], ends)
    logarithmic(axis)
    figure.draw_without_rendering()
    low, high = axis.get_ylim()
    shown = [label for label in axis.get_yticklabels() if low <= label.get_position()[1] <= high]
    assert LEAST_TICKS <= len(shown) <= 12 and all(label.get_text() for label in shown)
    points = [axis.transData.transform((0, label.get_position()[1])) for label in shown]
    places = axis.transAxes.inverted().transform(points)[:, 1]
    assert max(b - a for a, b in zip([0, *places], [*places, 1])) < 0.45


def test_the_same_latents_stand_side_by_side(run, other, call, tmp_path):
    options = ["--count", 4, "--scale", 2]
    assert call("sample", run, *options, "--grid", tmp_path / "one.png")[0] == 0
    status, _, err = call("sample", run, other, *options, "--grid", tmp_path / "two.png")
    assert status == 0 and f"plot {run} {other}" in err
    one, two = (np.array(Image.open(tmp_path / name)) for name in ("one.png", "two.png"))
    width = one.shape[1]
    assert one.shape[0] == 2 * (2 * 34 + 2) and two.shape[:2] == (one.shape[0], 2 * width + 24)
    assert (two[:, :width] == one).all() and (two[:, -width:] == one).all() and (two[:, width:-width] == 255).all()
    assert (one[::2] == one[1::2]).all()  # a pixel is a square


def test_grids_have_names_of_their_own(run, other, call):
    for arguments in (["--count", 4], ["--count", 9], ["--count", 4, "--seed", 1], ["--count", 4, "--checkpoint", 2]):
        assert call("sample", run, *arguments)[0] == 0
    assert call("sample", run, other, "--count", 4)[0] == 0
    assert call("sample", run, "--count", 4, "--scale", 2)[0] == 0
    found = {file.name for file in run.glob("samples/*seed*.png")}
    rests = {4: ("0_4", "0_9", "1_4", "0_4_other", "0_4_x2"), 2: ("0_4",)}
    steps = {f"step_0000000{step}_seed_{rest}.png" for step, found_of in rests.items() for rest in found_of}
    assert found == steps


def test_runs_of_other_latents_and_single_images_of_two_runs_are_refused(run, other, call, tmp_path):
    status, _, _ = call("sample", run, other, "--images", tmp_path / "two.zip")
    assert status == 2 and not (tmp_path / "two.zip").exists()


@pytest.mark.parametrize(("width", "scale"), [(274, 3), (530, 2), (1042, 1), (5000, 1), (32, 25)])
def test_a_grid_is_about_800_pixels_wide_or_as_wide_as_it_is(width, scale):
    assert visible_scale(width) == scale
