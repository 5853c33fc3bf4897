import pytest
import torch

from data.shapes import shapes
from gan.config import load_config
from gan.sampling import save_images

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
TINY = {
    "dcgan": ["generator.family=dcgan", "generator.kernel=c3sp"],
    "cnn": ["generator.family=cnn", "train.d_steps=2"],
    "sngan": ["generator.family=sngan", "generator.kernel=c2sp", "objective.loss=hinge", "train.lr_decay=linear"],
    "wgan_gp": ["generator.family=wgan_gp", "objective.loss=wasserstein", "objective.gradient_penalty=10", "train.d_steps=2"],
    "landscape": ["generator.family=landscape", "generator.kernel=c4sp", "objective.r1=0.1"],
}


@pytest.fixture(scope="session")
def fifty(tmp_path_factory):
    """A zip of fifty generated pictures, which other processes can read too."""
    path = tmp_path_factory.mktemp("data") / "fifty.zip"
    save_images(iter([shapes(32, count=50).images]), path)
    return path


@pytest.fixture
def tiny(fifty):
    """tiny(family, *overrides) -> a config whose steps take milliseconds."""

    def config(family="dcgan", *overrides):
        small = ["dataset.name=folder", f"dataset.path={fifty}", "generator.width=4", "discriminator.width=4", "generator.latent=8"]
        small += ["train.batch_size=8", "train.steps=12", "train.log_every=4", "train.checkpoint_every=5", "train.sample_every=6"]
        return load_config(None, [*TINY[family], *small, f"train.device={DEVICE}", *overrides])

    return config
