"""Networks that embed images for scores: uint8 images in, features and class probabilities out.

    extractor = open_extractor("efficientnet_lite0")
    features, probabilities = extractor(images)

An Extractor also has its identity (name, sha256 of its weights, resize, precision, size), without which a score means nothing.
"""

import difflib
from functools import cached_property
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor

from metrics.devices import open_device
from metrics.features.network import DEFAULT, NETWORKS, Builder, FeatureError, Network, Options, tensors_sha256
from metrics.features.resize import RESIZES, resize
from metrics.precision import Precision, ieee_float32, settled

PRECISIONS = get_args(Precision)
AT_ONCE = 2**24  # values of images that are resized at a time

# What a score is called on the 2015 Inception network, and the stem of its name on any other.
SCORES = {"fid": "fd", "inception_score": "score", "kid": "kd"}


class Extractor:
    """Maps uint8 images (N, 3, H, W) of any size, on any device, to features and probabilities.

    An image's features don't depend on the other images: networks run in eval mode, `batch_size` images at a time.
    fp32 means IEEE fp32, on CUDA too. bf16 runs the trunk under autocast: faster on devices that have it, but features change a
    little. Distances agree if both sides are bf16, so never mix; benchmarks/features.py and benchmarks/fid.py print how well.
    auto is bf16 on devices that have it, else fp32; `precision` says which.
    """

    def __init__(self, network: Network, precision: str = "fp32", device: str | torch.device = "cpu", foreign: bool = False):
        """foreign: the network's code is a user's, which may change while its weights stay."""
        self.name, self.sha256 = network.name, network.sha256
        self.dim, self.classes = network.dim, network.classes
        self.size, self.resize = network.size, network.resize
        self.device = open_device(device)
        self.precision = settled(_one_of("precision", precision, PRECISIONS), self.device)
        self.batch_size = 16 if self.device.type == "cpu" else 64  # more than 16 spill the cache
        self._genuine, self._foreign = network.genuine, foreign
        # Behind a path to somebody's function may be other weights tomorrow: networks that differ never score under one name.
        self.label = f"{network.name}_{network.sha256[:8]}" if ":" in network.name else network.name
        self._trunk = network.trunk.eval().requires_grad_(False).to(self.device).to(memory_format=torch.channels_last)
        self._head = None if network.head is None else network.head.eval().requires_grad_(False).to(self.device)
        self._mean = torch.tensor(network.mean, device=self.device).view(1, 3, 1, 1)
        self._std = torch.tensor(network.std, device=self.device).view(1, 3, 1, 1)

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """(N, 3, H, W) uint8, N at least 1 -> features (N, dim) float32, probabilities (N, classes) float32 or None.

        Both on the extractor's device. FeatureError for any other input, and where a feature isn't finite.
        """
        _check_images(images)
        with torch.inference_mode(), ieee_float32():
            parts = [self._embed(part) for part in images.split(self.batch_size)]
        features, probabilities = [f for f, _ in parts], [p for _, p in parts if p is not None]
        return torch.cat(features), torch.cat(probabilities) if probabilities else None

    @cached_property
    def behaviour(self) -> str | None:
        """Of a user's network a sha256 of what it makes of two fixed images, which tells changed code; None for one of ours."""
        if not self._foreign:
            return None
        images = torch.randint(256, (2, 3, self.size, self.size), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
        features, probabilities = self(images)
        return tensors_sha256({"features": features} | ({} if probabilities is None else {"probabilities": probabilities}))

    def score_name(self, base: str) -> str:
        """'fid', 'inception_score', 'kid', … as they are on the genuine 2015 Inception network; else 'fd_<label>', ….

        A base that isn't in SCORES keeps its own name: 'precision_<label>'.
        """
        return base if self._genuine else f"{SCORES.get(base, base)}_{self.label}"

    def _embed(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        large = max(1, AT_ONCE // images[0].numel())  # resized as float32, a few large images would take gigabytes
        x = torch.cat([resize(part.to(self.device), self.size, self.resize) for part in images.split(large)])
        x = ((x - self._mean) / self._std).contiguous(memory_format=torch.channels_last)  # faster on CPU
        try:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
                features = self._trunk(x)
        except SystemExit as error:
            raise FeatureError(f"{self.name} ends the program while it computes features: remove the call to exit") from error
        if features.shape != (len(x), self.dim) or features.is_complex():
            kind = "complex " if features.is_complex() else ""
            raise FeatureError(
                f"{self.name} gave {kind}features {tuple(features.shape)} of {len(x)} images instead of {(len(x), self.dim)}: "
                "each image must give one row of real numbers, whatever the other images are"
            )
        features = features.float()
        if not features.isfinite().all():
            raise FeatureError(f"{self.name} gave features that aren't finite: its weights are damaged, or try precision fp32")
        return features, None if self._head is None else self._head(features).softmax(dim=1)


def open_extractor(
    name: str = DEFAULT, weights: str | Path | None = None, resize: str | None = None, precision: str = "fp32",
    size: int | None = None, device: str | torch.device = "cpu", insist: bool = False,
) -> Extractor:  # fmt: skip
    """The network registered by this name, as an Extractor. FeatureError or DeviceError, in one sentence, if it can't be opened.

    name: 'efficientnet_lite0' (needs no download), 'inception' (the 2015 network of FID), one that a file registers (see
        metrics.features.network), or 'module:package.attribute': a callable without arguments that returns an nn.Module from
        ImageNet-normalised (N, 3, S, S) to features (N, d).
    weights: a file of weights instead of the download or the installed package; its sha256 is checked.
    resize: 'pytorch_fid', 'tf1', 'clean' or 'pillow'. Default: 'pytorch_fid' for inception, 'pillow' for dinov2, 'clean' otherwise.
    precision: 'fp32', 'bf16', or 'auto': bf16 where the device multiplies it natively.
    size: side of the network's input in pixels, at least 32. Default: the network's own; inception takes no other.
    device: where the network runs, see metrics.devices.
    insist: take weights whose sha256 is unknown; name and scores then carry its first 8 digits.
    """
    _one_of("precision", precision, PRECISIONS)
    if resize is not None:
        _one_of("resize", resize, tuple(RESIZES))
    if size is not None and (not isinstance(size, int) or size < 32):
        raise FeatureError(f"size is the side of the network's input, a whole number of at least 32 pixels, not {size!r}")
    device = open_device(device)  # before a download
    builder = builder_of(name)
    foreign = ":" in name or builder.__module__.partition(".")[0] not in ("metrics", "gan")
    return Extractor(builder(Options(name, weights, resize, size, insist)), precision, device, foreign)


def builder_of(name: str) -> Builder:
    """What is registered by this name, or by its prefix up to a colon. FeatureError where nothing is."""
    known = NETWORKS.entries()
    for registered in (name, f"{name.partition(':')[0]}:"):
        if registered in known:
            return known[registered]
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0)[0]
    listed = ", ".join(f"{entry}PATH" if entry.endswith(":") else entry for entry in known)
    raise FeatureError(
        f"there are no features '{name}': did you mean '{nearest}'? (known: {listed}; others once their file is imported)"
    )


# --- checks before a network runs --------------------------------------------------------------------------------------------


def _one_of(setting: str, value: str, known: tuple[str, ...]) -> str:
    if value not in known:
        raise FeatureError(f"{setting} is one of {', '.join(known)}, not {value!r}")
    return value


def _check_images(images: Tensor) -> None:
    if not isinstance(images, Tensor) or images.dtype != torch.uint8:
        kind = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise FeatureError(f"features are taken of uint8 images, not {kind}: quantise first, by rounding to 0..255")
    if images.dim() != 4 or images.shape[1] != 3 or 0 in images.shape:
        raise FeatureError(f"features are taken of images (N, 3, H, W) with N, H, W at least 1, not {tuple(images.shape)}")
