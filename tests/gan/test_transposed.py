import pytest
import torch
import torch.nn.functional as F

from gan.fusing import rule_of
from gan.kernels import KERNELS, conv2d, conv_transpose2d
from gan.resampling import unpool_conv
from gan.transposed import cropped_transposed


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("first", [(0, 0), (1, 0), (2, 2), (0, 3)])
@pytest.mark.parametrize("last", [(0, 0), (0, 1), (3, 1), (2, 0)])
def test_crops_are_those_of_a_slice(stride, first, last):
    x = torch.randn(2, 3, 5, 6, dtype=torch.float64, requires_grad=True)
    w = torch.randn(3, 4, 3, 3, dtype=torch.float64, requires_grad=True)
    b = torch.randn(4, dtype=torch.float64, requires_grad=True)
    whole = F.conv_transpose2d(x, w, b, stride)
    wanted = whole[:, :, first[0] : whole.shape[2] - last[0], first[1] : whole.shape[3] - last[1]]
    found = cropped_transposed(x, w, b, stride, first, last)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)
    weights = torch.randn_like(wanted)
    pairs = zip(*(torch.autograd.grad(y, (x, w, b), weights) for y in (found, wanted)))
    for ours, theirs in pairs:
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_rows_behind_the_last_tap_hold_the_bias():
    x, w, b = torch.randn(1, 2, 4, 4), torch.randn(2, 3, 2, 2), torch.randn(3)
    y = cropped_transposed(x, w, b, 2, (1, 0), (-1, 0))
    assert y.shape == (1, 3, 8, 8)
    torch.testing.assert_close(y[:, :, -1], b[None, :, None].expand(1, 3, 8))
    torch.testing.assert_close(y[:, :, :-1], F.conv_transpose2d(x, w, b, 2)[:, :, 1:])


@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("kernel", KERNELS)
def test_outputs_have_no_gaps_in_memory(kernel, memory_format):
    """A slice of a larger output slows the layers behind it: benchmarks/transposed.py."""
    x = torch.randn(2, 8, 6, 6).to(memory_format=memory_format)
    layer = conv2d(kernel, 8, 8)
    outputs = [conv_transpose2d(kernel, 8, 8, stride)(x) for stride in (1, 2)]
    outputs += [conv_transpose2d(kernel, 8, 8)(x, [11, 12]), unpool_conv(x, layer.weight, layer.bias, rule_of(layer))]
    assert [y.is_contiguous(memory_format=memory_format) for y in outputs] == [True] * 4
