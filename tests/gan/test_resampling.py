"""Resampling and convolution as one, against the two steps one after the other, in float64."""

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from gan.fusing import rule_of
from gan.kernels import KERNELS, conv2d
from gan.phases import phase_conv
from gan.resampling import Unpool, conv_pool, nearest_conv, spread, unpool_conv

SIZES = [(4, 4, 8), (5, 7, 6), (2, 3, 3), (3, 2, 1)]  # height, width, channels: also odd ones, and fewer channels than corners


def two_steps(kind, layer, x):
    if kind == "pool":
        return F.avg_pool2d(layer(x), 2)
    return layer(F.interpolate(x, scale_factor=2) if kind == "nearest" else Unpool()(x))


def fused(kind, layer, x):
    if kind == "pool":
        return conv_pool(layer.pad(x) if hasattr(layer, "pad") else x, layer.weight, layer.bias, layer.padding[0])
    return {"nearest": nearest_conv, "unpool": unpool_conv}[kind](x, layer.weight, layer.bias, rule_of(layer))


def by_phases(kind, layer, x):
    return phase_conv(x, layer.weight, layer.bias, rule_of(layer), kind)


def derivatives(function, kind, layer, x):
    """The output; its gradients by input, weight and bias; and the gradients of those two's squares, as penalties take them."""
    y = function(kind, layer, x)
    parameters = [x, layer.weight, layer.bias]
    first = torch.autograd.grad((y.square() * torch.arange(y.numel()).view_as(y).cos()).sum(), parameters, create_graph=True)
    second = torch.autograd.grad(first[0].square().sum() + first[1].square().sum(), parameters[:2])
    return [y, *first, *second]


def test_zero_insertion_has_derivatives_of_every_order_in_the_memory_format_of_its_map():
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64).contiguous(memory_format=torch.channels_last).requires_grad_()
    assert torch.autograd.gradcheck(Unpool(), x) and torch.autograd.gradgradcheck(Unpool(), x)
    y = Unpool()(x)
    assert torch.equal(y[:, :, ::2, ::2], x) and y.sum().item() == pytest.approx(x.sum().item())
    (grad,) = torch.autograd.grad(y, x, torch.randn_like(y))
    assert y.is_contiguous(memory_format=torch.channels_last) and grad.is_contiguous(memory_format=torch.channels_last)
    gradients = torch.randn(3, *y.shape, dtype=torch.float64)
    each = torch.vmap(lambda g: torch.autograd.grad(y, x, g, retain_graph=True)[0])(gradients)
    torch.testing.assert_close(each, gradients[..., ::2, ::2])
    torch.testing.assert_close(torch.vmap(Unpool())(x[None]), y[None])
    torch.testing.assert_close(torch.func.jvp(Unpool(), (x,), (x,))[1], y)


@pytest.mark.parametrize(
    ("how", "kind"), [(fused, "nearest"), (fused, "unpool"), (fused, "pool"), (by_phases, "nearest"), (by_phases, "unpool")]
)
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_values_gradients_and_double_gradients_are_those_of_the_two_steps(how, kind, kernel, size):
    torch.manual_seed(0)
    height, width, channels = size
    x = torch.randn(2, channels, height, width, dtype=torch.float64, requires_grad=True)
    layer = conv2d(kernel, channels, 5).double()
    for wanted, found in zip(derivatives(two_steps, kind, layer, x), derivatives(how, kind, layer, x)):
        torch.testing.assert_close(found, wanted, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("kind", ["nearest", "unpool"])
@pytest.mark.parametrize("wanted", [{"x"}, {"weight"}, {"bias"}])
def test_the_phases_give_the_gradients_that_are_asked_for_alone(kind, wanted):
    x, layer = torch.randn(1, 4, 3, 3, requires_grad="x" in wanted), conv2d("c2sp", 4, 2)
    layer.weight.requires_grad_("weight" in wanted)
    layer.bias.requires_grad_("bias" in wanted)
    tensors = {"x": x, "weight": layer.weight, "bias": layer.bias}
    y = by_phases(kind, layer, x)
    y.square().sum().backward()
    assert {name for name, tensor in tensors.items() if tensor.grad is not None} == wanted


def test_a_kernel_spreads_to_the_sum_of_its_four_shifts():
    assert spread(torch.tensor([[[[1.0, 2], [3, 4]]]])).tolist() == [[[[1, 3, 2], [4, 10, 6], [3, 7, 4]]]]


@pytest.mark.parametrize(
    ("how", "kernel", "kind", "macs"),
    [
        (fused, "c3", "nearest", 4),  # 9 in two steps
        (fused, "c3", "unpool", 2.25),
        (fused, "c3", "pool", 4),
        (fused, "c4sp", "nearest", 9),  # 16 in two steps; 5x5 weights, embedded in 6x6
        (by_phases, "c2", "nearest", 2.25),  # 4 in two steps
        (by_phases, "c2sp", "nearest", 2.25),
        (by_phases, "c2sp", "unpool", 1),
        (by_phases, "c4sp", "nearest", 6.25),
    ],
)
def test_how_many_multiply_adds_it_takes(how, kernel, kind, macs):
    """Per pixel of the large map and pair of channels."""
    layer, x = conv2d(kernel, 8, 8, bias=False), torch.zeros(1, 8, 16, 16)
    pixels = 16 * 16 if kind == "pool" else 32 * 32
    with FlopCounterMode(display=False) as counter:
        how(kind, layer, x)
    assert counter.get_total_flops() / 2 / (8 * 8) / pixels == pytest.approx(macs, rel=0.01)
