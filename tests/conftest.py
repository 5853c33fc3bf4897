"""No test, and no process that one starts, writes into the user's cache."""

import pytest

pytest_plugins = ["tests.fixtures"]


@pytest.fixture(scope="session", autouse=True)
def no_cache_of_the_user(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GAN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
