"""gan.padding by hand: how much, and where the odd pixel goes."""

import pytest
import torch

from gan import fast_padding
from gan.padding import CORNERS, group_sizes, pad_corners, pad_one_side, same_padding
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
    padded = pad_corners(torch.ones(1, 4, 1, 1), 0, 1)[0]
    assert [group.nonzero()[0].tolist() for group in padded] == [[int(above), int(left)] for above, left in CORNERS]
    assert sorted(CORNERS) == [(False, False), (False, True), (True, False), (True, True)]


def test_a_one_sided_pad_has_it_below_and_to_the_right():
    assert pad_one_side(torch.ones(1, 1, 1, 1), 0, 1).tolist() == [[[[1, 0], [0, 0]]]]


@pytest.mark.parametrize("pad", [pad_corners, fast_padding.pad_corners])
@pytest.mark.parametrize(("channels", "groups"), [(16, 2), (15, 3), (24, 4)])
def test_each_group_of_a_convolution_has_all_four_corners(pad, channels, groups):
    """Channel c of a group of n has the corner that it would have if the group stood alone."""
    padded = pad(torch.ones(2, channels, 1, 1), 0, 1, groups)
    own = [naive_conv.before(c, channels // groups, 2, 1, "symmetric") for c in range(channels // groups)]
    for picture in padded:
        assert [tuple(c.nonzero()[0].tolist()) for c in picture] == own * groups
    assert set(own) == {(0, 0), (0, 1), (1, 0), (1, 1)}


@pytest.mark.parametrize("groups", [1, 4, 8])
def test_groups_too_small_for_four_corners_share_them_as_the_whole_does(groups):
    x = torch.randn(1, 8, 3, 4)
    for pad in (pad_corners, fast_padding.pad_corners):
        assert torch.equal(pad(x, 1, 2, groups), pad_corners(x, 1, 2))
