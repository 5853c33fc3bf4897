"""metrics.instruments.spectrum on waves whose place in the spectrum is known, and against scipy's DCT."""

import math

import numpy as np
import pytest
import scipy.fft
import torch

from metrics.instruments.spectrum import azimuthal_mean, dct_magnitude, power_spectrum, spectrum_gap


def noise(n=200, side=32, seed=0, spread=20.0):
    values = torch.randn(n, 3, side, side, generator=torch.Generator().manual_seed(seed)) * spread + 128
    return values.round().clamp(0, 255).to(torch.uint8)


def test_a_wave_is_found_where_it_is():
    wave = 128 + 50 * torch.cos(2 * math.pi * 8 * torch.arange(32) / 32).expand(1, 1, 32, 32)
    spectrum = power_spectrum(wave)
    assert divmod(int(spectrum[:17, :17].argmax()), 17) == (0, 8)
    assert int(azimuthal_mean(spectrum).argmax()) == 8


def test_white_noise_is_flat_and_keeps_its_variance():
    rings = azimuthal_mean(power_spectrum(noise()))
    assert len(rings) == 24  # up to the corner, 16 sqrt 2 = 22.6
    torch.testing.assert_close(rings[2:], torch.full_like(rings[2:], 400), rtol=0.2, atol=0)


def test_rings_by_hand():
    spectrum = torch.arange(16.0).view(4, 4)  # frequencies 0, 1, -2, -1 along each axis
    rings = azimuthal_mean(spectrum)
    assert rings[0] == 0 and rings[1] == pytest.approx((1 + 3 + 4 + 12 + 5 + 7 + 13 + 15) / 8)
    assert rings[2] == pytest.approx((2 + 8 + 6 + 14 + 9 + 11) / 6) and rings[3] == 10
    with pytest.raises(ValueError, match="square spectrum"):
        azimuthal_mean(torch.zeros(4, 6))


def test_the_dct_is_scipys():
    images = noise(5)
    wanted = np.abs(scipy.fft.dctn(images.double().numpy(), axes=(2, 3), norm="ortho")).mean(axis=(0, 1))
    np.testing.assert_allclose(dct_magnitude(images).numpy(), wanted, atol=1e-9)


def test_equal_sets_have_no_gap_and_halves_a_small_one():
    assert spectrum_gap(noise(), noise()).high_frequencies == 0 and spectrum_gap(noise(), noise()).dct == 0
    halves = spectrum_gap(noise(seed=1), noise(seed=2))
    assert 0 < halves.high_frequencies < 0.05 and 0 < halves.dct < 0.1


def test_twice_the_contrast_is_log_four_in_power_and_log_two_in_the_dct():
    gap = spectrum_gap(noise(), noise(spread=10.0))
    assert gap.high_frequencies == pytest.approx(math.log(4), rel=0.02)
    assert gap.dct == pytest.approx(math.log(2), rel=0.03)


def test_only_high_frequencies_count():
    images = noise().float()
    wave = 30 * torch.cos(2 * math.pi * 4 * torch.arange(32) / 32)
    planted = (images + wave).round().clamp(0, 255).to(torch.uint8)
    assert spectrum_gap(planted, noise()).high_frequencies < 0.02
    checkerboard = 10 * torch.cos(math.pi * torch.arange(32)) * torch.cos(math.pi * torch.arange(32))[:, None]
    planted = (images + checkerboard).round().clamp(0, 255).to(torch.uint8)
    assert spectrum_gap(planted, noise()).high_frequencies > 0.2


def test_sizes_must_agree():
    with pytest.raises(ValueError, match="one size"):
        spectrum_gap(noise(4, 32), noise(4, 16))
