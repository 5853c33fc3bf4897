"""From made-up records with known answers to what they say."""

import json
import math

import numpy as np
import pytest

from metrics.protocol import ProtocolError
from study.analysis import analyse, end_slope, late_scores, not_converged
from study.inference import percent
from study.report import write_report
from study.study import Study, StudyError
from study.text import to_markdown
from tests.study.results import FALLING, FLAT, NAN, result, same_way, scored


def line(loaded, folder, label="c2"):
    return analyse(loaded, folder).line(label)


def test_rows_are_compared_as_ratios_of_the_runs_that_converged(study):
    loaded, folder = study({"c2": [11.0, 22.0, result(90.0, diversity=0.01)], "c3": [10.0, 20.0, 30.0]}, seeds=[0, 1, 2])
    found = line(loaded, folder)
    assert (found.converged, list(found.values), found.strays) == (2, [0, 1], {2: 90.0})
    assert percent(found.comparison.difference.estimate) == pytest.approx(0.1) and found.comparison.against == "c3"
    assert found.share == pytest.approx((0.09429932, 0.99159624))
    assert line(loaded, folder, "c3").comparison is None


def test_equal_rows_are_equal_and_others_say_how_many_seeds_would_tell(study):
    loaded, folder = study({"c2": [10.0, 20.0], "c3": [10.0, 20.0], "c4": [11.0, 25.0]}, seeds=[0, 1])
    analysis = analyse(loaded, folder)
    assert analysis.line("c4").comparison.word is None and analysis.line("c4").comparison.more >= 1
    loaded, folder = study({"c2": [10.0, 20.0], "c3": [10.0, 20.0]}, seeds=[0, 1])
    assert line(loaded, folder).comparison.word == "equal"


def test_rows_of_which_fewer_converge_need_more_seeds_for_as_many_runs(study):
    values = {"c2": [11.0, 21.0, 33.0, 48.0], "c3": [10.0, 22.0, 30.0, 41.0]}
    all_there = line(*study(values, seeds=[0, 1, 2, 3])).comparison.more
    values["c2"] += [NAN] * 4
    values["c3"] += [NAN] * 4
    assert line(*study(values, seeds=list(range(8)))).comparison.more == 2 * all_there


def test_symmetric_kernels_are_compared_with_their_twins_unless_the_study_says_otherwise(study):
    values = {"c2": [10.0, 20.0], "c2sp": [8.0, 17.0], "c3": [9.0, 20.0], "c4sp": [9.0, 21.0]}
    (found,) = analyse(*study(values)).contrasts
    assert (found.row, found.against) == ("c2sp", "c2")
    assert found.difference.estimate == pytest.approx(math.log(8 * 17 / 200) / 2) and 0 < found.difference.p < 1
    declared = analyse(*study(values, contrasts=[["c4sp", "c2"], ["c2", "c4sp"]])).contrasts
    assert [(c.row, c.against) for c in declared] == [("c4sp", "c2"), ("c2", "c4sp")]
    assert analyse(*study(values, contrasts=[])).contrasts == []


def test_contrasts_of_several_groups_are_corrected_for_each_other(study_file, tmp_path):
    from study.folder import StudyFolder
    from study.study import Study
    from tests.helpers import leave_result

    axes = {"generator.kernel": ["c2", "c2sp", "c3"], "generator.upsampling": ["nearest", "unpool"]}
    loaded, folder = Study.load(study_file(axes=axes, seeds=[0, 1, 2])), StudyFolder(tmp_path / "out")
    for i, job in enumerate(loaded.jobs):
        leave_result(folder, loaded, job, **result(10.0 + (7 * i) % 5 + 10 * (job.row.settings["generator.kernel"] == "c2")))
    both = analyse(loaded, folder).contrasts
    assert [(c.row, c.against) for c in both] == [("c2sp nearest", "c2 nearest"), ("c2sp unpool", "c2 unpool")]
    declared = loaded.model_copy(update={"contrasts": [("c2sp nearest", "c2 nearest")]})
    (alone,) = analyse(declared, folder).contrasts
    smaller = min(both, key=lambda c: c.difference.p)
    if smaller.row == alone.row:
        assert smaller.difference.p == pytest.approx(2 * alone.difference.p)
    else:
        assert both[0].difference.p >= alone.difference.p


# --- which distance ----------------------------------------------------------------------------------------------------------


def test_scores_taken_alike_in_training_are_averaged_with_the_final_one(study):
    found = result(8.0, curve=(30.0, 27.0, 12.0, 99.0))  # the one of the last step is of other latents
    assert late_scores(same_way(found)) == [27.0, 12.0, 8.0]
    loaded, folder = study({"c2": [found], "c3": [9.0]}, seeds=[0], scoring={"every": 1})
    analysis = analyse(loaded, folder)
    assert analysis.averaged and analysis.line("c2").values[0] == pytest.approx((27 * 12 * 8) ** (1 / 3))


def test_scores_taken_in_another_way_are_not_averaged():
    assert late_scores(same_way(result(8.0), samples=1000)) == [8.0]
    assert late_scores(same_way(result(8.0), split="test")) == [8.0]
    other = same_way(result(8.0))
    other["scoring"]["reference"] = "faces.zip"
    assert late_scores(other) == [8.0]
    assert late_scores(same_way(result(8.0, curve=()))) == [8.0]


def test_a_score_of_zero_and_a_score_that_is_no_number_are_no_accident(study):
    loaded, folder = study({"c2": [result(0.0, curve=(1.0, 0.0, 0.0, 0.0))], "c3": [9.0]})
    assert line(loaded, folder).flatness is None and line(loaded, folder).comparison is None
    assert "nan" in not_converged(loaded, result(float("nan")))


# --- flat or not -------------------------------------------------------------------------------------------------------------


def test_an_error_of_zero_counts_as_half_a_test_image(study):
    none, some = [scored(value, test_count=100) for value in (0.0, 2.0)], [scored(2.0, test_count=100)] * 2
    loaded, folder = study({"c2": none, "c3": some}, seeds=[0, 1])
    found = line(loaded, folder)
    assert list(found.values.values()) == [0, 2] and found.comparison.difference.estimate == pytest.approx(math.log(0.25) / 2)


def test_a_run_that_ended_with_no_number_leaves_a_table_and_a_curve(study):
    broken = result(math.nan, curve=(30.0, math.inf, 20.0, math.nan))
    loaded, folder = study({"c2": [broken, broken], "c3": [10.0, 20.0]}, seeds=[0, 1])
    assert line(loaded, folder).strays == {} and "None converged: c2" in write_report(loaded, folder.path)


def test_twins_of_unlike_baselines_are_no_contrast(study_file):
    axes = {"generator.kernel": ["c2", "c2sp"], "generator.upsampling": ["nearest", "unpool"]}
    pairs = lambda baseline: Study.load(study_file(axes=axes, baseline=baseline)).contrast_pairs
    assert len(pairs({"generator.upsampling": "nearest"})) == 0 and len(pairs({"generator.kernel": "c2"})) == 2


def test_the_slope_is_that_of_the_line_through_the_end():
    falls = [math.exp(-0.2 * i) for i in range(11)]  # by 0.2 a step of ten: 0.5 in a quarter of training
    record = result(1.0, curve=falls)
    assert end_slope(record) == pytest.approx(-0.2 * 11 / 4)
    assert end_slope(result(1.0, curve=(9.0, 9.0, 9.0, 9.0, 9.0, 5.0, 5.0, 5.0, 5.0, 5.0))) == pytest.approx(0)
    assert end_slope(result(1.0, curve=(9.0, 8.0))) is None


@pytest.mark.parametrize(
    ("runs", "word"),
    [([FLAT] * 3, "flat"), ([FALLING] * 3, "improving"), ([result(1.0, curve=(18.0, 20.0, 25.0, 30.0))] * 3, "worsening")],
    ids=["flat", "improving", "worsening"],
)
def test_rows_whose_runs_agree_are_flat_or_not(study, runs, word):
    noisy = [result(9.0, curve=(20.0, 20.0 + d, 20.0, 20.0 - d)) for d in (0.3, 0.0, -0.3)]
    loaded, folder = study({"c2": [noise(run, d) for run, d in zip(runs, (0.01, 0.0, -0.01))], "c3": noisy}, seeds=[0, 1, 2])
    assert line(loaded, folder).flatness.word == word


def noise(run, share):
    curve = [{**point, "fd_f": point["fd_f"] * (1 + share * i)} for i, point in enumerate(run["curve"])]
    return {**run, "curve": curve}


def test_where_the_wobble_is_larger_than_the_trend_it_cannot_be_told(study):
    wobbling = [result(9.0, curve=(20.0, 20.0, 20.0, 20.0 * f)) for f in (0.7, 1.3, 0.8)]
    loaded, folder = study({"c2": wobbling, "c3": wobbling}, seeds=[0, 1, 2])
    assert line(loaded, folder).flatness.word is None
    loaded, folder = study({"c2": [FALLING], "c3": [FALLING]}, seeds=[0])
    assert line(loaded, folder).flatness.word is None  # one seed has no standard error


def test_runs_that_did_not_converge_say_nothing_of_the_curve(study):
    collapsed = result(10.0, curve=(40.0, 30.0, 20.0, 10.0), diversity=0.01)
    loaded, folder = study({"c2": [collapsed, FLAT, FLAT], "c3": [FLAT, FLAT, FLAT]}, seeds=[0, 1, 2])
    assert line(loaded, folder).flatness.change.estimate == pytest.approx(0, abs=1e-9)


# --- what did not converge ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"diversity": 0.02}, "collapsed"), ({"diversity": None}, None), ({"diversity": 0.5}, None)],
)
def test_a_collapsed_generator_has_not_converged(study, changes, words):
    loaded, _ = study({"c2": [], "c3": []})
    why = not_converged(loaded, result(10.0, **changes))
    assert (why is None) if words is None else words in why


@pytest.mark.parametrize(
    ("judged", "gave_up"),
    [
        ({"logit_spread": 0.0}, True),
        ({"logit_spread": 9e-6}, True),
        ({"logit_spread": 2e-4, "advantage": 0.0}, False),  # small logits, and the two networks are even
        ({"advantage": 3e-6}, True),
        ({"advantage": 9e-5}, False),
        ({"advantage": None}, False),
    ],
)
def test_a_run_whose_discriminator_gave_up_has_not_converged(study, judged, gave_up):
    loaded, _ = study({"c2": [], "c3": []})
    why = not_converged(loaded, result(10.0, **judged))
    assert ("gave up" in why) if gave_up else why is None


def test_a_score_above_the_bound_has_not_converged(study):
    loaded, _ = study({"c2": [], "c3": []}, worse_than=50)
    assert not_converged(loaded, result(49.9)) is None
    assert "above 50" in not_converged(loaded, result(50.1))


def test_unlike_scores_are_not_compared(study):
    loaded, folder = study({"c2": [scored(10.0, precision="bf16")], "c3": [9.0]})
    with pytest.raises(ProtocolError, match="precision"):
        analyse(loaded, folder)


# --- instruments -------------------------------------------------------------------------------------------------------------


def probed(folder, loaded, numbers, real=None):
    """Leave these numbers as the probes of the first row, seed by seed."""
    for seed, found in enumerate(numbers):
        job = next(job for job in loaded.jobs if job.row.label == "c2" and job.seed == seed)
        record = {"numbers": found, "real": real or {}, "floor": {"phase_mean_variance": 0.002}}
        (folder.run(job) / "probe.json").write_text(json.dumps(record))


def test_instruments_keep_their_signs_so_that_noise_averages_out(study):
    loaded, folder = study({"c2": [10.0, 14.0], "c3": [9.0, 10.0]})
    probed(folder, loaded, [{"drift_x_px": 0.3, "drift_px": 0.3}, {"drift_x_px": -0.3, "drift_px": 0.3}])
    found = line(loaded, folder)
    drift = found.instruments["drift_x_px"]
    assert drift.estimate == 0 and drift.low == -drift.high < 0 and "drift_px" not in found.instruments
    assert found.floor == {"phase_mean_variance": 0.002}


def test_borders_are_compared_with_those_of_real_images_also_in_older_records(study):
    loaded, folder = study({"c2": [10.0, 14.0], "c3": [9.0, 10.0]})
    probed(folder, loaded, [{"border_left_right": 0.2}, {"border_left_right": 0.1}], real={"border_left_right": 0.05})
    assert line(loaded, folder).instruments["border_left_right_excess"].estimate == pytest.approx(0.1)


def test_what_is_only_rounding_has_no_interval(study):
    loaded, folder = study({"c2": [10.0, 14.0], "c3": [9.0, 10.0]})
    probed(folder, loaded, [{"phase_gain": 2e-8, "overlap_variation": 0.484}, {"phase_gain": 3e-8, "overlap_variation": 0.484}])
    found = line(loaded, folder).instruments
    assert (found["phase_gain"].estimate, found["phase_gain"].low) == (0, None) and found["overlap_variation"].low is None


def test_a_run_without_a_record_of_its_instruments_has_its_headlines(study):
    loaded, folder = study({"c2": [result(10.0, probe={"spread_px": 3.0})], "c3": [9.0]})
    assert line(loaded, folder).instruments["spread_px"].estimate == 3.0
    (folder.run(loaded.jobs[0]) / "probe.json").write_text("torn")
    assert line(loaded, folder).instruments["spread_px"].estimate == 3.0


# --- classifiers -------------------------------------------------------------------------------------------------------------


def some_wrong(seed, count=2000):
    generator, errors = np.random.default_rng(seed), {"c2": 0.13, "c2sp": 0.12, "c3": 0.11}
    return {row: [generator.uniform(size=count) < error for _ in range(2)] for row, error in errors.items()}


def test_test_images_widen_intervals_and_more_seeds_would_not_narrow_them(classifiers):
    wrong = some_wrong(0)
    alone = analyse(*classifiers({row: [100 * w.mean() for w in own] for row, own in wrong.items()}))
    both = analyse(*classifiers({row: [0, 0] for row in wrong}, wrong=wrong))
    assert both.groups[""].images > 0 and both.groups[""].deviation == pytest.approx(alone.groups[""].deviation)
    same = {row: [own[0], own[0]] for row, own in wrong.items()}  # no spread over seeds at all
    loaded, folder = classifiers({row: [0, 0] for row in wrong}, wrong=same)
    certain = analyse(loaded, folder)
    d = certain.line("c2sp").comparison.difference
    assert certain.groups[""].deviation == pytest.approx(0, abs=1e-9) and d.high - d.low > 0.1
    assert certain.line("c2sp").comparison.word is None and certain.line("c2sp").comparison.more is None
    text = to_markdown(loaded, certain, {})
    assert "not resolved: more test images, not seeds" in text and "for other seeds and other test images" in text


def test_classifiers_of_unlike_images_are_not_compared(classifiers):
    with pytest.raises(StudyError, match=r"c3/seed_0 was tested on other images than c2/seed_0.*take c3/seed_0 out of"):
        analyse(*classifiers({"c2": [10.0], "c3": [9.0]}, cards={"c3": {"test_sha256": "other"}}))
    with pytest.raises(StudyError, match=r"c3/seed_0 was trained on other images than c2/seed_0"):
        analyse(*classifiers({"c2": [10.0], "c3": [9.0]}, cards={"c3": {"train_sha256": "other"}}))


def test_a_classifier_that_names_images_at_random_has_not_converged(classifiers):
    analysis = analyse(*classifiers({"c2": [89.6, 88.0], "c3": [9.0, 9.5]}))
    assert analysis.line("c2").problems == ["seed 0: it names images as if at random: its test error is 89.6 %"]
    assert list(analysis.line("c2").values) == [1]
