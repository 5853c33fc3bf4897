"""The 2015 Inception network of FID and the Inception Score, as pytorch-fid converted it.

Heusel et al. 2017 (FID), Salimans et al. 2016 (Inception Score), Binkowski et al. 2018 (KID). It is not torchvision's network:
average pools leave padding out, the last pool takes maxima, and there are 1008 classes. Blocks and checkpoint are pytorch-fid's
(github.com/mseitzer/pytorch-fid); one pass gives the pooled features and, through `fc`, the probabilities.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from metrics.features.download import downloaded
from metrics.features.network import FeatureError, Network, Options, fold_batch_norm, identify, load_weights, register

SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
BYTES = 95_628_359
SIZE = 299
FEATURES, CLASSES = 2048, 1008

# Each resize comes with the scaling it was published with: pytorch-fid maps 0..255 to -1..1; the TensorFlow graph, torch-fidelity
# and clean-fid map 128 to 0.
SCALINGS = {"pytorch_fid": (127.5, 127.5), "tf1": (128.0, 128.0), "clean": (128.0, 128.0), "pillow": (127.5, 127.5)}


@register("inception")
def inception(options: Options) -> Network:
    """The network with weights from a file, from pytorch-fid's place in torch's cache, or downloaded to there.

    FeatureError for another size than 299, for unknown weights without `insist`, and if the download fails.
    """
    if options.size not in (None, SIZE):
        raise FeatureError(f"the 2015 Inception network takes images of {SIZE} pixels, not {options.size}: leave size out")
    resize = options.resize or "pytorch_fid"
    path = downloaded("Inception", _libraries()[0].FID_WEIGHTS_URL, SHA256) if options.weights is None else Path(options.weights)
    sha256, name = identify("inception", path, SHA256, BYTES, options.insist)
    trunk = architecture()
    load_weights(trunk, path)
    head = nn.Linear(FEATURES, CLASSES, bias=False)  # the Inception Score was defined without fc's bias: 10.95, not 11.23
    head.weight = trunk.get_parameter("fc.weight")
    trunk.fc = nn.Identity()
    trunk.avgpool = AverageInFloat32()
    for block in trunk.modules():
        if hasattr(block, "conv") and hasattr(block, "bn"):
            fold_batch_norm(block, "conv", "bn")
    centre, scale = SCALINGS[resize]
    return Network(
        name=name, sha256=sha256, trunk=trunk, head=head, dim=FEATURES, classes=CLASSES, size=SIZE, resize=resize,
        mean=(centre, centre, centre), std=(scale, scale, scale), genuine=sha256 == SHA256,
    )  # fmt: skip


class AverageInFloat32(nn.Module):
    """(N, C, H, W) -> (N, C, 1, 1), so that features computed in bf16 aren't rounded once more."""

    def forward(self, x: Tensor) -> Tensor:
        return x.float().mean(dim=(2, 3), keepdim=True)


def architecture() -> nn.Module:
    """torchvision's Inception v3 with pytorch-fid's blocks, normalised (N, 3, 299, 299) -> (N, 1008), without memory for weights.

    pytorch-fid's own builder downloads as it builds; torchvision takes the blocks as an argument, so nothing needs to be patched.
    """
    fid, torchvision = _libraries()

    def last_blocks(channels: int) -> nn.Module:  # Mixed_7b, which averages, and Mixed_7c, which takes maxima
        return fid.FIDInceptionE_1(channels) if channels == 1280 else fid.FIDInceptionE_2(channels)

    blocks = [
        torchvision.BasicConv2d, fid.FIDInceptionA, torchvision.InceptionB, fid.FIDInceptionC, torchvision.InceptionD, last_blocks,
        torchvision.InceptionAux,
    ]  # fmt: skip
    with torch.device("meta"):
        return torchvision.Inception3(CLASSES, aux_logits=False, inception_blocks=blocks, init_weights=False)


def _libraries():
    """pytorch-fid's and torchvision's modules of Inception blocks. FeatureError if they aren't installed."""
    try:
        import pytorch_fid.inception
        import torchvision.models.inception
    except ImportError as error:
        raise FeatureError(f"{error.name} is missing: pip install -r requirements.txt") from error
    return pytorch_fid.inception, torchvision.models.inception
