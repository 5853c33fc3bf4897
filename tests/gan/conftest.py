import pytest

from gan.config import load_config

TINY = {
    "dcgan": ["generator.family=dcgan", "generator.kernel=c3sp"],
    "cnn": ["generator.family=cnn", "train.d_steps=2"],
    "sngan": ["generator.family=sngan", "generator.kernel=c2sp", "objective.loss=hinge", "train.lr_decay=linear"],
    "wgan_gp": ["generator.family=wgan_gp", "objective.loss=wasserstein", "objective.gradient_penalty=10", "train.d_steps=2"],
    "landscape": ["generator.family=landscape", "generator.kernel=c4sp", "objective.r1=0.1"],
}


@pytest.fixture
def tiny(monkeypatch):
    """tiny(family, *overrides) -> a resolved-size config that trains a step in milliseconds on generated shapes."""
    import data.shapes

    monkeypatch.setitem(data.shapes.COUNTS, "train", 50)

    def config(family="dcgan", *overrides):
        small = ["generator.width=4", "discriminator.width=4", "generator.latent=8", "train.batch_size=8", "train.steps=12"]
        small += ["train.log_every=4", "train.checkpoint_every=5", "train.sample_every=6", "train.device=cpu"]
        return load_config(None, [*TINY[family], *small, *overrides])

    return config
