"""The exact impulse response of one layer, from which its shift and its checkerboard are computed.

A layer here is a convolution, or a convolution together with the layer without parameters that doubles the map before or after it
(nearest, bilinear, zero insertion, pixel shuffle). It scales maps by an integer s >= 1.
"""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

OUTPUTS_AT_ONCE = 32  # bounds the memory of wide layers; a multiple of 4 keeps the channels of a pixel shuffle together


@dataclass(frozen=True)
class Response:
    """The response of a layer without its bias to a 1 in one input channel and pixel, away from borders.

    Phase p = s * (row % s) + (column % s) of an output pixel, counted from the map's top-left corner.
    """

    scale: int  # s
    gains: Tensor  # (s², out, in): sum of the taps that reach an output pixel of phase p, as a constant input meets them
    powers: Tensor  # (s², out): sum of their squares over taps and inputs: the variance that white noise gets there
    energy: Tensor  # (s n, s n): squares of the response, summed over inputs and outputs; the pixel was (n // 2, n // 2) of n x n


@torch.no_grad()
def impulse_response(layer: nn.Module, flat: bool = False) -> Response:
    """Measure a layer with exactly one convolution in it. flat: with all weights 1, so that only its geometry counts.

    A layer with groups is the dense one whose other weights are 0. ValueError for no or several convolutions, or a shrinking map.
    """
    twin = deepcopy(layer).eval()
    convolution = only_convolution(twin)
    if parametrize.is_parametrized(convolution, "weight"):  # spectral norm: what counts is the weight that is used
        unparametrize(convolution)
    convolution.padding_mode = "zeros"  # away from borders all modes agree, but on this small map the others would show
    transposed = isinstance(convolution, nn.ConvTranspose2d)
    weight = dense(convolution.weight.detach(), convolution.groups)
    if flat:  # one output says it all; a pixel shuffle needs the channels of one pixel
        outputs = 1 if transposed or twin is convolution else min(4, convolution.out_channels)
        weight = torch.ones_like(weight[:, :outputs] if transposed else weight[:outputs])
    c_in = convolution.in_channels
    reach = (max(convolution.kernel_size) - 1) // (2 * convolution.stride[0] if transposed else 2)
    n = 2 * reach + 5  # room for the kernel, a corner's left-over pixel, a filler and the border that a filler may reflect
    impulse = weight.new_zeros(1, c_in, n, n)
    impulse[:, :, n // 2, n // 2] = 1

    scale, gains, powers, energy = 1, [], [], torch.zeros((), dtype=torch.float64)
    for part in weight.split(OUTPUTS_AT_ONCE, dim=1 if transposed else 0):
        # One group per input channel: the layer then keeps apart what it would sum, and the channels keep the corners they have.
        part = part if transposed else part.transpose(0, 1).flatten(0, 1).unsqueeze(1)
        convolution.weight, convolution.bias, convolution.groups = nn.Parameter(part.contiguous(), False), None, c_in
        response = twin(impulse).double()
        scale = response.shape[-1] // n
        if scale < 1:
            raise ValueError("impulse_response: this layer shrinks its map; only layers that keep or enlarge it are supported")
        response = response.view(c_in, -1, n, scale, n, scale).movedim((3, 5), (0, 1)).flatten(0, 1)  # (s², in, out, n, n)
        gains.append(response.sum(dim=(3, 4)).transpose(1, 2))
        powers.append(response.square().sum(dim=(1, 3, 4)))
        squares = response.square().sum(dim=(1, 2)).view(scale, scale, n, n)
        energy = energy + squares.permute(2, 0, 3, 1).reshape(scale * n, scale * n)
    return Response(scale, torch.cat(gains, dim=1), torch.cat(powers, dim=1), energy)


def dense(weight: Tensor, groups: int) -> Tensor:
    """The weight (rows, columns / groups, k, k) of a layer with groups, as that of one without: (rows, columns, k, k)."""
    rows, columns = weight.shape[0] // groups, weight.shape[1]
    whole = weight.new_zeros(weight.shape[0], columns * groups, *weight.shape[2:])
    for i, own in enumerate(weight.chunk(groups)):
        whole[i * rows : (i + 1) * rows, i * columns : (i + 1) * columns] = own
    return whole


def only_convolution(layer: nn.Module) -> nn.Conv2d | nn.ConvTranspose2d:
    """The one convolution of a layer; ValueError if there is none or more."""
    found = [m for m in layer.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    if len(found) != 1:
        raise ValueError(f"a layer has exactly one convolution, this {type(layer).__name__} has {len(found)}")
    return found[0]


def unparametrize(layer: nn.Module) -> None:
    """Give a copied layer its weight as it is used, and its plain class.

    Not by torch's remove_parametrizations: a copy shares its class with the original, which would lose its weight as well.
    """
    weight = layer.weight.detach().clone()  # pyright: ignore[reportCallIssue]
    layer.__class__ = type(layer).__mro__[1]
    del layer.parametrizations
    layer.weight = nn.Parameter(weight, requires_grad=False)


def spatial_layers(network: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """(name, layer) for every convolution of a network, together with the filler or the pixel shuffle that doubles its map."""
    for name, child in network.named_children():
        if _is_convolution(child) or _doubles_around_one(child):
            yield prefix + name, child
        else:
            yield from spatial_layers(child, f"{prefix}{name}.")


def up_layers(network: nn.Module) -> list[tuple[str, nn.Module]]:
    """Those of spatial_layers that enlarge their map, which alone can make checkerboards."""
    layers = [network] if _is_convolution(network) or _doubles_around_one(network) else []
    named = [("", layer) for layer in layers] or spatial_layers(network)
    return [(name, layer) for name, layer in named if _is_transposed(layer) or not _is_convolution(layer)]


def _is_convolution(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d | nn.ConvTranspose2d)


def _is_transposed(module: nn.Module) -> bool:
    return isinstance(module, nn.ConvTranspose2d) and module.stride[0] > 1


def _doubles_around_one(module: nn.Module) -> bool:
    """Whether this is a pair of a convolution and a module that doubles maps without parameters of its own."""
    if not isinstance(module, nn.Sequential) or len(module) != 2:
        return False
    others = [child for child in module if not _is_convolution(child)]
    return len(others) == 1 and not any(True for _ in others[0].parameters()) and _enlarges(others[0])


def _enlarges(module: nn.Module) -> bool:
    if any(True for _ in module.children()):
        return False
    try:
        device = next((buffer.device for buffer in module.buffers()), None)
        return module(torch.zeros(1, 4, 4, 4, device=device)).shape[-1] > 4
    except (RuntimeError, ValueError):  # wants another number of channels: no filler
        return False
