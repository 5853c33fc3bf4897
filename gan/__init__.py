"""Generative adversarial networks built from even-sized convolution kernels with symmetric padding.

docs/python.md shows the names below at work. They are imported when they're first asked for, since the settings and PyTorch take
their time. Installed as `even_kernels`, this package is the layers alone: those names that stand first.
"""

from importlib import import_module

_LAYERS = {
    "FusedSequential": "fusing",
    "OneSidedConv2d": "kernels",
    "OneSidedConvTranspose2d": "kernels",
    "SymmetricConv2d": "kernels",
    "SymmetricConvTranspose2d": "kernels",
    "conv2d": "kernels",
    "conv_transpose2d": "kernels",
    "convert": "kernels",
}
_LATER = {
    **_LAYERS,
    "Config": "config",
    "UserError": "config",
    "load": "api",
    "train": "api",
}
_MODULES = ("fusing", "kernels", "padding", "zoo")  # gan.kernels.convert works after `import gan`

__all__ = [*_LATER, *_MODULES]


def __getattr__(name: str) -> object:
    """Called for what isn't here yet (PEP 562)."""
    try:
        if name in _LATER:
            return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
        if name in _MODULES:
            return import_module(f"{__name__}.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"{__name__}.{_LATER.get(name, name)}":
            raise
        raise AttributeError(f"{__name__} is the layers alone; {name} comes with a checkout of the repository") from None
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
