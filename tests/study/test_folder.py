"""The folder of a study, which remembers which runs are done; and its exported copy."""

import pytest

from gan.config import dump
from study.folder import StudyFolder
from study.study import Job, Study, StudyError
from tests.helpers import leave_result


def test_a_study_of_seeds_alone_has_one_named_row(study_file, tmp_path):
    study = Study.load(study_file(axes={}, baseline="base"))
    assert StudyFolder(tmp_path).run(study.jobs[1]) == tmp_path / "runs/base/seed_1"


def test_settings_of_a_run_that_was_only_begun_are_not_changed_either(study_file, tmp_path):
    folder, study = StudyFolder(tmp_path / "out"), Study.load(study_file())
    job = study.jobs[0]
    folder.run(job).mkdir(parents=True)
    (folder.run(job) / "config.yaml").write_text(dump(study.config(job)))
    folder.adopt(Study.load(study_file(settings={"train.lr_g": 0.1})))  # nothing was trained yet
    (folder.run(job) / "metrics.jsonl").write_text("")
    folder.adopt(study)
    with pytest.raises(StudyError, match=r"c2_nearest/seed_0 was trained with other settings \(train.lr_g"):
        folder.adopt(Study.load(study_file(settings={"train.lr_g": 0.1})))


def test_a_started_study_can_grow_but_not_change_what_was_trained(study_file, tmp_path):
    folder = StudyFolder(tmp_path / "out")
    study = Study.load(study_file())
    leave_result(folder, study, study.jobs[0])
    folder.adopt(study)
    grown = Study.load(study_file(seeds=[0, 1, 2]))
    folder.adopt(grown)
    assert [folder.done(grown, job) for job in grown.jobs] == [True] + [False] * 11
    assert Study.load(folder.path) == grown
    with pytest.raises(StudyError, match=r"c2_nearest/seed_0 was trained with other settings \(train.lr_g: 0.0002 -> 0.1\)"):
        folder.adopt(Study.load(study_file(settings={"train.lr_g": 0.1})))
    assert Study.load(folder.path) == grown


def test_more_steps_or_other_scores_make_a_run_undone(study_file, tmp_path):
    folder = StudyFolder(tmp_path / "out")
    study = Study.load(study_file())
    job = study.jobs[0]
    leave_result(folder, study, job)
    assert folder.done(study, job)
    assert not folder.done(Study.load(study_file(settings={"train.steps": 99_999})), job)
    assert not folder.done(Study.load(study_file(scoring={"samples": 50})), job)


def test_an_exported_study_is_light_and_can_be_gone_on_with(study_file, tmp_path):
    folder, study = StudyFolder(tmp_path / "out"), Study.load(study_file())
    leave_result(folder, study, study.jobs[0])
    weights = folder.run(study.jobs[0]) / "checkpoints" / "step_00000001.pt"
    weights.parent.mkdir()
    weights.write_bytes(b"heavy")
    folder.adopt(study)
    assert folder.export(study, tmp_path / "light") == 1
    light = StudyFolder(tmp_path / "light")
    assert Study.load(light.path) == study and light.done(study, study.jobs[0])
    assert not list(light.path.rglob("*.pt"))
    light.require_weights(study, study.jobs)
    other = Study.load(study_file(scoring={"samples": 50}))
    folder.require_weights(other, other.jobs)
    with pytest.raises(StudyError, match=r"c2_nearest/seed_0 has scores but no weights"):
        light.require_weights(other, other.jobs)


def test_a_row_that_left_the_study_is_named(study_file, tmp_path):
    folder = StudyFolder(tmp_path / "out")
    study = Study.load(study_file())
    leave_result(folder, study, study.jobs[0])
    assert folder.left_out(study) == []
    assert folder.left_out(Study.load(study_file(axes={"generator.kernel": ["c3", "c4"]}, baseline="c3"))) == ["c2_nearest/seed_0"]


def test_a_torn_result_says_what_to_do(study_file, tmp_path):
    folder = StudyFolder(tmp_path / "out")
    study = Study.load(study_file())
    job = Job(study.rows[0], 0)
    leave_result(folder, study, job)
    (folder.run(job) / "record.json").write_text("{")
    with pytest.raises(StudyError, match=r"delete it, and the run is scored or trained again"):
        folder.done(study, job)
    (folder.run(job) / "record.json").write_text('{"label": "of another version"}')
    with pytest.raises(StudyError, match="of another version"):
        folder.done(study, job)


def test_a_record_of_another_version_is_named(study_file, tmp_path):
    folder, study = StudyFolder(tmp_path / "out"), Study.load(study_file())
    config = study.config(study.jobs[0]).model_dump(mode="json")
    config["train"]["new_key"] = 1
    leave_result(folder, study, study.jobs[0], config=config)
    with pytest.raises(StudyError, match=r"c2_nearest/seed_0/record.json is of another version \(unknown key 'train.new_key'"):
        folder.require_unchanged(study)


def test_what_curves_depend_on_is_one_for_all_rows(study_file, tmp_path):
    folder, study = StudyFolder(tmp_path / "out"), Study.load(study_file())
    leave_result(folder, study, study.jobs[0])
    with pytest.raises(StudyError, match=r"evaluate\.features: efficientnet_lite0 -> inception"):
        folder.adopt(Study.load(study_file(settings={"evaluate.features": "inception"})))
    with pytest.raises(StudyError, match=r"evaluate\.best: fid -> is"):
        folder.adopt(Study.load(study_file(settings={"evaluate.best": "is"})))
    folder.adopt(Study.load(study_file(settings={"evaluate.weights": "there.pth"})))
