"""Self-attention at one resolution and spectral norm in the generator, as SAGAN has them."""

import math
from itertools import product

import pytest
import torch
from torch import nn

from gan.config import Config
from gan.models.attention import SelfAttention
from gan.models.build import build, resolve
from gan.models.layers import SpectralNorm, spectral_norms
from gan.probe import probe
from gan.probe.inputs import untrained
from gan.processes import Processes
from gan.settings import ConfigError
from gan.state import Batches, State
from gan.step import Step
from gan.training import train
from metrics.instruments.shift import flat_twin, layer_drift
from tests.helpers import assert_same, final_state

ALONE = Processes(0, 1, torch.device("cpu"))
SMALL = ["generator.width=8", "discriminator.width=8", "generator.latent=8"]
FAMILIES = ("dcgan", "cnn", "sngan", "wgan_gp", "landscape", "r3")
BOTH = ["generator.attention=16", "discriminator.attention=16"]


def networks(family, *overrides):
    return build(resolve(Config.load(None, [f"generator.family={family}", *SMALL, *overrides])))


def attention_of(network):
    (found,) = [m for m in network.modules() if isinstance(m, SelfAttention)]
    return found


def test_every_position_adds_the_values_that_it_attends_to():
    torch.manual_seed(0)
    layer, x = SelfAttention(16).double(), torch.randn(2, 16, 2, 3, dtype=torch.float64)
    layer.gamma.data.fill_(0.7)
    f, g, h, v = (m.weight[:, :, 0, 0].detach() for m in (layer.key, layer.query, layer.value, layer.out))
    places = list(product(range(2), range(3)))
    y = layer(x)
    for n, place in product(range(2), places):
        scores = [(f @ x[n, :, *other]) @ (g @ x[n, :, *place]) for other in places]
        beta = [math.exp(s) / sum(math.exp(t) for t in scores) for s in scores]
        o = v @ sum(b * (h @ x[n, :, *other]) for b, other in zip(beta, places))
        torch.testing.assert_close(y[n, :, *place], 0.7 * o + x[n, :, *place])


@pytest.mark.parametrize("family", FAMILIES)
def test_networks_begin_as_they_are_without_and_attend_at_the_resolution_asked_for(family):
    G, D = networks(family, *BOTH)
    plain_G, plain_D = networks(family)
    z, x = torch.randn(2, 8), torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(G(z), plain_G(z))
    torch.testing.assert_close(D.eval()(x), plain_D.eval()(x))
    for network, given in ((G.eval(), z), (D, x)):
        layer, before = attention_of(network), network(given)
        seen = []
        layer.register_forward_hook(lambda module, inputs, output, seen=seen: seen.append(output.shape[-2:]))
        layer.gamma.data.fill_(3.0)
        if family == "r3":  # whose blocks add nothing yet
            nn.init.normal_(layer.value.weight)
        assert not torch.equal(network(given), before) and seen == [(16, 16)]


def test_a_resolution_that_no_layer_works_on_is_answered_with_those_there_are():
    with pytest.raises(ConfigError, match=r"^generator\.attention=20: its layers work on maps of 8, 16, 32 pixels; choose one"):
        networks("sngan", "generator.attention=20")
    with pytest.raises(ConfigError, match=r"^discriminator\.attention=4: its layers work on maps of 8, 16 pixels"):
        networks("sngan", "discriminator.attention=4")


def test_attention_of_a_spectral_discriminator_is_spectral_too():
    _, D = networks("sngan", *BOTH)
    assert sum(isinstance(m, SpectralNorm) for m in attention_of(D).modules()) == 4


def test_attention_has_no_part_in_the_drift_by_padding_alone():
    G, plain = (networks("sngan", "generator.kernel=c2", *option)[0] for option in (["generator.attention=16"], []))
    attention_of(G).gamma.data.fill_(5.0)
    maps = torch.rand(1, *G.seed)
    torch.testing.assert_close(flat_twin(G.trunk)(maps), flat_twin(plain.trunk)(maps))


@pytest.mark.parametrize("family", ["dcgan", "sngan"])
def test_every_layer_of_a_spectral_generator_has_norm_one(family):
    G, _ = networks(family, "generator.spectral_norm=true", "generator.attention=16")
    layers = [m for m in G.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d | nn.Linear)]
    assert len(spectral_norms(G)) == len(layers)
    for layer in layers:
        matrix = layer.weight.transpose(0, 1) if isinstance(layer, nn.ConvTranspose2d) else layer.weight
        assert torch.linalg.matrix_norm(matrix.flatten(1), 2).item() == pytest.approx(1, abs=0.1)


def test_layers_of_zeros_have_no_spectral_norm():
    with pytest.raises(ConfigError, match=r"generator\.spectral_norm: layers of family r3 begin with zeros"):
        networks("r3", "generator.spectral_norm=true")


def test_the_average_of_a_spectral_generator_keeps_norm_one(tiny):
    options = ["generator.spectral_norm=true", "train.lr_g=0.02", "train.ema_decay=0.8", "train.device=cpu"]
    config = resolve(tiny("dcgan", *options))
    state = State(config, ALONE)
    step = Step(config, ALONE, state, Batches(config, ALONE))
    for _ in range(12):
        step()
    for layer in state.ema.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            matrix = layer.weight.transpose(0, 1) if isinstance(layer, nn.ConvTranspose2d) else layer.weight
            assert torch.linalg.matrix_norm(matrix.flatten(1), 2).item() == pytest.approx(1, abs=0.15)


def test_a_run_with_both_that_was_stopped_ends_with_the_same_bits(tiny, tmp_path):
    options = [*BOTH, "generator.spectral_norm=true", "generator.conditional=false", "train.checkpoint_every=2", "train.device=cpu"]
    train(tiny("dcgan", "train.steps=4", *options), tmp_path / "whole", progress=False)
    for steps in (2, 4):
        train(tiny("dcgan", f"train.steps={steps}", *options), tmp_path / "parts", progress=False)
    assert_same(final_state(tmp_path / "whole"), final_state(tmp_path / "parts"))


def test_instruments_leave_a_spectral_generator_as_it_is():
    G, _ = networks("dcgan", "generator.spectral_norm=true")
    layer, z = G.eval().trunk[2], torch.randn(2, 8)
    before = G(z)
    twin = flat_twin(G.trunk)
    layer_drift(layer)
    assert torch.equal(G(z), before) and type(twin[2]) is not type(layer) and len(spectral_norms(twin)) == 0


def test_instruments_measure_networks_with_both(tiny):
    config = resolve(tiny("dcgan", *BOTH, "generator.spectral_norm=true"))
    G, _ = untrained(config, 0)
    with torch.no_grad():
        before_tanh = G.trunk[:-1](G.seed_maps(torch.randn(32, 8)))
    assert before_tanh.std() == pytest.approx(0.5, rel=0.3)
    card = probe(config, samples=16)["card"]
    assert (card["attention"], card["spectral_norm"]) == (16, True)
