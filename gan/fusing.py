"""A sequence of layers that computes a resampling and the adjacent convolution as one operation (gan.resampling) where it's faster.

    layers = FusedSequential(nn.Upsample(scale_factor=2), conv2d("c2sp", 64, 64))     instead of nn.Sequential

The layers keep their names, weights, initial values and spectral norm: only `forward` differs, and its result only by rounding.
"""

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any, TypeGuard

import torch
import torch.fx
from torch import Tensor, nn

from .fast_padding import transformed
from .kernels import SameConv2d
from .padding import BELOW_RIGHT, Rule, recorded
from .phases import phase_conv
from .resampling import Unpool, conv_pool, nearest_conv, unpool_conv

DEVICES = {"cpu", "cuda"}  # where it has been measured


class FusedSequential(nn.Sequential):
    """nn.Sequential that fuses nearest doubling or zero insertion with the same-size convolution after it, and a same-size
    convolution with the 2×2 average after it.

    Two layers are fused if the identity holds (kernels of 2 to 5, stride 1, no groups, no dilation; after a doubling also zero
    padding), neither has hooks, and `form` says that it is faster. None is under torch.jit.trace, ONNX, torch.fx, torch.func and
    forward-mode derivatives, which get the layers themselves.
    """

    fuse = True

    def forward(self, x: Tensor) -> Tensor:
        layers = list(self)
        while layers:
            y = fused(layers[0], layers[1], x) if self.fuse and len(layers) > 1 else None
            x, layers = (layers[0](x), layers[1:]) if y is None else (y, layers[2:])
        return x


@contextlib.contextmanager
def plain(module: nn.Module) -> Iterator[None]:
    """Within the block, nothing in a module is fused: every layer is computed by itself."""
    sequences = [m for m in module.modules() if isinstance(m, FusedSequential) and m.fuse]
    for sequence in sequences:
        sequence.fuse = False
    try:
        yield
    finally:
        for sequence in sequences:
            sequence.fuse = True


def sequential(layers: Iterable[nn.Module], fuse: bool) -> nn.Sequential:
    return (FusedSequential if fuse else nn.Sequential)(*layers)


def fused(first: nn.Module, second: nn.Module, x: Tensor) -> Tensor | None:
    """second(first(x)) as one operation, or None where that is not possible or not faster."""
    if isinstance(x, torch.fx.Proxy) or recorded() or transformed():
        return None
    upsampling = _upsampling(first)
    if upsampling and _same_size(second) and second.padding_mode == "zeros" and not _hooked(first, second):
        how, rule = form(upsampling, second, x), rule_of(second)
        if how == "phases":
            return phase_conv(x, second.weight, second.bias, rule, upsampling)
        if how == "transposed":
            return (nearest_conv if upsampling == "nearest" else unpool_conv)(x, second.weight, second.bias, rule)
    elif _same_size(first) and _mean(second) and not _hooked(first, second) and form("mean", first, x) == "strided":
        padded = first.pad(x) if isinstance(first, SameConv2d) else x
        own = int(first.padding[0]) if first.padding_mode == "zeros" else 0
        return conv_pool(padded, first.weight, first.bias, own)
    return None


def form(resampling: str, layer: nn.Conv2d, x: Tensor) -> str:
    """How `resampling` (nearest, unpool or mean) and `layer` are computed on x: plain, transposed, phases or strided.

    A rule by device, precision and channels alone, never a timing, so that a run repeats to the last bit. As measured on CPUs by
    `benchmarks/resampling.py` (results/benchmarks). On a GPU (results/gpu) SNGAN's step gains 14 % in IEEE fp32; in TF32 and bf16
    launching the kernels takes longer than computing them, and the fused forms have more of them.
    """
    if x.device.type not in DEVICES or (x.device.type == "cuda" and not ieee_float32_on_cuda(x)):
        return "plain"
    if resampling == "mean":
        return "strided"
    if x.device.type == "cuda":
        return "transposed"
    rule, k, narrowest = rule_of(layer), layer.kernel_size[0], min(layer.in_channels, layer.out_channels)
    leans = len(rule.groups) > 1 and rule.small != rule.large  # towards four corners
    wide = narrowest >= 96
    if not _in_bf16(x):
        wide = wide or (resampling == "unpool" and k == 2 and narrowest >= 32)
        return "phases" if wide and (resampling == "unpool" or leans) else "transposed"
    if k > 2:
        return "transposed"
    if resampling == "nearest":  # narrow ones gain nothing, but for one that paints
        return "transposed" if narrowest < 16 or (wide and not leans) else "phases" if wide else "plain"
    return "phases" if wide or (narrowest >= 32 and not leans) else "transposed"


def _in_bf16(x: Tensor) -> bool:
    """Whether a convolution of x, on a CPU, is computed in bf16."""
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
    return dtype == torch.bfloat16


def ieee_float32_on_cuda(x: Tensor) -> bool:
    """Whether a convolution of x is computed in float32 without TF32."""
    return x.dtype == torch.float32 and not torch.is_autocast_enabled("cuda") and not tf32_convolutions()


def tf32_convolutions() -> bool:
    """Whether CUDA may use TF32 in convolutions; evaluated when code is compiled."""
    cudnn: Any = torch.backends.cudnn  # whose older `allow_tf32` can't be read where somebody has set the newer switch
    return cudnn.conv.fp32_precision == "tf32"


# What torch.compiler.assume_constant_result does, without importing the compiler.
tf32_convolutions._dynamo_marked_constant = True  # pyright: ignore[reportFunctionMemberAccess]


def rule_of(layer: nn.Conv2d) -> Rule:
    """The padding of a same-size convolution."""
    if isinstance(layer, SameConv2d):
        return layer.rule
    padding = layer.kernel_size[0] // 2
    return Rule(padding, padding, ((layer.in_channels, BELOW_RIGHT),))


def _upsampling(layer: nn.Module) -> str | None:
    if isinstance(layer, Unpool):
        return "unpool" if _computes_as(layer, Unpool) else None
    doubles = isinstance(layer, nn.Upsample) and layer.mode == "nearest" and layer.scale_factor == 2 and layer.size is None
    return "nearest" if doubles and _computes_as(layer, nn.Upsample) else None


def _mean(layer: nn.Module) -> bool:
    """Whether a layer averages 2×2 pixels and drops an odd last row or column."""
    if not isinstance(layer, nn.AvgPool2d) or not _computes_as(layer, nn.AvgPool2d):
        return False
    if layer.ceil_mode or layer.divisor_override:
        return False
    sizes = (layer.kernel_size, layer.stride, layer.padding)
    return all(size in (wanted, (wanted, wanted)) for size, wanted in zip(sizes, (2, 2, 0)))


def _same_size(layer: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Whether a layer is a convolution of gan.kernels that the identities hold for."""
    if not isinstance(layer, nn.Conv2d) or not _computes_as(layer, nn.Conv2d, SameConv2d) or layer.groups != 1:
        return False
    k, *others = layer.kernel_size
    if others != [k] or not 2 <= k <= 5 or layer.stride != (1, 1) or layer.dilation != (1, 1):
        return False
    if isinstance(layer, SameConv2d):
        return type(layer).pad is SameConv2d.pad and "pad" not in vars(layer)
    return k % 2 == 1 and layer.padding == (k // 2, k // 2) and layer.padding_mode == "zeros"


def _computes_as(layer: nn.Module, *kinds: type[nn.Module]) -> bool:
    """Whether it is of one of these kinds and computes as that does, so not by a `forward` of its own."""
    if isinstance(layer, nn.Conv2d) and type(layer)._conv_forward is not nn.Conv2d._conv_forward:
        return False
    if "forward" in vars(layer) or "_conv_forward" in vars(layer):  # set on this one layer
        return False
    return isinstance(layer, kinds) and any(type(layer).forward is kind.forward for kind in kinds)


def _hooked(*layers: nn.Module) -> bool:
    """Whether somebody looks at these very layers. Hooks on all modules see the two as one: PyTorch's own counters set some."""
    return any(
        m._forward_hooks or m._forward_pre_hooks or m._backward_hooks or m._backward_pre_hooks for m in layers
    )  # fmt: skip
