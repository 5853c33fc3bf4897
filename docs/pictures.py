"""The pictures of the front page: what symmetric padding does, and the same latents under three kernels.

    python docs/pictures.py [--out docs]

Writes idea.png, whose maps are computed by the layers themselves, and latents.png from results/studies/faces_cpu/grids.zip.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import argparse
import io
import zipfile

import numpy as np
import torch
from matplotlib.patches import Rectangle
from PIL import Image

from gan.kernels import conv2d
from gan.plots import BLUE, GREY, INK, RED, WIDTH, save_figure, styled, subplots

ROOT = Path(__file__).parent.parent
SIDE, LAYERS = 17, 6  # of the map, in pixels; how many layers the right column has gone through
CORNERS = {"c2": [(1, 0)] * 4, "c2sp": [(1, 0), (0, 1), (0, 0), (1, 1)]}  # (right, top) of each quarter of the channels
WORDS = {
    "c2": "one-sided padding (c2)\nevery channel at the same corner",
    "c2sp": "symmetric padding (c2sp)\neach quarter of the channels at another",
}
GRIDS = {"c2": "c2_equal_parameters", "c2sp": "c2sp_equal_parameters", "c3": "c3"}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--out", type=Path, default=ROOT / "docs")
    out = arguments.parse_args().out
    draw_idea(out / "idea.png")
    draw_latents(out / "latents.png")


def response(kernel: str, layers: int) -> np.ndarray:
    """What equal weights make of one lit pixel in the middle, (SIDE, SIDE), its largest value 1."""
    layer = conv2d(kernel, 4, 4, bias=False)
    torch.nn.init.constant_(layer.weight, 1 / layer.weight[0].numel())
    x = torch.zeros(1, 4, SIDE, SIDE)
    x[:, :, SIDE // 2, SIDE // 2] = 1
    with torch.no_grad():
        for _ in range(layers):
            x = layer(x)
    return (x[0, 0] / x.max()).numpy()


@styled
def draw_idea(path: Path) -> None:
    figure, axes = subplots(2, 3, (WIDTH, 3.7), width_ratios=[2.2, 1, 1])
    for row, kernel in zip(axes, CORNERS):
        draw_padding(row[0], kernel)
        for axis, layers in zip(row[1:], (1, LAYERS)):
            draw_response(axis, kernel, layers)
    save_figure(figure, path)


def draw_padding(axis, kernel: str) -> None:
    """Four maps of 3×3 pixels in a row, each with the row and the column of zeros that its channels get; then one convolution."""
    for i, (right, top) in enumerate(CORNERS[kernel]):
        x, y = 5.2 * i, 0
        for column in range(4):
            for line in range(4):
                zero = column == (3 if right else 0) or line == (3 if top else 0)
                axis.add_patch(
                    Rectangle((x + column, y + line), 1, 1, facecolor=BLUE if zero else "white", edgecolor=GREY, linewidth=0.8)
                )
                if zero:
                    axis.text(x + column + 0.5, y + line + 0.5, "0", color="white", ha="center", va="center", fontsize=7)
    axis.annotate("", (25.8, 2), (20.4, 2), arrowprops={"arrowstyle": "-|>", "color": INK, "linewidth": 1.4})
    axis.text(23.1, 2.5, "one 2×2\nconvolution", ha="center", va="bottom", color=INK, fontsize=8)
    axis.set(xlim=(-0.5, 26.5), ylim=(-0.5, 4.5), aspect="equal")
    axis.set_title(WORDS[kernel], fontsize=9, color=INK)
    axis.axis("off")


def draw_response(axis, kernel: str, layers: int) -> None:
    """The lit pixel after so many layers; the red cross is where it was."""
    axis.imshow(response(kernel, layers), cmap="gray_r", vmin=0, vmax=1)
    axis.plot(SIDE // 2, SIDE // 2, "+", color=RED, markersize=9, markeredgewidth=1.6)
    axis.set(xticks=[], yticks=[])
    shift = f"{layers / 2:g} px up and left" if kernel == "c2" else "centred"
    axis.set_title(f"a pixel, {layers} layer{'s' * (layers > 1)}\n{shift}", fontsize=9, color=INK)


@styled
def draw_latents(path: Path, columns: int = 10) -> None:
    """The first images of three rows of the faces study, one below the other: a column has one latent."""
    figure, axes = subplots(len(GRIDS), 1, (WIDTH, 2))
    with zipfile.ZipFile(ROOT / "results/studies/faces_cpu/grids.zip") as grids:
        for axis, (kernel, folder) in zip(axes[:, 0], GRIDS.items()):
            grid = np.array(Image.open(io.BytesIO(grids.read(f"{folder}/seed_0.png"))))
            places = [(34 * (i // 8), 34 * (i % 8)) for i in range(columns)]
            row = [grid[top + 1 : top + 35, left + 1 : left + 35] for top, left in places]
            axis.imshow(np.concatenate(row, axis=1), interpolation="nearest")
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
            axis.set_ylabel(kernel, fontsize=10, color=INK, rotation=0, ha="right", va="center")
    save_figure(figure, path)


if __name__ == "__main__":
    main()
