"""The 2015 Inception network, against pytorch-fid's own classes under the same random weights (the real ones aren't needed)."""

import shutil
from urllib.error import URLError

import pytest
import torch
from torch import nn

pytorch_fid = pytest.importorskip("pytorch_fid.inception", reason="needs pytorch-fid: pip install -r requirements.txt")

from metrics.features import inception, open_extractor  # noqa: E402
from metrics.features.network import FeatureError, file_sha256  # noqa: E402
from tests.helpers import random_images  # noqa: E402


def random_weights():
    """A state dict of the right shapes that keeps activations in range, and batch norms that do something."""
    torch.manual_seed(0)
    network = inception.architecture().to_empty(device="cpu")
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        elif isinstance(layer, nn.BatchNorm2d):
            layer.reset_parameters()
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, 0, 0.1)
    nn.init.normal_(network.fc.bias)
    return network.state_dict()


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    torch.save(random_weights(), path)
    return path


@pytest.fixture(scope="module")
def extractor(weights):
    return open_extractor("inception", weights=weights, insist=True)


@pytest.fixture
def theirs(monkeypatch, weights):
    """pytorch-fid's module, whose download gives the same random weights."""
    monkeypatch.setattr(pytorch_fid, "load_state_dict_from_url", lambda *_, **__: torch.load(weights, weights_only=True))
    return pytorch_fid


@pytest.mark.parametrize("height, width", [(32, 32), (310, 420)])
def test_features_are_pytorch_fids(extractor, theirs, height, width):
    images = random_images(2, height, width)
    with torch.inference_mode():
        expected = theirs.InceptionV3().eval()(images.float() / 255)[0].flatten(1)
    features, _ = extractor(images)
    assert features.shape == (2, 2048) and expected.std() > 0.1
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-4)


def test_probabilities_are_those_of_the_classifier_without_its_bias(extractor, theirs):
    images = random_images(2, 299, 299)
    network = theirs.fid_inception_v3().eval()
    with torch.inference_mode():
        logits = network(images.float() / 127.5 - 1)
    probabilities = extractor(images)[1]
    assert probabilities.shape == (2, extractor.classes) == (2, 1008)
    torch.testing.assert_close(probabilities, (logits - network.fc.bias).softmax(dim=1), rtol=1e-3, atol=1e-5)
    assert (probabilities - logits.softmax(dim=1)).abs().max() > 1e-2


def test_one_pass_gives_both(extractor):
    passes = []
    hook = extractor._trunk.Mixed_7c.register_forward_hook(lambda *_: passes.append(1))
    extractor(random_images(2, 32, 32))
    hook.remove()
    assert len(passes) == 1


@pytest.mark.parametrize("resize, black, white", [("pytorch_fid", -1, 1), ("tf1", -1, 127 / 128), ("clean", -1, 127 / 128)])
def test_each_resize_brings_the_scaling_it_was_published_with(weights, resize, black, white):
    extractor = open_extractor("inception", weights=weights, insist=True, resize=resize)
    seen = []
    extractor._trunk.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    extractor(torch.stack([torch.zeros(3, 8, 8), torch.full((3, 8, 8), 255.0)]).byte())
    assert seen[0].shape == (2, 3, 299, 299)
    torch.testing.assert_close(seen[0].amin((1, 2, 3)), torch.tensor([black, white], dtype=torch.float32))
    torch.testing.assert_close(seen[0].amax((1, 2, 3)), torch.tensor([black, white], dtype=torch.float32))


def test_the_default_resize_is_pytorch_fids(extractor):
    assert (extractor.resize, extractor.size, extractor.dim) == ("pytorch_fid", 299, 2048)


def test_another_size_is_refused(weights):
    with pytest.raises(FeatureError, match="299 pixels, not 128"):
        open_extractor("inception", weights=weights, insist=True, size=128)


# --- names and weights -------------------------------------------------------------------------------------------------------


def test_unknown_weights_are_refused(weights):
    with pytest.raises(FeatureError, match=r"isn't the known inception weights.*bytes instead of 95,628,359.*insist"):
        open_extractor("inception", weights=weights)


def test_insisted_weights_do_not_give_a_fid(extractor, weights):
    name = f"inception_{file_sha256(weights)[:8]}"
    assert extractor.name == name and extractor.sha256 == file_sha256(weights)
    assert extractor.score_name("fid") == f"fd_{name}" and extractor.score_name("inception_score") == f"score_{name}"


def test_only_the_genuine_weights_give_a_fid(weights, monkeypatch):
    monkeypatch.setattr(inception, "SHA256", file_sha256(weights))
    genuine = open_extractor("inception", weights=weights)
    assert genuine.name == "inception"
    assert [genuine.score_name(base) for base in ("fid", "inception_score", "kid")] == ["fid", "inception_score", "kid"]


def test_a_truncated_file_is_refused(weights, tmp_path):
    cut = tmp_path / "cut.pth"
    cut.write_bytes(weights.read_bytes()[:1_000_000])
    with pytest.raises(FeatureError, match="1,000,000 bytes instead of 95,628,359"):
        open_extractor("inception", weights=cut)
    with pytest.raises(FeatureError, match="damaged"):
        open_extractor("inception", weights=cut, insist=True)


@pytest.mark.parametrize("content", [{"conv.weight": torch.zeros(3)}, torch.zeros(3), {"Mixed_5b": "text"}])
def test_weights_of_another_network_are_refused(content, tmp_path):
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(FeatureError, match="another network") as refusal:
        open_extractor("inception", weights=tmp_path / "other.pth", insist=True)
    assert "\n" not in str(refusal.value)


def test_the_format_of_older_checkpoints_loads(extractor, weights, tmp_path):
    """pytorch-fid's file is from 2020: no zip archive, and perhaps no counters in its batch norms."""
    state = torch.load(weights, weights_only=True)
    old = {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    torch.save(old, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    images = random_images(2, 32, 32)
    features, _ = open_extractor("inception", weights=tmp_path / "old.pth", insist=True)(images)
    assert torch.equal(features, extractor(images)[0])


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FeatureError, match=r"nowhere\.pth can't be read"):
        open_extractor("inception", weights=tmp_path / "nowhere.pth")


def test_without_network_every_way_out_is_named(monkeypatch, tmp_path, capsys):
    def no_network(*_, **__):
        raise URLError("no network")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "urlopen", no_network)
    with pytest.raises(FeatureError) as refusal:
        open_extractor("inception")
    for words in (pytorch_fid.FID_WEIGHTS_URL, "--weights FILE", str(tmp_path), "efficientnet_lite0"):
        assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [] and capsys.readouterr() == ("", "")


def test_the_download_lands_where_pytorch_fid_looks_and_happens_once(monkeypatch, tmp_path, weights, capsys):
    downloads = []

    def download(url, path, hash_prefix=None, progress=True):
        downloads.append((url, hash_prefix, progress))
        shutil.copy(weights, path)

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    monkeypatch.setattr(inception, "SHA256", file_sha256(weights))
    assert open_extractor("inception").name == open_extractor("inception").name == "inception"
    assert downloads == [(pytorch_fid.FID_WEIGHTS_URL, inception.SHA256, False)] and capsys.readouterr() == ("", "")
    assert (tmp_path / "checkpoints" / "pt_inception-2015-12-05-6726825d.pth").exists()
