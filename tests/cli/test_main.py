"""The command line: help without waiting, train and sample from end to end, one sentence for every error a user can cause."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from PIL import Image
from rich.table import Table

from cli import main as cli
from cli.common import console, default_run, run_name, split_arguments
from gan.classification import config as classification_config
from gan.config import Config
from gan.run_directory import read_log
from gan.training import train
from tests.helpers import ROOT

CELL = 32 + 2  # pixels of an image and its border in a grid


@pytest.fixture(scope="module")
def config(tiny):
    """Four steps, of which the last two are saved."""
    return tiny("dcgan", "train.steps=4", "train.checkpoint_every=1", "train.log_every=1")


@pytest.fixture
def file(config, tmp_path):
    path = tmp_path / "mine" / "tiny.yaml"
    path.parent.mkdir()
    path.write_text(config.dump())
    return path


@pytest.fixture(scope="module")
def trained(config, tmp_path_factory):
    """What `train` makes of the file; tests get copies."""
    path = tmp_path_factory.mktemp("trained") / "run"
    train(config, path, progress=False)
    return path


def size(png):
    with Image.open(png) as image:
        return image.size


# --- help --------------------------------------------------------------------------------------------------------------------

HELP = """
import sys
from cli.main import app
try:
    app(sys.argv[1:])
finally:
    assert "torch" not in sys.modules, "help waited for PyTorch"
"""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["train", "sample"]),
        (["--help"], ["train", "sample", "c2sp"]),
        (["train", "--help"], ["CONFIG", "KEY=VALUE", "--out", "--quiet", "-q", "torchrun"]),
        (
            ["sample", "--help"],
            ["RUN", "--count", "--seed", "--grid", "--images", "--interpolate", "--checkpoint", "--device", ".zip"],
        ),
        (["fid", "--help"], ["REAL", "GENERATED", "--scores", "--floor", "--features", "--weights", "--json"]),
        (
            ["evaluate", "--help"],
            ["RUN", "--checkpoint", "--real-count", "--features", "--precision", "--resize", "--insist", "--split"],
        ),
    ],
    ids=" ".join,
)
def test_help_names_every_option_without_waiting_for_torch(arguments, words):
    environment = {"PATH": os.environ["PATH"], "COLUMNS": "160", "NO_COLOR": "1", "TERM": "dumb"}
    command = [sys.executable, "-c", HELP, *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert "help waited" not in done.stderr
    assert [word for word in words if word.lower() not in (done.stdout + done.stderr).lower()] == []


# --- from end to end ---------------------------------------------------------------------------------------------------------


def test_train_then_sample(file, call, tmp_path):
    run = tmp_path / "run"
    assert call("train", file, "--out", run, "-q")[0] == 0
    assert [record["step"] for record in read_log(run)] == [1, 2, 3, 4]

    status, out, err = call("sample", run)
    assert (status, out) == (0, "") and f"grid of 64 images from step 4: {run}/samples/step_00000004_seed_0_64.png" in err
    assert size(run / "samples/step_00000004_seed_0_64.png") == (3 * (8 * CELL + 2),) * 2  # about 800

    grid, images = tmp_path / "new" / "grid.png", tmp_path / "new" / "images.zip"
    status, _, err = call("sample", run, "--seed", 2, "--count", 5, "--grid", grid, "--images", images, "--scale", 1)
    assert status == 0 and f"5 images: {images}" in err and f": {grid}" in err
    assert size(grid) == (3 * CELL + 2, 2 * CELL + 2)
    with zipfile.ZipFile(images) as archive:
        assert archive.namelist() == [f"00000{i}.png" for i in range(5)]
    assert not list(run.glob("samples/*seed_2*"))


def test_interpolate_draws_rows_of_ten(run, call):
    assert call("sample", run, "--interpolate", "--count", 15)[0] == 0
    assert size(run / "samples/step_00000004_walk_0_20.png") == (2 * (10 * CELL + 2), 2 * (2 * CELL + 2))


def test_images_alone_write_no_grid(run, call, tmp_path):
    before = set(run.rglob("*"))
    assert call("sample", run, "--count", 3, "--images", tmp_path / "single")[0] == 0
    assert len(list((tmp_path / "single").glob("*.png"))) == 3
    assert set(run.rglob("*")) == before


def test_an_earlier_checkpoint_and_another_seed_give_other_pictures(run, call, tmp_path):
    pictures = set()
    for arguments in (["--checkpoint", 4], ["--checkpoint", 3], ["--seed", 1]):
        assert call("sample", run, "--grid", tmp_path / "grid.png", "--overwrite", *arguments)[0] == 0
        pictures.add((tmp_path / "grid.png").read_bytes())
    assert len(pictures) == 3


def test_run_gan_in_a_process_of_its_own(run, tmp_path):
    command = [sys.executable, "run_gan.py", "sample", str(run), "--count", "4", "--images", str(tmp_path / "four")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "") and len(list((tmp_path / "four").iterdir())) == 4, done.stderr
    done = subprocess.run([*command[:2], "sample", "nowhere"], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert done.stderr.startswith("error: nowhere is not a run directory") and done.stderr.count("\n") == 1


def test_the_same_command_goes_on_in_the_same_directory(file, call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for steps in (4, 6):
        text = file.read_text().replace("steps: 4", f"steps: {steps}")
        file.write_text(text)
        assert call("train", "mine/tiny.yaml", "train.seed=3", "-q")[0] == 0
    assert [p.name for p in Path("runs").iterdir()] == ["mine-tiny_seed-3"]
    assert [record["step"] for record in read_log("runs/mine-tiny_seed-3")] == [1, 2, 3, 4, 5, 6]


def test_the_table_and_the_directory_are_shown_unless_quiet(file, call, tmp_path):
    status, out, err = call("train", file, "--out", tmp_path / "run")
    assert (status, out) == (0, "")
    assert all(word in err for word in ("c3sp", "receptive field", f"run directory: {tmp_path}/run", "trained for 4 steps"))
    err = call("train", file, "--out", tmp_path / "other", "-q")[2]
    assert err.count("\n") == 1 and err.startswith("trained for 4 steps")


def test_the_default_configuration_is_the_quickstart():
    path, overrides = split_arguments([])
    assert path == ROOT / "configs" / "quickstart.yaml" and overrides == []
    assert Config.load(path).dataset.name == "shapes"
    assert split_arguments(["train.seed=1"]) == (path, ["train.seed=1"])


# --- names of run directories ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "overrides", "name"),
    [
        ("configs/quickstart.yaml", [], "quickstart"),
        ("configs/cifar10/sngan.yaml", ["generator.kernel=c2sp", "train.seed=1"], "cifar10-sngan_kernel-c2sp_seed-1"),
        ("configs/cifar10/sngan.yaml", ["train.seed=1", "generator.kernel=c2sp"], "cifar10-sngan_kernel-c2sp_seed-1"),
        ("mine.yaml", ["dataset.path=/data/my images"], "mine_path--data-my-images"),
        ("mine.yaml", ["dataset.path=../.."], "mine_path-..-.."),
    ],
)
def test_a_run_is_named_after_its_file_and_changes(path, overrides, name):
    assert run_name(Path(path), overrides) == name


def test_a_long_name_ends_with_a_hash_and_runs_of_earlier_versions_go_on_under_theirs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file, changes = Path("configs/quickstart.yaml"), ["train.seed=1", "dataset.path=" + "a/very/long/path" * 5]
    name = run_name(file, changes)
    assert len(name) <= 60 and run_name(file, [*changes[:1], changes[1] + "x"])[:40] == name[:40] and "=" not in name
    assert run_name(file, [*changes[:1], changes[1] + "x"]) != name
    assert default_run(file, changes[:1]) == Path("runs/quickstart_seed-1")
    (tmp_path / "runs/quickstart_seed=1").mkdir(parents=True)
    (tmp_path / "runs/quickstart_seed=1/config.yaml").touch()
    assert default_run(file, changes[:1]) == Path("runs/quickstart_seed=1")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (["train.seed=1"], ["train.seed=2"]),
        (["train.seed=1"], []),
        (["train.lr_g=1e-4"], ["train.lr_d=1e-4"]),
        (["train.beta1=0.5"], ["train.beta1=0"]),
        (["generator.kernel=c2"], ["generator.kernel=c2sp"]),
        (["generator.kernel=c2"], ["discriminator.kernel=c2"]),
        (["generator.width=8"], ["discriminator.width=8"]),
    ],
)
def test_runs_with_other_changes_have_other_names(one, other):
    file = Path("configs/quickstart.yaml")
    assert run_name(file, one) != run_name(file, other)


# --- errors ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train.sed=1"], "unknown key 'train.sed'; did you mean train.seed?"),
        (["generator.kernel=c9"], "generator.kernel: 'c9' is not one of c2, c2sp"),
        (["nowhere.yaml"], "no configuration file nowhere.yaml"),
        (["[bold]x.yaml"], "no configuration file [bold]x.yaml"),
        (["[/x].yaml"], "no configuration file [/x].yaml"),
        (["dataset.path=/nowhere", "dataset.name=folder"], "there is nothing at /nowhere: give a directory or a zip"),
        (["train.compile=true", "objective.r1=1"], "train.compile=true cannot go with"),  # and blames no file: both are typed
        (["--out", "taken"], "taken can't be used as a run directory"),
    ],
)
def test_what_train_cannot_do_ends_in_one_sentence(call, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").touch()
    out = [] if "--out" in arguments else ["--out", "out"]
    status, stdout, stderr = call("train", *arguments, *out, "-q")
    assert (status, stdout) == (1, "")
    assert stderr.startswith(f"error: {message}") and stderr.count("\n") == 1 and "quickstart.yaml" not in stderr


def test_a_refused_resume_ends_in_one_sentence(run, file, call):
    status, _, err = call("train", file, "train.seed=1", "--out", run, "-q")
    assert status == 1 and err.count("\n") == 1
    assert err.startswith(f"error: {run} holds a run with other settings (train.seed: 0 -> 1); choose another directory with --out")


@pytest.fixture
def classified(tmp_path):
    """The directory of a run of `classify`, as far as its settings go."""
    (tmp_path / "classified").mkdir()
    (tmp_path / "classified/config.yaml").write_text(classification_config.Config().dump())
    return tmp_path / "classified"


@pytest.mark.parametrize("command", [["sample"], ["evaluate"], ["probe"], ["fid", "shapes"], ["train", "--out"]], ids=" ".join)
def test_a_run_of_classify_is_no_run_of_train(classified, call, command):
    status, _, err = call(*command, classified, *(["-q"] if command[0] == "train" else []))
    assert status == 1 and err.endswith(f"error: {classified} is a run of `classify`; choose another directory\n")


def test_a_run_of_train_is_no_run_of_classify(run, call):
    status, _, err = call("classify", "--out", run, "-q")
    assert (status, err) == (1, f"error: {run} is a run of `train`; choose another directory\n")


@pytest.mark.parametrize("command", ["train", "probe"])
def test_a_config_of_classify_is_refused_by_its_name(classified, call, command):
    status, _, err = call(command, classified / "config.yaml")
    assert (status, err) == (1, f"error: {classified}/config.yaml is a config of `classify`; choose another\n")


def test_a_config_of_train_is_refused_by_its_name(file, call):
    status, _, err = call("classify", file)
    assert (status, err) == (1, f"error: {file} is a config of `train`; choose another\n")


def test_a_diverged_run_ends_in_one_sentence(file, call, tmp_path):
    status, _, err = call("train", file, "train.lr_d=1e30", "objective.loss=wasserstein", "--out", tmp_path / "run", "-q")
    assert status == 1 and err.count("\n") == 1
    assert err.startswith("error: training diverged: ") and "try a lower learning rate" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--checkpoint", "9"], "{run} has no checkpoint of step 9; it has 3, 4"),
        (["--images", "{run}/samples"], "{run}/samples is not an empty directory"),
        (["--grid", "{run}/config.yaml/grid.png"], "{run}/config.yaml/grid.png can't be written ("),
        (["--grid", "{run}/made.png"], "{run}/made.png can't be written (is a directory)"),
        (["--device", "gpu"], "gpu"),
        (["--device", "cuda:99"], "cuda"),
        (["--device", "mps:9"], "this PyTorch finds no device 'mps:9'; use cpu, cuda or auto"),
    ],
    ids=["missing step", "full directory", "file as directory", "directory as file", "no device", "no such GPU", "no such Mac"],
)
def test_what_sample_cannot_do_ends_in_one_sentence(run, call, arguments, message):
    (run / "made.png").mkdir()
    status, out, err = call("sample", run, "--count", 2, *(a.format(run=run) for a in arguments))
    assert (status, out) == (1, "")
    assert err.startswith("error: ") and message.format(run=run).lower() in err.lower() and err.count("\n") == 1


def test_a_damaged_checkpoint_ends_in_one_sentence(run, call):
    (run / "checkpoints/step_00000004.pt").write_bytes(b"garbage")
    status, _, err = call("sample", run)
    assert status == 1 and err.startswith(f"error: {run}/checkpoints/step_00000004.pt is damaged (") and err.count("\n") == 1


@pytest.mark.parametrize(
    "command",
    [
        ["sample", "{run}", "--count", "2", "--images", "{file}.zip"],
        ["sample", "{run}", "--count", "2", "--grid", "{file}.png"],
        ["fid", "shapes", "{run}", "--json", "{file}.json"],
        ["fid", "shapes", "{run}", "--save-statistics", "{file}.npz"],
        ["probe", "{run}", "--json", "{file}.json"],
        ["probe", "{run}", "--figure", "{file}.png"],
        ["classify", "--export", "{file}.safetensors"],
        ["data", "grid", "{run}/samples", "--out", "{file}.png"],
        ["export", "{run}", "--to", "{file}.pt2"],
        ["plot", "{run}", "--out", "{file}.png"],
    ],
    ids=lambda c: f"{c[0]} {c[-2]}",
)
def test_a_file_that_exists_is_not_replaced_unless_told_to(run, call, tmp_path, command):
    arguments = [a.format(run=run, file=tmp_path / "mine") for a in command]
    (tmp_path / arguments[-1]).write_text("mine")
    status, _, err = call(*arguments)
    assert (status, err) == (1, f"error: {arguments[-1]} exists: name another, or say --overwrite to replace it\n")
    assert Path(arguments[-1]).read_text() == "mine"
    if command[0] == "sample":
        assert call(*arguments, "--overwrite")[0] == 0 and Path(arguments[-1]).stat().st_size > 100


def test_names_are_shown_as_they_are(call, capsys):
    for text in ("[bold]x[/bold]", ":smile:", "a\x1b[31mb"):
        status, _, err = call("sample", text)
        shown = text.replace("\x1b", "\\x1b")
        assert status == 1 and err.startswith(f"error: {shown} is not a run directory")
    table = Table()
    table.add_row("[red]:smile: [/x]")
    console.print(table)
    assert "[red]:smile: [/x]" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OSError(28, "No space left on device"), "the disk is full: fix that and give the same command again"),
        (OSError(28, "No space left on device", "a"), "a can't be read or written (the disk is full): fix that and give"),
        (OSError(24, "Too many open files", "b"), "b can't be read or written (too many files are open, see `ulimit -n`): fix"),
        (OSError(13, "Permission denied", "c"), "c can't be read or written (permission denied): choose another"),
        (OSError(38, "Function not implemented"), "the system refuses (function not implemented): give the same command again"),
        (MemoryError(), "out of memory: close other programs"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"), "out of memory: close other"),
        (ImportError("libtorch_cpu.so: failed to map segment from shared object"), "out of memory: close other programs"),
    ],
    ids=lambda value: str(value)[:25],
)
def test_what_the_system_refuses_is_one_sentence(call, monkeypatch, error, sentence):
    def fails():
        raise error

    monkeypatch.setattr(cli, "app", fails)
    status, _, err = call("train")
    assert status == 1 and err.startswith(f"error: {sentence}") and err.count("\n") == 1


def test_a_grid_that_no_memory_could_hold_is_refused(run, call):
    status, _, err = call("sample", run, "--count", 10**12)
    assert status == 1 and err.startswith("error: a grid of 1,000,000,000,000 images takes at least") and "use --images" in err
    status, _, err = call("sample", run, "--count", 10**9, "--scale", 32)
    assert status == 1 and err.startswith("error: a grid of 1,000,000,000 images takes at least 2,")
    status, _, err = call("probe", run, "--samples", 10**12)
    assert status == 1 and err.startswith("error: a measurement of 1,000,000,000,000 images takes at least")


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "a.yaml", "b.yaml"],
        ["train", "train.seed=1", "a.yaml"],
        ["sample"],
        ["sample", "x", "--count", "0"],
        ["sample", "x", "--seed", "-1"],
        ["sample", "x", "--grid", "x.jpg"],
        ["sample", "x", "--grid", "."],
        ["classify", "--export", "."],
        ["sample", "x", "--images", "x.tar"],
        ["learn"],
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_shows_its_usage(call, arguments):
    status, out, err = call(*arguments)
    assert (status, out) == (2, "") and "Usage: " in err


def test_ctrl_c_where_nothing_trains_is_answered(call, monkeypatch):
    def pressed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("metrics.devices.open_device", pressed)
    status, out, err = call("fid", "shapes", "shapes:test")
    assert (status, out) == (130, "") and err.startswith("interrupted; the same command starts again")


def test_a_bug_keeps_its_traceback(monkeypatch):
    """Only what a user can cause becomes a sentence."""
    monkeypatch.setattr(cli, "app", lambda: torch.zeros(2)[5])
    with pytest.raises(IndexError):
        cli.main()
