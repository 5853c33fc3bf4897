"""Networks that embed images for scores."""

from metrics.features.extractor import NAMES, Extractor, open_extractor

__all__ = ["NAMES", "Extractor", "open_extractor"]
