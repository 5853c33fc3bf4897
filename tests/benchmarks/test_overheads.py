"""The overheads benchmark: memory that autograd keeps, counted by hand; a whole small run."""

import sys
import weakref

import pytest
import torch
from torch import nn

from tests.helpers import ROOT


@pytest.fixture
def overheads(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import overheads

    monkeypatch.setattr(overheads, "keep_freed_memory", lambda: None)  # for good, in this process

    yield overheads
    for name in ("overheads", "common"):
        sys.modules.pop(name, None)


def test_saved_activations_are_counted_once_and_without_weights(overheads):
    model = nn.Sequential(nn.Linear(8, 16, bias=False), nn.Tanh(), nn.Tanh())
    x = torch.randn(10, 8)
    # x for the first weight's gradient, and the output of each tanh; the hidden layer's output is kept by nobody
    assert overheads.saved_activations(model, lambda: model(x).sum()) == 4 * (10 * 8 + 2 * 10 * 16)

    class Twice(nn.Module):
        def forward(self, x):
            y = x.tanh()
            return y.T @ y  # y: kept by tanh and twice by the product, in one storage

    assert overheads.saved_activations(Twice(), lambda: Twice()(x.requires_grad_()).sum()) == 4 * 10 * 8


def test_counting_leaves_nothing_behind(overheads):
    seen = []

    def forward():
        y = torch.randn(10, requires_grad=True).exp()  # exp keeps its own output
        seen.append(weakref.ref(y))
        return y.sum()

    assert overheads.saved_activations(nn.Identity(), forward) == 4 * 10
    assert seen[0]() is None


def test_compact_blocks_match_the_cost_of_c2sp(overheads, monkeypatch):
    wanted = ("c2sp", "shift", "inverted bottleneck", "depthwise-separable")
    monkeypatch.setattr(overheads, "VARIANTS", {name: overheads.VARIANTS[name] for name in wanted})
    found = overheads.measure(depth=20, width=16, batch=2, device="cpu", precision="fp32", rounds=1)
    reference = found["c2sp"]
    for name in wanted[1:]:
        assert 0.8 < found[name]["parameters"] / reference["parameters"] < 1.35
        assert 0.8 < found[name]["macs"] / reference["macs"] < 1.35
        assert found[name]["activations"] > 1.5 * reference["activations"]
    assert all(row["peak"] > 0.9 * row["activations"] and row["seconds"] > 0 for row in found.values())


def test_it_prints_a_table_and_draws(overheads, monkeypatch, tmp_path, capsys):
    command = [
        "overheads.py",
        "--depths",
        "8",
        "--width",
        "8",
        "--batch",
        "2",
        "--rounds",
        "1",
        "--chart",
        str(tmp_path / "chart.png"),
    ]
    monkeypatch.setattr(sys, "argv", command)
    overheads.main()
    out = capsys.readouterr().out
    assert "ResNet-8, width 8, batch 2" in out and "depthwise-separable" in out and "c2sp takes" in out and "c2sp / c3" in out
    assert (tmp_path / "chart.png").stat().st_size > 10_000
