"""Training a classifier: exact resume after any crash, what a step computes, refusals, results, and the weights it leaves."""

import base64
import json
import shutil
import signal

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open

import gan.classification.features  # noqa: F401 (registers cifar_resnet)
from data import DataError
from gan import checkpoint
from gan.classification import training
from gan.classification.config import Config, Train
from gan.classification.result import export
from gan.classification.state import Batches, State, grey_levels
from gan.classification.training import evaluate, learning_rate, take_step, train
from gan.loop import Diverged, Interrupted
from gan.models.classifiers import build_classifier
from gan.run_directory import RunError, read_log
from gan.settings import ConfigError
from metrics.features import open_extractor
from tests.helpers import ROOT, PulledPlug, assert_same, final_state, full_disk_at, save_split

CPU = torch.device("cpu")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
CONFIGS = sorted((ROOT / "configs" / "classification").glob("*.yaml"))


@pytest.fixture
def small(pictures):
    """small(*overrides) -> a config of 13 steps of milliseconds: two epochs of 50 images, batch 8."""

    def config(*overrides):
        settings = ["dataset.name=folder", f"dataset.path={pictures}", "model.depth=8", "model.kernel=c2sp"]
        settings += [] if "model.family=densenet" in overrides else ["model.width=4"]
        settings += [
            "train.epochs=2",
            "train.batch_size=8",
            "train.log_every=4",
            "train.checkpoint_every=5",
            "train.deterministic=true",
        ]
        return Config.load(None, [*settings, f"train.device={DEVICE}", *overrides])

    return config


def crash_at(monkeypatch, step):
    """Make the loop die between a step and the next."""
    real = training.take_step

    def step_or_die(config, state, network, batches):
        if state.step == step:
            raise PulledPlug
        return real(config, state, network, batches)

    monkeypatch.setattr(training, "take_step", step_or_die)


# --- exact repetition --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "overrides",
    [
        ["train.schedule=cosine", "augment.cutout=8", "train.test_every=2"],
        ["train.precision=bf16", "augment.mixup=1", "train.label_smoothing=0.1", "train.schedule=linear", "train.warmup=0.3"],
        ["model.family=densenet", "model.depth=10", "model.growth=4", "model.kernel=c4sp"],
        ["model.block=shift", "train.channels_last=false"],
    ],
    ids=["resnet", "bf16-mixup", "densenet", "shift"],
)
def test_crash_and_resume_equals_an_unbroken_run_bitwise(small, tmp_path, overrides):
    resumes_bitwise(small(*overrides), tmp_path)


def test_crash_and_resume_equals_an_unbroken_run_bitwise_in_two_threads(small, tmp_path, two_threads):
    resumes_bitwise(small(), tmp_path)


def resumes_bitwise(config, tmp_path):
    whole = train(config, tmp_path / "whole", progress=False)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(PulledPlug):
        crash_at(patch, 9)
        train(config, tmp_path / "broken", progress=False)
    assert checkpoint.step_of(checkpoint.saved(tmp_path / "broken/checkpoints")[-1]) == 5
    broken = train(config, tmp_path / "broken", progress=False)

    assert whole.step == broken.step == 13 and whole.result == broken.result
    assert_same(final_state(tmp_path / "whole"), final_state(tmp_path / "broken"))
    for file in ("metrics.jsonl", "config.yaml", "result.json", "samples/batch.png"):
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "broken" / file).read_bytes(), file
    before = (tmp_path / "whole/result.json").read_bytes()
    train(config, tmp_path / "whole", progress=False)  # a finished run again: nothing changes
    assert (tmp_path / "whole/result.json").read_bytes() == before


def test_testing_changes_nothing_that_trains(small, tmp_path):
    for every in (1, 2):
        train(small(f"train.test_every={every}"), tmp_path / str(every), progress=False)
    assert_same(final_state(tmp_path / "1"), final_state(tmp_path / "2"))
    assert [r["epoch"] for r in read_log(tmp_path / "1") if "test_loss" in r] == [1, 2]


def test_interruption_is_told_as_train_tells_it(small, tmp_path, monkeypatch):
    real = training.take_step

    def then_stop(config, state, network, batches):
        values = real(config, state, network, batches)
        if state.step == 7:
            signal.raise_signal(signal.SIGINT)
        return values

    monkeypatch.setattr(training, "take_step", then_stop)
    with pytest.raises(Interrupted, match=r"interrupted at step 7, saved in .*the same command goes on") as stopped:
        train(small(), tmp_path, progress=False)
    assert stopped.value.signum == signal.SIGINT and final_state(tmp_path)["step"] == 7


# --- what a step computes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mixup", [0, 1])
def test_steps_are_what_the_papers_say(small, mixup):
    """Against loss, Nesterov momentum and weight decay written out by hand."""
    config = small("train.lr=0.05", "train.weight_decay=0.01", "train.label_smoothing=0.2", f"augment.mixup={mixup}")
    t, batches = config.train, Batches(small(f"augment.mixup={mixup}"), CPU)
    state, plain = State(config, CPU, 10), State(config, CPU, 10)
    velocity = {}
    for step in range(3):
        take_step(config, state, state.model, batches)
        x, a, b, weight = batches.get(step)
        log_p = plain.model(x).log_softmax(1)
        target = weight * F.one_hot(a, 10) + (1 - weight) * F.one_hot(b, 10)
        loss = -((0.8 * target + 0.02) * log_p).sum(1).mean()
        parameters = list(plain.model.named_parameters())
        for (name, p), gradient in zip(parameters, torch.autograd.grad(loss, [p for _, p in parameters])):
            kernel = name.endswith("weight") and p.dim() > 1
            gradient = gradient + (t.weight_decay * p.detach() if kernel else 0)
            velocity[name] = t.momentum * velocity.get(name, 0) + gradient
            with torch.no_grad():
                p -= t.lr * (gradient + t.momentum * velocity[name])
    for ours, wanted in zip(state.model.parameters(), plain.model.parameters()):
        torch.testing.assert_close(ours, wanted, rtol=1e-4, atol=1e-5)


def test_rates_follow_their_schedules():
    rate = lambda step, **options: learning_rate(Train(lr=0.4, **options), step, 100)
    assert [rate(s, schedule="step") for s in (0, 49, 50, 74, 75, 99)] == pytest.approx([0.4, 0.4, 0.04, 0.04, 0.004, 0.004])
    assert [rate(s, schedule="cosine") for s in (0, 50)] == pytest.approx([0.4, 0.2]) and 0 < rate(99, schedule="cosine") < 2e-4
    waves = [rate(s, schedule="cosine", warmup=0.2) for s in range(100)]  # up to the whole of lr, and half of it midway down
    assert waves[:2] + waves[19:21] == pytest.approx([0.02, 0.04, 0.4, 0.4]) and waves[60] == pytest.approx(0.2)
    assert waves[20:] == sorted(waves[20:], reverse=True) and waves[99] < 2e-3
    cycle = [rate(s, schedule="linear", warmup=0.2) for s in range(100)]
    assert cycle[:3] == pytest.approx([0.02, 0.04, 0.06]) and cycle[19:21] == pytest.approx([0.4, 0.4])
    assert cycle[60] == pytest.approx(0.2) and cycle[99] == pytest.approx(0.005)


def test_other_kernels_see_the_same_images_and_other_seeds_do_not(small):
    a, b, c = (Batches(small(*o), CPU) for o in ([], ["model.kernel=c3"], ["train.seed=1"]))
    assert torch.equal(a.get(3)[0], b.get(3)[0]) and torch.equal(a.get(3)[1], b.get(3)[1])
    assert not torch.equal(a.get(3)[0], c.get(3)[0]) and not torch.equal(a.get(3)[0], a.get(4)[0])


def test_an_epoch_shows_every_image_once_normalised_with_its_label(small):
    batches = Batches(small("train.batch_size=10", "augment.crop=0", "dataset.flip=false"), CPU)
    x, labels = (torch.cat(parts) for parts in zip(*(batches.get(step)[:2] for step in range(5))))
    order = batches.order.indices(0, 50)
    assert sorted(order.tolist()) == list(range(50)) and torch.equal(labels, batches.train.labels[order])
    assert torch.equal(batches.as_uint8(x), batches.train.images[order])
    torch.testing.assert_close(x.mean((0, 2, 3)), torch.zeros(3), rtol=0, atol=1e-4)
    torch.testing.assert_close(x.std((0, 2, 3)), torch.ones(3), rtol=0, atol=1e-3)
    assert x.is_contiguous(memory_format=torch.channels_last)
    levels = batches.train.images.double()
    assert grey_levels(batches.train.images)[0] == pytest.approx(levels.mean((0, 2, 3)).tolist())


def test_loss_accuracy_and_confusion_agree_with_a_plain_count(small, monkeypatch):
    config = small()
    batches, state = Batches(config, CPU), State(config, CPU, 10)
    monkeypatch.setattr(training, "TEST_BATCH", 7)  # does not divide 30
    found = evaluate(config, state.model, batches)
    x, y = next(batches.test_batches(30))
    logits = state.model.eval()(x)
    assert found.loss == pytest.approx(F.cross_entropy(logits, y).item(), rel=1e-5)
    assert found.accuracy == pytest.approx((logits.argmax(1) == y).double().mean().item())
    wanted = torch.zeros(10, 10, dtype=torch.int64)
    for truth, guess in zip(y, logits.argmax(1)):
        wanted[truth, guess] += 1
    assert torch.equal(found.confusion, wanted)
    assert torch.equal(found.wrong, logits.argmax(1) != y) and 0 < found.wrong.sum() < 30


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_it_learns(small, tmp_path, precision):
    """Fifty pictures by heart."""
    settings = ["augment.crop=0", "dataset.flip=false", "model.width=8", "train.epochs=20", "train.test_every=20", "train.lr=0.1"]
    train(small(*settings, "train.schedule=linear", "train.log_every=25", f"train.precision={precision}"), tmp_path, progress=False)
    assert read_log(tmp_path)[-2]["accuracy"] > 0.4  # chance: 0.1


def test_compile_matches_eager(small, tmp_path, monkeypatch):
    """Traced into one graph forwards and backwards; C++ code of it, which takes a minute to make, is tried in test_compile.py."""
    real, called = torch.compile, []
    traced = lambda network: real(network, backend="aot_eager", fullgraph=True)
    monkeypatch.setattr(torch, "compile", lambda network: called.append(traced(network)) or called[-1])
    torch._dynamo.utils.counters.clear()
    for compile_ in (False, True):
        config = small(f"train.compile={compile_}", "train.epochs=1", "train.lr=0.01", "train.checkpoint_every=4")
        train(config, tmp_path / str(compile_), progress=False)
    assert len(called) == 1 and torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    eager, compiled = (read_log(tmp_path / str(c))[0] for c in (False, True))
    assert compiled == pytest.approx(eager, rel=1e-3, abs=1e-4)
    assert (
        final_state(tmp_path / "True")["model"].keys() == final_state(tmp_path / "False")["model"].keys()
    )  # one goes on as the other


# --- refusals, and nothing lost ----------------------------------------------------------------------------------------------


def test_other_settings_other_images_and_torchrun_are_refused(small, pictures, tmp_path, monkeypatch):
    train(small(), tmp_path / "run", progress=False)
    with pytest.raises(RunError, match=r"other settings \(model.kernel: c2sp -> c3; train.seed: 0 -> 1\)"):
        train(small("model.kernel=c3", "train.seed=1"), tmp_path / "run", progress=False)
    save_split(tmp_path / "other", 50, "train", seed=9)
    save_split(tmp_path / "other", 30, "test", seed=9)
    with pytest.raises(RunError, match="trained on other images"):
        train(small(f"dataset.path={tmp_path / 'other'}"), tmp_path / "run", progress=False)
    shutil.copytree(pictures / "train", tmp_path / "half/train")
    shutil.copytree(tmp_path / "other/test", tmp_path / "half/test")
    before = (tmp_path / "run/result.json").read_bytes()
    with pytest.raises(RunError, match="tested on other images"):
        train(small(f"dataset.path={tmp_path / 'half'}"), tmp_path / "run", progress=False)
    assert (tmp_path / "run/result.json").read_bytes() == before
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="not with torchrun"):
        train(small(), tmp_path / "run", progress=False)


def test_data_without_classes_or_with_other_classes_is_refused(small, pictures, tmp_path):
    shutil.copytree(pictures, tmp_path / "fewer")
    shutil.rmtree(tmp_path / "fewer/test/disk")
    with pytest.raises(DataError, match="has other classes"):
        train(small(f"dataset.path={tmp_path / 'fewer'}"), tmp_path / "run", progress=False)
    for split in ("train", "test"):
        (tmp_path / "flat" / split).mkdir(parents=True)
        shutil.copy(next(pictures.glob("train/ring/*.png")), tmp_path / "flat" / split)
    with pytest.raises(DataError, match="no classes to tell apart"):
        train(small(f"dataset.path={tmp_path / 'flat'}"), tmp_path / "run", progress=False)


def test_a_set_that_would_be_streamed_is_refused(small, tmp_path):
    with pytest.raises(DataError, match=r"larger than dataset.memory=0 GiB, and classify keeps its images in memory: raise"):
        train(small("dataset.memory=0"), tmp_path, progress=False)


def test_a_run_of_train_is_not_overwritten(small, tmp_path):
    (tmp_path / "config.yaml").write_text("generator: {family: dcgan}\n")
    with pytest.raises(RunError, match="is a run of `train`; choose another directory"):
        train(small(), tmp_path, progress=False)


def test_a_diverging_run_keeps_the_last_good_checkpoint(small, tmp_path, monkeypatch):
    with pytest.raises(Diverged, match=r"diverged: .*step_00000005.pt; try a lower learning rate"):
        real = training.take_step

        def poison(config, state, network, batches):
            if state.step == 6:
                state.model.head.weight.data[0] = float("nan")
            return real(config, state, network, batches)

        monkeypatch.setattr(training, "take_step", poison)
        train(small(), tmp_path, progress=False)
    assert final_state(tmp_path)["step"] == 5
    assert all(torch.isfinite(p).all() for p in final_state(tmp_path)["model"].values())


def test_a_full_disk_loses_nothing(small, tmp_path, monkeypatch):
    full_disk_at(monkeypatch, 8)
    with pytest.raises(RunError, match=r"the disk is full.*metrics.jsonl.*repeat the command"):
        train(small(), tmp_path, progress=False)
    monkeypatch.undo()
    train(small(), tmp_path, progress=False)
    assert [r["step"] for r in read_log(tmp_path) if "loss" in r] == [4, 8, 12, 13]


def test_the_table_counts_the_classes_of_the_data(small, pictures, tmp_path, capsys):
    shutil.copytree(pictures, tmp_path / "fewer")
    for split in ("train", "test"):
        for extra in sorted((tmp_path / "fewer" / split).iterdir())[3:]:
            shutil.rmtree(extra)
    config = small(f"dataset.path={tmp_path / 'fewer'}")
    train(config, tmp_path / "run", progress=True)
    parameters = json.loads((tmp_path / "run/result.json").read_text())["card"]["parameters"]
    assert f" {parameters:,} " in capsys.readouterr().err


def test_going_on_on_another_device_is_told(small, tmp_path, capsys):
    train(small("train.epochs=1"), tmp_path / "run", progress=False)
    file = checkpoint.saved(tmp_path / "run/checkpoints")[-1]
    torch.save({**checkpoint.load(file), "device": "mps"}, file)
    train(small("train.epochs=1"), tmp_path / "run", progress=False)
    assert "was trained on mps so far" in capsys.readouterr().err


def test_a_full_memory_is_told_in_one_sentence(small, tmp_path, monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate")

    monkeypatch.setattr(training, "take_step", full)
    with pytest.raises(RunError, match=r"^(cpu|cuda) is out of memory; lower train.batch_size or .*precision=bf16, .*"):
        train(small(), tmp_path, progress=False)


# --- settings ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_configs_load_and_come_back(path, tmp_path):
    config = Config.load(path)
    (tmp_path / "again.yaml").write_text(config.dump())
    assert Config.load(tmp_path / "again.yaml") == config
    assert config.dataset.name == "cifar10" and config.train.epochs in (15, 300)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.kernal=c3", "unknown key 'model.kernal'; did you mean model.kernel?"),
        ("model.kernel=c2ps", "model.kernel: 'c2ps' is not one of .*did you mean c2sp"),
        ("model.depth=21", "a resnet has depth 6n . 2: 20 or 26, not 21"),
        ("model.growth=24", "a resnet of basic blocks has no use for model.growth; leave it out"),
        ("model.expansion=2", "a resnet of basic blocks has no use for model.expansion; leave it out"),
        ("train.epochs=0", "train.epochs: 0 is wrong, it should be greater than 0"),
        ("train.lr=true", "train.lr: must not be true or false"),
        ("train.device=gpu", "must be auto, cpu, cuda or cuda:N, got 'gpu'"),
        ("train.lr", "is not of the form key=value"),
        ("augment.crop=[", "is not a value that YAML can read"),
    ],
)
def test_a_wrong_setting_is_named(override, message):
    with pytest.raises(ConfigError, match=message):
        Config.load(None, [override])


def test_a_densenet_takes_no_settings_of_a_resnet():
    wrong = ["model.family=densenet", "model.depth=22", "model.width=64", "model.block=shift"]
    with pytest.raises(ConfigError, match=r"a densenet has no use for model\.width and model\.block; leave them out"):
        Config.load(None, wrong)
    stored = {"model": {"family": "densenet", "depth": 22, "width": 64}}  # of a file, or of a study whose rows share it
    assert Config.load(stored, changes={"model.block": "shift"}).model == Config.load(None, wrong[:2]).model


def test_sections_that_are_empty_or_no_sections(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("train:\nmodel: {depth: 56}\n")
    assert Config.load(file, ["train.seed=3"]) == Config().replace({"model.depth": 56, "train.seed": 3})
    file.write_text("train: 5\n")
    with pytest.raises(ConfigError, match=r"train: 5 is wrong.*a\.yaml"):
        Config.load(file)


# --- what a run leaves -------------------------------------------------------------------------------------------------------


@pytest.mark.rendered
def test_a_run_leaves_its_result_pictures_and_weights(small, tmp_path):
    config = small("train.test_every=1")
    outcome = train(config, tmp_path / "run", progress=False)
    result = json.loads((tmp_path / "run/result.json").read_text())
    wrong = np.unpackbits(np.frombuffer(base64.b64decode(result["wrong"]), np.uint8), count=30)
    assert wrong.mean() == pytest.approx(1 - result["test_accuracy"])
    assert result == outcome.result
    card = result["card"]
    assert (card["train_count"], card["test_count"], card["steps"], card["seed"]) == (50, 30, 13, 0)
    assert card["model"] == config.model.model_dump() and card["parameters"] == sum(
        p.numel() for p in State(config, CPU, 10).model.parameters()
    )
    assert {"torch", "python"} <= set(card["versions"]) and len(card["weights_sha256"]) == 64
    tested = [r for r in read_log(tmp_path / "run") if "test_accuracy" in r]
    assert tested[-1]["test_accuracy"] == result["test_accuracy"] and [r["epoch"] for r in tested] == [1, 2]
    assert read_log(tmp_path / "run", "timing") and list((tmp_path / "run").glob("events.out.tfevents*"))
    assert all((tmp_path / "run" / name).stat().st_size > 5000 for name in ("curves.png", "confusion.png", "samples/batch.png"))

    for file in ("a.safetensors", "b.safetensors"):
        export(tmp_path / "run", tmp_path / "new" / file)
    file = tmp_path / "new/a.safetensors"
    assert file.read_bytes() == (tmp_path / "new/b.safetensors").read_bytes()
    weights, found = exported(file)
    assert found == result
    assert_same(weights, dict(final_state(tmp_path / "run")["model"]))


def exported(file):
    """The weights and the result of an exported file."""
    with safe_open(file, framework="pt") as saved:
        return {name: saved.get_tensor(name) for name in saved.keys()}, json.loads(saved.metadata()["result"])  # noqa: SIM118


def test_a_result_is_written_before_the_pictures(small, tmp_path, monkeypatch):
    def fails(*_):
        raise ValueError("no such font")

    monkeypatch.setattr(training, "plot_confusion", fails)
    with pytest.raises(ValueError, match="no such font"):
        train(small(), tmp_path, progress=False)
    assert json.loads((tmp_path / "result.json").read_text())["card"]["steps"] == 13


@pytest.mark.rendered
def test_names_of_classes_are_no_formulas(small, tmp_path):
    for split in ("train", "test"):
        save_split(tmp_path / "data", 12, split)
        for old, new in zip(sorted((tmp_path / "data" / split).iterdir()), ("US$1_a^{$", "=1+1", "[red]", "_x")):
            old.rename(old.with_name(new))
    outcome = train(small(f"dataset.path={tmp_path / 'data'}"), tmp_path / "run", progress=False)
    assert {"US$1_a^{$", "=1+1", "[red]"} <= set(outcome.result["card"]["classes"])
    assert (tmp_path / "run/confusion.png").stat().st_size > 1000


def test_a_damaged_result_and_foreign_weights_are_refused(small, tmp_path):
    outcome = train(small(), tmp_path / "run", progress=False)
    file = tmp_path / "run/result.json"
    text = file.read_text()
    file.write_text(text.replace('"steps": 13', '"steps": 12'))
    with pytest.raises(RunError, match=r"result\.json is damaged; delete it, and the same `classify` writes it again"):
        export(tmp_path / "run", tmp_path / "w.safetensors")
    file.unlink()
    with pytest.raises(RunError, match=r"there is no .*result\.json"):
        export(tmp_path / "run", tmp_path / "w.safetensors")
    assert train(small(), tmp_path / "run", progress=False).result == outcome.result
    newest = checkpoint.saved(tmp_path / "run/checkpoints")[-1]
    state = checkpoint.load(newest)
    for change, message in (
        ({"settings": {"train.seed": 3}}, r"is of another run \(train\.seed: 3 there, 0 here\)"),
        ({"model": {**state["model"], "head.bias": torch.ones(3)}}, "is of other networks"),
        ({"optimizer": {**state["optimizer"], "state": {0: {}}}}, "averages don't fit the weights"),
    ):
        torch.save({**state, **change}, newest)
        with pytest.raises(checkpoint.CheckpointError, match=message):
            train(small(), tmp_path / "run", progress=False)


def test_exported_weights_give_the_outputs_of_the_run(small, tmp_path):
    train(small("train.precision=bf16"), tmp_path / "run", progress=False)
    export(tmp_path / "run", tmp_path / "w.safetensors")
    weights, result = exported(tmp_path / "w.safetensors")
    card = result["card"]
    trained, loaded = State(small(), CPU, 10).model.eval(), build_classifier(**card["model"], classes=len(card["classes"])).eval()
    trained.load_state_dict(final_state(tmp_path / "run")["model"])
    loaded.load_state_dict(weights)
    x = torch.randn(4, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(loaded(x), trained(x))
    extractor = open_extractor("cifar_resnet", tmp_path / "w.safetensors", insist=True)  # of other data than CIFAR-10
    assert extractor.sha256 == card["weights_sha256"]


# --- the command -------------------------------------------------------------------------------------------------------------


def test_the_command_trains_tests_and_exports(small, tmp_path, call):
    (tmp_path / "mine.yaml").write_text(small().dump())
    arguments = (
        "classify",
        tmp_path / "mine.yaml",
        "train.seed=3",
        "--out",
        tmp_path / "run",
        "--export",
        tmp_path / "w.safetensors",
    )
    status, _, said = call(*arguments)
    assert status == 0 and "multiply-adds per image" in said and "accuracy on 30 test images after 13 steps" in said
    assert exported(tmp_path / "w.safetensors")[1]["card"]["seed"] == 3
    status, _, said = call("classify", tmp_path / "mine.yaml", "--out", tmp_path / "other", "--export", tmp_path / "w.pt")
    assert status == 2 and "w.safetensors" in said and not (tmp_path / "other").exists()
    below = tmp_path / "w.safetensors" / "x.safetensors"  # a file is no directory
    status, _, said = call("classify", tmp_path / "mine.yaml", "--out", tmp_path / "other", "--export", below)
    assert status == 1 and "can't be written" in said and not (tmp_path / "other").exists()
    status, _, said = call("classify", tmp_path / "mine.yaml", "model.depth=9", "--out", tmp_path / "run")
    assert status == 1 and "depth 6n + 2: 8 or 14, not 9" in said and "Traceback" not in said
