import pytest


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
