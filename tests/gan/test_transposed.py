import pytest
import torch
import torch.nn.functional as F

from gan.fusing import rule_of
from gan.kernels import KERNELS, SameConvTranspose2d, conv2d, conv_transpose2d, parse_kernel
from gan.padding import PADDINGS
from gan.resampling import unpool_conv
from gan.transposed import cropped_transposed
from tests.reference import naive_conv


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("first", [(0, 0), (1, 0), (2, 2), (0, 3)])
@pytest.mark.parametrize("last", [(0, 0), (0, 1), (3, 1), (2, 0)])
@pytest.mark.parametrize("groups", [1, 2])
def test_crops_are_those_of_a_slice(stride, first, last, groups):
    x = torch.randn(2, 4, 5, 6, dtype=torch.float64, requires_grad=True)
    w = torch.randn(4, 4 // groups, 3, 3, dtype=torch.float64, requires_grad=True)
    b = torch.randn(4, dtype=torch.float64, requires_grad=True)
    whole = F.conv_transpose2d(x, w, b, stride, groups=groups)
    wanted = whole[:, :, first[0] : whole.shape[2] - last[0], first[1] : whole.shape[3] - last[1]]
    found = cropped_transposed(x, w, b, stride, first, last, groups)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)
    weights = torch.randn_like(wanted)
    pairs = zip(*(torch.autograd.grad(y, (x, w, b), weights) for y in (found, wanted)))
    for ours, theirs in pairs:
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("first", "last"), [((1, 0), (-1, 0)), ((-1, -2), (0, 1)), ((-1, -1), (-1, -3))])
@pytest.mark.parametrize("stride", [1, 2])
def test_rows_that_no_tap_reaches_hold_the_bias(first, last, stride):
    x, w, b = torch.randn(1, 2, 4, 4), torch.randn(2, 3, 2, 2), torch.randn(3)
    whole = F.conv_transpose2d(x, w, None, stride)
    (top, left), (bottom, right) = first, last
    wanted = F.pad(whole, (-left, -right, -top, -bottom)) + b[None, :, None, None]
    torch.testing.assert_close(cropped_transposed(x, w, b, stride, first, last), wanted)


@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("kernel", KERNELS)
def test_outputs_have_no_gaps_in_memory(kernel, padding, memory_format):
    """A slice of a larger output slows the layers behind it: benchmarks/transposed.py."""
    x = torch.randn(2, 8, 6, 6).to(memory_format=memory_format)
    layers = [SameConvTranspose2d(8, 8, int(kernel[1]), s, place=parse_kernel(kernel)[1], padding_mode=padding) for s in (1, 2)]
    outputs = [layer(x) for layer in layers] + [layers[1](x, [11, 12])]
    if padding == "zeros":
        layer = conv2d(kernel, 8, 8)
        outputs.append(unpool_conv(x, layer.weight, layer.bias, rule_of(layer)))
    assert all(y.is_contiguous(memory_format=memory_format) for y in outputs)


def test_a_transposed_pointwise_layer_may_be_asked_for_a_row_more():
    """A kernel of 1 pads less than nothing at stride 2."""
    layer = SameConvTranspose2d(3, 2, 1, 2)
    x = torch.randn(1, 3, 4, 4)
    whole, larger = layer(x), layer(x, output_size=(9, 8))
    assert whole.shape == (1, 2, 8, 8) and larger.shape == (1, 2, 9, 8)
    torch.testing.assert_close(larger[:, :, :8], whole)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("kernel", [k for k in KERNELS if k not in ("c2alt", "c3", "c5")])
def test_in_float32_and_channels_last_too_values_are_those_of_the_definition(kernel, padding, stride):
    """oneDNN is at work here; paddings may exceed the kernel, and outputs have a row more or less than usual."""
    torch.manual_seed(0)
    layer = conv_transpose2d(kernel, 4, 2, stride, padding_mode=padding)
    mode = {"four corners": "symmetric", "far side": "off"}.get(layer.place, "one-sided")
    x = torch.randn(1, 4, 4, 3).to(memory_format=torch.channels_last)
    for more in (-1, 0, 1) if stride == 2 else (0,):
        size = (4 * stride + more, 3 * stride + more)
        wanted = naive_conv.conv_transpose2d(x, layer.weight, layer.bias, stride, mode, padding, size)
        torch.testing.assert_close(layer(x, output_size=size), wanted, rtol=1e-5, atol=1e-5)
