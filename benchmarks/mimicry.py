"""mimicry's networks and its own train_step methods, as they are, for the benchmarks that compare ours with them.

Only its package initialisers are passed by, since they import TensorFlow. It must be installed: pip install --no-deps torch-mimicry
"""

import importlib
import importlib.machinery
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

NETWORKS = {  # name -> module and the prefix of its classes
    "sngan": ("torch_mimicry.nets.sngan.sngan_32", "SNGAN"),
    "wgan_gp": ("torch_mimicry.nets.wgan_gp.wgan_gp_32", "WGANGP"),
}


def installed() -> bool:
    return importlib.util.find_spec("torch_mimicry") is not None


def networks(name: str, **widths: int) -> tuple[nn.Module, nn.Module]:
    """Generator and discriminator of one of NETWORKS at 32 pixels. widths: nz, ngf; ndf."""
    root = Path(importlib.util.find_spec("torch_mimicry").submodule_search_locations[0])
    for package_name in ("torch_mimicry", "torch_mimicry.nets", f"torch_mimicry.nets.{name}"):
        spec = importlib.machinery.ModuleSpec(package_name, None, is_package=True)
        spec.submodule_search_locations = [str(root.joinpath(*package_name.split(".")[1:]))]
        sys.modules[package_name] = importlib.util.module_from_spec(spec)
    place, prefix = NETWORKS[name]
    module = importlib.import_module(place)
    of_g = {key: value for key, value in widths.items() if key != "ndf"}
    of_d = {key: value for key, value in widths.items() if key == "ndf"}
    return getattr(module, f"{prefix}Generator32")(**of_g), getattr(module, f"{prefix}Discriminator32")(**of_d)


class Log:
    """Where its train_step methods put their losses."""

    def add_metric(self, name: str, value: object, **_) -> None:
        float(value)  # as its MetricLog does


def step(g: nn.Module, d: nn.Module, lr_g: float, lr_d: float, device: str | torch.device) -> Callable[[Tensor], None]:
    """A function of real images that does one D and one G update by mimicry's own code, with Adam at betas 0 and 0.9."""
    optimizer_g = torch.optim.Adam(g.parameters(), lr_g, (0.0, 0.9))
    optimizer_d = torch.optim.Adam(d.parameters(), lr_d, (0.0, 0.9))

    def run(images: Tensor) -> None:
        batch = (images, torch.zeros(len(images), dtype=torch.long, device=images.device))
        d.train_step(real_batch=batch, netG=g, optD=optimizer_d, log_data=Log(), device=device)
        g.train_step(real_batch=batch, netD=d, optG=optimizer_g, log_data=Log(), device=device)

    return run
