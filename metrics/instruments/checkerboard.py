"""Checkerboards: whether a layer can make them, whether trained kernels do, and whether they are in the pictures.

A layer that doubles a map writes its s² output phases (pixels with equal row % s and column % s) with different sets of taps.
Phases count from the top-left corner of the picture; borders are cropped by even amounts, so they keep their names.

From layers (see metrics.instruments.impulse for what a layer is)
    W1 overlap variation: spread of the number of taps over the phases. Odena, Dumoulin, Olah, Distill 2016. Architecture alone.
    W2 phase-gain imbalance: the same of the kernels' sums. 0 iff every kernel's transfer function vanishes at (π, 0), (0, π) and
       (π, π), the condition for an interpolator free of checkerboards. Sugawara, Shiota, Kiya; Kinoshita, Kiya, arXiv 2002.02117.
    W3 constant response: variance over phases of what a constant map becomes.
    W4 white-noise response: spread over phases of the variance that white noise becomes.
From images, uint8 (N, C, H, W), generated against real ones
    I1 phase-mean variance, I2 Nyquist peaks, I3 phase-variance ratio. I4 and I5 are in metrics.instruments.spectrum.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from metrics.instruments.impulse import impulse_response, only_convolution
from metrics.instruments.registry import Number, register
from metrics.instruments.spectrum import power_spectrum

CROP = 2  # pixels off every border of a picture: even, and wide enough for the border's own artefacts
INSIDE = 3  # bins between a peak and what it is compared with


@dataclass(frozen=True)
class LayerCheckerboard:
    """W1 to W4 of one layer; all 0 for a layer that cannot, or does not, make a checkerboard."""

    taps: tuple[float, ...]  # that reach each phase, row by row
    overlap_variation: float  # W1
    phase_gain: float  # W2
    constant_response: float  # W3; nan where the mean response is 0
    noise_response: float  # W4


def layer_checkerboard(layer: nn.Module, level: Tensor | None = None) -> LayerCheckerboard:
    """W1 to W4 of a layer that enlarges its map.

    level: (in,) the constant of W3, such as the mean input of a real forward; default 1. W2 is normalised by the number of phases,
    so that a kernel of equal weights has W2 = W1. ValueError for a layer that metrics.instruments.impulse doesn't know.
    """
    taps, response, convolution = taps_per_phase(layer), impulse_response(layer), only_convolution(layer)
    overlap = (taps.std(correction=0) / taps.mean()).item()

    gains = response.gains  # (s², out, in)
    mean = gains.mean(dim=0)
    imbalance = ((gains - mean).square().sum(dim=(1, 2)).mean().sqrt() / mean.norm()).item()

    level = torch.ones(gains.shape[2]) if level is None else level
    constant = gains @ level.to(gains)  # (s², out)
    if convolution.bias is not None:
        bias = convolution.bias.detach().to(constant)
        constant = constant + (bias if len(bias) == constant.shape[1] else bias.view(-1, len(constant)).T)  # after a pixel shuffle
    square_of_mean = constant.mean(dim=0).square().sum()
    varies = (constant.var(dim=0, correction=0).sum() / square_of_mean).item() if square_of_mean > 0 else float("nan")

    noise = response.powers.sum(dim=1).log().std(correction=0).item()
    return LayerCheckerboard(tuple(taps.tolist()), overlap, imbalance, varies, noise)


def taps_per_phase(layer: nn.Module) -> Tensor:
    """How many taps reach each output phase, (s²,), row by row: a mean over pairs of channels."""
    flat = impulse_response(layer, flat=True)
    return flat.gains.sum(dim=(1, 2)) / (only_convolution(layer).in_channels * flat.gains.shape[1])


@register(
    "layers",
    Number("overlap_variation", "W1", "", "taps per output phase, worst layer"),
    Number("phase_gain", "W2", "", "kernel sums per output phase, worst layer"),
    Number("constant_response", "W3", "", "variance a constant gets, over its mean squared"),
    Number("noise_response", "W4", "", "log variance of white noise over phases"),
)
def checkerboard_of_layer(layer: nn.Module, level: Tensor | None) -> dict[str, float]:
    found = layer_checkerboard(layer, level)
    return {
        "overlap_variation": found.overlap_variation, "phase_gain": found.phase_gain,
        "constant_response": found.constant_response, "noise_response": found.noise_response,
    }  # fmt: skip


@torch.no_grad()
def constant_picture(rest: Callable[[Tensor], Tensor], maps: Tensor, cells: int = 16) -> tuple[Tensor, float]:
    """W3 of a whole network: its output for maps (N, C, r, r) that are replaced by their means, and the texture that it adds.

    Returns the inner quarter of the output, (N, D, s cells / 2, s cells / 2), which no border reaches, and its standard deviation
    over pixels, root mean square over maps and channels, in units of the output. A network without checkerboards gives 0.
    """
    level = maps.mean(dim=(2, 3), keepdim=True).expand(-1, -1, cells, cells)
    picture = rest(level.clone())
    edge = picture.shape[-1] // 4
    picture = picture[..., edge : edge + 2 * edge, edge : edge + 2 * edge]
    return picture, picture.double().var(dim=(2, 3), correction=0).mean().sqrt().item()


# --- images ------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ImageCheckerboard:
    """I1 to I3 of a set of images; 0 without checkerboards."""

    phase_mean_variance: float  # I1, in [0, 1]
    nyquist_peaks: float  # I2, dB: a pattern of period 2, from the last layer that doubles
    half_nyquist_peaks: float  # the same at period 4, from the layer before; nan below 24 pixels
    phase_variance_ratio: float  # I3


def image_checkerboard(images: Tensor) -> ImageCheckerboard:
    """I1 to I3 of images (N, C, H, W), uint8, H and W even and at least 16 (for I2). ValueError otherwise."""
    height, width = images.shape[-2:]
    if images.dim() != 4 or height % 2 or width % 2 or min(height, width) < 16:
        raise ValueError(f"image_checkerboard: images (N, C, H, W) of even sides from 16 are needed, not {tuple(images.shape)}")
    mean_variance, variance_ratio = _phases(images)
    spectrum = power_spectrum(images)
    return ImageCheckerboard(mean_variance, _nyquist_peaks(spectrum), _half_nyquist_peaks(spectrum), variance_ratio)


@register(
    "images",
    Number("phase_mean_variance", "I1", "", "share of the residual that is a pattern"),
    Number("nyquist_peaks_db", "I2", "dB", "at period 2, the last layer that doubles"),
    Number("half_nyquist_peaks_db", "I2", "dB", "at period 4, the layer before"),
    Number("phase_variance_ratio", "I3", "", "log variance of the residual over phases"),
)
def checkerboard_of_images(images: Tensor) -> dict[str, float]:
    found = image_checkerboard(images)
    return {
        "phase_mean_variance": found.phase_mean_variance, "nyquist_peaks_db": found.nyquist_peaks,
        "half_nyquist_peaks_db": found.half_nyquist_peaks, "phase_variance_ratio": found.phase_variance_ratio,
    }  # fmt: skip


def residual(images: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, C, H - 4, W - 4): each pixel less the mean of its four neighbours; phases stay."""
    x = images.float()
    around = (x[..., :-2, 1:-1] + x[..., 2:, 1:-1] + x[..., 1:-1, :-2] + x[..., 1:-1, 2:]) / 4
    rest = x[..., 1:-1, 1:-1] - around
    return rest[..., CROP - 1 : 1 - CROP, CROP - 1 : 1 - CROP]


def _phases(images: Tensor) -> tuple[float, float]:
    """I1: Σ Var_p(mean on phase p) / Σ Var, summed over images and channels. I3: std_p of log Var on phase p."""
    mean_variance = total = moment = power = torch.zeros((), dtype=torch.float64, device=images.device)
    count = 0
    for part in images.split(256):
        r = residual(part).double()
        n, c, h, w = r.shape
        phases = r.view(n, c, h // 2, 2, w // 2, 2).permute(3, 5, 0, 1, 2, 4).reshape(4, n, c, -1)
        mean_variance = mean_variance + phases.mean(dim=3).var(dim=0, correction=0).sum()
        total = total + r.flatten(2).var(dim=2, correction=0).sum()
        moment, power = moment + phases.sum(dim=(1, 2, 3)), power + phases.square().sum(dim=(1, 2, 3))
        count += phases[0].numel()
    variance = power / count - (moment / count).square()
    if total == 0 or (variance <= 0).any():  # pictures without a residual have no pattern either
        return 0.0, 0.0
    return (mean_variance / total).item(), variance.log().std(correction=0).item()


def _nyquist_peaks(spectrum: Tensor) -> float:
    """I2: mean power at (π, 0), (0, π), (π, π) over that INSIDE bins nearer to frequency 0, in dB."""
    y, x = spectrum.shape[0] // 2, spectrum.shape[1] // 2
    peaks = spectrum[y, 0] + spectrum[0, x] + spectrum[y, x]
    inside = spectrum[y - INSIDE, 0] + spectrum[0, x - INSIDE] + spectrum[y - INSIDE, x - INSIDE]
    return _decibels(peaks, inside)


def _half_nyquist_peaks(spectrum: Tensor) -> float:
    """The same at π/2, against the geometric mean of both neighbours, as power falls with frequency.

    nan where frequency 0 and the peak at π are so near to these neighbours that the window mixes them in.
    """
    y, x = spectrum.shape[0] // 4, spectrum.shape[1] // 4
    if min(y, x) < 2 * INSIDE:
        return float("nan")
    peaks = spectrum[y, 0] + spectrum[0, x] + spectrum[y, x]
    sides = [spectrum[y + d, 0] + spectrum[0, x + d] + spectrum[y + d, x + d] for d in (-INSIDE, INSIDE)]
    return _decibels(peaks, (sides[0] * sides[1]).sqrt())


def _decibels(a: Tensor, b: Tensor) -> float:
    return (10 * (a / b).log10()).item() if a > 0 and b > 0 else 0.0
