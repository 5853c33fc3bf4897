"""Resampling and convolution as one, against the two steps one after the other, in float64."""

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from gan.kernels import KERNELS, SymmetricConv2d, conv2d
from gan.models.upsampling import Unpool
from gan.resampling import conv_pool, nearest_conv, spread, unpool_conv

SIZES = [(4, 4, 8), (5, 7, 6), (2, 3, 3), (3, 2, 1)]  # height, width, channels: also odd ones, and fewer channels than corners


def two_steps(kind, layer, x):
    if kind == "pool":
        return F.avg_pool2d(layer(x), 2)
    return layer(F.interpolate(x, scale_factor=2) if kind == "nearest" else Unpool()(x))


def fused(kind, layer, x):
    if kind == "pool":
        return conv_pool(layer.pad(x) if hasattr(layer, "pad") else x, layer.weight, layer.bias, layer.padding[0])
    symmetric = isinstance(layer, SymmetricConv2d)
    return {"nearest": nearest_conv, "unpool": unpool_conv}[kind](x, layer.weight, layer.bias, symmetric)


def derivatives(function, kind, layer, x):
    """The output; its gradients by input, weight and bias; and the gradients of those two's squares, as penalties take them."""
    y = function(kind, layer, x)
    parameters = [x, layer.weight, layer.bias]
    first = torch.autograd.grad((y.square() * torch.arange(y.numel()).view_as(y).cos()).sum(), parameters, create_graph=True)
    second = torch.autograd.grad(first[0].square().sum() + first[1].square().sum(), parameters[:2])
    return [y, *first, *second]


@pytest.mark.parametrize("kind", ["nearest", "unpool", "pool"])
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_values_gradients_and_double_gradients_are_those_of_the_two_steps(kind, kernel, size):
    torch.manual_seed(0)
    height, width, channels = size
    x = torch.randn(2, channels, height, width, dtype=torch.float64, requires_grad=True)
    layer = conv2d(kernel, channels, 5).double()
    for wanted, found in zip(derivatives(two_steps, kind, layer, x), derivatives(fused, kind, layer, x)):
        torch.testing.assert_close(found, wanted, rtol=1e-11, atol=1e-12)


def test_a_kernel_spreads_to_the_sum_of_its_four_shifts():
    assert spread(torch.tensor([[[[1.0, 2], [3, 4]]]])).tolist() == [[[[1, 3, 2], [4, 10, 6], [3, 7, 4]]]]


@pytest.mark.parametrize(("kind", "macs"), [("nearest", 4), ("unpool", 2.25), ("pool", 4)])
def test_a_3x3_takes_fewer_multiply_adds(kind, macs):
    """Per pixel of the large map and pair of channels, where the two steps take 9."""
    layer, x = conv2d("c3", 8, 8, bias=False), torch.zeros(1, 8, 16, 16)
    pixels = 16 * 16 if kind == "pool" else 32 * 32
    with FlopCounterMode(display=False) as counter:
        fused(kind, layer, x)
    assert counter.get_total_flops() / 2 / (8 * 8) / pixels == pytest.approx(macs, rel=0.01)
