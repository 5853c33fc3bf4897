"""One place says which device a command runs on, and in one sentence what isn't there."""

import pytest
import torch

from metrics.devices import DeviceError, open_device

CUDA = torch.cuda.is_available()


def refusal(name):
    with pytest.raises(DeviceError) as refused:
        open_device(name)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def pretend(monkeypatch, gpus):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)


def test_the_cpu_is_always_there():
    assert open_device("cpu") == open_device(torch.device("cpu")) == torch.device("cpu")


def test_auto_is_a_gpu_where_there_is_one(monkeypatch):
    pretend(monkeypatch, 0)
    assert open_device("auto") == open_device() == torch.device("cpu")
    pretend(monkeypatch, 2)
    assert open_device("auto") == torch.device("cuda")


@pytest.mark.parametrize("name", ["cuda", "cuda:0", torch.device("cuda")])
def test_a_gpu_is_refused_where_there_is_none(monkeypatch, name):
    pretend(monkeypatch, 0)
    assert refusal(name) == f"device {name} was asked for, but PyTorch finds no CUDA GPU here; use cpu or auto"


def test_gpus_count_from_zero(monkeypatch):
    pretend(monkeypatch, 2)
    assert [open_device(name).index for name in ("cuda", "cuda:0", "cuda:1")] == [None, 0, 1]
    assert refusal("cuda:2") == "device cuda:2 was asked for, but this machine has 2 GPU(s), from cuda:0 on"


@pytest.mark.parametrize("name", ["gpu", "", "cuda:x", "meta", "mps:9", "xpu:99"])
def test_what_pytorch_cannot_compute_on_is_refused(name):
    assert refusal(name) == f"this PyTorch finds no device {name!r}; use cpu, cuda or auto"


@pytest.mark.skipif(not CUDA, reason="needs a CUDA device")
def test_opening_a_gpu_takes_no_memory_on_it():
    before = torch.cuda.memory_allocated()
    open_device("cuda")
    assert torch.cuda.memory_allocated() == before
