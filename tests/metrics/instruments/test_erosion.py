"""metrics.instruments.erosion on maps whose means are known, and the order of kernels that the paper argues from."""

import math
from functools import partial

import pytest
import torch
from torch import nn

from gan.kernels import conv2d
from metrics.instruments.erosion import Stack, activations, erosion, stack_erosion


def averaging(kernel, channels=4):
    """A layer whose output is the mean of the pixels under its kernel, in every channel."""
    layer = conv2d(kernel, channels, channels, bias=False)
    nn.init.constant_(layer.weight, 1 / layer.weight[0].numel())
    return layer


def test_q_by_hand():
    """Ones, averaged 3x3 with zeros outside: 1 inside, 6 / 9 at the sides, 4 / 9 in the corners of 4x4."""
    layer = averaging("c3")
    network = nn.Sequential(layer, nn.ReLU())
    first, after = erosion(network, torch.ones(3, 4, 4, 4), [("relu", network[1])], batch=2)
    assert (first.name, first.q, first.border, first.lean_x, first.lean_y) == ("input", 1, 1, 0, 0)
    assert after.name == "relu" and after.q == pytest.approx((4 * 1 + 8 * 6 / 9 + 4 * 4 / 9) / 16)
    assert after.border == pytest.approx((8 * 6 / 9 + 4 * 4 / 9) / 12) and after.lean_x == pytest.approx(0, abs=1e-7)
    torch.testing.assert_close(after.mean_map[0], torch.tensor([4, 6, 6, 4]) / 9)


def test_absolute_values_and_the_scale_of_the_input():
    network = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False))
    nn.init.constant_(network[0].weight, -0.5)
    _, after = erosion(network, torch.full((1, 1, 4, 4), -8.0), [("half", network[0])])
    assert after.q == 0.5


def test_one_sided_padding_leans_to_the_top_left():
    def last(kernel):
        network = nn.Sequential(*(averaging(kernel) for _ in range(6)))
        return erosion(network, torch.ones(1, 4, 12, 12), list(network.named_children()))[-1]

    one_sided, symmetric = last("c2"), last("c2sp")
    assert one_sided.lean_x == one_sided.lean_y < -0.05
    assert symmetric.lean_x == pytest.approx(0, abs=1e-6) and symmetric.lean_y == pytest.approx(0, abs=1e-6)
    assert one_sided.mean_map[0, 0] == 1 and one_sided.mean_map[-1, -1] < 0.05


def test_nothing_of_the_network_is_changed_and_in_place_layers_do_no_harm():
    network = nn.Sequential(nn.ReLU(inplace=True), averaging("c3"), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(64, 1))
    inputs = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    before = inputs.clone()
    found = erosion(network, inputs, [*activations(network), ("head", network[4])])
    assert [layer.name for layer in found] == ["input", "0", "2"]  # the head gives no map
    assert torch.equal(inputs, before) and not network[0]._forward_hooks
    assert found[0].q == 1 and found[1].q == pytest.approx((before.relu().mean() / before.abs().mean()).item(), rel=1e-5)


def test_lean_by_hand():
    """All of it in the last of four columns, on rows 1 and 2 of six."""
    inputs = torch.zeros(1, 2, 6, 4)
    inputs[:, :, 1:3, 3] = 5.0
    (found,) = erosion(nn.Identity(), inputs, [])
    assert found.lean_x == pytest.approx(1.5 / 4) and found.lean_y == pytest.approx((2 - 3) / 6)


def test_dark_maps_have_no_ratios():
    network = nn.Sequential(nn.ReLU())
    dark = erosion(network, -torch.ones(1, 1, 4, 4), activations(network))[1]
    assert dark.q == 0 and math.isnan(dark.border) and math.isnan(dark.lean_x)


def test_the_stack_is_the_papers():
    stack = Stack(partial(conv2d, "c3"))
    assert len(stack.layers) == 54
    assert [c.out_channels for c in stack.convolutions] == [16] * 18 + [32] * 18 + [64] * 18
    assert stack(torch.zeros(2, 3, 32, 32)).shape == (2, 64, 8, 8)
    shortcuts = Stack(partial(conv2d, "c3"), shortcuts=True)
    for layer in shortcuts.convolutions:
        nn.init.zeros_(layer.weight)
    picture = torch.rand(1, 3, 32, 32)
    carried = shortcuts(picture)  # with convolutions of zero, the shortcuts alone carry the picture through
    torch.testing.assert_close(carried[:, :3], nn.functional.avg_pool2d(picture, 4))
    assert not carried[:, 3:].any()


def test_erosion_of_the_papers_stack():
    """Untrained, at layer 54: symmetric above one-sided padding by orders of magnitude (geometric mean of 3 seeds)."""
    soft = nn.functional.avg_pool2d(torch.rand(8, 3, 39, 39, generator=torch.Generator().manual_seed(0)), 8, 1)
    images = (soft * 255).round().to(torch.uint8)

    def q(kernel, layer=54):
        return math.prod(stack_erosion(partial(conv2d, kernel), images, seed)[layer].q for seed in range(3)) ** (1 / 3)

    found = {kernel: q(kernel) for kernel in ("c2", "c2sp", "c3", "c4", "c4sp")}
    assert found["c2sp"] > 1e3 * found["c2"] and found["c4sp"] > 2 * found["c4"]
    assert 1e-8 < found["c2"] < 1e-4 < 1e-3 < found["c3"] < 0.3


def test_a_seed_gives_one_stack_and_leaves_the_global_state():
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    state = torch.get_rng_state()
    a, b = (stack_erosion(partial(conv2d, "c2sp"), images, seed=3) for _ in range(2))
    assert torch.equal(state, torch.get_rng_state())
    assert [layer.q for layer in a] == [layer.q for layer in b]
    normed = stack_erosion(partial(conv2d, "c2"), images, norm=True)
    assert 0.1 < normed[54].q < 10  # batch norm sets every layer anew
