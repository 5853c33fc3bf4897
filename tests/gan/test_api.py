"""`gan.load` and `gan.train`, and the names that the package exports."""

import subprocess
import sys

import pytest
import torch

import gan
from gan import sampling, weights
from gan.api import run_name
from gan.run_directory import read_log
from tests.helpers import ROOT, final_state


def test_a_run_is_loaded_and_draws_what_the_command_draws(run):
    generator = gan.load(run, device="cpu")
    assert (generator.step, generator.config.generator.kernel) == (4, "c3sp")
    images = generator.sample(5, seed=3)
    assert images.shape == (5, 3, 32, 32) and images.dtype == torch.uint8
    assert torch.equal(images, torch.cat(list(sampling.samples(sampling.load_generator(run).generator, 3, 5))))
    assert gan.load(run, step=2, device="cpu").step == 2


def test_an_image_is_the_same_whatever_the_count_and_the_batch_size(run):
    generator = gan.load(run, device="cpu")
    assert torch.equal(generator.sample(70, seed=1, batch_size=9)[:5], generator.sample(5, seed=1))
    assert [len(batch) for batch in generator.batches(70, batch_size=32)] == [32, 32, 6]


def test_a_walk_begins_at_a_latent_of_the_seed(run):
    generator = gan.load(run, device="cpu")
    walk = generator.walk(rows=2, steps=5, seed=1)
    assert walk.shape == (2, 5, 3, 32, 32)
    assert (walk[0, 0].int() - generator.sample(1, seed=1)[0].int()).abs().max() <= 1
    assert not torch.equal(walk[0, 0], walk[0, -1])


def test_called_with_latents_it_gives_floats(run):
    generator = gan.load(run, device="cpu")
    images = generator(torch.zeros(2, 8))
    assert images.dtype == torch.float32 and images.abs().max() <= 1 and torch.equal(images[0], images[1])


def test_a_file_of_weights_draws_the_same(run, tmp_path):
    generator = gan.load(run, device="cpu")
    weights.write(generator.generator, generator.config, generator.step, tmp_path / "g.safetensors")
    again = gan.load(tmp_path / "g.safetensors", device="cpu")
    assert torch.equal(again.sample(3), generator.sample(3)) and (again.step, again.config) == (4, generator.config)


def test_training_calls_back_and_returns_what_the_command_would_have_trained(tiny, tmp_path, trained):
    seen, configs = [], []
    config = tiny("dcgan", "train.steps=4", "train.checkpoint_every=2", "generator.norm=null")

    def watch(progress):
        seen.append((progress.step, progress.losses, progress.generator.sample(1)))
        configs.append(progress.generator.config)

    generator = gan.train(config, tmp_path / "run", callback=watch, every=2)
    assert [step for step, _, _ in seen] == [2, 4] and generator.step == 4
    assert configs == [generator.config] * 2 and generator.config.generator.norm == "batch"  # settled, not null
    assert gan.load(tmp_path / "run", "2", "cpu").step == 2 and gan.load(tmp_path / "run", "last", "cpu").step == 4
    assert torch.equal(seen[1][2], generator.sample(1)) and not torch.equal(seen[0][2], seen[1][2])
    assert seen[0][1].keys() == {"d_loss", "g_loss", "d_real", "d_fake", "penalty"}
    for name in ("generator", "ema", "discriminator"):
        state = final_state(tmp_path / "run")[name]
        assert all(torch.equal(state[key], tensor) for key, tensor in final_state(trained)[name].items())


def test_training_leaves_the_switches_of_the_process_as_they_were(tiny, tmp_path):
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    switches = lambda: (cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32, torch.are_deterministic_algorithms_enabled())
    for before in (True, False):
        cudnn.benchmark = cudnn.allow_tf32 = matmul.allow_tf32 = before
        try:
            kept = switches()
            gan.train(tiny("dcgan", "train.steps=1"), tmp_path / str(before), every=1)
            assert switches() == kept
        finally:
            cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32 = False, True, False


def test_a_callback_that_raises_ends_the_training_which_goes_on_from_its_checkpoint(tiny, tmp_path):
    def enough(progress):
        raise StopIteration

    config = tiny("dcgan", "train.steps=4", "train.checkpoint_every=2", "train.log_every=1")
    with pytest.raises(StopIteration):
        gan.train(config, tmp_path / "run", callback=enough, every=2)
    assert final_state(tmp_path / "run")["step"] == 2
    assert gan.train(config, tmp_path / "run").step == 4
    assert [record["step"] for record in read_log(tmp_path / "run")] == [1, 2, 3, 4]


def test_the_same_settings_go_on_with_the_same_run(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = tiny("dcgan", "train.steps=1")
    gan.train(config.model_dump())
    (directory,) = (tmp_path / "runs").iterdir()
    assert directory.name == run_name(config) and directory.name.startswith("dcgan-c3sp-")
    assert gan.train(config, callback=lambda progress: pytest.fail("trained again")).step == 1
    assert run_name(config) == run_name(config.replace({"train.log_every": 7}))
    assert run_name(config) != run_name(config.replace({"train.seed": 1}))


WRONG = [
    (lambda run: gan.load(run / "nowhere"), "is not a run directory"),
    (lambda run: gan.load(run, step=3), "has no checkpoint of step 3; it has 2, 4"),
    (lambda run: gan.load(run, step="first"), "a checkpoint is that of a step, best or last, not 'first'"),
    (lambda run: gan.load("zoo:nothing-like-it"), "the zoo has no generator 'nothing-like-it'"),
    (lambda run: gan.load(run / "no.safetensors"), "there is no file"),
    (lambda run: gan.load(run / "config.safetensors"), "can't be read as safetensors"),
    (lambda run: gan.load(run / "other.safetensors"), "holds no generator of this program"),
    (lambda run: gan.load(run, device="cpu").sample(0), "at least 1 image"),
    (lambda run: gan.load(run, device="cpu").walk(steps=1), "a walk has at least 2 steps"),
    (lambda run: gan.train({"generator": {"kernl": "c2"}}, run), "did you mean generator.kernel"),
    (lambda run: gan.train({"generator": {"kernel": "c2"}}, run), "holds a run with other settings"),
    (lambda run: gan.train(None, run, every=0), "between callbacks, at least 1, not 0"),
]


@pytest.mark.parametrize("call, words", WRONG, ids=[words for _, words in WRONG])
def test_what_goes_wrong_is_one_sentence(call, words, run):
    from safetensors.torch import save_file

    (run / "config.safetensors").write_text("{}")
    save_file({"x": torch.zeros(1)}, run / "other.safetensors")
    with pytest.raises(gan.UserError, match=words) as caught:
        call(run)
    assert "\n" not in str(caught.value)


def test_every_exported_name_is_there():
    import metrics

    for package in (gan, metrics):
        assert all(getattr(package, name) is not None for name in package.__all__)
        with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
            _ = package.nothing


def test_importing_the_packages_waits_for_nothing():
    code = "import sys, gan, metrics, data; print(any(name in sys.modules for name in ('torch', 'numpy', 'pydantic')))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout == "False\n", done.stderr
