"""DINOv2 ViT-L/14 (Oquab et al. 2023, arXiv 2304.07193): its distances agree better with human judgement than Inception's.

As in Stein et al. 2023 (arXiv 2306.04675, dgm-eval): the class token, 1,024 numbers, of images resized to 224 pixels by Pillow's
bicubic filter. The distance is called fd_dinov2.
"""

from pathlib import Path

import torch

from metrics.features.download import downloaded
from metrics.features.network import IMAGENET_MEAN, IMAGENET_STD, FeatureError, Network, Options, identify, load_weights, register
from metrics.features.vit import VisionTransformer

URL = "https://dl.fbaipublicfiles.com/dinov2/dinov2_vitl14/dinov2_vitl14_pretrain.pth"
SHA256 = "d5383ea8f4877b2472eb973e0fd72d557c7da5d3611bd527ceeb1d7162cbf428"
BYTES = 1_217_586_395
SIZE, PATCH = 224, 14
SHAPE = {"dim": 1024, "depth": 24, "heads": 16, "patch": PATCH, "grid": 37}  # trained at 518 pixels at last


@register("dinov2")
def dinov2(options: Options) -> Network:
    """The network with weights from a file, from torch's cache, or downloaded to there: 1.2 GB. No probabilities.

    FeatureError for a size that is no multiple of 14, for unknown weights without `insist`, and if the download fails.
    """
    size = options.size or SIZE
    if size % PATCH:
        raise FeatureError(f"DINOv2 takes images whose side is a multiple of {PATCH} pixels, not {size}: say {SIZE}")
    path = downloaded("DINOv2", URL, SHA256) if options.weights is None else Path(options.weights)
    sha256, name = identify("dinov2", path, SHA256, BYTES, options.insist)
    trunk = architecture()
    load_weights(trunk, path)
    return Network(
        name=name, sha256=sha256, trunk=trunk, dim=SHAPE["dim"], size=size, resize=options.resize or "pillow",
        mean=IMAGENET_MEAN, std=IMAGENET_STD,
    )  # fmt: skip


def architecture() -> VisionTransformer:
    """The network on the meta device, without memory for weights."""
    with torch.device("meta"):
        return VisionTransformer(**SHAPE)
