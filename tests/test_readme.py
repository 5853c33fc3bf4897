"""README.md: every command in it can be given as printed, after the ones before it; its Python runs; its links lead somewhere."""

import os
import re
import shlex
import shutil
from pathlib import Path

import pytest
import typer
import yaml

from cli.common import run_name, split_arguments
from cli.main import app
from data.sources.shapes import shapes
from gan.classification import config as classification
from gan.config import Config
from gan.sampling import save_images
from study.study import Study
from tests.helpers import ROOT

TEXT = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", TEXT, re.DOTALL)
LINES = [line for kind, block in BLOCKS if kind == "bash" for line in block.splitlines()]
COMMANDS = [shlex.split(line, comments=True) for line in LINES if "run_gan.py" in line]
SMALL = [
    "generator.width=4",
    "generator.latent=8",
    "discriminator.width=4",
    "train.batch_size=8",
    "train.steps=2",
    "train.device=cpu",
]
STUDY = next(block for kind, block in BLOCKS if kind == "yaml")
STUDY_FILE = "kernels.yaml"


def arguments(command):
    return command[command.index("run_gan.py") + 1 :]


def parsed(command):
    """The subcommand and the options it would be called with; click's error where it wouldn't be."""
    group, words = typer.main.get_command(app), arguments(command)
    name = words.pop(0)
    if name == "data":
        group = group.commands["data"]
        name = words.pop(0)
    return name, group.commands[name].make_context(name, words).params


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where somebody stands who follows README.md: configs, a folder of pictures of mixed sizes, and the study file."""
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    for size in (32, 64):
        save_images(iter([shapes(size, count=20).images]), tmp_path / "photos" / f"{size}")
    (tmp_path / STUDY_FILE).write_text(STUDY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GAN_DATA", raising=False)
    return tmp_path


def test_the_front_page_is_short_and_starts_with_what_sets_everything_up():
    assert len(TEXT.splitlines()) <= 180
    assert [line.partition("#")[0].strip() for line in LINES[:2]] == ["make demo", "make test"]
    makefile = (ROOT / "Makefile").read_text()
    assert all(f"\n{target}: $(VENV)/.installed" in makefile for target in ("demo", "test"))


def test_every_command_is_one_that_the_program_takes(folder):
    assert len(COMMANDS) > 15
    for command in COMMANDS:
        assert command[0] in ("python", "torchrun"), command
        parsed(command)
    assert {parsed(command)[0] for command in COMMANDS} >= {"train", "sample", "fid", "evaluate", "compare", "probe"}
    assert [line for line in LINES if "run_gan.py" not in line] == LINES[:2], "a command that nothing checks"


def test_every_command_finds_what_it_names(folder):
    """Configs, settings and studies load; a run, an archive or a study's folder is one that make demo or a line before made."""
    made = {"runs/quickstart"}
    for command in COMMANDS:
        name, options = parsed(command)
        given = {str(value) for value in options.values() if isinstance(value, str | Path)} | set(options.get("arguments") or [])
        missing = {text for text in given if text.startswith("runs/")} - {str(options.get("out"))} - made
        assert not missing, command
        if name in ("train", "classify"):
            words = options["arguments"] or []
            if words[:1] and words[0] in made:
                Config.load(None, words[1:])
            else:
                path, changes = split_arguments(words)
                (Config if name == "train" else classification.Config).load(path, changes)
                made.add(str(options["out"] or f"runs/{run_name(path, changes)}"))
        if name == "compare" and str(options["study"]) not in made:
            Study.load(options["study"])
            made.add(str(options["out"] or f"runs/{options['study'].stem}"))
        if options.get("images"):
            made.add(str(options["images"]))
        for side in (options.get("real"), options.get("generated")):
            assert side is None or side in made or side.partition(":")[0] in ("shapes", "cifar10"), command


def quick(command):
    """The same command with a network and counts that take a second; None where even that takes longer."""
    words = arguments(command)
    if words[0] == "train" and "configs/cifar10/sngan.yaml" not in words:
        words = ["train.steps=3" if word.startswith("train.steps=") else word for word in words]
        return [*words, *(SMALL if not Path(words[1]).is_dir() else []), "--quiet"]
    if words[0] in ("sample", "probe"):
        return [*[word if word != "2000" else "20" for word in words], *(["--samples", "16"] if words[0] == "probe" else [])]
    return None


def test_those_that_take_seconds_run_one_after_the_other(folder, trained, call):
    shutil.copytree(trained, folder / "runs/quickstart")
    ran = []
    for command in COMMANDS:
        words = quick(command)
        if words is None:
            continue
        status, _, said = call(*words)
        assert status == 0, f"{' '.join(command)}: {said}"
        ran.append(words[0])
    assert ran.count("train") == 4 and ran.count("sample") == 4 and "probe" in ran
    assert (folder / "samples.zip").is_file() and (folder / "runs/quickstart/probe.png").is_file()


def test_the_study_file_is_a_study_of_nine_runs(folder):
    assert len(STUDY.splitlines()) <= 10 and "kernels.yaml" in TEXT
    study = Study.load(STUDY_FILE)
    assert len(study.rows) == 3 and len(study.jobs) == 9
    assert yaml.safe_load(STUDY)["baseline"] == {"generator.kernel": "c3"}


@pytest.mark.parametrize("code", [block for kind, block in BLOCKS if kind == "python"], ids=["layer", "run"])
def test_the_python_runs(code, folder, trained):
    shutil.copytree(trained, folder / "runs/quickstart")
    names = {}
    exec(code, names)
    if "model" in names:
        total = sum(p.numel() for p in names["model"].parameters())
        assert round(total / 1e6, 1) == 19.3 and names["layer"].weight.shape == (128, 64, 2, 2)
    else:
        assert names["images"].shape == (16, 3, 32, 32)


PAGES = [ROOT / "README.md", ROOT / "results/README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "CONTRIBUTING.md"]


def anchors(page):
    """The names by which headings are linked to, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: os.path.relpath(page, ROOT))
def test_every_link_leads_to_a_file_and_a_heading(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith("http"):
            continue
        path, _, heading = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        assert not heading or heading in anchors(file), target


def test_the_table_of_settings_is_that_of_the_code(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    import settings

    page = settings.page()
    assert (ROOT / "docs/settings.md").read_text() == page, "out of date: python docs/settings.py"
    for kind in (Config, classification.Config):
        assert all(f"| `{key}`" in page for key in kind.keys())  # noqa: SIM118
    assert "| `train.seed` | `0` | whole number ≥ 0 |" in page and "| `train.device`* | `auto` | text | auto: cuda if" in page
