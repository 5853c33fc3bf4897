"""What people should know about their data, on stderr: each line once, and of several processes one speaks for all."""

import os
import sys

from tqdm import tqdm

from data.files import printable

_said: set[str] = set()


def speaks() -> bool:
    """Whether this process tells what all of torchrun's do alike. RANK alone, which some clusters set, makes no second one."""
    return os.environ.get("RANK", "0") == "0" or os.environ.get("WORLD_SIZE", "1") in ("", "1")


def note(text: str) -> None:
    """Print one line to stderr, unless this process has printed it before."""
    if text not in _said and speaks():
        _said.add(text)
        tqdm.write(printable(text), file=sys.stderr)
