"""Training a classifier, in one process: the counterpart of gan/training.py.

As there, a step is a function of (weights, optimizer state, seed, step index), so that a run which was killed and resumed ends with
the same bits as one which was not, and runs with other kernels see the same images, cropped and mirrored alike.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import data
from gan import checkpoint
from gan.classification.config import Config, Train
from gan.classification.figures import plot_confusion, plot_curves
from gan.classification.progress import Writer
from gan.classification.result import write_result
from gan.classification.state import Batches, State, Tested
from gan.loop import (
    Interrupted,
    StopSignals,
    announce_precision,
    announce_start,
    compiled,
    computing,
    diverged,
    flush_losses,
    resource_errors,
    warn_device_change,
)
from gan.memory import require_memory_to_train, require_space_to_train
from gan.processes import Processes, world_size
from gan.run_directory import RunDirectory, RunError, begun_config, read_log
from gan.settings import ConfigError

TEST_BATCH = 500


@dataclass(frozen=True)
class Outcome:
    """What `train` returns."""

    directory: Path
    step: int
    result: dict  # what RUN/result.json holds


def train(
    config: Config, directory: str | Path, progress: bool = True, check: Callable[[Batches], None] | None = None
) -> Outcome:  # fmt: skip
    """Train, or resume, the run in `directory` until train.epochs are over.

    check: raises where the images, which are known by then, aren't those that they should be.

    Raises DataError, ConfigError, RunError, CheckpointError, Diverged or Interrupted; each says what to do, and the checkpoints
    written so far stay.
    """
    if world_size() > 1:
        raise ConfigError("classify runs in one process: start it with python, not with torchrun")
    processes = Processes.start(config.train.device)
    require_memory_to_train(config, processes.device)
    kept = begun_config(directory, Config)
    asked, config = config, config.settled(processes.device, kept)
    announce_precision(asked, config, processes.device, kept is not None, progress)
    require_space_to_train(config, directory)
    for split in ("train", "test"):  # before either is decoded
        data.look(**config.dataset.arguments, split=split)
    with resource_errors(directory, processes.device), RunDirectory(directory, config) as run, computing(config, processes.device):
        batches = Batches(config, processes.device)
        if check is not None:
            check(batches)
        return _train(config, processes, run, batches, progress)


def _train(config: Config, processes: Processes, run: RunDirectory, batches: Batches, progress: bool) -> Outcome:
    t, device, steps = config.train, processes.device, batches.steps
    state = State(config, device, len(batches.classes))
    latest = run.latest()
    if latest is not None:
        saved = checkpoint.load(latest)
        checkpoint.require_settings(saved, config, latest)
        run.require_log(saved)
        if saved.get("pixels", batches.sha256) != batches.sha256:
            raise RunError(f"{run.path} was trained on other images than {batches.source}; restore those, or choose another --out")
        if saved.get("test_pixels", batches.test_sha256) != batches.test_sha256:
            raise RunError(
                f"{run.path} was tested on other images than {batches.test.source}; restore those, or choose another --out"
            )
        with checkpoint.load_errors(latest):
            state.load(saved)
        if not checkpoint.finite(saved):
            raise diverged(f"a weight in {latest} is not finite", run)
        warn_device_change(saved, device, run.path)
        checkpoint.prune(run.checkpoints, t.keep_checkpoints)
    if progress:
        announce_start(batches.source, len(batches.train), device, t.precision, state.step, steps)
    network = compiled(state.model) if t.compile else state.model
    tested = None

    with Writer(run, state.step, progress, config, batches) as writer, StopSignals() as signals:
        while state.step < steps:
            # Losses stay on the device until a line is due: asking for their value would make a GPU wait.
            state.pending.append(take_step(config, state, network, batches))
            writer.tick()
            last, epochs = state.step == steps, batches.epochs(state.step)
            if state.step % t.log_every == 0 or last:
                loss, accuracy = flush_losses(state, processes, run)
                lr = learning_rate(t, state.step - 1, steps)
                writer.metrics({"step": state.step, "epoch": epochs, "loss": loss, "accuracy": accuracy, "lr": lr})
            if epochs // t.test_every > batches.epochs(state.step - 1) // t.test_every or last:
                tested = evaluate(config, state.model, batches)
                writer.metrics({"step": state.step, "epoch": epochs, "test_loss": tested.loss, "test_accuracy": tested.accuracy})
            if state.step % t.checkpoint_every == 0 or last or signals.received:
                path = save(state, batches, run, t.keep_checkpoints)
                if signals.received:
                    message = f"interrupted at step {state.step}, saved in {path}; the same command goes on from there"
                    raise Interrupted(message, signals.received)

    tested = tested or evaluate(config, state.model, batches)
    result = write_result(run.result, config, state, batches, tested)  # before the pictures: if one can't be drawn, it is there
    plot_curves(read_log(run.path), run.curves)
    plot_confusion(tested.confusion, batches.classes, run.confusion)
    return Outcome(run.path, state.step, result)


def take_step(config: Config, state: State, network: nn.Module, batches: Batches) -> Tensor:
    """One update on one batch: the loss, and the accuracy, (2,) float32, still on the device.

    With mixup an image counts as right if it got the name of the larger part.
    """
    t = config.train
    for group in state.optimizer.param_groups:
        group["lr"] = learning_rate(t, state.step, batches.steps)
    x, labels, others, weight = batches.get(state.step)
    with autocast(config, x.device):
        logits = network(x)
    logits = logits.float()
    loss = weight * F.cross_entropy(logits, labels, label_smoothing=t.label_smoothing)
    if weight < 1:
        loss = loss + (1 - weight) * F.cross_entropy(logits, others, label_smoothing=t.label_smoothing)
    loss.backward()
    state.optimizer.step()
    state.optimizer.zero_grad()
    state.step += 1
    right = (logits.argmax(dim=1) == (labels if weight >= 0.5 else others)).float().mean()
    return torch.stack([loss.detach(), right])


@torch.no_grad()
def evaluate(config: Config, model: nn.Module, batches: Batches) -> Tested:
    """Loss, accuracy, confusion and which images are named wrongly, on the test split; changes nothing that trains."""
    classes, loss = len(batches.classes), torch.zeros((), dtype=torch.float64)
    confusion, wrong = torch.zeros(classes * classes, dtype=torch.int64), []
    model.eval()
    for x, labels in batches.test_batches(TEST_BATCH):
        with autocast(config, x.device):
            logits = model(x).float()
        loss += F.cross_entropy(logits, labels, reduction="sum").double().cpu()
        named = logits.argmax(dim=1)
        confusion += torch.bincount(labels * classes + named, minlength=classes * classes).cpu()
        wrong.append((named != labels).cpu())
    model.train()
    confusion = confusion.view(classes, classes)
    return Tested(float(loss) / len(batches.test), float(confusion.trace()) / len(batches.test), confusion, torch.cat(wrong))


def autocast(config: Config, device: torch.device) -> torch.autocast:
    return torch.autocast(device.type, torch.bfloat16, enabled=config.train.precision == "bf16")


def learning_rate(t: Train, step: int, steps: int) -> float:
    """The rate of step 0 .. steps - 1."""
    done = step / steps
    down = max(0.0, (done - t.warmup) / (1 - t.warmup))  # the share of the way from the top of the warm-up to the end
    decay = {
        "step": 0.1 ** ((done >= 0.5) + (done >= 0.75)),
        "cosine": (1 + math.cos(math.pi * down)) / 2,
        "linear": 1 - down,
    }[t.schedule]
    return t.lr * min(decay, (step + 1) / (t.warmup * steps) if t.warmup else 1.0)


def save(state: State, batches: Batches, run: RunDirectory, keep: int) -> Path:
    """Checkpoint a state whose numbers are all finite; otherwise raise Diverged and leave the last good checkpoint in place."""
    if not checkpoint.all_finite([*state.model.state_dict().values(), *state.pending]):
        raise diverged(f"a weight or a loss is not finite by step {state.step}", run)
    seen = {"pixels": batches.sha256, "test_pixels": batches.test_sha256, "device": batches.device.type}
    seen |= {"settings": checkpoint.settings(run.config), "log": run.log_sha256()}
    return checkpoint.save({**state.dump(), **seen}, run.checkpoints, state.step, keep)
