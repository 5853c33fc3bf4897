import pytest
import torch

from gan import sampling
from gan.training import train


@pytest.fixture(autouse=True)
def quick_to_train(request):
    """Runs of a few steps, whose figures would take most of the time, are trained without them and share their shapes.

    Tests that look at a figure say so: `@pytest.mark.rendered`.
    """
    request.getfixturevalue("kept_shapes")
    if not request.node.get_closest_marker("rendered"):
        request.getfixturevalue("unrendered")


@pytest.fixture
def config_file(tmp_path):
    """config_file(text) -> a YAML file that holds it."""

    def file(text, name="mine.yaml"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return file


@pytest.fixture(scope="session")
def labelled(tiny, pictures):
    """labelled(family, *overrides) -> a conditional config on fifty pictures of ten classes."""
    return lambda family="dcgan", *overrides: tiny(
        family, f"dataset.path={pictures}", "generator.conditional=true", "train.device=cpu", *overrides
    )


@pytest.fixture(scope="module")
def painted(labelled, tmp_path_factory):
    """A conditional run of two steps."""
    path = tmp_path_factory.mktemp("conditional") / "run"
    train(labelled("dcgan", "train.steps=2"), path, progress=False)
    return path


@pytest.fixture(scope="module")
def generator(painted):
    """Its generator, with weights that make pictures of classes differ."""
    generator = sampling.load_generator(painted).generator
    for i, weight in enumerate(generator.parameters()):
        if weight.dim() > 1:
            weight.mul_(20).add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(i)) / 2)
    return generator
