"""One process or many: the rank, the device, and DistributedDataParallel, started by torchrun."""

import datetime
import inspect
import os
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from gan.settings import ConfigError
from metrics.devices import open_device

TORCHRUN = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")  # what it sets beside WORLD_SIZE

# How long processes wait for each other. The main one opens data and embeds the reference alone, half an hour for a large set.
TIMEOUT = datetime.timedelta(hours=2)


def number(name: str, default: int | None = None) -> int:
    """An integer environment variable that torchrun sets. ConfigError if it isn't an integer."""
    text = os.environ.get(name) or default
    try:
        return int(text)
    except (TypeError, ValueError):
        raise ConfigError(
            f"{name}={text} is set in the environment, which is no number: unset it, or start with torchrun"
        ) from None


def world_size() -> int:
    """How many processes torchrun started; 1 without it."""
    return number("WORLD_SIZE", 1)


@dataclass(frozen=True)
class Processes:
    """This process among those that train together."""

    rank: int  # 0 .. world - 1; 0 is the main process
    world: int  # number of processes
    device: torch.device

    @classmethod
    def start(cls, device: str) -> "Processes":
        """Join the processes that torchrun started (RANK, WORLD_SIZE in the environment), or be the only one.

        device: as metrics.devices takes it; of several processes each gets its own GPU. Raises ConfigError, DeviceError.
        """
        world = world_size()
        if world > 1 and (missing := [name for name in TORCHRUN if name not in os.environ]):
            raise ConfigError(f"WORLD_SIZE={world} is set, but not {', '.join(missing)}; start several processes with torchrun")
        for name in ("RANK", "LOCAL_RANK", "MASTER_PORT") if world > 1 else ():
            number(name)
        found = open_device(device)
        if world == 1:
            return cls(0, 1, found)
        if found.type == "cuda":
            if found.index is not None:
                raise ConfigError("train.device=cuda:N puts every process on one GPU; with torchrun use train.device=cuda")
            found = torch.device("cuda", number("LOCAL_RANK"))
            if found.index >= torch.cuda.device_count():
                raise ConfigError(f"torchrun started more processes than this machine has GPUs ({torch.cuda.device_count()})")
            torch.cuda.set_device(found)
        if not dist.is_initialized():
            dist.init_process_group("nccl" if found.type == "cuda" else "gloo", timeout=TIMEOUT)
        return cls(dist.get_rank(), world, found)

    @property
    def main(self) -> bool:
        """Whether this is the process that writes files."""
        return self.rank == 0

    def parallel(self, module: nn.Module) -> nn.Module:
        """The module itself, or wrapped so that backward averages its gradients over the processes."""
        if self.world == 1:
            return module
        devices = [self.device] if self.device.type == "cuda" else None
        # Buffers are not broadcast: spectral norm's are the same everywhere, and writing them between two forwards breaks backward.
        new = "forward_sync_buffers" in inspect.signature(DistributedDataParallel).parameters  # its name from torch 2.13 on
        return DistributedDataParallel(
            module, device_ids=devices, **{"forward_sync_buffers" if new else "broadcast_buffers": False}
        )

    def mean(self, x: Tensor) -> Tensor:
        """The mean of x over the processes, in place."""
        if self.world > 1:
            dist.all_reduce(x)
            x /= self.world
        return x

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process."""
        if self.world == 1:
            return flag
        return bool(self.mean(torch.tensor(float(flag), device=self.device)))

    def tell(self, thing: object) -> object:
        """Broadcast: the main process's object, in every process."""
        things = [thing]
        if self.world > 1:
            dist.broadcast_object_list(things)
        return things[0]

    def stop(self) -> None:
        if dist.is_initialized():
            dist.destroy_process_group()
