"""gan.padding by hand: how much, and where the odd pixel goes."""

import pytest
import torch

from gan.padding import CORNERS, group_sizes, pad_corners, pad_one_side, same_padding


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
