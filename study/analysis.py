"""From the records of a study's runs to numbers: means over training seeds, paired differences, and what didn't converge."""

import csv
import io
import json
import math
from dataclasses import dataclass
from statistics import fmean, stdev

import numpy as np
from scipy import stats

from metrics.protocol import Score, require_alike
from study.folder import StudyFolder
from study.study import Row, Study

COLLAPSED = 0.1  # diversity (study.tasks.diversity) below which a generator counts as collapsed
GAVE_UP = 1e-3  # advantage (study.tasks.advantage) below which a discriminator has given up
IMPROVING = 0.05  # a score that fell by more than this share over the last quarter of training, or a bit more, has not settled
VALUE = {"gan": "distance", "classify": "test error, %"}  # what the first score of a run is called


@dataclass(frozen=True)
class Difference:
    """Paired over seeds: this row minus its partner. low, high: 95 % interval of the mean (Student's t); None for one seed."""

    against: str
    mean: float
    low: float | None
    high: float | None
    seeds: int


@dataclass(frozen=True)
class Line:
    """One row of the table. Lists are by seed, in the study's order; what a run doesn't have is None."""

    row: Row
    facet: str  # rows of one facet are compared with each other
    short: str  # the row's name within its facet
    asked: int  # seeds
    records: list[dict]  # of the runs that are done
    problems: list[str]  # why runs didn't converge, one each
    failures: list[str]  # what runs that ended without a result said last
    final: dict[int, float]  # seed -> distance of the last checkpoint
    best: dict[int, float]  # seed -> distance of the best checkpoint
    inception_like: dict[int, float]
    difference: Difference | None
    settling: float | None  # mean share by which the score of converged runs fell over the end of training
    end: float | None  # which share of training that end is: the last quarter, or what scores there are say
    floor: dict[str, float]  # the instruments on the real images of the row's first run that was probed

    @property
    def converged(self) -> int:
        return len(self.records) - len(self.problems)

    @property
    def ended(self) -> int:
        """Runs that are done, diverged or failed."""
        return len(self.records) + len(self.failures)

    @property
    def model(self) -> dict:
        return self.records[0]["model"] if self.records else {}


def lines_of(study: Study, folder: StudyFolder) -> list[Line]:
    """The study's rows with what their runs have left so far, facet by facet.

    ProtocolError if two that are compared were scored differently, StudyError if one was trained with other settings than the
    study has.
    """
    folder.require_unchanged(study)
    records: dict[str, dict[int, dict]] = {row.label: {} for row in study.rows}  # by seed
    failures: dict[str, list[str]] = {row.label: [] for row in study.rows}
    floors: dict[str, dict[str, float]] = {row.label: {} for row in study.rows}
    for job in study.jobs:
        label = job.row.label
        if record := folder.finished(study, job):
            records[label][job.seed] = record
        elif said := folder.failure(job):
            failures[label].append(f"seed {job.seed} failed: {said}")
        floors[label] = floors[label] or folder.floor(job)
    if study.task == "gan":
        _require_alike(study, records)
    lines = [_line(study, row, records, failures[row.label], floors[row.label]) for row in study.rows]
    facets = list(dict.fromkeys(line.facet for line in lines))
    return sorted(lines, key=lambda line: facets.index(line.facet))


def _require_alike(study: Study, records: dict[str, dict[int, dict]]) -> None:
    """ProtocolError if scores of one facet, which are compared, were not taken alike."""
    facets: dict[str, list[Score]] = {}
    for row in study.rows:
        found = [r["last"]["scores"][0] for r in records[row.label].values() if r["status"] == "finished"]
        facets.setdefault(study.facet(row)[0], []).extend(map(Score.from_dict, found))
    for scores in facets.values():
        require_alike(scores)


def _line(
    study: Study, row: Row, records: dict[str, dict[int, dict]], failures: list[str], floor: dict[str, float]
) -> Line:  # fmt: skip
    own = records[row.label]
    reasons = {seed: not_converged(study, record) for seed, record in own.items()}
    settling, end = _settling([record for seed, record in own.items() if not reasons[seed]])
    partner = study.partner(row)
    facet, short = study.facet(row)
    final = _values(own, "last", 0)
    return Line(
        row=row,
        facet=facet,
        short=short,
        asked=len(study.seeds),
        records=list(own.values()),
        problems=[f"seed {seed}: {why}" for seed, why in reasons.items() if why],
        failures=failures,
        final=final,
        best=_values(own, "best", 0),
        inception_like=_values(own, "last", 1),
        difference=paired_difference(final, _values(records[partner.label], "last", 0), partner.label) if partner else None,
        settling=settling,
        end=end,
        floor=floor,
    )


def _values(records: dict[int, dict], which: str, index: int) -> dict[int, float]:
    """{seed: the index-th score of the last or best checkpoint} of the runs that have one."""
    scored = {seed: record[which]["scores"] for seed, record in records.items() if which in record}
    return {seed: scores[index]["value"] for seed, scores in scored.items() if index < len(scores)}


def not_converged(study: Study, record: dict) -> str | None:
    """Why a finished run counts as not converged; None if it does converge."""
    if record["status"] == "diverged":
        return record["why"]
    if record["diversity"] is not None and record["diversity"] < COLLAPSED:
        return f"collapsed: its images vary {record['diversity']:.1%} as much as real ones"
    if record.get("advantage") is not None and record["advantage"] < GAVE_UP:
        return f"its discriminator gave up: its outputs on real and generated images differ by {record['advantage']:.1g}"
    value = record["last"]["scores"][0]["value"]
    if not math.isfinite(value):
        return f"its {VALUE[study.task]} is {value}"
    if study.worse_than is not None and value > study.worse_than:
        return f"its {VALUE[study.task]} of {value:.1f} is above {study.worse_than:g}"
    return None


def paired_difference(ours: dict[int, float], theirs: dict[int, float], against: str) -> Difference | None:
    """The mean over shared seeds of ours - theirs, with its 95 % interval; None without a shared seed."""
    shared = sorted(set(ours) & set(theirs))
    if not shared:
        return None
    differences = np.array([ours[seed] - theirs[seed] for seed in shared])
    if len(shared) == 1:
        return Difference(against, float(differences[0]), None, None, 1)
    half = stats.t.ppf(0.975, len(shared) - 1) * differences.std(ddof=1) / np.sqrt(len(shared))
    mean = float(differences.mean())
    return Difference(against, mean, float(mean - half), float(mean + half), len(shared))


def _settling(records: list[dict]) -> tuple[float | None, float | None]:
    """1 - score at the end / score at three quarters of training, as scored in training, averaged over runs; and the share of
    training between the two, which is a quarter only where a score was taken there."""
    falls, shares = [], []
    for record in records:
        curve = curve_of(record)
        last = max((step for step, _ in curve), default=0)
        earlier = [(step, value) for step, value in curve if step <= 0.75 * last]
        if earlier and earlier[-1][1]:  # a classifier may be without error
            falls.append(1 - curve[-1][1] / earlier[-1][1])
            shares.append(1 - earlier[-1][0] / last)
    return (fmean(falls), max(shares)) if falls else (None, None)


def falling(lines: list[Line]) -> list[str]:
    """The rows that were still improving when training ended."""
    return [line.row.label for line in lines if line.settling is not None and line.settling > IMPROVING]


def better(study: Study, lines: list[Line]) -> list[bool]:
    """Which rows are better than the one they are compared with: the interval lies below 0, and in both rows all runs are done and
    have converged, and scores taken in training say that they had stopped improving. (Classifiers end with their schedule.)"""
    by_label = {line.row.label: line for line in lines}

    def settled(line: Line) -> bool:
        flat = study.task == "classify" or (line.settling is not None and line.settling <= IMPROVING)
        return flat and line.converged == line.asked

    def is_better(line: Line) -> bool:
        d = line.difference
        return d is not None and d.high is not None and d.high < 0 and settled(line) and settled(by_label[d.against])

    return [is_better(line) for line in lines]


def curve_of(record: dict) -> list[tuple[int, float]]:
    """[(step, distance)] of the scores taken in training."""
    return [(scored["step"], next(v for k, v in scored.items() if k != "step")) for scored in record["curve"]]


def table_of(lines: list[Line], costs: dict[str, dict]) -> list[dict]:
    """One flat dict of plain values per row: what goes into table.csv and the cells of table.md."""
    table = []
    for line in lines:
        d = line.difference
        cost = costs.get(line.row.label, {})
        table.append(
            {
                "row": line.row.label,
                "final_mean": _mean(line.final),
                "final_std": _std(line.final),
                "best_mean": _mean(line.best),
                "best_std": _std(line.best),
                "difference": d.mean if d else None,
                "difference_low": d.low if d else None,
                "difference_high": d.high if d else None,
                "against": d.against if d else None,
                "pairs": d.seeds if d else None,
                "inception_like_mean": _mean(line.inception_like),
                "inception_like_std": _std(line.inception_like),
                "runs": len(line.records),
                "failed": len(line.failures),
                "converged": line.converged,
                "asked": line.asked,
                "still_falling": line.settling,
                **{key: line.model.get(key) for key in ("parameters", "macs", "step_macs")},
                **{key: cost.get(key) for key in ("ms_per_step", "images_per_s", "peak_bytes")},
                **probe_means(line),
            }
        )
    return table


def _mean(values: dict[int, float]) -> float | None:
    return fmean(values.values()) if values else None


def _std(values: dict[int, float]) -> float | None:
    return stdev(values.values()) if len(values) > 1 else None


def probe_means(line: Line) -> dict[str, float]:
    """Means over seeds of the instruments' headline numbers, where the runs have them."""
    probes = [r["probe"] for r in line.records if r.get("probe")]
    names = dict.fromkeys(name for p in probes for name in p)  # a dead generator has no drift
    return {name: fmean(p[name] for p in probes if name in p) for name in names}


def to_csv(table: list[dict]) -> str:
    columns = list(dict.fromkeys(key for row in table for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return text.getvalue()


def to_json(study: Study, lines: list[Line], table: list[dict], costs: dict) -> str:
    """Everything: the study, its table, and each run's scores with their cards."""
    runs = [{k: r[k] for k in r if k not in ("config", "curve")} for line in lines for r in line.records]
    return json.dumps({"study": study.dump(), "table": table, "costs": costs, "runs": runs}, indent=1) + "\n"
