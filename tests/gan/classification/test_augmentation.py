"""Augmentation: what each does to pixels whose place is known, and that all of it is a function of seed and step."""

import pytest
import torch

from gan.classification.augmentation import crop_and_mirror, cutout, mixup_weight, whole_numbers


def numbered(n=64, side=8):
    """(n, side, side, 3) float: each pixel its own non-zero number, the same in every image and channel."""
    return torch.arange(1.0, side * side + 1).view(1, side, side, 1).expand(n, side, side, 3).contiguous()


def test_every_window_is_part_of_the_padded_image_and_all_of_them_occur():
    x = numbered(400)
    padded = torch.nn.functional.pad(x[0], (0, 0, 2, 2, 2, 2))
    windows = [w for top in range(5) for left in range(5) for w in [padded[top : top + 8, left : left + 8]]]
    windows += [w.flip(1) for w in windows]
    found = [next(i for i, w in enumerate(windows) if torch.equal(image, w)) for image in crop_and_mirror(x, 2, True, 0, 3)]
    assert len(set(found)) == 50
    assert 150 < sum(i >= 25 for i in found) < 250  # half of them turned round


def test_without_padding_and_mirror_nothing_happens():
    assert torch.equal(crop_and_mirror(numbered(), 0, False, 0, 0), numbered())
    turned = crop_and_mirror(numbered(), 0, True, 0, 0)
    assert all(torch.equal(a, b) or torch.equal(a, b.flip(1)) for a, b in zip(turned, numbered()))


@pytest.mark.parametrize("side", [3, 4])
def test_cutout_blanks_one_square_anywhere(side):
    holes = (cutout(numbered(500), side, 0, 0) == 0).all(dim=3)
    sizes = holes.sum((1, 2))
    assert sizes.max() == side**2 and sizes.min() < side**2  # whole, and cut off by the border
    assert holes.any(0).all()  # every pixel can go
    for hole in holes[:50]:
        rows, columns = hole.any(1).nonzero(), hole.any(0).nonzero()
        assert hole[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1].all()


def test_mixup_weight_follows_its_distribution():
    even = torch.tensor([mixup_weight(1.0, 0, step) for step in range(1000)])
    assert even.mean() == pytest.approx(0.5, abs=0.04) and even.std() == pytest.approx(12**-0.5, abs=0.03)  # uniform
    extreme = torch.tensor([mixup_weight(0.1, 0, step) for step in range(300)])
    assert ((extreme < 0.1) | (extreme > 0.9)).float().mean() > 0.7
    assert mixup_weight(0.0, 0, 5) == 1


def test_draws_are_a_function_of_seed_and_step():
    def draws(seed, step):
        return torch.cat([crop_and_mirror(numbered(), 2, True, seed, step), cutout(numbered(), 4, seed, step)])

    assert torch.equal(draws(0, 1), draws(0, 1))
    assert not torch.equal(draws(0, 1), draws(0, 2)) and not torch.equal(draws(0, 1), draws(1, 1))
    assert mixup_weight(1.0, 0, 1) == mixup_weight(1.0, 0, 1) != mixup_weight(1.0, 0, 2)


def test_whole_numbers_are_even_and_in_range():
    counts = whole_numbers(9000, 9, torch.device("cpu"), 0, "x", 0).bincount()
    assert len(counts) == 9 and counts.min() > 850 and counts.max() < 1150
