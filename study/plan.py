"""How many seeds an answer takes: before a study begins, from the spread of another; and while it grows, from its own.

Both look at the pooled residual alone, never at the differences: whoever adds seeds until a difference shows will find one.
"""

import math
from pathlib import Path
from statistics import fmean

from study.analysis import Analysis, Line, analyse
from study.costs import read_costs
from study.folder import StudyFolder
from study.inference import half_width, percent, seeds_needed, with_share
from study.study import Study, StudyError
from study.text import markdown
from study.tuning import with_choices

WIDTHS = (0.05, 0.1, 0.2)  # of intervals, that a plan is made for


def grown(study: Study, path: Path, wanted: float, most: int) -> Study | None:
    """The study with more seeds, as many as its widest simultaneous interval needs to come down to ± `wanted` (0.1: 10 %).

    None once it has, with `most` seeds, or where nothing can be compared. At most twice the seeds there are: a deviation of few
    degrees of freedom may promise too much or too little.
    """
    there, study = len(study.seeds), with_choices(study, path)
    needed = _needed(study, analyse(study, StudyFolder(path)), math.log1p(wanted))
    target = min(most, max(2, min(needed, 2 * there)))
    if target <= there:
        return None
    taken = {*study.seeds, *(study.tune.seeds if study.tune else ())}
    new = [seed for seed in range(max(study.seeds) + 1, max(taken) + target + 2) if seed not in taken]
    return study.model_copy(update={"seeds": [*study.seeds, *new[: target - there]]})


def _needed(study: Study, analysis: Analysis, wanted: float) -> int:
    """Seeds that the widest interval needs; those there are where it needs no more; one more where nothing is known yet."""
    needed, there = 0, len(study.seeds)
    for facet, group in analysis.groups.items():
        lines = [line for line in analysis.lines if line.facet == facet and line.values]
        compared = sum(line.comparison is not None for line in lines)
        if not compared or group.width <= wanted:
            continue
        if not group.freedom:
            needed = max(needed, there + 1)
            continue
        runs = seeds_needed(lambda seeds, k=compared, d=group.deviation: half_width(k, seeds, d), wanted)
        needed = max(needed, there + 1, with_share(runs, _share(lines)))
    return needed


def _share(lines: list[Line]) -> float:
    """The smallest share of converged runs of rows that have any."""
    return min((line.converged / len(line.records) for line in lines if line.converged), default=1.0)


def width_reached(analysis: Analysis) -> float | None:
    """The widest half-width, as a share; None where no interval can be had."""
    widths = [group.width for group in analysis.groups.values() if math.isfinite(group.width)]
    return percent(max(widths)) if widths else None


def plan(study: Study, pilot: Study, path: Path, workers: int) -> str:
    """Seeds, runs and hours that a study needs for intervals of ± 5, 10 and 20 %, going by the spread of the one in folder `path`.

    StudyError if that has none.
    """
    analysis = analyse(pilot, StudyFolder(path))
    known = {facet: group for facet, group in analysis.groups.items() if group.freedom}
    if not known:
        raise StudyError(f"{path} has no two seeds of converged runs to take a spread from; give it some: compare … --seeds 0,1")
    freedom = sum(group.freedom for group in known.values())
    pooled = math.sqrt(sum(group.freedom * group.deviation**2 for group in known.values()) / freedom)
    facets: dict[str, int] = {}
    for row in study.rows:
        facet = study.facet(row)[0]
        facets[facet] = facets.get(facet, 0) + (study.partner(row) is not None)
    share, (seconds, source) = _share(analysis.lines), _seconds(study, pilot, analysis, path)
    rows = []
    for wanted in WIDTHS:
        runs = max(_seeds(k, known[f].deviation if f in known else pooled, math.log1p(wanted)) for f, k in facets.items())
        seeds = with_share(runs, share)
        count = seeds * len(study.rows) + len(study.tuning().jobs if study.tune else [])
        hours = None if seconds is None else count * seconds / 3600
        times = ["unknown"] * 2 if hours is None else [f"{hours:,.1f}", f"{hours / workers:,.1f}"]
        rows.append([f"± {wanted:.0%}", f"{seeds:,}", f"{count:,}", *times])
    at_once = f"hours, {workers} at once"
    spread = "; ".join(
        (f"{f}: " if f else "") + f"{percent(g.deviation):.1%} ({g.freedom} degrees of freedom)" for f, g in known.items()
    )
    sentences = [f"Residual deviation in {path}: {spread}."]
    if share < 1:
        sentences.append(f"Of the row there that converges least often, {share:.0%} of the runs did: more are started accordingly.")
    sentences.append(source)
    return markdown(["half-width", "seeds", "runs", "hours, one at a time", at_once], rows) + "\n\n" + " ".join(sentences)


def _seeds(rows: int, deviation: float, wanted: float) -> int:
    return seeds_needed(lambda seeds: half_width(rows, seeds, deviation), wanted) if rows else 2


def _seconds(study: Study, pilot: Study, analysis: Analysis, path: Path) -> tuple[float | None, str]:
    """Of one run, and where that is from: the pilot's records, in proportion to the length of a run; else its timed steps."""
    length = study.config(study.jobs[0]).length / pilot.config(pilot.jobs[0]).length
    if found := [r["seconds"] for r in analysis.records if "seconds" in r]:
        seconds = fmean(s["training"] * length + s["scoring"] for s in found)
        return seconds, "Hours: of training and scoring, as its runs took them."
    costs = read_costs(pilot, StudyFolder(path))
    steps = [r["last"]["step"] for r in analysis.records if "last" in r]
    if costs and steps:
        seconds = fmean(c["ms_per_step"] for c in costs.values()) / 1e3 * fmean(steps) * length
        return seconds, "Hours: of training steps alone, as they were timed there; its records hold no seconds."
    return None, "Hours are unknown: its records hold no seconds, and its steps were not timed."
