"""Encoded bytes to pixels.

In this order: EXIF rotation; to 8-bit RGB (16-bit is scaled, transparency is laid over white, CMYK by Pillow's plain formula,
colour profiles are ignored, an animation gives its first frame); a square, by one of CROPS; Lanczos with antialiasing down to R×R.
An image that already is R×R keeps its pixels.
"""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

import numpy as np
from PIL import Image, ImageOps

FILTER = "Pillow Lanczos, antialiased"
Crop = Literal["center", "pad", "cut"]
CROPS = get_args(Crop)


def as_rgb(data: bytes) -> Image.Image:
    """One encoded image, upright, in 8-bit RGB and its own size. Raises whatever Pillow raises."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    if image.mode.startswith("I"):  # 16-bit grey; Pillow's own conversion would clip at 255 instead of scaling
        grey = np.asarray(image).astype(np.float64) * (255 / 65535)
        return Image.fromarray(grey.round().clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def fit(image: Image.Image, resolution: int, crop: Crop = "center") -> np.ndarray:
    """An RGB image as (3, R, R) uint8.

    crop: "center" takes the centre square of the short side and shrinks it, as most published work does;
        "pad" shrinks the whole image and fills up with black; "cut" takes the central R×R pixels and never shrinks, as
        compare_gan does with LSUN (Kurach et al. 2019): a bedroom then shows a quarter of its area.

    Raises ValueError when the image is too small: nothing is ever enlarged.
    """
    width, height = image.size
    side = resolution if crop == "cut" else max(width, height) if crop == "pad" else min(width, height)
    if side < resolution or (crop != "pad" and min(width, height) < resolution):
        raise ValueError(f"{width}×{height} is smaller than {resolution}×{resolution}")
    if crop == "pad":  # shrunk first: the filter must not mix the bars into the picture
        image = _resized(image, *(max(1, round(length * resolution / side)) for length in image.size))
        image = _central(image, resolution)
    else:  # not resize(box=...): its filter would reach over the edge of the square and mix in what was cut off
        image = _resized(_central(image, side), resolution, resolution)
    return np.asarray(image).transpose(2, 0, 1)


def _central(image: Image.Image, side: int) -> Image.Image:
    """The square around the centre; black where it reaches beyond the image."""
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side)) if image.size != (side, side) else image


def _resized(image: Image.Image, width: int, height: int) -> Image.Image:
    return image.resize((width, height), Image.Resampling.LANCZOS) if image.size != (width, height) else image


def reason(error: Exception) -> str:
    """What is wrong with an image, in a few words."""
    text = str(error)
    # Pillow names the file, which here is a place in memory: "<_io.BytesIO object at 0x7f…>".
    return "not an image" if isinstance(error, Image.UnidentifiedImageError) or "<_io." in text else text or type(error).__name__


@contextmanager
def quiet_decoding() -> Iterator[None]:
    """`quiet_pillow` for a while: the caller's own filters are back afterwards."""
    with warnings.catch_warnings():
        quiet_pillow()
        yield


def quiet_pillow() -> None:
    """From now on Pillow's remarks on odd metadata are dropped; its warning of a decompression bomb is an error of that image."""
    warnings.filterwarnings("ignore", module=r"PIL\.")
    warnings.simplefilter("error", Image.DecompressionBombWarning)
