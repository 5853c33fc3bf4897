"""gan.models.r3: published sizes, what the networks compute against loops, the resampler, the initial weights, and refusals."""

import math

import pytest
import torch
from torch import nn

from data.files import UserError
from gan.config import Config
from gan.kernels import SameConv2d, SymmetricConv2d
from gan.models.binomial import BinomialDown, BinomialUp
from gan.models.build import build, build_discriminator, build_generator, resolve
from gan.models.counting import parameter_count
from gan.models.families import Layers
from gan.models.r3 import Block, Style
from gan.models.upsampling import FILLERS, UPSAMPLINGS, filler
from gan.padding import extend
from gan.probe import probe
from tests.reference import naive_resampling

FAMILIES = ["r3", "r3_grouped"]


def settings(family, *overrides):
    return resolve(Config.load(None, [f"generator.family={family}", *overrides]))


def narrow(family, *overrides):
    return settings(family, "generator.width=8", "discriminator.width=8", "generator.latent=8", *overrides)


# --- sizes -------------------------------------------------------------------------------------------------------------------


def test_the_published_networks_have_their_parameters():
    """Counted by hand from the CIFAR-10 preset: eight blocks at 768 of 1536 inside, 96 groups; 20.8 M with class labels."""
    block = 2 * 768 * 1536 + 1536 * 16 * 9 + 2 * 1536
    with torch.device("meta"):
        config = settings("r3_grouped", "generator.latent=64")
        G, D = build_generator(config), build_discriminator(config)
    assert parameter_count(G) == 8 * block + 768 * 16 + 64 * 768 + 768 * 3
    assert parameter_count(D) == 8 * block + 3 * 768 + 768 * 16 + 768
    assert parameter_count(G) + 64 * 768 + 10 * 64 == pytest.approx(20.8e6, rel=2e-3)


def test_a_kernel_has_most_parameters_of_the_dense_networks_and_few_of_the_grouped():
    def share(family):
        with torch.device("meta"):
            G = build_generator(settings(family))
        spatial = [m for m in G.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
        assert len(spatial) == 8
        return sum(m.weight.numel() for m in spatial) / parameter_count(G)

    assert share("r3") == pytest.approx(9 / 11, abs=0.01)
    assert share("r3_grouped") == pytest.approx(0.085, abs=0.002)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("resolution", "widths"),
    [(24, [16] * 3), (32, [16] * 4), (64, [16] * 4 + [8]), (96, [16] * 4 + [8]), (128, [32] * 4 + [16, 8])],
)
def test_shapes_and_widths(family, resolution, widths):
    """Full width in the first four stages, half of it at each doubling after that, as in the presets for FFHQ."""
    options = [f"generator.width={widths[0]}", f"discriminator.width={widths[0]}", "generator.latent=8"]
    G, D = build(settings(family, f"dataset.resolution={resolution}", *options))
    images = G(torch.randn(2, 8))
    assert images.shape == (2, 3, resolution, resolution) and D(images).shape == (2,)
    blocks = lambda network: [m.residual[4].out_channels for m in network.modules() if isinstance(m, Block)]
    assert blocks(G) == blocks(D)[::-1] == [w for w in widths for _ in range(2)]


def test_groups_are_whole_at_every_width():
    for width in (4, 9, 24, 48):
        G = build_generator(narrow("r3_grouped", f"generator.width={width}", "generator.width_rule=paper", "generator.kernel=c2sp"))
        groups = [(m.in_channels, m.groups) for m in G.modules() if isinstance(m, SymmetricConv2d)]
        assert len(groups) == 8 and all(channels == 16 * count for channels, count in groups)


def count(config):
    with torch.device("meta"):
        return parameter_count(build_generator(config))


@pytest.mark.parametrize("family", FAMILIES)
def test_equal_parameters_are_nearly_equal(family):
    equal, c3 = (
        count(settings(family, *more))
        for more in (["generator.kernel=c4sp", "generator.width_rule=equal_parameters"], ["generator.kernel=c3"])
    )
    assert equal == pytest.approx(c3, rel=0.03)


# --- what they compute -------------------------------------------------------------------------------------------------------


def test_resampling_equals_loops_with_both_derivatives():
    torch.manual_seed(0)
    x = torch.randn(2, 3, 4, 6, dtype=torch.float64, requires_grad=True)
    for ours, loops in ((BinomialUp(), naive_resampling.up), (BinomialDown(), naive_resampling.down)):
        y = ours.double()(x)
        torch.testing.assert_close(y, loops(x))
        seed = torch.randn_like(y)
        first = [torch.autograd.grad((z * seed).sin().sum(), x, create_graph=True)[0] for z in (y, loops(x))]
        torch.testing.assert_close(*first)
        torch.testing.assert_close(*(torch.autograd.grad(g.square().sum(), x, retain_graph=True)[0] for g in first))


def test_resampling_keeps_a_ramp_where_it_is():
    """Centred: a picture of its own coordinates, half-pixel grid, stays one, away from the border."""
    ramp = (torch.arange(8.0) + 0.5).expand(1, 1, 8, 8)
    assert torch.allclose(BinomialUp()(ramp)[0, 0, 8, 2:-2], (torch.arange(2.0, 14) + 0.5) / 2)
    assert torch.allclose(BinomialDown()(ramp)[0, 0, 2, 1:-1], 2 * (torch.arange(1.0, 3) + 0.5))


@pytest.mark.parametrize("padding", ["reflect", "replicate", "circular"])
def test_resampling_goes_on_beyond_the_border_as_it_is_told(padding):
    """The same as of a larger map that goes on so, away from whose border zeros don't show."""
    x = torch.randn(2, 3, 8, 6, dtype=torch.float64)
    around = extend(x, (2, 2, 2, 2), padding)
    torch.testing.assert_close(BinomialUp(padding).double()(x), BinomialUp().double()(around)[..., 4:-4, 4:-4])
    torch.testing.assert_close(BinomialDown(padding).double()(x), BinomialDown().double()(around)[..., 1:-1, 1:-1])
    larger = nn.functional.interpolate(around, scale_factor=2, mode="bilinear")[..., 4:-4, 4:-4]
    torch.testing.assert_close(filler("bilinear", padding)(x), larger)


def test_both_networks_pad_as_they_are_told():
    G, D = build(narrow("r3", "generator.padding=circular", "discriminator.padding=reflect"))
    seed = torch.randn(1, *G.seed)
    torch.testing.assert_close(G.trunk(seed.roll(1, 3)), G.trunk(seed).roll(32 // G.seed[-1], 3), rtol=1e-4, atol=1e-4)
    assert {m.padding_mode for m in D.modules() if isinstance(m, SameConv2d | BinomialDown)} == {"reflect"}


def test_resampling_has_no_parameters_and_is_in_no_checkpoint():
    for module in (BinomialUp(), BinomialDown()):
        assert not list(module.parameters()) and not module.state_dict()


@pytest.mark.parametrize(("family", "kernel"), [("r3", "c2sp"), ("r3_grouped", "c4sp")])
def test_the_networks_are_the_published_sums(family, kernel):
    """Both networks written out from their weights, after the zeros of their last layers are replaced."""
    torch.manual_seed(0)
    config = narrow(family, f"generator.kernel={kernel}", f"discriminator.kernel={kernel}")
    G, D = (net.double() for net in build(config))
    for net in (G, D):
        for p in net.parameters():
            nn.init.normal_(p, std=0.3)

    def block(m, x):
        first, _, spatial, _, last = m.residual
        y = torch.nn.functional.conv2d(x, first.weight, first.bias)
        y = spatial(torch.where(y > 0, y, 0.2 * y))
        return x + torch.einsum("nchw,oc->nohw", torch.where(y > 0, y, 0.2 * y), last.weight[:, :, 0, 0])

    z = torch.randn(2, 8, dtype=torch.float64)
    x = torch.einsum("nl,cl,chw->nchw", z, G.project.linear.weight, G.project.maps)
    blocks = iter([m for m in G.modules() if isinstance(m, Block)])
    for stage in range(4):
        x = naive_resampling.up(x) if stage else x
        for m in (next(blocks), next(blocks)):
            x = block(m, x)
    images = torch.einsum("nchw,oc->nohw", x, G.trunk[-1].weight[:, :, 0, 0])
    torch.testing.assert_close(G(z), images)

    x = torch.einsum("nchw,oc->nohw", images, D.features[0].weight[:, :, 0, 0])
    blocks = iter([m for m in D.modules() if isinstance(m, Block)])
    for stage in range(4):
        x = naive_resampling.down(x) if stage else x
        for m in (next(blocks), next(blocks)):
            x = block(m, x)
    logits = torch.einsum("nchw,chw,c->n", x, D.basis.weight[:, 0], D.head.weight[0])
    torch.testing.assert_close(D(images), logits)


def test_initial_weights_have_their_spread_and_the_last_layers_are_zero():
    torch.manual_seed(0)
    block = Block(64, Layers("c3", 64, "none"), Style(expansion=2, group=16), depth=8)
    first, _, spatial, _, last = block.residual
    gain = math.sqrt(2 / 1.04) * 8**-0.25
    assert first.weight.std().item() == pytest.approx(gain / math.sqrt(64), rel=0.05)
    assert spatial.weight.std().item() == pytest.approx(gain / math.sqrt(16 * 9), rel=0.05)
    assert not last.weight.any() and not first.bias.any() and not spatial.bias.any()
    x = torch.randn(1, 64, 4, 4)
    assert torch.equal(block(x), x)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_weight_learns_after_a_step(family):
    """Where the last layers are zero the first gradient reaches them alone; from then on all."""
    G, D = build(narrow(family))
    optimizers = [torch.optim.SGD(net.parameters(), 0.1) for net in (G, D)]
    for _ in range(2):
        for net in (G, D):
            net.zero_grad()
        D(G(torch.randn(4, 8))).mean().backward()
        for optimizer in optimizers:
            optimizer.step()
    assert all(p.grad.abs().sum() > 0 for net in (G, D) for p in net.parameters())


# --- refusals and instruments ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("upsampling", UPSAMPLINGS)
def test_maps_are_doubled_by_what_has_no_weights(upsampling):
    config = narrow("r3", f"generator.upsampling={upsampling}")
    if upsampling in FILLERS:
        assert build_generator(config)(torch.zeros(1, 8)).shape == (1, 3, 32, 32)
    else:
        with pytest.raises(UserError, match="choose one of nearest, bilinear, unpool, binomial"):
            build_generator(config)


@pytest.mark.parametrize("setting", ["generator.norm=batch", "discriminator.norm=spectral"])
def test_a_norm_is_refused(setting):
    with pytest.raises(UserError, match=r"the r3 networks have no norm: leave '(batch|spectral)' out"):
        build(narrow("r3", setting))


@pytest.mark.parametrize("family", FAMILIES)
def test_instruments_measure_them(family):
    record = probe(narrow(family, "generator.kernel=c2sp"), samples=16)
    assert record["numbers"]["drift_px"] < 0.3
    assert len([row for row in record["layers"] if "symmetric 2x2" in row["layer"]]) == 8
