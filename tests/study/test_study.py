"""The definition of a study: its rows, seeds and settings, and the folder that remembers which runs are done."""

import datetime

import pytest

from gan.config import ConfigError
from gan.models.build import build_generator
from gan.models.counting import parameter_count
from study.folder import StudyFolder
from study.generators import model_facts
from study.study import Job, StudyError, config_of, jobs_of, load_study, partner_of, rows_of
from tests.helpers import ROOT
from tests.helpers import leave_result as done

STUDIES = sorted(ROOT.glob("configs/studies/*.yaml"))


@pytest.mark.parametrize("file", STUDIES, ids=lambda f: f.stem)
def test_every_study_that_comes_along_is_whole(file):
    study = load_study(file)
    assert len(study.seeds) >= 2
    partners = {row.label: partner_of(study, row) for row in rows_of(study)}
    assert {p.label for p in partners.values() if p} == {label for label, p in partners.items() if p is None}


def test_the_study_that_the_documentation_shows_is_whole(tmp_path):
    text = (ROOT / "docs/studies.md").read_text().partition("```yaml\n")[2].partition("```")[0]
    (tmp_path / "study.yaml").write_text(text.replace("../cifar10", str(ROOT / "configs/cifar10")))
    study = load_study(tmp_path / "study.yaml")
    assert len(jobs_of(study)) == 3 * 2 * 3 and study.scoring.split == "test"


def labels(study):
    return [row.label for row in rows_of(study)]


def test_rows_are_all_combinations_of_the_axes(study_file):
    assert labels(load_study(study_file())) == ["c2 nearest", "c2 unpool", "c3 nearest", "c3 unpool"]


def test_rows_and_axes_multiply(study_file):
    rows = [{"label": "slow", "train.lr_g": 1e-5}, {"train.lr_g": 0.01}]
    study = load_study(study_file(rows=rows, axes={"generator.kernel": ["c2", "c3"]}))
    assert labels(study) == ["slow c2", "slow c3", "0.01 c2", "0.01 c3"]
    assert [config_of(study, job).train.lr_g for job in jobs_of(study)[:4]] == [1e-5, 1e-5, 0.01, 0.01]


def test_runs_go_seed_by_seed_and_differ_in_row_and_seed_alone(study_file):
    study = load_study(study_file(settings={"train.steps": 7}))
    jobs = jobs_of(study)
    assert [job.seed for job in jobs] == [0] * 4 + [1] * 4
    a, b = config_of(study, jobs[0]), config_of(study, jobs[6])
    assert (a.train.steps, a.generator.kernel, a.generator.upsampling, a.train.seed) == (7, "c2", "nearest", 0)
    assert b.replace({"generator.kernel": "c2", "train.seed": 0}) == a


def test_each_row_is_compared_with_its_own_baseline(study_file):
    study = load_study(study_file())
    pairs = {row.label: partner_of(study, row) for row in rows_of(study)}
    assert {k: v and v.label for k, v in pairs.items()} == {
        "c2 nearest": "c3 nearest", "c2 unpool": "c3 unpool", "c3 nearest": None, "c3 unpool": None
    }  # fmt: skip


def test_labels_may_be_numbers(study_file):
    study = load_study(study_file(rows=[{"label": 16, "train.lr_g": 1e-5}], axes={}, baseline="16"))
    assert labels(study) == ["16"]


def test_one_row_can_be_the_baseline_of_all(study_file):
    study = load_study(study_file(baseline="c2 unpool"))
    partners = [partner_of(study, row) for row in rows_of(study)]
    assert [p and p.label for p in partners] == ["c2 unpool", None, "c2 unpool", "c2 unpool"]


def test_a_base_is_found_beside_the_study_file(study_file, tmp_path):
    (tmp_path / "base.yaml").write_text("train: {batch_size: 16}")
    study = load_study(study_file(base="base.yaml"))
    assert config_of(study, jobs_of(study)[0]).train.batch_size == 16


def test_overrides_reach_every_run(study_file):
    study = load_study(study_file(settings={"train.steps": 7}), ["train.steps=3"])
    assert {config_of(study, job).train.steps for job in jobs_of(study)} == {3}


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"axes": {"generator.kernl": ["c2"]}}, ConfigError, "did you mean generator.kernel"),
        ({"axes": {"generator.kernel": ["c2", "c9"]}}, ConfigError, "c9"),
        ({"settings": {"train.steps": -1}}, ConfigError, "train.steps"),
        ({"seeds": []}, StudyError, "seeds"),
        ({"seeds": [1, 1]}, StudyError, "seed stands twice"),
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
        ({"settings": {"train.lr_g": datetime.date(2020, 1, 1)}}, ConfigError, "train.lr_g: 2020-01-01 is a date"),
        ({"base": "nowhere.yaml"}, ConfigError, "nowhere.yaml"),
        (
            {"axes": {"evaluate.samples": [60, 50]}, "baseline": {"evaluate.samples": 60}},
            StudyError,
            "evaluate.samples: 50 -> 60",
        ),
        ({"axes": {"dataset.hold_out": [0.1, 0.2]}, "baseline": {"dataset.hold_out": 0.1}}, StudyError, "other real images"),
    ],
)
def test_what_is_wrong_in_a_study_is_said_before_anything_runs(study_file, changes, error, words):
    with pytest.raises(error, match=words):
        load_study(study_file(**changes))


def test_rows_may_have_data_of_their_own_where_each_is_compared_within_them_or_all_have_one_reference(study_file):
    axes = {"generator.kernel": ["c2", "c3"], "dataset.name": ["shapes", "cifar10"]}
    study = load_study(study_file(axes=axes))
    assert [partner_of(study, row) and partner_of(study, row).label for row in rows_of(study)][:2] == ["c3 shapes", "c3 cifar10"]
    with pytest.raises(StudyError, match=r"'c2 cifar10' would be compared with 'c2 shapes', which differs in dataset.name"):
        load_study(study_file(axes=axes, baseline="c3 shapes"))
    load_study(study_file(axes=axes, baseline="c3 shapes", scoring={"reference": "real.zip"}))
    load_study(study_file(axes={"dataset.flip": [True, False]}, baseline="True"))
    load_study(study_file(axes={"dataset.resolution": [32, 64]}, baseline="32", task="classify", base={}))


@pytest.mark.parametrize("rule", [None, "equal_parameters", "equal_macs", "same"])
def test_generators_are_as_large_as_their_c3_row_unless_the_study_says_otherwise(study_file, rule):
    generator = {"family": "sngan", "width": 32} | ({"width_rule": rule} if rule else {})
    study = load_study(study_file(base={"generator": generator}, axes={"generator.kernel": ["c2", "c3"]}))
    found = [model_facts(config_of(study, job), None) for job in jobs_of(study)[:2]]
    ratio = {key: found[0][key] / found[1][key] for key in ("parameters", "macs")}
    assert (abs(ratio["parameters"] - 1) < 0.05) == (rule in (None, "equal_parameters"))
    assert (abs(ratio["macs"] - 1) < 0.05) == (rule == "equal_macs")


def test_an_override_that_is_no_yaml_is_named(study_file):
    with pytest.raises(ConfigError, match=r"train.steps: '\[1' is not a value"):
        load_study(study_file(), ["train.steps=[1"])


def test_a_study_of_seeds_alone_has_one_named_row(study_file, tmp_path):
    study = load_study(study_file(axes={}, baseline="base"))
    assert StudyFolder(tmp_path).run(jobs_of(study)[1]) == tmp_path / "runs/base/seed_1"


def test_settings_of_a_run_that_was_only_begun_are_not_changed_either(study_file, tmp_path):
    folder, study = StudyFolder(tmp_path / "out"), load_study(study_file())
    job = jobs_of(study)[0]
    folder.run(job).mkdir(parents=True)
    (folder.run(job) / "config.yaml").write_text(config_of(study, job).dump())
    folder.adopt(load_study(study_file(settings={"train.lr_g": 0.1})))  # nothing was trained yet
    (folder.run(job) / "metrics.jsonl").write_text("")
    folder.adopt(study)
    with pytest.raises(StudyError, match=r"c2_nearest/seed_0 was trained with other settings \(train.lr_g"):
        folder.adopt(load_study(study_file(settings={"train.lr_g": 0.1})))


def test_a_folder_without_a_study_is_named(tmp_path):
    with pytest.raises(StudyError, match=r"there is no study at .*gone"):
        load_study(tmp_path / "gone")
    with pytest.raises(StudyError, match=r"holds no study.yaml"):
        load_study(tmp_path)


def test_a_started_study_can_grow_but_not_change_what_was_trained(study_file, tmp_path):
    folder = StudyFolder(tmp_path / "out")
    study = load_study(study_file())
    done(folder, study, jobs_of(study)[0])
    folder.adopt(study)
    grown = load_study(study_file(seeds=[0, 1, 2]))
    folder.adopt(grown)
    assert [folder.done(grown, job) for job in jobs_of(grown)] == [True] + [False] * 11
    assert load_study(folder.path) == grown
    with pytest.raises(StudyError, match=r"c2_nearest/seed_0 was trained with other settings \(train.lr_g: 0.0002 -> 0.1\)"):
        folder.adopt(load_study(study_file(settings={"train.lr_g": 0.1})))
    assert load_study(folder.path) == grown


def test_more_steps_or_other_scores_make_a_run_undone(study_file, tmp_path):
    folder = StudyFolder(tmp_path / "out")
    study = load_study(study_file())
    job = jobs_of(study)[0]
    done(folder, study, job)
    assert folder.done(study, job)
    assert not folder.done(load_study(study_file(settings={"train.steps": 99_999})), job)
    assert not folder.done(load_study(study_file(scoring={"samples": 50})), job)


def test_an_exported_study_is_light_and_can_be_gone_on_with(study_file, tmp_path):
    folder, study = StudyFolder(tmp_path / "out"), load_study(study_file())
    done(folder, study, jobs_of(study)[0])
    weights = folder.run(jobs_of(study)[0]) / "checkpoints" / "step_00000001.pt"
    weights.parent.mkdir()
    weights.write_bytes(b"heavy")
    folder.adopt(study)
    assert folder.export(study, tmp_path / "light") == 1
    light = StudyFolder(tmp_path / "light")
    assert load_study(light.path) == study and light.done(study, jobs_of(study)[0])
    assert not list(light.path.rglob("*.pt"))
    light.require_weights(study, jobs_of(study))
    other = load_study(study_file(scoring={"samples": 50}))
    folder.require_weights(other, jobs_of(other))
    with pytest.raises(StudyError, match=r"c2_nearest/seed_0 has scores but no weights"):
        light.require_weights(other, jobs_of(other))


def test_a_row_that_left_the_study_is_named(study_file, tmp_path):
    folder = StudyFolder(tmp_path / "out")
    study = load_study(study_file())
    done(folder, study, jobs_of(study)[0])
    assert folder.left_out(study) == []
    assert folder.left_out(load_study(study_file(axes={"generator.kernel": ["c3", "c4"]}, baseline="c3"))) == ["c2_nearest/seed_0"]


def test_a_torn_result_says_what_to_do(study_file, tmp_path):
    folder = StudyFolder(tmp_path / "out")
    study = load_study(study_file())
    job = Job(rows_of(study)[0], 0)
    done(folder, study, job)
    (folder.run(job) / "record.json").write_text("{")
    with pytest.raises(StudyError, match=r"delete it, and the run is scored or trained again"):
        folder.done(study, job)
    (folder.run(job) / "record.json").write_text('{"label": "of another version"}')
    with pytest.raises(StudyError, match="of another version"):
        folder.done(study, job)


def test_a_record_of_another_version_is_named(study_file, tmp_path):
    folder, study = StudyFolder(tmp_path / "out"), load_study(study_file())
    config = config_of(study, jobs_of(study)[0]).model_dump(mode="json")
    config["train"]["new_key"] = 1
    done(folder, study, jobs_of(study)[0], config=config)
    with pytest.raises(StudyError, match=r"c2_nearest/seed_0/record.json is of another version \(unknown key 'train.new_key'"):
        folder.require_unchanged(study)


def test_what_curves_depend_on_is_one_for_all_rows(study_file, tmp_path):
    folder, study = StudyFolder(tmp_path / "out"), load_study(study_file())
    done(folder, study, jobs_of(study)[0])
    with pytest.raises(StudyError, match=r"evaluate\.features: efficientnet_lite0 -> inception"):
        folder.adopt(load_study(study_file(settings={"evaluate.features": "inception"})))
    with pytest.raises(StudyError, match=r"evaluate\.best: fid -> is"):
        folder.adopt(load_study(study_file(settings={"evaluate.best": "is"})))
    folder.adopt(load_study(study_file(settings={"evaluate.weights": "there.pth"})))


def test_scoring_is_set_on_the_command_line_too(study_file):
    study = load_study(study_file(), ["scoring.samples=30", "scoring.weights=mine.pth", "train.steps=9"])
    assert (study.scoring.samples, study.scoring.weights, study.settings["train.steps"]) == (30, "mine.pth", 9)


@pytest.mark.parametrize("settings", ["abc", {"train.steps": 1}])
@pytest.mark.parametrize("override", ["train.steps=2020-13-45", "train.steps", "train.steps=abc"])
def test_wrong_overrides_are_one_sentence(study_file, settings, override):
    with pytest.raises((ConfigError, StudyError)) as found:
        load_study(study_file(settings=settings), [override])
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("name", ["upsampling_cifar10", "upsampling_cifar10_cpu", "kernels_cifar10_cpu"])
def test_rows_that_are_said_to_have_equal_parameters_have(name):
    study = load_study(ROOT / "configs" / "studies" / f"{name}.yaml")
    counts = [parameter_count(build_generator(config_of(study, Job(row, 0)))) for row in rows_of(study)]
    assert max(counts) / min(counts) < 1.05
