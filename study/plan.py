"""How many seeds a study needs: before it begins, from the spread of a pilot study; and while it grows, from its own spread.

Both use the pooled residual alone, never the differences: adding seeds until a difference shows would find one by chance.
"""

import math
from pathlib import Path
from statistics import fmean

from gan import config as gan_config
from study.analysis import Analysis, Line, analyse
from study.costs import read_costs
from study.folder import StudyFolder
from study.inference import MOST_SEEDS, half_width, percent, seeds_needed, upper_deviation, with_share
from study.study import Config, Study, StudyError
from study.tasks import open_run
from study.text import escaped, markdown
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
        runs = seeds_needed(lambda seeds, k=compared, g=group: half_width(k, seeds, g.deviation, g.images or 0.0), wanted)
        if group.images and runs >= MOST_SEEDS:  # the test images don't allow it
            continue
        needed = max(needed, there + 1, with_share(runs, _share(lines)))
    return needed


def _share(lines: list[Line]) -> float:
    """The smallest share of converged runs of rows that have any."""
    return min((line.converged / len(line.records) for line in lines if line.converged), default=1.0)


def width_reached(study: Study, analysis: Analysis) -> tuple[float | None, list[str]]:
    """The widest half-width, as a share, None where no interval can be had; and the facets that have none."""
    compared = {study.facet(row)[0] for row in study.rows if study.partner(row)}
    widths = {facet: group.width for facet, group in analysis.groups.items() if facet in compared}
    known = [width for width in widths.values() if math.isfinite(width)]
    return (percent(max(known)) if known else None), [facet for facet, width in widths.items() if not math.isfinite(width)]


def plan(study: Study, pilot: Study, path: Path, workers: int) -> str:
    """Seeds, runs and hours that a study needs for intervals of ± 5, 10 and 20 %, going by the spread of the one in folder `path`.

    StudyError if that has none, or is of another task.
    """
    if study.task != pilot.task:
        raise StudyError(f"{path} is a study of task {pilot.task}, this one of {study.task}: name a --pilot of the same task")
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
    images = max((group.images or 0.0 for group in known.values()), default=0.0)
    deviations = {f: known[f].deviation if f in known else pooled for f in facets}
    freedoms = {f: known[f].freedom if f in known else freedom for f in facets}
    share, (seconds, at_once, source) = _share(analysis.lines), _seconds(study, pilot, analysis, path, workers)
    rows = []
    for wanted in WIDTHS:
        width = math.log1p(wanted)
        needed = max(_seeds(k, deviations[f], images, width) for f, k in facets.items())
        if images and needed >= MOST_SEEDS:
            rows.append([f"± {wanted:.0%}", "none is enough", "-", "-", "-", "-"])
            continue
        seeds, upper = with_share(needed, share), {f: upper_deviation(deviations[f], freedoms[f]) for f in facets}
        surely = with_share(max(_seeds(k, upper[f], images, width) for f, k in facets.items()), share)
        count = seeds * len(study.rows) + len(study.tuning().jobs if study.tune else [])
        times = ["unknown" if s is None else f"{count * s / 3600:,.1f}" for s in (seconds, at_once)]
        rows.append([f"± {wanted:.0%}", f"{seeds:,}", f"{surely:,}", f"{count:,}", *times])
    spread = "; ".join(
        (f"{f}: " if f else "") + f"{percent(g.deviation):.1%} ({g.freedom} degrees of freedom)" for f, g in known.items()
    )
    sentences = [
        f"Residual deviation in {path}: {spread}. It is an estimate itself: 80 % sure are so many seeds as suffice if it is as "
        "large as its one-sided 80 % bound. Runs and hours are of the first number."
    ]
    if images:
        least = percent(half_width(max(facets.values()), 1000, 0.0, images)) if any(facets.values()) else 0.0
        sentences.append(f"Its test images alone leave a change uncertain by up to ± {least:.1%}, which no seed makes less.")
    if share < 1:
        sentences.append(
            f"Of the rows there with runs that converged, the one with the least has {share:.0%}: more are started accordingly."
        )
    if never := [line.row.label for line in analysis.lines if line.records and not line.converged]:
        sentences.append(f"No run converged there of {'; '.join(never)}: more seeds alone would not tell how such a row compares.")
    sentences.append(source)
    heads = ["half-width", "seeds", "80 % sure", "runs", "hours, one by one", f"{workers} at once"]
    return markdown(heads, rows) + "\n\n" + escaped(" ".join(sentences))


def _seeds(rows: int, deviation: float, images: float, wanted: float) -> int:
    return seeds_needed(lambda seeds: half_width(rows, seeds, deviation, images), wanted) if rows else 2


def _seconds(
    study: Study, pilot: Study, analysis: Analysis, path: Path, workers: int
) -> tuple[float | None, float | None, str]:  # fmt: skip
    """Of one run: by itself, where `workers` share the machine, and where that is from.

    The pilot's, with the training in proportion to its length times the multiply-adds of a step, means over rows.
    """
    own, theirs = ([s.config(job) for job in s.jobs[: len(s.rows)]] for s in (study, pilot))
    here, there = (" and ".join(dict.fromkeys(c.train.device for c in configs)) for configs in (own, theirs))
    if here != there:
        devices = f"train.device={there} there, {here} here"
        return None, None, f"Hours are unknown: the two don't train on one device ({devices})."
    more = fmean(_work(config, path) for config in own) / fmean(_work(config, path) for config in theirs)
    how = "" if 0.99 < more < 1.01 else f", times {more:.3g} for the length and multiply-adds of training"
    if found := [r["seconds"] for r in analysis.records if "seconds" in r]:
        seconds = fmean(s["training"] * more + s["scoring"] for s in found)
        return seconds, seconds / workers, f"Hours: of training and scoring, as its runs took them{how}."
    costs = read_costs(pilot, StudyFolder(path))
    steps = [r["last"]["step"] for r in analysis.records if "last" in r]
    if costs and steps:
        seconds = fmean(c["ms_per_step"] for c in costs.values()) / 1e3 * fmean(steps) * more
        return (
            seconds,
            None,
            f"Hours: of training steps alone, timed there with the machine to themselves{how}; no run's seconds are kept.",
        )
    return None, None, "Hours are unknown: its records hold no seconds, and its steps were not timed."


def _work(config: Config, path: Path) -> float:
    """Multiply-adds of training a run of these settings, up to a factor that all runs of its task share."""
    step_macs = open_run(config, path).model_facts()["step_macs"]
    # A classifier's length is in epochs, whose number of images doesn't depend on the batch.
    return step_macs * config.length / (1 if isinstance(config, gan_config.Config) else config.train.batch_size)
