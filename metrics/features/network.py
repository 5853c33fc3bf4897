"""A network that embeds images: its description, its registration, and how its weights are loaded and identified.

    @register("mine")
    def mine(options: Options) -> Network: ...

in a file of this folder makes `--features mine`; a file elsewhere must be imported first.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from data.files import UserError
from metrics.registry import Registry

DEFAULT = "efficientnet_lite0"

IMAGENET_MEAN = (0.485 * 255, 0.456 * 255, 0.406 * 255)  # torchvision's, in grey levels
IMAGENET_STD = (0.229 * 255, 0.224 * 255, 0.225 * 255)


class FeatureError(UserError):
    """Features can't be computed as asked: one sentence that says what is wrong and what to do about it."""


@dataclass(frozen=True, kw_only=True)
class Network:
    """A network ready for inference, and how images enter it."""

    name: str  # on cards, and in the names of scores
    sha256: str  # of the weights: other weights, other scores
    trunk: nn.Module  # normalised float32 (N, 3, size, size) -> features (N, dim)
    dim: int
    head: nn.Module | None = None  # features (N, dim) -> logits (N, classes), where there are classes
    classes: int | None = None
    size: int  # side of the input in pixels
    resize: str  # how images get to that size: one of RESIZES
    mean: tuple[float, float, float]  # subtracted from each colour of 0..255
    std: tuple[float, float, float]  # and what the difference is divided by
    genuine: bool = False  # the 2015 Inception weights, whose scores alone may be called FID, Inception Score and KID


@dataclass(frozen=True)
class Options:
    """What a user asks of a network; None: the network's default. The network raises FeatureError for what it can't do."""

    name: str  # as asked for: its registered name, or one that begins with it
    weights: str | Path | None = None  # a file of weights
    resize: str | None = None  # one of RESIZES
    size: int | None = None  # side of the input in pixels, at least 32
    insist: bool = False  # take unknown weights, under another name


Builder = Callable[[Options], Network]
NETWORKS: Registry[Builder] = Registry("metrics.features")


def register(name: str) -> Callable[[Builder], Builder]:
    """A decorator that makes a function of Options known to `open_extractor` and `--features` by this name.

    A name that ends in a colon stands for all names that begin with it.
    """

    def add(build: Builder) -> Builder:
        NETWORKS.add(name, build, build.__module__)
        return build

    return add


# --- weights -----------------------------------------------------------------------------------------------------------------


def file_sha256(path: Path) -> str:
    """sha256 of a file, 64 hexadecimal digits. FeatureError where it can't be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise FeatureError(f"the weights {path} can't be read ({error.strerror}): give the path of a file") from error


def state_sha256(module: nn.Module) -> str:
    """sha256 over a module's state dict."""
    return tensors_sha256(module.state_dict())


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """sha256 over name, dtype, shape and bytes of every tensor in order."""
    digest = hashlib.sha256()
    for name, tensor in tensors.items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def identify(name: str, path: Path, known: str, size: int, insist: bool) -> tuple[str, str]:
    """The sha256 of a weight file, and the name its features go by: `name` if the sha256 is the known one.

    Another file is refused with a FeatureError, or with `insist` named after its first 8 digits. size: bytes of the known file.
    """
    sha256 = file_sha256(path)
    if sha256 == known:
        return sha256, name
    if insist:
        return sha256, f"{name}_{sha256[:8]}"
    found = path.stat().st_size
    cut = f", and it has {found:,} bytes instead of {size:,}" if found != size else ""
    raise FeatureError(
        f"{path} isn't the known {name} weights (sha256 {sha256[:8]}…, expected {known[:8]}…{cut}): "
        "fetch the file again, or insist and get scores under another name"
    )


def fold_batch_norm(parent: nn.Module, convolution: str, norm: str) -> None:
    """Fold an eval-mode batch norm into the convolution before it: w' = w g / s, b' = h - m g / s. One pass and rounding fewer."""
    setattr(parent, convolution, fuse_conv_bn_eval(getattr(parent, convolution).eval(), getattr(parent, norm).eval()))
    setattr(parent, norm, nn.Identity())


def load_weights(module: nn.Module, path: Path) -> None:
    """Fill a module, on the meta device or not, from a file of its state dict, in float32. FeatureError if they don't match."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can fail in any layer of unpickling
        raise FeatureError(f"the weights {path} are damaged or no state dict of tensors: fetch the file again") from error
    try:
        module.load_state_dict(state, assign=True)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise FeatureError(f"the weights {path} belong to another network: {' '.join(str(error).split())[:160]}") from error
    module.float()
