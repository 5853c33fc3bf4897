"""The published settings for LSUN, CelebA and STL-10 make networks."""

from pathlib import Path

import pytest
import torch

from gan.config import Config
from gan.models.build import build, resolve
from gan.models.counting import parameter_count

CONFIGS = Path(__file__).parents[2] / "configs"
FILES = ["celeba/dcgan64", "celeba/sngan128", "lsun/dcgan64", "lsun/landscape128", "lsun/sngan128", "lsun/wgan_gp128"]
FILES += ["stl10/sngan48", "stl10/sngan48_cpu"]


@pytest.mark.parametrize("file", FILES)
def test_a_file_makes_networks_of_its_resolution(file):
    config = resolve(Config.load(CONFIGS / f"{file}.yaml"))
    assert str(config.dataset.resolution) in file and file.startswith(config.dataset.name.partition("_")[0])
    with torch.device("meta"):
        generator, discriminator = build(config)
        assert generator(torch.empty(2, config.generator.latent)).shape == (2, 3, *2 * [config.dataset.resolution])
    if "landscape" in file:  # the counts that the paper reports: about 14 M each
        assert parameter_count(generator) == pytest.approx(13.79e6, rel=0.01)
        assert parameter_count(discriminator) == pytest.approx(15.09e6, rel=0.01)
