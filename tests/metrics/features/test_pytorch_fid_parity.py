"""`fid` on the Inception network against pytorch-fid, from PNG files to the number, under the same random weights."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

fid_score = pytest.importorskip("pytorch_fid.fid_score", reason="needs pytorch-fid: pip install -r requirements.txt")

from pytorch_fid import inception as pytorch_fid  # noqa: E402

from data.sources.shapes import shapes  # noqa: E402
from gan.sampling import save_images  # noqa: E402
from metrics.features import inception  # noqa: E402
from metrics.statistics import Statistics  # noqa: E402

IMAGES = 6  # a side; the network takes a third of a second for each


@pytest.fixture
def weights(tmp_path):
    """Seeded weights in the format of pytorch-fid's checkpoint, kept from flattening what passes through."""
    torch.manual_seed(0)
    network = inception.architecture().to_empty(device="cpu")
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        elif isinstance(layer, nn.BatchNorm2d):
            layer.reset_parameters()
    nn.init.zeros_(network.fc.bias)
    network.Conv2d_1a_3x3.conv.weight.data.mul_(30)  # batch norms do nothing here, so all features grow by this factor
    path = tmp_path / Path(pytorch_fid.FID_WEIGHTS_URL).name
    torch.save(network.state_dict(), path)
    return path


@pytest.fixture
def folders(tmp_path):
    """Pictures, and others of a little less contrast: both the means and the covariances differ."""
    save_images(iter([shapes(32, "train", IMAGES).images]), tmp_path / "real")
    save_images(iter([shapes(32, "test", IMAGES).images // 8 * 7 + 16]), tmp_path / "generated")
    return tmp_path / "real", tmp_path / "generated"


def pytorch_fids_distance(folders):
    """pytorch-fid's statistics of two folders, and its distance between them.

    The distance is computed in an orthonormal basis of the eleven dimensions that six pictures a side span, where it is the same
    number: pytorch-fid's root of a matrix of 2,048 columns takes 14 seconds.
    """
    network = pytorch_fid.InceptionV3([pytorch_fid.InceptionV3.BLOCK_INDEX_BY_DIM[2048]])
    (mean, covariance), (other_mean, other) = (
        fid_score.compute_statistics_of_path(str(folder), network, IMAGES, 2048, "cpu", num_workers=0) for folder in folders
    )
    some = np.random.default_rng(0).standard_normal((2048, IMAGES - 1))
    basis, _ = np.linalg.qr(np.column_stack([covariance @ some, other @ some, mean - other_mean]))
    within = [(m @ basis, basis.T @ c @ basis) for m, c in ((mean, covariance), (other_mean, other))]
    for (_, small), whole in zip(within, (covariance, other)):
        assert np.trace(small) == pytest.approx(np.trace(whole), rel=1e-9), "the basis should hold all of the variance"
    return fid_score.calculate_frechet_distance(*within[0], *within[1])


@pytest.mark.filterwarnings("ignore:The `disp` argument:DeprecationWarning")
def test_the_distance_of_two_folders_is_pytorch_fids(weights, folders, tmp_path, call, monkeypatch):
    monkeypatch.setattr(pytorch_fid, "load_state_dict_from_url", lambda *_, **__: torch.load(weights, weights_only=True))
    try:
        theirs = pytorch_fids_distance(folders)
    except TypeError as error:  # of a SciPy that it isn't written for
        pytest.skip(f"pytorch-fid fails here: {error}")
    assert theirs > 1, "the weights should tell these folders apart"

    options = ["--features", "inception", "--weights", weights, "--insist", "--device", "cpu"]
    files = ["--json", tmp_path / "scores.json", "--save-statistics", tmp_path / "real.npz"]
    code, _, said = call("fid", *folders, *options, *files)
    assert code == 0, said
    score = json.loads((tmp_path / "scores.json").read_text())[0]
    assert score["value"] == pytest.approx(theirs, rel=1e-4)
    assert re.fullmatch(r"fd_inception_[0-9a-f]{8}", score["name"]), "scores of random weights are not called FID"

    statistics = Statistics.load(tmp_path / "real.npz")
    assert statistics.mean.shape == (2048,) and statistics.count == IMAGES
    assert 0.1 < statistics.mean.mean() < 100 and 0.1 < statistics.covariance.diagonal().mean() < 100, "not of a healthy scale"
