"""Scores of generated images, each with a card that says how it was measured.

Takes uint8 images, wherever they come from. docs/python.md shows the names below in use; each is imported on first use.
"""

from importlib import import_module

_LATER = {
    "Card": "metrics.protocol",
    "Reference": "metrics.functions",
    "Score": "metrics.protocol",
    "UserError": "data.files",
    "density_coverage": "metrics.functions",
    "frechet_distance": "metrics.functions",
    "inception_score": "metrics.functions",
    "kernel_distance": "metrics.functions",
    "memorisation": "metrics.functions",
    "open_extractor": "metrics.features",
    "precision_recall": "metrics.functions",
    "scores": "metrics.functions",
}

__all__ = list(_LATER)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> object:
    """Import a name on first use (PEP 562)."""
    if name not in _LATER:
        raise AttributeError(f"module 'metrics' has no attribute {name!r}")
    return getattr(import_module(_LATER[name]), name)
