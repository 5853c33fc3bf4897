"""The table of a study as people read it, from made-up results."""

import json

from study.analysis import lines_of
from study.folder import StudyFolder
from study.study import Study
from study.text import instrument_cells, to_markdown
from tests.helpers import leave_result
from tests.study.results import FALLING, MODEL, result, scored


def test_rows_hold_means_over_training_seeds(study):
    loaded, folder = study({"c2": [10.0, 14.0], "c3": [9.0, 10.0]})
    text = to_markdown(loaded, lines_of(loaded, folder), {})
    row = next(line for line in text.splitlines() if line.startswith("| c2"))
    assert "| 12.00 ± 2.83 | 11.00 ± 2.83 | +2.50 [-16.56, +21.56] | 2.00 ± 0.00 | 2 of 2 | 1 k | 2 M |" in row
    assert "Unfinished" not in text and "No row improved by more than 5% over the last 25% of training." in text


def test_a_diverged_run_is_shown_and_counted_not_dropped(study):
    nan = {"status": "diverged", "why": "a loss is not finite at step 3", "curve": [], "model": MODEL, "timing": {}}
    loaded, folder = study({"c2": [10.0, nan], "c3": [9.0, 10.0]})
    line = lines_of(loaded, folder)[0]
    assert (line.converged, len(line.records), line.final) == (1, 2, {0: 10.0})
    text = to_markdown(loaded, [line], {})
    assert "1 of 2" in text and "c2, seed 1: a loss is not finite at step 3" in text


def test_a_run_that_failed_is_shown_and_counted_until_it_is_done(study):
    loaded, folder = study({"c2": [10.0], "c3": [9.0, 10.0]})
    folder.note_failure(loaded.jobs[2], "error: no such zip")
    folder.note_failure(loaded.jobs[3], "error: of a run that has a result since")
    text = to_markdown(loaded, lines_of(loaded, folder), {})
    assert "| 1 of 2 |" in text and "- c2, seed 1 failed: error: no such zip." in text and "result since" not in text


def test_without_scores_in_training_nobody_knows_whether_a_row_had_settled(study):
    blind = result(10.0, curve=())
    loaded, folder = study({"c2": [blind], "c3": [blind]})
    text = to_markdown(loaded, lines_of(loaded, folder), {})
    assert "nothing here says whether a row had stopped improving" in text


def test_labels_may_hold_what_markdown_means(study_file, tmp_path):
    loaded = Study.load(study_file(rows=[{"label": "a|b"}], axes={}, baseline="a|b"))
    assert "| a\\|b |" in to_markdown(loaded, lines_of(loaded, StudyFolder(tmp_path)), {})


def test_pairs_that_are_missing_are_counted(study):
    loaded, folder = study({"c2": [10.0, 14.0], "c3": [9.0]})
    text = to_markdown(loaded, lines_of(loaded, folder), {})
    assert "| +1.00 (n = 1) |" in text and "| 1 of 1, 1 to come |" in text


def test_what_chose_the_best_checkpoint_is_said(study):
    loaded, folder = study({"c2": [10.0], "c3": [9.0]}, scoring={"split": "test"})
    assert "against the train split." in to_markdown(loaded, lines_of(loaded, folder), {})
    loaded, folder = study({"c2": [10.0], "c3": [9.0]}, scoring={"split": "train"})
    assert "against the train split, the split of the table, which flatters it." in to_markdown(
        loaded, lines_of(loaded, folder), {}
    )


def test_runs_that_did_not_converge_do_not_count_as_improving(study):
    collapsed = result(10.0, curve=(40.0, 30.0, 20.0, 10.0), diversity=0.01)
    loaded, folder = study({"c2": [collapsed, result(9.0)], "c3": [9.0, 10.0]})
    text = to_markdown(loaded, lines_of(loaded, folder), {})
    assert lines_of(loaded, folder)[0].settling == 0.0 and "Still improving" not in text


def test_the_note_on_settling_names_the_rows_that_it_cannot_speak_of_and_the_span_that_it_can(study):
    loaded, folder = study({"c2": [result(10.0, curve=())], "c3": [result(9.0, curve=(20.0, 20.0, 20.0, 20.0, 20.0)), 10.0]})
    text = to_markdown(loaded, lines_of(loaded, folder), {})
    assert "over the last 40% of training. Not known of c2." in text


def test_where_all_collapsed_the_curves_are_not_said_to_be_missing(study):
    collapsed = result(10.0, diversity=0.01)
    loaded, folder = study({"c2": [collapsed], "c3": [collapsed]})
    assert "No scores were taken" not in to_markdown(loaded, lines_of(loaded, folder), {})


def test_a_falling_learning_rate_hides_no_row_that_still_improves(study):
    loaded, folder = study({"c2": [FALLING], "c3": [9.0]}, base={"train": {"lr_decay": "linear"}})
    text = to_markdown(loaded, lines_of(loaded, folder), {})
    assert "more steps may still change the order" in text and "not a verdict" in text


def test_a_table_of_runs_that_still_improve_says_that_it_is_no_verdict(study):
    falling = result(10.0, curve=(40.0, 30.0, 20.0, 18.0))
    loaded, folder = study({"c2": [falling, falling], "c3": [9.0, 10.0]})
    text = to_markdown(loaded, lines_of(loaded, folder), {})
    assert "Still improving by more than 5% over the last 25% of training: c2." in text
    assert "not a verdict" in text


def test_rows_with_data_of_their_own_stand_in_one_table(study_file, tmp_path):
    axes = {"dataset.name": ["shapes", "cifar10"], "generator.kernel": ["c2", "c3"]}
    loaded, folder = Study.load(study_file(axes=axes, seeds=[0])), StudyFolder(tmp_path / "out")
    for job in loaded.jobs:
        name = job.row.settings["dataset.name"]
        leave_result(folder, loaded, job, **scored(9.0, real=name, real_sha256=name, real_count=7 if name == "shapes" else None))
    text = to_markdown(loaded, lines_of(loaded, folder), {})
    assert "against shapes (7 images), cifar10 (an unknown number of images), each row against its own; features" in text


def test_an_unfinished_study_says_how_far_it_is(study):
    loaded, folder = study({"c2": [10.0], "c3": [9.0, 10.0]})
    assert "Unfinished: 3 of 4 runs are done." in to_markdown(loaded, lines_of(loaded, folder), {})


def test_instruments_stand_in_a_table_of_their_own_as_means_over_seeds(study):
    probed = [result(10.0, probe={"drift_px": d, "phase_gain": 0.5}) for d in (1.0, 3.0)]
    loaded, folder = study({"c2": probed, "c3": [9.0, 10.0]})
    heads, rows = instrument_cells(lines_of(loaded, folder))
    assert heads == ["", "drift, px", "phase-gain imbalance"]
    assert rows == [["c2", "2", "0.5"], ["c3", "-", "-"]]
    probed[0]["probe"].pop("drift_px")  # a dead generator has none
    loaded, folder = study({"c2": probed, "c3": [9.0, 10.0]})
    assert instrument_cells(lines_of(loaded, folder))[1][0] == ["c2", "3", "0.5"]
    assert instrument_cells([]) is None


def test_the_instruments_of_real_images_stand_below_those_of_the_rows(study):
    loaded, folder = study({"c2": [result(10.0, probe={"drift_px": 1.0, "phase_mean_variance": 0.01})], "c3": [9.0]})
    probe = folder.run(loaded.jobs[0]) / "probe.json"
    probe.write_text(json.dumps({"floor": {"phase_mean_variance": 0.002, "spectrum_gap": 0.03}}))
    rows = instrument_cells(lines_of(loaded, folder))[1]
    assert rows[-1] == ["real images", "-", "0.002"]
    probe.write_text("torn")
    assert [row[0] for row in instrument_cells(lines_of(loaded, folder))[1]] == ["c2", "c3"]
