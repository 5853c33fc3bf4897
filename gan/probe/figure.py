"""One picture of what the instruments found, two panels in a row, each with its reading in the title."""

import textwrap
from collections.abc import Callable
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gan.plots import BLUE, INK, RED, logarithmic, panels, save_figure, style
from gan.probe import Probe
from gan.probe.table import layers_of
from gan.sampling import tiled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STYLE = {
    "font.size": 9, "axes.titlesize": 9, "axes.titlelocation": "left", "axes.spines.top": False, "axes.spines.right": False,
    "axes.edgecolor": "#888888", "text.color": INK, "axes.labelcolor": INK, "legend.frameon": False,
}  # fmt: skip
LINE = 27  # letters of a title above a panel
HEIGHT = 2.9  # of a panel, in inches, unless more layers need more
Draw = tuple[float, Callable[["Axes"], None]]  # the panel's height, and what is drawn there


def draw_probe(found: Probe, path: Path) -> None:
    """Write the figure of a probe as a PNG, whole or not at all. What was not measured has no panel."""
    record, pictures = found.record, found.pictures
    doubling = [row for row in record["layers"] if "taps" in row]
    shown: list[Draw] = [(HEIGHT, lambda axis: _drawn(axis, pictures["images"], "Generated images"))]
    left: list[Draw] = [  # where long titles have room
        (HEIGHT, lambda axis: _landing(axis, record, pictures["landing"])),
        (HEIGHT, lambda axis: _border(axis, record, pictures)),
        (HEIGHT, lambda axis: _spectrum(axis, record, pictures)),
    ]
    right: list[Draw] = [
        (_height(record["layers"]), lambda axis: _drifts(axis, record["layers"])),
        (HEIGHT, lambda axis: _constant(axis, record, pictures["constant"])),
    ]
    if doubling:
        right.append((_height(doubling), lambda axis: _phases(axis, doubling)))
    if "real" in pictures:
        source = "\n".join(textwrap.wrap(record["card"]["real"], LINE, max_lines=2, placeholder=" …"))
        shown.append((HEIGHT, lambda axis: _drawn(axis, pictures["real"], f"Real images\n{source}")))
    else:
        shown, right = [], [*shown, *right]
    drawn = [*shown, *(draw for pair in zip_longest(left, right) for draw in pair if draw)]
    with style(**STYLE):
        figure, axes = panels(len(drawn), [height for height, _ in drawn])
        figure.get_layout_engine().set(w_pad=0.1, h_pad=0.1)
        figure.suptitle(_title(record["card"]), x=0.01, ha="left", fontsize=10.5, fontweight="bold")
        for (_, draw), axis in zip(drawn, axes):
            draw(axis)
        save_figure(figure, path)


def _title(card: dict) -> str:
    state = f"after {card['step']:,} steps" if card["step"] else "untrained"
    return f"{card['family']}, {layers_of(card)}\n{card['resolution']} px, {state}"


def _drawn(axis: "Axes", images: Tensor, title: str) -> None:
    axis.imshow(tiled(images, 4, 255).permute(1, 2, 0).numpy(), interpolation="nearest")
    axis.set_title(title)
    axis.axis("off")


def _landing(axis: "Axes", record: dict, energy: Tensor) -> None:
    """S1: the mean energy of the response to one seed cell, around where that cell belongs."""
    numbers, half = record["numbers"], len(energy) // 2
    axis.imshow(energy.sqrt().numpy(), cmap="Greys", extent=(-half - 0.5, half + 0.5, half + 0.5, -half - 0.5))
    axis.plot(0, 0, "+", color=INK, markersize=14, markeredgewidth=1.8, linestyle="", label="where it belongs")
    if numbers["drift_px"] is not None:
        x, y = numbers["drift_x_px"], numbers["drift_y_px"]
        axis.plot(x, y, "o", color=RED, markersize=7, markeredgecolor="white", linestyle="", label="where it lands")
        angle = torch.linspace(0, 6.2832, 100)
        r = numbers["spread_px"]
        axis.plot((x + r * angle.cos()).numpy(), (y + r * angle.sin()).numpy(), "--", color=RED, linewidth=1.3, label="its spread")
    drift, spread = _text(numbers["drift_px"]), _text(numbers["spread_px"])
    geometry = _text(numbers["geometric_drift_px"])
    axis.set_title(f"S1  A seed cell lands {drift} px off\n(padding alone: {geometry}), spread {spread} px")
    axis.set(xlabel="output pixels to the right", ylabel="output pixels down", xlim=(-half, half), ylim=(half, -half))
    axis.legend(loc="lower right", fontsize=8, frameon=True, framealpha=0.9, edgecolor="none")


def _border(axis: "Axes", record: dict, pictures: dict[str, Tensor]) -> None:
    """Mean activation before the picture: where borders fade."""
    layers = [layer for layer in record["erosion"]["generator"] if f"map {layer['name']}" in pictures]
    layer = layers[-2] if len(layers) > 1 else layers[-1]  # the last one is the picture's own squashing
    shown = pictures[f"map {layer['name']}"]
    image = axis.imshow((shown / shown.mean()).numpy(), cmap="Greys_r", vmin=0, vmax=2, interpolation="nearest")
    axis.figure.colorbar(image, ax=axis, shrink=0.8, label="over the map's mean", pad=0.03)
    axis.set_title(f"Mean activation before painting,\nborder pixels {_text(layer['border'])} of the others'")
    axis.set_xticks([])
    axis.set_yticks([])
    lines = [("generated", record["numbers"])] + ([("real", record["real"])] if "real" in record else [])
    found = [f"{name} {row['border_left_right']:+.3f}, {row['border_top_bottom']:+.3f}" for name, row in lines]
    axis.set_xlabel("\n".join(["S4  border, left-right and top-bottom", *found]), fontsize=8.5)


def _height(rows: list[dict]) -> float:
    """Inches of a panel of _pairs: names and numbers of more than five layers need more than a panel has."""
    return max(HEIGHT, 1.3 + 0.27 * len(rows))


def _drifts(axis: "Axes", rows: list[dict]) -> None:
    """S1 of each layer: as it is, and what its padding alone does."""
    _pairs(axis, rows, ("drift_px", "this layer"), ("geometric_drift_px", "its padding alone"), 0.6)
    axis.set(title="S1  Drift of each layer,\nin pixels of its own output", xlabel="px per axis")


def _phases(axis: "Axes", rows: list[dict]) -> None:
    """W1 and W2 of each layer that doubles its map."""
    axis.set_title("Unequal output phases\n(0: no checkerboard)")
    _pairs(axis, rows, ("phase_gain", "W2  kernels as they are"), ("overlap_variation", "W1  number of taps"), 1.0)
    axis.set_xlabel("std / mean over phases")


def _pairs(axis: "Axes", rows: list[dict], solid: tuple[str, str], hatched: tuple[str, str], least: float) -> None:
    """Two bars for each layer, below its name and their values, first layer on top."""
    y = torch.arange(len(rows)).flip(0).numpy()
    size = 8 if len(rows) <= 4 else 6.5
    found = [
        {key: row[key] for key in (solid[0], hatched[0]) if row[key] is not None} for row in rows
    ]  # None: nothing gets through
    axis.barh(y + 0.13, [one.get(solid[0], 0) for one in found], 0.24, color=BLUE, label=solid[1])
    axis.barh(
        y - 0.13, [one.get(hatched[0], 0) for one in found], 0.24, color="white", edgecolor=INK, hatch="////", label=hatched[1]
    )
    axis.set_yticks([])
    for place, row, one in zip(y, rows, found):
        values = ", ".join(
            "none" if key not in one else f"{one[key]:.2f}" if one[key] >= 0.005 else "0" for key in (solid[0], hatched[0])
        )
        label = f" {row['layer']}, {row['size']} → {row['scale'] * row['size']} px:  {values}"
        axis.text(0, place + 0.28, label, fontsize=size, va="bottom")
    axis.set_xlim(0, max([least, *(1.1 * value for one in found for value in one.values())]))
    axis.set_ylim(-0.5 - min(0.3 * len(rows), 2), len(rows) - 0.3)
    axis.legend(fontsize=8, loc="lower right", borderaxespad=0)


def _constant(axis: "Axes", record: dict, flattened: Tensor) -> None:
    """W3 of the whole network: a constant map should become a constant picture."""
    side = min(32, flattened.shape[-1])
    cut = flattened[:, :, :side, :side].clamp(-1, 1).add(1).div(2)
    axis.imshow(tiled(cut[:4], 2, 1).permute(1, 2, 0).numpy(), interpolation="nearest")
    texture = _text(record["numbers"]["constant_texture"])
    axis.set_title(f"W3  Constant maps, painted:\n{texture} grey levels (0: flat)")
    axis.axis("off")


def _spectrum(axis: "Axes", record: dict, pictures: dict[str, Tensor]) -> None:
    """I4: mean power on rings of frequency."""
    numbers, ours = record["numbers"], pictures["spectrum"]
    rho = torch.arange(1, len(ours)).numpy() / (record["card"]["resolution"] / 2)
    axis.axvspan(0.75, 2**0.5, color="#eeeeee", zorder=0)
    axis.plot(rho, ours[1:].numpy(), "-", color=BLUE, linewidth=1.9, label="generated")
    title, peaks = "I4  Spectrum", f"I2  peaks at period 2: {numbers['nyquist_peaks_db']:+.1f} dB"
    if "spectrum_real" in pictures:
        axis.plot(rho, pictures["spectrum_real"][1:].numpy(), "--", color=INK, linewidth=1.4, label="real")
        floor = _text(record["floor"]["spectrum_gap"])
        title += f": gap {_text(numbers['spectrum_gap'])} where grey\n(two halves of real images: {floor})"
        peaks += f" (real {record['real']['nyquist_peaks_db']:+.1f})"
    axis.set(title=title, xlabel=f"frequency / Nyquist frequency\n{peaks}", ylabel="mean power", xlim=(0, 2**0.5))
    if any(bool((line[1:] > 0).any()) for name, line in pictures.items() if name in ("spectrum", "spectrum_real")):
        logarithmic(axis)  # else all pictures are of one grey
    axis.legend(fontsize=8, loc="upper right")


def _text(value: float | None) -> str:
    if value is None:
        return "nothing"
    return "0" if abs(value) < 0.005 else f"{value:.2g}" if abs(value) < 10 else f"{value:.0f}"
