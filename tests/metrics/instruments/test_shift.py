"""metrics.instruments.shift on layers whose shift is known from their padding, and on pictures that were moved on purpose."""

import math

import pytest
import torch
from torch import nn

from gan.kernels import conv2d, conv_transpose2d
from gan.models.upsampling import upsample_conv
from metrics.instruments.registry import image_numbers
from metrics.instruments.shift import border_asymmetry, flat_twin, layer_drift, network_drift, roll_equivariance


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def stack(layer, depth=3, channels=8, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(*(part for _ in range(depth) for part in (layer(channels, channels), nn.ReLU())))


# --- S1 ----------------------------------------------------------------------------------------------------------------------

GEOMETRY = [  # upsampling or None, kernel, drift per axis in output pixels
    (None, "c2", -0.5), (None, "c4", -0.5), (None, "c2sp", 0), (None, "c4sp", 0), (None, "c3", 0), (None, "c5", 0),
    ("transposed", "c3", -0.5), ("transposed", "c5", -0.5), ("transposed", "c2", 0), ("transposed", "c4", 0),
    ("transposed", "c3sp", 0), ("transposed", "c5sp", 0), ("nearest", "c2", -0.5), ("nearest", "c2sp", 0), ("bilinear", "c3", 0),
    (None, "c2alt", -0.5), (None, "c3off", -1), ("transposed", "c3off", 0.5), ("nearest", "c3off", -1),
    ("pixelshuffle", "c2", -1), ("pixelshuffle", "c3", 0), ("unpool", "c3", -0.5), ("unpool", "c2sp", -0.5), ("unpool", "c2", -1),
]  # fmt: skip


@pytest.mark.parametrize("upsampling, kernel, expected", GEOMETRY)
def test_the_drift_of_each_layer(upsampling, kernel, expected):
    torch.manual_seed(0)
    layer = conv2d(kernel, 8, 8) if upsampling is None else upsample_conv(upsampling, kernel, 8, 8)
    flat = layer_drift(layer, flat=True)
    assert (flat.x, flat.y) == (pytest.approx(expected, abs=1e-9), pytest.approx(expected, abs=1e-9))
    assert flat.per_axis == pytest.approx(abs(expected), abs=1e-9)
    own = layer_drift(layer)  # random kernels: off by the accident of their weights
    assert (own.x, own.y) == (pytest.approx(expected, abs=0.2), pytest.approx(expected, abs=0.2))


def test_directions_and_spread_by_hand():
    layer = nn.Conv2d(1, 1, 3, padding=1, bias=False)
    nn.init.zeros_(layer.weight)
    layer.weight.data[0, 0, 1, 0] = 2.0  # each output takes its left neighbour: the picture moves right
    moved = layer_drift(layer)
    assert (moved.x, moved.y, moved.spread) == (1, 0, 0)
    layer.weight.data[0, 0, 1, 2] = -2.0  # and its right one: it goes both ways
    assert (layer_drift(layer).x, layer_drift(layer).y) == (0, 0)
    assert layer_drift(layer).spread == pytest.approx(math.sqrt(1 / 2))  # 1 px along one of two axes
    assert layer_drift(conv_transpose2d("c2", 3, 3, stride=1), flat=True).x == 0.5  # the adjoint goes the other way


def test_symmetric_padding_trades_drift_for_spread():
    plain, symmetric = (layer_drift(conv2d(kernel, 8, 8), flat=True) for kernel in ("c2", "c2sp"))
    assert symmetric.spread == pytest.approx(math.sqrt(plain.spread**2 + 0.5**2))


@pytest.mark.parametrize(
    "upsampling, kernel, expected",
    [
        ("transposed", "c3", -3.5),
        ("transposed", "c4", 0),
        ("transposed", "c3sp", 0),
        ("nearest", "c2", -3.5),
        ("nearest", "c2sp", 0),
    ],
)
def test_drifts_add_up_through_a_generator(upsampling, kernel, expected):
    """D = Σ d R / r: half a pixel at 8, 16 and 32 pixels is 2 + 1 + 0.5 pixels at 32."""
    found = []
    for seed in range(3):
        network = stack(lambda a, b: upsample_conv(upsampling, kernel, a, b), seed=seed)
        found.append(network_drift(network, noise(4, 8, 4, 4, seed=seed).relu(), impulses=32, seed=seed).drift)
    for axis in ("x", "y"):
        assert sum(getattr(drift, axis) for drift in found) / 3 == pytest.approx(expected, abs=0.6)
        assert sum(getattr(drift, f"slope_{axis}") for drift in found) / 3 == pytest.approx(expected, abs=1.2)  # S2: noisier


def test_a_flat_twin_shows_the_padding_alone():
    network = nn.Sequential(
        upsample_conv("transposed", "c3", 8, 8), nn.BatchNorm2d(8), nn.ReLU(), upsample_conv("nearest", "c2", 8, 3)
    )
    twin = flat_twin(network)
    found = network_drift(twin, noise(2, 8, 4, 4).abs()).drift
    for value in (found.x, found.y, found.slope_x, found.slope_y):
        assert value == pytest.approx(-0.5 * 2 - 0.5, abs=1e-3)
    assert isinstance(network[1], nn.BatchNorm2d) and network[0].weight.requires_grad  # the network stays as it was


def test_where_an_impulse_lands_is_drawn_around_where_it_belongs():
    shift = nn.Conv2d(1, 1, 3, padding=1, bias=False)
    nn.init.zeros_(shift.weight)
    shift.weight.data[0, 0, 0, 1] = 1.0  # each output takes the pixel above: the picture moves down
    landing = network_drift(shift, noise(2, 1, 8, 8))
    half = len(landing.energy) // 2
    assert landing.energy[half + 1, half] == 1 and landing.energy.sum() == 1
    drift = landing.drift
    assert (drift.x, drift.y, drift.spread) == (0, 1, 0)
    assert (drift.slope_x, drift.slope_y) == (pytest.approx(0, abs=1e-6), pytest.approx(1, abs=1e-6))


def test_dead_networks_have_no_drift():
    dead = nn.Sequential(nn.Conv2d(2, 2, 1), nn.ReLU())
    nn.init.zeros_(dead[0].weight)
    assert math.isnan(network_drift(dead, noise(2, 2, 4, 4)).drift.x)


# --- S3 ----------------------------------------------------------------------------------------------------------------------


def test_networks_without_borders_roll_along():
    network = nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(3, 3, 3, padding=1, padding_mode="circular"), nn.Tanh())
    found = roll_equivariance(network, noise(2, 3, 8, 8), shifts=(1, 2))
    assert all(value > 120 for value in found.values())  # rounding


def test_borders_and_position_spoil_rolling():
    padded = nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(3, 3, 5, padding=2), nn.Tanh())
    assert 5 < roll_equivariance(padded, noise(2, 3, 8, 8), margin=0)[1] < 60
    assert roll_equivariance(padded, noise(2, 3, 8, 8), margin=4)[1] > 120  # its border reaches 2 pixels inwards
    ramp = torch.linspace(0, 1, 16)
    # Adds its column's number: rolled by 1 it is off by 2 / 15 everywhere inside, along one of two axes.
    where = roll_equivariance(lambda x: nn.functional.interpolate(x, scale_factor=2) + ramp, noise(2, 3, 8, 8))[1]
    assert where == pytest.approx(20 * math.log10(2) - 10 * math.log10((2 / 15) ** 2 / 2), abs=1e-3)


def test_a_mask_must_leave_something():
    with pytest.raises(ValueError, match="leave nothing of 8 pixels"):
        roll_equivariance(nn.Identity(), noise(1, 1, 8, 8), shifts=(4,))


# --- S4 ----------------------------------------------------------------------------------------------------------------------


def test_a_dull_border_is_found():
    images = torch.randint(0, 256, (50, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    alike = border_asymmetry(images)
    assert abs(alike.horizontal) < 0.02 and abs(alike.vertical) < 0.02
    images[..., -4:] //= 2  # half the contrast on the right: a quarter of the energy
    found = border_asymmetry(images, strip=4)
    assert found.horizontal == pytest.approx((1 - 1 / 4) / (1 + 1 / 4), abs=0.02) and abs(found.vertical) < 0.02
    assert border_asymmetry(images.flip(3)).horizontal == -found.horizontal
    assert border_asymmetry(images.transpose(2, 3)).vertical == pytest.approx(found.horizontal)
    assert found.mean == pytest.approx((abs(found.horizontal) + abs(found.vertical)) / 2)


def test_a_border_is_compared_with_that_of_real_images_with_its_sign():
    real, duller = noise_images(), noise_images()
    duller[..., -4:] //= 2
    for images, sign in ((duller, 1), (duller.flip(3), -1)):
        found = image_numbers(images, real)
        assert sign * found["border_left_right_excess"] > 0.3 and abs(found["border_top_bottom_excess"]) < 0.03
        mean = (abs(found["border_left_right_excess"]) + abs(found["border_top_bottom_excess"])) / 2
        assert found["border_asymmetry_excess"] == pytest.approx(mean)


def noise_images():
    return torch.randint(0, 256, (50, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_one_sided_padding_leaves_its_fingerprint():
    def network(kernel):
        torch.manual_seed(0)
        return nn.Sequential(*(layer for _ in range(6) for layer in (conv2d(kernel, 16, 16, bias=False), nn.ReLU())))

    with torch.no_grad():
        one_sided, symmetric = (border_asymmetry(network(kernel)(noise(16, 16, 32, 32)) * 1e3) for kernel in ("c2", "c2sp"))
    assert one_sided.horizontal > 0.3 and one_sided.vertical > 0.3  # the right and the bottom fade
    assert symmetric.mean < 0.15


def test_flat_pictures_and_bad_strips():
    assert border_asymmetry(torch.full((2, 3, 16, 16), 7, dtype=torch.uint8)).mean == 0
    with pytest.raises(ValueError, match="strip of 2 to 8 pixels"):
        border_asymmetry(torch.zeros(1, 3, 16, 16), strip=1)
