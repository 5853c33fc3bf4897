"""The size and cost of a network: parameters and multiply-adds."""

import contextlib

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from gan.fusing import plain
from gan.models.frames import Frame


def parameter_count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def example_labels(network: nn.Module, count: int, device: torch.device | str) -> tuple[torch.Tensor, ...]:
    """Further arguments of a network: for a conditional one, `count` labels of its first class; else none."""
    conditional = isinstance(network, Frame) and network.classes > 0
    return (torch.zeros(count, dtype=torch.int64, device=device),) if conditional else ()


def macs(module: nn.Module, *shape: int, executed: bool = False, precision: str = "fp32") -> int:
    """Multiply-adds of the convolutions and linear layers in one forward pass on zeros of this shape.

    Those of the definition, layer by layer, as papers count them; or as they are executed, resampling and convolution as one where
    that is faster in this precision.
    """
    was_training = module.training
    counted = contextlib.nullcontext() if executed else plain(module)
    with torch.no_grad(), counted, FlopCounterMode(display=False) as counter:
        device = next(module.parameters()).device
        kind = "cuda" if device.type == "cuda" else "cpu"  # others, such as meta, have no autocast
        with torch.autocast(kind, torch.bfloat16, enabled=executed and precision == "bf16"):
            module.eval()(torch.zeros(*shape, device=device), *example_labels(module, shape[0], device))
    module.train(was_training)
    return counter.get_total_flops() // 2
