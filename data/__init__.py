"""Image data sets as one uint8 tensor in memory, and the order in which training reads them."""

from data.images import DataError, ImageSet
from data.order import EpochOrder
from data.registry import NAMES, load

__all__ = ["NAMES", "DataError", "EpochOrder", "ImageSet", "load"]
