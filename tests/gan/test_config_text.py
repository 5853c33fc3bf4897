"""Settings as they are typed: what is wrong is named with what would be right, and what looks odd means what it says."""

import re
import time

import pytest

from gan.config import Config
from gan.settings import ConfigError

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
def test_an_unknown_key_in_a_file_is_named_with_the_nearest_and_the_file(text, message, config_file):
    with pytest.raises(ConfigError, match=message + r".*\(in .*mine\.yaml\)"):
        Config.load(config_file(text))


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
        ("train.fused=true", "True is not one of auto, false"),
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


def test_every_wrong_value_is_named_at_once(config_file):
    with pytest.raises(ConfigError) as caught:
        Config.load(config_file("train: {steps: -1, seed: -2, sed: 1}"), ["generator.kernel=c9"])
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
def test_a_file_that_is_no_yaml_mapping_is_refused_by_name(text, message, config_file):
    with pytest.raises(ConfigError, match=rf"mine\.yaml {message}") as caught:
        Config.load(config_file(text))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("overrides", [[], ["train.seed=1"]], ids=["alone", "overridden"])
@pytest.mark.parametrize("section", ["3", "abc", "[1, 2]"])
def test_a_section_without_keys_is_named(section, overrides, config_file):
    with pytest.raises(ConfigError, match=r"\btrain\b.*mine\.yaml"):
        Config.load(config_file(f"train: {section}"), overrides)


def test_a_directory_is_no_configuration(tmp_path):
    with pytest.raises(ConfigError, match=r"can't be read \(is a directory\): choose another"):
        Config.load(tmp_path)


def test_a_missing_file_is_answered_with_a_near_name(config_file):
    near = config_file("", "sngan.yaml")
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
def test_whatever_a_file_holds_the_message_is_short(text, config_file):
    if isinstance(text, str) and text.startswith("a: {"):
        text = "a: &a {x: 1}\n" + text.partition("\n")[2]
    start = time.monotonic()
    with pytest.raises(ConfigError) as caught:
        Config.load(config_file(text))
    assert len(str(caught.value)) < 1500 and "\n" not in str(caught.value) and time.monotonic() - start < 10


@pytest.mark.parametrize("text", ["train: {1: 2}", "train: {null: 2}", "train: {true: 2}", "1: {a: b}", "train: {1.5: 2}"])
def test_keys_that_are_no_text_are_unknown_keys(text, config_file):
    with pytest.raises(ConfigError, match=r"unknown key '.*'.*\(in .*mine\.yaml\)"):
        Config.load(config_file(text))


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
def test_a_path_is_the_text_that_was_typed(text, config_file):
    config = Config.load(None, [f"dataset.path={text}"])
    assert config.dataset.path == text and Config.load(config_file(config.dump())) == config


@pytest.mark.parametrize(("text", "path"), [("null", None), ("~", None), ("", None), ("'null'", "null"), ('"a b"', "a b")])
def test_nothing_and_quoted_texts_are_as_in_yaml(text, path):
    assert Config.load(None, [f"dataset.path={text}"]).dataset.path == path


@pytest.mark.parametrize(("text", "number"), [("010", 10), ("08", 8), ("1_000", 1000), ("0x10", 16), ("+5", 5), ("'7'", 7)])
def test_numbers_are_decimal_unless_they_say_otherwise(text, number, config_file):
    assert Config.load(None, [f"train.steps={text}"]).train.steps == number
    assert Config.load(config_file(f"train: {{steps: {text}}}")).train.steps == number


@pytest.mark.parametrize(
    ("text", "message"),
    [("2020", "2020 is wrong, it should be a valid string; put quotes around it"), ("yes", "got true; put quotes around a text")],
)
def test_in_a_file_a_text_that_looks_otherwise_needs_quotes(text, message, config_file):
    with pytest.raises(ConfigError, match=rf"^dataset\.path: .*{message}"):
        Config.load(config_file(f"dataset: {{path: {text}, name: folder}}"))
    for quoted in (f"'{text}'", "2020-01-01", "010", "1:30"):
        assert Config.load(config_file(f"dataset: {{path: {quoted}, name: folder}}")).dataset.path == quoted.strip("'")


def test_aliases_and_merges_that_are_no_trap_are_read(config_file):
    config = Config.load(config_file("train: &t {seed: 3, steps: 10}\n").with_name("mine.yaml"))
    assert (config.train.seed, config.train.steps) == (3, 10)
    file = config_file("discriminator: &d {kernel: c3, width: 4}\ngenerator: {<<: *d, kernel: c2}\n")
    assert (Config.load(file).generator.kernel, Config.load(file).generator.width) == ("c2", 4)
