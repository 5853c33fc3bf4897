"""Features of a small classifier: ResNet-20, trained on CIFAR-10, takes 32 pixels unresized at a thousandth of Inception's cost.

The weights are a safetensors file that `python run_gan.py classify --export FILE` writes, its result and card as JSON in the
metadata: the file beside this one (results/classification says how it came about), or one of your own. Features are the last map,
averaged over positions; probabilities are over the classes it was trained on.
"""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from data.checksums import whole
from gan.models.classifiers import Classifier, build_classifier
from metrics.features.network import FeatureError, Network, Options, register, state_sha256

SHIPPED = Path(__file__).with_name("cifar_resnet.safetensors")
SHIPPED_SHA256 = "a2287c831b0e2d609627e8f4e147974496d72a0196c05eddf3bdf2d7413dbf0e"
MAKE = "make one with `python run_gan.py classify --export FILE`"


@register("cifar_resnet")
def cifar_resnet(options: Options) -> Network:
    """The classifier of an exported file, by default of SHIPPED. Its sha256 is that of the weights, checked against its card.

    Weights other than those of SHIPPED have the first 8 digits of their sha256 in their name: networks that differ never score
    under one. FeatureError for a missing, damaged or foreign file, and without `insist` for other networks or data than the name
    says.
    """
    weights = Path(options.weights or SHIPPED)
    tensors, metadata = _load(weights)
    try:
        result = json.loads(metadata["result"])
        if not whole(result):
            raise FeatureError(f"{weights} is damaged, since its description isn't the one that was written: {MAKE}")
        card = result["card"]
        with torch.device("meta"):
            model = build_classifier(**card["model"], classes=len(card["classes"]))
        model.load_state_dict(tensors, assign=True)
        promised, family, source = card["weights_sha256"], card["model"]["family"], card["data"]
        size, mean, std = options.size or int(card["resolution"]), _three(card["mean"]), _three(card["std"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise FeatureError(f"{weights} holds no classifier of this program ({type(error).__name__}): {MAKE}") from error
    sha256 = state_sha256(model)
    trouble = None
    if sha256 != promised:  # whoever insists wants other weights, no damaged ones
        raise FeatureError(f"the weights in {weights} are damaged, for they aren't those of its card: {MAKE}")
    if family != "resnet" or not source.startswith("cifar10 "):
        trouble = f"are of a {family} trained on {source}"
    if trouble and not options.insist:
        raise FeatureError(f"the weights in {weights} {trouble}: {MAKE}, or insist and get scores under another name")
    name = "cifar_resnet" if sha256 == SHIPPED_SHA256 else f"cifar_resnet_{sha256[:8]}"
    return Network(
        name=name, sha256=sha256, trunk=Trunk(model), head=model.head, dim=model.dim, classes=model.classes, size=size,
        resize=options.resize or "clean", mean=mean, std=std,
    )  # fmt: skip


def _three(numbers: list[float]) -> tuple[float, float, float]:
    """One for each colour."""
    red, green, blue = numbers
    return red, green, blue


class Trunk(nn.Module):
    """Everything before the classifier: normalised (N, 3, S, S) -> (N, dim), averaged over positions in float32."""

    def __init__(self, model: Classifier):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model.embed(x)


def _load(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a safetensors file, and its metadata."""
    if not path.is_file():
        raise FeatureError(f"there are no weights at {path}: {MAKE}")
    try:
        with safe_open(path, framework="pt") as file:
            names = file.keys()
            # Copied: what the file gives is a view of the disk, which changes when the file does.
            return {name: file.get_tensor(name).clone() for name in names}, file.metadata() or {}
    except SafetensorError as error:
        raise FeatureError(f"{path} is damaged or no safetensors file: {MAKE}") from error
