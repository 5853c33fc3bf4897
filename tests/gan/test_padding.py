"""gan.padding by hand: how much, and where the odd pixel goes."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from gan import fast_padding
from gan.padding import BELOW_RIGHT, CORNERS, PADDINGS, Rule, extend, group_sizes, pad, same_padding, towards
from tests.reference import naive_conv


@pytest.mark.parametrize(
    ("size", "stride", "dilation", "sides"),
    [(2, 1, 1, (0, 1)), (3, 1, 1, (1, 1)), (4, 1, 1, (1, 2)), (2, 2, 1, (0, 0)), (3, 2, 1, (0, 1)), (2, 1, 3, (1, 2))],
)
def test_a_same_size_layer_pads_k_minus_s(size, stride, dilation, sides):
    assert same_padding(size, stride, dilation) == sides


@pytest.mark.parametrize(("channels", "sizes"), [(8, [2, 2, 2, 2]), (7, [2, 2, 2, 1]), (2, [1, 1, 0, 0])])
def test_groups_are_as_equal_as_can_be(channels, sizes):
    assert group_sizes(channels) == sizes


def test_each_quarter_of_the_channels_has_the_odd_pixel_in_another_corner():
    padded = pad(torch.ones(1, 4, 1, 1), Rule(0, 1, towards(CORNERS, 4)))[0]
    assert [group.nonzero()[0].tolist() for group in padded] == [[int(above), int(left)] for above, left in CORNERS]
    assert sorted(CORNERS) == [(False, False), (False, True), (True, False), (True, True)]


def test_a_one_sided_pad_has_it_below_and_to_the_right():
    assert pad(torch.ones(1, 1, 1, 1), Rule(0, 1, ((1, BELOW_RIGHT),))).tolist() == [[[[1, 0], [0, 0]]]]


AMOUNTS = [(1, 2, 0, 1), (2, 0, 3, 3), (-1, 1, 1, 0), (0, 0, 0, 0)]  # left, right, top, bottom


@pytest.mark.parametrize("mode", PADDINGS)
@pytest.mark.parametrize("amounts", AMOUNTS, ids=str)
@pytest.mark.parametrize("shape", [(4, 5), (2, 3, 4, 5), (1, 2, 1, 2), (3, 2, 2)], ids=str)
def test_a_map_goes_on_as_numpy_pads_it(mode, amounts, shape):
    """Beyond a map smaller than what is padded, too, where torch refuses."""
    x = torch.arange(float(np.prod(shape))).view(shape)
    left, right, top, bottom = amounts
    h, w = shape[-2:]
    cut = x[..., max(-top, 0) : h - max(-bottom, 0), max(-left, 0) : w - max(-right, 0)]
    width = [(0, 0)] * (x.dim() - 2) + [(max(top, 0), max(bottom, 0)), (max(left, 0), max(right, 0))]
    named = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}
    assert extend(x, amounts, mode).tolist() == np.pad(cut.numpy(), width, named[mode]).tolist()


@pytest.mark.parametrize("mode", PADDINGS[1:])
def test_torch_pads_alike_with_the_same_gradient(mode):
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    ours, theirs = extend(x, (1, 2, 3, 0), mode), F.pad(x, (1, 2, 3, 0), mode=mode)
    assert torch.equal(ours, theirs)
    found, wanted = (torch.autograd.grad(y.sin().sum(), x)[0] for y in (ours, theirs))
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("mode", PADDINGS)
def test_more_rows_and_columns_at_the_far_end_go_on_with_the_map(mode):
    x = torch.randn(1, 5, 5, 7)
    rule = Rule(1, 2, towards(CORNERS, 5), mode)
    wider, plain = pad(x, rule, (1, 1)), pad(x, rule)
    assert wider.shape == (1, 5, 9, 11) and torch.equal(wider[:, :, :-1, :-1], plain)
    assert torch.equal(pad(x[0], rule), plain[0])  # without a batch
    if mode == "circular":  # two rows of the top below the picture, and one more: the first group has those at rows 6 to 8
        assert torch.equal(wider[0, :2, 6:, 1:8], x[0, :2, :3])


@pytest.mark.parametrize("mode", PADDINGS[1:])
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_a_padded_map_lies_in_memory_as_the_map_did(mode, order):
    x = torch.randn(2, 8, 4, 4).contiguous(memory_format=order)
    assert pad(x, Rule(0, 1, towards(CORNERS, 8), mode)).is_contiguous(memory_format=order)


@pytest.mark.parametrize("how", [pad, fast_padding.pad])
@pytest.mark.parametrize(("channels", "groups"), [(16, 2), (15, 3), (24, 4)])
def test_each_group_of_a_convolution_has_all_four_corners(how, channels, groups):
    """Channel c of a group of n has the corner that it would have if the group stood alone."""
    padded = how(torch.ones(2, channels, 1, 1), Rule(0, 1, towards(CORNERS, channels, groups)))
    own = [naive_conv.before(c, channels // groups, 2, 1, "symmetric") for c in range(channels // groups)]
    for picture in padded:
        assert [tuple(c.nonzero()[0].tolist()) for c in picture] == own * groups
    assert set(own) == {(0, 0), (0, 1), (1, 0), (1, 1)}


@pytest.mark.parametrize("groups", [1, 4, 8])
def test_groups_too_small_for_four_corners_share_them_as_the_whole_does(groups):
    assert towards(CORNERS, 8, groups) == towards(CORNERS, 8)


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_the_groups_of_a_convolution_are_padded_alike_by_both(order):
    x, rule = torch.randn(2, 24, 3, 4).contiguous(memory_format=order), Rule(1, 2, towards(CORNERS, 24, 4))
    found = fast_padding.pad(x, rule)
    assert torch.equal(found, pad(x, rule)) and found.is_contiguous(memory_format=order)
