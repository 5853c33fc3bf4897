"""How many seeds: by the spread alone, as many as the interval needs, and hours from what runs took."""

import math
from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

from study.analysis import analyse
from study.inference import half_width
from study.plan import grown, plan, width_reached
from study.study import StudyError
from tests.study.results import NAN, result

CLOSE = {"c2": [10.0, 20.5, 30.0], "c3": [10.0, 20.0, 30.5], "c4": [12.0, 24.0, 36.5]}
APART = {"c2": [10.0, 26.0, 30.0], "c3": [10.0, 20.0, 36.0], "c4": [12.0, 20.0, 42.0]}


def test_a_study_that_knows_enough_does_not_grow(study):
    loaded, folder = study(CLOSE, seeds=[0, 1, 2])
    reached, without = width_reached(loaded, analyse(loaded, folder))
    assert without == [] and 0 < reached < 0.2 and grown(loaded, folder.path, reached + 0.001, 20) is None
    assert grown(loaded, folder.path, reached - 0.001, 20).seeds == [0, 1, 2, 3]


def test_it_grows_as_its_spread_asks_and_at_most_to_twice_its_size(study):
    loaded, folder = study(APART, seeds=[0, 1, 2])
    deviation = analyse(loaded, folder).groups[""].deviation
    assert grown(loaded, folder.path, math.expm1(half_width(2, 5, deviation)) + 1e-6, 99).seeds == list(range(5))
    assert grown(loaded, folder.path, 0.01, 99).seeds == list(range(6))
    assert grown(loaded, folder.path, 0.01, 5).seeds == list(range(5))
    assert grown(loaded, folder.path, 0.01, 3) is None


def test_growing_is_blind_to_the_differences(study):
    seeds = []
    for factor in (1.0, 3.0):  # the same spread, other differences
        values = {**APART, "c2": [factor * value for value in APART["c2"]]}
        loaded, folder = study(values, seeds=[0, 1, 2])
        seeds.append(grown(loaded, folder.path, 0.4, 99).seeds)
    assert seeds[0] == seeds[1]


def test_one_seed_grows_to_two_before_anything_is_known(study):
    loaded, folder = study({"c2": [10.0], "c3": [11.0]}, seeds=[0])
    assert grown(loaded, folder.path, 0.1, 20).seeds == [0, 1]


def test_more_runs_are_started_where_not_all_converge(study):
    all_there = study(APART, seeds=[0, 1, 2])
    deviation = analyse(*all_there).groups[""].deviation
    wanted = half_width(2, 5, deviation) + 1e-6
    assert len(grown(all_there[0], all_there[1].path, math.expm1(wanted), 99).seeds) == 5
    half = {row: [*values, *[NAN] * 3] for row, values in APART.items()}
    loaded, folder = study(half, seeds=list(range(6)))
    assert len(grown(loaded, folder.path, math.expm1(wanted), 99).seeds) == 10


def test_seeds_of_the_tuning_are_not_taken(study):
    tune = {"grid": {"train.lr_g": [0.1, 0.2]}, "seeds": [3]}
    loaded, folder = study(APART, seeds=[0, 1, 2], tune=tune)
    assert grown(loaded, folder.path, 0.01, 5).seeds == [0, 1, 2, 4, 5]


def test_a_study_without_a_converged_baseline_does_not_grow_for_ever(study):
    loaded, folder = study({"c2": [10.0, 11.0], "c3": [NAN, NAN]})
    assert grown(loaded, folder.path, 0.1, 20) is None and width_reached(loaded, analyse(loaded, folder)) == (None, [""])


# --- plans -------------------------------------------------------------------------------------------------------------------


def table(text):
    return [[cell.strip() for cell in line.strip("| ").split("|")] for line in text.splitlines() if line.startswith("| ±")]


def test_a_plan_has_seeds_runs_and_hours_of_the_pilots_own_runs(study):
    timed = {row: [result(v, seconds={"training": 1800.0, "scoring": 1800.0}) for v in values] for row, values in APART.items()}
    loaded, folder = study(timed, seeds=[0, 1, 2])
    deviation = analyse(loaded, folder).groups[""].deviation
    rows = table(plan(loaded, loaded, folder.path, workers=2))
    assert [row[0] for row in rows] == ["± 5%", "± 10%", "± 20%"]
    for row, share in zip(rows, (0.05, 0.1, 0.2)):
        seeds, surely, runs, hours, two = (float(cell.replace(",", "")) for cell in row[1:])
        bound = deviation * (4 / stats.chi2.ppf(0.2, 4)) ** 0.5  # of its 4 degrees of freedom
        assert half_width(2, int(surely), bound) <= math.log1p(share) < half_width(2, int(surely) - 1, bound)
        assert half_width(2, int(seeds), deviation) <= math.log1p(share) < half_width(2, int(seeds) - 1, deviation)
        assert (runs, hours, two) == (3 * seeds, runs, pytest.approx(runs / 2, abs=0.06))
    assert all(int(a[1].replace(",", "")) > int(b[1].replace(",", "")) for a, b in pairwise(rows))


def test_a_longer_study_takes_longer_to_train_and_as_long_to_score(study):
    timed = {row: [result(v, seconds={"training": 1800.0, "scoring": 1800.0}) for v in values] for row, values in APART.items()}
    pilot, folder = study(timed, seeds=[0, 1, 2])
    longer = pilot.model_copy(update={"settings": {"train.steps": 12}})
    rows = table(plan(longer, pilot, folder.path, workers=1))
    assert float(rows[0][4].replace(",", "")) == pytest.approx(2 * float(rows[0][3].replace(",", "")), abs=0.06)


def test_hours_grow_with_the_work_of_a_step_and_are_unknown_for_another_device(study):
    timed = {row: [result(v, seconds={"training": 1800.0, "scoring": 0.0}) for v in values] for row, values in APART.items()}
    pilot, folder = study(timed, seeds=[0, 1, 2])
    twice = pilot.model_copy(
        update={"settings": {**pilot.settings, "train.batch_size": 2 * pilot.config(pilot.jobs[0]).train.batch_size}}
    )
    alone, double = (table(plan(s, pilot, folder.path, workers=1))[0][4] for s in (pilot, twice))
    assert float(double.replace(",", "")) == pytest.approx(2 * float(alone.replace(",", "")), abs=0.1)
    elsewhere = pilot.model_copy(update={"settings": {**pilot.settings, "train.device": "cuda"}})
    assert table(plan(elsewhere, pilot, folder.path, workers=1))[0][4:] == ["unknown", "unknown"]


def test_a_pilot_of_another_task_is_refused(study):
    loaded, folder = study(APART, seeds=[0, 1, 2])
    with pytest.raises(StudyError, match="is a study of task gan, this one of classify"):
        plan(loaded.model_copy(update={"task": "classify"}), loaded, folder.path, 1)


def test_a_pilot_without_seconds_goes_by_its_timed_steps_and_says_so(study, monkeypatch):
    loaded, folder = study(APART, seeds=[0, 1, 2])
    assert "Hours are unknown" in plan(loaded, loaded, folder.path, 1) and "unknown" in plan(loaded, loaded, folder.path, 1)
    monkeypatch.setattr("study.plan.read_costs", lambda *_: {"c2": {"ms_per_step": 900_000.0}})
    text = plan(loaded, loaded, folder.path, 1)
    assert "of training steps alone" in text
    hours, two = table(text)[0][4:]
    assert float(hours.replace(",", "")) == pytest.approx(float(table(text)[0][3].replace(",", "")), abs=0.06) and two == "unknown"


def test_a_plan_counts_the_tuning(study):
    loaded, folder = study(APART, seeds=[0, 1, 2])
    tuned = loaded.model_copy(update={"tune": loaded.model_validate({**loaded.dump(), "tune": TUNE}).tune})
    without, with_it = (table(plan(s, loaded, folder.path, 1)) for s in (loaded, tuned))
    assert [int(b[3].replace(",", "")) - int(a[3].replace(",", "")) for a, b in zip(without, with_it)] == [6, 6, 6]


TUNE = {"grid": {"train.lr_g": [0.1, 0.2]}, "seeds": [1000]}


def test_a_pilot_of_one_seed_is_none(study):
    loaded, folder = study({"c2": [10.0], "c3": [11.0]}, seeds=[0])
    with pytest.raises(StudyError, match="has no two seeds of converged runs"):
        plan(loaded, loaded, folder.path, 1)


def test_no_number_of_seeds_makes_up_for_few_test_images(classifiers):
    generator = np.random.default_rng(0)
    one = {row: generator.uniform(size=500) < 0.2 for row in ("c2", "c3")}
    loaded, folder = classifiers({row: [0, 0] for row in one}, wrong={row: [own, own] for row, own in one.items()})
    assert grown(loaded, folder.path, 0.1, 20) is None
    reached, _ = width_reached(loaded, analyse(loaded, folder))
    assert reached > 0.1
    text = plan(loaded, loaded, folder.path, workers=1)
    assert table(text)[0] == ["± 5%", "none is enough", "-", "-", "-", "-"]
    assert "Its test images alone leave a change uncertain by up to ±" in text
