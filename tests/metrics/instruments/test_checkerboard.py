"""metrics.instruments.checkerboard on layers whose taps are counted by hand, and on pictures with planted patterns."""

import math

import pytest
import torch
from torch import nn

from gan.kernels import conv_transpose2d
from gan.models.upsampling import upsample_conv
from metrics.instruments.checkerboard import constant_picture, image_checkerboard, layer_checkerboard, residual
from metrics.instruments.impulse import impulse_response
from tests.helpers import random_images


def seeded(make, *arguments, seed=0):
    torch.manual_seed(seed)
    return make(*arguments)


def pictures(n=64, side=32, seed=0):
    """Soft pictures with some grain and without a pattern, uint8."""
    noise = torch.randn(n, 3, side + 6, side + 6, generator=torch.Generator().manual_seed(seed))
    soft = nn.functional.avg_pool2d(noise, 7, 1) + 0.02 * noise[..., 3:-3, 3:-3]
    return (soft * 160 + 128).round().clamp(0, 255).to(torch.uint8)


def planted(images, strength, pattern):
    """Add strength * pattern, (2, 2) or (4, 4), tiled."""
    reps = images.shape[-1] // len(pattern)
    tile = torch.tensor(pattern, dtype=torch.float32).repeat(reps, reps)
    return (images.float() + strength * tile).round().clamp(0, 255).to(torch.uint8)


# --- layers ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "upsampling, kernel, taps, variation",
    [
        ("transposed", "c3", (1, 2, 2, 4), 0.484), ("transposed", "c5", (4, 6, 6, 9), 0.286), ("transposed", "c2", (1,) * 4, 0),
        ("transposed", "c4", (4,) * 4, 0), ("transposed", "c3sp", (2.25,) * 4, 0), ("transposed", "c5sp", (6.25,) * 4, 0),
        ("nearest", "c3", (9,) * 4, 0), ("pixelshuffle", "c3", (9,) * 4, 0), ("bilinear", "c2sp", (4,) * 4, 0),
        ("unpool", "c3", (1, 2, 2, 4), 0.484), ("unpool", "c2sp", (1,) * 4, 0),
    ],
)  # fmt: skip
def test_overlap_by_hand(upsampling, kernel, taps, variation):
    found = layer_checkerboard(seeded(upsample_conv, upsampling, kernel, 8, 3))
    assert sorted(found.taps) == pytest.approx(sorted(taps)) and found.overlap_variation == pytest.approx(variation, abs=5e-4)


@pytest.mark.parametrize(("mean", "left"), [(0.0, 1.0), (1.0, 1 / 33)])
def test_symmetric_padding_leaves_of_a_checkerboard_what_its_groups_do_not_share(mean, left):
    """Kernels whose taps are alike, n = 8 channels a group, weights N(mean, 1): 1 / (4 n mean² + 1) of the plain layer's energy."""
    weights = mean + torch.randn(32, 400, generator=torch.Generator().manual_seed(0))  # (in, out)
    energies = []
    for kernel in ("c3sp", "c3"):
        layer = conv_transpose2d(kernel, 32, 400, bias=False).requires_grad_(False)
        layer.weight.copy_(weights[:, :, None, None].expand_as(layer.weight))
        phases = impulse_response(layer).gains.sum(dim=2)  # (4, out): what a constant becomes
        energies.append(float(phases.var(dim=0, correction=0).sum()))
    assert energies[0] / energies[1] == pytest.approx(left, rel=0.15)


def test_which_phase_has_which_taps():
    assert layer_checkerboard(conv_transpose2d("c3", 8, 3)).taps == (1, 2, 2, 4)  # padding 1: the first pixel meets one tap
    assert layer_checkerboard(conv_transpose2d("c5", 8, 3)).taps == (9, 6, 6, 4)


def test_equal_weights_have_the_gains_of_their_taps():
    for kernel in ("c3", "c3sp", "c4", "c5"):
        layer = conv_transpose2d(kernel, 8, 3)
        nn.init.constant_(layer.weight, 0.7)
        nn.init.zeros_(layer.bias)
        found = layer_checkerboard(layer)
        if kernel.endswith("sp"):  # each input channel by itself is uneven; their sum is not
            assert found.overlap_variation == 0 and found.phase_gain == pytest.approx(0.484, abs=5e-4)
        else:
            assert found.phase_gain == pytest.approx(found.overlap_variation, abs=1e-6)
        assert found.constant_response == pytest.approx(found.overlap_variation**2, abs=1e-6)
        taps = torch.tensor(found.taps)
        assert found.noise_response == pytest.approx(taps.log().std(correction=0).item(), abs=1e-6)


def test_phase_gain_is_zero_iff_the_kernel_vanishes_at_nyquist():
    layer = nn.ConvTranspose2d(1, 1, 4, 2, 1, bias=False)
    smooth = torch.tensor([1.0, 3.0, 3.0, 1.0])  # bilinear: its transform vanishes at π
    layer.weight.data = torch.outer(smooth, smooth)[None, None]
    assert layer_checkerboard(layer).phase_gain == pytest.approx(0, abs=1e-7)
    layer.weight.data[0, 0, 1, 1] += 16  # of 64: gains 32, 16, 16, 16
    assert layer_checkerboard(layer).phase_gain == pytest.approx(math.sqrt(3) * 4 / 20, abs=1e-6)
    # iid weights: 4 taps a phase, variance 4 of which a quarter is common.
    assert layer_checkerboard(seeded(conv_transpose2d, "c4", 64, 64)).phase_gain == pytest.approx(math.sqrt(3), rel=0.05)


def test_filling_in_first_never_makes_a_checkerboard():
    for upsampling in ("nearest", "bilinear"):
        found = layer_checkerboard(seeded(upsample_conv, upsampling, "c2sp", 8, 3))
        assert found.phase_gain < 1e-6 and found.constant_response < 1e-12
    assert layer_checkerboard(seeded(upsample_conv, "pixelshuffle", "c3", 8, 3)).phase_gain > 1  # four kernels of their own


@pytest.mark.parametrize("upsampling", ["transposed", "pixelshuffle"])
def test_constant_response_equals_running_the_layer(upsampling):
    layer = seeded(upsample_conv, upsampling, "c3", 5, 3)
    level = torch.rand(5)
    with torch.no_grad():
        y = layer(level[None, :, None, None].expand(1, 5, 9, 9))[0, :, 6:12, 6:12].double()
    phases = y.view(3, 3, 2, 3, 2)[:, 0, :, 0].reshape(3, 4)
    wanted = phases.var(dim=1, correction=0).sum() / phases.mean(dim=1).square().sum()
    assert layer_checkerboard(layer, level).constant_response == pytest.approx(wanted.item(), rel=1e-4)


def test_noise_response_equals_running_the_layer():
    layer = seeded(upsample_conv, "nearest", "c3", 4, 3)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        y = (layer(torch.randn(60, 4, 66, 66, generator=generator)) - layer[1].bias[:, None, None])[..., 2:-2, 2:-2]
    variances = y.view(60, 3, 64, 2, 64, 2).var(dim=(0, 2, 4)).sum(dim=0).flatten()
    assert layer_checkerboard(layer).noise_response == pytest.approx(variances.log().std(correction=0).item(), abs=0.01)


def test_constant_maps_through_a_network():
    maps = torch.rand(2, 8, 4, 4)
    smooth = nn.Sequential(seeded(upsample_conv, "nearest", "c3", 8, 8), nn.ReLU(), seeded(upsample_conv, "nearest", "c3", 8, 3))
    picture, texture = constant_picture(smooth, maps)
    assert picture.shape == (2, 3, 32, 32) and texture < 1e-6
    uneven = conv_transpose2d("c3", 8, 3)
    nn.init.constant_(uneven.weight, 1.0)
    nn.init.zeros_(uneven.bias)
    picture, texture = constant_picture(uneven, maps)
    level = maps.mean(dim=(2, 3)).sum(dim=1)
    assert texture == pytest.approx(2.25 * 0.4843 * level.square().mean().sqrt().item(), rel=1e-3)


# --- images ------------------------------------------------------------------------------------------------------------------


def test_pictures_without_a_pattern():
    found = image_checkerboard(pictures())
    assert found.phase_mean_variance < 0.03 and found.phase_variance_ratio < 0.03
    assert found.nyquist_peaks < 1 and found.half_nyquist_peaks < 3


@pytest.mark.parametrize("pattern", [[[1, -1], [-1, 1]], [[1, -1], [1, -1]], [[3, -1], [-1, -1]]])
def test_a_planted_pattern_of_two_pixels(pattern):
    clean, found = image_checkerboard(pictures()), image_checkerboard(planted(pictures(), 4, pattern))
    assert found.phase_mean_variance > 10 * clean.phase_mean_variance and found.nyquist_peaks > clean.nyquist_peaks + 10
    assert found.half_nyquist_peaks == pytest.approx(clean.half_nyquist_peaks, abs=1)


def test_a_planted_pattern_of_four_pixels():
    stripes = [[1, 1, -1, -1]] * 4
    clean, found = image_checkerboard(pictures()), image_checkerboard(planted(pictures(), 8, stripes))
    assert found.half_nyquist_peaks > clean.half_nyquist_peaks + 10
    assert found.nyquist_peaks == pytest.approx(clean.nyquist_peaks, abs=1)


def test_phase_mean_variance_by_hand():
    """Noise of variance v, plus c on a checkerboard: the residual is noise of 1.25 v and ± 2 c."""
    noise = torch.randn(200, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 10 + 128
    found = image_checkerboard(planted(noise, 5, [[1, -1], [-1, 1]]))
    assert found.phase_mean_variance == pytest.approx((2 * 5) ** 2 / ((2 * 5) ** 2 + 1.25 * 100), rel=0.02)


def test_phases_of_unlike_sharpness():
    noise = torch.randn(200, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 20
    scale = torch.ones(32, 32)
    scale[::2, ::2] = 2  # the residual's variance: 4 + 1 / 4 on that phase, 1 + 1 on (0, 1), (1, 0)... by its neighbours
    found = image_checkerboard((noise * scale + 128).round().clamp(0, 255).to(torch.uint8))
    variances = torch.tensor([4 + 1 / 4, 1 + 10 / 16, 1 + 10 / 16, 1 + 1 / 4])
    assert found.phase_variance_ratio == pytest.approx(variances.log().std(correction=0).item(), rel=0.05)
    assert found.phase_mean_variance < 0.02  # means are alike


def test_phases_count_from_the_corner():
    images = torch.zeros(1, 1, 32, 32)
    images[..., ::2, ::2] = 100
    r = residual(images)
    assert r.shape == (1, 1, 28, 28) and r[0, 0, 0, 0] == 100 and r[0, 0, 0, 1] == -50 and r[0, 0, 1, 1] == 0


def test_flat_pictures_have_no_pattern():
    found = image_checkerboard(torch.full((4, 3, 32, 32), 9, dtype=torch.uint8))
    assert (found.phase_mean_variance, found.phase_variance_ratio, found.nyquist_peaks, found.half_nyquist_peaks) == (0, 0, 0, 0)


def test_refuses_odd_and_small_pictures():
    for shape in ((4, 3, 31, 31), (4, 3, 14, 14), (3, 32, 32)):
        with pytest.raises(ValueError, match="even sides from 16"):
            image_checkerboard(torch.zeros(shape))


def test_below_24_pixels_period_4_is_not_measured():
    """A checkerboard of period 4 shows at 24 pixels; at 16 its neighbours in the spectrum are too near to what else there is."""
    board = 20 * (torch.arange(24) % 4 < 2).float()
    images = (random_images(60, 24, 24) / 4 + board[:, None] + board).to(torch.uint8)
    assert image_checkerboard(images).half_nyquist_peaks > 5
    found = image_checkerboard(images[..., :16, :16])
    assert math.isnan(found.half_nyquist_peaks) and math.isfinite(found.nyquist_peaks)


def test_white_noise_has_its_floor():
    assert image_checkerboard(random_images(300)).phase_mean_variance == pytest.approx(0.006, abs=0.001)
