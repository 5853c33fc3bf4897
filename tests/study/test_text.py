"""The tables of a study as people read them, from made-up results."""

import csv
import json
import math

import pytest

from study.analysis import analyse
from study.folder import StudyFolder
from study.inference import Difference
from study.study import Study
from study.table import table_of, to_csv
from study.text import (
    _narrow,
    cells,
    change_text,
    contrast_cells,
    escaped,
    instrument_cells,
    summary,
    to_markdown,
)
from tests.helpers import leave_result
from tests.study.results import BLIND, FALLING, MODEL, NAN, result, scored


def said(loaded, folder):
    return to_markdown(loaded, analyse(loaded, folder), {})


def row(text, label="c2"):
    line = next(line for line in text.splitlines() if line.startswith(f"| {label} "))
    return [cell.strip() for cell in line.strip("| ").split("|")]


def test_a_row_says_how_many_converged_how_far_it_is_and_what_follows(study):
    loaded, folder = study({"c2": [10.0, 14.0], "c3": [9.0, 10.0]})
    text = said(loaded, folder)
    label, converged, distance, change, verdict = row(text)
    assert (label, converged, distance) == ("c2", "2 of 2 [16, 100] %", "12.00 ± 2.83")
    estimate = 100 * (math.sqrt(140 / 90) - 1)
    assert (
        change.startswith(f"{estimate:+.0f} [") and verdict.startswith("not resolved: about ") and verdict.endswith(" more seeds")
    )
    assert row(text, "c3")[3:] == ["-", "baseline"]
    assert "Unfinished" not in text and "with 1 degree of freedom" in text


def test_a_diverged_run_is_shown_and_counted_not_dropped(study):
    nan = {"status": "diverged", "why": "a loss is not finite at step 3", "curve": [], "model": MODEL, "timing": {}}
    loaded, folder = study({"c2": [10.0, nan], "c3": [9.0, 10.0]})
    text = said(loaded, folder)
    assert row(text)[1:3] == ["1 of 2 [1, 99] %", "10.00"] and "c2, seed 1: a loss is not finite at step 3" in text


def test_a_row_of_which_none_converged_shows_its_distances_in_brackets(study):
    loaded, folder = study({"c2": [result(300.0), result(310.0)], "c3": [9.0, 10.0]}, worse_than=100)
    text = said(loaded, folder)
    assert row(text)[1:] == ["0 of 2 [0, 84] %", "(305.00 ± 7.07)", "none converged"]
    assert "In brackets: of runs that did not converge, which no comparison uses." in text


def test_a_run_that_failed_is_shown_and_counted_until_it_is_done(study):
    loaded, folder = study({"c2": [10.0], "c3": [9.0, 10.0]})
    folder.note_failure(loaded.jobs[2], "error: no such zip")
    folder.note_failure(loaded.jobs[3], "error: of a run that has a result since")
    text = said(loaded, folder)
    assert row(text)[1] == "1 of 1 [3, 100] %, 1 failed"
    assert "- c2, seed 1 failed: error: no such zip." in text and "result since" not in text


def test_runs_that_are_missing_are_counted(study):
    loaded, folder = study({"c2": [10.0, 14.0], "c3": [9.0]})
    text = said(loaded, folder)
    assert row(text, "c3")[1] == "1 of 1 [3, 100] %, 1 to come" and "Unfinished: 3 of 4 runs are done." in text


def test_one_seed_has_no_interval_and_says_so(study):
    loaded, folder = study({"c2": [18.0], "c3": [9.0]}, seeds=[0])
    text = said(loaded, folder)
    assert row(text)[3:] == ["+100", "one seed: no interval"] and "(unknown: too few shared seeds)" in text
    assert "The intervals hold for all" not in text


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"c2": [9.0, 10.0], "c3": [NAN, NAN]}, "Against c3. No converged baseline: c2."),
        ({"c2": [9.0, NAN], "c3": [NAN, 10.0]}, "Against c3. No shared seed: c2."),
        ({"c2": [9.0, NAN], "c3": [9.0, 10.0]}, "Against c3. Too few shared seeds: c2."),
        ({"c2": [], "c3": [9.0, 10.0]}, "Against c3. No run yet: c2."),
        ({"c2": [9.0, 10.0], "c3": []}, "Against c3. No run of the baseline yet: c2."),
    ],
)
def test_a_row_that_is_not_compared_says_why(study, values, words):
    loaded, folder = study(values)
    assert summary(loaded, analyse(loaded, folder)) == words


def test_a_row_whose_runs_all_failed_says_so(study):
    loaded, folder = study({"c2": [], "c3": [9.0, 10.0]})
    for job in loaded.jobs:
        if job.row.label == "c2":
            folder.note_failure(job, "error: no such zip")
    assert summary(loaded, analyse(loaded, folder)) == "Against c3. Failed: c2."


@pytest.mark.parametrize("lost", ["c2", "c3"])
def test_lost_runs_are_a_warning_whichever_row_lost_them(study, lost):
    values = {"c2": [9.0, 10.0, 11.0], "c3": [9.0, 10.0, 11.0]}
    values[lost] = [*values[lost][:2], NAN]
    assert "a row that lost some looks too good" in said(*study(values, seeds=[0, 1, 2]))


@pytest.mark.parametrize(
    ("low", "estimate", "high", "text"),
    [
        (0.07, 0.18, 0.31, "+18 [+7, +31]"),
        (-0.002, 0.18, 0.38, "+18.0 [-0.2, +38.0]"),
        (0.093, 0.136, 0.18, "+13.6 [+9.3, +18.0]"),
    ],
    ids=["whole", "an end near 0 keeps its side", "narrow"],
)
def test_changes_are_percent(low, estimate, high, text):
    assert change_text(Difference(*(math.log1p(x) for x in (estimate, low, high)))) == text


# --- verdicts ----------------------------------------------------------------------------------------------------------------


def runs(values, curve):
    """Results with these final scores, whose curves differ a little from seed to seed."""
    return [result(value, curve=[d * (1 + 0.001 * i * n) for n, d in enumerate(curve)]) for i, value in enumerate(values)]


@pytest.mark.parametrize(
    ("curve", "word"), [((40.0, 20.0, 20.0, 20.0), "worse"), ((40.0, 30.0, 25.0, 18.0), "worse so far"), ((), "worse so far")]
)
def test_a_verdict_of_rows_that_may_still_improve_is_one_so_far(study, curve, word):
    values = {"c2": runs((20.0, 21.0, 22.0), curve), "c3": runs((10.0, 10.5, 11.2), curve)}
    text = said(*study(values, seeds=[0, 1, 2]))
    assert row(text)[4] == word
    assert ("snapshot at equal steps" in text or "Nothing here says" in text) == (word == "worse so far")
    assert ("So far: at this many steps" in text) == (word == "worse so far")


def test_the_summary_says_the_verdict_of_every_row(study):
    loaded, folder = study({"c2": [NAN, NAN], "c3": [9.0, 10.0], "c4": [9.5, 9.9], "c5": [80.0, 90.0]})
    analysis = analyse(loaded, folder)
    assert summary(loaded, analysis) == "Against c3. Worse so far: c5. Not resolved: c4. None converged: c2."
    loaded, folder = study({"c3": [9.0, 10.0]}, baseline="c3")
    assert summary(loaded, analyse(loaded, folder)) == "There is one row: nothing is compared."


def test_contrasts_stand_in_a_table_of_their_own_that_says_who_chose_them(study):
    loaded, folder = study({"c2": [10.0, 20.0], "c2sp": [8.0, 16.5], "c3": [9.0, 18.0]})
    heads, rows = contrast_cells(analyse(loaded, folder))
    assert heads == ["", "% [95 %]", "p (Holm)", "verdict"] and rows[0][0] == "c2sp against c2"
    assert "## Contrasts" in said(loaded, folder) and "Contrasts: each symmetric kernel against its" in said(loaded, folder)
    chosen = loaded.model_copy(update={"contrasts": [("c2sp", "c3")]})
    assert "Contrasts: those of the study's file" in said(chosen, folder)
    assert contrast_cells(analyse(*study({"c2": [10.0], "c3": [9.0]}))) is None


def test_a_classifier_has_the_error_on_other_test_images_beside(classifiers):
    loaded, folder = classifiers({"c2": [10.0, 12.0], "c3": [9.0, 12.0]})
    analysis = analyse(loaded, folder)
    heads, rows = cells(loaded, analysis)
    assert heads[2:4] == ["test error, %", "other test images, %"]
    assert rows[0][3] == "[10.4, 11.6]" and "so far" not in rows[0][5]  # R: binom.test(1100, 10000)
    assert analysis.groups[""].images is None
    assert "for other seeds, not for other test images: these records don't say" in said(loaded, folder)


def test_rows_that_differ_in_parameters_show_them(classifiers):
    loaded, folder = classifiers({"c2": [10.0, 12.0], "c3": [9.0, 12.0]}, parameters={"c2": 124_000, "c3": 272_000})
    analysis = analyse(loaded, folder)
    heads, rows = cells(loaded, analysis)
    assert heads[4] == "parameters" and [row[4] for row in rows] == ["124 k", "272 k"]
    declared = loaded.model_copy(update={"contrasts": [("c2", "c3")]})
    heads, rows = contrast_cells(analyse(declared, folder))
    assert heads[:2] == ["", "parameters"] and rows[0][:2] == ["c2 against c3", "-54 %"]


def test_classifiers_of_several_schedules_are_said_to_be(classifiers):
    loaded, folder = classifiers({"c2": [10.0], "c3": [9.0]}, cards={"c2": {"epochs": 30}})
    assert "30 or 5 epochs in batches of 8, fp32; trained on 1,000 images" in said(loaded, folder)


# --- notes -------------------------------------------------------------------------------------------------------------------


def test_without_scores_in_training_nobody_knows_whether_a_row_had_settled(study):
    loaded, folder = study({"c2": [BLIND], "c3": [BLIND]})
    assert "Nothing here says whether a row had stopped improving: no scores were taken" in said(loaded, folder)
    few = result(1.0, curve=(3.0, 2.0))
    assert "fewer than three scores were taken" in said(*study({"c2": [few], "c3": [few]}))


def test_the_note_on_curves_names_rows_by_what_is_known_of_them(study):
    falling = runs((9.0, 9.0), (40.0, 30.0, 25.0, 18.0))
    loaded, folder = study({"c2": falling, "c3": [BLIND, BLIND]})
    text = said(loaded, folder)
    assert "still improving: c2 / not known: c3" in text and "not a verdict on kernels" in text
    assert "Curves and table differ in how they were scored" in text


def test_curves_that_were_scored_as_the_table_are_said_to_be_averaged(study):
    loaded, folder = study({"c2": [10.0, 11.0], "c3": [9.0, 10.0]}, scoring={"every": 1})
    text = said(loaded, folder)
    assert "of the last three scored checkpoints (geometric mean)" in text and "differ in how they were scored" not in text


def test_labels_may_hold_what_markdown_means(study_file, tmp_path):
    loaded = Study.load(study_file(rows=[{"label": "a|b"}], axes={}, baseline="a|b"))
    assert "| a\\|b |" in to_markdown(loaded, analyse(loaded, StudyFolder(tmp_path)), {})


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a|b `c` *d* ~~e~~ $f$ \\g", r"a\|b \`c\` \*d\* \~\~e\~\~ \$f\$ \\g"),
        ("<b>x</b> <!-- y --> 1 < 2", r"\<b>x\</b> \<!-- y --> 1 < 2"),
        ("&lt; &#60; a&b", r"\&lt; \&#60; a&b"),
        ("[x](javascript:y) [+7, +31]", r"[x\](javascript:y) [+7, +31]"),
        ("_a_ lr_g=1 b_", r"\_a\_ lr_g=1 b\_"),
        ("# a", r"\# a"),
        ("- a", r"\- a"),
        ("-5.2 ± 1", "-5.2 ± 1"),
        ("a\nb\x1b[31m", r"a\\nb\\x1b[31m"),
    ],
)
def test_what_markdown_means_is_shown_as_it_is(text, shown):
    assert escaped(text) == shown


def test_a_spreadsheet_computes_nothing_in_a_table(study_file, tmp_path):
    labels = ['=HYPERLINK("x")', "+1", "-c2", "@a", "c3"]
    rows = [{"label": label, "train.lr_g": i + 1.0} for i, label in enumerate(labels)]
    loaded = Study.load(study_file(rows=rows, axes={}, baseline="-c2"))
    folder = StudyFolder(tmp_path / "out")
    for i, job in enumerate(loaded.jobs):
        leave_result(folder, loaded, job, **result(9.0 + i))
    table = table_of(analyse(loaded, folder), {})
    cells = [cell for line in csv.reader(to_csv(table).splitlines()) for cell in line]
    assert {"'" + label for label in labels[:-1]} <= set(cells) and "c3" in cells
    assert all(cell[:1] not in "=@\t\r" or not cell for cell in cells)
    assert all(float(cell) < 0 for cell in cells if cell.startswith("-"))
    assert [row["row"] for row in table] == labels


def test_what_chose_the_best_checkpoint_is_said(study):
    text = said(*study({"c2": [10.0], "c3": [9.0]}, scoring={"split": "test"}))
    assert "against the train split." in text
    text = said(*study({"c2": [10.0], "c3": [9.0]}, scoring={"split": "train"}))
    assert "against the train split, the split of the table, which flatters it." in text


def test_where_all_collapsed_the_curves_are_not_said_to_be_missing(study):
    collapsed = result(10.0, diversity=0.01)
    assert "scores were taken in training" not in said(*study({"c2": [collapsed], "c3": [collapsed]}))


def test_a_falling_learning_rate_is_said_to_flatten_curves(study):
    for base in ({"train": {"lr_decay": "linear"}}, {"schedule": {"lr_g": 1e-5}}, {"schedule": {"lr_d": 0.0}}):
        loaded, folder = study({"c2": [FALLING], "c3": [9.0]}, base=base)
        assert "more steps may still change the order" in said(loaded, folder)
    for base in ({}, {"schedule": {"lr_g": 1.0}}):
        assert "more steps may still change the order" not in said(*study({"c2": [FALLING], "c3": [9.0]}, base=base))


def test_rows_with_data_of_their_own_stand_in_one_table(study_file, tmp_path):
    axes = {"dataset.name": ["shapes", "cifar10"], "generator.kernel": ["c2", "c3"]}
    loaded, folder = Study.load(study_file(axes=axes, seeds=[0])), StudyFolder(tmp_path / "out")
    for job in loaded.jobs:
        name = job.row.settings["dataset.name"]
        leave_result(folder, loaded, job, **scored(9.0, real=name, real_sha256=name, real_count=7 if name == "shapes" else None))
    text = to_markdown(loaded, analyse(loaded, folder), {})
    assert "against shapes (7 images), cifar10 (an unknown number of images), each row against its own; features" in text


def test_runs_of_several_revisions_are_told_apart_and_older_records_said_to_lack_theirs(study):
    first, second = ({"code": {"commit": c * 40, "changed": changed}} for c, changed in (("a", False), ("b", True)))
    values = {"c2": [result(10.0, **first), result(11.0, **second)], "c3": [result(9.0, **first), result(10.0)]}
    assert "several revisions of the code: aaaaaaaa (2 of c2; c3), bbbbbbbb (changed) (1 of c2), not known (1 of c3)." in said(
        *study(values)
    )
    same = {label: [result(v, **first) for v in (9.0, 10.0)] for label in values}
    assert "All runs come from one revision of the code: aaaaaaaa." in said(*study(same))
    resumed = {label: [result(v, **second, earlier_code=[first["code"]]) for v in (9.0, 10.0)] for label in values}
    assert "one revision of the code: aaaaaaaa then bbbbbbbb (changed)." in said(*study(resumed))
    old = {label: [9.0, 10.0] for label in values}
    assert "The code's revision is not known" in said(*study(old))


def test_seconds_machines_and_precisions_of_the_runs_are_said(study):
    about = {"seconds": {"training": 3600.0, "scoring": 720.0}, "machine": "a CPU"}
    other = {**about, "machine": "another", "precision": {"training": "bf16", "scoring": "fp32"}}
    values = {"c2": [result(9.0, **about, precision={"training": "fp32", "scoring": "fp32"})], "c3": [result(8.0, **other)]}
    text = said(*study(values, seeds=[0]))
    assert "2 runs took 2 hours to train and 0.4 to score, one at a time." in text and "Trained on a CPU; another." in text
    assert "Runs differ in precision: bf16 scored in fp32, fp32 scored in fp32." in text


# --- instruments -------------------------------------------------------------------------------------------------------------


def leave_probe(folder, job, numbers, floor=None):
    (folder.run(job) / "probe.json").write_text(json.dumps({"numbers": numbers, "floor": floor or {}}))


def test_instruments_stand_in_narrow_tables_with_their_intervals(study):
    loaded, folder = study({"c2": [10.0, 14.0], "c3": [9.0, 10.0]})
    for job, drift in zip((job for job in loaded.jobs if job.row.label == "c2"), (-1.0, -3.0)):
        leave_probe(folder, job, {"drift_x_px": drift, "overlap_variation": 0.484})
    found = instrument_cells(analyse(loaded, folder))
    assert list(found) == ["Where a change in the seed map lands", "Checkerboards, in layers"]
    assert found["Where a change in the seed map lands"] == (["", "drift x, px"], [["c2", "-2 ± 13"], ["c3", "-"]])
    assert found["Checkerboards, in layers"][1] == [["c2", "0.484"], ["c3", "-"]]


def test_the_instruments_of_real_images_stand_below_those_of_the_rows(study):
    loaded, folder = study({"c2": [10.0], "c3": [9.0]})
    leave_probe(folder, loaded.jobs[0], {"phase_mean_variance": 0.01}, {"phase_mean_variance": 0.002, "spectrum_gap": 0.03})
    (table,) = instrument_cells(analyse(loaded, folder)).values()
    assert table[1] == [["c2", "0.01"], ["c3", "-"], ["real images", "0.002"]]
    (folder.run(loaded.jobs[0]) / "probe.json").write_text("torn")
    assert instrument_cells(analyse(loaded, folder)) == {}


def test_instrument_tables_fit_a_terminal_of_80_columns(study_file, tmp_path):
    names = (
        "drift_x_px", "drift_y_px", "spread_px", "border_left_right_excess", "border_top_bottom_excess", "overlap_variation",
        "phase_gain", "phase_mean_variance", "nyquist_peaks_db", "spectrum_gap",
    )  # fmt: skip
    rows = [{"label": "c2sp, equal parameters", "generator.kernel": "c2"}, {"label": "c3", "generator.kernel": "c3"}]
    loaded, folder = Study.load(study_file(rows=rows, axes={}, baseline="c3", seeds=[0, 1])), StudyFolder(tmp_path / "out")
    for job in loaded.jobs:
        leave_result(folder, loaded, job, **{**result(10.0 + job.seed), "seed": job.seed, "label": job.row.label})
    for i, job in enumerate(loaded.jobs):
        leave_probe(folder, job, {name: -3.123456 + 0.01 * i for name in names})
    text = said(loaded, folder).partition("## Instruments")[2]
    assert max(len(line) for line in text.splitlines() if line.startswith("|")) <= 80 and text.count("|") > 50


def test_a_table_that_is_too_wide_continues_in_another_with_the_same_rows():
    heads, rows = ["", "a" * 30, "b" * 30, "c" * 30], [["row", "1", "2", "3"]]
    first, second = _narrow(heads, rows)
    assert first == (["", "a" * 30, "b" * 30], [["row", "1", "2"]]) and second == (["", "c" * 30], [["row", "3"]])
