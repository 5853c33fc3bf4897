"""The configurations that come along: they load as they were dumped, leave no gap, and say what was published."""

from pathlib import Path

import pytest

from gan.config import KEYS, Config
from gan.models.build import resolve

ROOT = Path(__file__).parents[2]
FILES = sorted(p for p in ROOT.glob("configs/**/*.yaml") if p.parent.name not in ("studies", "classification"))


def nulls(config):
    return {key for key, value in config.values().items() if value is None}


PUBLISHED = {
    "dcgan": {  # Radford et al. 2016, section 3 and 4
        "generator.kernel": "c4",
        "generator.upsampling": "transposed",
        "generator.norm": "batch",
        "discriminator.kernel": "c4",
        "discriminator.norm": "batch",
        "objective.loss": "non_saturating",
        "train.batch_size": 128,
        "train.d_steps": 1,
        "train.beta1": 0.5,
        "train.beta2": 0.999,
    },
    "cnn": {  # Miyato et al. 2018, table 1 (C) and table 3
        "generator.kernel": "c4",
        "generator.upsampling": "transposed",
        "generator.norm": "batch",
        "discriminator.kernel": "c3",
        "discriminator.norm": "spectral",
        "objective.loss": "non_saturating",
        "train.batch_size": 64,
        "train.d_steps": 1,
        "train.beta1": 0.5,
        "train.beta2": 0.999,
        "train.lr_decay": "linear",
    },
    "sngan": {  # Miyato et al. 2018, section 4 and table 4
        "generator.kernel": "c3",
        "generator.upsampling": "nearest",
        "generator.norm": "batch",
        "discriminator.kernel": "c3",
        "discriminator.norm": "spectral",
        "objective.loss": "hinge",
        "objective.gradient_penalty": 0,
        "train.batch_size": 64,
        "train.d_steps": 5,
        "train.beta1": 0,
        "train.beta2": 0.9,
        "train.lr_decay": "linear",
    },
    "wgan_gp": {  # Gulrajani et al. 2017, algorithm 1 and appendix F
        "generator.kernel": "c3",
        "generator.upsampling": "nearest",
        "generator.norm": "batch",
        "discriminator.kernel": "c3",
        "discriminator.norm": "none",
        "objective.loss": "wasserstein",
        "objective.gradient_penalty": 10,
        "train.batch_size": 64,
        "train.d_steps": 5,
        "train.beta1": 0,
        "train.beta2": 0.9,
        "train.lr_decay": "linear",
    },
    "landscape": {  # Kurach et al. 2019, `resnet_cifar`; the width rule of Wu et al. 2019
        "generator.kernel": "c3",
        "generator.upsampling": "unpool",
        "generator.width_rule": "paper",
        "generator.norm": "batch",
        "discriminator.kernel": "c3",
        "discriminator.norm": "spectral",
        "objective.loss": "non_saturating",
        "train.batch_size": 64,
        "train.d_steps": 5,
        "train.beta1": 0.5,
        "train.beta2": 0.999,
    },
}
NULLS = {"dataset.path", "dataset.categories", "dataset.workers", "evaluate.real", "evaluate.weights"}  # "whatever there is"
NULLS |= {key for key in KEYS if key.startswith("schedule.")} | {"augment.probability", "augment.target"}  # "stays"
NULLS |= {"generator.attention", "discriminator.attention"}  # "none"
COMMON = {"dataset.name": "cifar10", "dataset.resolution": 32, "train.lr_g": 2e-4, "train.lr_d": 2e-4, "objective.r1": 0}


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_dumped_settings_load_equal(file, config_file):
    config = Config.load(file, ["train.seed=7", "train.lr_g=1e-5", "generator.kernel=c2sp", "train.device=cuda:1"])
    assert Config.load(config_file(config.dump())) == config
    assert Config.load(config_file(resolve(config).dump())) == resolve(config)


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_every_file_resolves_to_settings_without_gaps(file):
    config = resolve(Config.load(file))
    assert nulls(config) <= NULLS
    assert resolve(config) == config


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_settings(name):
    config = resolve(Config.load(ROOT / "configs" / "cifar10" / f"{name}.yaml"))
    wanted = {**COMMON, **PUBLISHED[name], "generator.family": name, "discriminator.family": name}
    assert {key: config.values()[key] for key in wanted} == wanted


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_bare_family_resolves_to_the_networks_of_its_file(name):
    file = resolve(Config.load(ROOT / "configs" / "cifar10" / f"{name}.yaml"))
    rest = [f"generator.{key}={getattr(file.generator, key)}" for key in ("width_rule", "latent")]
    bare = resolve(Config.load(None, [f"generator.family={name}", *rest]))
    assert (bare.generator, bare.discriminator) == (file.generator, file.discriminator)
