"""Pictures are a function of weights and seed: not of batch size, of the output's kind, or of how often they are drawn."""

import io
import re
import shutil
import time
import zipfile

import pytest
import torch
from PIL import Image
from torchvision.transforms.functional import pil_to_tensor
from torchvision.utils import make_grid

from gan import checkpoint
from gan.checkpoint import CheckpointError
from gan.config import Config
from gan.models.build import build_generator, resolve
from gan.randomness import latents
from gan.run_directory import RunDirectory, RunError
from gan.sampling import draw, interpolations, load_generator, samples, save_grid, save_images, slerp, tiled, to_uint8
from gan.training import train


@pytest.fixture(scope="module")
def run(fifty, tmp_path_factory):
    """A run of four steps, the last two of which are saved."""
    path = tmp_path_factory.mktemp("runs") / "run"
    small = ["generator.kernel=c3sp", "generator.width=4", "discriminator.width=4", "generator.latent=8", "train.batch_size=8"]
    small += ["dataset.name=folder", f"dataset.path={fifty}", "train.steps=4", "train.checkpoint_every=1", "train.device=cpu"]
    train(Config.load(None, small), path, progress=False)
    return path


@pytest.fixture(scope="module")
def generator(run):
    """Its generator with larger weights: after four steps every picture is grey, and grey pictures would be alike anyhow."""
    generator = load_generator(run).generator
    for weight in generator.parameters():
        if weight.dim() > 1:
            weight.mul_(20)
    return generator


def levels_apart(a, b):
    assert a.shape == b.shape and a.dtype == b.dtype == torch.uint8
    return (a.int() - b.int()).abs().max().item()


def random_images(n, size=8):
    return torch.randint(0, 256, (n, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def pixels(png):
    return pil_to_tensor(Image.open(png))


# --- pixels ------------------------------------------------------------------------------------------------------------------


def test_all_levels_map_back_exactly():
    levels = torch.arange(256)
    assert torch.equal(to_uint8(levels.float() / 127.5 - 1), levels.to(torch.uint8))


def test_levels_are_rounded_and_clamped():
    x = torch.tensor([-9, -1.01, -1, -1 + 0.49 / 127.5, -1 + 0.51 / 127.5, 1 - 0.49 / 127.5, 1, 1.01, 9])
    assert to_uint8(x).tolist() == [0, 0, 0, 0, 1, 255, 255, 255, 255]


# --- drawing -----------------------------------------------------------------------------------------------------------------


def test_a_generator_in_training_mode_is_refused(run):
    generator = build_generator(load_generator(run).config)
    with pytest.raises(ValueError, match="eval mode"):
        draw(generator, torch.zeros(2, 8))
    assert draw(generator.eval(), torch.zeros(2, 8)).shape == (2, 3, 32, 32)


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_images_do_not_depend_on_the_batch_size(generator, batch_size):
    z = latents(3, 0, 70, 8)
    whole = draw(generator, z, 70)
    assert whole.float().std(dim=0).mean() > 20  # the pictures differ
    assert levels_apart(draw(generator, z, batch_size), whole) <= 1
    assert levels_apart(torch.cat(list(samples(generator, 3, 70, batch_size))), whole) <= 1


def test_a_seed_has_the_same_first_images_at_any_count(generator):
    few, many = (torch.cat(list(samples(generator, 1, count))) for count in (5, 130))
    assert len(few) == 5 and len(many) == 130
    assert levels_apart(few, many[:5]) <= 1
    assert len(many.flatten(1).unique(dim=0)) == 130  # no image twice
    assert not torch.equal(few, torch.cat(list(samples(generator, 2, 5))))


def test_drawing_leaves_the_generator_and_the_global_random_state_alone(generator):
    before, numbers = {k: v.clone() for k, v in generator.state_dict().items()}, torch.get_rng_state()
    list(samples(generator, 0, 70))
    assert all(torch.equal(before[k], v) for k, v in generator.state_dict().items())
    assert torch.equal(torch.get_rng_state(), numbers)


# --- walks -------------------------------------------------------------------------------------------------------------------


def vector(seed, norm=None):
    x = latents(seed, 0, 1, 128)[0].double()
    return x if norm is None else x / x.norm() * norm


def test_a_walk_starts_and_ends_at_its_latents():
    walk = slerp(vector(0), vector(1), torch.linspace(0, 1, 5, dtype=torch.float64))
    assert walk.shape == (5, 128)
    torch.testing.assert_close(walk[0], vector(0))
    torch.testing.assert_close(walk[-1], vector(1))


def test_a_walk_between_equal_norms_keeps_the_norm_and_turns_evenly():
    a, b = vector(0, 11), vector(1, 11)
    t = torch.linspace(0, 1, 9, dtype=torch.float64)
    walk = slerp(a, b, t)
    torch.testing.assert_close(walk.norm(dim=1), torch.full((9,), 11.0, dtype=torch.float64))
    angles = torch.acos((walk @ a / 121).clamp(-1, 1))
    torch.testing.assert_close(angles, t * torch.acos(a @ b / 121), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("factor", [1, -1])
def test_walks_between_parallel_latents_are_finite(factor):
    a, t = vector(0), torch.linspace(0, 1, 5, dtype=torch.float64)
    walk = slerp(a, factor * a, t)
    assert walk.isfinite().all()
    torch.testing.assert_close(walk, torch.lerp(a, factor * a, t[:, None]))
    assert slerp(torch.tensor([1.0]), torch.tensor([-0.5]), torch.linspace(0, 1, 9)).abs().max() <= 1


def test_rows_walk_between_the_images_of_the_seed(generator):
    images = torch.cat(list(samples(generator, 4, 6)))
    rows = interpolations(generator, 4, rows=3, columns=5).unflatten(0, (3, 5))
    assert levels_apart(rows[:, 0], images[::2]) <= 1
    assert levels_apart(rows[:, -1], images[1::2]) <= 1
    assert levels_apart(rows[:, 0], rows[:, -1]) > 20


# --- files -------------------------------------------------------------------------------------------------------------------


def test_a_zip_and_a_directory_hold_the_same_images(tmp_path):
    images = random_images(5)
    batches = images.split(2)
    assert save_images(iter(batches), tmp_path / "new" / "a.zip") == 5
    assert save_images(iter(batches), tmp_path / "new" / "a") == 5
    with zipfile.ZipFile(tmp_path / "new" / "a.zip") as archive:
        zipped = {name: archive.read(name) for name in archive.namelist()}
    assert list(zipped) == [f"00000{i}.png" for i in range(5)]
    assert {p.name: p.read_bytes() for p in (tmp_path / "new" / "a").iterdir()} == zipped
    assert torch.equal(torch.stack([pixels(io.BytesIO(png)) for png in zipped.values()]), images)


def test_sampling_a_run_twice_gives_identical_files(run, tmp_path, monkeypatch):
    years = iter((2001, 2002, 2003))
    for name, seed in (("a.ZIP", 0), ("b.zip", 0), ("c.zip", 1)):
        now = time.struct_time((next(years), 1, 1, 0, 0, 0, 0, 1, 0))
        monkeypatch.setattr(time, "localtime", lambda *_, now=now: now)
        save_images(samples(load_generator(run).generator, seed, 70), tmp_path / name)
    a, b, c = ((tmp_path / name).read_bytes() for name in ("a.ZIP", "b.zip", "c.zip"))
    assert a == b and a != c


def test_old_images_never_mix_with_new_ones(tmp_path):
    (tmp_path / "old.png").touch()
    with pytest.raises(RunError, match=r"is not an empty directory; choose another"):
        save_images(iter([random_images(2)]), tmp_path)
    with pytest.raises(RunError, match=r"old\.png is not an empty directory"):
        save_images(iter([random_images(2)]), tmp_path / "old.png")
    assert [p.name for p in tmp_path.iterdir()] == ["old.png"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["disk", "interrupt"])
@pytest.mark.parametrize("before", [None, b"an older zip"])
def test_a_failing_write_leaves_no_half_zip(tmp_path, before, error):
    def breaks():
        yield random_images(2)
        raise error

    target = tmp_path / "a.zip"
    if before:
        target.write_bytes(before)
    with pytest.raises(type(error)):
        save_images(breaks(), target)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == ({"a.zip": before} if before else {})


@pytest.mark.parametrize("before", [False, True], ids=["new", "empty"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["disk", "interrupt"])
def test_a_failing_write_leaves_no_half_folder(tmp_path, before, error):
    def breaks():
        yield random_images(2)
        raise error

    if before:
        (tmp_path / "a").mkdir()
    with pytest.raises(type(error)):
        save_images(breaks(), tmp_path / "a")
    assert [p.name for p in tmp_path.rglob("*")] == ["a"] * before
    assert save_images(iter([random_images(2)]), tmp_path / "a") == 2


@pytest.mark.parametrize(
    ("count", "columns", "across", "down"), [(64, None, 8, 8), (5, None, 3, 2), (2, None, 2, 1), (10, 10, 10, 1), (7, 5, 5, 2)]
)
def test_a_grid_has_its_images_in_rows_with_two_pixels_between(tmp_path, count, columns, across, down):
    images = random_images(count)
    save_grid(images, tmp_path / "new" / "grid.png", columns, scale=1)
    grid = pixels(tmp_path / "new" / "grid.png")
    assert grid.shape == (3, down * 10 + 2, across * 10 + 2)
    for i, image in enumerate(images):
        top, left = i // across * 10 + 2, i % across * 10 + 2
        assert torch.equal(grid[:, top : top + 8, left : left + 8], image)
    assert (grid[:, :2] == 255).all() and (grid[:, :, -2:] == 255).all()


# --- loading -----------------------------------------------------------------------------------------------------------------


def test_the_ema_weights_are_loaded_frozen_in_eval_mode(run):
    trained = load_generator(run)
    state = checkpoint.load(checkpoint.saved(run / "checkpoints")[-1])
    found = trained.generator.state_dict()
    assert found.keys() == state["ema"].keys() and all(torch.equal(v, state["ema"][k]) for k, v in found.items())
    assert any(not torch.equal(v, state["generator"][k]) for k, v in found.items())
    assert not trained.generator.training and not any(p.requires_grad for p in trained.generator.parameters())
    assert trained.step == 4 and trained.config.generator.kernel == "c3sp"


def test_an_earlier_step_has_its_own_weights(run):
    early, late = load_generator(run, 3), load_generator(run, 4)
    assert (early.step, late.step) == (3, 4)
    assert not torch.equal(early.generator.project.weight, late.generator.project.weight)


@pytest.mark.parametrize("step", [0, 2, 5, -1])
def test_a_missing_step_is_answered_with_those_present(run, step):
    with pytest.raises(RunError, match=rf"no checkpoint of step {step}; it has 3, 4$"):
        load_generator(run, step)


def test_a_directory_without_a_run_or_a_checkpoint_is_refused(tmp_path):
    for missing in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(RunError, match=rf"{re.escape(str(missing))} is not a run directory"):
            load_generator(missing)
    with RunDirectory(tmp_path, resolve(Config.load(None))):
        pass
    with pytest.raises(RunError, match="has no checkpoint yet; train it first"):
        load_generator(tmp_path)


def test_damaged_settings_and_checkpoints_are_named(run, tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "config.yaml").write_text("train: {sed: 1}")
    checkpoint.path_of(tmp_path / "checkpoints", 3).write_bytes(b"garbage")
    with pytest.raises(RunError, match=r"settings of .* can't be read: unknown key 'train\.sed'"):
        load_generator(tmp_path)
    (tmp_path / "config.yaml").write_bytes((run / "config.yaml").read_bytes())
    with pytest.raises(CheckpointError, match=r"step_00000003\.pt is damaged"):
        load_generator(tmp_path)


@pytest.mark.parametrize("sick", ["trunk weight", "buffer"])
def test_a_run_that_has_diverged_is_not_drawn_from(run, tmp_path, sick):
    copy = shutil.copytree(run, tmp_path / "run")
    last = checkpoint.saved(copy / "checkpoints")[-1]
    state = checkpoint.load(last)
    names = [n for n, v in state["ema"].items() if v.is_floating_point() and ("running" in n) == (sick == "buffer")]
    state["ema"][names[0]].view(-1)[0] = float("nan")
    torch.save(state, last)
    with pytest.raises(CheckpointError, match=r"00004\.pt has diverged: its EMA weights are not finite; the last good .*00003\.pt"):
        load_generator(copy)
    assert load_generator(copy, 3).step == 3


@pytest.mark.parametrize("other", ["generator.width=8", "train.seed=5", "generator.family=cnn"])
def test_weights_of_another_run_are_refused(run, tmp_path, other):
    copy = shutil.copytree(run, tmp_path / "run")
    (copy / "config.yaml").write_text(Config.load(copy / "config.yaml", [other]).dump())
    with pytest.raises(CheckpointError, match=rf"is of another run \({other.partition('=')[0]}: .* there, .* here"):
        load_generator(copy)


@pytest.mark.parametrize(("n", "columns"), [(1, 1), (2, 8), (7, 3), (9, 3), (64, 8)])
@pytest.mark.parametrize("border", [0, 255])
def test_a_grid_is_the_one_that_torchvision_makes(n, columns, border):
    images = torch.randint(0, 256, (n, 3, 6, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(n))
    assert torch.equal(tiled(images, columns, border), make_grid(images, nrow=columns, padding=2, pad_value=border))
