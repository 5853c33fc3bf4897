"""The table of a study, from made-up results with known answers."""

import csv
import json

import pytest
from scipy import stats

from metrics.protocol import ProtocolError
from study.analysis import lines_of, not_converged, paired_difference
from study.costs import costs_of, measure_costs
from study.figures import band, plot_curves
from study.folder import StudyFolder
from study.report import write_report
from study.study import StudyError, facet_of, jobs_of, load_study, rows_of
from study.text import instrument_cells, to_markdown
from tests.helpers import leave_result

CARD = {
    "features": "f", "weights_sha256": "a" * 64, "input_size": 32, "resize": "clean", "precision": "fp32", "real": "r",
    "real_count": 9, "real_sha256": "b", "generated": "g", "generated_count": 9,
}  # fmt: skip
MODEL = {"parameters": 1000, "macs": 2_000_000, "discriminator_macs": 1, "step_macs": 10**9}


def score(name, value, **card):
    return {"name": name, "value": value, "card": {**CARD, **card}, "spread": None, "spread_of": None, "interval": None}


def result(value, curve=(30.0, 20.0, 20.0, 20.0), steps=4, **changes):
    scores = [score("fd_f", value), score("score_f", 2.0)]
    best = {"step": 3, "scores": [score("fd_f", value - 1), score("score_f", 2.0)]}
    found = {"status": "finished", "why": None, "seed": 0, "diversity": 1.0, "model": MODEL, "timing": {}}
    found |= {"curve": [{"step": i + 1, "fd_f": v} for i, v in enumerate(curve)]}
    found |= {"last": {"step": 4, "scores": scores}, "best": best}
    return {**found, **changes}


@pytest.fixture
def study(study_file, tmp_path):
    """study(values by row label) -> the study and its folder, with these final scores, seed by seed; a dict is a whole result."""

    def made(values, **changes):
        loaded = load_study(study_file(axes={"generator.kernel": list(values)}, settings={"train.steps": 4}, **changes))
        folder = StudyFolder(tmp_path / "out")
        for job in jobs_of(loaded):
            given = values[job.row.label]
            if job.seed < len(given):
                record = given[job.seed] if isinstance(given[job.seed], dict) else result(given[job.seed])
                leave_result(folder, loaded, job, **{**record, "seed": job.seed, "label": job.row.label})
        return loaded, folder

    return made


def test_differences_are_paired_by_seed():
    ours, theirs = {0: 10.0, 1: 21.0, 2: 33.0, 7: 1.0}, {0: 11.0, 1: 20.0, 2: 30.0, 8: 5.0}
    found = paired_difference(ours, theirs, "c3")
    expected = stats.ttest_rel([10, 21, 33], [11, 20, 30]).confidence_interval(0.95)
    assert found.mean == pytest.approx(1.0) and found.seeds == 3
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_a_single_pair_has_a_difference_and_no_interval():
    found = paired_difference({0: 3.0}, {0: 1.0}, "c3")
    assert (found.mean, found.low, found.high) == (2.0, None, None)
    assert paired_difference({0: 3.0}, {1: 1.0}, "c3") is None


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
    assert (line.converged, len(line.results), line.final) == (1, 2, {0: 10.0})
    text = to_markdown(loaded, [line], {})
    assert "1 of 2" in text and "c2, seed 1: a loss is not finite at step 3" in text


def test_a_run_that_failed_is_shown_and_counted_until_it_is_done(study):
    loaded, folder = study({"c2": [10.0], "c3": [9.0, 10.0]})
    folder.note_failure(jobs_of(loaded)[2], "error: no such zip")
    folder.note_failure(jobs_of(loaded)[3], "error: of a run that has a result since")
    text = to_markdown(loaded, lines_of(loaded, folder), {})
    assert "| 1 of 2 |" in text and "- c2, seed 1 failed: error: no such zip." in text and "result since" not in text


def test_settings_that_changed_since_are_refused_by_the_report_too(study):
    loaded, folder = study({"c2": [10.0], "c3": [9.0]})
    changed = loaded.model_copy(update={"settings": {**loaded.settings, "train.lr_g": 0.1}})
    with pytest.raises(StudyError, match=r"train\.lr_g: 0\.0002 -> 0\.1"):
        write_report(changed, folder.path)


def test_curves_are_of_the_seeds_that_finished(study):
    early = {"status": "diverged", "why": "NaN", "curve": [{"step": 1, "fd_f": 9e9}], "model": MODEL, "timing": {}}
    loaded, folder = study({"c2": [10.0, early], "c3": [9.0, 10.0]})
    line = lines_of(loaded, folder)[0]
    assert band(line) == ([1, 2, 3, 4], [30.0, 20.0, 20.0, 20.0], [0.0] * 4)
    assert line.settling == 0.0


def test_a_score_of_zero_and_a_score_that_is_no_number_are_no_accident(study):
    loaded, folder = study({"c2": [result(0.0, curve=(1.0, 0.0, 0.0, 0.0))], "c3": [9.0]})
    assert lines_of(loaded, folder)[0].settling is None
    assert "nan" in not_converged(loaded, result(float("nan")))


def test_without_scores_in_training_nobody_knows_whether_a_row_had_settled(study):
    blind = result(10.0, curve=())
    loaded, folder = study({"c2": [blind], "c3": [blind]})
    text = to_markdown(loaded, lines_of(loaded, folder), {})
    assert "nothing here says whether a row had stopped improving" in text


def test_labels_may_hold_what_markdown_means(study_file, tmp_path):
    loaded = load_study(study_file(rows=[{"label": "a|b"}], axes={}, baseline="a|b"))
    assert "| a\\|b |" in to_markdown(loaded, lines_of(loaded, StudyFolder(tmp_path)), {})


NAN = {"status": "diverged", "why": "NaN", "curve": [], "model": MODEL, "timing": {}}
BLIND = result(1.0, curve=())
FALLING = result(1.0, curve=(40.0, 30.0, 20.0, 18.0))


@pytest.mark.parametrize(
    ("values", "bold"),
    [
        ({"c2": [1.0, 2.1], "c3": [9.0, 10.0], "c4": [9.5, 10.0]}, ["c2"]),
        ({"c2": [1.0, NAN], "c3": [9.0, 10.0]}, []),
        ({"c2": [1.0], "c3": [9.0, 10.0]}, []),
        ({"c2": [FALLING, FALLING], "c3": [9.0, 9.1]}, []),
        ({"c2": [1.0, 9.0], "c3": [9.0, 10.0]}, []),
        ({"c2": [BLIND, BLIND], "c3": [9.0, 9.1]}, []),
        ({"c2": [1.0, 2.1], "c3": [9.0, 10.0], "c4": [NAN, 10.0]}, ["c2"]),
    ],
    ids=["below 0", "a diverged run", "a missing run", "still improving", "holds 0", "no curve", "another row diverged"],
)
def test_bold_is_only_what_a_finished_and_settled_study_shows(study, values, bold):
    loaded, folder = study(values)
    write_report(loaded, folder.path)
    html = (folder.path / "report.html").read_text()
    assert [part.partition("</td>")[0] for part in html.split('<tr class="better"><td>')[1:]] == bold
    assert ("better than the row it is compared with" in html) == bool(bold)


def test_pairs_that_are_missing_are_counted(study):
    loaded, folder = study({"c2": [10.0, 14.0], "c3": [9.0]})
    text = to_markdown(loaded, lines_of(loaded, folder), {})
    assert "| +1.00 (n = 1) |" in text and "| 1 of 1, 1 to come |" in text


def test_rows_that_have_no_score_are_named_where_figures_leave_them_out(study):
    loaded, folder = study({"c2": [NAN, NAN], "c3": [9.0, 10.0]})
    write_report(loaded, folder.path)
    assert "In no figure, since no run of it has a score: c2." in (folder.path / "report.html").read_text()


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


def test_facets_are_what_differs_beside_the_baseline_even_where_values_coincide(study_file):
    axes = {"generator.kernel": ["c2", "c3"], "discriminator.kernel": ["c2", "c3"]}
    loaded = load_study(study_file(axes=axes, baseline={"generator.kernel": "c3"}))
    assert [facet_of(loaded, row) for row in rows_of(loaded)] == [("c2", "c2"), ("c3", "c2"), ("c2", "c3"), ("c3", "c3")]
    rows = [{"label": f"{k} slow", "generator.kernel": k, "train.lr_g": 0.1} for k in ("c2", "c3")]
    loaded = load_study(study_file(rows=rows, axes={}, baseline={"generator.kernel": "c3"}))
    assert [facet_of(loaded, row) for row in rows_of(loaded)] == [("lr_g=0.1", "c2"), ("lr_g=0.1", "c3")]


@pytest.mark.parametrize(
    "text", ['{"rows": {', "[]", '{"rows": {"c2": {"ms_per_step": 5}}}', '{"machine": "m", "rows": {"c2": 5}}']
)
def test_costs_that_are_torn_or_of_another_version_are_as_none(study, text):
    loaded, folder = study({"c2": [10.0, 14.0], "c3": [9.0, 10.0]})
    (folder.path / "costs.json").write_text(text)
    assert "Time and memory were not measured" in write_report(loaded, folder.path)


def test_costs_are_measured_once_every_run_has_ended_of_the_rows_that_train(study, monkeypatch):
    asked = []
    cost = {"ms_per_step": 5}
    monkeypatch.setattr("gan.timing.step_costs", lambda configs: asked.append(list(configs)) or dict.fromkeys(configs, cost))
    loaded, folder = study({"c2": [], "c3": [9.0, 10.0]})
    measure = lambda study: measure_costs(study, folder.path, print)
    assert not measure(loaded) and asked == []
    for job in jobs_of(loaded):
        if job.row.label == "c2":
            folder.note_failure(job, "error: no memory")
    assert measure(loaded) and not measure(loaded) and asked == [["c3"]]
    assert costs_of(loaded, folder)["c3"]["ms_per_step"] == 5 and "machine" in costs_of(loaded, folder)["c3"]


def test_times_of_a_row_that_has_other_settings_since_are_not_shown(study, monkeypatch):
    monkeypatch.setattr("gan.timing.step_costs", lambda configs: {name: {"ms_per_step": 5} for name in configs})
    loaded, folder = study({"c2": [8.0, 9.0], "c3": [9.0, 10.0]})
    assert measure_costs(loaded, folder.path, print)
    assert costs_of(loaded, folder).keys() == {"c2", "c3"}
    more_seeds = loaded.model_copy(update={"seeds": [1, 2]})
    assert costs_of(more_seeds, folder).keys() == {"c2", "c3"}
    elsewhere = loaded.model_copy(update={"settings": {**loaded.settings, "train.device": "cpu"}})
    assert costs_of(elsewhere, folder) == {}
    slower = loaded.model_copy(update={"settings": {**loaded.settings, "train.batch_size": 8}})
    assert costs_of(slower, folder) == {}


def test_times_that_cannot_be_measured_cost_no_table(study, monkeypatch):
    def fail(configs):
        raise RuntimeError("out of memory\nsecond line")

    monkeypatch.setattr("gan.timing.step_costs", fail)
    loaded, folder = study({"c2": [8.0, 9.0], "c3": [9.0, 10.0]})
    said = []
    assert not measure_costs(loaded, folder.path, lambda text, colour: said.append(text))
    assert said == ["time and memory of the rows were not measured, so the table leaves them out: out of memory"]
    assert "Time and memory were not measured" in write_report(loaded, folder.path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"diversity": 0.02}, "collapsed"), ({"diversity": None}, None), ({"diversity": 0.5}, None)],
)
def test_a_collapsed_generator_has_not_converged(study, changes, words):
    loaded, _ = study({"c2": [], "c3": []})
    why = not_converged(loaded, result(10.0, **changes))
    assert (why is None) if words is None else words in why


@pytest.mark.parametrize(("advantage", "gave_up"), [(None, False), (0.0, True), (9e-4, True), (0.01, False)])
def test_a_run_whose_discriminator_gave_up_has_not_converged(study, advantage, gave_up):
    loaded, _ = study({"c2": [], "c3": []})
    why = not_converged(loaded, result(10.0, advantage=advantage))
    assert ("gave up" in why) if gave_up else why is None


def test_a_score_above_the_bound_has_not_converged(study):
    loaded, _ = study({"c2": [], "c3": []}, worse_than=50)
    assert not_converged(loaded, result(49.9)) is None
    assert "above 50" in not_converged(loaded, result(50.1))


def test_a_table_of_runs_that_still_improve_says_that_it_is_no_verdict(study):
    falling = result(10.0, curve=(40.0, 30.0, 20.0, 18.0))
    loaded, folder = study({"c2": [falling, falling], "c3": [9.0, 10.0]})
    text = to_markdown(loaded, lines_of(loaded, folder), {})
    assert "Still improving by more than 5% over the last 25% of training: c2." in text
    assert "not a verdict" in text


def scored(value, **card):
    return result(value, last={"step": 4, "scores": [score("fd_f", value, **card)]})


def test_unlike_scores_are_not_compared(study):
    loaded, folder = study({"c2": [scored(10.0, precision="bf16")], "c3": [9.0]})
    with pytest.raises(ProtocolError, match="precision"):
        lines_of(loaded, folder)


def test_rows_with_data_of_their_own_stand_in_one_table(study_file, tmp_path):
    axes = {"dataset.name": ["shapes", "cifar10"], "generator.kernel": ["c2", "c3"]}
    loaded, folder = load_study(study_file(axes=axes, seeds=[0])), StudyFolder(tmp_path / "out")
    for job in jobs_of(loaded):
        name = job.row.settings["dataset.name"]
        leave_result(folder, loaded, job, **scored(9.0, real=name, real_sha256=name, real_count=7 if name == "shapes" else None))
    text = to_markdown(loaded, lines_of(loaded, folder), {})
    assert "against shapes (7 images), cifar10 (an unknown number of images), each row against its own; features" in text


def test_a_row_may_be_called_anything(study_file, tmp_path):
    label = r"_<b>$\foo$ a|b"
    loaded, folder = load_study(study_file(rows=[{"label": label}], axes={}, baseline=label)), StudyFolder(tmp_path / "out")
    for job in jobs_of(loaded):
        leave_result(folder, loaded, job, **result(9.0))
    write_report(loaded, folder.path)
    html = (folder.path / "report.html").read_text()
    assert r"<td>_&lt;b&gt;$\foo$ a|b</td>" in html and "<b>" not in html
    figure = plot_curves(lines_of(loaded, folder))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [label]


def test_an_unfinished_study_says_how_far_it_is(study):
    loaded, folder = study({"c2": [10.0], "c3": [9.0, 10.0]})
    assert "Unfinished: 3 of 4 runs are done." in to_markdown(loaded, lines_of(loaded, folder), {})


def test_the_report_is_one_file_and_says_the_same_in_all_forms(study, monkeypatch):
    loaded, folder = study({"c2": [10.0, 14.0], "c3": [9.0, 10.0]}, title="Kernels <&> more")
    cost = {"ms_per_step": 5, "images_per_s": 7, "peak_bytes": 2**20}
    monkeypatch.setattr("gan.timing.step_costs", lambda configs: dict.fromkeys(configs, cost))
    measure_costs(loaded, folder.path, print)
    write_report(loaded, folder.path)
    html = (folder.path / "report.html").read_text()
    assert "Kernels &lt;&amp;&gt; more" in html and "12.00 ± 2.83" in html
    assert html.count("data:image/png;base64,") == 2  # curves and trade-off: no run left a grid
    assert "http" not in html and "<script" not in html
    table = list(csv.DictReader((folder.path / "table.csv").open()))
    assert [(r["row"], float(r["final_mean"]), float(r["ms_per_step"])) for r in table] == [("c2", 12.0, 5.0), ("c3", 9.5, 5.0)]
    record = json.loads((folder.path / "table.json").read_text())
    assert record["runs"][0]["last"]["scores"][0]["card"]["weights_sha256"] == "a" * 64


def test_a_report_of_nothing_finished_is_still_a_report(study):
    loaded, folder = study({"c2": [], "c3": []})
    folder.path.mkdir()
    assert "Unfinished: 0 of 4" in write_report(loaded, folder.path)


def test_a_report_of_a_study_that_never_began_says_so(study):
    loaded, folder = study({"c2": [], "c3": []})
    with pytest.raises(StudyError, match="repeat the command without --report"):
        write_report(loaded, folder.path)


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
    probe = folder.run(jobs_of(loaded)[0]) / "probe.json"
    probe.write_text(json.dumps({"floor": {"phase_mean_variance": 0.002, "spectrum_gap": 0.03}}))
    rows = instrument_cells(lines_of(loaded, folder))[1]
    assert rows[-1] == ["real images", "-", "0.002"]
    probe.write_text("torn")
    assert [row[0] for row in instrument_cells(lines_of(loaded, folder))[1]] == ["c2", "c3"]


def test_a_legend_of_long_labels_stays_within_the_figure(study_file, tmp_path):
    labels = [f"row number {i} of a study with long labels" for i in range(7)]
    rows = [{"label": label, "train.lr_g": 1e-4 * (i + 1)} for i, label in enumerate(labels)]
    loaded, folder = load_study(study_file(rows=rows, axes={}, baseline=labels[0])), StudyFolder(tmp_path / "out")
    for job in jobs_of(loaded):
        leave_result(folder, loaded, job, **result(9.0))
    figure = plot_curves(lines_of(loaded, folder))
    figure.canvas.draw()
    box = figure.legends[0].get_window_extent()
    assert box.x0 >= 0 and box.x1 <= figure.bbox.width
