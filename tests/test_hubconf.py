"""torch.hub finds the layers, `convert` and the generators in this repository."""

import runpy

import pytest
import torch

import gan
from gan import zoo
from gan.kernels import SymmetricConv2d
from tests.helpers import ROOT


def load(name, *arguments, **options):
    return torch.hub.load(str(ROOT), name, *arguments, source="local", **options)


def test_the_layers_are_found():
    assert type(load("symmetric_conv2d", 8, 4, kernel_size=2, bias=False)) is SymmetricConv2d
    model = load("convert", torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, padding=1)), "c2sp")
    assert type(model[0]) is SymmetricConv2d and model[0].kernel_size == (2, 2)


def test_every_generator_of_the_zoo_is_found():
    found = runpy.run_path(str(ROOT / "hubconf.py"))  # torch.hub.list takes no local folder
    listed = [name for name, entry in found.items() if callable(entry) and not name.startswith("_")]
    assert {"symmetric_conv2d", "convert", "generator"} <= set(listed)
    for name in zoo.names():
        entry = name.replace("-", "_")
        assert entry in listed
        found = load(entry, device="cpu")
        assert torch.equal(found.sample(2, seed=1), gan.load(f"zoo:{name}", device="cpu").sample(2, seed=1))
        assert load("generator", name, device="cpu").step == zoo.card(name).steps


def test_a_generator_that_is_not_there_is_said():
    with pytest.raises(gan.UserError, match="the zoo has no generator 'nobody'"):
        load("generator", "nobody")
