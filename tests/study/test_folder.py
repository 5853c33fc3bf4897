"""The folder of a study, which remembers which runs are done; and its exported copy."""

import json
import shutil

import pytest

from data.checksums import sealed
from study.analysis import analyse
from study.folder import StudyFolder
from study.study import Job, Study, StudyError
from study.text import to_markdown
from tests.helpers import leave_result

PNG = b"a grid of 64 samples"


def test_a_study_of_seeds_alone_has_one_named_row(study_file, tmp_path):
    study = Study.load(study_file(axes={}, baseline="base"))
    assert StudyFolder(tmp_path).run(study.jobs[1]) == tmp_path / "runs/base/seed_1"


def test_settings_of_a_run_that_was_only_begun_are_not_changed_either(study_file, tmp_path):
    folder, study = StudyFolder(tmp_path / "out"), Study.load(study_file())
    job = study.jobs[0]
    folder.run(job).mkdir(parents=True)
    (folder.run(job) / "config.yaml").write_text(study.config(job).dump())
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


@pytest.fixture
def exported(study, tmp_path):
    """A study of two rows and two seeds, its folder, and the folder that it was exported to."""
    loaded, folder = study({"c2": [10.0, 14.0], "c3": [9.0, 10.0]})
    for job in loaded.jobs:
        (folder.run(job) / "probe.json").write_text(json.dumps({"floor": {"phase_mean_variance": 0.002}}))
        (folder.run(job) / "grid.png").write_bytes(PNG)
    folder.adopt(loaded)
    folder.export(loaded, tmp_path / "light")
    return loaded, folder, StudyFolder(tmp_path / "light")


def test_an_export_is_the_study_that_was_loaded_not_all_that_the_folder_holds(exported, tmp_path):
    loaded, folder, _ = exported
    part = loaded.model_copy(update={"seeds": [0]})
    folder.export(part, tmp_path / "part")
    assert Study.load(tmp_path / "part") == part and folder.left_out(part) == ["c2/seed_1", "c3/seed_1"]


def files(folder):
    return sorted(file.relative_to(folder.path).as_posix() for file in folder.path.rglob("*") if file.is_file())


def test_an_exported_study_is_three_files_beside_its_report_and_says_the_same(exported):
    study, folder, light = exported
    assert files(light) == ["grids.zip", "runs.json", "study.yaml"]
    lines = (light.path / "runs.json").read_text().splitlines()
    assert [json.loads(line.removesuffix(","))["run"] for line in lines[1:-1]] == [job.name for job in study.jobs]
    assert [light.record(job) for job in study.jobs] == [folder.record(job) for job in study.jobs]
    assert [light.probe(job)["floor"] for job in study.jobs] == [{"phase_mean_variance": 0.002}] * 4
    assert light.shown_grids(study) == folder.shown_grids(study) == {"c2": 0, "c3": 0}
    assert [light.grid(job) for job in study.jobs] == [PNG, PNG, None, None]
    assert to_markdown(study, analyse(study, light), {}) == to_markdown(study, analyse(study, folder), {})


def test_an_exported_study_grows_by_seeds_and_is_exported_again_whole(exported, tmp_path):
    study, _, light = exported
    grown = study.model_copy(update={"seeds": [0, 1, 2]})
    light.adopt(grown)
    assert [job.name for job in grown.jobs if not light.done(grown, job)] == ["c2/seed_2", "c3/seed_2"]
    leave_result(light, grown, grown.jobs[4])
    assert light.export(grown, tmp_path / "again") == 5
    again = StudyFolder(tmp_path / "again")
    assert [again.record(job) for job in grown.jobs] == [light.record(job) for job in grown.jobs]
    assert again.grid(grown.jobs[0]) == PNG


def test_what_was_trained_here_is_taken_before_what_was_exported(exported):
    study, _, light = exported
    leave_result(light, study, study.jobs[0], last={"step": 4, "scores": [{"name": "fd_f", "value": 77.0}]})
    assert light.record(study.jobs[0])["last"]["scores"][0]["value"] == 77.0
    assert light.probe(study.jobs[0]) == {} and light.probe(study.jobs[1]) != {}


def test_a_study_exported_file_by_file_still_loads_and_becomes_one_of_few_files(exported, tmp_path):
    study, folder, light = exported
    old = StudyFolder(tmp_path / "old")
    shutil.copytree(folder.path, old.path)
    assert all(old.done(study, job) for job in study.jobs)
    old.export(study, old.path)
    assert [file for file in files(old) if file != ".study.yaml"] == files(light)
    for name in files(light):
        assert (old.path / name).read_bytes() == (light.path / name).read_bytes()


def test_runs_with_weights_keep_their_files_when_they_are_exported_into_their_own_folder(exported):
    study, folder, _ = exported
    weights = folder.run(study.jobs[0]) / "checkpoints" / "step_00000004.pt"
    weights.parent.mkdir()
    weights.write_bytes(b"heavy")
    folder.export(study, folder.path)
    assert (folder.run(study.jobs[0]) / "record.json").is_file() and weights.is_file()


@pytest.mark.parametrize("text", ["{", "[]", '{"runs": [1]}', '{"runs": [{"record": {}}]}', '{"runs": 3}'])
def test_a_damaged_runs_json_is_one_sentence_that_names_it(exported, text):
    study, _, light = exported
    (light.path / "runs.json").write_text(text)
    with pytest.raises(StudyError, match=r"light/runs\.json is damaged: put the exported file back, or delete it") as found:
        StudyFolder(light.path).record(study.jobs[0])
    assert "\n" not in str(found.value)


def test_a_damaged_record_in_runs_json_names_its_run(exported):
    study, _, light = exported
    (light.path / "runs.json").write_text('{"runs": [{"run": "c2/seed_0", "record": {"label": "c2"}}]}')
    with pytest.raises(StudyError, match=r"the run c2/seed_0 in .*light/runs\.json is damaged or of another version"):
        StudyFolder(light.path).record(study.jobs[0])


@pytest.mark.parametrize(("old", "new"), [('"c2/seed_1"', '"c2/seed_3"'), ('"probe"', '"prob_"'), ('"record"', '"recora"')])
def test_a_changed_name_in_an_exported_study_loses_no_run_in_silence(exported, old, new):
    study, _, light = exported
    text = (light.path / "runs.json").read_text()
    (light.path / "runs.json").write_text(text.replace(old, new, 1))
    with pytest.raises(StudyError, match=r"runs\.json is damaged"):
        StudyFolder(light.path).record(study.jobs[0])
    content = json.loads(text)
    del content["sha256"]  # as of before
    (light.path / "runs.json").write_text(json.dumps(content))
    assert StudyFolder(light.path).record(study.jobs[0])


def test_damaged_grids_are_named(exported):
    study, _, light = exported
    (light.path / "grids.zip").write_bytes(b"PK")
    with pytest.raises(StudyError, match=r"light/grids\.zip is damaged"):
        StudyFolder(light.path).shown_grids(study)


def test_runs_that_an_earlier_version_named_otherwise_go_on_where_they_are(study_file, tmp_path):
    study = Study.load(study_file(rows=[{"label": "lr_g=1e-5", "train.lr_g": 1e-5}, {"label": "base"}], axes={}, baseline="base"))
    folder, job = StudyFolder(tmp_path / "out"), study.jobs[0]
    leave_result(folder, study, job)
    assert folder.run(job) == tmp_path / "out/runs/lr_g_1e-5/seed_0"
    shutil.move(tmp_path / "out/runs/lr_g_1e-5", tmp_path / "out/runs/lr_g=1e-5")
    assert folder.run(job) == tmp_path / "out/runs/lr_g=1e-5/seed_0" and folder.done(study, job)
    assert folder.run(study.jobs[2]) == tmp_path / "out/runs/lr_g=1e-5/seed_1" and folder.left_out(study) == []
    folder.adopt(study)
    folder.export(study, tmp_path / "light")
    runs = tmp_path / "light/runs.json"
    content = runs.read_text().replace("lr_g_1e-5/seed_0", "lr_g=1e-5/seed_0")
    runs.write_text(json.dumps({"runs": json.loads(content)["runs"]}))  # as that version wrote it, without a seal
    assert StudyFolder(tmp_path / "light").done(study, job)


def test_real_images_are_shown_and_exported_where_all_rows_have_the_same(exported, study_file, tmp_path):
    study, folder, light = exported
    assert folder.real(study) is None
    (folder.run(study.jobs[1]) / "real.png").write_bytes(b"real images")
    assert folder.real(study) == b"real images"
    folder.export(study, light.path)
    again = StudyFolder(light.path)
    assert again.real(study) == b"real images" and again.shown_grids(study) == {"c2": 0, "c3": 0}
    several = Study.load(study_file(axes={"generator.kernel": ["c2", "c3"], "dataset.name": ["shapes", "cifar10"]}))
    assert StudyFolder(light.path).real(several) is None


def test_runs_that_were_exported_and_left_the_study_are_named(exported):
    study, _, light = exported
    assert light.left_out(study.model_copy(update={"seeds": [0]})) == ["c2/seed_1", "c3/seed_1"]


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


def test_an_export_never_replaces_the_runs_of_another_study(exported, study_file, tmp_path):
    study, folder, light = exported
    other, elsewhere = Study.load(study_file(axes={}, baseline="base")), StudyFolder(tmp_path / "other")
    leave_result(elsewhere, other, other.jobs[0])
    elsewhere.adopt(other)
    before = (light.path / "runs.json").read_bytes()
    for target in (light.path, folder.path):
        with pytest.raises(StudyError, match=r"holds c2/seed_0, which this study hasn't: name another folder, or say --overwrite"):
            elsewhere.export(other, target)
    assert (light.path / "runs.json").read_bytes() == before
    assert folder.export(study, light.path) == 4  # its own may be renewed
    assert elsewhere.export(other, light.path, overwrite=True) == 1


def test_a_changed_number_in_an_exported_or_a_kept_record_is_refused(exported):
    study, folder, _ = exported
    for job in study.jobs:
        file = folder.run(job) / "record.json"
        file.write_text(json.dumps(sealed(json.loads(file.read_text()))))
    target = folder.path.parent / "again"
    folder.export(study, target)
    runs = target / "runs.json"
    assert StudyFolder(target).record(study.jobs[0])
    runs.write_text(runs.read_text().replace("10.0", "10.5"))
    with pytest.raises(StudyError, match=r"runs\.json is damaged"):
        StudyFolder(target).record(study.jobs[0])
    file.write_text(file.read_text().replace('"seed": 1', '"seed": 0'))
    with pytest.raises(StudyError, match=r"record\.json is damaged"):
        folder.record(study.jobs[-1])


def test_an_export_into_its_own_folder_drops_no_run_in_silence(exported):
    study, _, light = exported
    fewer = study.model_copy(update={"seeds": [0]})
    with pytest.raises(StudyError, match=r"holds c2/seed_1, which this study hasn't"):
        light.export(fewer, light.path)
    assert StudyFolder(light.path).export(study, light.path) == 4
