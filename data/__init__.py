"""Image data sets, as one uint8 tensor in memory or streamed from the disk, and the order in which training reads them."""

from data.images import DataError, ImageSet
from data.order import EpochOrder
from data.registry import NAMES, load
from data.streamed import Feeder, StreamedSet

__all__ = ["NAMES", "DataError", "EpochOrder", "Feeder", "ImageSet", "StreamedSet", "load"]
