"""A study's table as people read it: cells, the sentences below, Markdown."""

from statistics import fmean, stdev

from gan.config import Config
from metrics.protocol import Score
from study.analysis import COLLAPSED, GAVE_UP, IMPROVING, VALUE, Difference, Line, falling, probe_means, table_of
from study.study import Job, Study


def definition(study: Study) -> str:
    """What 'not converged' means in this study."""
    bound = "" if study.worse_than is None else f", or whose final {VALUE[study.task]} is above {study.worse_than:g}"
    if study.task == "classify":
        return f"Not converged: a run in which a loss or weight became NaN or infinite{bound}. Those and failed runs have no score."
    last = "whose" if bound else "or whose"
    return (
        "Not converged: a run in which a loss or weight became NaN or infinite, whose 1,000 images vary (mean pixel variance) less "
        f"than {COLLAPSED:.0%} as much as real ones, {last} discriminator has given up (over the last tenth of training its mean "
        f"outputs on real and generated images differ by less than {GAVE_UP:g}){bound}. Runs that became NaN or failed have no "
        "score; others are in the means."
    )


def mean_std(values: dict[int, float], digits: int = 2) -> str:
    """'24.12 ± 0.47', without the spread for a single seed, '-' for none."""
    if not values:
        return "-"
    spread = f" ± {stdev(values.values()):.{digits}f}" if len(values) > 1 else ""
    return f"{fmean(values.values()):.{digits}f}{spread}"


def difference_text(d: Difference | None, asked: int) -> str:
    """'-1.20 [-2.01, -0.39]', with the number of pairs where there are fewer than seeds."""
    if d is None:
        return "-"
    interval = "" if d.low is None else f" [{d.low:+.2f}, {d.high:+.2f}]"
    return f"{d.mean:+.2f}{interval}" + (f" (n = {d.seeds})" if d.seeds < asked else "")


def converged_text(line: Line) -> str:
    """'2 of 3'; '1 of 1, 2 to come' while runs are missing."""
    if not line.ended:
        return "-"
    return f"{line.converged} of {line.ended}" + (f", {line.asked - line.ended} to come" if line.ended < line.asked else "")


Text = tuple[list[str], list[list[str]]]  # headings, rows


def cells(study: Study, lines: list[Line], costs: dict[str, dict]) -> Text:
    """The table that people read. Columns that no row fills are left out."""
    value = VALUE[study.task]
    heads = ["", f"{value}, final", f"{value}, best", f"final minus {study.baseline_name} [95 %]", "score", "converged"]
    heads += ["parameters", "multiply-adds", "ms / step", "images / s", "peak memory"]
    rows = []
    for line, r in zip(lines, table_of(lines, costs)):
        text = [line.row.label, mean_std(line.final), mean_std(line.best), difference_text(line.difference, line.asked)]
        text += [mean_std(line.inception_like), converged_text(line)]
        text += [_scaled(r["parameters"], 1e3, "k"), _scaled(r["macs"], 1e6, "M")]
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
    """The instruments' means over seeds, a row per line, and what real images have; None where no run has been measured."""
    found = [(line.row.label, probe_means(line)) for line in lines]
    names = [name for name in INSTRUMENTS if any(name in values for _, values in found)]
    if not names:
        return None
    floors = [line.floor for line in lines if line.floor]
    if floors and all(floor == floors[0] for floor in floors):  # not where rows have data of their own
        found.append(("real images", floors[0]))
    rows = [[label, *(_digits(values.get(name)) for name in names)] for label, values in found]
    return ["", *(INSTRUMENTS[name] for name in names)], rows


def _digits(value: float | None) -> str:
    """Three digits; 0 for what is only rounding."""
    return "-" if value is None else "0" if abs(value) < 1e-6 else f"{value:.3g}"


def _scaled(value: float | None, unit: float, name: str) -> str:
    return "-" if value is None else f"{value / unit:,.0f} {name}".strip()


def foot(study: Study, lines: list[Line], costs: dict[str, dict]) -> list[str]:
    """The sentences below the table: how it was scored, what it can't say, what didn't converge."""
    done, asked = sum(len(line.records) for line in lines), sum(line.asked for line in lines)
    names = score_names(lines)
    notes = []
    if study.task == "gan":
        notes.append(f"Distance: {names[0]}, lower is better." + (f" Score: {names[1]}, higher is better." if names[1:] else ""))
    if done < asked:
        notes.append(f"Unfinished: {done} of {asked} runs are done.")
    notes += _settled(study, lines)
    scored = next((r["last"]["scores"][0] for line in lines for r in line.records if "last" in r), None)
    if scored and study.task == "classify":
        card = scored["card"]
        notes.append(
            f"{card['epochs']} epochs in batches of {card['batch_size']}, {card['precision']}; trained on {card['train_count']:,} "
            f"images, tested on {card['test_count']:,} at the end. Mean ± standard deviation over training seeds."
        )
    elif scored:
        card, real = Score.from_dict(scored).card, _real_images(lines)
        against = ", ".join(real) + ", each row against its own" * (len(real) > 1)
        notes.append(
            f"Scores: {card.generated_count:,} images per run against {against}; features "
            f"{card.features} ({card.weights_sha256[:8]}) at {card.input_size} px, resize {card.resize}, {card.precision}; EMA "
            "weights, batch norm in eval mode. Mean ± standard deviation over training seeds."
        )
    notes += _chosen(study, lines)
    shared = "same images in the same order" + (", same latents" if study.task == "gan" else "")
    notes.append(
        f"Differences are paired by seed ({shared}); the interval is Student's t of the mean. "
        "One that holds 0 settles nothing; it is not corrected for the number of rows."
    )
    warnings = [text for line in lines for r in line.records if "last" in r for text in r["last"].get("warnings", [])]
    notes += [f"{text[0].upper()}{text[1:]}." for text in dict.fromkeys(warnings)]
    notes += _costs(study, lines, costs)
    notes.append(definition(study))
    notes += [f"{line.row.label}, {problem.rstrip('.')}." for line in lines for problem in line.problems + line.failures]
    return notes


def _real_images(lines: list[Line]) -> list[str]:
    """['cifar10-test.zip (10,000 images)']; several where rows that are not compared with each other have data of their own."""
    cards = [Score.from_dict(r["last"]["scores"][0]).card for line in lines for r in line.records if "last" in r]
    distinct = {card.real_sha256 or card.real: card for card in reversed(cards)}
    counts = [(c.real, "an unknown number of" if c.real_count is None else f"{c.real_count:,}") for c in distinct.values()]
    return [f"{name} ({count} images)" for name, count in reversed(counts)]


def _chosen(study: Study, lines: list[Line]) -> list[str]:
    """How the best checkpoint was found."""
    row = next((line.row for line in lines if line.best), None)
    config = study.config(Job(row, study.seeds[0])) if row else None
    if not isinstance(config, Config):
        return []
    e = config.evaluate
    every = f"every {e.every:,} steps" if e.every else "now and then"
    same = study.scoring.reference is None and e.split == study.scoring.split
    warning = ", the split of the table, which flatters it" if same else ""
    kind = "lowest distance" if e.best == "fid" else "highest score"
    return [
        f"Best: the checkpoint of each run with the {kind} in training ({e.features}, {e.samples:,} images, {every}) "
        f"against the {e.split} split{warning}."
    ]


def _costs(study: Study, lines: list[Line], costs: dict[str, dict]) -> list[str]:
    """Of what the columns of cost are."""
    notes = ["Parameters and multiply-adds: of the generator, per image."] * (study.task == "gan" and any(x.records for x in lines))
    if machines := dict.fromkeys(cost["machine"] for cost in costs.values() if "machine" in cost):
        notes.append(
            f"Time and memory: the fastest of a few steps, rows in turns, on {', '.join(machines)}. Images: real ones trained on. "
            "Memory: the peak above weights, optimizer state and images."
        )
    elif all(line.ended == line.asked for line in lines) and any(line.records for line in lines):
        notes.append("Time and memory were not measured: `compare` does that here at the end, without --launcher, if all rows fit.")
    return notes


def _settled(study: Study, lines: list[Line]) -> list[str]:
    """Whether the rows had stopped improving, as far as their curves say."""
    notes = []
    if any(r["config"]["train"].get("lr_decay") != "none" for line in lines for r in line.records):
        notes = ["The learning rate falls within a run, which flattens any curve: more steps may still change the order."]
    if study.task == "classify":  # whose schedule ends each run
        return notes
    known = [line for line in lines if line.settling is not None]
    if not known:
        blind = "No scores were taken in training (evaluate.every), so nothing here says whether a row had stopped improving."
        scored = any(r["curve"] for line in lines for r in line.records)
        return [*notes, blind] if any(line.final for line in lines) and not scored else notes
    rest = ", ".join(line.row.label for line in lines if line.settling is None)
    unknown = f" Not known of {rest}." if rest else ""
    span = f"over the last {max(line.end for line in known if line.end is not None):.0%} of training"
    if labels := falling(lines):
        verdict = "This table is a snapshot at equal steps, not a verdict on kernels."
        return [*notes, f"Still improving by more than {IMPROVING:.0%} {span}: {', '.join(labels)}.{unknown} {verdict}"]
    return [*notes, f"No row improved by more than {IMPROVING:.0%} {span}.{unknown}"]


def to_markdown(study: Study, lines: list[Line], costs: dict[str, dict]) -> str:
    heads, rows = cells(study, lines, costs)
    parts = [f"# {study.title}", _markdown(heads, rows), "\n".join(f"- {note}" for note in foot(study, lines, costs))]
    if instruments := instrument_cells(lines):
        parts += ["## Instruments", _markdown(*instruments), f"- {INSTRUMENTS_NOTE}"]
    return "\n\n".join(parts) + "\n"


INSTRUMENTS_NOTE = (
    "Means over seeds at the last checkpoint; docs/instruments.md defines each. Drift and spread: how far, how widely, a change "
    "in the seed map lands from its place. Overlap and phase gain: checkerboards in layers, 0 for none. The rest is of pictures: "
    "read it beside that of real images (border asymmetry and spectrum gap: of one half of them against the other)."
)


def _markdown(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def score_names(lines: list[Line]) -> list[str]:
    """The names of the scores that the runs have; ['none yet'] before any has."""
    return next(([s["name"] for s in r["last"]["scores"]] for line in lines for r in line.records if "last" in r), ["none yet"])
