"""Classifiers for CIFAR: published counts of parameters and multiply-adds, what a block computes, what the shift moves."""

import pytest
import torch
from torch import nn

from gan.kernels import OneSidedConv2d, SymmetricConv2d, conv2d
from gan.models.classifiers import build_classifier
from gan.models.compact_blocks import BRANCHES, ResidualBlock, Shift, norm_relu, through
from gan.models.counting import parameter_count
from gan.models.summary import macs


def cost(**options) -> tuple[int, int]:
    """Parameters and multiply-adds of one 32-pixel image, on the meta device."""
    with torch.device("meta"):
        model = build_classifier(**options)
    return parameter_count(model), macs(model, 1, 3, 32, 32)


@pytest.mark.parametrize(
    ("depth", "kernel", "millions", "mmacs"),
    [
        (20, "c3", 0.27, 41),  # He et al. 2016, table 6, and the same for 56 and 110
        (56, "c3", 0.85, 126),
        (110, "c3", 1.73, 253),
        (146, "c3", 2.31, 338),  # Wu et al. 2019: C3 at 2.3 M, C2sp at 1.04 M
        (146, "c2sp", 1.04, 150),
        (20, "c2", 0.12, 18),
    ],
)
def test_resnet_has_the_published_size(depth, kernel, millions, mmacs):
    parameters, multiply_adds = cost(family="resnet", depth=depth, kernel=kernel)
    assert parameters / 1e6 == pytest.approx(millions, abs=0.006)
    assert multiply_adds / 1e6 == pytest.approx(mmacs, abs=0.6)


@pytest.mark.parametrize(
    ("depth", "growth", "kernel", "millions"),
    [
        (100, 12, "c3", 0.769),  # Huang et al. 2017, table 2: 0.8 M, 15.3 M, 25.6 M
        (250, 24, "c3", 15.32),
        (190, 40, "c3", 25.62),
        (46, 48, "c3", 3.39),  # Wide-DenseNet of Wu et al. 2019: 3.4 M
        (100, 12, "c2sp", 0.631),
    ],
)
def test_densenet_has_the_published_size(depth, growth, kernel, millions):
    assert cost(family="densenet", depth=depth, growth=growth, kernel=kernel)[0] / 1e6 == pytest.approx(millions, rel=0.002)


@pytest.mark.parametrize("family", ["resnet", "densenet"])
@pytest.mark.parametrize(("kernel", "layer"), [("c2", OneSidedConv2d), ("c4sp", SymmetricConv2d), ("c5", nn.Conv2d)])
def test_every_spatial_convolution_gets_the_kernel_at_stride_one(family, kernel, layer):
    model = build_classifier(family, kernel, depth={"resnet": 14, "densenet": 16}[family])
    spatial = [m for m in model.modules() if isinstance(m, nn.Conv2d) and m.kernel_size != (1, 1)]
    assert len(spatial) == {"resnet": 13, "densenet": 7}[family]
    assert all(type(m) is layer and m.kernel_size == (int(kernel[1]),) * 2 and m.stride == (1, 1) for m in spatial)
    widths = [m.out_channels for m in spatial]
    assert widths == ([16] * 5 + [32] * 4 + [64] * 4 if family == "resnet" else [24] + [12] * 6)  # unchanged


@pytest.mark.parametrize("block", BRANCHES)
@pytest.mark.parametrize("kernel", ["c3", "c2sp"])
def test_shapes_and_gradients(block, kernel):
    model = build_classifier("resnet", kernel, 8, width=9, block=block, expansion=2, classes=7)
    x = torch.randn(2, 3, 32, 32)
    assert model.features(x).shape == (2, 36, 8, 8) and model.embed(x).shape == (2, 36) and model.dim == 36
    logits = model(x)
    assert logits.shape == (2, 7)
    logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def kept(forward, x):
    """The result, and bytes that autograd keeps for it: each storage once."""
    storages = {}
    keep = lambda t: storages.update({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes()}) or t
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        y = forward(x)
    return y, sum(storages.values())


@pytest.mark.parametrize("kernel", ["c2", "c2sp", "c3", "c4sp", "c5sp"])
def test_padding_before_the_relu_changes_no_bit_and_keeps_less(kernel):
    torch.manual_seed(0)
    net = nn.Sequential(*norm_relu(8), conv2d(kernel, 8, 8), *norm_relu(8), nn.AvgPool2d(2), conv2d(kernel, 8, 8))
    x = torch.randn(4, 8, 16, 16, requires_grad=True)
    (plain, before), (ours, after) = kept(net, x), kept(lambda x: through(net, x), x)
    assert torch.equal(plain, ours)
    for a, b in zip(*(torch.autograd.grad(y.square().sum(), [x, *net.parameters()]) for y in (plain, ours))):
        assert torch.equal(a, b)
    relu = 4 * x.numel()  # its result beside the padded copy, in bytes
    assert before - after == (0 if kernel in ("c3", "c5sp") else relu)


def test_a_block_of_even_kernels_keeps_little_more_than_one_of_c3():
    x = torch.randn(4, 16, 32, 32, requires_grad=True)
    c3, c2sp = (kept(ResidualBlock("basic", 16, 16, kernel, 1, down=False), x)[1] for kernel in ("c3", "c2sp"))
    assert c2sp < 1.06 * c3


def test_compact_blocks_cost_what_their_papers_say():
    """Weights of one block at 16 channels, norms left out."""

    def weights(block, **options):
        options = {"kernel": "c3", "expansion": 4, **options}
        layers = ResidualBlock(block, 16, 16, down=False, **options).modules()
        return sum(m.weight.numel() for m in layers if isinstance(m, nn.Conv2d))

    assert weights("basic") == 2 * 9 * 16**2
    assert weights("basic", kernel="c2sp") == weights("shift") == 8 * 16**2
    assert weights("inverted_bottleneck") == 2 * 4 * 16**2 + 9 * 4 * 16
    assert weights("depthwise_separable") == 2 * (16**2 + 9 * 16)


def test_shift_moves_nine_groups_by_the_nine_offsets():
    x = torch.zeros(1, 18, 5, 5)
    x[:, :, 2, 2] = torch.arange(1.0, 19)
    moved = Shift()(x)
    places = moved.amax(1)[0].nonzero().tolist()
    assert len(places) == 9 and all(1 <= row <= 3 and 1 <= column <= 3 for row, column in places)
    assert torch.equal(moved.sum((2, 3)), x.sum((2, 3)))
    for pair in moved[0].split(2):  # a group goes one way
        assert pair[0].argmax() == pair[1].argmax()
    assert Shift()(torch.ones(1, 9, 5, 5))[0, 0, 0].sum() == 0  # zeros move in


def test_a_block_with_a_silent_branch_is_its_shortcut():
    x = torch.randn(2, 8, 6, 6)
    same = ResidualBlock("basic", 8, 8, "c3", 1, down=False).eval()
    nn.init.zeros_(same.branch[-1].weight)
    assert torch.equal(same(x), x)
    down = ResidualBlock("basic", 8, 8, "c3", 1, down=True).eval()
    nn.init.zeros_(down.branch[-1].weight)
    nn.init.dirac_(down.project.weight)
    wanted = nn.functional.avg_pool2d(x.relu(), 2)
    torch.testing.assert_close(down(x), wanted, rtol=1e-4, atol=1e-4)


def test_weights_begin_as_he_et_al_have_them():
    """N(0, 2 / fan-in); the linear layer Glorot's, with zero bias."""
    torch.manual_seed(0)
    net = build_classifier("resnet", "c2sp", 20)
    layers = [layer for layer in net.modules() if isinstance(layer, torch.nn.Conv2d) and layer.weight.numel() > 4000]
    assert len(layers) > 5
    for layer in layers:
        assert layer.weight.std().item() == pytest.approx((2 / layer.weight[0].numel()) ** 0.5, rel=0.05)
    bound = (6 / (net.head.in_features + 10)) ** 0.5
    assert 0.9 * bound < net.head.weight.abs().max() <= bound and not net.head.bias.any()


@pytest.mark.parametrize(
    ("family", "depth", "near"), [("resnet", 21, "20 or 26"), ("densenet", 20, "16 or 22"), ("resnet", 3, "8 or 14")]
)
def test_a_depth_that_does_not_exist_is_refused(family, depth, near):
    with pytest.raises(ValueError, match=f"{near}, not {depth}"):
        build_classifier(family, depth=depth)
