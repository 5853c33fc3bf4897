"""metrics.instruments.impulse against kernels written out by hand and against running the layer."""

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from gan.kernels import KERNELS, conv2d, conv_transpose2d
from gan.models.upsampling import UPSAMPLINGS, upsample_conv
from metrics.instruments.impulse import impulse_response, spatial_layers, up_layers


def seeded(make, *arguments, seed=0, **options):
    torch.manual_seed(seed)
    return make(*arguments, **options)


@pytest.mark.parametrize("upsampling", UPSAMPLINGS)
@pytest.mark.parametrize("kernel", KERNELS)
def test_equals_the_layer_itself(upsampling, kernel):
    """A one in one channel, run through the whole layer, in the middle of a large map."""
    layer = seeded(upsample_conv, upsampling, kernel, 5, 3).double()
    found = impulse_response(layer)
    s, n = found.scale, len(found.energy) // found.scale
    assert s == 2 and found.gains.shape == (4, 3, 5) and found.powers.shape == (4, 3)
    x = torch.zeros(5, 5, 24, 24, dtype=torch.float64)
    x[range(5), range(5), 12, 12] = 1
    with torch.no_grad():
        y = layer(x) - layer(torch.zeros_like(x))
    cut = slice(s * (12 - n // 2), s * (12 - n // 2 + n))
    assert y[:, :, cut, cut].square().sum() == pytest.approx(y.square().sum())  # nothing is cut off
    torch.testing.assert_close(found.energy, y[:, :, cut, cut].square().sum(dim=(0, 1)))
    phases = y.view(5, 3, 24, 2, 24, 2).permute(3, 5, 1, 0, 2, 4).reshape(4, 3, 5, -1)
    torch.testing.assert_close(found.gains, phases.sum(dim=3))
    torch.testing.assert_close(found.powers, phases.square().sum(dim=(2, 3)))


@pytest.mark.parametrize("padding", ["reflect", "replicate", "circular"])
@pytest.mark.parametrize("kernel", ["c2", "c3", "c4sp", "c3off"])
def test_borders_have_no_part_in_it(kernel, padding):
    """The map that is measured on is small; a border must not throw the impulse back."""
    for make in (conv2d, conv_transpose2d):
        zeros, other = (seeded(make, kernel, 4, 3, padding_mode=p) for p in ("zeros", padding))
        for a, b in zip(vars(impulse_response(zeros)).values(), vars(impulse_response(other)).values()):
            torch.testing.assert_close(a, b)
        assert other.padding_mode == padding
    for upsampling in ("bilinear", "binomial"):  # whose fillers look beyond the border, too
        zeros, other = (seeded(upsample_conv, upsampling, kernel, 4, 3, padding=p) for p in ("zeros", padding))
        for a, b in zip(vars(impulse_response(zeros)).values(), vars(impulse_response(other)).values()):
            torch.testing.assert_close(a, b)


def test_same_size_layers_have_one_phase():
    layer = seeded(conv2d, "c2sp", 6, 70)  # more outputs than are taken at once
    found = impulse_response(layer)
    assert found.scale == 1
    torch.testing.assert_close(found.gains[0], layer.weight.detach().sum(dim=(2, 3)).double())
    torch.testing.assert_close(found.energy.sum(), layer.weight.detach().double().square().sum())


def test_wide_pixel_shuffles_keep_their_channels_together():
    layer = seeded(upsample_conv, "pixelshuffle", "c3", 2, 40)  # 160 outputs before the shuffle
    weight = layer[0].weight.detach().double().sum(dim=(2, 3)).view(40, 4, 2)  # (out, phase, in)
    torch.testing.assert_close(impulse_response(layer).gains, weight.permute(1, 0, 2))


def test_flat_counts_taps():
    assert impulse_response(conv_transpose2d("c3", 3, 2), flat=True).gains.sum(dim=(1, 2)).tolist() == [3, 6, 6, 12]
    assert impulse_response(upsample_conv("pixelshuffle", "c3", 3, 2), flat=True).gains.sum(dim=(1, 2)).tolist() == [27] * 4


def test_the_layer_stays_as_it_was():
    layer = seeded(conv_transpose2d, "c3sp", 4, 4)
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    impulse_response(layer)
    assert layer.groups == 1 and layer.training and layer.weight.requires_grad
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())


def test_spectral_norm_counts_as_used():
    layer = seeded(conv2d, "c3", 3, 3)
    normed = spectral_norm(seeded(conv2d, "c3", 3, 3))
    ratio = impulse_response(layer).energy.sum() / impulse_response(normed).energy.sum()
    sigma = torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2)
    assert ratio.sqrt() == pytest.approx(sigma.item(), rel=0.1)


def test_finds_layers_with_their_fillers():
    block = nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(), upsample_conv("nearest", "c3", 4, 4))
    shrinking = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(4, 4, 1))
    network = nn.Sequential(
        block, conv2d("c2sp", 4, 4), conv_transpose2d("c4", 4, 4), shrinking, nn.Sequential(nn.Conv2d(4, 4, 1), nn.Tanh())
    )
    assert [name for name, _ in spatial_layers(network)] == ["0.2", "1", "2", "3.1", "4.0"]
    assert [name for name, _ in up_layers(network)] == ["0.2", "2"]
    for alone in (conv_transpose2d("c3", 4, 4), upsample_conv("unpool", "c3", 4, 4), upsample_conv("pixelshuffle", "c3", 4, 4)):
        assert up_layers(alone) == [("", alone)]
    elsewhere = upsample_conv("binomial", "c3", 4, 4).to("meta")  # whose taps are not on the CPU
    assert up_layers(elsewhere) == [("", elsewhere)]
    assert up_layers(conv2d("c3", 4, 4)) == [] and up_layers(conv_transpose2d("c3", 4, 4, stride=1)) == []


@pytest.mark.parametrize("layer", [conv2d("c4sp", 8, 8, groups=2), conv_transpose2d("c3sp", 8, 8, groups=2)])
def test_groups_are_measured_as_they_compute(layer):
    """The response to a 1 in one channel, put in by hand."""
    found = impulse_response(layer)
    with torch.no_grad():
        n = int(found.energy.shape[-1]) // found.scale
        energy = torch.zeros_like(found.energy)
        for channel in range(8):
            x = torch.zeros(1, 8, n, n)
            x[0, channel, n // 2, n // 2] = 1
            y = (layer(x) - layer.bias[:, None, None])[0].double()
            energy += y.square().sum(0)
            phases = y.unflatten(2, (n, -1)).unflatten(1, (n, -1)).sum(dim=(1, 3)).flatten(1)  # (out, s²)
            torch.testing.assert_close(found.gains[:, :, channel], phases.T, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found.energy, energy, rtol=1e-4, atol=1e-6)


def test_refuses_what_it_cannot_measure():
    with pytest.raises(ValueError, match="shrinks"):
        impulse_response(conv2d("c4", 2, 2, stride=2))
    with pytest.raises(ValueError, match="exactly one convolution, this Sequential has 2"):
        impulse_response(nn.Sequential(conv2d("c3", 2, 2), conv2d("c3", 2, 2)))
