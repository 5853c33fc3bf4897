"""The definition of a study: its rows, seeds and settings."""

import datetime

import pytest

from gan.models.build import build_generator
from gan.models.counting import parameter_count
from gan.settings import ConfigError
from study.study import Job, Study, StudyError, folder_name
from tests.helpers import ROOT

STUDIES = sorted(ROOT.glob("configs/studies/*.yaml"))


@pytest.mark.parametrize("file", STUDIES, ids=lambda f: f.stem)
def test_every_study_that_comes_along_is_whole(file):
    study = Study.load(file)
    assert len(study.seeds) >= 2
    partners = {row.label: study.partner(row) for row in study.rows}
    assert {p.label for p in partners.values() if p} == {label for label, p in partners.items() if p is None}


def test_the_study_that_the_documentation_shows_is_whole(tmp_path):
    text = (ROOT / "docs/studies.md").read_text().partition("```yaml\n")[2].partition("```")[0]
    (tmp_path / "study.yaml").write_text(text.replace("../cifar10", str(ROOT / "configs/cifar10")))
    study = Study.load(tmp_path / "study.yaml")
    assert len(study.jobs) == 3 * 2 * 3 and study.scoring.split == "test"
    assert [(a.label, b.label) for a, b in study.contrast_pairs] == [("c2sp nearest", "c2 nearest")]
    assert len(study.tuning().jobs) == 6 * 9 * 2


def labels(study):
    return [row.label for row in study.rows]


def test_rows_are_all_combinations_of_the_axes(study_file):
    assert labels(Study.load(study_file())) == ["c2 nearest", "c2 unpool", "c3 nearest", "c3 unpool"]


def test_rows_and_axes_multiply(study_file):
    rows = [{"label": "slow", "train.lr_g": 1e-5}, {"train.lr_g": 0.01}]
    study = Study.load(study_file(rows=rows, axes={"generator.kernel": ["c2", "c3"]}))
    assert labels(study) == ["slow c2", "slow c3", "0.01 c2", "0.01 c3"]
    assert [study.config(job).train.lr_g for job in study.jobs[:4]] == [1e-5, 1e-5, 0.01, 0.01]


def test_runs_go_seed_by_seed_and_differ_in_row_and_seed_alone(study_file):
    study = Study.load(study_file(settings={"train.steps": 7}))
    jobs = study.jobs
    assert [job.seed for job in jobs] == [0] * 4 + [1] * 4
    a, b = study.config(jobs[0]), study.config(jobs[6])
    assert (a.train.steps, a.generator.kernel, a.generator.upsampling, a.train.seed) == (7, "c2", "nearest", 0)
    assert b.replace({"generator.kernel": "c2", "train.seed": 0}) == a


def test_each_row_is_compared_with_its_own_baseline(study_file):
    study = Study.load(study_file())
    pairs = {row.label: study.partner(row) for row in study.rows}
    assert {k: v and v.label for k, v in pairs.items()} == {
        "c2 nearest": "c3 nearest", "c2 unpool": "c3 unpool", "c3 nearest": None, "c3 unpool": None
    }  # fmt: skip


def test_each_symmetric_kernel_is_compared_with_its_twin_in_its_own_group(study_file):
    study = Study.load(
        study_file(axes={"generator.kernel": ["c2", "c2sp", "c3", "c4sp"], "generator.upsampling": ["nearest", "unpool"]})
    )
    pairs = [("c2sp nearest", "c2 nearest"), ("c2sp unpool", "c2 unpool")]
    assert [(a.label, b.label) for a, b in study.contrast_pairs] == pairs
    assert Study.load(study_file(contrasts=[])).contrast_pairs == []


def test_scores_in_training_are_taken_as_the_final_ones_are_where_the_study_says_so(study_file):
    scoring = {"every": 5, "samples": 60, "real": 50, "split": "test"}
    study = Study.load(study_file(scoring=scoring, base={"evaluate": {"samples": 20}}))
    e = study.config(study.jobs[0]).evaluate
    assert (e.every, e.samples, e.real, e.split, e.features) == (5, 60, 50, "test", study.scoring.features)
    assert "every" not in study.scoring.protocol()


def test_scores_of_an_earlier_version_are_those_of_the_study_where_what_they_lack_is_the_default(study_file):
    study = Study.load(study_file(scoring={"samples": 60}))
    old = {key: value for key, value in study.scoring.protocol().items() if key != "weights"}
    assert study.scoring.is_that_of(old) and not study.scoring.is_that_of({**old, "samples": 50})
    assert not Study.load(study_file(scoring={"samples": 60, "weights": "a.pth"})).scoring.is_that_of(old)


def test_seeds_are_named_on_the_command_line_too(study_file):
    assert Study.load(study_file(), seeds=[3, 4]).seeds == [3, 4]
    with pytest.raises(StudyError, match="seed occurs twice"):
        Study.load(study_file(), seeds=[3, 3])


def test_labels_may_be_numbers(study_file):
    study = Study.load(study_file(rows=[{"label": 16, "train.lr_g": 1e-5}], axes={}, baseline="16"))
    assert labels(study) == ["16"]


def test_one_row_can_be_the_baseline_of_all(study_file):
    study = Study.load(study_file(baseline="c2 unpool"))
    partners = [study.partner(row) for row in study.rows]
    assert [p and p.label for p in partners] == ["c2 unpool", None, "c2 unpool", "c2 unpool"]


def test_a_base_is_found_beside_the_study_file(study_file, tmp_path):
    (tmp_path / "base.yaml").write_text("train: {batch_size: 16}")
    study = Study.load(study_file(base="base.yaml"))
    assert study.config(study.jobs[0]).train.batch_size == 16


def test_rows_have_short_folders_without_an_equals_sign(study_file):
    labels = ["lr=1e-5", "a" * 60, "a" * 59 + "b", "c2sp, paper's rule"]
    rows = [{"label": label, "train.lr_g": 1e-5 * (i + 1)} for i, label in enumerate(labels)]
    slugs = [row.slug for row in Study.load(study_file(rows=rows, axes={}, baseline=labels[0])).rows]
    assert slugs[0] == "lr_1e-5" and slugs[3] == "c2sp_paper_s_rule"
    assert len(set(slugs)) == 4 and len(slugs[1]) == 40 and slugs[1][:31] == slugs[2][:31]
    assert [folder_name(former) for former in ("lr=1e-5", "a" * 60, slugs[1])] == [*slugs[:2], slugs[1]]


def test_overrides_reach_every_run(study_file):
    study = Study.load(study_file(settings={"train.steps": 7}), ["train.steps=3"])
    assert {study.config(job).train.steps for job in study.jobs} == {3}


def test_overrides_that_rows_or_the_grid_would_undo_are_refused(study_file):
    file = study_file(rows=[{"label": "long", "train.steps": 9}, {"label": "short"}], tune={"grid": {"train.lr_g": [0.1, 0.2]}})
    for key, where in (("train.steps", "rows or axes"), ("generator.kernel", "rows or axes"), ("train.lr_g", "tune.grid")):
        with pytest.raises(StudyError, match=rf"{key}: the study's {where} set it"):
            Study.load(file, [f"{key}={'c4' if 'kernel' in key else 3}"])


def test_two_rows_of_equal_settings_are_no_contrast(study_file):
    rows = [{"label": label, "generator.kernel": kernel} for label, kernel in (("a", "c2"), ("again", "c2"), ("sp", "c2sp"))]
    loaded = Study.load(study_file(rows=rows, axes={}, baseline="a"))
    assert [(row.label, other.label) for row, other in loaded.contrast_pairs] == [("sp", "a"), ("sp", "again")]


def test_an_automatic_precision_in_a_folders_own_file_is_settled(study_file, tmp_path):
    file = study_file(settings={"train.precision": "auto", "train.device": "cpu"}, scoring={"precision": "auto"})
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "study.yaml").write_text(file.read_text())
    settled = Study.load(tmp_path / "out").settled(tmp_path / "out")
    assert settled.auto_precision in ("fp32", "bf16") and settled.scoring.precision == settled.auto_precision


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"axes": {"generator.kernl": ["c2"]}}, ConfigError, "did you mean generator.kernel"),
        ({"axes": {"generator.kernel": ["c2", "c9"]}}, ConfigError, "c9"),
        ({"settings": {"train.steps": -1}}, ConfigError, "train.steps"),
        ({"seeds": []}, StudyError, "seeds"),
        ({"seeds": [1, 1]}, StudyError, "seed occurs twice"),
        ({"baseline": "c5"}, StudyError, "its rows are c2 nearest"),
        ({"baseline": {"generator.kernel": "c5"}}, StudyError, "turns no row"),
        ({"rows": [{"train.lr_g": 0.1, "label": "x"}, {"train.lr_g": 0.2, "label": "x"}]}, StudyError, "label 'x c2 nearest'"),
        ({"sedes": [1]}, StudyError, "sedes"),
        ({"axes": {"generator.kernel": []}}, StudyError, "has no rows"),
        ({"scoring": {"reference": "a.npz", "real": 50}}, StudyError, "leave one of them out"),
        ({"rows": [{"label": "??"}], "axes": {}, "baseline": "??"}, StudyError, "no letter or digit"),
        ({"base": {"generator": 4}}, ConfigError, "generator"),
        ({"seeds": [True, 0]}, StudyError, "seeds.0"),
        ({"settings": "abc"}, StudyError, "settings"),
        ({"settings": {"train.seed": 3}}, StudyError, "train.seed is set by the study's `seeds`"),
        ({"settings": {"train.device": "cuda:1"}}, StudyError, "CUDA_VISIBLE_DEVICES"),
        ({"settings": {"train.lr_g": datetime.date(2020, 1, 1)}}, ConfigError, "train.lr_g: '2020-01-01' is wrong"),
        ({"base": "nowhere.yaml"}, StudyError, r"has the base nowhere.yaml, a path relative to the folder of that file"),
        (
            {"axes": {"evaluate.samples": [60, 50]}, "baseline": {"evaluate.samples": 60}},
            StudyError,
            "evaluate.samples: 50 -> 60",
        ),
        ({"contrasts": [["c2 nearest", "c9"]]}, StudyError, "contrasts: 'c9' is no row"),
        ({"contrasts": [["c2 nearest", "c3 unpool"]]}, StudyError, "are in groups that are not compared"),
        (
            {
                "rows": [{"label": "plain"}, {"label": "hinge", "objective.loss": "hinge"}],
                "axes": {},
                "baseline": {"objective.loss": "hinge"},
            },
            StudyError,
            r"'plain' is to be compared with 'hinge', but their labels put them into unlike groups \('plain' and ''\)",
        ),
        ({"equal_within": 1.5}, StudyError, "equal_within"),
        ({"scoring": {"every": 5, "reference": "a.zip"}}, StudyError, "scoring.every: training scores against"),
        ({"scoring": {"every": 5}, "settings": {"evaluate.samples": 50}}, StudyError, "leave evaluate.samples out"),
        ({"axes": {"dataset.hold_out": [0.1, 0.2]}, "baseline": {"dataset.hold_out": 0.1}}, StudyError, "other real images"),
    ],
)
def test_what_is_wrong_in_a_study_is_said_before_anything_runs(study_file, changes, error, words):
    with pytest.raises(error, match=words):
        Study.load(study_file(**changes))


def test_rows_may_have_data_of_their_own_where_each_is_compared_within_them_or_all_have_one_reference(study_file):
    axes = {"generator.kernel": ["c2", "c3"], "dataset.name": ["shapes", "cifar10"]}
    study = Study.load(study_file(axes=axes))
    assert [study.partner(row) and study.partner(row).label for row in study.rows][:2] == ["c3 shapes", "c3 cifar10"]
    with pytest.raises(StudyError, match=r"'c2 cifar10' would be compared with 'c2 shapes', which differs in dataset.name"):
        Study.load(study_file(axes=axes, baseline="c3 shapes"))
    Study.load(study_file(axes=axes, baseline="c3 shapes", scoring={"reference": "real.zip"}))
    Study.load(study_file(axes={"dataset.flip": [True, False]}, baseline="True"))
    Study.load(study_file(axes={"dataset.resolution": [32, 64]}, baseline="32", task="classify", base={}))
    with pytest.raises(StudyError, match=r"'cifar10' would be compared with 'shapes', which differs in dataset.name and is tested"):
        Study.load(study_file(axes={"dataset.name": ["shapes", "cifar10"]}, baseline="shapes", task="classify", base={}))


def test_an_override_that_is_no_yaml_is_named(study_file):
    with pytest.raises(ConfigError, match=r"train.steps: '\[1' is not a value"):
        Study.load(study_file(), ["train.steps=[1"])


def test_a_folder_without_a_study_is_named(tmp_path):
    with pytest.raises(StudyError, match=r"there is no study at .*gone"):
        Study.load(tmp_path / "gone")
    with pytest.raises(StudyError, match=r"holds no study.yaml"):
        Study.load(tmp_path)


def test_scoring_is_set_on_the_command_line_too(study_file):
    study = Study.load(study_file(), ["scoring.samples=30", "scoring.weights=mine.pth", "train.steps=9"])
    assert (study.scoring.samples, study.scoring.weights, study.settings["train.steps"]) == (30, "mine.pth", 9)


@pytest.mark.parametrize("settings", ["abc", {"train.steps": 1}])
@pytest.mark.parametrize("override", ["train.steps=2020-13-45", "train.steps", "train.steps=abc"])
def test_wrong_overrides_are_one_sentence(study_file, settings, override):
    with pytest.raises((ConfigError, StudyError)) as found:
        Study.load(study_file(settings=settings), [override])
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("name", ["upsampling_cifar10", "upsampling_cifar10_cpu", "kernels_cifar10_cpu"])
def test_rows_that_are_said_to_have_equal_parameters_have(name):
    study = Study.load(ROOT / "configs" / "studies" / f"{name}.yaml")
    counts = [parameter_count(build_generator(study.config(Job(row, 0)))) for row in study.rows]
    assert max(counts) / min(counts) < 1.05


def test_facets_are_what_differs_beside_the_baseline_even_where_values_coincide(study_file):
    axes = {"generator.kernel": ["c2", "c3"], "discriminator.kernel": ["c2", "c3"]}
    loaded = Study.load(study_file(axes=axes, baseline={"generator.kernel": "c3"}))
    assert [loaded.facet(row) for row in loaded.rows] == [("c2", "c2"), ("c3", "c2"), ("c2", "c3"), ("c3", "c3")]
    rows = [{"label": f"{k} slow", "generator.kernel": k, "train.lr_g": 0.1} for k in ("c2", "c3")]
    loaded = Study.load(study_file(rows=rows, axes={}, baseline={"generator.kernel": "c3"}))
    assert [loaded.facet(row) for row in loaded.rows] == [("lr_g 0.1", "c2"), ("lr_g 0.1", "c3")]


def test_rows_of_a_tuning_are_grouped_by_the_row_that_chooses_among_them(study_file):
    rows = [{"label": "slow and long", "train.lr_d": 0.1, "train.steps": 9}, {"label": "quick"}]
    study = Study.load(
        study_file(rows=rows, axes={}, baseline="quick", tune={"grid": {"train.lr_g": [0.1, 0.2], "train.beta1": [0]}})
    )
    tuning = study.tuning()
    assert [tuning.facet(row) for row in tuning.rows] == [
        ("slow and long", "0.1 0"), ("slow and long", "0.2 0"), ("quick", "0.1 0"), ("quick", "0.2 0")
    ]  # fmt: skip


def test_what_was_worked_out_is_kept_with_the_study_and_not_with_a_copy_that_differs(study_file):
    study = Study.load(study_file())
    job = study.jobs[0]
    assert study.config(job) is study.config(job) and study.rows is study.rows
    copy = study.model_copy(update={"seeds": [5], "axes": {"generator.kernel": ["c4"]}, "settings": {"train.steps": 7}})
    assert [job.name for job in copy.jobs] == ["c4/seed_5"] and copy.config(copy.jobs[0]).train.steps == 7
    assert copy.partner(copy.rows[0]) is None
    assert len(study.jobs) == 8 and study.config(job).train.steps != 7


def test_values_reach_a_run_as_the_file_has_them(study_file):
    settings = {"train.lr_g": 1e-05, "dataset.path": "a: b # c", "train.compile": False, "evaluate.real": None}
    study = Study.load(study_file(settings=settings))
    config = study.config(study.jobs[0])
    assert (config.train.lr_g, config.dataset.path, config.train.compile, config.evaluate.real) == (1e-05, "a: b # c", False, None)


def test_a_setting_may_make_a_base_possible_that_is_not_by_itself(study_file):
    base = {"train": {"compile": True}, "objective": {"r1": 1.0}, "discriminator": {"norm": "none"}}
    study = Study.load(study_file(base=base, settings={"train.compile": False}))
    assert study.config(study.jobs[0]).objective.r1 == 1.0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"base": {"train": {"stepz": 3}}}, r"unknown key 'train.stepz'; did you mean train.steps\? \(in the base settings\)$"),
        ({"settings": {"train.stepz": 3}}, r"unknown key 'train.stepz'; did you mean train.steps\?$"),
        ({"settings": {"steps": 3}}, r"unknown key 'steps'; did you mean train.steps\?$"),
        ({"settings": {"model.kernel": "c2"}}, r"unknown key 'model.kernel'; did you mean generator.kernel\?$"),
        ({"axes": {"generator.kernel": ["c2", "c22"]}}, r"^generator.kernel: 'c22' is not one of .* did you mean c2\?$"),
    ],
)
def test_a_wrong_setting_is_told_apart_from_a_wrong_base(study_file, changes, words):
    with pytest.raises(ConfigError, match=words):
        Study.load(study_file(**changes))


def test_a_study_of_millions_of_rows_is_refused_at_once(study_file):
    axes = {"generator.kernel": ["c2", "c3"], "train.lr_g": [i / 1e4 for i in range(1, 2001)], "train.steps": list(range(1, 3001))}
    with pytest.raises(StudyError, match=r"has 12,000,000 rows, 24,000,000 runs with its seeds, more than the 10,000"):
        Study.load(study_file(axes=axes))


def test_a_study_knows_whose_features_it_asks_for(study_file):
    settings = {"evaluate.features": "module:mine.net", "evaluate.every": 5}
    assert Study.load(study_file(settings=settings)).features == {"module:mine.net", "efficientnet_lite0"}
    assert Study.load(study_file(settings={"evaluate.features": "module:mine.net"})).features == {"efficientnet_lite0"}
    grid = {"train.lr_g": [1e-4, 2e-4], "evaluate.features": ["module:theirs.net"], "evaluate.every": [5]}
    assert "module:theirs.net" in Study.load(study_file(tune={"grid": grid, "seeds": [9]})).features
