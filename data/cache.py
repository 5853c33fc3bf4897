"""Where to keep what can be made again: `cache_directory`."""

import os
from pathlib import Path


def cache_directory() -> Path:
    """$GAN_CACHE, else gan-scores in the user's cache directory."""
    if os.environ.get("GAN_CACHE"):
        return Path(os.environ["GAN_CACHE"]).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "gan-scores"
