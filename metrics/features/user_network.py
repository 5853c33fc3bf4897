"""Features of a user's own network: 'module:package.attribute'."""

import importlib

import torch
from torch import Tensor, nn

from metrics.features.network import IMAGENET_MEAN, IMAGENET_STD, FeatureError, Network, Options, register, state_sha256


@register("module:")
def user_network(options: Options) -> Network:
    """'module:package.attribute': whatever that callable returns, at 224 pixels unless told otherwise. No probabilities.

    It is called under seed 0, so that a network of random weights is the same network every time.
    """
    name = options.name
    if options.weights is not None:
        raise FeatureError(f"{name} loads its own weights: leave the weights file out, and read it inside that function")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = _call(name)
    if not isinstance(module, nn.Module):
        raise FeatureError(f"{name} returned {type(module).__name__}: it must return an nn.Module")
    module.float().cpu().eval()
    size = options.size or 224
    try:
        with torch.inference_mode():
            features = module(torch.zeros(2, 3, size, size))
    except (Exception, SystemExit) as error:
        raise FeatureError(f"{name} can't take images (N, 3, {size}, {size}): {_line(error)}") from error
    if isinstance(features, Tensor) and features.is_complex():
        raise FeatureError(f"{name} gives complex features, which have no distance here: return their real and imaginary parts")
    if not isinstance(features, Tensor) or features.dim() != 2 or len(features) != 2 or not features.shape[1]:
        shape = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise FeatureError(f"{name} must map (N, 3, {size}, {size}) to features (N, d), but gave {shape} for N = 2")
    return Network(
        name=name, sha256=state_sha256(module), trunk=module, dim=features.shape[1], size=size,
        resize=options.resize or "clean", mean=IMAGENET_MEAN, std=IMAGENET_STD,
    )  # fmt: skip


def _call(name: str) -> object:
    package, _, attribute = name.removeprefix("module:").rpartition(".")
    try:
        function = getattr(importlib.import_module(package), attribute)
    except (Exception, SystemExit) as error:  # whatever stands in the user's file
        raise FeatureError(f"{name} can't be imported ({_line(error)}): write module:package.function, as in an import") from error
    try:
        return function()
    except (Exception, SystemExit) as error:
        raise FeatureError(f"{name}, called without arguments, fails: {_line(error)}") from error


def _line(error: BaseException) -> str:
    exits = "it ends the program, " if isinstance(error, SystemExit) else ""
    return f"{exits}{type(error).__name__}: {' '.join(str(error).split())[:160]}"
