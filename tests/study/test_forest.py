"""The forest plot: one axis for all rows, every interval where it belongs."""

import math
import re
from itertools import pairwise

import pytest

from study.forest import MARGIN, WIDTH, Forest
from study.inference import Difference

WIDE = Difference(math.log(1.2), math.log(0.9), math.log(1.6))


def numbers(picture, what):
    return [float(value) for value in re.findall(rf'{what}="(-?[0-9.]+)"', picture)]


def test_an_interval_lies_where_its_ends_are_on_the_axis_of_all():
    forest = Forest([WIDE, Difference(0.0, math.log(0.5), math.log(2))], equal=0.1)
    picture = forest.row(WIDE, "+20 [-10, +60] %")
    scale = (WIDTH - 2 * MARGIN) / math.log(4)
    where = lambda ratio: pytest.approx(MARGIN + scale * math.log(ratio / 0.5), abs=0.1)
    assert numbers(picture, "cx") == [where(1.2)]
    line = re.search(r'x1="([0-9.]+)" x2="([0-9.]+)" y1="13.0"', picture)
    assert [float(line[1]), float(line[2])] == [where(0.9), where(1.6)]
    band = re.search(r'<rect x="([0-9.]+)" y="0" width="([0-9.]+)"', picture)
    assert float(band[1]) == where(0.9) and float(band[1]) + float(band[2]) == where(1.1)
    assert 'aria-label="+20 [-10, +60] %"' in picture


def test_every_part_stays_within_the_picture():
    forest = Forest([Difference(2.0, -1.0, 5.0)], equal=0.1)
    for picture in (forest.row(Difference(2.0, -1.0, 5.0), ""), forest.row(None, ""), forest.axis()):
        assert all(0 <= x <= WIDTH for what in ("x1", "x2", "cx", "x") for x in numbers(picture, what))


def test_what_has_no_interval_is_a_dot_and_the_baseline_an_empty_line():
    forest = Forest([Difference(0.3)], equal=0.1)
    assert "<circle" in forest.row(Difference(0.3), "") and forest.row(Difference(0.3), "").count("<line") == 1
    assert "<circle" not in forest.row(None, "")


def test_the_axis_names_no_change_and_its_numbers_do_not_touch():
    for ends in ((0.95, 1.05), (0.5, 2.0), (0.2, 9.0)):
        forest = Forest([Difference(0.0, *(math.log(end) for end in ends))], equal=0.1)
        ticks = re.findall(r'<text x="([0-9.]+)"[^>]*>([^<]+)</text>', forest.axis())
        assert "0" in [text for _, text in ticks] and len(ticks) >= 2
        places = sorted(float(x) for x, _ in ticks)
        assert all(b - a > 30 for a, b in pairwise(places))


def test_what_a_label_holds_does_not_become_a_tag():
    assert "<b>" not in Forest([WIDE], equal=0.1).row(WIDE, "<b>")
