"""What tests of several folders need: tiny runs, features that take a millisecond, the command line in this process."""

import functools
import io
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from weakref import WeakValueDictionary

import pytest
import torch
import yaml
from PIL import Image
from torch import nn

from cli import common
from cli import main as cli
from data.sources.shapes import COUNTS, shapes
from gan.config import Config
from gan.sampling import save_images
from gan.training import train
from metrics.features import extractor as features
from metrics.features.network import Network
from tests.helpers import save_split, tiny_network
from tests.quick_python import AT_IMPORT

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
TINY = {
    "dcgan": ["generator.family=dcgan", "generator.kernel=c3sp"],
    "cnn": ["generator.family=cnn", "train.d_steps=2"],
    "sngan": ["generator.family=sngan", "generator.kernel=c2sp", "objective.loss=hinge", "train.lr_decay=linear"],
    "wgan_gp": ["generator.family=wgan_gp", "objective.loss=wasserstein", "objective.gradient_penalty=10", "train.d_steps=2"],
    "landscape": ["generator.family=landscape", "generator.kernel=c4sp", "objective.r1=0.1"],
    "r3": ["generator.family=r3", "generator.kernel=c2sp", "objective.loss=relativistic", "objective.r1=0.1", "objective.r2=0.1"],
}


@pytest.fixture(scope="session")
def quick_python(tmp_path_factory):
    """The path of a Python that starts at once (tests/quick_python.py); of an ordinary one where that can't be."""
    if not hasattr(os, "pidfd_open"):  # Linux has it
        yield sys.executable
        return
    folder, script = tmp_path_factory.mktemp("quick"), Path(__file__).parent / "quick_python.py"
    program, place = folder / "python", folder / "socket"
    known = json.dumps({name: os.environ.get(name) for name in AT_IMPORT})
    line = f"QUICK_PYTHON_AT_IMPORT={shlex.quote(known)} exec {sys.executable} -S -E {script} ask {place}"
    program.write_text(f'#!/bin/sh\n{line} "$@"\n')
    program.chmod(0o755)
    server = subprocess.Popen([sys.executable, script, "serve", place, program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert server.stdout.readline() == b"ready\n"
    yield str(program)
    server.stdin.close()
    server.wait(10)


@pytest.fixture(scope="session")
def fifty(tmp_path_factory):
    """A zip of fifty generated pictures, which other processes can read too."""
    path = tmp_path_factory.mktemp("data") / "fifty.zip"
    save_images(iter([shapes(32, count=50).images]), path)
    return path


@pytest.fixture(scope="session")
def tiny(fifty):
    """tiny(family, *overrides) -> a config whose steps take milliseconds."""

    def config(family="dcgan", *overrides):
        small = ["dataset.name=folder", f"dataset.path={fifty}", "generator.width=4", "discriminator.width=4", "generator.latent=8"]
        small += ["train.batch_size=8", "train.steps=12", "train.log_every=4", "train.checkpoint_every=5", "train.sample_every=6"]
        return Config.load(None, [*TINY[family], *small, f"train.device={DEVICE}", *overrides])

    return config


@pytest.fixture(scope="session")
def trained(tiny, tmp_path_factory):
    """The run of `run`, trained once; tests get copies."""
    path = tmp_path_factory.mktemp("trained") / "run"
    train(tiny("dcgan", "train.steps=4", "train.checkpoint_every=2"), path, progress=False)
    return path


@pytest.fixture
def run(trained, tmp_path):
    """Four steps, with checkpoints of steps 2 and 4."""
    return shutil.copytree(trained, tmp_path / "run")


@functools.cache
def _kept_shapes(counts, resolution, split):
    return shapes(resolution, split)


@pytest.fixture
def kept_shapes(monkeypatch):
    """Generated shapes are drawn once for all tests that ask for this."""
    monkeypatch.setattr("data.sources.shapes.shapes", lambda *asked: _kept_shapes(tuple(COUNTS.items()), *asked))
    monkeypatch.setattr("data.sources.shapes._drawn", WeakValueDictionary())


@pytest.fixture
def unrendered(monkeypatch):
    """Figures are composed, but their files hold one white pixel: rendering takes longer than training for a few steps."""
    pixel = io.BytesIO()
    Image.new("L", (1, 1), 255).save(pixel, "png")
    for module in ("gan.plots", "study.figures"):
        monkeypatch.setattr(f"{module}.figure_bytes", lambda *_: pixel.getvalue())


@pytest.fixture
def call(monkeypatch, capsys):
    """call("train", ...) -> exit status, stdout, stderr of the same command line, in this process."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["run_gan.py", *map(str, arguments)])
        monkeypatch.setattr(common.console, "width", 200)
        monkeypatch.delenv("FORCE_COLOR", raising=False)
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        return stopped.value.code or 0, *capsys.readouterr()

    return run


def other_network():
    return nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 5))


@pytest.fixture
def tiny_networks(tmp_path, monkeypatch):
    """A cache of this test's own, and features that take a millisecond, by import path: tests.helpers.FEATURES."""
    monkeypatch.setenv("GAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(sys.modules, "tiny_networks", SimpleNamespace(build=tiny_network, other=other_network))


@pytest.fixture
def with_classes(monkeypatch):
    """Makes every name of features that of one random network with five classes."""

    def build(*_):
        torch.manual_seed(0)
        return Network(
            name="classy", sha256="a" * 64, trunk=tiny_network(), head=nn.Linear(6, 5), dim=6, classes=5, size=32, resize="clean",
            mean=(127.5,) * 3, std=(40.0,) * 3,
        )  # fmt: skip

    monkeypatch.setattr(features, "builder_of", lambda name: build)


@pytest.fixture
def study_file(tmp_path):
    """study_file(**changes) -> the file of a study of four rows and two seeds, with these changes."""

    def write(**changes):
        study = {
            "title": "A study",
            "base": {"generator": {"width": 4}},
            "axes": {"generator.kernel": ["c2", "c3"], "generator.upsampling": ["nearest", "unpool"]},
            "baseline": {"generator.kernel": "c3"},
            "seeds": [0, 1],
        }
        file = tmp_path / "study.yaml"
        file.write_text(yaml.safe_dump({**study, **changes}, sort_keys=False))
        return file

    return write


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """A folder of 50 generated pictures to train with and 30 to test with, ten classes."""
    directory = tmp_path_factory.mktemp("pictures")
    save_split(directory, 50, "train")
    save_split(directory, 30, "test")
    return directory
