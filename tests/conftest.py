"""No test, and no process that one starts, writes into the user's cache or takes more than one thread.

On tensors this small several threads mostly wait for each other, for several times the work where cores are shared.
"""

import gc
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before PyTorch and NumPy are imported
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # where a test has two threads, one that waits leaves its core to others

import pytest
import torch

pytest_plugins = ["tests.fixtures", "tests.data_fixtures"]
_LONG = "run processes compile examples extending faults monotone training steps"
LONG = {f"test_{name}.py" for name in _LONG.split()}


def pytest_collection_modifyitems(items):
    """Half minutes come first: one of them at the end would leave a core idle."""
    items.sort(key=lambda item: item.path.name not in LONG)


def pytest_collection_finish():
    """What the libraries and the collection made stays to the end: the garbage collector needn't look at it again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def no_cache_of_the_user(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GAN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def two_threads():
    """What holds bit by bit must hold with more threads, too."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)
