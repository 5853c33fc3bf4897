"""The loop: exact resume after any crash, drawing without side effects, refusals, and two processes that equal one."""

import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import zipfile

import pytest
import torch

from data import DataError
from data.sources.shapes import shapes
from gan import checkpoint
from gan.config import ConfigError
from gan.loop import Diverged
from gan.models.build import build, resolve, resolve_to_train
from gan.objectives import LOSSES
from gan.processes import Processes
from gan.randomness import step_noise, step_uniform
from gan.run_directory import RunDirectory, RunError, read_log
from gan.sampling import save_images
from gan.state import LOGGED, Batches, State
from gan.step import Step
from gan.training import train
from metrics.devices import DeviceError
from metrics.precision import native_bf16
from tests.fixtures import DEVICE
from tests.helpers import ROOT, PulledPlug, assert_same, crash_at, final_state, one_error

FAMILIES = ["dcgan", "cnn", "sngan", "wgan_gp", "landscape"]  # r3: test_schedules.py
FINITE = ["objective.penalty_form=finite_difference", "objective.penalty_sigma=0.1"]


@pytest.mark.parametrize(
    ("family", "precision"),
    [(family, "fp32") for family in FAMILIES] + [(family, "bf16") for family in (FAMILIES if native_bf16(DEVICE) else ["sngan"])],
)
def test_crash_and_resume_equals_an_unbroken_run_bitwise(tiny, tmp_path, family, precision):
    resumes_bitwise(tiny(family, f"train.precision={precision}"), tmp_path)


def test_crash_and_resume_equals_an_unbroken_run_bitwise_in_two_threads(tiny, tmp_path, two_threads):
    resumes_bitwise(tiny("sngan"), tmp_path)


def resumes_bitwise(config, tmp_path):
    train(config, tmp_path / "whole", progress=False)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(PulledPlug):
        crash_at(patch, 9)
        train(config, tmp_path / "broken", progress=False)
    assert checkpoint.step_of(checkpoint.saved(tmp_path / "broken/checkpoints")[-1]) == 5
    train(config, tmp_path / "broken", progress=False)

    whole, broken = final_state(tmp_path / "whole"), final_state(tmp_path / "broken")
    assert whole["step"] == 12
    assert_same(whole, broken)
    for file in ("metrics.jsonl", "config.yaml", "samples/step_00000012.png"):
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "broken" / file).read_bytes(), file


def step_of(config):
    config, alone = resolve(config), Processes(0, 1, torch.device("cpu"))
    return Step(config, alone, State(config, alone), Batches(config, alone))


def start(python, run, config, *more):
    file = run.parent / f"{run.name}.yaml"
    file.write_text(config.dump())
    command = [python, "run_gan.py", "train", str(file), "--out", str(run), "-q", *more]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


def wait_for(condition, process, seconds=90):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.02)


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_signals_lose_nothing(quick_python, tiny, tmp_path, signum):
    config = tiny("dcgan", "train.steps=40000", "train.checkpoint_every=20", "train.log_every=7")
    run = tmp_path / "run"
    process = start(quick_python, run, config)
    wait_for(lambda: len(list(run.glob("checkpoints/step_*.pt"))) >= 2, process)
    process.send_signal(signum)
    message = process.communicate(timeout=60)[1]
    stopped = checkpoint.step_of(checkpoint.saved(run / "checkpoints")[-1])
    if signum == signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL and stopped % 20 == 0
    else:
        assert process.returncode == 128 + signum
        assert f"interrupted at step {stopped}" in message and "the same command goes on" in message

    steps = stopped + 15
    shorter = config.replace({"train.steps": steps})
    (run / "config.yaml").write_text(resolve(shorter).dump())  # the same run, but it ends soon
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the process above: another number of threads adds in another order
    train(shorter, run, progress=False)
    train(shorter, tmp_path / "whole", progress=False)
    torch.set_num_threads(threads)
    assert_same(final_state(tmp_path / "whole"), final_state(run))
    assert (run / "metrics.jsonl").read_bytes() == (tmp_path / "whole/metrics.jsonl").read_bytes()


def test_drawing_changes_nothing(tiny, tmp_path):
    for every in (1, 1000):
        train(tiny("dcgan", f"train.sample_every={every}"), tmp_path / str(every), progress=False)
    assert_same(final_state(tmp_path / "1"), final_state(tmp_path / "1000"))


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
        family, "train.steps=60", "train.d_steps=3", "train.lr_d=0.005", "train.lr_g=1e-6", "train.lr_decay=none", "objective.r1=0"
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


def test_changed_settings_are_refused_with_the_difference(tiny, tmp_path):
    train(tiny(), tmp_path, progress=False)
    with pytest.raises(RunError, match=r"train.seed: 0 -> 1.*--out"):
        train(tiny("dcgan", "train.seed=1"), tmp_path, progress=False)
    train(tiny("dcgan", "train.sample_every=3", "train.steps=14"), tmp_path, progress=False)  # these may change
    assert final_state(tmp_path)["step"] == 14
    with pytest.raises(RunError, match=r"train.steps: 14 -> 12"):
        train(tiny(), tmp_path, progress=False)


def test_more_steps_are_refused_under_a_schedule(tiny, tmp_path):
    train(tiny("sngan"), tmp_path, progress=False)
    with pytest.raises(RunError, match=r"train.steps: 12 -> 14"):
        train(tiny("sngan", "train.steps=14"), tmp_path, progress=False)


def test_two_runs_in_one_directory(tiny, tmp_path):
    config = resolve(tiny())
    with RunDirectory(tmp_path, config), pytest.raises(RunError, match="in use by another"):
        train(config, tmp_path, progress=False)
    train(config, tmp_path, progress=False)  # the lock is gone with its owner


def test_nan_in_a_loss_names_its_step_and_the_last_good_checkpoint(tiny, tmp_path, monkeypatch):
    get = Batches.get
    monkeypatch.setattr(Batches, "get", lambda self, step, update: get(self, step, update) * (float("nan") if step == 6 else 1))
    with pytest.raises(Diverged, match=r"not finite at step 7\. .*step_00000005.pt"):
        train(tiny(), tmp_path, progress=False)
    assert all(torch.isfinite(p).all() for p in final_state(tmp_path)["generator"].values())


def test_nan_in_a_weight_is_never_saved(tiny, tmp_path, monkeypatch):
    update = State.update_ema

    def poison(self):
        update(self)
        if self.step == 10:
            next(self.generator.parameters()).data[0] = float("inf")

    monkeypatch.setattr(State, "update_ema", poison)
    with pytest.raises(Diverged, match=r"by step 10.*step_00000005.pt"):
        train(tiny(), tmp_path, progress=False)
    assert final_state(tmp_path)["step"] == 5


def test_a_full_disk_keeps_the_last_checkpoint(tiny, tmp_path, monkeypatch):
    real = os.fsync
    calls = []

    def full(fd):
        calls.append(fd)
        if os.readlink(f"/proc/self/fd/{fd}").endswith("step_00000010.pt.tmp"):
            raise OSError(28, "No space left on device")
        real(fd)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(checkpoint.CheckpointError, match=r"step 10 .*disk is full; step_00000005.pt is whole"):
        train(tiny(), tmp_path, progress=False)
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["step_00000005.pt"]
    monkeypatch.undo()


def test_a_disk_that_fills_between_checkpoints(tiny, tmp_path, monkeypatch):
    log = RunDirectory.log

    def full(self, name, record):
        if record["step"] == 8:
            raise OSError(28, "No space left on device", str(self.path / "metrics.jsonl"))
        log(self, name, record)

    monkeypatch.setattr(RunDirectory, "log", full)
    with pytest.raises(RunError, match=r"the disk is full.*metrics.jsonl.*repeat the command"):
        train(tiny(), tmp_path, progress=False)
    monkeypatch.undo()
    train(tiny(), tmp_path, progress=False)
    assert [r["step"] for r in read_log(tmp_path)] == [4, 8, 12]


def test_a_damaged_checkpoint_is_named(tiny, tmp_path):
    train(tiny(), tmp_path, progress=False)
    last = checkpoint.saved(tmp_path / "checkpoints")[-1]
    last.write_bytes(last.read_bytes()[:1000])
    with pytest.raises(
        checkpoint.CheckpointError, match=rf"{last.name} is damaged .* delete it, the one before is step_00000010.pt"
    ):
        train(tiny(), tmp_path, progress=False)
    last.unlink()
    train(tiny(), tmp_path, progress=False)
    assert final_state(tmp_path)["step"] == 12


def test_one_flipped_bit_in_the_newest_checkpoint_is_noticed_and_the_one_before_goes_on(tiny, tmp_path):
    train(tiny(), tmp_path, progress=False)
    whole, before = final_state(tmp_path), (tmp_path / "metrics.jsonl").read_bytes()
    last = checkpoint.saved(tmp_path / "checkpoints")[-1]
    data = bytearray(last.read_bytes())
    data[len(data) // 2] ^= 1
    last.write_bytes(data)
    with pytest.raises(checkpoint.CheckpointError, match=r"is damaged .*; delete it, the one before is step_00000010\.pt"):
        train(tiny(), tmp_path, progress=False)
    assert (tmp_path / "metrics.jsonl").read_bytes() == before
    last.unlink()
    train(tiny(), tmp_path, progress=False)
    assert_same(whole, final_state(tmp_path))


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda s: s["settings"].update({"train.seed": 7}), r"is of another run \(train\.seed: 7 there, 0 here\); put back"),
        (lambda s: s.update(settings={}, ema={**s["ema"], "project.weight": torch.ones(3, 3)}), r"is of other networks"),
        (lambda s: s.pop("ema"), r"lacks 'ema'"),
        (lambda s: s.pop("pending"), r"lacks 'pending'"),
        (lambda s: s["optimizer_d"]["state"][0].pop("exp_avg"), r"averages don't fit the weights"),
        (lambda s: s["optimizer_g"]["state"][0].update(exp_avg=torch.ones(5)), r"averages don't fit the weights"),
        (lambda s: s.update(step=11), r"holds step 11, not the one of its name"),
        (
            lambda s: next(iter(s["ema"].values())).fill_(float("nan")),
            r"diverged: a weight in .*12\.pt is not finite.*checkpoint is .*10\.pt",
        ),
    ],
    ids=["seed", "width", "no EMA", "no losses", "few averages", "other averages", "step", "NaN"],
)
def test_a_foreign_or_sick_checkpoint_is_one_sentence_and_the_log_stays(tiny, trained_twelve, tmp_path, change, message):
    run = shutil.copytree(trained_twelve, tmp_path / "run")
    file, log = checkpoint.saved(run / "checkpoints")[-1], (run / "metrics.jsonl").read_bytes()
    state = checkpoint.load(file)
    change(state)
    torch.save(state, file)
    with pytest.raises((checkpoint.CheckpointError, Diverged), match=message) as refusal:
        train(tiny("dcgan", "train.steps=14"), run, progress=False)
    assert "\n" not in str(refusal.value) and (run / "metrics.jsonl").read_bytes() == log


@pytest.fixture(scope="module")
def trained_twelve(tiny, tmp_path_factory):
    path = tmp_path_factory.mktemp("twelve") / "run"
    train(tiny(), path, progress=False)
    return path


def test_losses_kept_in_the_order_of_older_checkpoints_are_logged_under_their_own_names(tiny, tmp_path):
    config = tiny("dcgan", "train.log_every=4")
    train(config, tmp_path / "whole", progress=False)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(PulledPlug):
        crash_at(patch, 9)
        train(config, tmp_path / "broken", progress=False)
    file = checkpoint.saved(tmp_path / "broken/checkpoints")[-1]
    state = checkpoint.load(file)
    assert state["step"] == 5 and len(state["pending"]) == 1 and state.pop("logged")[-1] == "g_loss"
    state["pending"] = [losses[[0, 4, 1, 2, 3]] for losses in state["pending"]]
    torch.save(state, file)
    train(config, tmp_path / "broken", progress=False)
    assert (tmp_path / "whole/metrics.jsonl").read_bytes() == (tmp_path / "broken/metrics.jsonl").read_bytes()


@pytest.mark.parametrize("tensor", ["ema weight", "buffer"])
def test_nan_in_the_ema_or_a_buffer_is_never_saved(tiny, tmp_path, monkeypatch, tensor):
    update = State.update_ema

    def poison(self):
        update(self)
        if self.step == 10:
            sick = next(self.ema.parameters()) if tensor == "ema weight" else next(b for b in self.ema.buffers() if b.dim())
            sick.data[0] = float("nan")

    monkeypatch.setattr(State, "update_ema", poison)
    with pytest.raises(Diverged, match=r"by step 10.*step_00000005.pt"):
        train(tiny(), tmp_path, progress=False)


def test_a_surplus_checkpoint_and_what_a_kill_left_go_with_the_next_start(tiny, trained_twelve, tmp_path):
    run = shutil.copytree(trained_twelve, tmp_path / "run")
    state = checkpoint.load(checkpoint.path_of(run / "checkpoints", 10))
    checkpoint.save({**state, "step": 3}, run / "checkpoints", 3, keep=9)
    dead = subprocess.Popen([sys.executable, "-S", "-c", ""])
    dead.wait()
    for place in (".", "checkpoints", "samples"):
        (run / place / f".{socket.gethostname()}-{dead.pid}.x.tmp").touch()
    (run / ".lock").touch()
    train(tiny(), run, progress=False)
    assert [checkpoint.step_of(path) for path in checkpoint.saved(run / "checkpoints")] == [10, 12]
    assert [path.name for path in run.rglob(".*")] == []


def test_a_damaged_line_in_the_middle_of_the_log_is_named_and_nothing_is_cut(tiny, trained_twelve, tmp_path):
    run = shutil.copytree(trained_twelve, tmp_path / "run")
    lines = (run / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    (run / "metrics.jsonl").write_bytes(lines[0] + b"\xff\xfe{" + lines[1] + lines[2])
    before = (run / "metrics.jsonl").read_bytes()
    with pytest.raises(RunError, match=r"metrics\.jsonl is damaged in line 2: mend that line or delete it"):
        train(tiny("dcgan", "train.steps=14"), run, progress=False)
    assert (run / "metrics.jsonl").read_bytes() == before
    (run / "metrics.jsonl").write_bytes(lines[0] + lines[1] + lines[2][:9] + b"\xff")  # a crash tears the last one
    assert [r["step"] for r in read_log(run)] == [4, 8]


@pytest.mark.parametrize("how", ["a digit", "the last end of line", "the last line", "all lines"])
def test_a_log_that_is_not_what_was_written_is_refused_and_one_that_is_gone_begins_anew(tiny, trained_twelve, call, tmp_path, how):
    run = shutil.copytree(trained_twelve, tmp_path / "run")
    log = run / "metrics.jsonl"
    text, longer = log.read_bytes(), tiny("dcgan", "train.steps=13")
    lines = text.splitlines(keepends=True)
    place = text.index(b"d_loss") + 12
    changed = {
        "a digit": text[:place] + bytes([text[place] ^ 1]) + text[place + 1 :],
        "the last end of line": text[:-1] + b"\v",
        "the last line": b"".join(lines[:-1]),
        "all lines": b"",
    }[how]
    log.write_bytes(changed)
    with pytest.raises(RunError, match=r"metrics\.jsonl is damaged: its lines up to step 12 are not those that were written; put"):
        train(longer, run, progress=False)
    assert log.read_bytes() == changed
    status, _, said = call("plot", run, "--out", tmp_path / "a.png")
    assert status == 1 and "metrics.jsonl is damaged" in one_error(said)
    log.unlink()
    train(longer, run, progress=False)
    assert [record["step"] for record in read_log(run)] == [13]


def test_only_a_start_that_trains_adds_a_file_of_tensorboards(tiny, trained_twelve, tmp_path):
    run = shutil.copytree(trained_twelve, tmp_path / "run")
    count = lambda: len(list(run.glob("events.out.tfevents*")))
    assert count() == 1
    train(tiny(), run, progress=False)
    assert count() == 1
    train(tiny("dcgan", "train.steps=14"), run, progress=False)
    assert count() == 2


def test_a_lack_of_memory_in_a_step_is_one_sentence(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(Step, "compute", lambda *_: torch.empty(2**40, 2**12))
    with pytest.raises(RunError, match=r"cpu is out of memory; lower train\.batch_size"):
        train(tiny("dcgan", "train.device=cpu"), tmp_path, progress=False)


def test_compile_without_the_headers_of_python_is_refused(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: name)
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    with pytest.raises(ConfigError, match=r"needs Python\.h, which isn't in .*: install the headers"):
        train(tiny("sngan", "train.compile=true", "train.device=cpu"), tmp_path / "run", progress=False)


def test_what_a_compiler_says_is_one_sentence(tiny, tmp_path, monkeypatch):
    from torch._inductor.exc import CppCompileError

    def fails(*_):
        raise CppCompileError(["g++"], "In file included from a.cpp:1:\nfatal error: Python.h: No such file\n" + "x\n" * 140)

    monkeypatch.setattr(Step, "compute", fails)
    with pytest.raises(ConfigError, match=r"couldn't compile the networks \(.*fatal error: Python\.h: No such file\)") as refusal:
        train(tiny(), tmp_path, progress=False)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", ["WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_PORT"])
def test_a_variable_of_torchruns_that_is_no_number_is_named(tiny, tmp_path, monkeypatch, name):
    for variable in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(variable, "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv(name, "abc")
    with pytest.raises(ConfigError, match=f"{name}=abc is set in the environment, which is no number"):
        train(tiny(), tmp_path, progress=False)


def test_checkpoints_are_plain_and_few(tiny, tmp_path):
    train(tiny("dcgan", "train.checkpoint_every=2", "train.keep_checkpoints=3"), tmp_path, progress=False)
    steps = [checkpoint.step_of(p) for p in checkpoint.saved(tmp_path / "checkpoints")]
    assert steps == [8, 10, 12]


def test_logs_are_complete(tiny, tmp_path):
    train(tiny("wgan_gp"), tmp_path, progress=False)
    log = read_log(tmp_path)
    assert [r["step"] for r in log] == [4, 8, 12]
    assert all(r["penalty"] > 0 for r in log)
    assert [r["step"] for r in read_log(tmp_path, "timing")] == [4, 8, 12]
    assert {p.name for p in (tmp_path / "samples").iterdir()} == {"real.png", "step_00000006.png", "step_00000012.png"}
    assert (tmp_path / "curves.png").stat().st_size > 5000 and list(tmp_path.glob("events.out.tfevents*"))


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


@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="torch.compile needs a C++ compiler on the CPU")
def test_compile_matches_eager(tiny, tmp_path):
    config = resolve(tiny("sngan", "train.compile=true"))
    alone = Processes(0, 1, torch.device("cpu"))
    step = Step(config, alone, State(config, alone), None)
    assert all(isinstance(net, torch._dynamo.OptimizedModule) for net in (step.G, step.D, step.frozen_D))
    for compile_ in (False, True):
        train(tiny("sngan", f"train.compile={compile_}", "train.steps=4"), tmp_path / str(compile_), progress=False)
    eager, compiled = (read_log(tmp_path / str(c))[0] for c in (False, True))
    assert compiled == pytest.approx(eager, rel=1e-3, abs=1e-4)


def test_compile_without_a_compiler_is_refused(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(ConfigError, match=r"needs the C\+\+ compiler .*, which isn.t here"):
        train(tiny("sngan", "train.compile=true", "train.device=cpu"), tmp_path / "run", progress=False)


def test_compile_with_a_penalty_is_refused(tiny):
    for settings in (["objective.gradient_penalty=10"], ["objective.r1=1"], ["objective.r2=1", "objective.penalty_every=4"]):
        with pytest.raises(ConfigError, match=r"twice through compiled code.*penalty_form=finite_difference"):
            tiny("dcgan", "train.compile=true", *settings)
    with pytest.raises(ConfigError, match="twice through compiled code"):
        tiny("wgan_gp", "train.compile=true", "objective.penalty_form=finite_difference")
    tiny("dcgan", "train.compile=true", "objective.r1=1", "objective.penalty_form=finite_difference")


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


def test_a_run_that_moves_to_another_kind_of_device_is_told(tiny, tmp_path, capsys):
    train(tiny("dcgan", "train.steps=4"), tmp_path, progress=False)
    file = checkpoint.saved(tmp_path / "checkpoints")[-1]
    state = checkpoint.load(file)
    other = {"cpu": "cuda", "cuda": "cpu"}[state["device"]]
    torch.save({**state, "device": other}, file)
    train(tiny("dcgan", "train.steps=6"), tmp_path, progress=False)
    said = capsys.readouterr().err
    assert f"was trained on {other} so far" in said and len(said.strip().splitlines()) == 1
    train(tiny("dcgan", "train.steps=8"), tmp_path, progress=False)
    assert "was trained on" not in capsys.readouterr().err


def test_a_run_that_never_began_binds_nobody_to_its_settings(tiny, tmp_path):
    with pytest.raises(DataError):
        train(tiny("dcgan", f"dataset.path={tmp_path / 'gone.zip'}"), tmp_path / "run", progress=False)
    train(tiny("sngan", "train.steps=2"), tmp_path / "run", progress=False)
    with pytest.raises(RunError, match="holds a run with other settings"):
        train(tiny("dcgan", "train.steps=2"), tmp_path / "run", progress=False)


def test_part_of_what_torchrun_sets_is_named(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(ConfigError, match="but not LOCAL_RANK, MASTER_ADDR, MASTER_PORT; start several processes with torchrun"):
        train(tiny("dcgan"), tmp_path, progress=False)


def test_cuda_is_refused_where_there_is_none(tiny, tmp_path):
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA GPU")
    with pytest.raises(DeviceError, match="no CUDA GPU"):
        train(tiny("dcgan", "train.device=cuda"), tmp_path, progress=False)


def torchrun(python, config, run):
    """Train in two processes; returns what they print."""
    file = run.parent / f"{run.name}.yaml"
    file.write_text(config.dump())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [python, "-m", "torch.distributed.run", "--nproc-per-node=2", f"--master-port={port}", "run_gan.py"]
    command += ["train", str(file), "--out", str(run), "-q"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=180)


@pytest.mark.parametrize("family", ["sngan", "wgan_gp"])
def test_two_processes_give_the_losses_of_one(quick_python, tiny, pictures, tmp_path, family):
    """Two ranks of batch 4 against one of batch 8, gloo on the CPU, no batch norm: to float tolerance. One is conditional."""
    more = [*FINITE, "objective.r1=1", "objective.penalty_sigma=1", "augment.colour=true", "augment.translation=0.125"]
    conditional = [f"dataset.path={pictures}", "generator.conditional=true", "generator.attention=16", "discriminator.attention=16"]
    more = more if family == "sngan" else ["objective.penalty_every=2", *conditional]
    config = tiny(family, "generator.norm=none", "train.steps=8", "train.log_every=2", "train.device=cpu", *more)
    train(config, tmp_path / "one", progress=False)
    done = torchrun(quick_python, config, tmp_path / "two")
    assert done.returncode == 0, done.stderr
    one, two = read_log(tmp_path / "one"), read_log(tmp_path / "two")
    assert len(one) == len(two) == 4
    for a, b in zip(one, two):
        assert a == pytest.approx(b, rel=1e-4, abs=1e-5)


def test_two_processes_resume_and_refuse_together(quick_python, tiny, tmp_path):
    """A run that stopped between two log lines logs as a whole one does; a refusal is one sentence, not two tracebacks."""
    whole = tiny("sngan", "generator.norm=none", "train.lr_decay=none", "train.log_every=6", "train.device=cpu")
    assert torchrun(quick_python, whole, tmp_path / "whole").returncode == 0
    shutil.copytree(tmp_path / "whole", tmp_path / "broken")
    (tmp_path / "broken/checkpoints/step_00000012.pt").unlink()  # back to step 10, within a window of six
    assert torchrun(quick_python, whole, tmp_path / "broken").returncode == 0
    assert (tmp_path / "whole/metrics.jsonl").read_bytes() == (tmp_path / "broken/metrics.jsonl").read_bytes()
    assert_same(final_state(tmp_path / "whole"), final_state(tmp_path / "broken"))

    refused = torchrun(quick_python, whole.replace({"train.seed": 1}), tmp_path / "whole")
    assert refused.returncode != 0
    ours = refused.stderr.split("ChildFailedError")[0]
    assert ours.count("train.seed: 0 -> 1") == 1 and "gan/training.py" not in ours


def test_other_images_are_refused_on_resume(tiny, tmp_path):
    train(tiny(), tmp_path / "run", progress=False)
    other = tmp_path / "other.zip"
    save_images(iter([shapes(32, count=50, seed=9).images]), other)
    with pytest.raises(RunError, match="trained on other images"):
        train(tiny("dcgan", f"dataset.path={other}", "train.steps=14"), tmp_path / "run", progress=False)


def test_skipped_images_are_named(tiny, tmp_path, fifty, capsys):
    broken = tmp_path / "broken.zip"
    shutil.copy(fifty, broken)
    with zipfile.ZipFile(broken, "a") as archive:
        archive.writestr("zz.png", b"no picture")
    train(tiny("dcgan", f"dataset.path={broken}", "dataset.on_bad=skip", "train.steps=1"), tmp_path / "run", progress=False)
    assert "left out 1 of 51 images: zz.png" in capsys.readouterr().err
