"""When resampling and a convolution are fused, and that nothing but rounding shows it."""

import copy
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from gan import checkpoint
from gan.config import Config
from gan.fusing import FusedSequential, form, fused, tf32_convolutions
from gan.kernels import KERNELS, OneSidedConv2d, conv2d
from gan.models.build import build, resolve
from gan.models.counting import macs
from gan.models.layers import SpectralNorm, add_spectral_norm
from gan.padding import PADDINGS
from gan.resampling import Unpool
from gan.run_directory import RunError, RunFiles, read_config
from gan.settings import ConfigError
from gan.training import train
from tests.helpers import ROOT

UP = [nn.Upsample(scale_factor=2), Unpool()]
MAP = torch.zeros(1, 8, 4, 4)


@pytest.mark.parametrize("first", UP, ids=["nearest", "unpool"])
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("channels", [(4, 3), (32, 32), (96, 96)], ids=str)
def test_every_kernel_is_fused_behind_a_doubling(first, kernel, channels):
    layer = conv2d(kernel, *channels)
    x = torch.randn(2, channels[0], 3, 5)
    assert fused(first, layer, x) is not None
    torch.testing.assert_close(FusedSequential(first, layer)(x), layer(first(x)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("padding", PADDINGS)
def test_every_kernel_is_fused_before_a_mean(kernel, padding):
    layer, mean, x = conv2d(kernel, 8, 4, padding_mode=padding), nn.AvgPool2d(2), torch.randn(2, 8, 7, 6)
    assert fused(layer, mean, x) is not None
    torch.testing.assert_close(FusedSequential(layer, nn.Identity(), mean)(x), FusedSequential(layer, mean)(x))


class Scaled(nn.Conv2d):
    def forward(self, x):
        return 10 * super().forward(x)


class Standardised(nn.Conv2d):
    def _conv_forward(self, x, weight, bias):
        return super()._conv_forward(x, weight - weight.mean(), bias)


class Doubled(nn.Upsample):
    def forward(self, x):
        return 2 * super().forward(x)


class Pooled(nn.AvgPool2d):
    def forward(self, x):
        return super().forward(x) - 1


class PaddedMore(OneSidedConv2d):
    def pad(self, x):
        return super().pad(x) + 1


def doubled(layer):
    """The layer, with a `forward` of its own set on it."""
    own = layer.forward
    layer.forward = lambda x: 2 * own(x)
    return layer


def padded_more(layer):
    """The layer, with a `pad` of its own set on it, which only what calls it sees."""
    own = layer.pad
    layer.pad = lambda x: own(x) + 1
    return layer


@pytest.mark.parametrize(
    "layers",
    [
        lambda: (padded_more(conv2d("c2sp", 8, 8)), nn.AvgPool2d(2)),
        lambda: (nn.Upsample(scale_factor=2), doubled(conv2d("c3", 8, 8))),
        lambda: (doubled(nn.Upsample(scale_factor=2)), conv2d("c3", 8, 8)),
        lambda: (PaddedMore(8, 8, 2), nn.AvgPool2d(2)),
        lambda: (nn.Upsample(scale_factor=2), Scaled(8, 8, 3, padding=1)),
        lambda: (nn.Upsample(scale_factor=2), Standardised(8, 8, 3, padding=1)),
        lambda: (Scaled(8, 8, 3, padding=1), nn.AvgPool2d(2)),
        lambda: (Doubled(scale_factor=2), conv2d("c3", 8, 8)),
        lambda: (conv2d("c3", 8, 8), Pooled(2)),
    ],
)
def test_layers_that_compute_something_of_their_own_are_left_to_it(layers):
    pair, x = layers(), torch.randn(2, 8, 6, 6)
    assert fused(*pair, x) is None and torch.equal(FusedSequential(*pair)(x), nn.Sequential(*pair)(x))


def test_a_layer_with_a_parametrization_is_fused_all_the_same():
    layer = conv2d("c2sp", 8, 8)
    add_spectral_norm(layer)
    assert fused(nn.Upsample(scale_factor=2), layer, torch.randn(2, 8, 6, 6)) is not None


@pytest.mark.parametrize("tool", ["trace", "export", "onnx", "vmap", "jvp", "fx"])
@pytest.mark.parametrize("first", UP, ids=["nearest", "unpool"])
@pytest.mark.parametrize("width", [4, 96])
def test_other_tools_take_fused_layers(monkeypatch, tool, first, width):
    """At even sizes; what was recorded serves odd ones too."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import converted_models

    up = FusedSequential(first, conv2d("c2sp", width, width))
    down = FusedSequential(conv2d("c3", width, width), nn.AvgPool2d(2))
    net = nn.Sequential(nn.Conv2d(3, width, 1), up, down).eval()
    found, wanted = converted_models.TOOLS[tool](net, torch.randn(2, 3, 4, 4), torch.randn(1, 3, 5, 7))
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4)


def hooked(layer):
    layer.register_forward_hook(lambda *_: None)
    return layer


@pytest.mark.parametrize(
    "layers",
    [
        (nn.Upsample(scale_factor=2, mode="bilinear"), conv2d("c3", 8, 8)),
        (nn.Upsample(scale_factor=3), conv2d("c3", 8, 8)),
        (nn.Upsample(size=8), conv2d("c3", 8, 8)),
        (nn.Upsample(scale_factor=2), conv2d("c3", 8, 8, stride=2)),
        (nn.Upsample(scale_factor=2), conv2d("c2sp", 8, 8, groups=2)),
        (nn.Upsample(scale_factor=2), conv2d("c3", 8, 8, dilation=2)),
        (nn.Upsample(scale_factor=2), nn.Conv2d(8, 8, 1)),
        (nn.Upsample(scale_factor=2), nn.Conv2d(8, 8, 3)),
        (nn.Upsample(scale_factor=2), nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect")),
        (nn.Upsample(scale_factor=2), conv2d("c2sp", 8, 8, padding_mode="circular")),
        (nn.Upsample(scale_factor=2), nn.Conv2d(8, 8, (3, 1), padding=(1, 0))),
        (nn.Upsample(scale_factor=2), hooked(conv2d("c3", 8, 8))),
        (hooked(nn.Upsample(scale_factor=2)), conv2d("c3", 8, 8)),
        (conv2d("c3", 8, 8), nn.AvgPool2d(3)),
        (conv2d("c3", 8, 8), nn.AvgPool2d(2, stride=1)),
        (conv2d("c3", 8, 8), nn.AvgPool2d(2, padding=1)),
        (conv2d("c3", 8, 8), nn.AvgPool2d(2, ceil_mode=True)),
        (conv2d("c3", 8, 8), nn.AvgPool2d(2, divisor_override=3)),
        (conv2d("c3", 8, 8), nn.MaxPool2d(2)),
    ],
    ids=str,
)
def test_what_is_not_one_of_the_identities_is_computed_layer_by_layer(layers):
    assert fused(*layers, MAP) is None
    assert torch.equal(FusedSequential(*layers)(MAP + 1), nn.Sequential(*layers)(MAP + 1))


def test_the_rule_in_bf16_also_under_autocast():
    """As results/benchmarks/resampling.txt has it: narrow 2x2 kernels after a doubling gain nothing, larger kernels no phases."""

    def chosen(resampling, kernel, *channels):
        layer = conv2d(kernel, *channels)
        with torch.autocast("cpu", torch.bfloat16):
            cast = form(resampling, layer, MAP)
        assert cast == form(resampling, layer, MAP.bfloat16())
        return cast

    assert chosen("nearest", "c2sp", 64, 64) == chosen("nearest", "c2", 32, 32) == "plain"
    assert chosen("nearest", "c2sp", 64, 3) == chosen("nearest", "c2", 256, 256) == chosen("unpool", "c2sp", 64, 64) == "transposed"
    assert (
        chosen("nearest", "c4sp", 256, 256) == chosen("unpool", "c3", 256, 256) == chosen("nearest", "c3", 32, 32) == "transposed"
    )
    assert chosen("nearest", "c2sp", 256, 256) == chosen("unpool", "c2sp", 96, 96) == chosen("unpool", "c2", 32, 32) == "phases"
    assert chosen("mean", "c2sp", 3, 8) == "strided"


def test_the_rule_knows_device_precision_and_channels_alone():
    def chosen(resampling, kernel, *channels):
        return form(resampling, conv2d(kernel, *channels), MAP)

    assert form("nearest", conv2d("c3", 8, 8), torch.empty(1, 8, 4, 4, device="meta")) == "plain"
    assert chosen("mean", "c2sp", 3, 8) == "strided"
    assert chosen("nearest", "c3", 256, 256) == chosen("unpool", "c5", 8, 8) == chosen("nearest", "c4", 256, 256) == "transposed"
    assert chosen("nearest", "c2sp", 95, 256) == chosen("unpool", "c4", 64, 64) == chosen("unpool", "c2", 256, 3) == "transposed"
    assert chosen("nearest", "c2sp", 96, 256) == chosen("unpool", "c3", 96, 96) == chosen("unpool", "c2", 32, 32) == "phases"


def test_compiled_code_asks_for_it_without_a_break():
    twice = torch.compile(lambda x: x + 1 if tf32_convolutions() else x + 2, backend="eager", fullgraph=True)
    assert twice(torch.zeros(1)) == (1 if tf32_convolutions() else 2)


def test_on_a_gpu_only_ieee_float32_is_fused(monkeypatch, request):
    chosen, convolutions = {}, torch.backends.cudnn.conv
    request.addfinalizer(lambda before=convolutions.fp32_precision: setattr(convolutions, "fp32_precision", before))
    for precision, dtype in (("fp32", torch.float32), ("tf32", torch.float32), ("bf16", torch.float32), ("cast", torch.bfloat16)):
        x = SimpleNamespace(device=torch.device("cuda"), dtype=dtype)  # all that the rule looks at, where there may be no GPU
        convolutions.fp32_precision = "tf32" if precision == "tf32" else "ieee"
        monkeypatch.setattr(torch, "is_autocast_enabled", lambda kind, on=precision == "bf16": on)
        chosen[precision] = [form(how, conv2d("c2sp", 256, 256), x) for how in ("nearest", "unpool", "mean")]
    assert chosen.pop("fp32") == ["transposed", "transposed", "strided"]
    assert all(forms == ["plain"] * 3 for forms in chosen.values())


SETTINGS = [
    ("sngan", "nearest", "c2sp", {}),
    ("sngan", "bilinear", "c3", {}),
    ("landscape", "unpool", "c4sp", {}),
    ("wgan_gp", "nearest", "c2", {}),
    ("dcgan", "unpool", "c5", {}),
    ("cnn", "nearest", "c3", {}),
]


@pytest.fixture(scope="module", params=SETTINGS, ids=lambda s: "-".join(map(str, s[:3])))
def pair(request):
    """(settings, networks fused and not) of one seed, narrow."""
    family, upsampling, kernel, more = request.param
    changes = {"generator.family": family, "generator.upsampling": upsampling, "generator.kernel": kernel, **more}
    changes |= {"discriminator.kernel": kernel, "generator.width": 8, "discriminator.width": 8, "generator.latent": 16}
    config = resolve(Config.load(None, changes=changes))
    return build(config), build(config.replace({"train.fused": False}))


def gradients(network, x):
    out = network(x)
    return out, torch.autograd.grad(out.square().sum(), [*network.parameters()])


def test_networks_have_the_same_state_and_compute_the_same(pair):
    for network, plain in zip(*pair):
        state, wanted = network.state_dict(), plain.state_dict()
        assert state.keys() == wanted.keys() and all(torch.equal(state[key], wanted[key]) for key in state)
    (g, d), (plain_g, plain_d) = copy.deepcopy(pair)
    z = torch.randn(4, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    (images, found), (plain_images, wanted) = gradients(g.double(), z), gradients(plain_g.double(), z)
    torch.testing.assert_close(images, plain_images, rtol=1e-9, atol=1e-12)
    for a, b in zip(found, wanted):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-10)
    x = images.detach().float()  # spectral norm is taken in float32
    found, wanted = (torch.cat([grad.flatten() for grad in gradients(net, x)[1]]) for net in (d, plain_d))
    assert (found - wanted).norm() < 1e-4 * wanted.norm()


def test_multiply_adds_are_counted_by_the_definition_and_as_executed(pair):
    (g, _), (plain_g, _) = pair
    assert macs(g, 1, 16) == macs(plain_g, 1, 16) == macs(plain_g, 1, 16, executed=True)
    assert macs(g, 1, 16, executed=True) <= macs(g, 1, 16)


def test_a_c3_block_executes_four_ninths_after_doubling_and_as_much_elsewhere():
    config = resolve(Config.load(None, ["generator.family=sngan", "generator.width=16", "discriminator.width=16"]))
    block = build(config)[0].trunk[0]
    assert macs(block, 1, 16, 4, 4) == 16 * 16 * 64 * (9 + 9) + 16 * 16 * 16
    assert macs(block, 1, 16, 4, 4, executed=True) == 16 * 16 * 64 * (4 + 9) + 16 * 16 * 16


def test_spectral_norm_takes_one_power_iteration_per_forward():
    layers = FusedSequential(conv2d("c3", 4, 4), nn.AvgPool2d(2))
    add_spectral_norm(layers)
    plain = copy.deepcopy(layers)
    plain.fuse = False
    for _ in range(3):
        torch.testing.assert_close(layers(torch.ones(1, 4, 4, 4)), plain(torch.ones(1, 4, 4, 4)))
    assert isinstance(layers[0].parametrizations.weight[0], SpectralNorm) and parametrize.is_parametrized(layers[0])
    assert torch.equal(layers[0].parametrizations.weight[0].u, plain[0].parametrizations.weight[0].u)


@pytest.mark.parametrize("layers", [(Unpool(), conv2d("c2sp", 32, 32)), (nn.Upsample(scale_factor=2), conv2d("c3", 4, 4))], ids=str)
def test_under_autocast_and_in_channels_last(layers):
    network = FusedSequential(*layers).to(memory_format=torch.channels_last)
    channels = layers[1].in_channels
    x = torch.randn(2, channels, 4, 4).contiguous(memory_format=torch.channels_last).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        y = network(x)
    assert y.dtype == torch.bfloat16 and y.is_contiguous(memory_format=torch.channels_last)
    (grad,) = torch.autograd.grad(y.float().square().sum(), x)
    plain = nn.Sequential(*layers)(x)
    torch.testing.assert_close(y.float(), plain, rtol=0.05, atol=0.05)
    (wanted,) = torch.autograd.grad(plain.square().sum(), x)
    assert (grad - wanted).norm() < 0.02 * wanted.norm()


@pytest.mark.parametrize("kernel", ["c2sp", "c3"])
def test_compiled_code_computes_the_same(kernel):
    torch.manual_seed(0)
    layers = FusedSequential(Unpool(), conv2d(kernel, 32, 32), conv2d(kernel, 32, 4), nn.AvgPool2d(2))
    x = torch.randn(2, 32, 4, 4)
    compiled = torch.compile(layers, backend="aot_eager")
    for a, b in zip(gradients(compiled, x)[1], gradients(layers, x)[1]):
        torch.testing.assert_close(a, b)


def test_a_run_begun_before_there_was_the_setting_goes_on_unfused(tiny, tmp_path):
    config = tiny("sngan", "train.steps=2", "train.lr_decay=none", "train.fused=false")
    train(config, tmp_path / "run", progress=False)
    file = tmp_path / "run" / "config.yaml"
    file.write_text(file.read_text().replace("  fused: false\n", ""))
    assert read_config(tmp_path / "run").train.fused is False
    train(tiny("sngan", "train.steps=3", "train.lr_decay=none"), tmp_path / "run", progress=False)
    assert read_config(tmp_path / "run").train.fused is False
    train(tiny("sngan", "train.steps=3", "train.lr_decay=none", "train.fused=false"), tmp_path / "whole", progress=False)
    runs = [checkpoint.load(RunFiles(tmp_path / name).checkpoint_of(3))["generator"] for name in ("run", "whole")]
    assert all(torch.equal(runs[0][key], runs[1][key]) for key in runs[0])


def test_a_fused_run_does_not_go_on_unfused(tiny, tmp_path):
    train(tiny("sngan", "train.steps=2", "train.lr_decay=none"), tmp_path / "run", progress=False)
    assert read_config(tmp_path / "run").train.fused == "auto"
    with pytest.raises(RunError, match=r"train\.fused: auto -> False"):
        train(tiny("sngan", "train.steps=3", "train.lr_decay=none", "train.fused=false"), tmp_path / "run", progress=False)


def test_train_fused_is_auto_or_false():
    assert Config.load(None, ["train.fused=false"]).train.fused is False
    with pytest.raises(ConfigError, match=r"train\.fused: .*is not one of auto, false"):
        Config.load(None, ["train.fused=maybe"])
    with pytest.raises(ConfigError, match=r"train\.fused: True is not one of auto, false"):
        Config.load(None, ["train.fused=true"])
