"""How far a network shifts the image, and whether its borders differ.

Half-pixel grid throughout: pixel i of an axis has its centre at i + 0.5. A map of r pixels whose picture has R stands for it at a
scale of s = R / r, so its pixel u belongs at picture coordinate (u + 0.5) s - 0.5. Shifts are in pixels of the output, positive to
the right (x) and downwards (y).

S1 drift and spread: centroid and radius of the energy of an impulse response.
S2 phase slope: -d(phase) / d(frequency) near frequency 0 of the transfer function.
S3 roll equivariance: PSNR between the output of a rolled map and the rolled output; after EQ-T of Karras et al. 2021.
S4 border asymmetry: gradient energy at the left border against the right one, at the top against the bottom.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from math import log10, pi

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from metrics.instruments.impulse import impulse_response, unparametrize
from metrics.instruments.registry import Number, register

MARGIN, WIDEST = 4, 32  # pixels of a map around those that are perturbed, at first and at most
LARGEST = 1152  # pixels of a side of the widened output, which bounds the memory
CUT = 0.01  # share of a response in the outermost pixels of the widened map above which the margin was too narrow


@dataclass(frozen=True)
class Drift:
    """Where an impulse lands, in output pixels from where it belongs. nan: nothing came out."""

    x: float  # S1, of the energy
    y: float
    spread: float  # root mean square distance per axis from the centroid
    slope_x: float = float("nan")  # S2, of the signed response
    slope_y: float = float("nan")

    @property
    def per_axis(self) -> float:
        """Root mean square of x and y: 0.5 for a layer that moves half a pixel along either axis."""
        return ((self.x**2 + self.y**2) / 2) ** 0.5


# --- S1, of one layer and of a network ---------------------------------------------------------------------------------------


def layer_drift(layer: nn.Module, flat: bool = False) -> Drift:
    """S1 of one layer (metrics.instruments.impulse says what a layer is). flat: with all weights 1: the padding's own drift."""
    response = impulse_response(layer, flat)
    side, s = response.energy.shape[0], response.scale
    where = torch.full((1,), (side // s // 2 + 0.5) * s - 0.5, dtype=torch.float64, device=response.energy.device)
    offsets, spread = _centroids(response.energy[None], where, where)
    x, y = offsets[0].tolist()
    return Drift(x, y, spread[0].item())


def _centroids(energy: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """energy (P, H, W) >= 0 and where its impulses belong (P,) -> centroids less that, (P, 2) as x, y, and spreads (P,)."""
    total = energy.sum(dim=(1, 2))
    grid = torch.arange(energy.shape[-1], dtype=energy.dtype, device=energy.device)
    columns, rows = energy.sum(dim=1), energy.sum(dim=2)
    cx, cy = (columns * grid).sum(1) / total, (rows * grid).sum(1) / total
    variance = ((columns * (grid - cx[:, None]) ** 2).sum(1) + (rows * (grid - cy[:, None]) ** 2).sum(1)) / (2 * total)
    return torch.stack([cx - x, cy - y], dim=1), variance.sqrt()


@dataclass(frozen=True)
class Landing:
    """The response to impulses in a map: their drift, and the mean energy around where they belong."""

    drift: Drift
    energy: Tensor  # (2 w + 1, 2 w + 1) float32, centred on the output pixel nearest to where the impulse belongs, sum 1


@torch.no_grad()
def network_drift(
    rest: Callable[[Tensor], Tensor], maps: Tensor, impulses: int = 32, amplitude: float = 0.5, seed: int = 0, batch: int = 16
) -> Landing:  # fmt: skip
    """S1 and S2 from a map to the output: perturb one channel of one pixel, watch |difference|² of the output.

    rest: takes maps (N, C, r, r) of any r to (N, D, s r, s r). maps: typical ones, such as those of a few latents. They are tiled
    first, as far as no border cuts a response off (but that of attention, which is everywhere). amplitude: of the impulses, in
    standard deviations of the maps. Averaged over `impulses` seeded choices of (map, pixel), spread evenly over the channels, since
    the four groups of a symmetric layer differ; impulses without any response (dead units) are left out.
    """
    r = maps.shape[-1]
    margin = least = min(r, MARGIN)
    while True:
        part = max(1, batch * (r + 2 * least) ** 2 // (r + 2 * margin) ** 2)
        difference, x, y, s = _responses(rest, maps, margin, impulses, amplitude, seed, part)
        wider = min(2 * margin, WIDEST)
        if _reaches_everywhere(rest) or wider == margin or (r + 2 * wider) * s > LARGEST:
            break
        if _share_at_the_edge(difference, max(1, int(s))) <= CUT:
            break
        margin = wider
    alive = difference.square().sum(dim=(1, 2, 3)) > 0
    if not alive.any():
        nan = float("nan")
        return Landing(Drift(nan, nan, nan), torch.full((3, 3), nan))
    difference, x, y = difference[alive], x[alive], y[alive]
    energy = difference.square().sum(dim=1)
    offsets, spreads = _centroids(energy, x, y)
    dx, dy = offsets.mean(dim=0).tolist()
    slope = [_response_slope(difference.sum(dim=axis), where) for axis, where in ((2, x), (3, y))]
    return Landing(Drift(dx, dy, spreads.mean().item(), *slope), _around(energy, x, y, width=int(margin * s) // 2))


def _responses(
    rest: Callable[[Tensor], Tensor], maps: Tensor, margin: int, impulses: int, amplitude: float, seed: int, batch: int
) -> tuple[Tensor, Tensor, Tensor, float]:  # fmt: skip
    """Differences (P, D, H, W) that impulses make with `margin` pixels of tiles around the maps, where they belong, the scale."""
    n, channels, r, _ = maps.shape
    place = torch.arange(-margin, r + margin, device=maps.device) % r
    tiled = maps[:, :, place][:, :, :, place]
    base = rest(tiled.clone())
    s = base.shape[-1] / tiled.shape[-1]
    generator = torch.Generator().manual_seed(seed)
    which, row, column = (torch.randint(top, (impulses,), generator=generator) for top in (n, r, r))
    row, column = row + margin, column + margin
    channel = torch.arange(impulses) * channels // impulses if impulses <= channels else torch.arange(impulses) % channels
    perturbed = tiled[which.to(maps.device)]
    sign = torch.randint(2, (impulses,), generator=generator).mul(2).sub(1).to(maps)
    perturbed[torch.arange(impulses), channel, row, column] += amplitude * maps.std() * sign
    parts = zip(perturbed.split(batch), which.to(maps.device).split(batch))
    difference = torch.cat([rest(part) - base[index] for part, index in parts]).double()
    x, y = (((position + 0.5) * s - 0.5).to(difference) for position in (column, row))
    return difference, x, y, s


def _reaches_everywhere(rest: Callable[[Tensor], Tensor]) -> bool:
    return isinstance(rest, nn.Module) and any(getattr(m, "left_out_of_flat_twin", False) for m in rest.modules())


def _share_at_the_edge(difference: Tensor, width: int) -> float:
    """How much of the energy of all responses (P, D, H, W) lies in the outermost `width` pixels."""
    energy = difference.square().sum(dim=(0, 1))
    total = energy.sum().item()
    return 1 - energy[width:-width, width:-width].sum().item() / total if total > 0 else 0.0


def _response_slope(profiles: Tensor, where: Tensor) -> float:
    """S2 of signed responses, summed over the other axis, (P, D, L): minus the phase slope between -w and w.

    Gains may have either sign, so responses are averaged as squares Y(w)², in which the sign drops out and the phase is doubled.
    """
    length = profiles.shape[-1]
    w = 2 * pi / length
    angle = -w * (torch.arange(length, dtype=torch.float64, device=profiles.device) - where[:, None])
    spectrum = (profiles * torch.polar(torch.ones_like(angle), angle)[:, None]).sum(dim=-1)
    return (-spectrum.square().sum().angle() / (2 * w)).item()


def _around(energy: Tensor, x: Tensor, y: Tensor, width: int) -> Tensor:
    """Mean of (P, H, W), each normalised to a sum of 1, cut out around (x, y)."""
    cut = [e[int(v) - width : int(v) + width + 1, int(u) - width : int(u) + width + 1] for e, u, v in zip(energy, x + 0.5, y + 0.5)]
    mean = torch.stack([c / c.sum().clamp(min=1e-300) for c in cut]).mean(dim=0)
    return mean.float().cpu()


def flat_twin(network: nn.Module) -> nn.Module:
    """A copy of a network that shows the effect of padding alone: convolutions have equal positive weights and no bias.

    Norms, and modules with an attribute `left_out_of_flat_twin`, are replaced by the identity.
    """
    twin = deepcopy(network).eval().requires_grad_(False)
    for name, module in reversed(list(twin.named_modules())):  # what is within a module before the module
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            if parametrize.is_parametrized(module, "weight"):
                unparametrize(module)
            fan_in = module.weight.numel() / module.out_channels
            nn.init.constant_(module.weight, 1 / fan_in)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d) or getattr(module, "left_out_of_flat_twin", False):
            twin.set_submodule(name, nn.Identity())
    return twin


# --- S3 ----------------------------------------------------------------------------------------------------------------------


@torch.no_grad()
def roll_equivariance(
    rest: Callable[[Tensor], Tensor], maps: Tensor, shifts: tuple[int, ...] = (1,), margin: int | None = None
) -> dict:
    """S3: {t: PSNR in dB} for rolling maps (N, C, r, r) by t pixels to each of the four sides; inf if nothing differs.

    Output range [-1, 1], so the peak is 2. Masked: as much at each side as was rolled in, and `margin` more (default: R / 16).
    Infinite for a network without borders; a constant drift is not seen. ValueError if the mask leaves nothing.
    """
    base = rest(maps.clone())
    size = base.shape[-1]
    s = size // maps.shape[-1]
    margin = size // 16 if margin is None else margin
    found = {}
    for t in shifts:
        inside = slice(t * s + margin, size - t * s - margin)
        if inside.start >= inside.stop:
            raise ValueError(f"roll_equivariance: a roll by {t} and a margin of {margin} leave nothing of {size} pixels")
        errors = []
        for rolls in ((t, 0), (-t, 0), (0, t), (0, -t)):
            rolled = rest(torch.roll(maps, rolls, dims=(2, 3)))
            wanted = torch.roll(base, (rolls[0] * s, rolls[1] * s), dims=(2, 3))
            errors.append((rolled - wanted)[:, :, inside, inside].double().square().mean())
        mse = torch.stack(errors).mean().item()
        found[t] = 20 * log10(2) - 10 * log10(mse) if mse > 0 else float("inf")
    return found


# --- S4 ----------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class BorderAsymmetry:
    """S4, (E_left - E_right) / (E_left + E_right) and top against bottom: in [-1, 1], 0 if alike."""

    horizontal: float
    vertical: float

    @property
    def mean(self) -> float:
        """Mean of the two absolute values: the number to compare with the real images'."""
        return (abs(self.horizontal) + abs(self.vertical)) / 2


def border_asymmetry(images: Tensor, strip: int | None = None) -> BorderAsymmetry:
    """S4 of images (N, C, H, W): mean gradient energy, squared neighbour differences along both axes, in strips of `strip` pixels.

    strip: default H / 8, at least 2. Subtract what real images give: skies and grounds differ too.
    """
    height, width = images.shape[-2:]
    strip = max(2, height // 8) if strip is None else strip
    if not 2 <= strip <= min(height, width) // 2:
        raise ValueError(f"border_asymmetry: a strip of 2 to {min(height, width) // 2} pixels is needed, not {strip}")
    strips = images[..., :strip], images[..., -strip:], images[..., :strip, :], images[..., -strip:, :]
    left, right, top, bottom = (_gradient_energy(part) for part in strips)
    return BorderAsymmetry(_contrast(left, right), _contrast(top, bottom))


@register(
    "images",
    Number("border_left_right", "S4", "", "gradient energy, left against right border"),
    Number("border_top_bottom", "S4", "", "top against bottom"),
    Number("border_asymmetry", "S4", "", "mean size of both"),
)
def asymmetry_of_images(images: Tensor) -> dict[str, float]:
    found = border_asymmetry(images)
    return {"border_left_right": found.horizontal, "border_top_bottom": found.vertical, "border_asymmetry": found.mean}


@register(
    "pairs",
    Number("border_left_right_excess", "S4", "", "left against right, less that of the real images"),
    Number("border_top_bottom_excess", "S4", "", "top against bottom, less that of the real images"),
    Number("border_asymmetry_excess", "S4", "", "mean size of these two differences"),
)
def asymmetry_against_real(images: Tensor, real: Tensor) -> dict[str, float]:
    """The two with a sign are what to average over seeds: of sizes, noise adds up."""
    ours, theirs = border_asymmetry(images), border_asymmetry(real)
    horizontal, vertical = ours.horizontal - theirs.horizontal, ours.vertical - theirs.vertical
    return {
        "border_left_right_excess": horizontal, "border_top_bottom_excess": vertical,
        "border_asymmetry_excess": (abs(horizontal) + abs(vertical)) / 2,
    }  # fmt: skip


def _gradient_energy(images: Tensor) -> float:
    x = images.float()
    return (x.diff(dim=-1).square().mean(dtype=torch.float64) + x.diff(dim=-2).square().mean(dtype=torch.float64)).item()


def _contrast(a: float, b: float) -> float:
    return (a - b) / (a + b) if a + b > 0 else 0.0
