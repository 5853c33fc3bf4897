"""Weights from the network, once: into torch's cache, checked by their sha256."""

from pathlib import Path

import torch

from data.files import in_short
from metrics.features.network import DEFAULT, FeatureError


def downloaded(what: str, url: str, sha256: str) -> Path:
    """Where torch keeps the file of a URL; downloaded to there, without a word, if it isn't. FeatureError without network."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[1]
    if path.exists():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), hash_prefix=sha256, progress=False)
    except (OSError, RuntimeError) as error:
        raise FeatureError(
            f"the {what} weights can't be downloaded ({in_short(error)}): fetch {url} elsewhere and give it as --weights FILE "
            f"or put it at {path}, or use the built-in features {DEFAULT}, which need no download"
        ) from error
    return path
