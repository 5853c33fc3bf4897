"""The analysis of a study's runs: which converged, by how much rows differ, and which had stopped improving."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from metrics.protocol import Score, require_alike
from study.folder import StudyFolder
from study.images import covariance, wrong_images
from study.inference import (
    Difference,
    Fit,
    Values,
    against_baseline,
    exact_share,
    fit,
    half_width,
    holm,
    means,
    more_seeds,
    pair_half_width,
    spreads_differ,
    verdict,
    with_share,
)
from study.study import Row, Study, StudyError

COLLAPSED = 0.1  # diversity (study.tasks.diversity) below which a generator counts as collapsed
# Spread of its logits (study.tasks.logit_spread) below which a discriminator has given up: the gradients that it gives to the
# generator are then as small as Adam's epsilon, 1e-8, and no longer move it.
GAVE_UP = 1e-5
GUESSING = 98  # per cent of the error of naming classes at random, from which on a classifier counts as doing that
LATE = 3  # scored checkpoints, the last ones, whose distances are averaged
FLAT = 0.05  # a row is flat if its distance, at the slope of the end, changes by less than this share in a quarter of training
END = 0.4  # share of training over which that slope is taken, or the last LATE points where those reach further back
VALUE = {"gan": "distance", "classify": "test error, %"}  # what the first score of a run is called
SAME_WAY = ("samples", "real", "split", "features", "weights", "precision")  # settings that make training scores comparable


@dataclass(frozen=True)
class Comparison:
    """A row compared with another: the difference of their log distances, and the verdict."""

    row: str
    against: str
    difference: Difference
    word: str | None  # equal, better, worse; None: not resolved
    more: int | None  # seeds that would resolve it in 80 % of studies, if the difference stays what it is; None: no number would


@dataclass(frozen=True)
class Flatness:
    """Whether a row had stopped improving, from the mean slope of its runs' curves over the end of training."""

    change: Difference  # of the logarithm of the distance over a quarter of training at that slope; interval of 90 %
    word: str | None  # flat, improving, worsening; None: can't be told


@dataclass(frozen=True)
class Line:
    """One row of the table. Dictionaries are by seed, in the study's order."""

    row: Row
    facet: str  # rows of one facet are compared with each other
    short: str  # the row's name within its facet
    asked: int  # seeds
    records: list[dict]  # of the runs that are done
    problems: list[str]  # why runs didn't converge, one each
    failures: list[str]  # the last line of output of runs that ended without a result
    values: dict[int, float]  # distance of the runs that converged, averaged over their last checkpoints
    strays: dict[int, float]  # final distance of those that finished and did not converge; in no comparison
    best: dict[int, float]  # distance of the best checkpoint, of the runs that converged
    inception_like: dict[int, float]
    comparison: Comparison | None  # with the row's baseline
    flatness: Flatness | None  # None where it isn't known, and for classifiers
    instruments: dict[str, Difference]  # means over seeds, with the interval of each by itself
    floor: dict[str, float]  # the instruments on the real images of the row's first run that was probed

    @property
    def converged(self) -> int:
        return len(self.records) - len(self.problems)

    @property
    def ended(self) -> int:
        """Runs that are done, diverged or failed."""
        return len(self.records) + len(self.failures)

    @property
    def share(self) -> tuple[float, float] | None:
        """Exact 95 % interval of the share of runs that converge; failed runs don't count."""
        return exact_share(self.converged, len(self.records)) if self.records else None

    @property
    def model(self) -> dict:
        return self.records[0]["model"] if self.records else {}


@dataclass(frozen=True)
class Group:
    """What rows of one facet share: the spread of their runs."""

    deviation: float  # of the logarithm of the distance, pooled over rows; nan where nothing is known
    freedom: int
    width: float  # the largest half-width of its simultaneous intervals; infinite where there is none
    unlike: float | None = None  # p of the test that all rows have that deviation; None where it can't be tested
    images: float | None = None  # the largest variance of a difference from the test images; None where it isn't known


@dataclass(frozen=True)
class Analysis:
    """The analysis of a study: its rows, the spread of their runs, and the declared contrasts."""

    lines: list[Line]  # facet by facet
    groups: dict[str, Group]  # by facet
    contrasts: list[Comparison]  # of the study; without those of which a row has no converged run
    averaged: bool  # whether distances are means over several checkpoints

    def line(self, label: str) -> Line:
        return next(line for line in self.lines if line.row.label == label)

    def final(self, c: Comparison) -> bool:
        """Whether both rows had stopped improving, as far as is known; classifiers end with their schedule."""
        lines = [self.line(label) for label in (c.row, c.against)]
        classifiers = all(record["task"] == "classify" for line in lines for record in line.records)
        return classifiers or all(line.flatness is not None and line.flatness.word == "flat" for line in lines)

    @property
    def records(self) -> list[dict]:
        return [record for line in self.lines for record in line.records]


def analyse(study: Study, folder: StudyFolder) -> Analysis:
    """Analyse the runs that have finished so far.

    ProtocolError if two that are compared were scored differently, StudyError if one was trained with other settings than the
    study has, or classifiers on unlike images.
    """
    folder.require_unchanged(study)
    records: dict[str, dict[int, dict]] = {row.label: {} for row in study.rows}  # by seed
    failures: dict[str, list[str]] = {row.label: [] for row in study.rows}
    probes: dict[str, dict[int, dict]] = {row.label: {} for row in study.rows}
    for job in study.jobs:
        label = job.row.label
        if record := folder.finished(study, job):
            records[label][job.seed] = record
        elif said := folder.failure(job):
            failures[label].append(f"seed {job.seed} failed: {said}")
        if probe := folder.probe(job):
            probes[label][job.seed] = probe
    if study.task == "gan":
        _require_alike(study, records)
    else:
        _require_same_images(study, folder, records)
    runs = {label: _Runs(study, own) for label, own in records.items()}
    facets: dict[str, list[Row]] = {}
    for row in study.rows:
        facets.setdefault(study.facet(row)[0], []).append(row)
    lines, groups, models = [], {}, {}
    for facet, rows in facets.items():
        own = {row.label: runs[row.label] for row in rows}
        images = covariance({label: {s: wrong_images(r) for s, r in found.converged.items()} for label, found in own.items()})
        model = fit({label: found.logarithms for label, found in own.items()}, images)
        compared, groups[facet] = _compared(study, rows, own, model, known=images is not None)
        models |= dict.fromkeys(own, model)
        flat = _flatness(study, own)
        instruments = _instruments({row.label: probes[row.label] for row in rows}, own)
        lines += [
            Line(
                row=row,
                facet=facet,
                short=study.facet(row)[1],
                asked=len(study.seeds),
                records=list(own[row.label].records.values()),
                problems=[f"seed {seed}: {why}" for seed, why in own[row.label].reasons.items() if why],
                failures=failures[row.label],
                values=own[row.label].values,
                strays=own[row.label].strays,
                best=own[row.label].scores("best", 0),
                inception_like=own[row.label].scores("last", 1),
                comparison=compared.get(row.label),
                flatness=flat.get(row.label),
                instruments=instruments[row.label],
                floor=next((probe.get("floor", {}) for probe in probes[row.label].values()), {}),
            )
            for row in rows
        ]
    contrasts = _contrasts(study, runs, models)
    return Analysis(lines, groups, contrasts, any(found.averaged for found in runs.values()))


def sizes_differ(lines: list[Line]) -> bool:
    """Whether rows differ in their parameters, by more than what rows of "equal" size are apart."""
    sizes = [line.model["parameters"] for line in lines if line.model.get("parameters")]
    return bool(sizes) and max(sizes) > 1.1 * min(sizes)


def _require_alike(study: Study, records: dict[str, dict[int, dict]]) -> None:
    """ProtocolError if scores of one facet, which are compared, were not taken alike."""
    facets: dict[str, list[Score]] = {}
    for row in study.rows:
        found = [r["last"]["scores"][0] for r in records[row.label].values() if r["status"] == "finished"]
        facets.setdefault(study.facet(row)[0], []).extend(map(Score.from_dict, found))
    for scores in facets.values():
        require_alike(scores)


def _require_same_images(study: Study, folder: StudyFolder, records: dict[str, dict[int, dict]]) -> None:
    """StudyError if classifiers of one facet, which are compared, were trained or tested on unlike images."""
    seen: dict[tuple, tuple[str, str]] = {}
    for job in study.jobs:
        record = records[job.row.label].get(job.seed)
        if record is None or record["status"] != "finished":
            continue
        card, dataset = record["last"]["scores"][0]["card"], record["config"]["dataset"]
        for what in ("train", "test"):
            # The same images have other pixels at another size.
            key, digest = (study.facet(job.row)[0], dataset["resolution"], dataset.get("crop"), what), card.get(f"{what}_sha256")
            name, other = seen.setdefault(key, (job.name, digest))
            if digest != other:
                raise StudyError(
                    f"{job.name} was {what}ed on other images than {name}, so their errors can't be compared: let dataset.path "
                    f"name the same images, and take {job.name} out of {folder.path} to train it again"
                )


class _Runs:
    """The runs of one row: which converged, and their distances."""

    def __init__(self, study: Study, records: dict[int, dict]):
        self.records = records
        self.reasons = {seed: not_converged(study, record) for seed, record in records.items()}
        self.converged = {seed: record for seed, record in records.items() if not self.reasons[seed]}
        late = {seed: late_scores(record) for seed, record in self.converged.items()}
        self.values = {seed: geometric_mean(scores) for seed, scores in late.items()}
        self.averaged = any(len(scores) > 1 for scores in late.values())
        self.strays = {
            seed: value
            for seed, record in records.items()
            if self.reasons[seed] and "last" in record and math.isfinite(value := record["last"]["scores"][0]["value"])
        }

    @property
    def logarithms(self) -> dict[int, float]:
        """Of the values. An error of 0 counts as half a test image; a distance of 0 has none."""
        images = {seed: record["last"]["scores"][0]["card"].get("test_count") for seed, record in self.converged.items()}
        least = {seed: value or (50 / images[seed] if images[seed] else 0) for seed, value in self.values.items()}
        return {seed: math.log(value) for seed, value in least.items() if value > 0}

    def scores(self, which: str, index: int) -> dict[int, float]:
        """{seed: the index-th score of the last or best checkpoint} of the converged runs that have one."""
        scored = {seed: record[which]["scores"] for seed, record in self.converged.items() if which in record}
        return {seed: scores[index]["value"] for seed, scores in scored.items() if index < len(scores)}


def not_converged(study: Study, record: dict) -> str | None:
    """Why a finished run counts as not converged; None if it does converge."""
    if record["status"] == "diverged":
        return record["why"]
    if record["diversity"] is not None and record["diversity"] < COLLAPSED:
        return f"collapsed: its images vary {record['diversity']:.1%} as much as real ones"
    spread = record.get("logit_spread", record.get("advantage"))  # older records: by how much the mean logits of both kinds differ
    if spread is not None and spread < GAVE_UP:
        what = (
            "logits of 1,000 images spread by" if "logit_spread" in record else "mean logits of real and generated images differ by"
        )
        return f"its discriminator gave up: its {what} {spread:.1g}"
    value = record["last"]["scores"][0]["value"]
    if not math.isfinite(value):
        return f"its {value_name(study)} is {value}"
    if study.task == "classify" and value >= GUESSING * (1 - 1 / len(record["last"]["scores"][0]["card"]["classes"])):
        return f"it names images as if at random: its test error is {value:.1f} %"
    if study.worse_than is not None and value > study.worse_than:
        return f"its {value_name(study)} of {value:.1f} is above {study.worse_than:g}"
    return None


def value_name(study: Study) -> str:
    """'distance', 'test error': in a sentence."""
    return VALUE[study.task].partition(",")[0]


def late_scores(record: dict) -> list[float]:
    """Distances of the last checkpoints that were scored as the table's are: one, or LATE where training took such scores."""
    last = record["last"]
    earlier = [value for step, value in curve_of(record) if step < last["step"]] if same_protocol(record) else []
    return [*earlier[1 - LATE :], last["scores"][0]["value"]]


def same_protocol(record: dict) -> bool:
    """Whether a GAN's scores in training were taken as its final ones: by the same features, of as many images, one split."""
    final, training = record["scoring"], record["config"].get("evaluate", {})
    return bool(record["curve"]) and not final["reference"] and all(training.get(key) == final[key] for key in SAME_WAY)


def geometric_mean(scores: list[float]) -> float:
    """Of distances; the plain mean where one of them is 0."""
    if len(scores) == 1:
        return scores[0]
    return math.exp(sum(map(math.log, scores)) / len(scores)) if min(scores) > 0 else sum(scores) / len(scores)


# --- differences -------------------------------------------------------------------------------------------------------------


def _compared(
    study: Study, rows: list[Row], runs: dict[str, _Runs], model: Fit, known: bool
) -> tuple[dict[str, Comparison], Group]:  # fmt: skip
    """Each row of a facet against its baseline, and what they share. known: whether what test images contribute is."""
    baseline = next((partner.label for row in rows if (partner := study.partner(row))), None)
    if baseline is None:
        return {}, Group(model.deviation, model.freedom, math.inf)
    found = against_baseline(model, baseline, list(runs))
    widths = [d.high - d.estimate for d in found.values() if d.high is not None]
    variances = {row: model.over_images(row, baseline) for row in found}
    images = max(variances.values(), default=0.0) if known else None
    group = Group(model.deviation, model.freedom, max(widths, default=math.inf), spreads_differ(model), images)
    compared = {}
    for row, d in found.items():
        width = lambda seeds, images=variances[row]: half_width(len(found), seeds, model.deviation, images)
        compared[row] = _comparison(study, row, baseline, d, runs, model, width)
    return compared, group


def _contrasts(study: Study, runs: dict[str, _Runs], models: dict[str, Fit]) -> list[Comparison]:
    """The declared contrasts, corrected for each other. models: by row, that of its facet."""
    tests = {(a.label, b.label): models[a.label].test(a.label, b.label) for a, b in study.contrast_pairs}
    known = {pair: test for pair, test in tests.items() if test is not None}
    found = []
    for (row, against), d in zip(known, holm(list(known.values()))):
        model = models[row]
        images = model.over_images(row, against)
        freedom = lambda seeds, m=model: (len(m.rows) - 1) * (seeds - 1)
        width = lambda seeds, m=model, f=freedom, i=images: pair_half_width(len(known), f(seeds), seeds, m.deviation, i)
        found.append(_comparison(study, row, against, d, runs, model, width))
    return found


def _comparison(
    study: Study, row: str, against: str, d: Difference, runs: dict[str, _Runs], model: Fit, width: Callable[[int], float]
) -> Comparison:  # fmt: skip
    """width: the half-width of the interval for a number of converged seeds."""
    word = verdict(d, study.equal_within)
    if word or d.low is None:
        return Comparison(row, against, d, word, None)
    converged = min((runs[label] for label in (row, against)), key=lambda own: len(own.converged))
    share = len(converged.converged) / len(converged.records)
    images = model.over_images(row, against)
    more = more_seeds(d.estimate, study.equal_within, len(converged.converged), model.deviation, width, images)
    return Comparison(row, against, d, None, None if more is None else with_share(more, share))


# --- flat or not -------------------------------------------------------------------------------------------------------------


def _flatness(study: Study, runs: dict[str, _Runs]) -> dict[str, Flatness]:
    """Of each row of a facet whose converged runs were scored in training. (Classifiers end with their schedule.)"""
    if study.task == "classify":
        return {}
    slopes = {
        label: {seed: s for seed, r in own.converged.items() if (s := end_slope(r)) is not None} for label, own in runs.items()
    }
    found = {}
    for label, change in means(slopes, level=0.9, pooled=True).items():  # 90 %: two one-sided tests at 5 % each
        low, high = change.low, change.high
        if low is None or high is None:
            word = None
        elif max(-low, high) < math.log(1 + FLAT):
            word = "flat"
        else:
            word = "improving" if high < 0 else "worsening" if low > 0 else None
        found[label] = Flatness(change, word)
    return found


def end_slope(record: dict) -> float | None:
    """How much the logarithm of a run's distance changes in a quarter of training, at the slope of the line through its end.

    None where it was scored fewer than LATE times, or without error.
    """
    curve = [(step, value) for step, value in curve_of(record) if value > 0]
    if len(curve) < LATE:
        return None
    last = curve[-1][0]
    end = [point for point in curve if point[0] >= (1 - END) * last]
    steps, values = np.array(end if len(end) >= LATE else curve[-LATE:]).T
    return float(np.polyfit(steps / last, np.log(values), 1)[0]) / 4


def curve_of(record: dict) -> list[tuple[int, float]]:
    """[(step, distance)] of the scores taken in training that are numbers."""
    scores = [(scored["step"], next(v for k, v in scored.items() if k != "step")) for scored in record["curve"]]
    return [(step, value) for step, value in scores if math.isfinite(value)]


# --- instruments -------------------------------------------------------------------------------------------------------------

INSTRUMENTS = (  # of a probe's record; docs/instruments.md defines them. Those with a sign keep it, so that noise averages out.
    "drift_x_px", "drift_y_px", "spread_px", "border_left_right_excess", "border_top_bottom_excess", "overlap_variation",
    "phase_gain", "phase_mean_variance", "nyquist_peaks_db", "spectrum_gap",
)  # fmt: skip


def _instruments(probes: dict[str, dict[int, dict]], runs: dict[str, _Runs]) -> dict[str, dict[str, Difference]]:
    """{row: {instrument: mean over seeds}} of a facet's finished runs, converged or not."""
    numbers = {
        label: {seed: _numbers(probe) for seed, probe in own.items() if seed in runs[label].records}
        for label, own in probes.items()
    }
    found: dict[str, dict[str, Difference]] = {label: {} for label in probes}
    for name in INSTRUMENTS:
        values: Values = {label: {seed: n[name] for seed, n in own.items() if name in n} for label, own in numbers.items()}
        for label, mean in means(values).items():
            found[label][name] = mean
    return found


def _numbers(probe: dict) -> dict[str, float]:
    """What a probe's record measured; with the signed excess of the borders over real images, which older records lack."""
    numbers, real = probe.get("numbers", {}), probe.get("real", {})
    pairs = [name for name in ("border_left_right", "border_top_bottom") if name in numbers and name in real]
    found = {f"{name}_excess": numbers[name] - real[name] for name in pairs} | numbers
    return {name: 0.0 if abs(value) < 1e-6 else value for name, value in found.items() if value is not None}  # only rounding
