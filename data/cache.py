"""Where to keep what can be made again: `cache_directory`."""

import os
import tempfile
from pathlib import Path


def cache_directory() -> Path:
    """$GAN_CACHE, else gan-scores in the user's cache directory, or in that for temporary files where there is none."""
    if os.environ.get("GAN_CACHE"):
        return Path(os.environ["GAN_CACHE"]).expanduser()
    try:
        return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "gan-scores"
    except RuntimeError:  # a user without a home, as in containers
        return Path(tempfile.gettempdir()) / "gan-scores"
