"""A study's tables in text and Markdown."""

import math
import re
from statistics import fmean, stdev

from data.files import counted, printable
from study.analysis import VALUE, Analysis, Comparison, Line, sizes_differ, value_name
from study.inference import Difference, exact_share, percent
from study.notes import notes
from study.study import Study
from study.table import table_of
from study.tuning import Choice

COLUMNS = 80  # of a terminal, that instruments are read in
Text = tuple[list[str], list[list[str]]]  # headings, rows


# --- cells -------------------------------------------------------------------------------------------------------------------


def mean_std(values: dict[int, float], digits: int = 2) -> str:
    """'24.12 ± 0.47', without the spread for a single seed, '-' for none."""
    if not values:
        return "-"
    spread = f" ± {stdev(values.values()):.{digits}f}" if len(values) > 1 else ""
    return f"{fmean(values.values()):.{digits}f}{spread}"


def distance_text(line: Line, digits: int = 2) -> str:
    """'24.12 ± 0.47'; in brackets where no run converged."""
    return mean_std(line.values, digits) if line.values or not line.strays else f"({mean_std(line.strays, digits)})"


def change_text(difference: Difference) -> str:
    """'+18 [+7, +31]', in %; with a decimal where the interval is narrow."""
    low, high = difference.low, difference.high
    change = 100 * percent(difference.estimate)
    if low is None or high is None:
        return f"{change:+.0f}"
    ends = [100 * percent(end) for end in (low, high)]
    digits = 1 if ends[1] - ends[0] < 10 or min(map(abs, ends)) < 0.5 else 0  # -0.2 is not 0
    return f"{change:+.{digits}f} [{ends[0]:+.{digits}f}, {ends[1]:+.{digits}f}]"


def converged_text(line: Line) -> str:
    """'2 of 3 [9, 99] %'; with '1 to come' while runs are missing."""
    if not line.ended:
        return "-"
    share = f" [{100 * line.share[0]:.0f}, {100 * line.share[1]:.0f}] %" if line.share else ""
    failed = f", {len(line.failures)} failed" if line.failures else ""
    to_come = f", {line.asked - line.ended} to come" if line.ended < line.asked else ""
    return f"{line.converged} of {len(line.records)}{share}{failed}{to_come}"


def verdict_text(analysis: Analysis, line: Line) -> str:
    """What the evidence says of a row: 'worse so far', 'not resolved: about 4 more seeds'."""
    if line.comparison:
        return comparison_text(analysis, line.comparison)
    if line.failures and not line.records:
        return "failed"
    if line.records and not line.converged:
        return "none converged"
    return "baseline" if any(other.comparison and other.comparison.against == line.row.label for other in analysis.lines) else "-"


def _uncompared_text(study: Study, analysis: Analysis, line: Line) -> str:
    """Why a row that has a baseline is compared with nothing, though none of its runs stands in the way."""
    partner = study.partner(line.row)
    if not line.ended:
        return "no run yet"
    other = analysis.line(partner.label) if partner else None
    if other and not other.ended:
        return "no run of the baseline yet"
    if other and not other.converged:
        return "no converged baseline"
    return "no shared seed"


def comparison_text(analysis: Analysis, c: Comparison) -> str:
    if c.word:
        return c.word + ("" if analysis.final(c) else " so far")
    if c.difference.low is None:
        return "one seed: no interval" if analysis.line(c.row).asked == 1 else "too few shared seeds: no interval"
    if c.more is None:
        return "not resolved: more test images, not seeds"
    return f"not resolved: about {counted(c.more, 'more seed')}"


def summary(study: Study, analysis: Analysis) -> str:
    """One line, what is resolved first: 'Against c3. Worse so far: c4; c5. Not resolved: c2; c2sp.'"""
    words: dict[str, list[str]] = {}
    for line in analysis.lines:
        if study.partner(line.row):
            word = verdict_text(analysis, line).partition(":")[0]
            words.setdefault(_uncompared_text(study, analysis, line) if word == "-" else word, []).append(line.row.label)
    if not words:
        return "There is one row: nothing is compared."
    order = ("better", "worse", "equal", "not resolved", "one seed", "too few shared seeds")
    order += ("none converged", "no converged baseline", "no run of the baseline yet", "no shared seed", "failed", "no run yet")
    ranked = sorted(words, key=lambda word: order.index(word.removesuffix(" so far")))
    return " ".join([f"Against {study.baseline_name}.", *(f"{w.capitalize()}: {'; '.join(words[w])}." for w in ranked)])


def cells(study: Study, analysis: Analysis) -> Text:
    """The table that answers the question. Columns that no row fills are left out."""
    sizes = sizes_differ(analysis.lines)
    heads = ["", "converged", VALUE[study.task], "other test images, %", "parameters"]
    heads += [f"against {study.baseline_name}, % [95 %]", "verdict"]
    rows = [
        [
            line.row.label,
            converged_text(line),
            distance_text(line),
            _test_set(line),
            _scaled(line.model.get("parameters"), 1e3, "k") if sizes else "-",
            change_text(line.comparison.difference) if line.comparison else "-",
            verdict_text(analysis, line),
        ]
        for line in analysis.lines
    ]
    return _filled(heads, rows)


def _test_set(line: Line) -> str:
    """'[12.8, 14.1]': exact 95 % interval of a classifier's error over endless images like those of the test."""
    counts = [r["last"]["scores"][0]["card"].get("test_count") for r in line.records if "last" in r]
    if not line.values or not counts or not counts[0]:
        return "-"
    low, high = exact_share(round(fmean(line.values.values()) / 100 * counts[0]), counts[0])
    return f"[{100 * low:.1f}, {100 * high:.1f}]"


def cost_cells(study: Study, analysis: Analysis, costs: dict[str, dict]) -> Text:
    """What rows cost, and the numbers that no verdict rests on."""
    heads = ["", f"{VALUE[study.task]}, best", "score", "parameters", "multiply-adds", "executed"]
    heads += ["ms / step", "images / s", "peak memory"]
    rows = []
    for line, r in zip(analysis.lines, table_of(analysis, costs)):
        text = [line.row.label, mean_std(line.best), mean_std(line.inception_like)]
        text += [_scaled(r["parameters"], 1e3, "k"), _scaled(r["macs"], 1e6, "M"), _scaled(r["executed_macs"], 1e6, "M")]
        text += [_scaled(r["ms_per_step"], 1, ""), _scaled(r["images_per_s"], 1, ""), _scaled(r["peak_bytes"], 2**20, "MiB")]
        rows.append(text)
    return _filled(heads, rows)


def contrast_cells(analysis: Analysis) -> Text | None:
    """The contrasts; None where there are none."""
    if not analysis.contrasts:
        return None
    rows, sizes = [], sizes_differ(analysis.lines)
    for c in analysis.contrasts:
        p = "-" if c.difference.p is None else f"{c.difference.p:.3g}" if c.difference.p >= 0.001 else "< 0.001"
        own, theirs = (analysis.line(label).model.get("parameters") for label in (c.row, c.against))
        more = f"{100 * (own / theirs - 1):+.0f} %" if own and theirs and sizes else "-"
        rows.append([f"{c.row} against {c.against}", more, change_text(c.difference), p, comparison_text(analysis, c)])
    return _filled(["", "parameters", "% [95 %]", "p (Holm)", "verdict"], rows)


def tuning_cells(study: Study, tuning: list[Choice]) -> Text:
    """What each row was tried with, and chose."""
    heads = ["", *(study.tune.grid if study.tune else ()), "converged", VALUE[study.task], "chosen"]
    rows = [
        [
            choice.row,
            *(f"{value:g}" if isinstance(value, float) else str(value) for value in point.values()),
            f"{line.converged} of {len(line.records)}",
            distance_text(line),
            "chosen" if point == choice.settings else "",
        ]
        for choice in tuning
        for point, line in choice.tried
    ]
    return heads, rows


def _filled(heads: list[str], rows: list[list[str]]) -> Text:
    """Without the columns that no row fills."""
    kept = [i for i in range(len(heads)) if any(row[i] != "-" for row in rows)]
    return [heads[i] for i in kept], [[row[i] for i in kept] for row in rows]


def _scaled(value: float | None, unit: float, name: str) -> str:
    return "-" if value is None else f"{value / unit:,.0f} {name}".strip()


# --- instruments -------------------------------------------------------------------------------------------------------------

# Of study.analysis, in tables of at most three columns; docs/instruments.md defines them.
INSTRUMENTS = {
    "Where a change in the seed map lands": {
        "drift_x_px": "drift x, px", "drift_y_px": "drift y, px", "spread_px": "spread, px",
    },
    "Borders and spectrum": {
        "border_left_right_excess": "left − right", "border_top_bottom_excess": "top − bottom",
        "spectrum_gap": "spectrum gap",
    },
    "Checkerboards, in layers": {"overlap_variation": "overlap variation", "phase_gain": "phase-gain imbalance"},
    "Checkerboards, in pictures": {"phase_mean_variance": "phase-mean variance", "nyquist_peaks_db": "Nyquist peaks, dB"},
}  # fmt: skip

INSTRUMENTS_NOTE = (
    "Means over the seeds of all finished runs at the last checkpoint, ± half of the 95 % interval of each by itself (Student's t "
    "of its own seeds, since rows vary unlike); docs/instruments.md defines each. Signs are kept: drift is positive to the right "
    "(x) and down (y), left − right and top − bottom where the left or the top border has more detail than that of real images. "
    "Overlap and phase gain: 0 for layers that make no checkerboard of a constant map. The last line is what one half of the real "
    "images gives against the other."
)


def instrument_cells(analysis: Analysis) -> dict[str, Text]:
    """{title: table} of the instruments' means over seeds, and what real images have; {} where no run has been measured."""
    found = {}
    floors = [line.floor for line in analysis.lines if line.floor]
    shared = floors and all(floor == floors[0] for floor in floors)  # not where rows have data of their own
    for title, headings in INSTRUMENTS.items():
        names = [name for name in headings if any(name in line.instruments for line in analysis.lines)]
        if not names:
            continue
        rows = [[line.row.label, *(_mean_text(line.instruments.get(name)) for name in names)] for line in analysis.lines]
        real = ["real images", *(_digits(floors[0].get(name)) if shared else "-" for name in names)]
        table = ["", *(headings[name] for name in names)], rows + [real] * any(cell != "-" for cell in real[1:])
        parts = _narrow(*table)
        found |= {title if i == 0 else f"{title}, continued": part for i, part in enumerate(parts)}
    return found


def _narrow(heads: list[str], rows: list[list[str]]) -> list[Text]:
    """The table in as few parts as `COLUMNS` letters take, each with the first column; a single column may be wider."""
    widths = [max(len(line[i]) + 3 for line in (heads, *rows)) for i in range(len(heads))]  # with " | "
    groups: list[list[int]] = []
    for i in range(1, len(heads)):
        if groups and widths[0] + sum(widths[j] for j in groups[-1]) + widths[i] + 1 <= COLUMNS:
            groups[-1].append(i)
        else:
            groups.append([i])
    return [([heads[j] for j in (0, *group)], [[row[j] for j in (0, *group)] for row in rows]) for group in groups]


def _mean_text(mean: Difference | None) -> str:
    """'-2.71 ± 0.15'; without an interval where nothing varies, or one seed says nothing of it."""
    if mean is None:
        return "-"
    if mean.high is None:
        return _digits(mean.estimate)
    half = mean.high - mean.estimate
    digits = max(0, 1 - math.floor(math.log10(half)))  # two of the half-width
    return f"{mean.estimate:.{digits}f} ± {half:.{digits}f}"


def _digits(value: float | None) -> str:
    """Three digits; 0 for what is only rounding."""
    return "-" if value is None else "0" if abs(value) < 1e-6 else f"{value:.3g}"


def tuning_note(study: Study, tuning: list[Choice]) -> str:
    """How rows chose, and which had better look further."""
    seeds = study.tune.seeds if study.tune else []
    named = f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"
    text = f"Each row chose by its runs of {named}, which the tables above leave out: the most that converged, then the "
    text += f"lowest {value_name(study)}."
    unmoved = [choice.row for choice in tuning if not choice.settings]
    edges = [f"{choice.row} ({', '.join(choice.edge)})" for choice in tuning if choice.edge]
    text += f" Of these no run converged, and they keep the study's settings: {'; '.join(unmoved)}." * bool(unmoved)
    return text + f" At the edge of the grid, where a better value may lie beyond: {'; '.join(edges)}." * bool(edges)


# --- Markdown ----------------------------------------------------------------------------------------------------------------


# What Markdown, as GitHub reads it, would make something of: code, emphasis, formulas, what is struck out, the next cell; tags,
# entities, links; an underscore beside a word, but none within; and how headings, quotes and lists begin.
MEANT = re.compile(r"[\\`*$~|]|<(?=[A-Za-z/!?])|&(?=#?\w+;)|\](?=[(\[])|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|^[#>+-](?=\s)")


def escaped(text: str) -> str:
    """A text on one line of Markdown that shows as it is, whatever rows and images are called."""
    return MEANT.sub(r"\\\g<0>", printable(text))


def to_markdown(study: Study, analysis: Analysis, costs: dict[str, dict], tuning: list[Choice] | None = None) -> str:
    parts = [f"# {escaped(study.title)}", escaped(summary(study, analysis)), markdown(*cells(study, analysis))]
    if contrasts := contrast_cells(analysis):
        parts += ["## Contrasts", markdown(*contrasts)]
    parts.append("\n".join(f"- {escaped(note)}" for note in notes(study, analysis, costs)))
    heads, rows = cost_cells(study, analysis, costs)
    if len(heads) > 1:
        parts += ["## Cost, and other scores", markdown(heads, rows)]
    if tuning:
        parts += ["## Tuning", markdown(*tuning_cells(study, tuning)), f"- {escaped(tuning_note(study, tuning))}"]
    if instruments := instrument_cells(analysis):
        parts.append("## Instruments")
        parts += [f"### {title}\n\n{markdown(*table)}" for title, table in instruments.items()]
        parts.append(f"- {INSTRUMENTS_NOTE}")
    return "\n\n".join(parts) + "\n"


def markdown(heads: list[str], rows: list[list[str]]) -> str:
    """A table whose columns line up, so that a terminal shows it too."""
    text = [[escaped(cell) for cell in line] for line in (heads, *rows)]
    widths = [max(3, *(len(line[i]) for line in text)) for i in range(len(heads))]
    lines = [" | ".join([line[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(line[1:], widths[1:]))]) for line in text]
    rule = " | ".join(["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])])
    return "\n".join(f"| {line} |" for line in (lines[0], rule, *lines[1:]))
