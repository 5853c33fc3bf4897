"""What a network is made of: parameters and multiply-adds."""

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def parameter_count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def macs(module: nn.Module, *shape: int) -> int:
    """Multiply-adds of the convolutions and linear layers in one forward pass on zeros of this shape, as they are executed."""
    was_training = module.training
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module.eval()(torch.zeros(*shape, device=next(module.parameters()).device))
    module.train(was_training)
    return counter.get_total_flops() // 2
