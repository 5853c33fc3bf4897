"""The training loop.

A step (gan.step) is a function of (weights, optimizer state, seed, step index): its images, flips and noise are derived from the
seed and the index, never from a running generator. So a run that was killed and resumed ends with the same bits as one that was
not, and runs with different kernels see the same data and the same latents.
"""

import contextlib
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from gan import checkpoint
from gan.config import Config, Evaluate
from gan.evaluation import TrainingScores
from gan.loop import (
    Interrupted,
    StopSignals,
    announce_precision,
    announce_start,
    computing,
    diverged,
    flush_losses,
    resource_errors,
    warn_device_change,
)
from gan.memory import require_memory_to_train, require_space_to_train
from gan.models.build import resolve_to_train
from gan.plots import plot_curves
from gan.probe import training_instruments
from gan.processes import Processes
from gan.progress import Writer
from gan.run_directory import RunDirectory, RunError, begun_config, read_log
from gan.state import Batches, State
from gan.step import Step


@dataclass(frozen=True)
class Outcome:
    """What `train` returns."""

    directory: Path
    step: int
    grid: Path


# Called after each step with its number, what gives its losses, and the EMA generator in eval mode.
Watch = Callable[[int, Callable[[], dict[str, float]], nn.Module], object]


def train(config: Config, directory: str | Path, progress: bool = True, watch: Watch | None = None) -> Outcome | None:
    """Train, or resume, the run in `directory` until train.steps generator updates. None in all but the main process.

    watch: called after each step, in the main process.

    Raises DataError, ConfigError, RunError, CheckpointError, Diverged or Interrupted; each says what to do, and the checkpoints
    written so far stay.
    """
    config = resolve_to_train(config)
    processes = Processes.start(config.train.device)
    require_memory_to_train(config, processes.device)
    try:
        with resource_errors(directory, processes.device), contextlib.ExitStack() as stack:
            run = batches = scores = error = None
            asked = config
            try:
                if processes.main:  # first: it takes the directory, and may have to download
                    kept = begun_config(directory)
                    config = config.settled(processes.device, kept)
                    announce_precision(asked, config, processes.device, kept is not None, progress)
                    require_space_to_train(config, directory)
                    run = stack.enter_context(RunDirectory(directory, config))
                    _require_own_log(run, config)
                    # What scores need is opened before images are decoded: it may be missing.
                    scores = TrainingScores(config, processes.device) if config.evaluate.every else None
                    batches = Batches(config, processes)
            except Exception as e:
                error = e
            failed = processes.tell(error is not None)
            if error:
                raise error
            if failed:
                raise SystemExit(1)  # the main process says why
            config = processes.tell(config)
            stack.enter_context(computing(config, processes.device))
            return _train(config, processes, run, batches or Batches(config, processes), scores, progress, watch)
    finally:
        processes.stop()


def _require_own_log(run: RunDirectory, config: Config) -> None:
    """In the main process alone, so while all others still wait for it. CheckpointError, RunError."""
    if latest := run.latest():
        saved = checkpoint.load(latest)
        checkpoint.require_settings(saved, config, latest)
        run.require_log(saved)


def _train(
    config: Config, processes: Processes, run: RunDirectory | None, batches: Batches, scores: TrainingScores | None, progress: bool,
    watch: Watch | None,
) -> Outcome | None:  # fmt: skip
    t = config.train
    state = State(config, processes, batches.classes)
    latest = processes.tell(run.latest() if run else None)
    if latest is not None:
        saved = checkpoint.load(latest)
        checkpoint.require_settings(saved, config, latest)
        if saved.get("pixels", batches.sha256) != batches.sha256:
            raise RunError(
                f"{latest.parents[1]} was trained on other images than {batches.set.source}; restore those, or choose another --out"
            )
        with checkpoint.load_errors(latest):
            state.load(saved)
        if not state.finite():
            raise diverged(f"a weight in {latest} is not finite", run)
        if run:
            warn_device_change(saved, state.device, latest.parents[1])
            checkpoint.prune(run.checkpoints, t.keep_checkpoints)
    if run and progress:
        announce_start(batches.set.source, len(batches.set), processes.device, t.precision, state.step, t.steps)
    take_step = Step(config, processes, state, batches)
    keeper = None
    if scores and run:
        scores.against(batches.set, progress)
        keeper = BestKeeper(config, run, scores)

    with Writer(run, state.step, progress, config, batches) as writer, StopSignals() as signals:
        while state.step < t.steps:
            # Losses stay on the device until a line is due: asking for their value would make a GPU wait.
            values = take_step()
            state.pending.append(values)
            writer.tick()
            if state.step % t.log_every == 0 or state.step == t.steps:
                writer.losses(dict(zip(state.logged, flush_losses(state, processes, run))), state.step)
            if keeper and (state.step % config.evaluate.every == 0 or state.step == t.steps):
                with writer.scoring(config.evaluate.samples) as advance:
                    found = keeper.score(state, advance)
                writer.scores(found, state.step)
            if state.step % t.sample_every == 0 or state.step == t.steps:
                writer.grid(state)
            # All processes must stop at the same step, so they ask each other now and then.
            asked = processes.world == 1 or state.step % 10 == 0
            stop = asked and processes.any(bool(signals.received))
            if state.step % t.checkpoint_every == 0 or state.step == t.steps or stop:
                path = save(state, batches, processes, run, t.keep_checkpoints)
                if stop:
                    message = f"interrupted at step {state.step}, saved in {path}; the same command goes on from there"
                    raise Interrupted(message, signals.received or signal.SIGTERM)
            if watch and run:
                watch(state.step, lambda values=values: dict(zip(state.logged, values.tolist())), state.ema)
    processes.any(False)  # the others return when the main process has saved, not before: they may want to load that
    if run is None:
        return None
    plot_curves(read_log(run.path), run.curves)
    return Outcome(run.path, state.step, run.grid(state.step))


class BestKeeper:
    """Scores the EMA and keeps the checkpoint with the best score, by `evaluate.best`, beside the last ones."""

    def __init__(self, config: Config, run: RunDirectory, scores: TrainingScores):
        self.run, self.scores = run, scores
        # Scores by other features or counts can't be compared: then the best is looked for anew.
        how, default = (e.model_dump(exclude={"every", "instruments"}) for e in (config.evaluate, Evaluate()))
        self.how = {**how, "sha256": self.scores.extractor.sha256, "latents": self.scores.LATENTS}
        self.lower = config.evaluate.best == "fid"
        self.instruments, self.seed = config.evaluate.instruments, config.train.seed
        self.seen = checkpoint.settings(config)
        kept = checkpoint.load(run.best) if run.best.exists() else {}
        checkpoint.require_settings(kept, config, run.best)
        # A checkpoint that is older than a setting has its default.
        with checkpoint.load_errors(run.best):
            self.best = kept["score"] if {**default, **kept.get("how", {})} == self.how else None

    def score(self, state: State, advance: Callable[[int], object] = lambda n: None) -> dict[str, float]:
        """advance: called with the number of images after each batch."""
        if not state.finite():
            raise diverged(f"a weight is not finite by step {state.step}", self.run)
        found = self.scores(state.ema, advance)
        value = found[self.scores.best]
        if self.instruments:
            found |= training_instruments(state.ema, seed=self.seed)
        if self.best is None or (value < self.best if self.lower else value > self.best):
            self.best = value
            record = {**state.dump(), "settings": self.seen, "score": value, "how": self.how}
            checkpoint.save(record, self.run.checkpoints, state.step, 0, checkpoint.BEST)
        return found


def save(state: State, batches: Batches, processes: Processes, run: RunDirectory | None, keep: int) -> Path | None:
    """Checkpoint a state whose numbers are all finite; otherwise raise Diverged and leave the last good checkpoint in place."""
    finite = state.finite() and all(bool(losses.isfinite().all()) for losses in state.pending)
    if processes.any(not finite):
        raise diverged(f"a weight or a loss is not finite by step {state.step}", run)
    if state.pending:  # the main process saves them, and all will load them
        state.pending = list(processes.mean(torch.stack(state.pending)))
    if run is None:
        return None
    seen = {"pixels": batches.sha256, "settings": checkpoint.settings(run.config), "log": run.log_sha256()}
    return checkpoint.save({**state.dump(), **seen}, run.checkpoints, state.step, keep)
