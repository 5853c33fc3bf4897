"""Generative adversarial networks built from even-sized convolution kernels with symmetric padding.

docs/python.md shows the names below in use. Each is imported on first use, since PyTorch and the settings take seconds to import.
Installed as `even_kernels`, this package has the layers alone: the names in _LAYERS, and the modules in _LAYER_MODULES.
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
    "UserError": "settings",
    "load": "api",
    "train": "api",
}
_LAYER_MODULES = ("fusing", "kernels", "padding")
_MODULES = (*_LAYER_MODULES, "zoo")  # gan.kernels.convert works after `import gan`

__all__ = [*_LATER, *_MODULES]


def __getattr__(name: str) -> object:
    """Import a name on first use (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if __name__ != "gan" and name not in (*_LAYERS, *_LAYER_MODULES):
        raise AttributeError(f"{__name__} is the layers alone; {name} comes with a checkout of the repository")
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
