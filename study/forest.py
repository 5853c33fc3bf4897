"""Intervals as a forest plot: a line of SVG for each row of the table, all on one logarithmic axis."""

import math
from collections.abc import Iterable

from markupsafe import Markup

from study.inference import Difference

WIDTH, HEIGHT, MARGIN = 300, 26, 14  # of a row's picture, in its own units
TICKS = (-75, -50, -25, -10, 0, 10, 25, 50, 100, 200, 400)  # %


class Forest:
    """One axis for all the differences of logarithms in a table. equal: the share within which rows count as equal."""

    def __init__(self, differences: Iterable[Difference], equal: float):
        ends = [end for d in differences for end in (d.estimate, d.low, d.high) if end is not None]
        self.equal = equal
        self.low = min([math.log(1 - equal) * 1.5, *ends])
        self.high = max([math.log(1 + equal) * 1.5, *ends])

    def _x(self, value: float) -> float:
        return round(MARGIN + (value - self.low) / (self.high - self.low) * (WIDTH - 2 * MARGIN), 1)

    def _band(self, height: int) -> str:
        """The band of equality and the line of no change."""
        left, right, zero = self._x(math.log(1 - self.equal)), self._x(math.log(1 + self.equal)), self._x(0)
        band = f'<rect x="{left}" y="0" width="{round(right - left, 1)}" height="{height}" fill="#e4e4e4"/>'
        return band + f'<line x1="{zero}" x2="{zero}" y1="0" y2="{height}" stroke="#888" stroke-width="1"/>'

    def row(self, difference: Difference | None, text: str) -> Markup:
        """One row's SVG. text: its accessible label. A dot without a line has no interval; difference None: the baseline."""
        shapes, middle = [self._band(HEIGHT)], HEIGHT / 2
        if difference is not None:
            if difference.low is not None and difference.high is not None:
                a, b = self._x(difference.low), self._x(difference.high)
                shapes.append(f'<line x1="{a}" x2="{b}" y1="{middle}" y2="{middle}" stroke="#111" stroke-width="2"/>')
                ends = (f'<line x1="{x}" x2="{x}" y1="{middle - 4}" y2="{middle + 4}"' for x in (a, b))
                shapes += [f'{end} stroke="#111" stroke-width="2"/>' for end in ends]
            shapes.append(f'<circle cx="{self._x(difference.estimate)}" cy="{middle}" r="4.5" fill="#111"/>')
        return self._svg(HEIGHT, shapes, text)

    def axis(self) -> Markup:
        """The scale, in %, for the foot of the table."""
        kept: list[tuple[float, int]] = []
        for tick in sorted(TICKS, key=abs):  # 0 first; a number that would touch another is left out
            x = self._x(math.log1p(tick / 100))
            if MARGIN <= x <= WIDTH - MARGIN and all(abs(x - other) > 30 for other, _ in kept):
                kept.append((x, tick))
        return self._svg(22, [self._band(5), *(self._tick(x, tick) for x, tick in kept)], "change in percent")

    @staticmethod
    def _tick(x: float, tick: int) -> str:
        line = f'<line x1="{x}" x2="{x}" y1="0" y2="5" stroke="#555"/>'
        return line + f'<text x="{x}" y="17" text-anchor="middle" font-size="11">{f"{tick:+d}" if tick else "0"}</text>'

    @staticmethod
    def _svg(height: int, shapes: list[str], text: str) -> Markup:
        head = f'<svg class="forest" viewBox="0 0 {WIDTH} {height}" role="img"'
        return Markup(f'{head} aria-label="') + text + Markup(f'">{"".join(shapes)}</svg>')
