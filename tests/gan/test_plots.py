"""Figures: names with dollars in them, files whole or not at all, nothing left open."""

import os

import pytest
import torch
from PIL import Image

from gan.classification.figures import plot_confusion
from gan.plots import logarithmic, panels, plot_curves, plot_runs, plot_scores

pytestmark = pytest.mark.rendered
RECORDS = [{"step": step, **dict.fromkeys(("d_loss", "g_loss", "d_real", "d_fake", "penalty"), 0.5)} for step in (1, 2)]


def test_dollars_and_braces_in_a_name_are_letters(tmp_path):
    names = ("US$1_a^{$", "$\\frac$", "c")
    plot_confusion(torch.eye(3, dtype=torch.int64), names, tmp_path / "confusion.png")
    plot_scores({1: {"fd_$x_$": 1.0}, 2: {"fd_$x_$": 2.0}}, tmp_path / "scores.png")
    for file in tmp_path.iterdir():
        with Image.open(file) as picture:
            assert min(picture.size) > 100


def test_a_name_with_an_underscore_before_it_stands_in_the_legend_too(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr("gan.plots.save_figure", lambda figure, path: drawn.append(figure))
    plot_runs({"_a": RECORDS, "b\x1b": RECORDS, "$c$": []}, tmp_path / "runs.png")
    (legend,) = drawn[0].legends
    assert [text.get_text() for text in legend.get_texts()] == ["_a", "b\\x1b", "$c$"]


def test_scores_of_a_thousand_classes_are_drawn_as_their_mean(tmp_path):
    classes = {f"fd_f_intra:{i}": 1.0 for i in range(1000)}
    plot_scores({step: {"fd_f": 1.0, "fd_f_intra": 2.0, **classes} for step in (1, 2)}, tmp_path / "scores.png")
    plot_scores({step: {str(i): 1.0 for i in range(5)} for step in (1, 2)}, tmp_path / "five.png")
    sizes = [Image.open(tmp_path / name).size for name in ("scores.png", "five.png")]
    assert sizes == [(1280, 480), (1280, 1440)]


def test_a_full_disk_leaves_the_picture_that_was_there(tmp_path, monkeypatch):
    plot_curves(RECORDS, tmp_path / "curves.png")
    before = (tmp_path / "curves.png").read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        plot_curves(RECORDS[:1], tmp_path / "curves.png")
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {"curves.png": before}


def test_a_log_without_losses_draws_nothing(tmp_path):
    plot_curves([{"step": 1, "fd_f": 2.0}], tmp_path / "curves.png")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("low", "high"), [(2.31, 2.36), (178.4, 182), (219, 221), (18, 39), (1, 9), (1e-3, 1e4), (1e-30, 1e4)])
def test_a_logarithmic_axis_has_a_few_numbers_whatever_it_shows(low, high):
    _, (axis,) = panels(1)
    axis.set_ylim(low, high)
    logarithmic(axis)
    shown = [tick for tick in axis.get_yticks() if low <= tick <= high]
    assert 3 <= len(shown) <= 12 and axis.get_ylim() == (low, high)


def test_drawing_leaves_a_users_own_figures_and_settings_alone(tmp_path):
    import matplotlib
    from matplotlib import pyplot

    before, backend, numbers = dict(matplotlib.rcParams), matplotlib.get_backend(), pyplot.get_fignums()
    plot_curves(RECORDS, tmp_path / "curves.png")
    ours = (tmp_path / "curves.png").read_bytes()
    panels(2)
    with matplotlib.style.context(["dark_background", {"savefig.bbox": "tight", "lines.linewidth": 5}]):
        plot_curves(RECORDS, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes() == ours
    assert dict(matplotlib.rcParams) == before and matplotlib.get_backend() == backend and pyplot.get_fignums() == numbers
