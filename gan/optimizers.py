"""Adam and SGD of torch.optim, without what PyTorch wraps their methods in: notes to its compiler, for which it is imported.

That takes longer than all else that a run does before its first step, and no optimizer is compiled here.
"""

import inspect

import torch
from torch.optim import Optimizer


class _Bare(Optimizer):
    add_param_group = inspect.unwrap(Optimizer.add_param_group)
    load_state_dict = inspect.unwrap(Optimizer.load_state_dict)
    state_dict = inspect.unwrap(Optimizer.state_dict)
    zero_grad = inspect.unwrap(Optimizer.zero_grad)


class Adam(_Bare, torch.optim.Adam):
    """torch.optim.Adam."""

    step = torch.no_grad()(inspect.unwrap(torch.optim.Adam.step))


class SGD(_Bare, torch.optim.SGD):
    """torch.optim.SGD."""

    step = torch.no_grad()(inspect.unwrap(torch.optim.SGD.step))
