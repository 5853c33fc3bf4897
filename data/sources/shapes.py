"""`shapes`: ten classes of colourful textured shapes, generated: needs no file, no network, and fits any resolution.

An image is a function of (seed, split, index) alone: its random numbers are hashes of these, not draws from a running
generator, so count and chunk size never change it, and the same scene is drawn at every resolution.
Shapes are signed distances (negative inside), which gives smooth edges for one evaluation per pixel.
"""

import hashlib
import math
from weakref import WeakValueDictionary

import numpy as np
import torch
from torch import Tensor

from data.images import DataError, ImageSet
from data.sources.registry import Request, register

CLASSES = ("disk", "ring", "square", "triangle", "cross", "star", "hexagon", "crescent", "heart", "flower")
COUNTS = {"train": 10_000, "test": 2_000}
PIXELS_AT_ONCE = 2**18


def shapes(resolution: int = 32, split: str = "train", count: int | None = None, seed: int = 0) -> ImageSet:
    """Draw `count` images (10,000 of train, 2,000 of test unless told); image i is of class i % 10.

    Returns: images (count, 3, R, R) uint8. Raises DataError for a resolution below 16 or a count below 1.
    """
    if resolution < 16:
        raise DataError(f"shapes need at least 16×16 pixels: set dataset.resolution to 16 or more, not {resolution}")
    count = COUNTS[split] if count is None else count
    if count < 1:
        raise DataError(f"shapes need a count of at least 1, not {count}")
    images = torch.empty(count, 3, resolution, resolution, dtype=torch.uint8)
    chunk = max(1, PIXELS_AT_ONCE // resolution**2)
    for start in range(0, count, chunk):
        index = torch.arange(start, min(start + chunk, count))
        images[start : start + chunk] = draw(index, resolution, _key(seed, split))
    labels = torch.arange(count) % len(CLASSES)
    return ImageSet(images, labels, CLASSES, f"shapes {split} split, generated from seed {seed}")


_drawn: WeakValueDictionary[tuple[int, str], ImageSet] = WeakValueDictionary()  # sets that are in use are not drawn again


@register("shapes", splits=True, paths=False, look=lambda request: None)
def _default_shapes(request: Request) -> ImageSet:
    key = request.resolution, request.split
    found = _drawn.get(key)
    if found is None:
        found = _drawn[key] = shapes(*key)
    return found


def draw(index: Tensor, resolution: int, key: int) -> Tensor:
    """index: (N,) int64 -> images (N, 3, R, R) uint8. Float64 throughout, so that rounding is the same everywhere."""
    draws = iter(uniform(index, key, 32).T)  # one (N,) of random numbers in [0, 1) for each next()

    def between(low: float, high: float) -> Tensor:
        return (low + (high - low) * next(draws))[:, None, None]  # (N, 1, 1), against (N, R, R)

    # Where: a big shape, near the middle, turned a little. x to the right, y up, both -1..1.
    axis = (torch.arange(resolution, dtype=torch.float64) + 0.5) * (2 / resolution) - 1
    x, y = axis[None, None, :], -axis[None, :, None]
    size, angle = between(0.62, 0.86), between(-0.35, 0.35)
    shape_x, shape_y = _turn(x - between(-0.16, 0.16), y - between(-0.16, 0.16), angle)
    distance = size * signed_distance(index % len(CLASSES), shape_x / size, shape_y / size)  # (N, R, R)

    # Colours: a bright shape on a deep ground or the reverse, hues far apart between the two, close within each.
    hue, flipped = between(0, 1), between(0, 1) < 0.4
    other_hue = hue + between(0.3, 0.6)
    bright, deep = between(0.9, 1.0), between(0.36, 0.56)
    bright_saturation, deep_saturation = between(0.45, 0.8), between(0.65, 0.9)
    front = torch.where(flipped, deep, bright), torch.where(flipped, deep_saturation, bright_saturation)
    back = torch.where(flipped, bright, deep), torch.where(flipped, bright_saturation, deep_saturation)

    def paint(hue: Tensor, value: Tensor, saturation: Tensor, hue_step: Tensor, value_step: float, waves: Tensor) -> Tensor:
        """A texture in two shades, (N, 3, R, R) in 0..1; waves: radians per unit, small enough for 16 pixels."""
        turned = _turn(x, y, between(0, 2 * math.pi))
        a, b = (waves * t + between(0, 2 * math.pi) for t in turned)
        amount = texture((next(draws) * 5).long(), a, b, turned[0])  # (N, R, R) in 0..1
        value = value + value_step * (amount - 0.5)
        hue = hue + hue_step * amount
        hue = hue + 0.045 * torch.sin(4 * math.pi * (hue - 1 / 3))  # less of green and magenta, more orange and azure
        return hsv_to_rgb(hue, saturation, value.clamp(0, 1))

    ground = paint(other_hue, *back, between(-0.12, 0.12), 0.22, between(3, 5))
    figure = paint(hue, *front, between(-0.16, 0.16), 0.3, between(6, 9))

    # A soft shadow around the shape lifts it off the ground; then the shape, its edge one pixel wide.
    shadow = 1 - 0.35 * torch.exp(-distance.clamp(min=0) * 12)
    cover = (0.5 - distance * (resolution / 2)).clamp(0, 1)
    picture = torch.lerp(ground * shadow[:, None], figure, cover[:, None])
    return (picture * 255).round().to(torch.uint8)


def uniform(index: Tensor, key: int, n: int) -> Tensor:
    """(N,) int64 -> (N, n) float64 in [0, 1): independent for every (index, column), by the splitmix64 hash."""
    z = index.numpy().astype(np.uint64)[:, None] * np.uint64(n) + np.arange(1, n + 1, dtype=np.uint64)
    z = np.uint64(key) + z * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return torch.from_numpy((z >> np.uint64(11)).astype(np.float64) * 2.0**-53)


def signed_distance(kind: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """kind: (N,) int64 into CLASSES; x, y: (N, R, R) in units of the shape's size -> (N, R, R), negative inside."""
    distance = torch.empty_like(x)
    for k in kind.unique().tolist():
        here = kind == k
        distance[here] = _DISTANCES[CLASSES[k]](x[here], y[here])
    return distance


def _disk(x: Tensor, y: Tensor, radius: float = 0.9) -> Tensor:
    return torch.hypot(x, y) - radius


def _box(x: Tensor, y: Tensor, half_width: float, half_height: float) -> Tensor:
    return torch.maximum(x.abs() - half_width, y.abs() - half_height)


def _fold(x: Tensor, y: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Fold the plane onto one of n mirrored sectors around the upward axis -> (along the axis, |across it|)."""
    radius, angle = torch.hypot(x, y), torch.atan2(x, y)
    sector = 2 * math.pi / n
    angle = (angle - sector * torch.round(angle / sector)).abs()
    return radius * torch.cos(angle), radius * torch.sin(angle)


def _polygon(x: Tensor, y: Tensor, n: int, inner_radius: float) -> Tensor:
    return _fold(x, -y, n)[0] - inner_radius  # a side at the bottom


def _star(x: Tensor, y: Tensor, n: int = 5, outer: float = 1.05, inner: float = 0.5) -> Tensor:
    along, across = _fold(x, y, n)
    # The edge runs from the tip (outer, 0) to the notch, half a sector on; distance along its normal.
    edge_x, edge_y = inner * math.cos(math.pi / n) - outer, inner * math.sin(math.pi / n)
    return ((along - outer) * edge_y - across * edge_x) / math.hypot(edge_x, edge_y)


def _crescent(x: Tensor, y: Tensor) -> Tensor:
    return torch.maximum(_disk(x, y, 0.95), -_disk(x - 0.42, y - 0.12, 0.72))


def _heart(x: Tensor, y: Tensor, half: float = 0.52) -> Tensor:
    # A square on its corner with a disk on the middle of each upper side.
    u, v = (y + 0.2 + x) * math.sqrt(0.5), (y + 0.2 - x) * math.sqrt(0.5)
    lobes = torch.minimum(_disk(u - half, v, half), _disk(u, v - half, half))
    return torch.minimum(_box(u, v, half, half), lobes)


def _flower(x: Tensor, y: Tensor) -> Tensor:
    along, across = _fold(x, y, 6)
    return torch.minimum(_disk(along - 0.66, across, 0.31), _disk(x, y, 0.5))


_DISTANCES = {
    "disk": _disk,
    "ring": lambda x, y: _disk(x, y, 0.7).abs() - 0.25,
    "square": lambda x, y: _box(x, y, 0.8, 0.8),
    "triangle": lambda x, y: _polygon(x, y + 0.15, 3, 0.55),
    "cross": lambda x, y: torch.minimum(_box(x, y, 0.92, 0.3), _box(x, y, 0.3, 0.92)),
    "star": _star,
    "hexagon": lambda x, y: _polygon(x, y, 6, 0.85),
    "crescent": _crescent,
    "heart": _heart,
    "flower": _flower,
}


def texture(kind: Tensor, a: Tensor, b: Tensor, across: Tensor) -> Tensor:
    """How much of the second colour: kind (N,) int64 in 0..4; a, b: (N, R, R) phases of two waves at right angles;
    across: (N, R, R) the position along the first -> (N, R, R) in 0..1."""
    wave = torch.empty_like(a)
    for k in kind.unique().tolist():
        here = kind == k
        wave[here] = _WAVES[k](a[here], b[here], across[here])
    return 0.5 + 0.5 * wave


_WAVES = (
    lambda a, b, across: across.clamp(-1, 1),  # gradient
    lambda a, b, across: torch.tanh(2.5 * torch.sin(a)),  # stripes
    lambda a, b, across: torch.tanh(4 * torch.sin(a) * torch.sin(b)),  # checks
    lambda a, b, across: torch.tanh(2.5 * (torch.cos(a) + torch.cos(b) - 0.6)),  # dots
    lambda a, b, across: torch.sin(0.6 * a + 1.3 * torch.sin(0.5 * b)),  # soft waves
)


def hsv_to_rgb(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """Three broadcastable (N, R, R), hue in turns (wraps), the others 0..1 -> (N, 3, R, R) in 0..1."""
    turns = torch.stack([hue, hue + 2 / 3, hue + 1 / 3], dim=1)  # red, green, blue
    ramp = ((turns % 1) * 6 - 3).abs().sub(1).clamp(0, 1)  # 1 around the channel's own hue, 0 opposite
    return (value * (1 - saturation))[:, None] + (value * saturation)[:, None] * ramp


def _turn(x: Tensor, y: Tensor, angle: Tensor) -> tuple[Tensor, Tensor]:
    cos, sin = torch.cos(angle), torch.sin(angle)
    return cos * x + sin * y, cos * y - sin * x


def _key(seed: int, split: str) -> int:
    return int.from_bytes(hashlib.blake2b(f"{seed},{split}".encode(), digest_size=8).digest(), "big")
