"""Encoded bytes to pixels.

In this order: EXIF rotation; to 8-bit RGB (16-bit is scaled, transparency is laid over white, CMYK by Pillow's plain formula,
colour profiles are ignored, an animation gives its first frame); a square, by one of CROPS; Lanczos with antialiasing down to R×R.
Nothing is ever enlarged.
An image that already is R×R keeps its pixels. Of an image's metadata only the orientation counts, where it can be read.
"""

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Literal, get_args

import numpy as np
from PIL import ExifTags, Image

from data.files import in_short

FILTER = "Pillow Lanczos, antialiased"
Crop = Literal["center", "pad", "cut"]
CROPS = get_args(Crop)

# What is read, and what such files are called: all that Pillow decodes by itself and knows by its first bytes. PostScript and WMF,
# for which it starts other programs, aren't among them, nor is TGA, for which any bytes may pass.
FORMATS = {
    "JPEG": (".jpeg", ".jpg", ".jpe", ".jfif", ".mpo"),
    "PNG": (".png", ".apng"),
    "WEBP": (".webp",),
    "AVIF": (".avif", ".avifs"),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "TIFF": (".tiff", ".tif"),
    "JPEG2000": (".jp2", ".j2k", ".jpc", ".jpf", ".jpx", ".j2c"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
    "DDS": (".dds",),
    "ICO": (".ico",),
    "PCX": (".pcx",),
    "PSD": (".psd",),
    "QOI": (".qoi",),
    "SGI": (".sgi", ".rgb", ".rgba", ".bw"),
    "SUN": (".ras",),
}
SUFFIXES = tuple(suffix for suffixes in FORMATS.values() for suffix in suffixes)
LARGEST = 2**28  # bytes that one encoded image may have

logging.getLogger("PIL").addHandler(logging.NullHandler())  # else its remarks on a broken image go to stderr

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class TooSmall(ValueError):
    """An image is smaller than R pixels along a side that needs them. side: its shorter side."""

    def __init__(self, width: int, height: int, resolution: int):
        super().__init__(f"{width}×{height} is smaller than {resolution}×{resolution}")
        self.side = min(width, height)


def require_size(size: int) -> None:
    """ValueError for more than LARGEST bytes of an encoded image, before they are read or unpacked."""
    if size > LARGEST:
        raise ValueError(f"{size / 2**20:,.0f} MiB are more than the {LARGEST // 2**20} that an image may have")


def as_rgb(data: bytes) -> Image.Image:
    """One encoded image, upright, in 8-bit RGB and its own size. Raises whatever Pillow raises."""
    image = _upright(data)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")  # which would copy it


def _upright(data: bytes) -> Image.Image:
    """Decode and rotate by the EXIF orientation; if broken metadata prevent that, without them."""
    try:
        return _decoded(data)
    except MemoryError:
        raise
    except Exception:
        for leaner in _without_metadata(data):
            try:
                return _decoded(leaner)
            except Exception:  # then it wasn't the metadata, or not these alone
                continue
        raise


def _decoded(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data), formats=_known_formats())
    if Image.MAX_IMAGE_PIXELS and image.width * image.height > Image.MAX_IMAGE_PIXELS:
        raise Image.DecompressionBombError(f"{image.width}×{image.height} are more than {Image.MAX_IMAGE_PIXELS:,} pixels")
    kind = image.format
    for name, of in {"xmp": bytes, "XML:com.adobe.xmp": str}.items():  # in which Pillow looks for an orientation while it loads
        if not isinstance(image.info.get(name), of):
            image.info.pop(name, None)
    coded = image.tile[0].args if kind == "PNG" and image.tile else None  # "L;4": how the pixels are stored
    image.load()
    _scale_transparency(image, coded if isinstance(coded, str) else "")
    if image.mode == "F" or (image.mode == "I" and kind not in ("PNG", "PPM")):  # of these two, I holds 16 bits
        pixels = "floating-point numbers" if image.mode == "F" else "32-bit or signed integers"
        raise ValueError(f"its pixels are {pixels}, whose white level isn't defined: save it with 8 or 16 bits")
    try:
        turn = TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # foreign bytes make Pillow raise a dozen kinds of error
        turn = None
    image = _in_8_bits(image) if image.mode.startswith("I") else image
    return image if turn is None else image.transpose(turn)


def _scale_transparency(image: Image.Image, coded: str) -> None:
    """The transparent colour of a PNG in 8 bits, as Pillow gives its pixels; it leaves that as the file has it.

    With 16 bits a channel, colours that differ from it in their low bytes alone are transparent too: Pillow drops those.
    """
    key = image.info.get("transparency")
    if coded in ("L;2", "L;4") and isinstance(key, int):
        image.info["transparency"] = key * {"L;2": 85, "L;4": 17}[coded]
    elif coded == "RGB;16B" and isinstance(key, tuple):
        image.info["transparency"] = tuple(value >> 8 for value in key)


def _in_8_bits(image: Image.Image) -> Image.Image:
    """16-bit grey, or what a TIFF stores of it, scaled; Pillow's own conversion would clip at 255. What is transparent is white."""
    values, tags = np.asarray(image).astype(np.float64), getattr(image, "tag_v2", {})
    bits = tags.get(ExifTags.Base.BitsPerSample, (16,))[0]
    grey = (values * (255 / (2**bits - 1))).round().clip(0, 255)
    if tags.get(ExifTags.Base.PhotometricInterpretation) == 0:  # white is zero
        grey = 255 - grey
    if isinstance(image.info.get("transparency"), int):
        grey[values == image.info["transparency"]] = 255
    return Image.fromarray(grey.astype(np.uint8))


@cache
def _known_formats() -> tuple[str, ...]:
    """Of FORMATS, those that this Pillow has."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _without_metadata(data: bytes) -> Iterator[bytes]:
    """The same image without metadata: first all but EXIF, then that, too. Nothing of a format that isn't taken apart here."""
    parts = _png_parts if data.startswith(b"\x89PNG\r\n\x1a\n") else _jpeg_parts if data.startswith(b"\xff\xd8") else None
    if parts:
        for dropped in (("metadata",), ("metadata", "exif")):
            yield b"".join(part for kind, part in parts(data) if kind not in dropped)


def _png_parts(data: bytes) -> Iterator[tuple[str, bytes]]:
    """("pixels", "exif" or "metadata", the bytes): the signature and each chunk (PNG, 3rd edition, section 5)."""
    yield "pixels", data[:8]
    start = 8
    while start < len(data):
        end = start + 12 + int.from_bytes(data[start : start + 4], "big")
        name = data[start + 4 : start + 8]
        needed = name[:1].isupper() or name == b"tRNS"  # critical chunks are in capitals
        yield "pixels" if needed else "exif" if name == b"eXIf" else "metadata", data[start:end]
        start = end


def _jpeg_parts(data: bytes) -> Iterator[tuple[str, bytes]]:
    """The same of a JPEG's segments, up to the scan (ITU T.81, annex B). JFIF's and Adobe's tell how colours are stored."""
    yield "pixels", data[:2]
    start = 2
    while data[start : start + 1] == b"\xff" and data[start + 1 : start + 2] != b"\xda":
        marker = data[start + 1]
        end = start + 2 + int.from_bytes(data[start + 2 : start + 4], "big")
        other = marker == 0xFE or (0xE1 <= marker <= 0xEF and marker != 0xEE)  # comments and application segments
        exif = marker == 0xE1 and data[start + 4 : start + 8] == b"Exif"
        yield "exif" if exif else "metadata" if other else "pixels", data[start:end]
        start = end
    yield "pixels", data[start:]


def fit(image: Image.Image, resolution: int, crop: Crop = "center") -> np.ndarray:
    """An RGB image as (3, R, R) uint8.

    crop: "center" takes the centre square of the short side and shrinks it, as most published work does;
        "pad" shrinks the whole image, where it is larger, and fills up with black (28×28 digits get two pixels of it at 32); "cut"
        takes the central R×R pixels and never shrinks, as compare_gan does with LSUN (Kurach et al. 2019): a bedroom then shows a
        quarter of its area.

    Raises TooSmall, a ValueError, unless crop is "pad".
    """
    width, height = image.size
    if crop == "pad":  # shrunk first: the filter must not mix the bars into the picture
        side = max(width, height, resolution)
        image = _resized(image, *(max(1, round(length * resolution / side)) for length in image.size))
        image = _central(image, resolution)
    else:  # not resize(box=...): its filter would reach over the edge of the square and mix in what was cut off
        if min(width, height) < resolution:
            raise TooSmall(width, height, resolution)
        side = resolution if crop == "cut" else min(width, height)
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
    text = in_short(error)
    # Pillow names the file, which here is a place in memory: "<_io.BytesIO object at 0x7f…>".
    return "not an image" if isinstance(error, Image.UnidentifiedImageError) or "<_io." in text else text


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
