"""Printing never stops a computation: standard error may be closed, full, or a pipe that nobody reads."""

import contextlib
import os
import select
import stat
import sys
from collections.abc import Iterator
from typing import Any, TextIO

PATIENCE = 1000  # milliseconds that a reader has; one that didn't read then isn't waited for again until it does


def open_closed() -> None:
    """Open standard streams that the shell closed (2>&-) to /dev/null: else the next file opened would get C libraries' output."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", closefd=False)


open_closed()  # with the command line's own import, before anything else is opened


class Forgiving:
    """A stream to write text to, without its errors, and without waiting for a pipe that nobody empties."""

    def __init__(self, stream: TextIO):
        self._stream, self._patience = stream, PATIENCE
        self._poll = None
        with contextlib.suppress(OSError, ValueError, AttributeError):  # a stream of a test's has no number
            mode = os.fstat(stream.fileno()).st_mode
            if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
                self._poll = select.poll()
                self._poll.register(stream.fileno(), select.POLLOUT)

    def write(self, text: str) -> int:
        """As of any stream; the text is lost where it can't be written."""
        with contextlib.suppress(OSError, ValueError):
            if self._heard():
                self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """As of any stream."""
        with contextlib.suppress(OSError, ValueError):
            if self._heard():
                self._stream.flush()

    def _heard(self) -> bool:
        if self._poll is None:
            return True
        ready = bool(self._poll.poll(self._patience))
        self._patience = PATIENCE if ready else 0
        return ready

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def forgiving_stderr() -> Iterator[None]:
    """Within the block, errors of writing to standard error are ignored."""
    before = sys.stderr
    sys.stderr = Forgiving(before)
    try:
        yield
    finally:
        sys.stderr = before
