"""Figures: names with dollars in them, files whole or not at all, nothing left open."""

import os

import pytest
import torch
from PIL import Image

from gan.classification.figures import plot_confusion
from gan.plots import figure_bytes, plot_curves, plot_scores, pyplot

RECORDS = [{"step": step, **dict.fromkeys(("d_loss", "g_loss", "d_real", "d_fake", "penalty"), 0.5)} for step in (1, 2)]


def test_dollars_and_braces_in_a_name_are_letters(tmp_path):
    names = ("US$1_a^{$", "$\\frac$", "c")
    plot_confusion(torch.eye(3, dtype=torch.int64), names, tmp_path / "confusion.png")
    plot_scores({1: {"fd_$x_$": 1.0}, 2: {"fd_$x_$": 2.0}}, tmp_path / "scores.png")
    for file in tmp_path.iterdir():
        with Image.open(file) as picture:
            assert min(picture.size) > 100


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


def test_a_saved_figure_is_closed_and_one_made_bytes_of_is_not(tmp_path):
    plt = pyplot()
    plt.close("all")
    plot_curves(RECORDS, tmp_path / "curves.png")
    assert plt.get_fignums() == []
    figure = plt.figure()
    assert figure_bytes(figure, "png")[:4] == figure_bytes(figure, "png")[:4] == b"\x89PNG" and plt.get_fignums() == [figure.number]
    plt.close(figure)
