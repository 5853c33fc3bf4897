"""How long work takes: a bar on a terminal, and once in words, also where no bar can be seen."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tqdm import tqdm

from data.files import duration
from data.notes import speaks


class Estimate:
    """Called with what was done, it advances a bar, and after a few seconds says once how long the rest will take."""

    AFTER = 5.0  # seconds since the first call, which doesn't count: it may be what was cached

    def __init__(self, bar: tqdm, unit: str, total: int | None, words: bool = True):
        """words: whether the rest is said, and not only drawn."""
        self.bar, self.unit, self.total, self.words = bar, unit, total, words
        self.done, self.first, self.start = 0, 0, None

    def expect(self, total: int) -> None:
        """How much it is in all, as soon as that is known."""
        self.total = self.bar.total = total
        self.bar.refresh()

    def __call__(self, n: int) -> None:
        """So much more is done."""
        self.bar.update(n)
        self.done += n
        if self.start is None:
            self.first, self.start = self.done, time.perf_counter()
        elif self.words and self.total and (passed := time.perf_counter() - self.start) > self.AFTER:
            rate = (self.done - self.first) / passed
            left = duration(max(0, self.total - self.done) / rate)
            self.bar.write(f"{rate:.3g} {self.unit} a second: about {left} to go", file=sys.stderr)
            self.words = False


@contextmanager
def progress(unit: str, total: int | None = None, what: str = "", shown: bool = True, words: bool = True) -> Iterator[Estimate]:
    """A bar on stderr while the block lasts, of unknown length unless told; of several processes, one speaks for all.

    what: is done, said before the bar. shown: False is silent. words: whether the time to go is said once, too.
    """
    shown = shown and speaks()
    options = {"unit": f" {unit}", "unit_scale": True, "leave": False, "dynamic_ncols": True}
    with tqdm(total=total, desc=what or None, disable=None if shown else True, **options) as bar:
        yield Estimate(bar, unit, total, words and shown)
