"""Each page of docs/extending.md: GAN_EXTENSIONS takes its file in, and its command runs. And files that can't be taken in."""

import os
import re
import shlex
import subprocess
import sys

import pytest

from data.extensions import ExtensionError, import_extensions
from gan.config import Config
from tests.helpers import ROOT, one_error

PAGES = (ROOT / "docs/extending.md").read_text().split("\n## ")[1:]
SMALL = ["generator.width=8", "discriminator.width=4", "train.steps=2", "train.batch_size=8", "train.device=cpu", "--quiet"]


def run(python, folder, *arguments, extensions):
    """`python run_gan.py ...` in this folder."""
    environment = {**os.environ, "GAN_EXTENSIONS": extensions, "OMP_NUM_THREADS": "1"}
    command = [python, ROOT / "run_gan.py", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.partition("\n")[0])
def test_a_page_is_a_whole_file_and_its_command_runs(quick_python, page, tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (line,) = re.findall(r"```bash\n(GAN_EXTENSIONS=.*?)\n```", page)
    extension, python, script, *arguments = shlex.split(line)
    name = extension.partition("=")[2]
    assert f"`{name}`" in page and (python, script) == ("python", "run_gan.py")
    (tmp_path / name).write_text(code)
    small = [*SMALL, "--out", "run"] if arguments[0] == "train" else []
    done = run(quick_python, tmp_path, *arguments, *small, extensions=name)
    assert done.returncode == 0, done.stderr
    if arguments[0] == "train":
        setting = arguments[1].partition("=")[2]
        assert f": {setting}\n" in (tmp_path / "run/config.yaml").read_text()
        assert (tmp_path / "run/checkpoints/step_00000002.pt").is_file()


def test_the_command_line_says_in_one_sentence_that_a_file_is_not_there(quick_python, tmp_path):
    done = run(quick_python, tmp_path, "train", extensions="nowhere.py")
    assert done.returncode == 1 and f"GAN_EXTENSIONS names {tmp_path / 'nowhere.py'}, which is no" in one_error(done.stderr)


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("syntax_of_mine", "x = 1\ndef f(:", r"syntax_of_mine\.py, which GAN_EXTENSIONS names, can't be imported: line 2: invalid"),
        ("import_of_mine", "import quite_unknown", r"line 1: ModuleNotFoundError: No module named 'quite_unknown'"),
        (
            "taken_name_of_mine",
            "from gan.objectives import LOSSES, register\n\nregister('hinge', LOSSES['hinge'])",
            r"line 3: ValueError: there is a loss 'hinge' already; choose another name",
        ),
        ("json", "", r"json\.py, which GAN_EXTENSIONS names, is called like another module, json; rename it"),
    ],
)
def test_a_file_that_cannot_be_taken_in_is_named_with_the_reason(name, code, message, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("GAN_EXTENSIONS", str(tmp_path / f"{name}.py"))
    (tmp_path / f"{name}.py").write_text(code)
    with pytest.raises(ExtensionError, match=message) as caught:
        import_extensions()
    assert "\n" not in str(caught.value)


def test_several_files_are_imported_once_each(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    files = [tmp_path / "first_of_mine.py", tmp_path / "second_of_mine.py"]
    for file in files:
        file.write_text("import os\nos.environ['COUNTED'] += __name__ + ' '\n")
    monkeypatch.setenv("COUNTED", "")
    monkeypatch.setenv("GAN_EXTENSIONS", os.pathsep.join(map(str, files)))
    import_extensions()
    import_extensions()
    assert os.environ["COUNTED"] == "first_of_mine second_of_mine "


def test_without_extensions_the_choices_are_those_that_come_along():
    choices = Config.model_json_schema()["$defs"]
    families = ["dcgan", "cnn", "r3", "r3_grouped", "sngan", "wgan_gp", "landscape"]
    losses = ["non_saturating", "hinge", "wasserstein", "least_squares", "relativistic"]
    assert choices["Generator"]["properties"]["family"]["enum"] == families
    assert choices["Objective"]["properties"]["loss"]["enum"] == losses
