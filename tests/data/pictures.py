"""Pictures of noise, and how they are stored."""

import io

import numpy as np
from PIL import Image


def encoded(image, kind="png", **options):
    file = io.BytesIO()
    image.save(file, kind, **({"lossless": True} if kind == "webp" else {}), **options)
    return file.getvalue()


def noise(seed=0, size=(16, 16)):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
