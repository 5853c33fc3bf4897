"""Information erosion: how the mean activation falls from layer to layer, and where in the map it falls first.

Wu et al. 2019 (arXiv 1903.08385), section 3: Q_n = 1 / (h w) Σ_p |F_n(p)|, the mean L1 of the feature map after layer n. Zero
padding erodes it at the borders, layer by layer; padding on one side erodes much faster.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

Convolution = Callable[[int, int], nn.Module]  # (channels in, channels out) -> a layer that keeps the size


@dataclass(frozen=True)
class LayerErosion:
    """One map F_n of a network."""

    name: str
    q: float  # Q_n / Q_0
    border: float  # mean |F_n| of the outermost pixels over that of the others; nan for maps of 1 or 2 pixels
    lean_x: float  # centre of mass of |F_n| less the map's centre, in sides of the map: positive to the right
    lean_y: float  # positive downwards
    mean_map: Tensor  # (h, w) float32 on the CPU: mean |F_n| over images and channels


@torch.no_grad()
def erosion(
    network: Callable[[Tensor], Tensor], inputs: Tensor, layers: list[tuple[str, nn.Module]], batch: int = 64
) -> list[LayerErosion]:
    """Q_n and mean maps at the outputs of `layers`, (name, module) within `network`, for inputs (N, C, H, W) = F_0.

    The first entry is F_0 itself, with Q = 1. A module that isn't called, or gives no (N, C, h, w), is left out. Q of a network
    with batch norm says little, as each norm sets it anew: then look at the maps.
    """
    sums: dict[str, Tensor] = {}
    names = {module: name for name, module in layers}

    def record(name: str, features: Tensor) -> None:
        sums[name] = sums.get(name, 0) + features.abs().mean(dim=1).double().sum(dim=0)

    def hook(module: nn.Module, _, features: Tensor) -> None:
        if features.dim() == 4:
            record(names[module], features)

    handles = [module.register_forward_hook(hook) for module in names]
    try:
        for part in inputs.split(batch):
            record("input", part)
            network(part.clone())  # a first layer may work in place
    finally:
        for handle in handles:
            handle.remove()
    maps = {name: total / len(inputs) for name, total in sums.items()}
    start = maps["input"].mean().item()
    return [_layer(name, mean_map, start) for name, mean_map in maps.items()]


def _layer(name: str, mean_map: Tensor, start: float) -> LayerErosion:
    nan = float("nan")
    q = mean_map.mean().item()
    inner = mean_map[1:-1, 1:-1]
    border = nan
    if inner.numel() and inner.sum() > 0:
        ring = (mean_map.sum() - inner.sum()) / (mean_map.numel() - inner.numel())
        border = (ring / inner.mean()).item()
    lean_x, lean_y = (_lean(mean_map, axis) if q > 0 else nan for axis in (0, 1))
    return LayerErosion(name, q / start if start else nan, border, lean_x, lean_y, mean_map.float().cpu())


def _lean(mean_map: Tensor, summed: int) -> float:
    """Centre of mass of a map less its centre, in sides, along the axis that is left when the other is summed."""
    profile = mean_map.sum(dim=summed)
    position = (torch.arange(len(profile), dtype=torch.float64, device=mean_map.device) + 0.5) / len(profile) - 0.5
    return ((profile * position).sum() / mean_map.sum()).item()


def activations(network: nn.Module) -> list[tuple[str, nn.Module]]:
    """(name, module) of the activations of a network, where the paper reads F_n, in order of definition.

    The classifiers of gan.models pad before the activation where that is cheaper: there read blocks instead, whose maps have no
    zeros of the next layer's padding around them.
    """
    kinds = nn.ReLU | nn.LeakyReLU | nn.Tanh | nn.Sigmoid | nn.SiLU | nn.GELU
    return [(name, module) for name, module in network.named_modules() if isinstance(module, kinds)]


# --- the paper's stack -------------------------------------------------------------------------------------------------------


class Stack(nn.Module):
    """The paper's 54 layers: three stages of 18 at widths 16, 32, 64, with 2x2 average pooling between them.

    (N, 3, H, W) -> (N, 64, H / 4, W / 4). A layer is convolution, batch norm if asked for, ReLU. With shortcuts, x is added before
    the second ReLU of each pair of layers, and channels that x lacks are zeros (He et al. 2016, option A). Weights: He normal, fan
    in; biases 0. `layers` are the modules after which F_1 ... F_54 are read.
    """

    def __init__(self, convolution: Convolution, shortcuts: bool = False, norm: bool = False, widths=(16, 32, 64), depth: int = 18):
        super().__init__()
        channels = [3, *(width for width in widths for _ in range(depth))]
        self.convolutions = nn.ModuleList(convolution(a, b) for a, b in pairwise(channels))
        self.norms = nn.ModuleList(nn.BatchNorm2d(c) if norm else nn.Identity() for c in channels[1:])
        self.layers = nn.ModuleList(nn.ReLU() for _ in channels[1:])
        self.pool = nn.AvgPool2d(2)
        self.depth, self.shortcuts = depth, shortcuts
        for name, parameter in self.convolutions.named_parameters():
            if name.endswith("weight"):
                nn.init.kaiming_normal_(parameter)
            else:
                nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        before = x
        for i, (convolution, norm, activation) in enumerate(zip(self.convolutions, self.norms, self.layers)):
            if i and i % self.depth == 0:
                x = self.pool(x)
            if i % 2 == 0:
                before = x
            x = norm(convolution(x))
            if self.shortcuts and i % 2:
                x = x + nn.functional.pad(before, (0, 0, 0, 0, 0, x.shape[1] - before.shape[1]))
            x = activation(x)
        return x


def stack_erosion(
    convolution: Convolution, images: Tensor, seed: int = 0, shortcuts: bool = False, norm: bool = False
) -> list[LayerErosion]:
    """Q_0 ... Q_54 of the untrained stack on uint8 images (N, 3, H, W), scaled to [-1, 1]; entries input, 1, ..., 54.

    convolution: makes a layer, for example lambda c_in, c_out: conv2d("c2sp", c_in, c_out). Batch norm takes the statistics of
    all the images.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        stack = Stack(convolution, shortcuts, norm).to(images.device)
    named = [(str(i + 1), module) for i, module in enumerate(stack.layers)]
    return erosion(stack, images.float() / 127.5 - 1, named, batch=len(images))
