"""A training step: what each update sees and computes, by the papers and by a loop that anybody can check."""

import math

import pytest
import torch

from gan import checkpoint
from gan.models.build import build, resolve, resolve_to_train
from gan.objectives import LOSSES
from gan.processes import Processes
from gan.randomness import step_noise, step_uniform
from gan.run_directory import read_log
from gan.settings import ConfigError
from gan.state import LOGGED, Batches, State
from gan.step import Step
from gan.training import train
from tests.helpers import assert_same, final_state

FAMILIES = ["dcgan", "cnn", "sngan", "wgan_gp", "landscape"]  # r3: test_schedules.py
FINITE = ["objective.penalty_form=finite_difference", "objective.penalty_sigma=0.1"]


def step_of(config):
    config, alone = resolve(config), Processes(0, 1, torch.device("cpu"))
    return Step(config, alone, State(config, alone), Batches(config, alone))


def test_seed_kernel_and_step_decide_what_is_seen(tiny):
    """Runs with different kernels see the same images in the same order, mirrored alike; another seed sees others."""
    alone = Processes(0, 1, torch.device("cpu"))
    a, b, c = (Batches(resolve(tiny("dcgan", *o)), alone) for o in ([], ["generator.kernel=c2"], ["train.seed=1"]))
    assert torch.equal(a.get(3, 0), b.get(3, 0))
    assert torch.equal(a.get(3, 0), a.get(3, 0))
    assert not torch.equal(a.get(3, 0), a.get(4, 0)) and not torch.equal(a.get(3, 0), c.get(3, 0))


def test_a_paired_loss_shows_the_generator_s_update_images_of_its_own(tiny):
    """The discriminator's come first in each step, and every image is shown once before any is shown again."""
    config = resolve(tiny("dcgan", "objective.loss=relativistic", "train.batch_size=5", "train.d_steps=4", "dataset.flip=false"))
    alone = Processes(0, 1, torch.device("cpu"))
    batches = Batches(config, alone)
    step = Step(config, alone, State(config, alone), batches)
    seen = []
    for _ in range(2):
        inputs = step.inputs()
        seen += [batch.real for batch in (*inputs.updates, inputs.generator)]
        step.state.step += 1
    wanted = batches.images.float() / 127.5 - 1
    assert torch.equal(torch.cat(seen).flatten(1).sum(1).sort()[0], wanted.flatten(1).sum(1).sort()[0])


def test_an_epoch_shows_every_image_once(tiny):
    config = resolve(tiny("dcgan", "train.batch_size=10", "train.d_steps=5", "dataset.flip=false"))
    batches = Batches(config, Processes(0, 1, torch.device("cpu")))
    seen = torch.cat([batches.get(0, update) for update in range(5)])
    wanted = batches.images.float() / 127.5 - 1
    assert torch.equal(seen.flatten(1).sum(1).sort()[0], wanted.flatten(1).sum(1).sort()[0])


@pytest.mark.parametrize("family", FAMILIES[:-1])  # landscape's N(0, 0.02) weights hardly move at width 4
def test_every_discriminator_learns_against_a_slow_generator(tiny, tmp_path, family):
    """It tells real from fake after a few steps: losses are wired the right way round."""
    config = tiny(
        family, "train.steps=30", "train.d_steps=3", "train.lr_d=0.005", "train.lr_g=1e-6", "train.lr_decay=none", "objective.r1=0"
    )  # fmt: skip
    train(config, tmp_path, progress=False)
    last = read_log(tmp_path)[-1]
    assert last["d_real"] > last["d_fake"] + 0.02


@pytest.mark.parametrize(
    "overrides",
    [
        ["objective.loss=wasserstein", "objective.gradient_penalty=10", "train.d_steps=2"],
        ["objective.loss=non_saturating", "objective.r1=3"],
        ["objective.loss=hinge", "discriminator.norm=batch", "train.d_steps=3"],
        ["objective.loss=least_squares", "objective.gradient_penalty=2", "objective.r1=1"],
        ["objective.loss=relativistic", "objective.r1=0.5", "objective.r2=2", "train.d_steps=2"],
        ["objective.loss=relativistic", "objective.r1=0.5", "objective.r2=2", "objective.penalty_every=2"],
        [*FINITE, "objective.r1=2", "objective.r2=1", "objective.penalty_every=2", "train.d_steps=2"],
        ["objective.r1=2", "objective.r2=1", "schedule.r1=0.2", "schedule.lr_g=0.0002", "schedule.beta2=0.9", "schedule.steps=2"],
    ],
)
def test_a_step_is_what_the_papers_say(tiny, overrides):
    """Against a step written out: one gradient per network and update, taken by hand, and plain Adam."""
    config = resolve(tiny("wgan_gp", "train.lr_g=0.001", "train.lr_d=0.003", "objective.gradient_penalty=0", *overrides))
    t, o = config.train, config.objective
    alone = Processes(0, 1, torch.device("cpu"))
    batches = Batches(config, alone)
    state = State(config, alone)
    step = Step(config, alone, state, batches)
    G, D = build(config)
    start = [p.detach().clone() for net in (G, D) for p in net.parameters()]
    adam_g, adam_d = (torch.optim.Adam(net.parameters(), lr, (t.beta1, t.beta2)) for net, lr in ((G, t.lr_g), (D, t.lr_d)))

    def descend(net, optimizer, loss):
        for p, gradient in zip(net.parameters(), torch.autograd.grad(loss, list(net.parameters()), allow_unused=True)):
            p.grad = torch.zeros_like(p) if gradient is None else gradient
        optimizer.step()

    def scheduled(name, start, index):
        end, steps = getattr(config.schedule, name), config.schedule.steps
        return start if end is None else end + (start - end) * (1 + math.cos(math.pi * min(index / steps, 1))) / 2

    paired = o.loss == "relativistic"
    for index in range(3):
        for adam, name in ((adam_g, "lr_g"), (adam_d, "lr_d")):
            adam.param_groups[0]["lr"] = scheduled(name, getattr(t, name), index)
            adam.param_groups[0]["betas"] = (t.beta1, scheduled("beta2", t.beta2, index))
        for update in range(t.d_steps):
            real = batches.get(index, update)
            fake = G(step_noise((8, 8), 0, 1, "cpu", t.seed, f"z{update}", index)).detach()
            loss = LOSSES[o.loss].discriminator(D(real), D(fake))
            due = o.penalty_every * ((index * t.d_steps + update) % o.penalty_every == 0)
            directions = step_noise((8, 2, 3, 32, 32), 0, 1, "cpu", t.seed, f"directions{update}", index)
            if o.gradient_penalty:
                e = step_uniform(8, 0, 1, "cpu", t.seed, f"epsilon{update}", index).view(-1, 1, 1, 1)
                x = (e * real + (1 - e) * fake).requires_grad_()
                slope = torch.autograd.grad(D(x).sum(), x, create_graph=True)[0].square().sum((1, 2, 3)).sqrt()
                loss = loss + o.gradient_penalty * ((slope - 1) ** 2).mean()
            for side, (name, x) in enumerate((("r1", real), ("r2", fake))):
                gamma = scheduled(name, getattr(o, name), index) * due
                if gamma and o.penalty_form == "exact":
                    x = x.clone().requires_grad_()
                    slope = torch.autograd.grad(D(x).sum(), x, create_graph=True)[0]
                    loss = loss + gamma / 2 * slope.square().sum((1, 2, 3)).mean()
                elif gamma:
                    rise = D(x + 0.1 * directions[:, side]) - D(x)
                    loss = loss + gamma / 2 * (rise / 0.1).square().mean()
            descend(D, adam_d, loss)
        fooled = D(G(step_noise((8, 8), 0, 1, "cpu", t.seed, "z", index)))
        against = [D(batches.get(index, t.d_steps)).detach()] if paired else []
        descend(G, adam_g, LOSSES[o.loss].generator(fooled, *against))
        step()
    weights = [[p.detach() for net in nets for p in net.parameters()] for nets in ((G, D), (state.generator, state.discriminator))]
    wrong = sum((a - b).abs().sum() for a, b in zip(*weights))
    moved = sum((a - b).abs().sum() for a, b in zip(weights[0], start))
    assert wrong < 0.01 * moved


@pytest.mark.parametrize("loss", ["non_saturating", "hinge", "wasserstein", "least_squares"])
def test_generator_raises_its_logits_against_a_slow_discriminator(tiny, tmp_path, loss):
    config = tiny(
        "dcgan", f"objective.loss={loss}", "train.steps=40", "discriminator.norm=none", "train.lr_d=1e-6", "train.lr_g=0.005"
    )
    train(config, tmp_path, progress=False)
    log = read_log(tmp_path)
    assert log[-1]["d_fake"] > log[0]["d_fake"]


def test_two_time_scales(tiny, tmp_path):
    train(tiny("sngan", "train.lr_g=0.001", "train.lr_d=0.004"), tmp_path, progress=False)
    rates = [final_state(tmp_path)[f"optimizer_{net}"]["param_groups"][0]["lr"] for net in "gd"]
    assert rates == pytest.approx([0.001 / 12, 0.004 / 12])


def test_a_rate_saved_as_a_tensor_goes_on_as_a_number_on_the_cpu(tiny, tmp_path):
    """The rate of a step follows from the settings, whatever a checkpoint holds and wherever it was written."""
    config = tiny("sngan", "train.device=cpu")
    for run in ("plain", "tensor"):
        train(config, tmp_path / run, progress=False)
        checkpoint.saved(tmp_path / run / "checkpoints")[-1].unlink()  # back to step 10
    file = checkpoint.saved(tmp_path / "tensor/checkpoints")[-1]
    saved = checkpoint.load(file)
    for net in "gd":
        for group in saved[f"optimizer_{net}"]["param_groups"]:
            group["lr"] = torch.tensor(group["lr"])
    torch.save(saved, file)
    for run in ("plain", "tensor"):
        train(config, tmp_path / run, progress=False)
    assert_same(final_state(tmp_path / "plain"), final_state(tmp_path / "tensor"))


def test_ema_follows_weights_and_statistics(tiny):
    state = State(resolve(tiny("dcgan", "train.ema_decay=0.9")), Processes(0, 1, torch.device("cpu")))
    with torch.no_grad():
        for tensor in (*state.generator.parameters(), *state.generator.buffers()):
            tensor.fill_(2)
        for tensor in (*state.ema.parameters(), *state.ema.buffers()):
            tensor.fill_(1)
    state.step = 10_000
    state.update_ema()
    floats = [t for t in (*state.ema.parameters(), *state.ema.buffers()) if t.is_floating_point()]
    assert all(torch.allclose(t, torch.tensor(1.1)) for t in floats)
    assert any("running_mean" in name for name, _ in state.ema.named_buffers())


def test_differences_are_taken_in_fp32_where_training_is_in_bf16(tiny):
    """In bf16 their rounding, divided by sigma, would be many times the penalty."""
    found = {}
    for precision in ("fp32", "bf16"):
        more = [
            f"train.precision={precision}",
            "objective.gradient_penalty=0",
            "objective.r1=1",
            "objective.penalty_form=finite_difference",
        ]
        found[precision] = step_of(tiny("wgan_gp", *more))()[4].item()
    assert found["bf16"] == pytest.approx(found["fp32"], rel=0.01)


def test_differences_in_tf32_are_refused(tiny):
    with pytest.raises(ConfigError, match=r"tf32 rounds away what .*; set fp32, or bf16"):
        tiny("dcgan", "train.precision=tf32", "objective.r1=1", "objective.penalty_form=finite_difference")


def test_a_lazy_penalty_is_logged_as_what_it_stands_for(tiny):
    """Of four updates the first has a penalty, with four times the weight: the step's mean is that penalty."""
    every, lazy = (
        step_of(tiny("wgan_gp", "objective.gradient_penalty=0", "objective.r1=1e-9", "train.d_steps=4", "train.lr_d=1e-9", *more))
        for more in ([], ["objective.penalty_every=4"])
    )
    wanted = [every.update_discriminator(batch, every.inputs().strengths)[3] for batch in every.inputs().updates[:1]]
    assert lazy()[LOGGED.index("penalty")].item() == pytest.approx(wanted[0].item(), rel=1e-4)


@pytest.mark.parametrize("penalty", ["gradient_penalty", "r1", "r2"])
def test_a_penalty_on_a_discriminator_with_batch_norm_is_refused(tiny, penalty):
    with pytest.raises(ConfigError, match=r"set discriminator\.norm=none or spectral"):
        resolve_to_train(tiny("dcgan", "discriminator.norm=batch", f"objective.{penalty}=1"))
