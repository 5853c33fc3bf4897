"""The sentences below a study's table: how it was scored and analysed, what it can't say, where its runs come from."""

from data.files import counted
from gan.config import Config
from metrics.protocol import Score
from study.analysis import COLLAPSED, FLAT, GAVE_UP, GUESSING, Analysis, same_protocol, value_name
from study.inference import percent
from study.study import Job, Study


def notes(study: Study, analysis: Analysis, costs: dict[str, dict]) -> list[str]:
    """The sentences below the table: how it was scored and analysed, what it can't say, what didn't converge."""
    lines = analysis.lines
    done, asked = len(analysis.records), sum(line.asked for line in lines)
    found = [f"Unfinished: {done} of {asked} runs are done."] if done < asked else []
    found += _scoring(study, analysis)
    found += _compared(study, analysis)
    found += _curves(study, analysis)
    found += _chosen(study, analysis)
    warnings = [text for r in analysis.records if "last" in r for text in r["last"].get("warnings", [])]
    found += [f"{text[0].upper()}{text[1:]}." for text in dict.fromkeys(warnings)]
    found += _costs(study, analysis, costs)
    found += _provenance(analysis)
    found.append(definition(study, older=any(r.get("advantage") is not None and "logit_spread" not in r for r in analysis.records)))
    found += [f"{line.row.label}, {problem.rstrip('.')}." for line in lines for problem in line.problems + line.failures]
    return found


def _scoring(study: Study, analysis: Analysis) -> list[str]:
    names = score_names(analysis)
    first = next((r["last"]["scores"][0] for r in analysis.records if "last" in r), None)
    if study.task == "classify":
        if first is None:
            return []
        cards = [r["last"]["scores"][0]["card"] for r in analysis.records if "last" in r]
        all_of = lambda key: " or ".join(dict.fromkeys(f"{c[key]:,}" if isinstance(c[key], int) else c[key] for c in cards))
        return [
            f"{all_of('epochs')} epochs in batches of {all_of('batch_size')}, {all_of('precision')}; trained on "
            f"{all_of('train_count')} images, tested on {all_of('test_count')} at the end. Mean ± standard deviation over training "
            "seeds.",
            "Other test images: the exact 95 % interval of a row's mean error over endless images like those tested.",
            *_test_images(analysis),
        ]
    averaged = "the last three scored checkpoints (geometric mean)" if analysis.averaged else "the last checkpoint"
    score = f" Score: {names[1]}, higher is better." if names[1:] else ""
    found = [f"Distance: {names[0]}, lower is better; of {averaged}; mean ± standard deviation over converged seeds.{score}"]
    if any(line.strays and not line.values for line in analysis.lines):
        found.append("In brackets: of runs that did not converge, which no comparison uses.")
    if first:
        card, real = Score.from_dict(first).card, _real_images(analysis)
        against = ", ".join(real) + ", each row against its own" * (len(real) > 1)
        found.append(
            f"Scores: {card.generated_count:,} images per run against {against}; features {card.features} "
            f"({card.weights_sha256[:8]}) at {card.input_size} px, resize {card.resize}, {card.precision}; EMA weights, batch norm "
            "in eval mode."
        )
    return found


def _compared(study: Study, analysis: Analysis) -> list[str]:
    """How rows are compared, once any are."""
    lines = analysis.lines
    compared = [line.comparison for line in lines if line.comparison]
    if not compared:
        return []
    what = "test errors" if study.task == "classify" else "distances"
    found = [
        f"Changes are ratios of {what}, of the runs that converged: their logarithms follow row + seed, with one deviation for all "
        f"rows that share a baseline ({_deviations(analysis)})."
        + " The intervals hold for all of these rows at once (Dunnett, 95 %)."
        * any(c.difference.low is not None for c in compared)
    ]
    unlike = {name: group.unlike for name, group in analysis.groups.items() if group.unlike is not None and group.unlike < 0.05}
    if unlike:
        where = "; ".join(f"{name}: p = {p:.2g}" if name else f"p = {p:.2g}" for name, p in unlike.items())
        found.append(
            f"The rows' spreads differ (Bartlett's test, {where}), which one deviation for all doesn't know: intervals of the "
            "noisier rows hold less often than they say."
        )
    if any(line.problems for line in lines if line.values):
        found.append("Runs that did not converge are in no ratio, and were the worse ones: a row that lost some looks too good.")
    band = f"{100 * study.equal_within:g} %"
    found.append(
        f"Equal: the whole interval lies within ± {band}. Better, worse: it is clear of 0. Else not resolved; with so many more "
        "seeds it would be in 80 % of studies, if the change is what it seems. Start them for all rows: seeds that are added "
        "because a change nearly shows make one show too often."
    )
    if any(c.word and not analysis.final(c) for c in [*compared, *analysis.contrasts]):
        found.append("So far: at this many steps, since one of the two rows is not known to have stopped improving.")
    if analysis.contrasts:
        which = "each symmetric kernel against its one-sided twin" if study.contrasts is None else "those of the study's file"
        found.append(
            f"Contrasts: {which}. p is corrected by Holm's procedure and gives the verdict; the intervals hold for all of them at "
            "once (Bonferroni, 95 %), so one may hold 0 where p is below 0.05."
        )
    found.append("Converged: beside the count, the exact 95 % interval of the share (Clopper and Pearson).")
    return found


def _deviations(analysis: Analysis) -> str:
    """'nearest: 6.1 % with 10 degrees of freedom; unpool: …'."""
    found = []
    for name, group in analysis.groups.items():
        if group.freedom:
            degrees = f"{counted(group.freedom, 'degree')} of freedom"
            found.append((f"{name}: " if name else "") + f"{100 * percent(group.deviation):.1f} % with {degrees}")
    return "; ".join(found) or "unknown: too few shared seeds"


def _test_images(analysis: Analysis) -> list[str]:
    """Whether the intervals hold for other test images, too."""
    compared = [*(line.comparison for line in analysis.lines if line.comparison), *analysis.contrasts]
    if all(c.difference.low is None for c in compared):
        return []
    known = [group.images for group in analysis.groups.values() if group.freedom]
    if None in known:
        return [
            "Intervals and verdicts hold for other seeds, not for other test images: these records don't say which images were "
            "named wrongly."
        ]
    alone = 100 * percent(1.96 * max(images or 0.0 for images in known) ** 0.5)
    return [
        "Intervals and verdicts hold for other seeds and other test images: rows are compared image by image, so what they are "
        f"wrong about together doesn't count. The test images alone leave a single change uncertain by up to ± {alone:.1f} %."
    ]


def _real_images(analysis: Analysis) -> list[str]:
    """['cifar10-test.zip (10,000 images)']; several where rows that are not compared with each other have data of their own."""
    cards = [Score.from_dict(r["last"]["scores"][0]).card for r in analysis.records if "last" in r]
    distinct = {card.real_sha256 or card.real: card for card in reversed(cards)}
    counts = [(c.real, "an unknown number of" if c.real_count is None else f"{c.real_count:,}") for c in distinct.values()]
    return [f"{name} ({count} images)" for name, count in reversed(counts)]


def _chosen(study: Study, analysis: Analysis) -> list[str]:
    """How the best checkpoint was found."""
    row = next((line.row for line in analysis.lines if line.best), None)
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


def _costs(study: Study, analysis: Analysis, costs: dict[str, dict]) -> list[str]:
    """What the columns of cost mean, and what the runs took."""
    found = ["Parameters and multiply-adds: of the generator, per image."] * (study.task == "gan" and bool(analysis.records))
    if machines := dict.fromkeys(cost["machine"] for cost in costs.values() if "machine" in cost):
        found.append(
            f"Time and memory: the fastest of a few steps, rows in turns, on {', '.join(machines)}. Images: real ones trained on. "
            "Memory: the peak above weights, optimizer state and images."
        )
    elif all(line.ended == line.asked for line in analysis.lines) and analysis.records:
        found.append("Time and memory were not measured: compare does that here at the end, without --launcher, if all rows fit.")
    seconds = [r["seconds"] for r in analysis.records if "seconds" in r]
    if seconds:
        training, scoring = (sum(s[key] for s in seconds) / 3600 for key in ("training", "scoring"))
        runs = counted(len(seconds), "run")
        found.append(f"{runs} took {training:.2g} hours to train and {scoring:.2g} to score, one at a time.")
    return found


def _provenance(analysis: Analysis) -> list[str]:
    """Which code and which machines the runs come from."""
    records = analysis.records
    if not records:
        return []
    codes = [_code(record) for record in records]
    rows = {code: list(dict.fromkeys(r["label"] for r, own in zip(records, codes) if own == code)) for code in dict.fromkeys(codes)}
    if set(rows) == {None}:
        found = ["The code's revision is not known: these runs were recorded before it was kept."]
    elif len(rows) == 1:
        found = [f"All runs come from one revision of the code: {codes[0]}."]
    else:
        parts = [f"{code or 'not known'} ({codes.count(code)} of {'; '.join(labels)})" for code, labels in rows.items()]
        found = [f"Runs come from several revisions of the code: {', '.join(parts)}."]
    machines = list(dict.fromkeys(record["machine"] for record in records if "machine" in record))
    if machines:
        found.append(f"Trained on {'; '.join(machines)}.")
    precisions = {tuple(record["precision"].values()) for record in records if "precision" in record}
    if len(precisions) > 1:
        found.append("Runs differ in precision: " + ", ".join(sorted(f"{a} scored in {b}" for a, b in precisions)) + ".")
    return found


def _code(record: dict) -> str | None:
    """'41c718f9', with '(changed)' where the code differed from it, and those it was begun with; None where it isn't known."""
    codes = [*record.get("earlier_code", []), record.get("code") or {}]
    names = [code["commit"][:8] + " (changed)" * bool(code["changed"]) for code in codes if code.get("commit")]
    return " then ".join(names) or None


def _curves(study: Study, analysis: Analysis) -> list[str]:
    """Whether rows had stopped improving, judged by their curves."""
    found = []
    if any(_rate_falls(r["config"]) for r in analysis.records):
        found = ["The learning rate falls within a run, which flattens any curve: more steps may still change the order."]
    if study.task == "classify":  # whose schedule ends each run
        return found
    words: dict[str | None, list[str]] = {}
    for line in analysis.lines:
        if line.values:
            words.setdefault(line.flatness.word if line.flatness else None, []).append(line.row.label)
    if not words:
        return found
    if not any(line.flatness for line in analysis.lines):
        none = "fewer than three scores were" if any(r["curve"] for r in analysis.records) else "no scores were"
        return [*found, f"Nothing here says whether a row had stopped improving: {none} taken in training (scoring.every)."]
    said = {"improving": "still improving", "worsening": "getting worse again", "flat": "flat", None: "not known"}
    parts = [f"{said[word]}: {'; '.join(words[word])}" for word in said if word in words]
    found.append(
        f"At the slope of the end of training, {' / '.join(parts)}. Flat: the distance changes by less than {FLAT:.0%} in a "
        "quarter of training (90 % interval of the mean slope over seeds)."
    )
    if any(word != "flat" for word in words):
        found.append("This table is a snapshot at equal steps, not a verdict on kernels.")
    if not all(same_protocol(r) for r in analysis.records if r["curve"]):
        found.append(
            "Curves and table differ in how they were scored (number of images, split): the fewer images, the higher a distance "
            "and the flatter its curve. scoring.every takes both alike."
        )
    return found


def _rate_falls(config: dict) -> bool:
    """Whether a learning rate ends lower than it begins, as every classifier's does."""
    train, schedule = config["train"], config.get("schedule", {})
    scheduled = [key for key in ("lr_g", "lr_d") if schedule.get(key) is not None]
    return train.get("lr_decay", "linear") != "none" or any(schedule[key] < train[key] for key in scheduled)


def definition(study: Study, older: bool) -> str:
    """What 'not converged' means in this study. older: it has records of when mean logits were compared."""
    bound = (
        ""
        if study.worse_than is None
        else f", or whose final {value_name(study)} is above {study.worse_than:g}{' %' * (study.task == 'classify')}"
    )
    if study.task == "classify":
        return (
            "Not converged: a run in which a loss or weight became NaN or infinite, or which guesses (its error is at least "
            f"{GUESSING} % of that of classes named at random){bound}."
        )
    last = "whose" if bound else "or whose"
    return (
        "Not converged: a run in which a loss or weight became NaN or infinite, whose 1,000 images vary (mean pixel variance) less "
        f"than {COLLAPSED:.0%} as much as real ones, {last} discriminator has given up (its logits of real and "
        f"generated images spread by less than {GAVE_UP:g}{', in older records their means differ by less' * older}){bound}."
    )


def score_names(analysis: Analysis) -> list[str]:
    """The names of the scores that the runs have; ['none yet'] before any has."""
    return next(([s["name"] for s in r["last"]["scores"]] for r in analysis.records if "last" in r), ["none yet"])
