import pytest
import torch

from data import EpochOrder


@pytest.mark.parametrize("count", [1, 2, 7, 100])
def test_every_epoch_is_a_permutation(count):
    order = EpochOrder(count, seed=3)
    for epoch in range(5):
        assert sorted(order.indices(epoch * count, count).tolist()) == list(range(count))


def test_epochs_and_seeds_differ():
    # Also along the diagonal: a sum of seed and epoch would make these equal.
    keys = [(seed, epoch) for seed in range(-2, 4) for epoch in range(6)]
    orders = {tuple(EpochOrder(50, seed).indices(epoch * 50, 50).tolist()) for seed, epoch in keys}
    assert len(orders) == len(keys)


def test_random_access_equals_sequential_reading():
    whole = EpochOrder(13, seed=5).indices(0, 200)
    order = EpochOrder(13, seed=5)
    for position, n in [(190, 10), (0, 1), (12, 2), (25, 40), (100, 0), (3, 150), (0, 200)]:
        assert torch.equal(order.indices(position, n), whole[position : position + n])


def test_far_positions_are_reached_at_once():
    order = EpochOrder(10, seed=1)
    far = 10**12
    assert sorted(order.indices(far, 10).tolist()) == list(range(10))
    assert len(order._permutations) <= 2


def test_cache_stays_small_and_unspoilt():
    order = EpochOrder(4, seed=0)
    first = order.indices(0, 4)
    kept = first.clone()
    first.zero_()
    assert torch.equal(order.indices(0, 4), kept)
    order.indices(0, 100)
    assert len(order._permutations) == 2


def test_dtype_and_shape():
    taken = EpochOrder(5, seed=0).indices(3, 8)
    assert taken.dtype == torch.int64 and taken.shape == (8,)


def test_reading_ignores_and_leaves_the_global_generator():
    torch.manual_seed(0)
    state = torch.get_rng_state()
    EpochOrder(9, seed=0).indices(0, 30)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("count", [0, -1])
def test_refuses_an_empty_order(count):
    with pytest.raises(ValueError, match="at least 1"):
        EpochOrder(count, seed=0)


def test_refuses_negative_positions():
    with pytest.raises(ValueError, match="negative"):
        EpochOrder(3, seed=0).indices(-1, 2)


@pytest.mark.parametrize("count, block", [(1000, 4), (1001, 4), (5, 8), (300, 1000)])
def test_blocks_keep_neighbours_near_and_every_image_once(count, block):
    order = EpochOrder(count, seed=0, block=block)
    first, second = order.indices(0, count), order.indices(count, count)
    assert first.sort()[0].tolist() == second.sort()[0].tolist() == list(range(count)) and not torch.equal(first, second)
    assert torch.equal(first, EpochOrder(count, seed=0, block=block).indices(0, count))
    assert len((first[: order.window] // block).unique()) <= 32 + 1  # few blocks, hence few places on the disk
    assert not torch.equal(first, EpochOrder(count, seed=1, block=block).indices(0, count))
