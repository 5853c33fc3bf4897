"""Networks that embed images for scores."""

from metrics.features.extractor import Extractor, open_extractor

__all__ = ["Extractor", "open_extractor"]
