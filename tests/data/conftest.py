"""Each test of data has a cache of its own."""

import pytest


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """Indexes of read-only databases go here, not into the user's cache."""
    monkeypatch.setenv("GAN_CACHE", str(tmp_path_factory.mktemp("cache")))
