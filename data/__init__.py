"""Image data sets, as one uint8 tensor in memory or streamed from the disk, and the order in which training reads them.

What needs PyTorch is imported when it's first asked for: looking into data, packing and exporting do without, and need not wait.
"""

from importlib import import_module

from data.images import DataError, ImageSet

_LATER = {
    "EpochOrder": "data.order",
    "Feeder": "data.streaming",
    "StreamedSet": "data.streaming",
    "load": "data.datasets",
    "look": "data.datasets",
    "names": "data.datasets",
    "register": "data.datasets",
}

__all__ = ["DataError", "EpochOrder", "Feeder", "ImageSet", "StreamedSet", "load", "look", "names", "register"]


def __getattr__(name: str) -> object:
    """Called for what isn't here yet (PEP 562)."""
    if name not in _LATER:
        raise AttributeError(f"module 'data' has no attribute {name!r}")
    return getattr(import_module(_LATER[name]), name)
