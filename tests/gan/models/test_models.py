"""gan.models: published sizes, every kernel x upsampling x resolution, width rules, spectral norm, and what the table prints."""

from dataclasses import replace

import pytest
import torch
from rich.console import Console
from torch import nn
from torch.nn.utils import parametrizations

from gan.config import Config
from gan.kernels import KERNELS, SymmetricConv2d
from gan.models import families, summary
from gan.models.build import _check_padding, build, build_discriminator, build_generator, resolve
from gan.models.counting import parameter_count
from gan.models.layers import SpectralNorm, add_spectral_norm
from gan.models.upsampling import UPSAMPLINGS, Unpool, upsample_conv
from gan.padding import PADDINGS
from gan.settings import ConfigError
from metrics.instruments.shift import flat_twin, network_drift

FAMILIES = ["dcgan", "cnn", "sngan", "wgan_gp", "landscape"]


def settings(family, resolution=32, *overrides):
    return resolve(Config.load(None, [f"generator.family={family}", f"dataset.resolution={resolution}", *overrides]))


def counts(config):
    with torch.device("meta"):
        return parameter_count(build_generator(config)), parameter_count(build_discriminator(config))


@pytest.mark.parametrize(
    ("family", "resolution", "generator", "discriminator"),
    [
        ("sngan", 32, 4_276_739, 1_053_824 + 1),  # + 1: the final bias
        ("cnn", 32, 3_812_355, 5_860_865),  # 3.81 M and 5.86 M
        ("landscape", 32, 5_849_603, 1_483_137),  # resnet_cifar: 5.85 M and 1.48 M
        ("landscape", 128, 13_786_115, 15_086_529),  # resnet5: 13.79 M and 15.09 M
    ],
)
def test_published_parameter_counts(family, resolution, generator, discriminator):
    assert counts(settings(family, resolution)) == (generator, discriminator)


@pytest.mark.parametrize("resolution", [32, 64, 128])
@pytest.mark.parametrize("family", FAMILIES)
def test_shapes_and_range(family, resolution):
    config = settings(family, resolution, "generator.width=4", "discriminator.width=4", "generator.latent=16")
    G, D = build(config)
    images = G(torch.randn(2, 16))
    assert images.shape == (2, 3, resolution, resolution)
    assert images.min() >= -1 and images.max() <= 1
    assert D(images).shape == (2,)


@pytest.mark.parametrize("upsampling", UPSAMPLINGS)
@pytest.mark.parametrize("kernel", KERNELS)
def test_every_kernel_goes_with_every_upsampling(kernel, upsampling):
    layer = upsample_conv(upsampling, kernel, 5, 6)
    assert layer(torch.randn(2, 5, 4, 6)).shape == (2, 6, 8, 12)


@pytest.mark.parametrize("upsampling", UPSAMPLINGS)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_takes_every_upsampling_and_learns_through_it(family, upsampling):
    config = settings(family, 32, f"generator.upsampling={upsampling}", "generator.kernel=c2sp", "generator.width=4")
    G, _ = build(config)
    G(torch.randn(2, 128)).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in G.parameters())
    assert any(isinstance(layer, SymmetricConv2d) for layer in G.modules()) or upsampling == "transposed"


def test_unpool_puts_values_at_the_top_left():
    x = torch.arange(1.0, 5).view(1, 1, 2, 2)
    assert Unpool()(x).tolist() == [[[[1, 0, 2, 0], [0, 0, 0, 0], [3, 0, 4, 0], [0, 0, 0, 0]]]]


def test_the_generators_kernel_leaves_the_discriminator_alone():
    for family in FAMILIES:
        plain, even = (settings(family, 32, f"generator.kernel={k}") for k in ("c3", "c2sp"))
        assert counts(plain)[1] == counts(even)[1]
        assert plain.discriminator == even.discriminator


@pytest.mark.parametrize("family", ["sngan", "landscape"])
def test_every_spatial_layer_takes_the_kernel(family):
    """In the residual families, the layer that paints and 3x3 shortcuts included; only 1x1 shortcuts stay."""
    G = build_generator(settings(family, 32, "generator.kernel=c4sp", "generator.width=8"))
    sizes = {layer.kernel_size for layer in G.modules() if isinstance(layer, nn.Conv2d)}
    assert sizes == ({(4, 4)} if family == "landscape" else {(4, 4), (1, 1)})


@pytest.mark.parametrize("kernel", ["c2", "c2sp", "c4", "c4sp", "c5"])
@pytest.mark.parametrize(
    ("family", "resolution"), [("sngan", 32), ("landscape", 32), ("landscape", 128), ("dcgan", 64), ("cnn", 32)]
)
def test_equal_parameters_are_equal_within_three_percent(family, resolution, kernel):
    equal = settings(family, resolution, f"generator.kernel={kernel}", "generator.width_rule=equal_parameters")
    c3 = settings(family, resolution, "generator.kernel=c3")
    assert counts(equal)[0] == pytest.approx(counts(c3)[0], rel=0.03)


@pytest.mark.parametrize("kernel", ["c2sp", "c3sp", "c4", "c5"])
@pytest.mark.parametrize(("family", "resolution"), [("sngan", 32), ("dcgan", 64)])
def test_equal_multiply_adds_are_equal_within_three_percent(family, resolution, kernel):
    equal = build_generator(settings(family, resolution, f"generator.kernel={kernel}", "generator.width_rule=equal_macs"))
    c3 = build_generator(settings(family, resolution, "generator.kernel=c3"))
    assert summary.macs(equal, 1, equal.latent) == pytest.approx(summary.macs(c3, 1, c3.latent), rel=0.03)


def test_equal_parameters_leave_the_c3_row_alone():
    for kernel in ("c3", "c3sp"):
        equal, same = (
            settings("dcgan", 32, f"generator.kernel={kernel}", "generator.width=23", f"generator.width_rule={r}")
            for r in ("equal_parameters", "same")
        )
        assert [p.shape for p in build_generator(equal).parameters()] == [p.shape for p in build_generator(same).parameters()]


@pytest.mark.parametrize(("kernel", "width"), [("c2sp", 384), ("c4sp", 192), ("c5", 152), ("c3", 256)])
def test_paper_rule_scales_width_by_three_over_k(kernel, width):
    G = build_generator(settings("landscape", 32, f"generator.kernel={kernel}", "generator.width_rule=paper"))
    assert G.seed[0] == width


def test_initial_weights_are_a_function_of_the_seed():
    a, b, c = (build(settings("sngan", 32, "generator.width=8", f"train.seed={s}"))[0].state_dict() for s in (0, 0, 1))
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert not torch.equal(a["project.weight"], c["project.weight"])


def test_same_discriminator_whatever_the_generator():
    a, b = (build(settings("sngan", 32, f"generator.kernel={k}", "generator.width=8"))[1].state_dict() for k in ("c3", "c4sp"))
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_shortcut_before_upsampling_equals_after():
    """The 1x1 convolution commutes with nearest and bilinear doubling, which is why it runs on the small map."""
    conv = nn.Conv2d(6, 4, 1)
    for mode in ("nearest", "bilinear"):
        up = nn.Upsample(scale_factor=2, mode=mode)
        x = torch.randn(2, 6, 5, 5)
        torch.testing.assert_close(up(conv(x)), conv(up(x)), rtol=1e-4, atol=1e-5)


# --- padding, flat layers, control kernels -------------------------------------------------------------------------------------


SMALL = ["generator.width=4", "discriminator.width=4", "generator.latent=8"]


@pytest.mark.parametrize("padding", PADDINGS[1:])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_spatial_layer_of_every_family_pads_as_it_is_told(family, padding):
    """With the initial weights that it has with zeros; and both networks learn."""
    told = [f"generator.padding={padding}", f"discriminator.padding={padding}", "generator.kernel=c2sp", *SMALL]
    G, D = build(settings(family, 32, *told))
    for network, zeros in zip((G, D), build(settings(family, 32, "generator.kernel=c2sp", *SMALL))):
        layers = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d) and m.kernel_size != (1, 1)]
        assert layers and {layer.padding_mode for layer in layers} == {padding}
        assert all(torch.equal(a, b) for a, b in zip(network.state_dict().values(), zeros.state_dict().values()))
    images = G(torch.randn(2, 8))
    assert images.shape == (2, 3, 32, 32) and D(images).shape == (2,)
    D(images).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in G.parameters())


@pytest.mark.parametrize("kernel", ["c2", "c3", "c4sp", "c3off"])
@pytest.mark.parametrize("upsampling", UPSAMPLINGS)
def test_with_circular_padding_a_generator_does_not_know_where_it_is(upsampling, kernel):
    """Its picture rolls with the seed map, which zeros at the borders forbid."""
    for family in ("dcgan", "landscape"):
        given = [f"generator.kernel={kernel}", f"generator.upsampling={upsampling}", *SMALL]
        zeros, circular = (
            build_generator(settings(family, 32, *given, f"generator.padding={p}")).trunk.eval() for p in ("zeros", "circular")
        )
        for layer in spatial(zeros) + spatial(circular):
            torch.manual_seed(layer.weight.numel())
            nn.init.kaiming_normal_(layer.weight)  # initial weights paint next to nothing
        seed = torch.randn(1, zeros[0].num_features if family == "dcgan" else 4, 4, 4)
        rolled = seed.roll((1, 2), (2, 3))
        torch.testing.assert_close(circular(rolled.clone()), circular(seed.clone()).roll((8, 16), (2, 3)), rtol=1e-3, atol=1e-4)
        if (upsampling, kernel) != ("transposed", "c2"):  # 2x2 at stride 2 has nothing to pad, but for landscape's flat layers
            assert (zeros(rolled.clone()) - zeros(seed.clone()).roll((8, 16), (2, 3))).abs().max() > 1e-3


def spatial(network):
    return [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d) and m.kernel_size != (1, 1)]


@pytest.mark.parametrize(("family", "maps"), [("dcgan", 3), ("cnn", 4), ("sngan", 4), ("wgan_gp", 4), ("landscape", 4)])
def test_flat_layers_stand_at_every_resolution_that_has_a_map(family, maps):
    """4 to 32 pixels; dcgan's last up-layer paints, so it has none at 32. In training and eval, with and without recomputing."""
    plain, flat = (
        build_generator(settings(family, 32, "generator.kernel=c2", f"generator.flat_layers={n}", *SMALL)) for n in (0, 2)
    )
    assert len(spatial(flat)) == len(spatial(plain)) + 2 * maps
    sizes = []
    for layer in spatial(flat):
        layer.register_forward_hook(lambda m, x, y: sizes.append(x[0].shape[-1] if x[0].shape == y.shape else None))
    z = torch.randn(2, 8)
    images = flat(z)
    assert images.shape == (2, 3, 32, 32)
    for size in (4, 8, 16, 32)[:maps]:
        assert sizes.count(size) >= 2
    images.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in flat.parameters())


@pytest.mark.parametrize("norm", ["batch", "none"])
def test_flat_layers_are_recomputed_alike(norm):
    G = build_generator(settings("sngan", 32, "generator.flat_layers=1", f"generator.norm={norm}", *SMALL))
    z, found = torch.randn(2, 8), []
    for G.recompute in (False, True):
        G.zero_grad()
        G(z).square().sum().backward()
        found.append([p.grad.clone() for p in G.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*found))


@pytest.mark.parametrize(
    ("kernel", "flat", "drift"),
    [("c2", 0, -3.5), ("c2", 1, -10.5), ("c2", 8, -59.5), ("c3", 1, 0), ("c2sp", 1, 0), ("c3off", 0, -7), ("c3off", 4, -63)],
)
def test_flat_layers_make_drift_a_setting(kernel, flat, drift):
    """Half a pixel at 4, 8 and 16 pixels is 4 + 2 + 1 pixels of 32, beside 2 + 1 + 0.5 of the layers behind a doubling."""
    told = [f"generator.kernel={kernel}", "generator.upsampling=nearest", f"generator.flat_layers={flat}"]
    trunk = flat_twin(build_generator(settings("dcgan", 32, *told, "generator.width=8", "generator.latent=8")).trunk)
    maps = torch.rand(4, trunk[0].num_features if hasattr(trunk[0], "num_features") else 32, 4, 4) + 1
    found = network_drift(trunk, maps, 64).drift
    assert (found.x, found.y) == (pytest.approx(drift, abs=0.5), pytest.approx(drift, abs=0.5))


def test_c2alt_turns_in_every_family_and_cancels_within_each_block():
    G, D = build(settings("landscape", 32, "generator.kernel=c2alt", "discriminator.kernel=c2alt", *SMALL))
    for network in (G, D):
        turns = [layer.turn for name, layer in network.named_modules() if hasattr(layer, "turn") and "shortcut" not in name]
        beside = [layer.turn for name, layer in network.named_modules() if hasattr(layer, "turn") and "shortcut" in name]
        assert turns == list(range(len(turns))) and beside == list(range(len(beside))) and len(turns) > len(beside) > 2
    blocks = [block.residual for block in G.trunk if hasattr(block, "residual")]
    for block in blocks:
        (first,), (second,) = ([corner for _, corner in layer.rule.groups] for layer in spatial(block))
        assert first == tuple(not side for side in second)


def test_a_family_of_ones_own_that_does_not_pad_or_add_layers_is_refused(monkeypatch):
    from gan.models import families

    class Mine(type(families.FAMILIES["sngan"])):
        flat_layers = False

        def generator(self, resolution, latent, layers):
            return super().generator(resolution, latent, replace(layers, padding="zeros"))

    mine = Mine(families.FAMILIES["sngan"].style, families.FAMILIES["sngan"].plan)
    monkeypatch.setitem(families.FAMILIES, "sngan", mine)
    build_generator(settings("sngan", 32, *SMALL))
    _check_padding(nn.Conv2d(3, 3, 4, padding="valid"), "reflect", "generator", "sngan")  # pads nothing
    with pytest.raises(
        ConfigError, match=r"generator\.padding=reflect: not all layers of family sngan pad so; build them with layers\.conv"
    ):
        build_generator(settings("sngan", 32, "generator.padding=reflect", *SMALL))
    with pytest.raises(ConfigError, match=r"generator\.flat_layers: family sngan adds no such layers; leave"):
        build_generator(settings("sngan", 32, "generator.flat_layers=1", *SMALL))


# --- spectral norm -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "layer", [nn.Conv2d(6, 5, 3), SymmetricConv2d(6, 5, 2), nn.ConvTranspose2d(6, 5, 4, 2, 1), nn.Linear(7, 3)]
)
def test_largest_singular_value_becomes_one(layer):
    torch.manual_seed(0)
    layer.reset_parameters()
    add_spectral_norm(layer)
    for _ in range(50):
        weight = layer.weight
    dim = 1 if isinstance(layer, nn.ConvTranspose2d) else 0
    assert torch.linalg.matrix_norm(weight.transpose(0, dim).flatten(1), 2).item() == pytest.approx(1, abs=1e-3)


def test_spectral_norm_agrees_with_torch():
    torch.manual_seed(0)
    ours, theirs = nn.Conv2d(6, 5, 3), nn.Conv2d(6, 5, 3)
    theirs.load_state_dict(ours.state_dict())
    add_spectral_norm(ours), parametrizations.spectral_norm(theirs)
    for _ in range(100):
        a, b = ours.weight, theirs.weight
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_two_forwards_before_one_backward():
    D = add_spectral_norm(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 1, 3)))
    real, fake = torch.randn(2, 3, 8, 8), torch.randn(2, 3, 8, 8)
    (D(real).mean() - D(fake).mean()).backward()
    D.eval()
    loss = D(real).mean()
    D.train()(fake)
    loss.backward()
    assert all(p.grad.isfinite().all() for p in D.parameters())


def test_spectral_norm_gradient_passes_through_sigma():
    """d(W / sigma) by finite differences, with the singular vectors held fixed as in the paper."""
    norm = SpectralNorm(torch.randn(3, 4, dtype=torch.float64)).double().eval()
    norm._matrix = lambda weight: weight  # keep float64
    weight = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(norm, weight)


def test_spectral_norm_stays_in_float32_under_autocast():
    layer = add_spectral_norm(nn.Conv2d(8, 8, 3))
    exact = layer.eval().weight
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer.weight, exact)


def test_eval_mode_leaves_the_vectors_alone():
    layer = add_spectral_norm(nn.Conv2d(8, 8, 3))
    before = layer.parametrizations.weight[0].u.clone()
    layer.eval()(torch.randn(1, 8, 5, 5))
    assert torch.equal(layer.parametrizations.weight[0].u, before)
    layer.weight.data  # noqa: B018
    layer.parametrizations.weight.original.data.mul_(torch.rand(8, 8, 3, 3))
    layer.train()(torch.randn(1, 8, 5, 5))
    assert not torch.equal(layer.parametrizations.weight[0].u, before)


def test_spectral_norm_covers_the_discriminator_and_only_it():
    G, D = build(settings("sngan", 32, "generator.width=4", "discriminator.width=4"))
    layers = [m for m in D.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert layers and all(hasattr(m, "parametrizations") for m in layers)
    assert not any(hasattr(m, "parametrizations") for m in G.modules())


def test_gradient_penalty_works_through_symmetric_kernels():
    from gan.objectives import gradient_penalty

    _, D = build(settings("wgan_gp", 32, "discriminator.kernel=c2sp", "discriminator.width=4"))
    real, fake = torch.randn(2, 3, 32, 32), torch.randn(2, 3, 32, 32)
    gradient_penalty(D, real, fake, torch.rand(2)).backward()
    assert all(p.grad is not None for name, p in D.named_parameters() if name.endswith("weight"))


# --- the table ---------------------------------------------------------------------------------------------------------------


def test_macs_by_hand():
    net = nn.Sequential(SymmetricConv2d(3, 8, 2), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(8 * 4 * 4, 5))
    assert summary.macs(net, 1, 3, 8, 8) == 3 * 8 * 4 * 64 + 128 * 5


@pytest.mark.parametrize(
    ("family", "overrides", "generator", "discriminator"),
    [
        ("dcgan", [], 22, 22),  # k 4, s 2, three times: 4, 10, 22
        ("dcgan", ["generator.kernel=c3"], 15, 22),  # 3, 7, 15
        ("dcgan", ["generator.kernel=c2"], 8, 22),  # no overlap
        ("dcgan", ["generator.kernel=c3sp"], 22, 22),  # one pixel more than c3 per layer, as far as k = 4
        ("dcgan", ["generator.kernel=c3", "generator.upsampling=nearest"], 8 + 8 + 4 + 2, 22),
        (  # six more 3x3 layers at 4, 8 and 16 pixels, each 2 pixels of its map wider, on more than 16 x 16 seed cells
            "dcgan",
            ["generator.kernel=c3", "generator.upsampling=nearest", "generator.flat_layers=6"],
            22 + 6 * 2 * (8 + 4 + 2),
            22,
        ),
    ],
)
def test_receptive_fields_by_hand(family, overrides, generator, discriminator):
    assert summary.receptive_fields(settings(family, 32, *overrides)) == (generator, discriminator)


def test_the_faint_edge_of_a_response_counts():
    """2 * sigmoid(v) - 1, at the end of landscape, is 0 for v of 1e-17."""
    deep = settings("landscape", 32, "generator.kernel=c3", "generator.flat_layers=8")
    rows = 1 + 2 * 8  # a seed cell, and eight layers at its resolution
    for _ in range(3):  # zero insertion, the two layers of a block, eight more
        rows = 2 * rows - 1 + 2 * (2 + 8)
    assert summary.receptive_fields(deep)[0] == rows + 2 == 271  # the last layer


def test_symmetric_padding_widens_two_pixels_per_layer():
    """The paper: the receptive field of stacked C2sp grows 2 -> 3 -> 5, as C3's does."""
    for kernel, field in (("c2", 3), ("c2sp", 5), ("c3", 5), ("c4", 7), ("c4sp", 9), ("c5", 9)):
        from gan.kernels import conv2d

        net = summary._positive(nn.Sequential(conv2d(kernel, 4, 4), conv2d(kernel, 4, 4)))

        def response(side, net=net):
            x = torch.zeros(1, 4, side, side, dtype=torch.float64)
            x[:, :, side // 2, side // 2] = 1
            return net(x).detach()

        assert summary._extent(response, 21) == summary._extent(response, 3) == field  # 3 is too small, and grows
    assert summary._extent(lambda side: torch.ones(1, 1, side, 1), 16) is None  # a layer that averages whole maps


def test_table_prints_what_was_built():
    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(summary.table(settings("sngan", 32, "generator.kernel=c2sp", "generator.width_rule=equal_parameters")))
    text = console.export_text()
    for part in ("c2sp", "nearest", "spectral", "1,053,825", "of the c3 generator's parameters"):
        assert part in text
    assert "padding" not in text and "flat" not in text
    console.print(summary.table(settings("sngan", 32, "discriminator.padding=reflect", "generator.flat_layers=2", *SMALL)))
    text = console.export_text()
    assert "reflect" in text and "2 at each resolution" in text


class OnlyAt32:
    """A family as somebody may write it: that it has no other size it says by a KeyError."""

    def __init__(self, published):
        self.published = published

    def published_discriminator(self, resolution):
        return {32: self.published.published_discriminator(32)}[resolution]

    def __getattr__(self, name):
        return getattr(self.published, name)


def test_a_family_of_ones_own_needs_no_discriminator_family(monkeypatch):
    """Unresolved settings build the same networks as resolved ones; a size that a family hasn't is one sentence."""
    monkeypatch.setitem(families.FAMILIES, "dcgan", OnlyAt32(families.FAMILIES["dcgan"]))
    plain = Config.load(None, ["generator.width=4", "discriminator.width=4"])
    assert plain.discriminator.family is None
    assert [parameter_count(net) for net in build(plain)] == [parameter_count(net) for net in build(resolve(plain))]
    with pytest.raises(
        ConfigError, match=r"the family dcgan has no discriminator of 64 pixels: choose another discriminator\.family"
    ):
        resolve(Config.load(None, ["dataset.resolution=64"]))
    with pytest.raises(ConfigError, match="has no discriminator of 64 pixels"):
        build(Config.load(None, ["dataset.resolution=64"]))
