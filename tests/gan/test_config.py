"""Settings: what is written can be read again, and a run that goes on may change what computes nothing."""

import zipfile

import pytest

import data
from data import DataError
from data.sources.shapes import COUNTS
from gan.classification import config as classification
from gan.config import KEYS, Config
from gan.models.build import resolve
from gan.settings import ConfigError

# --- reading and writing -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["null", "1e3", "yes", "2024-05-01", "a: b # c", "[x]", "~", "Bilder/schön", " ", "a\nb"])
def test_paths_that_look_like_yaml_survive_a_dump(path, config_file):
    config = Config().replace({"dataset.path": path})
    assert Config.load(config_file(config.dump())).dataset.path == path


def test_overrides_change_their_key_and_leave_the_rest_of_the_file(config_file):
    file = config_file("train: {seed: 3, steps: 10}\ngenerator: {kernel: c4}\n")
    config = Config.load(file, ["train.seed=5", "discriminator.width=8", "train.seed=6"])
    changed = {k: v for k, v in config.values().items() if v != Config().values()[k]}
    assert changed == {"train.seed": 6, "train.steps": 10, "generator.kernel": "c4", "discriminator.width": 8}


def test_python_values_are_taken_as_they_are_and_what_is_typed_comes_last(config_file):
    changes = {"train.lr_g": 1e-5, "dataset.path": "null", "train.seed": 3, "generator.kernel": None}
    config = Config.load(config_file("train: {seed: 1}\ngenerator: {kernel: c4}\n"), ["train.seed=4"], changes)
    assert (config.train.lr_g, config.dataset.path, config.train.seed, config.generator.kernel) == (1e-5, "null", 4, None)
    with pytest.raises(ConfigError, match=r"unknown key 'train\.sed'; did you mean train\.seed\?"):
        Config.load(changes={"train.sed": 1})
    with pytest.raises(ConfigError, match=r"^train\.steps: 0 is wrong, it should be greater than 0$"):
        Config.load(changes={"train.steps": 0})


def test_resolved_settings_are_not_resolved_again():
    config = resolve(Config())
    assert resolve(config) is config and config.length == config.train.steps


@pytest.mark.parametrize("text", ["", "# nothing\n", "train:\n", "train: {}\n", "---\n"])
def test_files_without_settings_give_the_defaults(text, config_file):
    assert Config.load(config_file(text)) == Config()
    assert Config.load(config_file(text), ["train.seed=1"]).train.seed == 1


@pytest.mark.parametrize("text", ["2e-4", "2.0e-4", "0.0002", "'2e-4'"])
def test_scientific_notation_is_a_number(text, config_file):
    """YAML 1.1 reads 2e-4 as a string."""
    assert Config.load(None, [f"train.lr_g={text}"]).train.lr_g == 0.0002
    assert Config.load(config_file(f"train: {{lr_g: {text}}}")).train.lr_g == 0.0002


# --- a path and the data set that it means -----------------------------------------------------------------------------------


@pytest.fixture
def photos_folder(write_folder, small):
    return write_folder({"cat/1.png": small(1)[0]})


@pytest.mark.parametrize("named", [None, "dataset: {name: shapes}", "dataset: {name: cifar10}", "dataset: {name: lsun}"])
def test_a_path_that_holds_images_means_folder(photos_folder, named, config_file, capsys):
    source = config_file(named) if named else None
    config = Config.load(source, [f"dataset.path={photos_folder}"])
    assert config.dataset.name == "folder" and len(data.load(**{**config.dataset.arguments, "resolution": 16})) == 1
    said = capsys.readouterr().err
    assert f"dataset.path={photos_folder} is no " in said and said.count("dataset.name is folder") == 1
    assert Config.load(source, changes={"dataset.path": str(photos_folder)}).dataset.name == "folder"


def test_a_path_in_a_file_without_a_name_means_folder(photos_folder, config_file):
    assert Config.load(config_file(f"dataset: {{path: {photos_folder}}}")).dataset.name == "folder"
    assert classification.Config.load(config_file(f"dataset: {{path: {photos_folder}}}")).dataset.name == "folder"


def test_a_path_that_is_not_there_is_not_answered_with_generated_shapes(tmp_path):
    config = Config.load(None, [f"dataset.path={tmp_path / 'nowhere'}"])
    with pytest.raises(DataError, match=r"there is nothing at .*nowhere"):
        data.load(**config.dataset.arguments)


def test_what_fits_keeps_its_name(tmp_path, config_file, write_lsun, small):
    with zipfile.ZipFile(tmp_path / "cifar10-train.zip", "w") as archive:
        archive.writestr("cat/1.png", small(1)[0])
    cifar, lsun = config_file("dataset: {name: cifar10}"), config_file("dataset: {name: lsun}", "lsun.yaml")
    for path in (tmp_path / "cifar10-train.zip", tmp_path):
        assert Config.load(cifar, [f"dataset.path={path}"]).dataset.name == "cifar10"
    directory = write_lsun(values={b"a": small(1)[0]})
    for path in (directory, directory.parent):
        assert Config.load(lsun, [f"dataset.path={path}"]).dataset.name == "lsun"
        assert Config.load(cifar, [f"dataset.path={path}"]).dataset.name == ("folder")
    faces = config_file(f"dataset: {{name: celeba, path: {tmp_path}}}", "faces.yaml")
    assert Config.load(faces, [f"dataset.path={tmp_path}"]).dataset.name == "celeba"


@pytest.mark.parametrize("typed", [["dataset.name=shapes"], ["dataset.name=shapes", "dataset.path=x"]])
def test_a_path_for_what_lies_nowhere_is_refused(typed, config_file):
    with pytest.raises(DataError, match=r"shapes is read from no path, so dataset\.path=x has no effect: set dataset\.name=folder"):
        Config.load(config_file("dataset: {name: celeba, path: x}"), typed)


def test_a_run_that_was_begun_so_still_loads_and_says_so(config_file, capsys, monkeypatch):
    monkeypatch.setitem(COUNTS, "train", 30)
    config = Config.load(config_file("dataset: {name: shapes, path: somewhere/else}"), ["train.steps=5"])
    assert config.dataset.name == "shapes" and len(data.load(**config.dataset.arguments)) == 30
    assert capsys.readouterr().err == "shapes is found at no path: dataset.path=somewhere/else isn't looked at\n"


# --- what may change when a run goes on --------------------------------------------------------------------------------------

ANOTHER = {
    "dataset.name": "folder",
    "dataset.path": "elsewhere",
    "evaluate.real": 100,
    "evaluate.features": "inception",
    "evaluate.weights": "file.pth",
    "evaluate.precision": "bf16",
    "dataset.resolution": 64,
    "dataset.flip": False,
    "dataset.on_bad": "skip",
    "dataset.crop": "pad",
    "dataset.categories": "bedroom",
    "dataset.hold_out": 0.1,
    "dataset.workers": 2,
    "train.activation_checkpointing": True,
    "evaluate.split": "test",
    "evaluate.best": "is",
    "generator.family": "cnn",
    "generator.kernel": "c2sp",
    "generator.upsampling": "nearest",
    "generator.width": 4.0,
    "generator.width_rule": "paper",
    "generator.latent": 64,
    "generator.norm": "none",
    "discriminator.family": "cnn",
    "discriminator.kernel": "c2",
    "discriminator.width": 4.0,
    "discriminator.norm": "none",
    "objective.loss": "hinge",
    "objective.gradient_penalty": 10.0,
    "generator.padding": "reflect",
    "generator.conditional": True,
    "generator.attention": 16,
    "generator.spectral_norm": True,
    "discriminator.attention": 16,
    "discriminator.padding": "circular",
    "objective.r1": 0.1,
    "objective.r2": 0.1,
    "objective.penalty_form": "exact",
    "augment.colour": True,
    "augment.translation": 0.125,
    "augment.probability": 0.5,
    "augment.target": 0.5,
    "schedule.steps": 10,
    "schedule.lr_g": 1e-5,
    "schedule.lr_d": 1e-5,
    "schedule.beta2": 0.5,
    "schedule.ema_decay": 0.5,
    "schedule.r1": 0.5,
    "schedule.r2": 0.5,
    "schedule.probability": 0.5,
    "train.lr_decay": "linear",
    "train.precision": "bf16",
    "train.channels_last": False,
    "train.fused": False,
    "train.compile": True,
    "train.deterministic": False,
    "train.device": "cpu",
}

# Where it runs and what it writes; and train.steps, which is only raised here.
MAY_CHANGE = {
    "dataset.path",
    "dataset.memory",
    "dataset.workers",
    "train.device",
    "train.log_every",
    "train.sample_every",
    "train.checkpoint_every",
    "train.keep_checkpoints",
    "train.steps",
    *(key for key in KEYS if key.startswith("evaluate.")),
}


@pytest.mark.parametrize("key", KEYS)
def test_difference_names_each_key_that_computes_and_no_other(key):
    # Without which evaluate.instruments, the schedule and augment.target would do nothing, and train.compile be refused.
    needed = {"evaluate.every": 1000, "objective.r1": 1.0, "objective.r2": 1.0, "augment.cutout": 0.5}
    before = Config().replace(needed | {"objective.penalty_form": "finite_difference"})
    old = before.values()[key]
    new = ANOTHER[key] if key in ANOTHER else old / 2 if isinstance(old, float) else old * 2 + 1
    changed = before.replace({key: new})
    assert changed != before
    assert before.difference(changed) == ([] if key in MAY_CHANGE else [f"{key}: {old} -> {new}"])


def test_the_file_is_blamed_exactly_where_it_is_wrong_by_itself(tmp_path):
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text("train: {steps: 10}\n")
    bad.write_text("train: {compile: true}\nobjective: {r1: 1.0}\n")
    for file, typed in ((good, ["train.compile=true", "objective.r1=1"]), (good, ["train.steps=0"])):
        with pytest.raises(ConfigError) as error:
            Config.load(file, typed)
        assert str(file) not in str(error.value)
    for typed in ([], ["train.seed=1"]):
        with pytest.raises(ConfigError, match="cannot go with") as error:
            Config.load(bad, typed)
        assert str(error.value).endswith(f"(in {bad})")


def test_difference_allows_more_steps_only_without_a_schedule():
    def config(steps, decay):
        return Config().replace({"train.steps": steps, "train.lr_decay": decay})

    assert config(10, "none").difference(config(20, "none")) == []
    assert config(20, "none").difference(config(10, "none")) == ["train.steps: 20 -> 10"]
    assert config(10, "linear").difference(config(20, "linear")) == ["train.steps: 10 -> 20"]
    assert config(10, "none").difference(config(20, "linear")) == ["train.steps: 10 -> 20", "train.lr_decay: none -> linear"]
