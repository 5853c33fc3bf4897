"""gan.fast_padding against the definition in gan.padding, by each way that it takes."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from gan import fast_padding, padding
from gan.padding import BELOW_RIGHT, CORNERS, Rule, towards

ORDERS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
AMOUNTS = [(0, 1), (1, 1), (1, 2), (-1, 0)]


def derivatives(pad, x):
    """What a pad makes of x, with the first derivative of a sum of cubes, and a second one."""
    x = x.clone(memory_format=torch.preserve_format).requires_grad_()
    padded = pad(x)
    (first,) = torch.autograd.grad((padded**3).sum(), x, create_graph=True)
    return [padded, first, *torch.autograd.grad((first**2).sum(), x)]


def rule(x, small, large, corners=CORNERS):
    return Rule(small, large, towards(corners, x.shape[1]))


def assert_the_definition(x, rule):
    wanted = derivatives(lambda x: padding.pad(x, rule), x)
    for one, other in zip(derivatives(lambda x: fast_padding.pad(x, rule), x), wanted):
        assert torch.equal(one, other) and one.dtype == other.dtype


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("small", "large"), AMOUNTS)
@pytest.mark.parametrize("channels", [3, 7, 16, 36])
def test_one_buffer_is_the_definition(monkeypatch, channels, small, large, order):
    """36 channels in float64 are also copied as wider words."""
    monkeypatch.setattr(fast_padding, "_picks", lambda x: False)
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        x = torch.randn(2, channels, 5, 4, dtype=dtype).contiguous(memory_format=ORDERS[order])
        assert_the_definition(x, rule(x, small, large))
        if small >= 0:
            assert fast_padding.pad(x, rule(x, small, large)).is_contiguous(memory_format=ORDERS[order])


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("mode", padding.PADDINGS[1:])
@pytest.mark.parametrize("corners", [CORNERS, (BELOW_RIGHT,)])
@pytest.mark.parametrize(("small", "large"), [(0, 0), (0, 1), (1, 1), (1, 2), (5, 6)])  # 5 and 6: further than the map goes
def test_other_modes_are_the_definition_with_a_derivative_that_lies_as_the_map_does(small, large, corners, mode, order):
    x = torch.randn(2, 7, 5, 4, dtype=torch.float64).contiguous(memory_format=ORDERS[order])
    how = Rule(small, large, towards(corners, 7), mode)
    found = derivatives(lambda x: fast_padding.pad(x, how), x)
    wanted = derivatives(lambda x: padding.pad(x, how), x)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
    assert all(value.is_contiguous(memory_format=ORDERS[order]) for value in found)
    assert torch.autograd.gradcheck(
        lambda x: fast_padding.pad(x, how), x.clone().requires_grad_(), check_forward_ad=True, fast_mode=True
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("channels", [3, 7, 16, 36])
def test_a_depthwise_convolution_is_the_definition(channels, dtype):
    """Derivatives and memory format too, also under autocast."""
    if not fast_padding._has_depthwise(dtype):
        pytest.skip("oneDNN has no depthwise convolution for this on this machine")
    x = torch.randn(2, channels, 5, 4, dtype=dtype).contiguous(memory_format=torch.channels_last)
    assert fast_padding._picks(x)
    for small in (0, 1):
        with torch.autocast("cpu", torch.bfloat16):
            assert_the_definition(x, rule(x, small, small + 1))
            padded = fast_padding.pad(x, rule(x, small, small + 1))
        assert padded.is_contiguous(memory_format=torch.channels_last)


def test_what_is_compiled_for_another_device_gets_the_definition(monkeypatch):
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    monkeypatch.setattr(fast_padding, "_compiles_for_cpu", lambda x: False)
    monkeypatch.setattr(padding, "pad", lambda *how: how)
    x = torch.zeros(1, 4, 2, 2)
    assert fast_padding.pad(x, rule(x, 1, 2)) == (x, rule(x, 1, 2))


def test_a_fake_tensor_is_padded_too_and_leaves_nothing_behind():
    """torch's tools run a network on tensors without numbers."""
    order = torch.channels_last
    with FakeTensorMode():
        x = torch.empty(2, 20, 5, 4).contiguous(memory_format=order).requires_grad_()
        padded = fast_padding.pad(x, rule(x, 0, 1))
        (grad,) = torch.autograd.grad(padded.sum(), x)
    assert padded.shape == (2, 20, 6, 5) and grad.shape == x.shape
    real = torch.randn(2, 20, 5, 4).contiguous(memory_format=order)
    assert torch.equal(fast_padding.pad(real, rule(real, 0, 1)), padding.pad(real, rule(real, 0, 1)))


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("corners", [False, True])
def test_compiled_for_the_cpu_a_pad_is_one_sealed_operator(corners, channels_last):
    """The definition's numbers and gradients, the memory format of eager; torch's own checks of an operator; and it is compiled."""
    how = lambda x, small, large: rule(x, small, large, CORNERS if corners else (BELOW_RIGHT,))
    pad = lambda x, small, large: fast_padding.pad(x, how(x, small, large))
    definition = lambda x, small, large: padding.pad(x, how(x, small, large))
    order = torch.channels_last if channels_last else torch.contiguous_format
    x = torch.randn(2, 8, 5, 4).contiguous(memory_format=order).requires_grad_()
    single, part = x[:, :, :1, :1].contiguous(memory_format=order), torch.randn(2, 16, 5, 4).contiguous(memory_format=order)[:, :8]
    picture = torch.randn(5, 4, 8).permute(2, 0, 1).unsqueeze(0)  # (H, W, C) as a batch of one
    for odd in (x, single, part, part.transpose(2, 3), picture):
        torch.library.opcheck(fast_padding._pad_whole, (odd, 0, 1, corners))
        torch.library.opcheck(fast_padding._crop_whole, (padding.pad(odd.detach(), rule(odd, 0, 1, (BELOW_RIGHT,))), 0, 1, corners))
    operators = []

    def seen(graph, inputs):
        operators.extend(str(node.target) for node in graph.graph.nodes)
        return graph.forward

    padded = torch.compile(lambda x: pad(x, 1, 2), fullgraph=True, backend=seen)(x)
    assert any("even_kernels" in operator for operator in operators)
    assert torch.equal(padded, definition(x, 1, 2)) and padded.stride() == pad(x, 1, 2).stride()
    weight = torch.randn_like(padded)
    for wanted, found in zip(
        torch.autograd.grad((definition(x, 1, 2) * weight).sum(), x), torch.autograd.grad((padded * weight).sum(), x)
    ):  # fmt: skip
        assert torch.equal(wanted, found)


def test_the_names_that_exported_programs_hold_are_there():
    assert torch.ops.even_kernels.pad(torch.ones(1, 4, 1, 1), 0, 1, True).sum() == 4
    assert torch.ops.even_kernels.crop(torch.ones(1, 4, 2, 2), 0, 1, True).shape == (1, 4, 1, 1)
