"""Each row chooses its settings on seeds of its own."""

import pytest

from study.folder import StudyFolder
from study.study import Study
from study.text import tuning_cells, tuning_note
from study.tuning import choices, with_choices
from tests.helpers import leave_result
from tests.study.results import NAN, result

TUNE = {"grid": {"train.lr_g": [1e-4, 2e-4, 4e-4], "train.lr_d": [1e-4, 2e-4]}, "seeds": [1000]}
AXES = {"generator.kernel": ["c2", "c3"]}


@pytest.fixture
def tuned(study_file, tmp_path):
    """tuned(value of (kernel, lr_g, lr_d)) -> the study and its folder, with all tuning runs done; None: it diverged."""

    def made(value):
        loaded = Study.load(study_file(axes=AXES, tune=TUNE))
        tuning, folder = loaded.tuning(), StudyFolder(tmp_path / "out" / "tuning")
        for job in tuning.jobs:
            s = job.row.settings
            found = value(s["generator.kernel"], s["train.lr_g"], s["train.lr_d"])
            leave_result(folder, tuning, job, **{**(NAN if found is None else result(found)), "seed": job.seed})
        return loaded, tmp_path / "out"

    return made


def test_every_combination_is_tried_for_every_row_on_seeds_of_its_own(study_file):
    tuning = Study.load(study_file(axes=AXES, tune=TUNE)).tuning()
    assert len(tuning.jobs) == 2 * 3 * 2 and {job.seed for job in tuning.jobs} == {1000}
    found = {(c.generator.kernel, c.train.lr_g, c.train.lr_d) for c in map(tuning.config, tuning.jobs)}
    assert found == {(k, g, d) for k in ("c2", "c3") for g in (1e-4, 2e-4, 4e-4) for d in (1e-4, 2e-4)}


def test_each_row_is_trained_at_its_own_best(tuned):
    best = {"c2": 4e-4, "c3": 2e-4}
    loaded, path = tuned(lambda kernel, g, d: 10 + 1e5 * abs(g - best[kernel]) + 1e4 * d)
    chosen = with_choices(loaded, path)
    assert chosen.tuned == {"c2": {"train.lr_g": 4e-4, "train.lr_d": 1e-4}, "c3": {"train.lr_g": 2e-4, "train.lr_d": 1e-4}}
    assert {(job.row.label, chosen.config(job).train.lr_g) for job in chosen.jobs} == {("c2", 4e-4), ("c3", 2e-4)}
    assert [row.label for row in chosen.rows] == ["c2", "c3"] and chosen.partner(chosen.rows[0]).label == "c3"
    folder = StudyFolder(path)
    folder.adopt(chosen)
    assert Study.load(path) == chosen  # what the runs read
    found = choices(loaded, path)
    assert [choice.edge for choice in found] == [["train.lr_g", "train.lr_d"], ["train.lr_d"]]
    assert "c2 (train.lr_g, train.lr_d); c3 (train.lr_d)" in tuning_note(loaded, found)
    heads, rows = tuning_cells(loaded, found)
    assert heads[:3] == ["", "train.lr_g", "train.lr_d"] and len(rows) == 12
    assert [row[:3] for row in rows if row[-1] == "chosen"] == [["c2", "0.0004", "0.0001"], ["c3", "0.0002", "0.0001"]]


def test_settings_that_converge_are_taken_before_those_that_end_lower(tuned):
    loaded, path = tuned(lambda kernel, g, d: None if g == 4e-4 else 10 + 1e4 * g)
    assert {chosen["train.lr_g"] for chosen in with_choices(loaded, path).tuned.values()} == {1e-4}


def test_a_row_of_which_nothing_converged_keeps_its_settings_and_is_named(tuned):
    loaded, path = tuned(lambda kernel, g, d: None if kernel == "c2" else 10.0)
    tuned = with_choices(loaded, path).tuned
    assert tuned.keys() == {"c2", "c3"} and tuned["c2"] == {}
    note = tuning_note(loaded, choices(loaded, path))
    assert "Of these no run converged, and they keep the study's settings: c2." in note and "by its runs of seed 1000," in note


def test_seeds_count_by_their_geometric_mean_and_edges_by_value(study_file, tmp_path):
    grid = {"train.lr_g": [2e-4, 1e-4, 4e-4], "generator.upsampling": ["nearest", "bilinear"]}
    loaded = Study.load(study_file(axes=AXES, tune={"grid": grid, "seeds": [7, 8]}))
    tuning, folder = loaded.tuning(), StudyFolder(tmp_path / "out" / "tuning")
    for job in tuning.jobs:
        s = job.row.settings
        even, best = s["train.lr_g"] == 2e-4, s["generator.upsampling"] == "bilinear"
        distance = 90.0 if not best else 22.0 if even else (10.0, 40.0)[job.seed == 8]  # of means 22 and 25, and 22 and 20
        leave_result(folder, tuning, job, **{**result(distance, curve=()), "seed": job.seed})
    found = choices(loaded, tmp_path / "out")
    assert {choice.settings["train.lr_g"] for choice in found} == {1e-4}
    assert [choice.edge for choice in found] == [["train.lr_g"]] * 2  # the least, though it stands in the middle
    assert "by its runs of seeds 7, 8," in tuning_note(loaded, found)


def test_choices_are_read_from_the_folder_where_the_runs_of_the_tuning_are_not(tuned, tmp_path):
    loaded, path = tuned(lambda kernel, g, d: 10 + 1e4 * g)
    chosen = with_choices(loaded, path)
    StudyFolder(tmp_path / "other").adopt(chosen)
    assert with_choices(loaded, tmp_path / "other").tuned == chosen.tuned


def test_nothing_is_chosen_before_all_is_tried(tuned):
    loaded, path = tuned(lambda kernel, g, d: 10.0)
    (path / "tuning" / "runs" / loaded.tuning().jobs[3].name / "record.json").unlink()
    assert choices(loaded, path) is None and with_choices(loaded, path) == loaded


def test_an_exported_study_takes_its_tuning_along(tuned, tmp_path):
    loaded, path = tuned(lambda kernel, g, d: 10 + 1e4 * g)
    chosen = with_choices(loaded, path)
    StudyFolder(path).adopt(chosen)
    StudyFolder(path / "tuning").adopt(loaded.tuning())
    assert StudyFolder(path).export(chosen, tmp_path / "light") == 12
    assert with_choices(loaded, tmp_path / "light").tuned == chosen.tuned


@pytest.mark.parametrize(
    ("tune", "words"),
    [
        ({"grid": {"train.lr_g": [1e-4, 2e-4]}, "seeds": [1]}, "seed 1 is one of the study's own"),
        ({"grid": {"generator.kernel": ["c2", "c4"]}}, "generator.kernel is what rows differ in"),
        ({"grid": {"train.lr_g": [1e-4]}}, "holds one combination"),
        ({"grid": {"train.lr_q": [1e-4, 2e-4]}}, "did you mean train.lr"),
        ({"grid": {"train.lr_g": [1e-4, -1.0]}}, "train.lr_g"),
        ({"grid": {}}, "tune.grid"),
        ({"seeds": [5]}, "tune.grid"),
    ],
)
def test_what_is_wrong_in_a_tuning_is_said_before_anything_runs(study_file, tune, words):
    from data.files import UserError

    with pytest.raises(UserError, match=words):
        Study.load(study_file(axes=AXES, tune=tune))
