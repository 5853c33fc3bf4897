"""What people should know about their data, on stderr: each line once, and of several processes one speaks for all."""

import sys

from tqdm import tqdm

from data.files import printable
from data.workers import speaks

_said: set[str] = set()


def note(text: str) -> None:
    """Print one line to stderr, unless this process has printed it before."""
    if text not in _said and speaks():
        _said.add(text)
        tqdm.write(printable(text), file=sys.stderr)
