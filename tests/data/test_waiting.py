"""How long work takes is said once; bars have totals."""

import pytest

from data import waiting
from data.files import UserError
from data.space import require_space


class Bar:
    def __init__(self):
        self.said, self.n, self.total = [], 0, None

    def update(self, n):
        self.n += n

    def refresh(self):
        pass

    def write(self, text, file):
        self.said.append(text)


@pytest.fixture
def clock(monkeypatch):
    def set_to(*times):
        now = iter(times)
        monkeypatch.setattr(waiting.time, "perf_counter", lambda: next(now))

    return set_to


def test_long_work_says_once_how_long_it_will_take_and_what_was_cached_does_not_count(clock):
    clock(0.0, 4.0, 10.0, 20.0)
    bar = Bar()
    estimate = waiting.Estimate(bar, "images", 61_000)
    for n in (10_000, 400, 600, 1000):
        estimate(n)
    assert bar.said == ["100 images a second: about 8 minutes to go"] and bar.n == 12_000


def test_work_of_unknown_length_promises_nothing_until_it_is_known(clock):
    clock(0.0, 10.0)
    bar = Bar()
    estimate = waiting.Estimate(bar, "images", None)
    estimate(1)
    estimate(1)
    assert bar.said == [] and bar.n == 2
    estimate.expect(103)
    estimate(1)
    assert bar.total == 103 and bar.said == ["0.2 images a second: about 8 minutes to go"]


def test_what_is_not_shown_says_nothing(clock, capsys):
    clock(0.0, 10.0)
    with waiting.progress("images", 100, "scoring", shown=False) as advance:
        advance(1)
        advance(1)
    assert capsys.readouterr().err == ""


def test_a_disk_without_room_is_told_of_a_place_that_is_yet_to_be_made(tmp_path):
    require_space(tmp_path / "new/run", 1000, "a run", "free some")
    with pytest.raises(UserError, match=r"a run takes at least [\d,]+ TiB, and .* are free on the disk of .*new/run: free some"):
        require_space(tmp_path / "new/run", 2**60, "a run", "free some")
