"""gan.kernels against the rule spelled out tap by tap, and against what the paper says of drift, overlap and cost."""

import copy

import pytest
import torch
import torchvision
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from gan.kernels import (
    KERNELS,
    PLACES,
    OneSidedConv2d,
    OneSidedConvTranspose2d,
    SameConv2d,
    SymmetricConv2d,
    SymmetricConvTranspose2d,
    conv2d,
    conv_transpose2d,
    convert,
    parse_kernel,
    turn_corners,
)
from gan.padding import PADDINGS
from tests.reference import naive_conv

LAYERS = {
    ("conv", "symmetric"): SymmetricConv2d,
    ("conv", "one-sided"): OneSidedConv2d,
    ("transpose", "symmetric"): SymmetricConvTranspose2d,
    ("transpose", "one-sided"): OneSidedConvTranspose2d,
}


def layer_of(kind, mode, k, stride, c_in, c_out):
    """One-sided odd kernels are torch's own layers, which is what the factory gives for c3 and c5."""
    if mode == "one-sided" and k % 2:
        if kind == "conv":
            return nn.Conv2d(c_in, c_out, k, stride, k // 2).double()
        return nn.ConvTranspose2d(c_in, c_out, k, stride, k // 2, stride - 1).double()
    return LAYERS[kind, mode](c_in, c_out, k, stride).double()


@pytest.mark.parametrize("kind", ["conv", "transpose"])
@pytest.mark.parametrize("mode", ["symmetric", "one-sided"])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("k", range(1, 8))
def test_equals_the_naive_reference_with_both_gradients(kind, mode, stride, k):
    torch.manual_seed(0)
    c_in, c_out = (5, 2) if k < 5 else (3, 2)
    layer = layer_of(kind, mode, k, stride, c_in, c_out)
    x = torch.randn(1, c_in, 4, 6, dtype=torch.float64, requires_grad=True)
    naive = getattr(naive_conv, "conv2d" if kind == "conv" else "conv_transpose2d")

    def derivatives(y):
        """Output, gradients, and the gradients of a gradient penalty."""
        weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)
        first = torch.autograd.grad((y.sin() * weights).sum(), [x, layer.weight], create_graph=True)
        second = torch.autograd.grad(first[0].square().sum() + first[1].square().sum(), [x, layer.weight, layer.bias])
        return [y, *first, *second]

    ours, theirs = derivatives(layer(x)), derivatives(naive(x, layer.weight, layer.bias, stride, mode))
    assert ours[0].shape[2:] == ((4 // stride, 6 // stride) if kind == "conv" else (4 * stride, 6 * stride))
    for a, b in zip(ours, theirs):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


MODES = {"below right": "one-sided", "above left": "one-sided", "four corners": "symmetric", "far side": "off"}


def by_name(kernel, kind, stride, padding, turn=2):
    """A layer, and what the naive reference calls its place."""
    layer = {"conv": conv2d, "transpose": conv_transpose2d}[kind](kernel, 3, 2, stride, padding_mode=padding).double()
    place = parse_kernel(kernel)[1]
    if place == "turning corner":
        layer.turn = turn
    return layer, MODES.get(place, f"turn {turn}")


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kind", ["conv", "transpose"])
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("kernel", KERNELS)
def test_every_kernel_with_every_padding_equals_the_naive_reference(kernel, padding, kind, stride):
    """Odd sizes, and maps smaller than what is padded, too."""
    torch.manual_seed(0)
    layer, mode = by_name(kernel, kind, stride, padding)
    for shape in ((1, 3, 4, 3), (1, 3, 1, 2)):
        x = torch.randn(shape, dtype=torch.float64)
        wanted = getattr(naive_conv, "conv2d" if kind == "conv" else "conv_transpose2d")(
            x, layer.weight, layer.bias, stride, mode, padding
        )
        torch.testing.assert_close(layer(x), wanted, rtol=1e-10, atol=1e-10)
        assert layer.padding_mode == padding


@pytest.mark.parametrize("padding", PADDINGS[1:])
@pytest.mark.parametrize("kind", ["conv", "transpose"])
def test_both_gradients_and_double_gradients_through_every_padding(kind, padding):
    torch.manual_seed(0)
    layer, _ = by_name("c4sp", kind, 1, padding)
    x = torch.randn(1, 3, 3, 4, dtype=torch.float64, requires_grad=True)
    function = lambda x, weight: torch.func.functional_call(layer, {"weight": weight}, (x,))
    assert torch.autograd.gradcheck(function, (x, layer.weight.detach().requires_grad_()))
    assert torch.autograd.gradgradcheck(function, (x, layer.weight.detach().requires_grad_()))


@pytest.mark.parametrize("kernel", ["c2", "c2alt", "c2sp", "c3", "c3off", "c4", "c4sp"])
@pytest.mark.parametrize("padding", PADDINGS[1:])
def test_a_constant_map_stays_constant_unless_zeros_come_in(kernel, padding):
    for layer in (conv2d(kernel, 4, 2, padding_mode=padding), conv2d(kernel, 4, 2, 2, padding_mode=padding)):
        assert float(layer(torch.ones(1, 4, 7, 6)).detach().std(dim=(2, 3)).max()) < 1e-6
    assert float(conv2d(kernel, 4, 2)(torch.ones(1, 4, 7, 6)).std(dim=(2, 3)).max()) > 1e-3


def test_circular_layers_move_along_with_the_map():
    for kernel in KERNELS:
        layer, x = conv2d(kernel, 5, 2, padding_mode="circular").double(), torch.randn(1, 5, 6, 4, dtype=torch.float64)
        torch.testing.assert_close(layer(x.roll((1, 2), (2, 3))), layer(x).roll((1, 2), (2, 3)))
        up = conv_transpose2d(kernel, 5, 2, padding_mode="circular").double()
        torch.testing.assert_close(up(x.roll((1, 2), (2, 3))), up(x).roll((2, 4), (2, 3)))


# --- control kernels ---------------------------------------------------------------------------------------------------------


def test_the_corner_turns_from_layer_to_layer_and_shortcuts_are_counted_by_themselves():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.residual = nn.Sequential(conv2d("c2alt", 4, 4), nn.ReLU(), conv2d("c2alt", 4, 4))
            self.shortcut = conv2d("c2alt", 4, 4)

    net = turn_corners(nn.Sequential(Block(), Block(), conv2d("c2", 4, 4), conv2d("c2alt", 4, 4)))
    turns = {name: layer.turn for name, layer in net.named_modules() if getattr(layer, "place", "") == "turning corner"}
    assert list(turns.values()) == [0, 1, 0, 2, 3, 1, 4]
    corners = [[corner for _, corner in net.get_submodule(name).rule.groups] for name in turns]
    assert corners[0] == [(False, False)] and corners[1] == [(True, True)] and corners[6] == corners[0]


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 6])
def test_drift_of_turning_corners_cancels_in_depth(depth):
    net = turn_corners(nn.Sequential(*(flat(conv2d("c2alt", 4, 4)) for _ in range(depth))))
    x = torch.zeros(1, 4, 33, 33, dtype=torch.float64)
    x[:, :, 16, 16] = 1
    wanted = {1: [-0.5, -0.5], 3: [-0.5, 0.5]}.get(depth, [0, 0])  # each second layer takes back what the one before did
    assert [c - 16 for c in centroid(net(x)[:, :1])] == pytest.approx(wanted)


def test_c3off_drifts_a_whole_pixel_and_sees_all_of_3_by_3():
    layer = flat(conv2d("c3off", 4, 4))
    x = torch.zeros(1, 4, 9, 9, dtype=torch.float64)
    x[:, :, 4, 4] = 1
    y = layer(x)[0, 0].detach()
    assert y.nonzero().tolist() == [[i, j] for i in (2, 3, 4) for j in (2, 3, 4)] and centroid(layer(x)[:, :1]) == [3, 3]
    with pytest.raises(ValueError, match="place must be one of"):
        SameConv2d(4, 4, 3, place="nowhere")
    with pytest.raises(ValueError, match="padding_mode must be one of zeros, reflect"):
        SameConv2d(4, 4, 3, padding_mode="mirror")
    assert SameConv2d(4, 4, 3, place=PLACES[-1]).rule == layer.rule


# --- what the layers do to position, overlap and cost ------------------------------------------------------------------------


@pytest.mark.parametrize("c_in", [1, 2, 3, 6, 7])
def test_odd_channel_counts(c_in):
    layer = SymmetricConv2d(c_in, 3, 2).double()
    x = torch.randn(2, c_in, 4, 3, dtype=torch.float64)
    torch.testing.assert_close(layer(x), naive_conv.conv2d(x, layer.weight, layer.bias, 1, "symmetric"))


def centroid(y):
    """Centre of mass of (1, 1, H, W), in pixels."""
    y = y[0, 0].detach()
    return [float((y.sum(1 - axis) * torch.arange(y.shape[axis])).sum() / y.sum()) for axis in (0, 1)]


def flat(layer):
    nn.init.constant_(layer.weight, 1.0)
    nn.init.zeros_(layer.bias)
    return layer.double()


@pytest.mark.parametrize(
    ("kernel", "drift"),
    [("c2", -0.5), ("c4", -0.5), ("c2sp", 0), ("c3", 0), ("c3sp", 0), ("c4sp", 0), ("c5", 0), ("c5sp", 0)],
)
def test_drift_per_layer_at_stride_1(kernel, drift):
    """c2 and c4 move the picture half a pixel up and left per layer, and it adds up; the others leave it where it is."""
    layer = flat(conv2d(kernel, 4, 4))
    x = torch.zeros(1, 4, 33, 33, dtype=torch.float64)
    x[:, :, 16, 16] = 1
    for depth in (1, 2, 3):
        x = layer(x)
        assert centroid(x.sum(1, keepdim=True)) == pytest.approx([16 + depth * drift] * 2)


@pytest.mark.parametrize(
    ("kernel", "drift"),
    [("c2", 0), ("c2sp", 0), ("c4", 0), ("c4sp", 0), ("c3", -0.5), ("c5", -0.5), ("c3sp", 0), ("c5sp", 0)],
)
def test_drift_of_a_transposed_layer_at_stride_2(kernel, drift):
    """In output pixels, on the half-pixel grid: input pixel i has its centre at 2 i + 0.5."""
    layer = flat(conv_transpose2d(kernel, 4, 1))
    x = torch.zeros(1, 4, 8, 8, dtype=torch.float64)
    x[:, :, 4, 4] = 1
    assert centroid(layer(x)) == pytest.approx([2 * 4 + 0.5 + drift] * 2)


@pytest.mark.parametrize(("kernel", "drift"), [("c3", 0.25), ("c5", 0.25), ("c3sp", 0), ("c5sp", 0), ("c4", 0), ("c2", 0)])
def test_drift_of_a_strided_layer(kernel, drift):
    """A strided c3 looks half an input pixel too far up and left: the picture lands a quarter of an output pixel down and right."""
    layer = flat(conv2d(kernel, 4, 1, stride=2))
    step = (torch.arange(32) - 15.5).double().expand(1, 4, 32, 32)  # a ramp tells position
    scale = layer.weight.sum()
    value = (layer(step) / scale)[0, 0, 8, 4:12]
    wanted = (torch.arange(4, 12) * 2 + 0.5) - 15.5
    torch.testing.assert_close((wanted - value) / 2, torch.full_like(value, drift))


@pytest.mark.parametrize(
    ("kernel", "taps"),
    [("c3", [4, 2, 2, 1]), ("c5", [9, 6, 6, 4]), ("c4", [4] * 4), ("c2", [1] * 4), ("c3sp", [2.25] * 4), ("c5sp", [6.25] * 4)],
)
def test_taps_per_output_phase(kernel, taps):
    """How often each of the 2x2 output phases is written, averaged over the channels: uneven overlap is the checkerboard."""
    layer = flat(conv_transpose2d(kernel, 4, 1))
    y = layer(torch.ones(1, 4, 12, 12, dtype=torch.float64))[0, 0, 8:16, 8:16] / 4
    phases = [float(y[i, j]) for i in (0, 1) for j in (0, 1)]
    assert all(float(y[i::2, j::2].std()) < 1e-12 for i in (0, 1) for j in (0, 1))
    assert sorted(phases) == pytest.approx(sorted(taps))


def test_transposed_at_stride_1_is_the_flipped_symmetric_convolution():
    for k in (2, 4):
        transposed = SymmetricConvTranspose2d(6, 5, k, stride=1).double()
        direct = SymmetricConv2d(6, 5, k).double()
        direct.load_state_dict({"weight": transposed.weight.flip(2, 3).transpose(0, 1), "bias": transposed.bias})
        x = torch.randn(2, 6, 5, 7, dtype=torch.float64)
        torch.testing.assert_close(transposed(x), direct(x))


def test_state_dicts_interchange():
    for a, b in (("c2", "c2sp"), ("c3", "c3sp"), ("c4", "c4sp"), ("c5", "c5sp")):
        for factory in (conv2d, conv_transpose2d):
            factory(a, 6, 4).load_state_dict(factory(b, 6, 4).state_dict())


@pytest.mark.parametrize("kernel", KERNELS)
def test_parameters_and_multiplications_do_not_depend_on_padding(kernel):
    size = int(kernel[1])
    layer = conv2d(kernel, 8, 8)
    with FlopCounterMode(display=False) as counter:
        layer(torch.zeros(1, 8, 16, 16))
    assert sum(p.numel() for p in layer.parameters()) == 8 * 8 * size**2 + 8
    assert counter.get_total_flops() == 2 * 8 * 8 * size**2 * 16 * 16


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("groups", [2, 4])
def test_groups_are_layers_beside_each_other(kernel, groups):
    """Of four channels each, every one with corners of its own; of two, with those of the whole layer's quarters."""
    torch.manual_seed(0)
    x = torch.randn(2, 8, 6, 6, dtype=torch.float64)
    for factory, stride in ((conv2d, 1), (conv2d, 2), (conv_transpose2d, 1), (conv_transpose2d, 2)):
        layer = factory(kernel, 8, 8, stride, groups=groups).double()
        if groups == 2:
            alone = [factory(kernel, 4, 4, stride).double() for _ in range(groups)]
            for part, weight, bias in zip(alone, layer.weight.chunk(groups), layer.bias.chunk(groups)):
                part.load_state_dict({"weight": weight, "bias": bias})
            wanted = torch.cat([part(own) for part, own in zip(alone, x.chunk(groups, dim=1))], dim=1)
        else:
            dense = factory(kernel, 8, 8, stride).double()
            dense.load_state_dict({"weight": block_diagonal(layer.weight, groups), "bias": layer.bias})
            wanted = dense(x)
        torch.testing.assert_close(layer(x), wanted)


def block_diagonal(weight, groups):
    """The dense weight (8, 8, k, k) of a layer with groups, whose first axis holds them one after the other."""
    dense = weight.new_zeros(8, 8, *weight.shape[2:])
    for i, own in enumerate(weight.detach().chunk(groups)):
        n = 8 // groups
        dense[i * n : (i + 1) * n, i * n : (i + 1) * n] = own
    return dense


@pytest.mark.parametrize("kernel", KERNELS)
def test_dilation_is_a_kernel_with_holes(kernel):
    k = int(kernel[1])
    layer = conv2d(kernel, 4, 3, dilation=3).double()
    x = torch.randn(1, 4, 16, 16, dtype=torch.float64)
    holed = torch.zeros(3, 4, 3 * k - 2, 3 * k - 2, dtype=torch.float64)
    holed[:, :, ::3, ::3] = layer.weight.detach()
    wide = SameConv2d(4, 3, 3 * k - 2, place=parse_kernel(kernel)[1]).double()
    wide.load_state_dict({"weight": holed, "bias": layer.bias})
    torch.testing.assert_close(layer(x), wide(x))


class Scaled(nn.Conv2d):
    def forward(self, x):
        return 2 * super().forward(x)


def hooked():
    layer = nn.Conv2d(3, 3, 3, padding=1)
    layer.register_forward_hook(lambda *_: None)
    return layer


@pytest.mark.parametrize(
    ("build", "complaint"),
    [
        (lambda: conv2d("c6", 4, 4), "unknown kernel 'c6'"),
        (lambda: conv2d("c3", 4, 4, stride=3), "stride must be 1 or 2"),
        (lambda: conv2d("c2sp", 4, 4, stride=4), "stride must be 1 or 2"),
        (lambda: SymmetricConv2d(4, 4, (2, 3)), "square kernels only"),
        (lambda: SymmetricConvTranspose2d(4, 4, 3, 2, dilation=2), "dilation is not supported"),
        (lambda: convert(nn.Linear(3, 3), "c2sp"), "no convolution"),
        (lambda: convert(nn.Sequential(nn.utils.spectral_norm(nn.Conv2d(3, 3, 3, padding=1))), "c2sp"), "would be lost"),
        (lambda: SymmetricConv2d(4, 4, 4, 1, 2), "positional"),
        (lambda: convert(nn.Sequential(hooked()), "c2sp"), "carries hooks"),
        (lambda: convert(nn.Sequential(Scaled(3, 3, 3, padding=1)), "c2sp"), "what Scaled adds"),
        (lambda: convert(nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Conv2d(3, 3, 3, padding=1))), "c2sp"), "first"),
    ],
)
def test_refusals(build, complaint):
    with pytest.raises((ValueError, TypeError), match=complaint):
        build()


@pytest.mark.parametrize("kernel", ["c2", "c2sp", "c4sp", "c5sp"])
@pytest.mark.parametrize("channels_last", [False, True])
def test_autocast_and_channels_last(kernel, channels_last):
    torch.manual_seed(0)
    layer = conv2d(kernel, 6, 8)
    x = torch.randn(2, 6, 8, 10)
    wanted = layer(x)
    if channels_last:
        layer, x = layer.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(layer(x), wanted)
    assert layer(x).is_contiguous(memory_format=torch.channels_last) == channels_last
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), wanted, rtol=0.03, atol=0.03)


@pytest.mark.parametrize("kernel", ["c2", "c2sp", "c4sp", "c3sp"])
def test_compiles_into_one_graph(kernel):
    net = nn.Sequential(conv2d(kernel, 6, 8), nn.ReLU(), conv_transpose2d(kernel, 8, 6))
    x = torch.randn(2, 6, 6, 8, requires_grad=True)
    wanted = torch.autograd.grad(net(x).square().sum(), [x, *net.parameters()])
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    found = torch.autograd.grad(compiled(x).square().sum(), [x, *net.parameters()])
    for a, b in zip(found, wanted):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kernel", ["c2", "c2sp", "c3sp"])
def test_exported_graphs_need_nothing_of_this_file(kernel):
    net = nn.Sequential(conv2d(kernel, 4, 8), conv2d(kernel, 8, 4, 2)).eval()
    exported = torch.export.export(net, (torch.zeros(1, 4, 8, 8),))
    assert not any("even_kernels" in str(node.target) for node in exported.graph.nodes)
    sizes = {2: torch.export.Dim("h", min=4, max=64), 3: torch.export.Dim("w", min=4, max=64)}
    dynamic = torch.export.export(net, (torch.zeros(1, 4, 8, 8),), dynamic_shapes=(sizes,)).module()
    for shape in ((8, 8), (13, 10)):
        torch.testing.assert_close(dynamic(x := torch.randn(1, 4, *shape)), net(x))


@pytest.mark.parametrize("kernel", ["c2", "c2sp", "c3sp", "c4", "c4sp"])
def test_strided_layers_round_odd_sizes_up(kernel):
    """As if the picture went on with zeros, and as many pixels as a plain 3x3 leaves."""
    layer, x = conv2d(kernel, 4, 5, 2), torch.randn(2, 4, 13, 10)
    assert layer(x).shape == nn.Conv2d(4, 5, 3, 2, 1)(x).shape == (2, 5, 7, 5)
    filled = nn.functional.pad(x, (0, 0, 0, 1))
    torch.testing.assert_close(layer(x), layer(filled))


def macs(model):
    with FlopCounterMode(display=False) as counter, torch.device("meta"):
        model.to("meta")(torch.empty(1, 3, 224, 224))
    return counter.get_total_flops() // 2


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [("resnet50", (25.5, 4089), (19.3, 3062)), ("densenet121", (7.98, 2834), (6.79, 2144))],
)
def test_convert_gives_the_papers_imagenet_counts(name, before, after):
    """Parameters in millions and multiply-adds in millions at 224x224, Table 2 of the paper."""
    with torch.device("meta"):
        model = getattr(torchvision.models, name)()
        converted = convert(copy.deepcopy(model), "c2sp")
    for net, (params, mflops) in ((model, before), (converted, after)):
        assert sum(p.numel() for p in net.parameters()) / 1e6 == pytest.approx(params, abs=0.06)
        assert macs(net) / 1e6 == pytest.approx(mflops, abs=1)


def test_convert_keeps_shapes_shared_layers_and_equal_sized_weights():
    model = torchvision.models.resnet18(num_classes=5)
    shape = model(torch.zeros(2, 3, 64, 64)).shape
    before = copy.deepcopy(model)
    assert convert(model, "c4sp")(torch.zeros(2, 3, 64, 64)).shape == shape
    assert not any(type(m) is nn.Conv2d and m.kernel_size == (3, 3) for m in model.modules())
    same = convert(convert(copy.deepcopy(before), "c3sp"), "c3")
    for a, b in zip(same.state_dict().values(), before.state_dict().values()):
        assert torch.equal(a, b)
    shared = nn.Conv2d(4, 4, 3, padding=1)
    pair = convert(nn.Sequential(shared, nn.ReLU(), shared), "c2sp")
    assert pair[0] is pair[2]


@pytest.mark.parametrize("size", [64, 75, 100])
def test_converted_models_take_pictures_of_any_size(size):
    model = torchvision.models.resnet18(num_classes=5)
    shapes = []
    for net in (model, convert(copy.deepcopy(model), "c2sp")):
        net.layer4.register_forward_hook(lambda m, x, y: shapes.append(y.shape))
        net.eval()(torch.zeros(1, 3, size, size))
    assert shapes[0] == shapes[1]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA GPU")
@pytest.mark.parametrize("kernel", KERNELS)
def test_cuda_computes_what_the_cpu_does(kernel):
    for layer in (conv2d(kernel, 6, 5), conv2d(kernel, 6, 5, 2), conv_transpose2d(kernel, 6, 5)):
        x = torch.randn(2, 6, 8, 8, dtype=torch.float64, requires_grad=True)
        layer.double()
        wanted = torch.autograd.grad(layer(x).square().sum(), [x, layer.weight])
        found = copy.deepcopy(layer).cuda()
        x_cuda = x.detach().cuda().requires_grad_()
        for a, b in zip(torch.autograd.grad(found(x_cuda).square().sum(), [x_cuda, found.weight]), wanted):
            torch.testing.assert_close(a.cpu(), b)


@pytest.mark.parametrize(
    "layer",
    [
        nn.ConvTranspose2d(4, 4, 4, 2, padding=(1, 0)),
        nn.ConvTranspose2d(4, 4, 3, 2, 1, output_padding=(1, 0)),
        nn.Conv2d(4, 4, 3, padding=1, dilation=(1, 2)),
        nn.Conv2d(4, 4, 3, padding=(1, 0)),
    ],
    ids=["padding", "output padding", "dilation", "padding of a convolution"],
)
def test_convert_leaves_layers_alone_that_treat_the_axes_differently(layer):
    model = nn.Sequential(layer, nn.Conv2d(4, 4, 3, padding=1))
    shape = model(torch.zeros(1, 4, 12, 10)).shape
    assert convert(model, "c2sp")[0] is layer and model(torch.zeros(1, 4, 12, 10)).shape == shape


def test_convert_reaches_transposed_layers_and_says_nothing_of_others():
    model = nn.Sequential(nn.ConvTranspose2d(8, 8, 3, 2, 1, 1), nn.Conv2d(8, 8, 7, padding=3), nn.Conv2d(8, 8, 3))
    convert(model, "c5sp")
    assert isinstance(model[0], SymmetricConvTranspose2d) and model[0].kernel_size == (5, 5)
    assert type(model[1]) is type(model[2]) is nn.Conv2d
