"""What commands share: tables that fit, names of runs."""

from cli import common
from metrics.protocol import Card, Score


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
