"""Features of a small classifier trained here: ResNet-20 on CIFAR-10 sees 32 pixels as they are, a thousandth of Inception's work.

The weights are a file that `python run_gan.py classify --export FILE` writes: plain tensors, and the result with its card. Features
are the last map, averaged over positions; probabilities are over the classes it was trained on.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from metrics.features import FeatureError, Network, state_sha256

MAKE = "make one with `python run_gan.py classify --export FILE`"


def cifar_resnet(weights: str | Path | None, resize: str | None, size: int | None, insist: bool) -> Network:
    """The classifier of an exported file. Its sha256 is that of the weights themselves, checked against the file's card.

    Scores with different weights carry different sha256 on their cards, so they are never put side by side. FeatureError for a
    missing, damaged or foreign file; for other networks or data than the name says only without `insist`, which adds the first 8
    digits of the sha256 to the name.
    """
    if weights is None:
        raise FeatureError(f"cifar_resnet needs a file of weights, with --weights FILE: {MAKE}")
    saved = _load(Path(weights))
    # Imported here: the only thing that metrics take from gan, so that the network is described in one place.
    from gan.models.classifiers import build_classifier

    try:
        card = saved["result"]["card"]
        with torch.device("meta"):
            model = build_classifier(**card["model"], classes=len(card["classes"]))
        model.load_state_dict(saved["weights"], assign=True)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise FeatureError(f"{weights} holds no classifier of this program ({type(error).__name__}): {MAKE}") from error
    sha256 = state_sha256(model)
    name, trouble = "cifar_resnet", None
    if sha256 != card["weights_sha256"]:
        trouble = "aren't those of its card"
    elif card["model"]["family"] != "resnet" or not card["data"].startswith("cifar10 "):
        trouble = f"are of a {card['model']['family']} trained on {card['data']}"
    if trouble and not insist:
        raise FeatureError(f"the weights in {weights} {trouble}: {MAKE}, or insist and get scores under another name")
    if trouble:
        name = f"cifar_resnet_{sha256[:8]}"
    size = size or card["resolution"]
    mean, std = (tuple(card[name]) for name in ("mean", "std"))
    return Network(name, sha256, Trunk(model), model.head, model.dim, model.classes, size, resize or "clean", mean, std)


class Trunk(nn.Module):
    """Everything before the classifier: normalised (N, 3, S, S) -> (N, dim), averaged over positions in float32."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model.features(x).float().mean(dim=(2, 3))


def _load(path: Path) -> dict:
    if not path.is_file():
        raise FeatureError(f"there are no weights at {path}: {MAKE}")
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can fail in any layer of unpickling
        raise FeatureError(f"the weights {path} are damaged: fetch or export the file again") from error
    if not isinstance(saved, dict):
        raise FeatureError(f"{path} holds no classifier of this program: {MAKE}")
    return saved
