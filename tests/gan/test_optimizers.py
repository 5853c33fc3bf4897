"""Optimizers that start at once are those of PyTorch to the last bit."""

import copy

import pytest
import torch
from torch import nn

from gan.optimizers import SGD, Adam


@pytest.mark.parametrize(
    ("ours", "theirs", "options"),
    [
        (Adam, torch.optim.Adam, {"betas": (0.5, 0.9)}),
        (SGD, torch.optim.SGD, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    ],
)
def test_steps_and_state_are_those_of_pytorch(ours, theirs, options):
    torch.manual_seed(0)
    one = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2))
    networks = [one, copy.deepcopy(one)]
    optimizers = [kind(net.parameters(), lr=0.1, fused=True, **options) for kind, net in zip((ours, theirs), networks)]
    for step in range(6):
        if step == 3:  # each goes on from the other's state
            states = [optimizer.state_dict() for optimizer in optimizers]
            for optimizer, state in zip(optimizers, reversed(states)):
                optimizer.load_state_dict(state)
        x = torch.randn(4, 3)
        for net, optimizer in zip(networks, optimizers):
            net(x).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
            assert all(p.grad is None for p in net.parameters())
        assert all(torch.equal(a, b) for a, b in zip(*(net.parameters() for net in networks)))
