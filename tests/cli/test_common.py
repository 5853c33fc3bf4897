"""What commands share: how long work will take is said once."""

from cli import common
from metrics.protocol import Card, Score


class Bar:
    def __init__(self):
        self.said, self.n = [], 0

    def update(self, n):
        self.n += n

    def write(self, text, file):
        self.said.append(text)


def test_long_work_says_once_how_long_it_will_take_and_what_was_cached_does_not_count(monkeypatch):
    now = iter([0.0, 4.0, 10.0, 20.0])
    monkeypatch.setattr(common.time, "perf_counter", lambda: next(now))
    bar = Bar()
    estimate = common.Estimate(bar, "images", 61_000)
    for n in (10_000, 400, 600, 1000):
        estimate.update(n)
    assert bar.said == ["100 images a second: about 8 minutes to go"] and bar.n == 12_000


def test_work_of_unknown_length_promises_nothing(monkeypatch):
    now = iter([0.0, 10.0])
    monkeypatch.setattr(common.time, "perf_counter", lambda: next(now))
    bar = Bar()
    estimate = common.Estimate(bar, "images", None)
    estimate.update(1)
    estimate.update(1)
    assert bar.said == [] and bar.n == 2


def test_a_table_of_scores_cuts_no_name_at_80_columns(monkeypatch, capsys):
    monkeypatch.setattr(common.console, "width", 80)
    card = Card("efficientnet_lite0", "a" * 64, 224, "clean", "fp32", "images", 200, None, "images", 200)
    scores = [
        Score("fd_efficientnet_lite0", 322.7, card, interval=(301.0, 340.0)),
        Score("score_efficientnet_lite0", 3.5, card, spread=0.05, spread_of="10 splits"),
    ]
    common.print_scores({60_000: scores}, [])
    said = capsys.readouterr().err
    table = [line for line in said.splitlines() if line.startswith(("│", "┃"))]
    assert "fd_efficientnet_lite0 " in said and "score_efficientnet_lite0 " in said and "322.7" in said
    assert table and max(map(len, table)) <= 80 and "…" not in said
