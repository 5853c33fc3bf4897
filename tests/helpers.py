"""What several test files need: states compared bit by bit, a crash in mid-step, one-sentence errors, random and real images."""

import errno
import json
import os
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

from data.sources.shapes import shapes
from gan import checkpoint
from gan.run_directory import RunDirectory
from gan.state import State
from metrics.features.network import state_sha256

ROOT = Path(__file__).parents[1]

# Features that take a millisecond, importable with the fixture tiny_networks; and what their distance is called.
FEATURES = "module:tiny_networks.build"


def tiny_network():
    return nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, 6))


def label_of(name, build):
    """What scores with the network of a function are called behind fd_: that is built under seed 0."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return f"{name}_{state_sha256(build())[:8]}"


LABEL = label_of(FEATURES, tiny_network)
NAME = f"fd_{LABEL}"


def final_state(run):
    """What the last checkpoint holds, but for the checksum of the log, whose lines may be others in runs that are alike."""
    state = checkpoint.load(checkpoint.saved(Path(run) / "checkpoints")[-1])
    return {key: value for key, value in state.items() if key != "log"}


def assert_same(a, b, where=""):
    """Bitwise equality of nested dicts and lists of tensors and numbers."""
    assert type(a) is type(b), where
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_same(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b)):
            assert_same(x, y, f"{where}[{i}]")
    else:
        assert a == b, where


class PulledPlug(BaseException):
    pass


def crash_at(monkeypatch, step):
    """Make the loop die in the middle of a step, between the optimizers and the logs."""
    update = State.update_ema

    def update_or_die(self):
        if self.step == step:
            raise PulledPlug
        update(self)

    monkeypatch.setattr(State, "update_ema", update_or_die)


def full_disk_at(monkeypatch, step):
    """The disk is full when the log line of this step is written."""
    log = RunDirectory.log

    def full(self, name, record):
        if record["step"] == step:
            raise OSError(errno.ENOSPC, "No space left on device", str(self.path / "metrics.jsonl"))
        log(self, name, record)

    monkeypatch.setattr(RunDirectory, "log", full)


def one_error(stderr):
    """The only line that is left once the progress bar has wiped itself out."""
    stderr = stderr.rpartition("\r")[2]
    assert stderr.startswith("error: ") and stderr.count("\n") == 1, stderr
    return stderr


def random_images(n=2, height=32, width=32, seed=0):
    """(n, 3, height, width) uint8."""
    return torch.randint(0, 256, (n, 3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def random_features(n, d, seed, spread=1.0, shift=0.0):
    """(n, d) float64, normal."""
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * spread + shift


def real_cifar10(split, count):
    """`count` images and labels of the real CIFAR-10, evenly spaced over its classes, or a skip."""
    archive = f"cifar10-{split}.zip"
    root = os.environ.get("GAN_DATA")
    if not root or not os.path.exists(os.path.join(root, archive)):
        pytest.skip(f"needs the real CIFAR-10: set GAN_DATA to a directory with {archive}")
    from data import load

    images = load("cifar10", os.path.join(root, archive), split=split)
    chosen = torch.arange(count) * len(images) // count  # the archive holds one class after the other
    return images.images[chosen], images.labels[chosen]


def leave_result(folder, study, job, **changes):
    """Write the record.json of a finished run of a study, with these changes."""
    result = {
        **{"label": job.row.label, "seed": job.seed, "model": {}, "status": "finished", "why": None, "curve": []},
        "task": study.task,
        "length": study.config(job).length,
        "config": study.config(job).model_dump(mode="json"),
        "scoring": study.scoring.protocol(),
    }
    result |= changes
    if result["status"] == "finished":
        result = {"last": {"step": 1, "scores": [{"name": "fd_f", "value": 1.0}]}, **result}
    folder.run(job).mkdir(parents=True, exist_ok=True)
    (folder.run(job) / "record.json").write_text(json.dumps(result))


def save_split(directory: Path, count: int, split: str, seed: int = 0) -> None:
    """Write generated pictures as directory/split/class/000.png."""
    drawn = shapes(32, split, count=count, seed=seed)
    for i, (image, label) in enumerate(zip(drawn.images, drawn.labels)):
        file = directory / split / drawn.classes[label] / f"{i:03d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(file)
