"""The command `probe`: files it writes, what it says without real images, and what it refuses."""

import json

import pytest
import typer
from typer.testing import CliRunner

from cli.common import console
from cli.probe import probe
from gan.run_directory import RunError
from metrics.devices import DeviceError

app = typer.Typer()
app.command()(probe)


@pytest.fixture
def call(monkeypatch):
    monkeypatch.setattr(console, "_width", 140)

    def call(*arguments, fails=False):
        found = CliRunner().invoke(app, ["--device", "cpu", *map(str, arguments), "--samples", "16"])
        if not fails and found.exception:
            raise found.exception
        return found

    return call


def test_a_run(call, run):
    found = call(run, "--details")
    record = json.loads((run / "probe.json").read_text())
    assert record["card"]["step"] == 4 and record["card"]["real_count"] == 16  # of the fixture's fifty images
    assert (run / "probe.png").stat().st_size > 10_000
    assert "drift_px" in found.output and "real against real" in found.output and "probe.png" in found.output.replace("\n", "")


def test_the_verdict_comes_first_and_tables_on_request(call, run):
    found = call(run)
    lines = found.output.splitlines()
    assert [line.partition(":")[0] for line in lines[:3]] == ["position", "checkerboards", "borders"]
    assert "drift_px" not in found.output and "--details" in found.output and "next: python run_gan.py compare" in found.output


def test_a_config_writes_only_what_is_asked_for(call, tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.yaml").write_text(tiny("dcgan").dump())
    found = call("a.yaml", "generator.kernel=c3", "--real", "none", "--seeds", "2", "--details")
    assert "untrained" in found.output and "± over 2 seeds of latents and weights" in found.output
    assert [path.name for path in tmp_path.iterdir()] == ["a.yaml"]
    call("a.yaml", "--real", "none", "--json", tmp_path / "b.json")
    assert json.loads((tmp_path / "b.json").read_text())["card"]["kernel"] == "c3sp"


def test_without_its_data_a_run_is_measured_alone(call, run):
    (run / "config.yaml").write_text((run / "config.yaml").read_text().replace("fifty.zip", "gone.zip"))
    found = call(run)
    assert "measured without real images" in found.output and "gone.zip" in found.output.replace("\n", "")
    assert "real" not in json.loads((run / "probe.json").read_text())


def test_other_real_images(call, run, fifty):
    call(run, "--real", fifty)
    assert json.loads((run / "probe.json").read_text())["card"]["real"] == "fifty.zip"


def test_refuses_what_makes_no_sense(call, run, tmp_path):
    assert "settings of a run are fixed" in call(run, "generator.kernel=c3", fails=True).output.replace("\n", " ").replace("│ ", "")
    assert call("--checkpoint", "best", fails=True).exit_code == 2
    assert call(run, "--checkpoint", "all", fails=True).exit_code == 2
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match="is not a run directory"):
        call(tmp_path / "empty")
    with pytest.raises(RunError, match="no run directory nowhere, and it names no YAML file"):
        call("nowhere")
    with pytest.raises(RunError, match="keeps no best checkpoint"):
        call(run, "--checkpoint", "best")
    for option, file in (("--json", tmp_path), ("--figure", tmp_path / "none.png/x.png")):
        (tmp_path / "none.png").touch()
        with pytest.raises(RunError, match=f"{file.name} can't be written"):
            call(run, option, file, "--real", "/nowhere")  # said before anything is opened
    with pytest.raises(DeviceError, match="no device 'gpu7'"):
        call(run, "--device", "gpu7")
