"""What a step costs: measured once, of the rows that train, with the settings they have."""

import pytest

from study.costs import measure_costs, read_costs
from study.report import write_report


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
    for job in loaded.jobs:
        if job.row.label == "c2":
            folder.note_failure(job, "error: no memory")
    assert measure(loaded) and not measure(loaded) and asked == [["c3"]]
    assert read_costs(loaded, folder)["c3"]["ms_per_step"] == 5 and "machine" in read_costs(loaded, folder)["c3"]


def test_times_of_a_row_that_has_other_settings_since_are_not_shown(study, monkeypatch):
    monkeypatch.setattr("gan.timing.step_costs", lambda configs: {name: {"ms_per_step": 5} for name in configs})
    loaded, folder = study({"c2": [8.0, 9.0], "c3": [9.0, 10.0]})
    assert measure_costs(loaded, folder.path, print)
    assert read_costs(loaded, folder).keys() == {"c2", "c3"}
    more_seeds = loaded.model_copy(update={"seeds": [1, 2]})
    assert read_costs(more_seeds, folder).keys() == {"c2", "c3"}
    elsewhere = loaded.model_copy(update={"settings": {**loaded.settings, "train.device": "cpu"}})
    assert read_costs(elsewhere, folder) == {}
    slower = loaded.model_copy(update={"settings": {**loaded.settings, "train.batch_size": 8}})
    assert read_costs(slower, folder) == {}


def test_times_that_cannot_be_measured_cost_no_table(study, monkeypatch):
    def fail(configs):
        raise RuntimeError("out of memory\nsecond line")

    monkeypatch.setattr("gan.timing.step_costs", fail)
    loaded, folder = study({"c2": [8.0, 9.0], "c3": [9.0, 10.0]})
    said = []
    assert not measure_costs(loaded, folder.path, lambda text, colour=None: said.append(text))
    assert said[0].startswith("timing a training step of 2 rows")
    assert said[1:] == ["time and memory of the rows were not measured, so the table leaves them out: out of memory"]
    assert "Time and memory were not measured" in write_report(loaded, folder.path)
