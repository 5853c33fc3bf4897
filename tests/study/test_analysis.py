"""The statistics of a study, from made-up results with known answers."""

import pytest
from scipy import stats

from metrics.protocol import ProtocolError
from study.analysis import lines_of, not_converged, paired_difference
from tests.study.results import result, scored


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


def test_a_score_of_zero_and_a_score_that_is_no_number_are_no_accident(study):
    loaded, folder = study({"c2": [result(0.0, curve=(1.0, 0.0, 0.0, 0.0))], "c3": [9.0]})
    assert lines_of(loaded, folder)[0].settling is None
    assert "nan" in not_converged(loaded, result(float("nan")))


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


def test_unlike_scores_are_not_compared(study):
    loaded, folder = study({"c2": [scored(10.0, precision="bf16")], "c3": [9.0]})
    with pytest.raises(ProtocolError, match="precision"):
        lines_of(loaded, folder)
