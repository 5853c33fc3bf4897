"""The device that a command runs on, decided in one place."""

import torch

from data.files import UserError


class DeviceError(UserError):
    """A device isn't available; the message says which to use."""


def open_device(name: str | torch.device = "auto") -> torch.device:
    """'cpu', 'cuda', 'cuda:1' or any other that this PyTorch can compute on; 'auto' is a GPU where there is one, else the CPU.

    DeviceError for one that isn't there. No memory is taken on a GPU.
    """
    name = str(name)
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        if device.type != "cuda":
            torch.empty(1, device=device).cpu()
    except (RuntimeError, AssertionError):  # NotImplementedError, a RuntimeError, of the device "meta"
        raise DeviceError(f"this PyTorch finds no device {name!r}; use cpu, cuda or auto") from None
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if not count:
            raise DeviceError(f"device {name} was asked for, but PyTorch finds no CUDA GPU here; use cpu or auto")
        if (device.index or 0) >= count:
            raise DeviceError(f"device {name} was asked for, but this machine has {count} GPU(s), from cuda:0 on")
    return device
