"""Spectra of images, and the distance between those of generated and real ones.

I4 spectrum gap: Durall, Keuper, Keuper 2020 (arXiv 2003.01826); Schwarz, Liao, Geiger 2021 (arXiv 2111.02447).
I5 DCT gap: Frank et al. 2020 (arXiv 2003.08685).

Images are (N, C, H, W), uint8; power and magnitudes are means over images and channels, in float64, in grey levels.
"""

from dataclasses import dataclass
from math import pi

import torch
from torch import Tensor

from metrics.instruments.registry import Number, register

BETA = 8.0  # of the Kaiser window, as in the code of alias-free GANs: pictures don't repeat, and their edges would leak
HIGH = 0.75  # of the Nyquist frequency: where the spectrum gap begins
EPSILON = 0.01  # grey levels: below this, magnitudes of rounded pictures say nothing


def power_spectrum(images: Tensor) -> Tensor:
    """Mean power of the windowed pictures less their mean, (H, W), frequency 0 at [0, 0]."""
    h, w = images.shape[-2:]
    window = _kaiser(h, images.device)[:, None] * _kaiser(w, images.device)
    total = torch.zeros(h, w, dtype=torch.float64, device=images.device)
    for part in images.split(256):
        x = part.double()
        x = x - x.mean(dim=(2, 3), keepdim=True)
        total += torch.fft.fft2(x * window).abs().square().sum(dim=(0, 1))
    return total / (images.shape[0] * images.shape[1] * window.square().sum())


def _kaiser(length: int, device: torch.device) -> Tensor:
    return torch.kaiser_window(length, periodic=False, beta=BETA, dtype=torch.float64, device=device)


def azimuthal_mean(spectrum: Tensor) -> Tensor:
    """AI(ρ) of a square spectrum (R, R) with frequency 0 at [0, 0]: the mean over rings of one bin, from ρ = 0 to the corners."""
    side = len(spectrum)
    if spectrum.shape != (side, side):
        raise ValueError(f"azimuthal_mean: a square spectrum is needed, not {tuple(spectrum.shape)}")
    frequency = torch.fft.fftfreq(side, 1 / side, dtype=torch.float64, device=spectrum.device)
    ring = (frequency[:, None] ** 2 + frequency**2).sqrt().round().long().flatten()
    sums = torch.zeros(int(ring.max()) + 1, dtype=spectrum.dtype, device=spectrum.device)
    return sums.index_add(0, ring, spectrum.flatten()) / ring.bincount()


def dct_magnitude(images: Tensor) -> Tensor:
    """Mean |DCT-II| (orthonormal) of the pictures, (H, W).

    The mean of magnitudes, not the magnitude of the mean: of 1,000 pictures the latter is mostly the noise of their choice.
    """
    rows, columns = (_dct_matrix(side, images.device) for side in images.shape[-2:])
    total = torch.zeros((), dtype=torch.float64, device=images.device)
    for part in images.split(256):
        total = total + (rows @ part.double() @ columns.T).abs().sum(dim=(0, 1))
    return total / (images.shape[0] * images.shape[1])


def _dct_matrix(side: int, device: torch.device) -> Tensor:
    """Orthonormal DCT-II: row k is cos(π k (i + 1/2) / side)."""
    i = torch.arange(side, dtype=torch.float64, device=device)
    matrix = torch.cos(pi / side * i[:, None] * (i + 0.5)) * (2 / side) ** 0.5
    matrix[0] /= 2**0.5
    return matrix


@dataclass(frozen=True)
class SpectrumGap:
    """Mean distances of logarithms: 0 for equal spectra, 0.69 where one is everywhere twice the other."""

    high_frequencies: float  # I4: of azimuthal mean power, from 0.75 of the Nyquist frequency to the corners
    dct: float  # I5: of mean DCT magnitudes, all frequencies


def spectrum_gap(generated: Tensor, real: Tensor) -> SpectrumGap:
    """I4 and I5 between two batches of square images of one size. ValueError for unlike shapes."""
    if generated.shape[1:] != real.shape[1:]:
        raise ValueError(f"spectrum_gap: images of one size are needed, not {tuple(generated.shape)} and {tuple(real.shape)}")
    rings = [azimuthal_mean(power_spectrum(images)).log() for images in (generated, real)]
    first = int(HIGH * generated.shape[-1] / 2)
    magnitudes = [(dct_magnitude(images) + EPSILON).log() for images in (generated, real)]
    return SpectrumGap(
        (rings[0] - rings[1])[first:].abs().mean().item(),
        (magnitudes[0] - magnitudes[1]).abs().mean().item(),
    )


@register(
    "pairs",
    Number("spectrum_gap", "I4", "", "high frequencies, difference of logarithms"),
    Number("dct_gap", "I5", "", "DCT magnitudes, difference of logarithms"),
)
def gaps(images: Tensor, real: Tensor) -> dict[str, float]:
    found = spectrum_gap(images, real)
    return {"spectrum_gap": found.high_frequencies, "dct_gap": found.dct}
