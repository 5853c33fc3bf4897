"""Exported generators, run by what others run them with, beside PyTorch; and scored by torch-fidelity beside our own score."""

import numpy as np
import pytest
import torch
from torch import nn

import gan
import metrics
from gan import export as module
from gan.export import ExportError, export
from gan.models.build import build_generator, resolve
from gan.randomness import latents
from gan.run_directory import RunError
from gan.sampling import Trained, draw
from tests.helpers import FEATURES, one_error, random_images


@pytest.fixture(scope="module")
def made(tiny):
    """made(family, *overrides) -> a generator with random weights, whose pictures are not grey."""

    def make(family="dcgan", *overrides):
        config = resolve(tiny(family, *overrides))
        torch.manual_seed(0)
        generator = build_generator(config)
        with torch.no_grad():
            for weight in generator.parameters():
                weight.mul_(3)
        return Trained(generator.eval().requires_grad_(False), config, 4)

    return make


def onnx(path):
    session = pytest.importorskip("onnxruntime").InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda z: torch.from_numpy(session.run(None, {"z": z.numpy()})[0])


RUN = {".onnx": onnx, ".pt2": lambda path: torch.export.load(path).module()}


@pytest.mark.parametrize("suffix", RUN)
@pytest.mark.parametrize(
    "overrides",
    [
        ("dcgan",),
        ("sngan",),
        ("dcgan", "generator.kernel=c2sp", "generator.upsampling=nearest"),
        ("landscape", "generator.kernel=c4sp"),
    ],
    ids=" ".join,
)
def test_the_file_draws_what_pytorch_draws_at_any_batch_size(suffix, overrides, made, tmp_path):
    trained, path = made(*overrides), tmp_path / f"g{suffix}"
    if suffix == ".onnx":
        pytest.importorskip("onnxscript")
    worst = export(trained, path)
    run = RUN[suffix](path)
    for n in (1, 3, 8):
        z = latents(5, 0, n, 8)
        assert (run(z) - trained(z)).abs().max() < 1e-4
    assert trained(z).std() > 0.01 and worst < 1e-4 and [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", RUN)
def test_uint8_pictures_are_those_that_sample_draws(suffix, made, tmp_path):
    if suffix == ".onnx":
        pytest.importorskip("onnxscript")
    trained = made()
    export(trained, tmp_path / f"g{suffix}", "uint8")
    z = latents(5, 0, 6, 8)
    found, wanted = RUN[suffix](tmp_path / f"g{suffix}")(z), draw(trained.generator, z)
    assert found.dtype == torch.uint8 and (found.int() - wanted.int()).abs().max() <= 1
    assert (found == wanted).double().mean() > 0.99


def test_weights_are_loaded_again(made, tmp_path):
    trained = made()
    assert export(trained, tmp_path / "g.safetensors") == 0
    assert torch.equal(gan.load(tmp_path / "g.safetensors", device="cpu").sample(3), trained.sample(3))


def test_what_draws_something_else_is_not_kept(made, tmp_path, monkeypatch):
    (tmp_path / "g.pt2").write_bytes(b"an older one")

    class Other(module.Pictures):
        def forward(self, z):
            return super().forward(z) + 0.001

    monkeypatch.setattr(module, "_exported", lambda pictures: torch.export.export(
        Other(pictures.generator, False), (latents(0, 0, 2, 8),), dynamic_shapes={"z": {0: torch.export.Dim("n", min=1)}},
    ))  # fmt: skip
    with pytest.raises(ExportError, match=r"g\.pt2 wasn't kept: its pixels differ by 0\.001"):
        export(made(), tmp_path / "g.pt2")
    assert (tmp_path / "g.pt2").read_bytes() == b"an older one" and len(list(tmp_path.iterdir())) == 1


def test_pixels_that_are_no_numbers_are_no_equal_ones(made, tmp_path, monkeypatch):
    class Sick(module.Pictures):
        def forward(self, z):
            return super().forward(z) * float("nan")

    monkeypatch.setattr(module, "_exported", lambda pictures: torch.export.export(
        Sick(pictures.generator, False), (latents(0, 0, 2, 8),), dynamic_shapes={"z": {0: torch.export.Dim("n", min=1)}},
    ))  # fmt: skip
    with pytest.raises(ExportError, match=r"g\.pt2 wasn't kept: its pixels differ by nan"):
        export(made(), tmp_path / "g.pt2")
    trained = made()
    next(trained.generator.parameters()).data[0] = float("nan")
    with pytest.raises(RunError, match="the generator has diverged: its weights are not finite"):
        export(trained, tmp_path / "g.safetensors")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["g.safetensors", "g.onnx"])
def test_a_file_that_is_there_is_replaced_only_if_told_to(run, call, tmp_path, name):
    (tmp_path / name).write_bytes(b"of a library")
    status, _, err = call("export", run, "--to", tmp_path / name)
    assert status == 1 and "exists: name another, or say --overwrite to replace it" in one_error(err)
    assert (tmp_path / name).read_bytes() == b"of a library"
    if name == "g.safetensors":
        assert call("export", run, "--to", tmp_path / name, "--overwrite")[0] == 0
        assert torch.equal(gan.load(tmp_path / name, device="cpu").sample(2), gan.load(run, device="cpu").sample(2))


@pytest.mark.parametrize(
    "package, words", [("onnxscript", "pip install onnxscript onnxruntime"), ("onnxruntime", "pip install onnxruntime")]
)
def test_a_package_that_is_missing_is_named(package, words, made, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, package, None)
    monkeypatch.setattr(module, "_exported", lambda pictures: None)
    if package == "onnxruntime":
        monkeypatch.setattr(module, "_write_onnx", lambda pictures, path: path.write_bytes(b""))
    with pytest.raises(ExportError, match=words):
        export(made(), tmp_path / "g.onnx")


def test_the_command_says_what_it_wrote(run, call, tmp_path):
    status, out, err = call("export", run, "--to", tmp_path / "x/g.pt2", "--images", "uint8", "--checkpoint", "2")
    assert (status, out) == (0, "") and "step 2, " in err and f"MB: {tmp_path}/x/g.pt2; its pixels differ from PyTorch's by" in err


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--to", "g.pth"], "g.pth ends in none of .onnx, .pt2, .safetensors"),
        (["--to", "g.safetensors", "--images", "uint8"], "holds weights, which draw nothing"),
        (["--to", "g.pt2", "--checkpoint", "3"], "has no checkpoint of step 3"),
    ],
    ids=str,
)
def test_what_export_cannot_do_ends_in_one_sentence(run, call, arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, _, err = call("export", run, *arguments)
    assert status == 1 and words in one_error(err)


def test_torch_fidelity_gives_the_exported_generator_our_score(made, tmp_path, tiny_networks):
    """The same latents, the same features: the two distances, both from float64 moments, agree to a thousandth of themselves."""
    fidelity = pytest.importorskip("torch_fidelity")
    from torch_fidelity.feature_extractor_base import FeatureExtractorBase

    extractor = metrics.open_extractor(FEATURES)

    class Ours(FeatureExtractorBase):
        def __init__(self, name, features_list, **options):
            super().__init__(name, features_list)

        @staticmethod
        def get_provided_features_list():
            return ("ours",)

        @staticmethod
        def get_default_feature_layer_for_metric(metric):
            return "ours"

        @staticmethod
        def can_be_compiled():
            return False

        def forward(self, images):
            return (extractor(images)[0],)

    class Real(torch.utils.data.Dataset):
        images = random_images(60)

        def __len__(self):
            return len(self.images)

        def __getitem__(self, index):
            return self.images[index]

    class Drawn(nn.Module):
        def forward(self, z):
            return run(z)

    fidelity.register_feature_extractor("ours", Ours)
    trained = made()
    export(trained, tmp_path / "g.pt2", "uint8")
    run = torch.export.load(tmp_path / "g.pt2").module()
    generative = fidelity.GenerativeModelModuleWrapper(Drawn(), 8, "normal", 0, make_eval=False)
    theirs = fidelity.calculate_metrics(
        input1=generative, input1_model_num_samples=80, input2=Real(), fid=True, feature_extractor="ours", cuda=False,
        batch_size=20, rng_seed=7, cache=False, verbose=False, save_cpu_ram=True,
    )["frechet_inception_distance"]  # fmt: skip
    rng = np.random.RandomState(7)
    z = torch.cat([torch.from_numpy(rng.normal(size=(20, 8))).float() for _ in range(4)])
    ours = metrics.frechet_distance(Real.images, draw(trained.generator, z), FEATURES)
    assert ours.value == pytest.approx(theirs, rel=1e-3) and ours.value > 0.01
