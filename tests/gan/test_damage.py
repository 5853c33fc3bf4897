"""What is kept of a run, sick or damaged: never saved, noticed when it is read, and named."""

import os
import shutil
import socket
import subprocess
import sys

import pytest
import torch

from gan import checkpoint
from gan.loop import Diverged
from gan.run_directory import RunError, read_log
from gan.state import Batches, State
from gan.training import train
from tests.helpers import PulledPlug, assert_same, crash_at, final_state, full_disk_at, one_error


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
    full_disk_at(monkeypatch, 8)
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
