"""`fid` on the Inception network against pytorch-fid, from PNG files to the number, under the same random weights."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

pytorch_fid = pytest.importorskip("pytorch_fid.inception", reason="needs pytorch-fid: pip install -r requirements.txt")

from data.sources.shapes import shapes  # noqa: E402
from gan.sampling import save_images  # noqa: E402
from metrics.features import inception  # noqa: E402
from metrics.statistics import Statistics  # noqa: E402

ROOT = Path(__file__).parents[3]
IMAGES = 6  # a side; the network takes a third of a second for each, and pytorch-fid's matrix root 14 seconds


@pytest.fixture(scope="module")
def torch_home(tmp_path_factory):
    """A torch cache in which pytorch-fid finds its checkpoint: seeded weights, kept from flattening what passes through."""
    torch.manual_seed(0)
    network = inception.architecture().to_empty(device="cpu")
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        elif isinstance(layer, nn.BatchNorm2d):
            layer.reset_parameters()
    nn.init.zeros_(network.fc.bias)
    network.Conv2d_1a_3x3.conv.weight.data.mul_(30)  # batch norms do nothing here, so all features grow by this factor
    home = tmp_path_factory.mktemp("torch")
    path = home / "hub" / "checkpoints" / Path(pytorch_fid.FID_WEIGHTS_URL).name
    path.parent.mkdir(parents=True)
    torch.save(network.state_dict(), path)
    return home


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Pictures, and others of a little less contrast: both the means and the covariances differ."""
    root = tmp_path_factory.mktemp("images")
    save_images(iter([shapes(32, "train", IMAGES).images]), root / "real")
    save_images(iter([shapes(32, "test", IMAGES).images // 8 * 7 + 16]), root / "generated")
    return root / "real", root / "generated"


@pytest.fixture(scope="module")
def both(folders, torch_home, tmp_path_factory, quick_python):
    """(ours, pytorch-fid's, pytorch-fid's standard error, our statistics of the reference); the two run side by side."""
    out = tmp_path_factory.mktemp("out")
    weights = next(torch_home.rglob("*.pth"))
    environment = {**os.environ, "TORCH_HOME": str(torch_home), "GAN_CACHE": str(out / "cache"), "OMP_NUM_THREADS": "1"}
    ours = ["run_gan.py", "fid", *folders, "--features", "inception", "--weights", weights, "--insist", "--device", "cpu"]
    ours += ["--json", out / "scores.json", "--save-statistics", out / "real.npz"]
    theirs = ["-W", "ignore", "-m", "pytorch_fid", *folders, "--device", "cpu", "--num-workers", "0", "--batch-size", str(IMAGES)]
    processes = [
        subprocess.Popen(
            [python, *map(str, command)],
            cwd=ROOT,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for python, command in ((quick_python, ours), (sys.executable, theirs))
    ]
    (_, error), (printed, complaint) = (process.communicate(timeout=300) for process in processes)
    assert processes[0].returncode == 0, error
    found = re.search(r"FID:\s+(\S+)", printed)
    return json.loads((out / "scores.json").read_text())[0], found and float(found[1]), complaint, out / "real.npz"


def test_the_distance_of_two_folders_is_pytorch_fids(both):
    score, theirs, complaint, _ = both
    if theirs is None:
        pytest.skip(f"pytorch-fid fails here: {complaint.strip().splitlines()[-1]}")
    assert theirs > 1, "the weights should tell these folders apart"
    assert score["value"] == pytest.approx(theirs, rel=1e-4)


def test_the_features_compared_are_of_a_healthy_scale(both):
    statistics = Statistics.load(both[3])
    assert statistics.mean.shape == (2048,) and statistics.count == IMAGES
    assert 0.1 < statistics.mean.mean() < 100 and 0.1 < statistics.covariance.diagonal().mean() < 100


def test_the_score_of_random_weights_is_not_called_fid(both):
    assert re.fullmatch(r"fd_inception_[0-9a-f]{8}", both[0]["name"])
