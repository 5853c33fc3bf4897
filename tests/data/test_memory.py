"""How much memory there is, in words, and what a lack of it looks like."""

import resource

import pytest
import torch

from data import memory
from data.memory import capacity, in_words, lacks_memory


def test_the_capacity_is_the_least_of_all_limits(monkeypatch):
    monkeypatch.setattr(memory, "_of_the_container", lambda: None)
    machine = capacity()
    assert machine > 2**28
    monkeypatch.setattr(memory, "_of_the_container", lambda: 2**27)
    assert capacity() == 2**27
    monkeypatch.setattr(resource, "getrlimit", lambda which: (2**26, 2**26))
    assert capacity() == 2**26


@pytest.mark.parametrize(
    "size, text", [(5e5, "0.48 MiB"), (2**20 * 380, "380 MiB"), (2.5 * 2**30, "2.5 GiB"), (3 * 2**50, "3,072 TiB")]
)
def test_sizes_are_said_in_words(size, text):
    assert in_words(size) == text


def test_a_lack_of_memory_is_known_by_what_pytorch_says():
    for shape in ((2**40, 2**12), (2**62, 2**10)):
        with pytest.raises(RuntimeError) as caught:
            torch.empty(shape)
        assert lacks_memory(caught.value), caught.value
    assert lacks_memory(MemoryError()) and not lacks_memory(RuntimeError("shapes differ")) and not lacks_memory(ValueError())
