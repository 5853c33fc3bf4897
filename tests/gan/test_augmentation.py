"""gan.augmentation against loops, what it draws, what a step shows the discriminator, and the probability that adapts."""

import pytest
import torch

from gan.augmentation import AMOUNTS, CHANGES, DRAWS, AdaptiveProbability, augment, translation
from gan.config import Augment, Config
from gan.models.build import resolve
from gan.processes import Processes
from gan.run_directory import read_log
from gan.settings import ConfigError
from gan.state import Batches, State
from gan.step import Step
from gan.training import train
from tests.helpers import PulledPlug, assert_same, crash_at, final_state
from tests.reference import naive_augmentation as naive

ALL = Augment(colour=True, translation=0.125, cutout=0.5)
ALONE = Processes(0, 1, torch.device("cpu"))
SETTINGS = ["augment.colour=true", "augment.translation=0.125", "augment.cutout=0.5"]


def pictures(n=4, h=8, w=10, seed=0):
    return torch.randn(n, 3, h, w, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def draws(n=4, seed=1):
    return torch.rand(n, DRAWS, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


# --- the changes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [Augment(colour=True), Augment(translation=0.3), Augment(cutout=0.5), Augment(cutout=0.3), ALL])
@pytest.mark.parametrize("probability", [1.0, 0.5, 0.0])
def test_equals_a_pixel_at_a_time(how, probability):
    x, u = pictures(6), draws(6)
    found = augment(x, u, how, probability)
    for image, row, y in zip(x, u.tolist(), found):
        made = {name: coin < probability for name, coin in zip(CHANGES, row)}
        by = dict(zip(AMOUNTS, row[len(CHANGES) :]))
        steps = [("brightness", how.colour), ("saturation", how.colour), ("contrast", how.colour)]
        for name, asked in steps:
            if asked and made[name]:
                image = getattr(naive, name)(image, by[name])
        if how.translation and made["translation"]:
            image = naive.translation(image, by["down"], by["right"], how.translation)
        if how.cutout and made["cutout"]:
            image = naive.cutout(image, by["row"], by["column"], how.cutout)
        torch.testing.assert_close(y, image, rtol=1e-12, atol=1e-12)


def test_nothing_is_changed_without_a_change_or_a_probability():
    x = pictures()
    assert torch.equal(augment(x, draws(), Augment()), x) and torch.equal(augment(x, draws(), ALL, torch.tensor(0.0)), x)


@pytest.mark.parametrize("how", [Augment(colour=True), Augment(translation=0.3), Augment(cutout=0.5), ALL])
def test_derivatives_of_both_orders_agree_with_finite_differences(how):
    x, u = pictures(1, 4, 4).requires_grad_(), draws(1)
    assert torch.autograd.gradcheck(lambda x: augment(x, u, how), x)
    assert torch.autograd.gradgradcheck(lambda x: augment(x, u, how).sin(), x)


def test_a_translation_reaches_as_far_as_it_says_both_ways_and_no_further():
    x = pictures(2, 8, 8)
    ends = torch.tensor([0.0, 1 - 1e-12], dtype=torch.float64)  # the second rounds up to the number of places
    moved = translation(x, ends, ends, 0.25)
    assert torch.equal(moved[0, :, :6, :6], x[0, :, 2:, 2:]) and not moved[0, :, 6:].any() and not moved[0, :, :, 6:].any()
    assert torch.equal(moved[1, :, 2:, 2:], x[1, :, :6, :6]) and not moved[1, :, :2].any() and not moved[1, :, :, :2].any()


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_how_pictures_lie_in_memory_changes_no_number(memory_format):
    x = pictures().contiguous(memory_format=memory_format)
    torch.testing.assert_close(augment(x, draws(), ALL), augment(pictures(), draws(), ALL))


# --- a step ------------------------------------------------------------------------------------------------------------------


def step_of(config):
    config = resolve(config)
    state = State(config, ALONE)
    return Step(config, ALONE, state, Batches(config, ALONE))


def test_draws_are_a_function_of_seed_and_step_alike_for_every_kernel_and_unlike_for_each_side_and_update(tiny):
    base = ["train.d_steps=2", *SETTINGS]
    steps = [step_of(tiny("dcgan", *base, *more)) for more in ([], ["generator.kernel=c2"], ["train.seed=1"])]
    a, b, c = (step.inputs() for step in steps)
    own = lambda inputs: [batch.draws for batch in (*inputs.updates, inputs.generator)]
    assert_same(own(a), own(b))
    assert all(not torch.equal(x, y) for x, y in zip(own(a), own(c)))
    steps[0].state.step = 1
    seen = [x[:, side] for inputs in (a, steps[0].inputs()) for x in own(inputs) for side in range(2)]
    assert len({tuple(x.flatten().tolist()) for x in seen}) == 12
    assert all(((x >= 0) & (x < 1)).all() for x in seen)


def test_two_processes_draw_what_one_does(tiny):
    config = resolve(tiny("dcgan", *SETTINGS))
    whole = step_of(config).inputs().updates[0].draws
    parts = []
    for rank in range(2):
        step = step_of(config)
        step.processes = Processes(rank, 2, torch.device("cpu"))
        parts.append(step.draws("augment0"))
    assert torch.equal(torch.cat(parts), whole)


def test_the_discriminator_is_shown_augmented_images_of_both_sides_in_both_updates(tiny):
    step = step_of(tiny("dcgan", "discriminator.norm=none", "generator.norm=none", *SETTINGS))
    inputs, seen = step.inputs(), []
    step.state.discriminator.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach().clone()))
    fake, later = (step.state.generator(batch.z).detach() for batch in (inputs.updates[0], inputs.generator))
    step.compute(inputs)
    of_d, of_g = inputs.updates[0].draws, inputs.generator.draws
    assert len(seen) == 2
    torch.testing.assert_close(seen[0][:8], augment(inputs.updates[0].real, of_d[:, 0], step.config.augment))
    torch.testing.assert_close(seen[0][8:], augment(fake, of_d[:, 1], step.config.augment))
    torch.testing.assert_close(seen[1], augment(later, of_g[:, 1], step.config.augment))


def test_the_generator_learns_through_the_augmentation(tiny):
    """Where everything is cut out or moved away by chance the gradient is 0; elsewhere it isn't."""
    step = step_of(tiny("dcgan", "discriminator.norm=none", "generator.norm=none", "augment.cutout=0.5"))
    inputs, found = step.inputs(), []
    step.state.generator.register_forward_hook(lambda module, _, output: (output.register_hook(found.append), None)[1])
    step.update_generator(inputs.generator, inputs.strengths)
    blank = augment(torch.ones(8, 3, 32, 32), inputs.generator.draws[:, 1], step.config.augment) == 0
    (gradient,) = found
    assert blank.any() and not gradient[blank].any() and gradient[~blank].abs().mean() > 0


# --- the probability that adapts ---------------------------------------------------------------------------------------------


def test_the_probability_follows_the_heuristic():
    """Against the rule by hand: every four steps of 100 images, 0.04 up where the mean of r_t is above 0.6, down below it."""
    how = Augment(colour=True, target=0.6, interval=4, images=10_000)
    adaptive = AdaptiveProbability(how, 100, torch.device("cpu"))
    signs = (torch.rand(48, generator=torch.Generator().manual_seed(0)) + 0.25).tolist()
    wanted, seen = 0.0, []
    for step, r_t in enumerate(signs, 1):
        adaptive.observe(torch.tensor(r_t), step)
        seen.append(r_t)
        if step % 4 == 0:
            wanted = min(max(wanted + (0.04 if sum(seen) / 4 > 0.6 else -0.04), 0.0), 1.0)
            seen.clear()
        assert adaptive.probability.item() == pytest.approx(wanted, abs=1e-6)
    assert 0.1 < wanted < 0.4


def test_the_probability_stays_between_0_and_1():
    for r_t, end in ((1.0, 1.0), (-1.0, 0.0)):
        how = Augment(colour=True, target=0.6, probability=0.5, interval=1, images=300)
        adaptive = AdaptiveProbability(how, 100, torch.device("cpu"))
        for step in range(1, 5):
            adaptive.observe(torch.tensor(r_t), step)
        assert adaptive.probability.item() == end


ADAPTIVE = [*SETTINGS, "augment.target=0.1", "augment.interval=3", "augment.images=40"]


def test_crash_and_resume_equals_an_unbroken_run_bitwise(tiny, tmp_path):
    """Step 5, which is saved, lies within an interval: what was summed until then goes on."""
    more = ["train.d_steps=2", "train.gradient_accumulation=2", "objective.loss=relativistic", "train.sample_every=100"]
    config = tiny("dcgan", *ADAPTIVE, *more)
    train(config, tmp_path / "whole", progress=False)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(PulledPlug):
        crash_at(patch, 9)
        train(config, tmp_path / "broken", progress=False)
    train(config, tmp_path / "broken", progress=False)
    whole = final_state(tmp_path / "whole")
    assert_same(whole, final_state(tmp_path / "broken"))
    assert (tmp_path / "whole/metrics.jsonl").read_bytes() == (tmp_path / "broken/metrics.jsonl").read_bytes()
    probability, total = whole["adaptive"].tolist()
    assert 0 <= probability <= 1 and total == 0  # twelve steps are four intervals


@pytest.mark.rendered
def test_the_probability_and_what_it_follows_are_logged(tiny, tmp_path):
    train(tiny("sngan", *ADAPTIVE, "train.steps=4", "train.log_every=1"), tmp_path, progress=False)
    log = [record for record in read_log(tmp_path) if "d_loss" in record]
    assert all(-1 <= record["overfitting"] <= 1 for record in log)
    moved = 3 * 8 / 40 * (1 if sum(record["overfitting"] for record in log[:3]) / 3 > 0.1 else -1)
    assert [record["augmentation"] for record in log] == pytest.approx([0, 0] + [max(moved, 0)] * 2)
    assert (tmp_path / "curves.png").stat().st_size > 5000


def test_all_processes_follow_the_mean_of_all(tiny, monkeypatch):
    step = step_of(tiny("sngan", *ADAPTIVE, "augment.interval=1", "augment.images=80"))
    monkeypatch.setattr(Processes, "mean", lambda self, x: x * 0 + 0.9)
    values = step()
    assert values[-2:].tolist() == pytest.approx([0.9, 0.1])


# --- refusals ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["augment.target=0.6"], r"augment\.target changes nothing without augment\.colour, augment\.translation or augment\."),
        (["schedule.probability=0.5"], r"schedule\.probability changes nothing without augment\.colour"),
        (["augment.colour=true", "augment.target=0.6", "schedule.probability=0.5"], r"choose one of them"),
        (["augment.cutout=1"], r"augment\.cutout: 1 is wrong, it should be less than 1"),
    ],
)
def test_settings_that_contradict_are_refused(overrides, message):
    with pytest.raises(ConfigError, match=message):
        Config.load(None, overrides)


def test_a_probability_that_adapts_begins_at_0_another_is_1():
    settings = ({}, {"target": 0.6}, {"probability": 0.3}, {"target": 0.6, "probability": 0.2})
    assert [Augment(colour=True, **more).start for more in settings] == [1, 0, 0.3, 0.2]
