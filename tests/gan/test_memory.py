"""Gradient accumulation and activation checkpointing: less memory, the same training."""

import copy

import pytest
import torch
from torch import nn

from gan.models.build import resolve
from gan.models.recompute import recomputed, segments
from gan.processes import Processes
from gan.settings import ConfigError
from gan.state import Batches, State
from gan.step import Step
from gan.timing import peak_memory
from gan.training import train
from tests.fixtures import DEVICE, TINY
from tests.helpers import assert_same, final_state

DCGAN_SN = ["discriminator.norm=spectral", "objective.loss=hinge", "objective.r1=1"]


@pytest.mark.parametrize("overrides", [*([f] for f in TINY), ["dcgan", *DCGAN_SN], ["sngan", "generator.norm=none"]], ids=" ".join)
def test_activation_checkpointing_trains_to_the_same_bits(tiny, tmp_path, overrides):
    for name, option in (("with", "true"), ("without", "false")):
        config = tiny(*overrides, "train.steps=3", f"train.activation_checkpointing={option}", "train.deterministic=true")
        train(config, tmp_path / name, progress=False)
    states = [final_state(tmp_path / name) for name in ("with", "without")]
    for state in states:
        state.pop("settings")  # which say what differs
    assert_same(*states)


def test_activation_checkpointing_keeps_the_statistics_of_synchronised_batch_norm_too():
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4))
    plain = nn.SyncBatchNorm.convert_sync_batchnorm(layers)  # by itself, it is as good as the other
    again, x = copy.deepcopy(plain), torch.randn(2, 3, 8, 8)
    plain(x).square().mean().backward()
    recomputed(again, x).square().mean().backward()
    assert_same(plain.state_dict(), again.state_dict())


def step_of(config):
    config = resolve(config)
    processes = Processes.start(config.train.device)
    state = State(config, processes)
    return Step(config, processes, state, Batches(config, processes)), state


def test_activation_checkpointing_and_accumulation_each_save_memory(tiny):
    # On a GPU cuBLAS and cuDNN hold some tens of MiB of their own, beside which a small network's activations are nothing.
    wide = [f"{net}.width={16 if DEVICE == 'cpu' else 128}" for net in ("generator", "discriminator")] + ["train.batch_size=48"]

    def peak(*overrides):
        step, _ = step_of(tiny("sngan", *wide, *overrides))
        step()
        return peak_memory(step, str(step.processes.device))

    plain = peak()
    assert peak("train.activation_checkpointing=true") < 0.75 * plain
    assert peak("train.gradient_accumulation=4") < 0.4 * plain
    assert peak("train.gradient_accumulation=4", "train.activation_checkpointing=true") < 0.3 * plain


@pytest.mark.parametrize("loss", ["wasserstein", "hinge", "non_saturating"])
def test_accumulated_updates_are_those_of_the_whole_batch(tiny, loss):
    without_norms = ["generator.norm=none", "discriminator.norm=none", f"objective.loss={loss}", "objective.r1=0.5"]
    found = {}
    for parts in (1, 2, 8):
        step, state = step_of(tiny("wgan_gp", *without_norms, f"train.gradient_accumulation={parts}"))
        values = [step() for _ in range(2)]
        found[parts] = [*values, *state.generator.parameters(), *state.discriminator.parameters()]
    for parts in (2, 8):
        for a, b in zip(found[1], found[parts]):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=2e-6)


def test_parts_must_be_equal(tiny, tmp_path):
    with pytest.raises(ConfigError, match="8 images per process can't be worked through in 3 equal parts"):
        train(tiny("dcgan", "train.gradient_accumulation=3"), tmp_path / "run", progress=False)


def test_checkpointing_is_refused_with_compile(tiny):
    with pytest.raises(ConfigError, match="choose one of them"):
        tiny("dcgan", "train.compile=true", "train.activation_checkpointing=true")


def test_every_segment_begins_with_its_convolution():
    conv = lambda: torch.nn.Conv2d(1, 1, 1)
    network = torch.nn.Sequential(torch.nn.ReLU(), conv(), torch.nn.ReLU(), conv(), torch.nn.ReLU(), torch.nn.Tanh())
    found = [[type(m).__name__ for m in part] for part in segments(network)]
    assert found == [["ReLU", "Conv2d", "ReLU"], ["Conv2d", "ReLU", "Tanh"]]
