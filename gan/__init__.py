"""Generative adversarial networks built from even-sized convolution kernels with symmetric padding.

docs/python.md shows the names below in use. Each is imported on first use, since PyTorch and the settings take seconds to import.
Installed as `even_kernels`, this package holds the layers alone: the names in _LAYERS.
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
    """Import a name on first use (PEP 562)."""
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
