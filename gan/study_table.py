"""From the results of a study's runs to one table: means over training seeds, paired differences, and what didn't converge."""

import csv
import io
import json
from dataclasses import dataclass
from statistics import fmean, stdev

import numpy as np
from scipy import stats

from gan.study import Row, Study, StudyFolder, baseline_name, facet_of, jobs_of, partner_of, rows_of
from metrics.protocol import Score, require_alike

COLLAPSED = 0.1  # diversity (gan.study_job.diversity) below which a generator counts as collapsed
IMPROVING = 0.05  # a score that fell by more than this share over the last quarter of training has not settled


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
    results: list[dict]  # of the runs that are done
    problems: list[str]  # why runs didn't converge, one each
    final: dict[int, float]  # seed -> distance of the last checkpoint
    best: dict[int, float]  # seed -> distance of the best checkpoint
    inception_like: dict[int, float]
    difference: Difference | None
    settling: float | None  # mean share by which the score fell over the last quarter of training

    @property
    def converged(self) -> int:
        return len(self.results) - len(self.problems)

    @property
    def model(self) -> dict:
        return self.results[0]["model"] if self.results else {}


def lines_of(study: Study, folder: StudyFolder) -> list[Line]:
    """The study's rows with what their runs have left so far. ProtocolError if two of them were scored differently."""
    results: dict[str, dict[int, dict]] = {row.label: {} for row in rows_of(study)}
    for job in jobs_of(study):
        if folder.done(study, job):
            results[job.row.label][job.seed] = folder.result(job)
    found = [r["last"]["scores"][0] for row in results.values() for r in row.values() if r["status"] == "finished"]
    require_alike([Score.from_dict(record) for record in found])
    finals = {label: _values(found, "last", 0) for label, found in results.items()}
    lines = [_line(study, row, results[row.label], finals) for row in rows_of(study)]
    facets = list(dict.fromkeys(line.facet for line in lines))
    return sorted(lines, key=lambda line: facets.index(line.facet))


def _line(study: Study, row: Row, results: dict[int, dict], finals: dict[str, dict[int, float]]) -> Line:
    problems = [f"seed {seed}: {why}" for seed, result in results.items() if (why := not_converged(study, result))]
    partner = partner_of(study, row)
    facet, short = facet_of(study, row)
    return Line(
        row=row,
        facet=facet,
        short=short,
        asked=len(study.seeds),
        results=list(results.values()),
        problems=problems,
        final=finals[row.label],
        best=_values(results, "best", 0),
        inception_like=_values(results, "last", 1),
        difference=paired_difference(finals[row.label], finals[partner.label], partner.label) if partner else None,
        settling=_settling(results),
    )


def _values(results: dict[int, dict], which: str, index: int) -> dict[int, float]:
    """{seed: the index-th score of the last or best checkpoint} of the runs that have one."""
    scored = {seed: result[which]["scores"] for seed, result in results.items() if which in result}
    return {seed: scores[index]["value"] for seed, scores in scored.items() if index < len(scores)}


def not_converged(study: Study, result: dict) -> str | None:
    """Why a finished run counts as not converged; None if it does converge."""
    if result["status"] == "diverged":
        return result["why"]
    if result["diversity"] is not None and result["diversity"] < COLLAPSED:
        return f"collapsed: its images vary {result['diversity']:.1%} as much as real ones"
    distance = result["last"]["scores"][0]["value"]
    if study.worse_than is not None and distance > study.worse_than:
        return f"its distance of {distance:.1f} is above {study.worse_than:g}"
    return None


def definition(study: Study) -> str:
    """What 'not converged' means in this study."""
    bound = "" if study.worse_than is None else f", or whose final distance is above {study.worse_than:g}"
    return (
        "Not converged: a run in which a loss or weight became NaN or infinite, whose 1,000 images vary (mean pixel variance) less "
        f"than {COLLAPSED:.0%} as much as real ones{bound}. Runs that became NaN have no score; all others are in the means."
    )


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


def _settling(results: dict[int, dict]) -> float | None:
    """1 - score at the end / score at three quarters of training, as scored in training, averaged over seeds."""
    falls = []
    for result in results.values():
        curve = curve_of(result)
        earlier = [value for step, value in curve if step <= 0.75 * result["steps"]]
        if earlier and curve[-1][0] > 0.75 * result["steps"]:
            falls.append(1 - curve[-1][1] / earlier[-1])
    return fmean(falls) if falls else None


def curve_of(result: dict) -> list[tuple[int, float]]:
    """[(step, distance)] of the scores taken in training."""
    return [(r["step"], next(v for k, v in r.items() if k != "step")) for r in result["curve"]]


def mean_std(values: dict[int, float], digits: int = 2) -> str:
    """'24.12 ± 0.47', without the spread for a single seed, '-' for none."""
    if not values:
        return "-"
    spread = f" ± {stdev(values.values()):.{digits}f}" if len(values) > 1 else ""
    return f"{fmean(values.values()):.{digits}f}{spread}"


def difference_text(d: Difference | None) -> str:
    if d is None:
        return "-"
    return f"{d.mean:+.2f}" if d.low is None else f"{d.mean:+.2f} [{d.low:+.2f}, {d.high:+.2f}]"


def records(lines: list[Line], costs: dict[str, dict]) -> list[dict]:
    """One flat record of plain values per row: what goes into table.csv and the cells of table.md."""
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
                "inception_like_mean": _mean(line.inception_like),
                "inception_like_std": _std(line.inception_like),
                "runs": len(line.results),
                "converged": line.converged,
                "asked": line.asked,
                "still_falling": line.settling,
                **{key: line.model.get(key) for key in ("generator_parameters", "generator_macs", "step_macs")},
                **{key: cost.get(key) for key in ("ms_per_step", "images_per_s", "peak_bytes")},
                **_probe_means(line),
            }
        )
    return table


def _mean(values: dict[int, float]) -> float | None:
    return fmean(values.values()) if values else None


def _std(values: dict[int, float]) -> float | None:
    return stdev(values.values()) if len(values) > 1 else None


def _probe_means(line: Line) -> dict[str, float]:
    """Means over seeds of the instruments' headline numbers, where the runs have them."""
    probes = [r["probe"] for r in line.results if r.get("probe")]
    return {key: fmean(p[key] for p in probes) for key in (probes[0] if probes else {})}


def to_csv(table: list[dict]) -> str:
    columns = list(dict.fromkeys(key for record in table for key in record))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return text.getvalue()


def to_json(study: Study, lines: list[Line], table: list[dict], costs: dict) -> str:
    """Everything: the study, its table, and each run's scores with their cards."""
    runs = [{k: r[k] for k in r if k not in ("config", "curve")} for line in lines for r in line.results]
    return json.dumps({"study": study.model_dump(), "table": table, "costs": costs, "runs": runs}, indent=1) + "\n"


Text = tuple[list[str], list[list[str]]]  # headings, rows


def cells(study: Study, lines: list[Line], costs: dict[str, dict]) -> Text:
    """The table that people read. Columns that no row fills are left out."""
    heads = ["", "distance, final", "distance, best", f"final minus {baseline_name(study)} [95 %]", "score", "converged"]
    heads += ["G parameters", "G multiply-adds", "ms / step", "images / s", "peak memory"]
    rows = []
    for line, r in zip(lines, records(lines, costs)):
        text = [line.row.label, mean_std(line.final), mean_std(line.best), difference_text(line.difference)]
        text += [mean_std(line.inception_like), f"{line.converged} of {len(line.results)}"]
        text += [_scaled(r["generator_parameters"], 1e3, "k"), _scaled(r["generator_macs"], 1e6, "M")]
        text += [_scaled(r["ms_per_step"], 1, ""), _scaled(r["images_per_s"], 1, ""), _scaled(r["peak_bytes"], 2**20, "MiB")]
        rows.append(text)
    kept = [i for i in range(len(heads)) if any(row[i] != "-" for row in rows)]
    return [heads[i] for i in kept], [[row[i] for i in kept] for row in rows]


INSTRUMENTS = {  # of gan.probe.summary; docs/instruments.md defines them
    "drift_px": "drift, px",
    "spread_px": "spread, px",
    "border_asymmetry_excess": "border asymmetry over real",
    "overlap_variation": "overlap variation",
    "phase_gain": "phase-gain imbalance",
    "phase_mean_variance": "phase-mean variance",
    "nyquist_peaks_db": "Nyquist peaks, dB",
    "spectrum_gap": "spectrum gap",
}


def instrument_cells(lines: list[Line]) -> Text | None:
    """The instruments' means over seeds, a row per line; None where no run has been measured."""
    found = [(line.row.label, _probe_means(line)) for line in lines]
    names = [name for name in INSTRUMENTS if any(name in values for _, values in found)]
    if not names:
        return None
    rows = [[label, *(f"{values[name]:.3g}" if name in values else "-" for name in names)] for label, values in found]
    return ["", *(INSTRUMENTS[name] for name in names)], rows


def _scaled(value: float | None, unit: float, name: str) -> str:
    return "-" if value is None else f"{value / unit:,.0f} {name}".strip()


def foot(study: Study, lines: list[Line]) -> list[str]:
    """The sentences below the table: how it was scored, what it can't say, what didn't converge."""
    done, asked = sum(len(line.results) for line in lines), sum(line.asked for line in lines)
    names = score_names(lines)
    notes = [f"Distance: {names[0]}, lower is better." + (f" Score: {names[1]}, higher is better." if len(names) > 1 else "")]
    if done < asked:
        notes.append(f"Unfinished: {done} of {asked} runs are done.")
    falling = [line.row.label for line in lines if line.settling is not None and line.settling > IMPROVING]
    if falling:
        notes.append(
            f"Still improving by more than {IMPROVING:.0%} over the last quarter of training: {', '.join(falling)}. "
            "This table is a snapshot at equal steps, not a verdict on kernels."
        )
    elif any(line.settling is not None for line in lines):
        notes.append(f"No row improved by more than {IMPROVING:.0%} over the last quarter of training.")
    card = next((Score.from_dict(r["last"]["scores"][0]).card for line in lines for r in line.results if "last" in r), None)
    if card:
        notes.append(
            f"Scores: {card.generated_count:,} images per run against {card.real} ({card.real_count:,} images); features "
            f"{card.features} ({card.weights_sha256[:8]}) at {card.input_size} px, resize {card.resize}, {card.precision}; EMA "
            "weights, batch norm in eval mode. Mean ± standard deviation over training seeds."
        )
    notes.append(
        "Differences are paired by seed (same images in the same order, same latents); the interval is Student's t of the mean. "
        "One that holds 0 shows no difference."
    )
    notes.append(definition(study))
    notes += [f"{line.row.label}, {problem}." for line in lines for problem in line.problems]
    return notes


def to_markdown(study: Study, lines: list[Line], costs: dict[str, dict]) -> str:
    heads, rows = cells(study, lines, costs)
    parts = [f"# {study.title}", _markdown(heads, rows), "\n".join(f"- {note}" for note in foot(study, lines))]
    if instruments := instrument_cells(lines):
        parts += ["## Instruments", _markdown(*instruments), f"- {INSTRUMENTS_NOTE}"]
    return "\n\n".join(parts) + "\n"


INSTRUMENTS_NOTE = (
    "Means over seeds at the last checkpoint; docs/instruments.md defines each. Drift and spread: how far, how widely, a change "
    "in the seed map lands from its place. Overlap, phase gain and phase mean: checkerboards in layers and pictures, 0 for none."
)


def _markdown(heads: list[str], rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in [heads, ["---", *["---:"] * (len(heads) - 1)], *rows])


def score_names(lines: list[Line]) -> list[str]:
    """The names of the scores that the runs have; ['none yet'] before any has."""
    return next(([s["name"] for s in r["last"]["scores"]] for line in lines for r in line.results if "last" in r), ["none yet"])
