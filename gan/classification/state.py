"""What a classifier's training step changes (State) and what it sees (Batches); what a test finds (Tested)."""

import dataclasses
import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

import data
from data import DataError, ImageSet
from gan.classification import augmentation
from gan.classification.config import Config
from gan.models.classifiers import build_classifier
from gan.optimizers import SGD
from gan.randomness import derive
from gan.state import require_shapes
from metrics.statistics import fingerprint


@dataclass(frozen=True)
class Tested:
    """The result of a pass over the test images."""

    loss: float  # mean cross-entropy, without label smoothing
    accuracy: float  # 0..1
    confusion: Tensor  # (classes, classes) int64: images of class i that were named j
    wrong: Tensor  # (N,) bool: the images, in the order of the split, that were named something else


class Batches:
    """The data set on the device, decoded once, and what a step sees of it: a function of (seed, step)."""

    def __init__(self, config: Config, device: torch.device):
        self.config, self.device, limit = config, device, config.dataset.memory
        arguments = {**config.dataset.arguments, "workers": 0}
        self.train, self.test = (data.load(**arguments, split=split) for split in ("train", "test"))
        for split in (self.train, self.test):
            if not isinstance(split, ImageSet):
                raise DataError(
                    f"{split.source} is larger than dataset.memory={limit:g} GiB, and classify keeps its images in memory: raise "
                    "that, or lower dataset.resolution"
                )
        self.classes, self.source = self.train.classes, self.train.source
        if len(self.classes) < 2:
            raise DataError(f"{self.source} has no classes to tell apart: sort its images into folders, one a class")
        if self.test.classes != self.classes:
            raise DataError(f"{self.test.source} has other classes than {self.source}: both need the same folders")
        # A resumed run must find the same pixels and labels.
        self.sha256, self.test_sha256 = split_sha256(self.train), split_sha256(self.test)
        # Grey levels per channel, of the training images: what is subtracted and divided by.
        self.mean, self.std = grey_levels(self.train.images)
        self.levels = torch.tensor([self.mean, self.std], dtype=torch.float32).to(self.device)  # once: a copy makes a GPU wait
        # Moved to the device once; the splits become views, so that no image is stored twice.
        self.train, self.images, self.labels = self._placed(self.train)
        self.test, self.test_images, self.test_labels = self._placed(self.test)
        self.order = data.EpochOrder(len(self.train), derive(config.train.seed, "order"))
        self.steps = math.ceil(config.train.epochs * len(self.train) / config.train.batch_size)

    def epochs(self, step: int) -> int:
        """Completed epochs after `step` steps. Epochs follow without a gap: the last batch of one may begin the next."""
        if step == self.steps:
            return self.config.train.epochs
        return step * self.config.train.batch_size // len(self.train)

    def get(self, step: int) -> tuple[Tensor, Tensor, Tensor, float]:
        """Images (n, 3, R, R) float32, labels (n,) int64; for mixup the labels of what is mixed in, and the first ones' weight."""
        a, t = self.config.augment, self.config.train
        indices = self.order.indices(step * t.batch_size, t.batch_size)
        if self.device.type == "cuda":  # from pinned memory the copy doesn't make the GPU wait
            indices = indices.pin_memory()
        indices = indices.to(self.device, non_blocking=True)
        x, labels = self._normalised(self.images[indices]), self.labels[indices]
        if a.crop or self.config.dataset.flip:
            x = augmentation.crop_and_mirror(x, a.crop, self.config.dataset.flip, t.seed, step)
        if a.cutout:
            x = augmentation.cutout(x, a.cutout, t.seed, step)
        weight = augmentation.mixup_weight(a.mixup, t.seed, step)
        if weight < 1:  # the order is random already, so the neighbour is as good as any
            x = torch.lerp(x.roll(1, 0), x, weight)
        return self._layout(x), labels, labels.roll(1, 0), weight

    def test_batches(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """All test images in order: (n, 3, R, R), labels (n,)."""
        for x, y in zip(self.test_images.split(size), self.test_labels.split(size)):
            yield self._layout(self._normalised(x)), y

    def as_uint8(self, x: Tensor) -> Tensor:
        """Normalised (n, 3, R, R) back to pixels, on the CPU."""
        mean, std = self.levels.cpu().view(2, 3, 1, 1)
        return (x.cpu() * std + mean).round().clamp(0, 255).to(torch.uint8)

    def _placed(self, split: ImageSet) -> tuple[ImageSet, Tensor, Tensor]:
        """The split, its images (N, R, R, 3) uint8, which is channels_last already, and its labels, all on the device."""
        images = split.images.permute(0, 2, 3, 1).contiguous().to(self.device)
        labels = split.labels.to(self.device)
        return dataclasses.replace(split, images=images.permute(0, 3, 1, 2), labels=labels), images, labels

    def _normalised(self, x: Tensor) -> Tensor:
        return (x.float() - self.levels[0]) / self.levels[1]

    def _layout(self, x: Tensor) -> Tensor:
        x = x.permute(0, 3, 1, 2)
        return x if self.config.train.channels_last else x.contiguous()


def split_sha256(images: ImageSet) -> str:
    """sha256 of a split's pixels and labels."""
    return hashlib.sha256(fingerprint([images.images]).encode() + images.labels.numpy().tobytes()).hexdigest()


def grey_levels(images: Tensor) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel of (N, 3, H, W) uint8, in grey levels; from a histogram, hence exact."""
    levels = torch.arange(256, dtype=torch.float64)
    counts = torch.stack([torch.bincount(images[:, c].flatten(), minlength=256) for c in range(3)]).double()
    counts /= counts.sum(dim=1, keepdim=True)
    mean = counts @ levels
    variance = (counts * (levels - mean[:, None]) ** 2).sum(dim=1)
    return mean.tolist(), variance.sqrt().clamp(min=1).tolist()


class State:
    """Weights, optimizer, step, and the losses not yet logged: all that a checkpoint holds."""

    def __init__(self, config: Config, device: torch.device, classes: int):
        t = config.train
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(t.seed, "classifier"))
            model = build_classifier(**config.model.model_dump(), classes=classes)
        self.model = model.to(device, memory_format=torch.channels_last if t.channels_last else torch.contiguous_format)
        kernels = [p for p in model.parameters() if p.dim() > 1]
        rest = [p for p in model.parameters() if p.dim() == 1]  # norms and biases
        groups = [{"params": kernels, "weight_decay": t.weight_decay}, {"params": rest, "weight_decay": 0.0}]
        self.optimizer = SGD(groups, lr=t.lr, momentum=t.momentum, nesterov=True, fused=True)
        self.step = 0
        self.pending: list[Tensor] = []

    def dump(self) -> dict:
        networks = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        return {"step": self.step, **networks, "pending": [values.cpu() for values in self.pending]}

    def load(self, saved: dict) -> None:
        """Load what `dump` gave. What doesn't fit raises PyTorch's errors, KeyError or ValueError (see checkpoint.load_errors)."""
        self.step = saved["step"]
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        require_shapes(self.optimizer, {"momentum_buffer"})
        device = next(self.model.parameters()).device
        self.pending = [values.to(device) for values in saved["pending"]]
