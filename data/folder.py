"""`folder`: a directory or a zip of images, class subfolders optional, decoded into one tensor.

Decoding, in this order: EXIF rotation; to 8-bit RGB (16-bit is scaled, transparency is laid over white, CMYK by
Pillow's plain formula, colour profiles are ignored, an animation gives its first frame); the centre square of the
short side; Lanczos with antialiasing down to R×R. An image that already is R×R keeps its pixels.
"""

import io
import os
import warnings
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from data.images import DataError, ImageSet

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".webp")
Read = Callable[[str], bytes]


def folder(path: Path, resolution: int, split: str = "train", on_bad: str = "refuse") -> ImageSet:
    """All images under `path`, sorted by name; a class is a first-level folder.

    With an image at the top level there are no classes: every label is 0. When the first level is nothing but `train`
    and `test`, these are the splits and the classes lie one level deeper; otherwise all images are the train split.

    Returns: images (N, 3, R, R) uint8. Raises DataError (missing or unreadable path, no images, unusable images).
    """
    with open_images(path) as (names, read):
        prefix = ""
        if {_first(name) for name in names} <= {"train", "test"}:
            prefix = f"{split}/"
        elif split == "test":
            # The same images twice would make a real-against-real distance of zero, and nobody would know why.
            raise DataError(f"{path} has no test split: sort its images into folders train and test, or ask for train")
        names = [name.removeprefix(prefix) for name in names if name.startswith(prefix)]
        if not names:
            raise DataError(f"{path} has no images in a folder '{split}': add them, or ask for the other split")
        source = f"folder {path.name}, {split} split"
        return decode_all(names, lambda name: read(prefix + name), resolution, on_bad, source)


@contextmanager
def open_images(path: Path) -> Iterator[tuple[list[str], Read]]:
    """Open a directory or a zip: the names of its images (relative, with "/", sorted) and a function that reads one.

    Raises DataError when there is nothing at `path`, it's neither kind, the zip is unreadable, or no image is in it.
    """
    if path.is_dir():
        yield _image_names(_walk(path), path), lambda name: (path / name).read_bytes()
    elif not path.exists():
        raise DataError(f"there is nothing at {path}: set dataset.path, or GAN_DATA, to a directory or a zip of images")
    else:
        try:
            archive = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError) as error:
            raise DataError(f"{path} can't be read as a zip ({error}): if it was cut short, get it again") from None
        with archive:
            yield _image_names(archive.namelist(), path), archive.read


def decode_all(names: list[str], read: Read, resolution: int, on_bad: str, source: str) -> ImageSet:
    """Decode the named images by a few threads (Pillow lets go of the interpreter lock while it decodes).

    on_bad: "refuse" raises DataError that counts the unusable images and names the first; "skip" leaves them out.
    Raises DataError as well when no usable image is left.
    """
    pixels = np.empty((len(names), 3, resolution, resolution), dtype=np.uint8)
    problems: dict[int, str] = {}

    def work(part: range) -> None:
        for i in part:
            # Broken bytes make Pillow and zipfile raise a dozen kinds of error; each means: this image is unusable.
            try:
                pixels[i] = decode(read(names[i]), resolution)
            except Exception as error:
                problems[i] = f"{names[i]} ({_reason(error)})"

    parts = [range(i, min(i + 256, len(names))) for i in range(0, len(names), 256)]
    with warnings.catch_warnings(), ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        warnings.simplefilter("ignore")  # Pillow's remarks on odd metadata
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        list(pool.map(work, parts))

    bad = sorted(problems)
    if len(bad) == len(names):
        raise DataError(
            f"none of the {len(names):,} images can be used, the first is {problems[0]}: "
            "choose other images, or a smaller dataset.resolution if they are too small"
        )
    if bad and on_bad == "refuse":
        first = ", ".join(problems[i] for i in bad[:3]) + (", …" if len(bad) > 3 else "")
        raise DataError(
            f"{len(bad):,} of {len(names):,} images can't be used: {first}; "
            "mend them, or leave them out with dataset.on_bad=skip"
        )
    flat = any("/" not in name for name in names)
    classes = ("all",) if flat else tuple(sorted({_first(name) for name in names}))
    labels = np.array([0 if flat else classes.index(_first(name)) for name in names], dtype=np.int64)
    if bad:
        pixels, labels = np.delete(pixels, bad, axis=0), np.delete(labels, bad)
    skipped = tuple(names[i] for i in bad)
    return ImageSet(torch.from_numpy(pixels), torch.from_numpy(labels), classes, source, skipped)


def decode(data: bytes, resolution: int) -> np.ndarray:
    """One encoded image as (3, R, R) uint8 RGB. Raises whatever Pillow raises, and ValueError when it's too small."""
    image = as_rgb(data)
    width, height = image.size
    side = min(width, height)
    if side < resolution:
        raise ValueError(f"{width}×{height} is smaller than {resolution}×{resolution}")
    if image.size != (resolution, resolution):
        left, top = (width - side) // 2, (height - side) // 2
        # Not resize(box=...): its filter would reach over the edge of the square and mix in what was cut off.
        image = image.crop((left, top, left + side, top + side))
        image = image.resize((resolution, resolution), Image.Resampling.LANCZOS)
    return np.asarray(image).transpose(2, 0, 1)


def as_rgb(data: bytes) -> Image.Image:
    """One encoded image, upright, in 8-bit RGB and its own size. Raises whatever Pillow raises."""
    return _to_rgb(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey; Pillow's own conversion would clip at 255 instead of scaling
        grey = np.asarray(image).astype(np.float64) * (255 / 65535)
        return Image.fromarray(grey.round().clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def _walk(root: Path) -> Iterator[str]:
    """Relative names, with "/", of all files below a directory; linked directories count."""
    for here, directories, files in os.walk(root, followlinks=True):
        real = os.path.realpath(here)
        # A link to a directory above would make the walk endless.
        directories[:] = [d for d in directories if not f"{real}/".startswith(os.path.realpath(f"{here}/{d}") + "/")]
        for file in files:
            yield Path(here, file).relative_to(root).as_posix()


def _image_names(files: Iterator[str] | list[str], path: Path) -> list[str]:
    files = {file for file in files if not any(part.startswith((".", "__MACOSX")) for part in file.split("/"))}
    names = sorted(file for file in files if file.lower().endswith(SUFFIXES))
    if not names:
        zips = sorted(file for file in files if file.lower().endswith(".zip"))
        if zips:
            raise DataError(f"{path} holds no images but zips: set dataset.path to one of them ({', '.join(zips[:8])})")
        kinds = ", ".join(suffix[1:] for suffix in SUFFIXES)
        raise DataError(f"{path} holds no images ({kinds}): set dataset.path to where they lie")
    return names


def _first(name: str) -> str:
    """The first-level folder of a name, or "" for an image at the top level."""
    return name.partition("/")[0] if "/" in name else ""


def _reason(error: Exception) -> str:
    return "not an image" if isinstance(error, Image.UnidentifiedImageError) else str(error) or type(error).__name__
