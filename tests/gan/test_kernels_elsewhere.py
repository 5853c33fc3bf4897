"""Layers of gan.kernels, and models that `convert` changed, wherever nn.Conv2d works: traced, exported, vmapped, lazy, alone."""

import contextlib
import copy
import io
import pickle
import warnings

import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from torch import nn
from torchvision.models.densenet import DenseNet
from torchvision.models.mobilenetv2 import MobileNetV2
from torchvision.models.resnet import Bottleneck, ResNet
from torchvision.models.segmentation.fcn import FCNHead
from torchvision.models.vgg import make_layers

from gan.kernels import KERNELS, SameConv2d, SymmetricConv2d, conv2d, conv_transpose2d, convert
from gan.padding import PADDINGS
from tests.helpers import ROOT


def stack(kernel, padding="zeros"):
    """Strided, same-size and transposed."""
    torch.manual_seed(0)
    layers = [conv2d(kernel, 4, 8, 2, padding_mode=padding), nn.ReLU(), conv2d(kernel, 8, 6, padding_mode=padding)]
    return nn.Sequential(*layers, conv_transpose2d(kernel, 6, 4, padding_mode=padding)).eval()


EVEN, ODD = torch.randn(2, 4, 8, 6), torch.randn(3, 4, 7, 9)
EACH = [(kernel, "zeros") for kernel in KERNELS] + [("c4sp", padding) for padding in PADDINGS[1:]]


@pytest.mark.parametrize(("kernel", "padding"), EACH)
def test_traced_at_even_sizes_a_net_is_right_at_odd_ones(kernel, padding):
    """By torch.jit.trace, which records no warning, and by torch.fx, also of one layer by itself; both can be saved."""
    net, file = stack(kernel, padding), io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("error", torch.jit.TracerWarning)
        torch.jit.save(torch.jit.trace(net, EVEN), file)
    file.seek(0)
    recorded = [torch.jit.load(file), pickle.loads(pickle.dumps(torch.fx.symbolic_trace(net)))]
    for x in (EVEN, ODD):
        for again in recorded:
            torch.testing.assert_close(again(x), net(x))
    torch.testing.assert_close(torch.fx.symbolic_trace(net[0])(ODD), net[0](ODD))


@pytest.mark.parametrize(
    ("kernel", "padding"), [("c2", "zeros"), ("c2sp", "zeros"), ("c3sp", "zeros"), ("c4sp", "reflect"), ("c4", "circular")]
)
def test_onnx_takes_pictures_of_other_sizes(kernel, padding):
    net, file = stack(kernel, padding), io.BytesIO()
    axes = {"x": {0: "n", 2: "h", 3: "w"}}
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(net, (EVEN,), file, dynamo=False, input_names=["x"], dynamic_axes=axes)
    (found,) = ReferenceEvaluator(onnx.load_model_from_string(file.getvalue())).run(None, {"x": ODD.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), net(ODD), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("kernel", "padding"), EACH)
def test_vmap_over_pictures_and_over_weights(kernel, padding):
    net = stack(kernel, padding)
    many = torch.randn(3, *EVEN.shape)
    torch.testing.assert_close(torch.vmap(net)(many), torch.stack([net(x) for x in many]))
    torch.testing.assert_close(torch.vmap(net, in_dims=3, out_dims=3)(many.movedim(0, 3)), torch.vmap(net)(many).movedim(0, 3))
    weights = {name: torch.stack([p.detach(), 2 * p.detach()]) for name, p in net.named_parameters()}
    call = lambda weights, x: torch.func.functional_call(net, weights, (x,))
    alone = [call({name: p[i] for name, p in weights.items()}, EVEN) for i in (0, 1)]
    torch.testing.assert_close(torch.vmap(call, in_dims=(0, None))(weights, EVEN), torch.stack(alone))


@pytest.mark.parametrize("groups", [2, 8])
def test_vmap_over_pictures_of_a_convolution_with_groups(groups):
    layer, many = SymmetricConv2d(32, 32, 2, groups=groups), torch.randn(3, 2, 32, 5, 4)
    wanted = torch.stack([layer(x) for x in many])
    for axis in range(5):
        torch.testing.assert_close(torch.vmap(layer, in_dims=axis)(many.movedim(0, axis)), wanted)
    last = many.flatten(0, 1).to(memory_format=torch.channels_last).unflatten(0, (3, 2))
    torch.testing.assert_close(torch.vmap(layer)(last), wanted)


@pytest.mark.parametrize(("kernel", "padding"), EACH)
def test_forward_derivatives_of_first_and_second_order(kernel, padding):
    net, x = stack(kernel, padding).double(), EVEN.double()[:1, :, :4, :2]
    assert torch.autograd.gradcheck(net, x.clone().requires_grad_(), check_forward_ad=True, check_backward_ad=False)
    smooth = nn.Sequential(net[0], nn.Tanh(), net[2])
    one = lambda x: smooth(x).square().sum()
    forward = torch.func.jacfwd(torch.func.grad(one))(x)  # vmap of a derivative along a direction of a gradient
    torch.testing.assert_close(forward, torch.autograd.functional.hessian(one, x))


def test_compiled_code_is_vmapped_and_differentiated_forward_too():
    layer, x = SymmetricConv2d(4, 4, 2), torch.randn(2, 3, 4, 5, 5)
    compiled = torch.compile(lambda x: torch.vmap(layer)(x), backend="aot_eager")
    torch.testing.assert_close(compiled(x), torch.stack([layer(part) for part in x]))
    along = torch.compile(lambda x, t: torch.func.jvp(layer, (x,), (t,))[1], backend="aot_eager")
    first, second = torch.randn(3, 4, 5, 5), torch.randn(3, 4, 5, 5)
    torch.testing.assert_close(along(first, second), layer(second) - layer.bias[:, None, None])


# --- one picture, no channels yet, an output of a given size ------------------------------------------------------------------


@pytest.mark.parametrize(("kernel", "padding"), EACH)
def test_one_picture_without_a_batch(kernel, padding):
    net = stack(kernel, padding)
    torch.testing.assert_close(net(ODD[0]), net(ODD)[0])
    assert SymmetricConv2d(8, 8, 2)(torch.ones(8, 5, 5)).shape == (8, 5, 5)


@pytest.mark.parametrize("shape", [(8, 5), (7, 5, 5), (1, 7, 5, 5), (1, 1, 8, 5, 5)], ids=str)
def test_a_wrong_shape_ends_in_torchs_own_message(shape):
    with pytest.raises(RuntimeError) as theirs:
        nn.Conv2d(8, 8, 2)(torch.ones(shape))
    with pytest.raises(RuntimeError) as ours:
        SymmetricConv2d(8, 8, 2)(torch.ones(shape))
    assert str(ours.value) == str(theirs.value)


@pytest.mark.parametrize("kernel", [k for k in KERNELS if k not in ("c3", "c5")])
@pytest.mark.parametrize("padding", PADDINGS)
def test_a_transposed_layer_gives_the_size_that_is_asked_for(kernel, padding):
    """Rows less are cut off, a row more is what the next pixel of the input would have had a part in."""
    layer = conv_transpose2d(kernel, 3, 2, padding_mode=padding)
    x = torch.randn(1, 3, 5, 4)
    whole = layer(x)
    torch.testing.assert_close(layer(x, output_size=(9, 8)), whole[:, :, :9])
    torch.testing.assert_close(layer(x, output_size=(1, 2, 10, 7)), whole[:, :, :, :7])
    torch.testing.assert_close(layer(x[0], output_size=(2, 9, 7)), whole[0, :, :9, :7])
    larger = layer(x, output_size=torch.Size((11, 9)))
    torch.testing.assert_close(larger[:, :, :10, :8], whole)
    for size in ((12, 8), (8, 8), (10, 10)):
        with pytest.raises(ValueError, match="output_size must be 9 to 11 by 7 to 9"):
            layer(x, output_size=size)
    with pytest.raises(ValueError, match=r"output_size must be \(H, W\)"):
        layer(x, output_size=(1, 9, 8))


@pytest.mark.parametrize("k", [2, 4])
def test_a_row_more_is_torchs(k):
    ours, theirs = conv_transpose2d(f"c{k}", 3, 2), nn.ConvTranspose2d(3, 2, k, 2, (k - 2) // 2)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(1, 3, 5, 4)
    torch.testing.assert_close(ours(x, output_size=(11, 9)), theirs(x, output_size=(11, 9)))


class Decoder(nn.Module):
    """Gives back a picture of the size that it was given, as decoders of U-Nets do."""

    def __init__(self):
        super().__init__()
        self.down, self.up = nn.Conv2d(3, 4, 3, 2, 1), nn.ConvTranspose2d(4, 3, 3, 2, 1, 1)

    def forward(self, x):
        return self.up(self.down(x), output_size=x.shape)


@pytest.mark.parametrize("kernel", ["c2sp", "c3sp", "c4", "c3off"])
def test_convert_keeps_the_size_that_a_decoder_asks_for(kernel):
    x = torch.randn(1, 3, 9, 10)
    decoder = convert(Decoder(), kernel).eval()
    wanted = decoder(x)
    assert wanted.shape == x.shape
    for recorded in (torch.jit.trace(decoder, x), torch.export.export(decoder, (x,)).module()):
        torch.testing.assert_close(recorded(x), wanted)


@pytest.mark.parametrize("kernel", KERNELS)
def test_lazy_layers_take_the_channels_of_their_first_input(kernel):
    lazy = nn.Sequential(conv2d(kernel, None, 8, bias=False), conv_transpose2d(kernel, None, 3))
    lazy, loaded = pickle.loads(pickle.dumps(lazy)), copy.deepcopy(lazy)
    x = torch.randn(2, 6, 5, 4)
    shape = lazy(x).shape
    eager = nn.Sequential(conv2d(kernel, 6, 8, bias=False), conv_transpose2d(kernel, 8, 3))
    for net in (eager, loaded):  # the second before it has seen a picture
        net.load_state_dict(lazy.state_dict())
        torch.testing.assert_close(net(x), lazy(x))
    assert shape == (2, 3, 10, 8) and lazy[0].in_channels == 6 and not lazy[0]._forward_pre_hooks


def test_convert_takes_lazy_models():
    def lazy():
        return nn.Sequential(
            nn.LazyConv2d(8, 3, padding=1), nn.LazyBatchNorm2d(), nn.LazyConv2d(6, 3, 2, 1), nn.LazyConvTranspose2d(3, 4, 2, 1)
        )

    for kernel in ("c2sp", "c3", "c3sp", "c2alt"):
        model = convert(lazy(), kernel)
        assert model(torch.ones(2, 3, 9, 8)).shape == (2, 3, 10, 8)
    assert isinstance(model[0], SameConv2d) and model[0].weight.shape == (8, 3, 2, 2) and model[2][1].turn == 1
    model = lazy()
    model[0].weight.requires_grad = False
    assert not convert(model, "c2sp")[0].weight.requires_grad


def test_convert_keeps_the_padding_mode():
    model = convert(nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, padding_mode="reflect"), nn.Conv2d(8, 8, 3, 2, 1)), "c4sp")
    assert [m.padding_mode for m in model.modules() if isinstance(m, nn.Conv2d)] == ["reflect", "zeros"]
    same = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, padding_mode="circular"))
    again, x = convert(copy.deepcopy(same), "c3"), torch.randn(1, 3, 5, 4)
    torch.testing.assert_close(again(x), same(x))


# --- models of other people ---------------------------------------------------------------------------------------------------

MODELS = {
    "resnet": lambda: ResNet(Bottleneck, [1, 1, 1, 1], num_classes=5, width_per_group=4),
    "densenet": lambda: DenseNet(4, (1, 1), 8, num_classes=5),
    "mobilenet": lambda: MobileNetV2(5, 0.1, [[1, 8, 1, 1], [6, 8, 2, 2]]),
    "vgg": lambda: nn.Sequential(make_layers([8, "M", 8], batch_norm=True), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)),
    "segmentation": lambda: nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), FCNHead(16, 5)),
}


@pytest.fixture
def tools(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import converted_models

    return converted_models.TOOLS


@pytest.mark.parametrize("tool", ["trace", "fx", "export", "vmap", "jvp"])
@pytest.mark.parametrize("name", MODELS)
def test_converted_models_of_torchvision_work_in_every_tool(tools, name, tool):
    """benchmarks/converted_models.py goes over sixty models; onnx is tested above."""
    torch.manual_seed(0)
    model = convert(MODELS[name](), "c2sp", strided="stride" if name == "mobilenet" else None).eval()
    x = torch.randn(2, 3, 32, 32)
    found, wanted = tools[tool](model, x, x[:, :, :-1, 1:-2])
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4)
