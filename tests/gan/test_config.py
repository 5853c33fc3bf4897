"""Settings: what is written can be read again, and what is wrong is named with what would be right."""

import re
import time
import zipfile
from pathlib import Path

import pytest

import data
from data import DataError
from data.sources.shapes import COUNTS
from gan.classification import config as classification
from gan.config import KEYS, Config
from gan.models.build import resolve
from gan.settings import ConfigError

ROOT = Path(__file__).parents[2]
FILES = sorted(p for p in ROOT.glob("configs/**/*.yaml") if p.parent.name not in ("studies", "classification"))


def nulls(config):
    return {key for key, value in config.values().items() if value is None}


@pytest.fixture
def write(tmp_path):
    """write(text) -> a YAML file that holds it."""

    def file(text, name="mine.yaml"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return file


# --- reading and writing -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_dumped_settings_load_equal(file, write):
    config = Config.load(file, ["train.seed=7", "train.lr_g=1e-5", "generator.kernel=c2sp", "train.device=cuda:1"])
    assert Config.load(write(config.dump())) == config
    assert Config.load(write(resolve(config).dump())) == resolve(config)


@pytest.mark.parametrize("path", ["null", "1e3", "yes", "2024-05-01", "a: b # c", "[x]", "~", "Bilder/schön", " ", "a\nb"])
def test_paths_that_look_like_yaml_survive_a_dump(path, write):
    config = Config().replace({"dataset.path": path})
    assert Config.load(write(config.dump())).dataset.path == path


def test_overrides_change_their_key_and_leave_the_rest_of_the_file(write):
    file = write("train: {seed: 3, steps: 10}\ngenerator: {kernel: c4}\n")
    config = Config.load(file, ["train.seed=5", "discriminator.width=8", "train.seed=6"])
    changed = {k: v for k, v in config.values().items() if v != Config().values()[k]}
    assert changed == {"train.seed": 6, "train.steps": 10, "generator.kernel": "c4", "discriminator.width": 8}


def test_python_values_are_taken_as_they_are_and_what_is_typed_comes_last(write):
    changes = {"train.lr_g": 1e-5, "dataset.path": "null", "train.seed": 3, "generator.kernel": None}
    config = Config.load(write("train: {seed: 1}\ngenerator: {kernel: c4}\n"), ["train.seed=4"], changes)
    assert (config.train.lr_g, config.dataset.path, config.train.seed, config.generator.kernel) == (1e-5, "null", 4, None)
    with pytest.raises(ConfigError, match=r"unknown key 'train\.sed'; did you mean train\.seed\?"):
        Config.load(changes={"train.sed": 1})
    with pytest.raises(ConfigError, match=r"^train\.steps: 0 is wrong, it should be greater than 0$"):
        Config.load(changes={"train.steps": 0})


def test_resolved_settings_are_not_resolved_again():
    config = resolve(Config())
    assert resolve(config) is config and config.length == config.train.steps


@pytest.mark.parametrize("text", ["", "# nothing\n", "train:\n", "train: {}\n", "---\n"])
def test_files_without_settings_give_the_defaults(text, write):
    assert Config.load(write(text)) == Config()
    assert Config.load(write(text), ["train.seed=1"]).train.seed == 1


@pytest.mark.parametrize("text", ["2e-4", "2.0e-4", "0.0002", "'2e-4'"])
def test_scientific_notation_is_a_number(text, write):
    """YAML 1.1 reads 2e-4 as a string."""
    assert Config.load(None, [f"train.lr_g={text}"]).train.lr_g == 0.0002
    assert Config.load(write(f"train: {{lr_g: {text}}}")).train.lr_g == 0.0002


# --- refusals ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "advice"),
    [
        ("train.sed", "did you mean train.seed?"),
        ("seed", "did you mean train.seed?"),
        ("generator.d_steps", "did you mean train.d_steps?"),
        ("trian.steps", "did you mean train.steps?"),
        ("objective.gradient_penality", "did you mean objective.gradient_penalty?"),
        ("x", "sections are dataset, generator, discriminator, objective, augment, train, schedule"),
        ("a.b.c", "sections are dataset"),
    ],
)
def test_an_unknown_override_is_named_with_the_nearest_key(key, advice):
    with pytest.raises(ConfigError, match=re.escape(f"unknown key '{key}'; {advice}")):
        Config.load(None, [f"{key}=1"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: {sed: 1}", r"unknown key 'train\.sed'; did you mean train\.seed\?"),
        ("discriminator: {kernal: c3}", r"unknown key 'discriminator\.kernal'; did you mean discriminator\.kernel\?"),
        ("trian: {steps: 3}", r"unknown key 'trian'; did you mean train\b"),
        ("objectives: {loss: hinge}", r"unknown key 'objectives'; did you mean objective\b"),
        ("train: {seed: 1, sed: 1, stepz: 2}", r"'train\.sed'.*'train\.stepz'"),
    ],
)
def test_an_unknown_key_in_a_file_is_named_with_the_nearest_and_the_file(text, message, write):
    with pytest.raises(ConfigError, match=message + r".*\(in .*mine\.yaml\)"):
        Config.load(write(text))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("generator.kernel=c2s", "'c2s' is not one of c2, c2sp, c2alt, c3, c3sp, c3off, c4, c4sp, c5, c5sp; did you mean c2sp?"),
        (
            "objective.loss=hinged",
            "is not one of non_saturating, hinge, wasserstein, least_squares, relativistic; did you mean hinge?",
        ),
        ("generator.upsampling=bilinaer", "did you mean bilinear?"),
        ("discriminator.norm=spektral", "did you mean spectral?"),
        ("dataset.resolution=50", "50 is no multiple of 8 from 16 to 256, which networks are made for; did you mean 48 or 56?"),
        ("dataset.resolution=yes", "must not be true or false"),
        ("train.precision=8", "8 is not one of auto, fp32, tf32, bf16"),
        ("train.steps=abc", "'abc' is wrong, it should be a valid integer"),
        ("train.steps=1.5", "1.5 is wrong, it should be a valid integer"),
        ("train.steps=", "None is wrong, it should be a valid integer"),
        ("train.steps=[1]", "[1] is wrong, it should be a valid integer"),
        ("train.steps=0", "0 is wrong, it should be greater than 0"),
        ("train.seed=-1", "-1 is wrong, it should be greater than or equal to 0"),
        ("train.beta1=1", "1 is wrong, it should be less than 1"),
        ("train.lr_d=0", "0 is wrong, it should be greater than 0"),
        ("train.lr_d=.nan", "nan is wrong, it should be a finite number"),
        ("train.lr_d=.inf", "inf is wrong, it should be a finite number"),
        ("objective.r1=-0.1", "-0.1 is wrong, it should be greater than or equal to 0"),
        ("dataset.flip=perhaps", "'perhaps' is wrong, it should be a valid boolean"),
        ("train.steps=true", "must not be true or false"),
        ("train.lr_g=no", "must not be true or false"),
        ("train.seed=1:30", "'1:30' is wrong, it should be a valid integer"),
        ("train.lr_g=2020-13-45", "'2020-13-45' is wrong, it should be a valid number"),
        ("train.device=gpu", "must be auto, cpu, cuda or cuda:N, got 'gpu'"),
        ("train.device=cuda:x", "must be auto, cpu, cuda or cuda:N, got 'cuda:x'"),
    ],
)
def test_a_wrong_value_is_named_with_what_would_be_right(override, message):
    key = override.split("=")[0]
    with pytest.raises(ConfigError) as caught:
        Config.load(None, [override])
    assert str(caught.value).startswith(f"{key}: ") and message in str(caught.value)


def test_every_wrong_value_is_named_at_once(write):
    with pytest.raises(ConfigError) as caught:
        Config.load(write("train: {steps: -1, seed: -2, sed: 1}"), ["generator.kernel=c9"])
    assert all(part in str(caught.value) for part in ("train.steps: -1", "train.seed: -2", "'train.sed'", "generator.kernel: 'c9'"))


@pytest.mark.parametrize("override", ["train.steps", "train.lr_g=[1", "train.lr_g='1", "dataset.path='1", "train.lr_g=!!bool x"])
def test_an_override_that_yaml_cannot_read_is_refused(override):
    with pytest.raises(ConfigError, match=r"is not of the form key=value|is not a value that YAML can read"):
        Config.load(None, [override])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- train\n- steps\n", "must hold sections such as 'train:'"),
        ("steps", "must hold sections such as 'train:'"),
        ("7", "must hold sections such as 'train:'"),
        ("train: {steps: 3", "cannot be read as YAML"),
        ("train:\n\tsteps: 3", "cannot be read as YAML"),
        ("train: {seed: !!bool 3}", "cannot be read as YAML"),
        ("train: {seed: 1, steps: 2, seed: 3}", r"cannot be read as YAML: the key 'seed' occurs twice, the second time in line 1"),
        (
            "train:\n  seed: 1\ntrain:\n  steps: 2\n",
            r"cannot be read as YAML: the key 'train' occurs twice, the second time in line 3",
        ),
        ("[" * 1000, "cannot be read as YAML: it is nested too deeply"),
        ("{a: " * 1000, "cannot be read as YAML: it is nested too deeply"),
        ("train: &a {steps: *a}", "cannot be read as YAML"),
        ("train: &a [*a]", "cannot be read as YAML: the alias in line 1 contains itself"),
        ("train: {device: 'caf\xe9'}".encode("latin-1"), "cannot be read as YAML"),
        (b"\x00\x01\x02", "cannot be read as YAML"),
        ("!!python/object/apply:os.getcwd []", "cannot be read as YAML"),
    ],
)
def test_a_file_that_is_no_yaml_mapping_is_refused_by_name(text, message, write):
    with pytest.raises(ConfigError, match=rf"mine\.yaml {message}") as caught:
        Config.load(write(text))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("overrides", [[], ["train.seed=1"]], ids=["alone", "overridden"])
@pytest.mark.parametrize("section", ["3", "abc", "[1, 2]"])
def test_a_section_without_keys_is_named(section, overrides, write):
    with pytest.raises(ConfigError, match=r"\btrain\b.*mine\.yaml"):
        Config.load(write(f"train: {section}"), overrides)


def test_a_directory_is_no_configuration(tmp_path):
    with pytest.raises(ConfigError, match=r"can't be read \(is a directory\): choose another"):
        Config.load(tmp_path)


def test_a_missing_file_is_answered_with_a_near_name(write):
    near = write("", "sngan.yaml")
    with pytest.raises(ConfigError, match=rf"no configuration file .*sgnan\.yaml; did you mean {re.escape(str(near))}\?"):
        Config.load(near.with_name("sgnan.yaml"))
    with pytest.raises(ConfigError, match=r"no configuration file .*quite_another\.yaml$"):
        Config.load(near.with_name("quite_another.yaml"))
    with pytest.raises(ConfigError, match="no configuration file"):
        Config.load(near.parent / "nowhere" / "sngan.yaml")


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi")
)


@pytest.mark.parametrize(
    "text",
    [
        BOMB,
        BOMB.replace("[", "{<<: [").replace("]", "]}"),
        f"train: {{steps: {'x' * 10**6}}}",
        f"{'x' * 10**6}: 1",
        f"train: {{{'x' * 10**6}: 1}}",
        f"train: {{steps: 0x{'f' * 10**5}, seed: -0x{'f' * 10**5}}}",
        f"train: {{steps: {'9' * 10**5}}}",
        f"generator: {{kernel: {'c' * 10**6}}}",
        f"train: {{device: {'c' * 10**6}}}",
        "train: {" + ", ".join(f"x{i}: 1" for i in range(2_000)) + "}",
        "train: {steps: [" + "a, " * 2_000 + "]}",
        "x" * (2**22 + 1),
        b"\xff\xfe" + bytes(10_000),
    ],
    ids=range(13),
)
def test_whatever_a_file_holds_the_message_is_short(text, write):
    if isinstance(text, str) and text.startswith("a: {"):
        text = "a: &a {x: 1}\n" + text.partition("\n")[2]
    start = time.monotonic()
    with pytest.raises(ConfigError) as caught:
        Config.load(write(text))
    assert len(str(caught.value)) < 1500 and "\n" not in str(caught.value) and time.monotonic() - start < 10


@pytest.mark.parametrize("text", ["train: {1: 2}", "train: {null: 2}", "train: {true: 2}", "1: {a: b}", "train: {1.5: 2}"])
def test_keys_that_are_no_text_are_unknown_keys(text, write):
    with pytest.raises(ConfigError, match=r"unknown key '.*'.*\(in .*mine\.yaml\)"):
        Config.load(write(text))


# --- text and numbers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "2020",
        "0001",
        "#1",
        "yes",
        "2020-01-01",
        "1:30",
        "a: b",
        "[x]",
        "*x",
        "!x",
        "&x",
        "0x10",
        "1e3",
        " x ",
        "-",
        "x # y",
        "{",
        "%",
    ],
)
def test_a_path_is_the_text_that_was_typed(text, write):
    config = Config.load(None, [f"dataset.path={text}"])
    assert config.dataset.path == text and Config.load(write(config.dump())) == config


@pytest.mark.parametrize(("text", "path"), [("null", None), ("~", None), ("", None), ("'null'", "null"), ('"a b"', "a b")])
def test_nothing_and_quoted_texts_are_as_in_yaml(text, path):
    assert Config.load(None, [f"dataset.path={text}"]).dataset.path == path


@pytest.mark.parametrize(("text", "number"), [("010", 10), ("08", 8), ("1_000", 1000), ("0x10", 16), ("+5", 5), ("'7'", 7)])
def test_numbers_are_decimal_unless_they_say_otherwise(text, number, write):
    assert Config.load(None, [f"train.steps={text}"]).train.steps == number
    assert Config.load(write(f"train: {{steps: {text}}}")).train.steps == number


@pytest.mark.parametrize(
    ("text", "message"),
    [("2020", "2020 is wrong, it should be a valid string; put quotes around it"), ("yes", "got true; put quotes around a text")],
)
def test_in_a_file_a_text_that_looks_otherwise_needs_quotes(text, message, write):
    with pytest.raises(ConfigError, match=rf"^dataset\.path: .*{message}"):
        Config.load(write(f"dataset: {{path: {text}, name: folder}}"))
    for quoted in (f"'{text}'", "2020-01-01", "010", "1:30"):
        assert Config.load(write(f"dataset: {{path: {quoted}, name: folder}}")).dataset.path == quoted.strip("'")


def test_aliases_and_merges_that_are_no_trap_are_read(write):
    config = Config.load(write("train: &t {seed: 3, steps: 10}\n").with_name("mine.yaml"))
    assert (config.train.seed, config.train.steps) == (3, 10)
    file = write("discriminator: &d {kernel: c3, width: 4}\ngenerator: {<<: *d, kernel: c2}\n")
    assert (Config.load(file).generator.kernel, Config.load(file).generator.width) == ("c2", 4)


# --- a path and the data set that it means -----------------------------------------------------------------------------------


@pytest.fixture
def photos_folder(write_folder, small):
    return write_folder({"cat/1.png": small(1)[0]})


@pytest.mark.parametrize("named", [None, "dataset: {name: shapes}", "dataset: {name: cifar10}", "dataset: {name: lsun}"])
def test_a_path_that_holds_images_means_folder(photos_folder, named, write, capsys):
    source = write(named) if named else None
    config = Config.load(source, [f"dataset.path={photos_folder}"])
    assert config.dataset.name == "folder" and len(data.load(**{**config.dataset.arguments, "resolution": 16})) == 1
    said = capsys.readouterr().err
    assert f"dataset.path={photos_folder} is no " in said and said.count("dataset.name is folder") == 1
    assert Config.load(source, changes={"dataset.path": str(photos_folder)}).dataset.name == "folder"


def test_a_path_in_a_file_without_a_name_means_folder(photos_folder, write):
    assert Config.load(write(f"dataset: {{path: {photos_folder}}}")).dataset.name == "folder"
    assert classification.Config.load(write(f"dataset: {{path: {photos_folder}}}")).dataset.name == "folder"


def test_a_path_that_is_not_there_is_not_answered_with_generated_shapes(tmp_path):
    config = Config.load(None, [f"dataset.path={tmp_path / 'nowhere'}"])
    with pytest.raises(DataError, match=r"there is nothing at .*nowhere"):
        data.load(**config.dataset.arguments)


def test_what_fits_keeps_its_name(tmp_path, write, write_lsun, small):
    with zipfile.ZipFile(tmp_path / "cifar10-train.zip", "w") as archive:
        archive.writestr("cat/1.png", small(1)[0])
    cifar, lsun = write("dataset: {name: cifar10}"), write("dataset: {name: lsun}", "lsun.yaml")
    for path in (tmp_path / "cifar10-train.zip", tmp_path):
        assert Config.load(cifar, [f"dataset.path={path}"]).dataset.name == "cifar10"
    directory = write_lsun(values={b"a": small(1)[0]})
    for path in (directory, directory.parent):
        assert Config.load(lsun, [f"dataset.path={path}"]).dataset.name == "lsun"
        assert Config.load(cifar, [f"dataset.path={path}"]).dataset.name == ("folder")
    faces = write(f"dataset: {{name: celeba, path: {tmp_path}}}", "faces.yaml")
    assert Config.load(faces, [f"dataset.path={tmp_path}"]).dataset.name == "celeba"


@pytest.mark.parametrize("typed", [["dataset.name=shapes"], ["dataset.name=shapes", "dataset.path=x"]])
def test_a_path_for_what_lies_nowhere_is_refused(typed, write):
    with pytest.raises(DataError, match=r"shapes is read from no path, so dataset\.path=x has no effect: set dataset\.name=folder"):
        Config.load(write("dataset: {name: celeba, path: x}"), typed)


def test_a_run_that_was_begun_so_still_loads_and_says_so(write, capsys, monkeypatch):
    monkeypatch.setitem(COUNTS, "train", 30)
    config = Config.load(write("dataset: {name: shapes, path: somewhere/else}"), ["train.steps=5"])
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


# --- the files that come along -----------------------------------------------------------------------------------------------

PUBLISHED = {
    "dcgan": {  # Radford et al. 2016, section 3 and 4
        "generator.kernel": "c4",
        "generator.upsampling": "transposed",
        "generator.norm": "batch",
        "discriminator.kernel": "c4",
        "discriminator.norm": "batch",
        "objective.loss": "non_saturating",
        "train.batch_size": 128,
        "train.d_steps": 1,
        "train.beta1": 0.5,
        "train.beta2": 0.999,
    },
    "cnn": {  # Miyato et al. 2018, table 1 (C) and table 3
        "generator.kernel": "c4",
        "generator.upsampling": "transposed",
        "generator.norm": "batch",
        "discriminator.kernel": "c3",
        "discriminator.norm": "spectral",
        "objective.loss": "non_saturating",
        "train.batch_size": 64,
        "train.d_steps": 1,
        "train.beta1": 0.5,
        "train.beta2": 0.999,
        "train.lr_decay": "linear",
    },
    "sngan": {  # Miyato et al. 2018, section 4 and table 4
        "generator.kernel": "c3",
        "generator.upsampling": "nearest",
        "generator.norm": "batch",
        "discriminator.kernel": "c3",
        "discriminator.norm": "spectral",
        "objective.loss": "hinge",
        "objective.gradient_penalty": 0,
        "train.batch_size": 64,
        "train.d_steps": 5,
        "train.beta1": 0,
        "train.beta2": 0.9,
        "train.lr_decay": "linear",
    },
    "wgan_gp": {  # Gulrajani et al. 2017, algorithm 1 and appendix F
        "generator.kernel": "c3",
        "generator.upsampling": "nearest",
        "generator.norm": "batch",
        "discriminator.kernel": "c3",
        "discriminator.norm": "none",
        "objective.loss": "wasserstein",
        "objective.gradient_penalty": 10,
        "train.batch_size": 64,
        "train.d_steps": 5,
        "train.beta1": 0,
        "train.beta2": 0.9,
        "train.lr_decay": "linear",
    },
    "landscape": {  # Kurach et al. 2019, `resnet_cifar`; the width rule of Wu et al. 2019
        "generator.kernel": "c3",
        "generator.upsampling": "unpool",
        "generator.width_rule": "paper",
        "generator.norm": "batch",
        "discriminator.kernel": "c3",
        "discriminator.norm": "spectral",
        "objective.loss": "non_saturating",
        "train.batch_size": 64,
        "train.d_steps": 5,
        "train.beta1": 0.5,
        "train.beta2": 0.999,
    },
}
NULLS = {"dataset.path", "dataset.categories", "dataset.workers", "evaluate.real", "evaluate.weights"}  # "whatever there is"
NULLS |= {key for key in KEYS if key.startswith("schedule.")} | {"augment.probability", "augment.target"}  # "stays"
NULLS |= {"generator.attention", "discriminator.attention"}  # "none"
COMMON = {"dataset.name": "cifar10", "dataset.resolution": 32, "train.lr_g": 2e-4, "train.lr_d": 2e-4, "objective.r1": 0}


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_every_file_resolves_to_settings_without_gaps(file):
    config = resolve(Config.load(file))
    assert nulls(config) <= NULLS
    assert resolve(config) == config


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_settings(name):
    config = resolve(Config.load(ROOT / "configs" / "cifar10" / f"{name}.yaml"))
    wanted = {**COMMON, **PUBLISHED[name], "generator.family": name, "discriminator.family": name}
    assert {key: config.values()[key] for key in wanted} == wanted


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_bare_family_resolves_to_the_networks_of_its_file(name):
    file = resolve(Config.load(ROOT / "configs" / "cifar10" / f"{name}.yaml"))
    rest = [f"generator.{key}={getattr(file.generator, key)}" for key in ("width_rule", "latent")]
    bare = resolve(Config.load(None, [f"generator.family={name}", *rest]))
    assert (bare.generator, bare.discriminator) == (file.generator, file.discriminator)
