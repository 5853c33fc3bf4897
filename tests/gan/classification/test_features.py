"""Features of an exported classifier: what they are, what their scores are called, and every file that is refused."""

import json
import subprocess
import sys

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from data.checksums import sealed
from gan.classification.config import Config
from gan.classification.features import SHIPPED
from gan.models.classifiers import build_classifier
from metrics.features import open_extractor
from metrics.features.network import FeatureError, state_sha256
from tests.helpers import ROOT, random_images, real_cifar10

MODEL = Config.load(None, ["model.depth=8", "model.width=4", "model.kernel=c2sp"]).model.model_dump()
MEAN, STD = [120.0, 110.0, 100.0], [60.0, 61.0, 62.0]


@pytest.fixture
def exported():
    """What `classify --export` writes, of a network of random weights."""
    torch.manual_seed(0)
    model = build_classifier(**MODEL, classes=7)
    for _ in range(3):  # statistics that aren't those of a new batch norm
        model(torch.randn(16, 3, 32, 32))
    classes = [f"class {i}" for i in range(7)]
    card = {
        "model": MODEL,
        "data": "cifar10 train split from a.zip",
        "classes": classes,
        "weights_sha256": state_sha256(model),
        "mean": MEAN,
        "std": STD,
        "resolution": 32,
    }
    return {"result": {"test_accuracy": 0.5, "card": card}, "weights": model.state_dict()}


@pytest.fixture
def write(tmp_path):
    def to_file(exported):
        save_file(exported["weights"], tmp_path / "w.safetensors", {"result": json.dumps(exported["result"])})
        return tmp_path / "w.safetensors"

    return to_file


def test_features_and_probabilities_are_those_of_the_classifier(exported, write):
    extractor = open_extractor("cifar_resnet", write(exported))
    images = random_images(5)
    features, probabilities = extractor(images)
    model = build_classifier(**MODEL, classes=7).eval()
    model.load_state_dict(exported["weights"])
    x = (images.float() - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    with torch.no_grad():
        torch.testing.assert_close(features, model.embed(x), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(probabilities, model(x).softmax(1), rtol=1e-4, atol=1e-5)
    assert features.shape == (5, 16) and (extractor.dim, extractor.classes, extractor.size) == (16, 7, 32)
    assert extractor.sha256 == exported["result"]["card"]["weights_sha256"]
    name = f"cifar_resnet_{extractor.sha256[:8]}"  # not that of the network that comes along
    assert extractor.score_name("fid") == f"fd_{name}" and extractor.score_name("inception_score") == f"score_{name}"


def test_every_command_that_scores_knows_these_features():
    """All of them import gan.evaluation. In a process of its own: here this file has imported the features."""
    code = "from gan.evaluation import open_extractor; print(open_extractor('cifar_resnet').score_name('fid'))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "fd_cifar_resnet\n", done.stderr


def test_the_shipped_network_knows_cifar10():
    assert SHIPPED.stat().st_size < 2e6
    extractor = open_extractor("cifar_resnet")
    images, labels = real_cifar10("test", 500)
    right = (extractor(images)[1].argmax(dim=1) == labels).float().mean()
    with safe_open(SHIPPED, framework="pt") as file:
        result = json.loads(file.metadata()["result"])
    assert abs(right - result["test_accuracy"]) < 0.04 and result["card"]["weights_sha256"] == extractor.sha256


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(FeatureError, match=r"no weights at .*none.safetensors: make one with .* --export"):
        open_extractor("cifar_resnet", tmp_path / "none.safetensors")


def test_damaged_foreign_and_changed_files_are_refused(exported, write):
    file = write(exported)
    whole = file.read_bytes()
    for damaged in (whole[:2000], whole[:-1], b"", b"\0" * 100):
        file.write_bytes(damaged)
        with pytest.raises(FeatureError, match=r"w\.safetensors is damaged or no safetensors file: make one with"):
            open_extractor("cifar_resnet", file)
    torch.save(exported, file)  # what could hold code is never unpickled
    with pytest.raises(FeatureError, match="is damaged or no safetensors file"):
        open_extractor("cifar_resnet", file)
    card = exported["result"]["card"]
    no_mean = {"card": {key: value for key, value in card.items() if key != "mean"}}
    for foreign in ({"result": {}}, {"result": [1]}, {"result": {"card": {}}}, {"result": no_mean}, {"weights": {}}):
        with pytest.raises(FeatureError, match="holds no classifier of this program"):
            open_extractor("cifar_resnet", write({**exported, **foreign}))
    save_file(exported["weights"], file)  # no metadata
    with pytest.raises(FeatureError, match="holds no classifier of this program"):
        open_extractor("cifar_resnet", file)
    exported["weights"]["head.bias"][0] += 1
    with pytest.raises(FeatureError, match="aren't those of its card"):
        open_extractor("cifar_resnet", write(exported))
    with pytest.raises(FeatureError, match="aren't those of its card"):
        open_extractor("cifar_resnet", write(exported), insist=True)


def test_a_card_with_another_number_than_was_written_is_refused(exported, write):
    exported["result"] = sealed(exported["result"])
    open_extractor("cifar_resnet", write(exported))
    exported["result"]["card"]["mean"][0] += 1
    with pytest.raises(FeatureError, match="is damaged, since its description isn't the one that was written"):
        open_extractor("cifar_resnet", write(exported))


def test_weights_of_other_data_go_by_another_name(exported, write):
    exported["result"]["card"]["data"] = "shapes train split, generated from seed 0"
    with pytest.raises(FeatureError, match=r"are of a resnet trained on shapes train split.*or insist"):
        open_extractor("cifar_resnet", write(exported))
    extractor = open_extractor("cifar_resnet", write(exported), insist=True)
    assert extractor.score_name("fid") == f"fd_cifar_resnet_{extractor.sha256[:8]}"
