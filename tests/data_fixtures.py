"""Photos to test with, real ones where GAN_DATA has them, and databases made of them."""

import os
import zipfile
from pathlib import Path

import lmdb
import numpy as np
import pytest
from PIL import Image

from data.sources.shapes import shapes
from tests.data.pictures import encoded, noise


@pytest.fixture(scope="session")
def photos():
    """48 encoded pictures, 256×256 JPEGs of bedrooms, else generated WebPs of 128×128."""
    path = Path(os.environ.get("GAN_DATA", ""), "bedrooms-256.zip")
    if path.is_file():
        with zipfile.ZipFile(path) as archive:
            return [archive.read(name) for name in sorted(archive.namelist()) if name.endswith(".jpg")][:48]
    return [encoded(Image.fromarray(image.permute(1, 2, 0).numpy()), "webp") for image in shapes(128, count=48).images]


@pytest.fixture
def write_lsun(tmp_path, photos):
    """write_lsun("bedroom_train", {key: bytes}) -> the directory; without values, the photos under keys like LSUN's."""

    def write(name="bedroom_train", values=None, root=tmp_path / "lsun"):
        if values is None:
            values = {f"{i * 7919 % 48:040x}".encode(): photo for i, photo in enumerate(photos)}
        directory = root / f"{name}_lmdb"
        directory.mkdir(parents=True)
        with lmdb.open(str(directory), map_size=2**28, lock=False) as environment, environment.begin(write=True) as transaction:
            for key, value in values.items():
                transaction.put(key, value)
        return directory

    return write


@pytest.fixture
def write_folder(tmp_path):
    """write_folder({name: bytes}) -> a directory of these files."""

    def write(files, root=tmp_path / "folder"):
        for name, data in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(data)
        return root

    return write


@pytest.fixture
def small():
    """small(n) -> n noisy 16×16 PNGs, quick to decode."""
    return lambda n: [encoded(noise(i)) for i in range(n)]


@pytest.fixture
def odd_pictures():
    """{name: bytes} of pictures that are all usable at 16 pixels, each stored in its own way."""
    turned = Image.Exif()
    turned[0x0112] = 6
    deep = np.linspace(0, 65535, 400).reshape(20, 20).astype(np.uint16)
    seen_through = noise(3, (24, 20)).convert("RGBA")
    seen_through.putalpha(90)
    return {
        "16bit": encoded(Image.fromarray(deep)),
        "alpha": encoded(seen_through),
        "cmyk": encoded(noise(1, (32, 24)).convert("CMYK"), "jpeg", quality=95),
        "exif": encoded(noise(2, (40, 20)), "jpeg", exif=turned),
        "grey": encoded(noise(4, (17, 19)).convert("L"), "webp"),
        "palette": encoded(noise(5, (20, 20)).quantize(16)),
    }
