"""What a network is made of: parameters and multiply-adds."""

import contextlib

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from gan.fusing import plain


def parameter_count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def macs(module: nn.Module, *shape: int, executed: bool = False) -> int:
    """Multiply-adds of the convolutions and linear layers in one forward pass on zeros of this shape.

    Those of the definition, layer by layer, as papers count them; or as they are executed, resampling and convolution as one.
    """
    was_training = module.training
    counted = contextlib.nullcontext() if executed else plain(module)
    with torch.no_grad(), counted, FlopCounterMode(display=False) as counter:
        module.eval()(torch.zeros(*shape, device=next(module.parameters()).device))
    module.train(was_training)
    return counter.get_total_flops() // 2
