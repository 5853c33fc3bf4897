"""DINOv2 with seeded random weights: its parts against other implementations, the whole at full size, and how weights come in."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from metrics.features import dinov2, open_extractor
from metrics.features.network import FeatureError
from metrics.features.resize import resize
from metrics.features.vit import Block, VisionTransformer
from tests.helpers import random_images

SMALL = {"dim": 16, "depth": 2, "heads": 4, "patch": 14, "grid": 5}


def seeded(model):
    """Weights of a size that keeps activations near 1, the same every time."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.uniform_(-0.05, 0.05, generator=generator)
    return model


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A file of weights of a small network that passes for the known one."""
    monkeypatch.setattr(dinov2, "SHAPE", SMALL)
    path = tmp_path / "dinov2_vitl14_pretrain.pth"
    torch.save(seeded(VisionTransformer(**SMALL)).state_dict(), path)
    monkeypatch.setattr(dinov2, "SHA256", __import__("hashlib").sha256(path.read_bytes()).hexdigest())
    return path


def test_the_architecture_has_the_names_and_sizes_of_the_published_weights():
    shapes = {name: tuple(t.shape) for name, t in dinov2.architecture().state_dict().items()}
    assert sum(np.prod(shape) for shape in shapes.values()) == 304_368_640  # as the authors' file holds
    assert len(shapes) == 3 + 2 + 24 * 14 + 2
    assert shapes["pos_embed"] == (1, 1370, 1024) and shapes["patch_embed.proj.weight"] == (1024, 3, 14, 14)
    assert shapes["blocks.23.attn.qkv.weight"] == (3072, 1024) and shapes["blocks.0.ls1.gamma"] == (1024,)
    assert shapes["blocks.5.mlp.fc1.weight"] == (4096, 1024) and shapes["mask_token"] == (1, 1024) and "norm.bias" in shapes


def test_a_block_is_that_of_torch_with_scaled_residuals():
    block = seeded(Block(16, 4)).double()
    theirs = torch.nn.TransformerEncoderLayer(16, 4, 64, 0.0, "gelu", 1e-6, batch_first=True, norm_first=True).double()
    with torch.no_grad():
        theirs.self_attn.in_proj_weight.copy_(block.attn.qkv.weight)
        theirs.self_attn.in_proj_bias.copy_(block.attn.qkv.bias)
        theirs.self_attn.out_proj.load_state_dict(block.attn.proj.state_dict())
        for ours, other in (("mlp.fc1", "linear1"), ("mlp.fc2", "linear2"), ("norm1", "norm1"), ("norm2", "norm2")):
            theirs.get_submodule(other).load_state_dict(block.get_submodule(ours).state_dict())
        for scale, last in (
            (block.ls1, theirs.self_attn.out_proj),
            (block.ls2, theirs.linear2),
        ):  # a scale folds into the layer before
            last.weight.mul_(scale.gamma[:, None])
            last.bias.mul_(scale.gamma)
    x = torch.randn(2, 7, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    torch.testing.assert_close(block(x), theirs.train()(x), rtol=1e-12, atol=1e-12)


def test_positions_are_learned_ones_at_their_own_size_and_interpolated_elsewhere():
    model = seeded(VisionTransformer(**SMALL))
    assert torch.equal(model.positions(5), model.pos_embed)
    found = model.positions(3)
    assert found.shape == (1, 10, 16) and torch.equal(found[:, :1], model.pos_embed[:, :1])
    # The same samples, read one by one: output i lies at (i + 1/2) * 5 / 3.1 - 1/2 of the learned grid.
    grid = model.pos_embed[0, 1:].view(5, 5, 16).permute(2, 0, 1)[None]
    at = (torch.arange(3) + 0.5) * 5 / 3.1 - 0.5
    y, x = torch.meshgrid((at + 0.5) * 2 / 5 - 1, (at + 0.5) * 2 / 5 - 1, indexing="ij")
    sampled = F.grid_sample(grid, torch.stack([x, y], -1)[None], mode="bicubic", padding_mode="border", align_corners=False)
    torch.testing.assert_close(found[0, 1:], sampled[0].flatten(1).T, atol=1e-5, rtol=1e-4)


def test_images_are_resized_as_pillow_does():
    images = random_images(3, 40, 33)
    found = resize(images, 28, "pillow")
    for image, ours in zip(images, found):
        across = Image.fromarray(image.permute(1, 2, 0).numpy()).resize((28, 40), Image.Resampling.BICUBIC)
        theirs = across.resize((28, 28), Image.Resampling.BICUBIC)  # in one call, Pillow 13 goes down first
        difference = (ours - torch.from_numpy(np.asarray(theirs).copy()).permute(2, 0, 1)).abs()
        assert difference.max() <= 1 and difference.mean() < 0.02 and ours.eq(ours.round()).all()


def test_features_are_the_class_token_and_carry_their_name(small):
    extractor = open_extractor("dinov2", small, size=42)
    assert (extractor.name, extractor.dim, extractor.resize, extractor.classes) == ("dinov2", 16, "pillow", None)
    assert extractor.score_name("fid") == "fd_dinov2"
    images = random_images(3)
    features, probabilities = extractor(images)
    assert features.shape == (3, 16) and probabilities is None
    model = seeded(VisionTransformer(**SMALL))
    x = (resize(images, 42, "pillow") / 255 - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor(
        [0.229, 0.224, 0.225]
    )[:, None, None]
    torch.testing.assert_close(features, model(x), rtol=1e-4, atol=1e-5)
    assert not torch.equal(features[0], features[1])


def test_the_whole_network_runs():
    model = seeded(dinov2.architecture().to_empty(device="cpu")).requires_grad_(False)
    features = model(torch.randn(2, 3, 28, 28, generator=torch.Generator().manual_seed(0)))
    assert features.shape == (2, 1024) and bool(features.isfinite().all()) and not torch.equal(features[0], features[1])


def test_other_weights_are_refused_or_named_and_sizes_must_fit(small, monkeypatch):
    monkeypatch.setattr(dinov2, "SHA256", "0" * 64)
    with pytest.raises(FeatureError, match="isn't the known dinov2 weights"):
        open_extractor("dinov2", small)
    assert open_extractor("dinov2", small, insist=True).name.startswith("dinov2_")
    with pytest.raises(FeatureError, match="a multiple of 14 pixels, not 225"):
        open_extractor("dinov2", small, size=225)


def test_without_network_the_file_to_fetch_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *_, **__: (_ for _ in ()).throw(OSError("no network")))
    with pytest.raises(FeatureError, match=r"the DINOv2 weights can't be downloaded \(no network\): fetch https://dl\.fbaipublic"):
        open_extractor("dinov2")
