"""The training loop.

A step is a function of (weights, optimizer state, seed, step index): its images, flips and noise are derived from the seed and the
index, never from a running generator. So a run that was killed and resumed ends with the same bits as one that was not, and runs
with different kernels see the same data and the same latents.
"""

import contextlib
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from gan import checkpoint
from gan.config import Config, Evaluate, Train
from gan.evaluation import TrainingScores
from gan.loop import (
    Interrupted,
    StopSignals,
    announce_precision,
    compiled,
    diverged,
    flush_losses,
    resource_errors,
    set_precision,
    warn_device_change,
)
from gan.memory import require_memory_to_train
from gan.models.build import resolve_to_train
from gan.objectives import LOSSES, gradient_penalty, r1_penalty
from gan.plots import plot_curves
from gan.probe import training_instruments
from gan.processes import Processes
from gan.progress import Writer
from gan.randomness import step_noise, step_uniform
from gan.run_directory import RunDirectory, RunError, begun_config, read_log
from gan.state import Batches, State

LOGGED = ("d_loss", "g_loss", "d_real", "d_fake", "penalty")  # losses; mean D(x) and D(G(z)); the unweighted penalties


@dataclass(frozen=True)
class Outcome:
    directory: Path
    step: int
    grid: Path


def train(config: Config, directory: str | Path, progress: bool = True) -> Outcome | None:
    """Train, or go on with, the run in `directory` until train.steps generator updates. None in all but the main process.

    Raises DataError, ConfigError, RunError, CheckpointError, Diverged or Interrupted; each says what to do. Nothing that was
    checkpointed is lost in any of them.
    """
    config = resolve_to_train(config)
    processes = Processes.start(config.train.device)
    require_memory_to_train(config, processes.device)
    try:
        with resource_errors(directory, processes.device), contextlib.ExitStack() as stack:
            run = batches = error = None
            asked = config
            try:
                if processes.main:  # first: it takes the directory, and may have to download
                    kept = begun_config(directory)
                    config = config.settled(processes.device, kept)
                    announce_precision(asked, config, processes.device, kept is not None, progress)
                    run = stack.enter_context(RunDirectory(directory, config))
                    batches = Batches(config, processes)
            except Exception as e:
                error = e
            failed = processes.tell(error is not None)
            if error:
                raise error
            if failed:
                raise SystemExit(1)  # the main process says why
            config = processes.tell(config)
            return _train(config, processes, run, batches or Batches(config, processes), progress)
    finally:
        processes.stop()


def _train(
    config: Config, processes: Processes, run: RunDirectory | None, batches: Batches, progress: bool
) -> Outcome | None:  # fmt: skip
    t = config.train
    set_precision(config, processes.device)
    state = State(config, processes)
    latest = processes.tell(run.latest() if run else None)
    if latest is not None:
        saved = checkpoint.load(latest)
        checkpoint.require_settings(saved, config, latest)
        if saved.get("pixels", batches.sha256) != batches.sha256:
            raise RunError(
                f"{latest.parents[1]} was trained on other images than {batches.set.source}; restore those, or choose another --out"
            )
        with checkpoint.taking_over(latest):
            state.load(saved)
        if not state.finite():
            raise diverged(f"a weight in {latest} is not finite", run)
        if run:
            warn_device_change(saved, state.device, latest.parents[1])
            checkpoint.prune(run.checkpoints, t.keep_checkpoints)
    take_step = Step(config, processes, state, batches)
    keeper = BestKeeper(config, run, batches, processes) if config.evaluate.every and run else None

    with Writer(run, state.step, progress, config, batches) as writer, StopSignals() as signals:
        while state.step < t.steps:
            # Losses stay on the device until a line is due: asking for their value would make a GPU wait.
            state.pending.append(take_step())
            writer.tick()
            if state.step % t.log_every == 0 or state.step == t.steps:
                writer.losses(dict(zip(LOGGED, flush_losses(state, processes, run))), state.step)
            if keeper and (state.step % config.evaluate.every == 0 or state.step == t.steps):
                writer.scores(keeper.score(state), state.step)
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
    if run is None:
        return None
    plot_curves(read_log(run.path), run.curves)
    return Outcome(run.path, state.step, run.grid(state.step))


class Inputs(NamedTuple):
    """What a step sees: a function of the seed and the step's index."""

    updates: list[tuple[Tensor, Tensor, Tensor]]  # for each of D's: real images (n, 3, R, R), z (n, latent), epsilon (n,)
    z: Tensor  # (n, latent), of G's update


class Step:
    """train.d_steps discriminator updates and one generator update: a function of the state, the seed and the step's index."""

    def __init__(self, config: Config, processes: Processes, state: State, batches: Batches):
        self.config, self.processes, self.state, self.batches = config, processes, state, batches
        self.loss = LOSSES[config.objective.loss]
        self.G, self.D = processes.parallel(state.generator), processes.parallel(state.discriminator)
        # DistributedDataParallel waits for gradients of D's weights, which G's step has none of: there D is called bare.
        self.frozen_D = self.D if processes.world == 1 else state.discriminator
        if config.train.compile:
            self.G, self.D, self.frozen_D = (compiled(module) for module in (self.G, self.D, self.frozen_D))

    def __call__(self) -> Tensor:
        """Returns the LOGGED values, (5,) float32, still on the device."""
        t, state = self.config.train, self.state
        inputs = self.inputs()
        state.set_learning_rates(learning_rate(t.lr_g, t, state.step), learning_rate(t.lr_d, t, state.step))
        values = self.compute(inputs)
        state.step += 1
        state.update_ema()
        return values

    def inputs(self) -> Inputs:
        """All that is drawn for the next step."""
        t, p, step = self.config.train, self.processes, self.state.step
        n = t.batch_size // p.world
        updates = []
        for update in range(t.d_steps):
            epsilon = step_uniform(n, p.rank, p.world, p.device, t.seed, f"epsilon{update}", step)
            updates.append((self.batches.get(step, update), self.noise(f"z{update}", n), epsilon))
        return Inputs(updates, self.noise("z", n))

    def compute(self, inputs: Inputs) -> Tensor:
        """The updates of both networks. Returns the LOGGED values.

        A function of tensors on the device alone: no number of the host's changes from one step to the next and nothing is asked
        of the device, so that what is launched here can be captured once as a CUDA graph (benchmarks/step_time.py --graphs).
        """
        for real, z, epsilon in inputs.updates:
            values = self.update_discriminator(real, z, epsilon)
        g_loss = self.update_generator(inputs.z)
        return torch.cat([values[:1], g_loss, values[1:]])

    def update_discriminator(self, real: Tensor, z: Tensor, epsilon: Tensor) -> Tensor:
        """One update of D. Returns d_loss, mean D(x), mean D(G(z)) and the unweighted penalty, (4,) float32."""
        state = self.state
        state.discriminator.requires_grad_(True)
        found = self.accumulate(self.D, self.discriminator_loss, real, z, epsilon)
        state.optimizer_d.step()
        state.optimizer_d.zero_grad()
        return found

    def discriminator_loss(self, real: Tensor, z: Tensor, epsilon: Tensor) -> Tensor:
        objective = self.config.objective
        # D sees G only through its pictures, so no graph is built through G.
        with torch.no_grad(), self.autocast():
            fake = self.G(z).float()
        with self.autocast():
            if self.config.discriminator.norm == "batch":  # real and fake have statistics of their own
                on_real, on_fake = self.D(real), self.D(fake)
            else:
                on_real, on_fake = self.D(torch.cat([real, fake])).chunk(2)
            d_loss = self.loss.discriminator(on_real.float(), on_fake.float())
            penalty = torch.zeros((), device=real.device)
            if objective.gradient_penalty:
                gp = gradient_penalty(self.state.discriminator, real, fake, epsilon)
                d_loss, penalty = d_loss + objective.gradient_penalty * gp, penalty + gp
            if objective.r1:
                r1 = r1_penalty(self.state.discriminator, real)
                d_loss, penalty = d_loss + objective.r1 * r1, penalty + r1
        return torch.stack([d_loss, on_real.float().mean(), on_fake.float().mean(), penalty])

    def update_generator(self, z: Tensor) -> Tensor:
        """One update of G. Returns g_loss, (1,) float32."""
        state = self.state
        # The gradient passes through D, but D's own weights need none: that saves a third of its backward.
        state.discriminator.requires_grad_(False)
        found = self.accumulate(self.G, self.generator_loss, z)
        state.optimizer_g.step()
        state.optimizer_g.zero_grad()
        return found

    def generator_loss(self, z: Tensor) -> Tensor:
        with self.autocast():
            on_fake = self.frozen_D(self.G(z))
            return self.loss.generator(on_fake.float())[None]

    def accumulate(self, network: nn.Module, loss: Callable[..., Tensor], *batch: Tensor) -> Tensor:
        """Gradients of the mean over the batch's parts of the first value that `loss` returns; the means of all its values."""
        parts = self.config.train.gradient_accumulation
        found = []
        for i, part in enumerate(zip(*(x.chunk(parts) for x in batch))):
            waits = isinstance(network, DistributedDataParallel) and i < parts - 1  # the processes share the sum, not each part
            with network.no_sync() if waits else contextlib.nullcontext():
                values = loss(*part)
                (values[0] / parts).backward()
            found.append(values.detach())
        return torch.stack(found).mean(dim=0)

    def noise(self, name: str, n: int) -> Tensor:
        p = self.processes
        shape = (n, self.config.generator.latent)
        return step_noise(shape, p.rank, p.world, p.device, self.config.train.seed, name, self.state.step)

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.processes.device.type, torch.bfloat16, enabled=self.config.train.precision == "bf16")


class BestKeeper:
    """Scores the EMA and keeps the checkpoint with the best score, by `evaluate.best`, beside the last ones."""

    def __init__(self, config: Config, run: RunDirectory, batches: Batches, processes: Processes):
        self.run = run
        self.scores = TrainingScores(config, batches.set, processes.device)
        # Scores by other features or counts can't be compared: then the best is looked for anew.
        how, default = (e.model_dump(exclude={"every", "instruments"}) for e in (config.evaluate, Evaluate()))
        self.how = {**how, "sha256": self.scores.extractor.sha256, "latents": self.scores.LATENTS}
        self.lower = config.evaluate.best == "fid"
        self.instruments, self.seed = config.evaluate.instruments, config.train.seed
        self.seen = checkpoint.settings(config)
        kept = checkpoint.load(run.best) if run.best.exists() else {}
        checkpoint.require_settings(kept, config, run.best)
        # Checkpoints of before there was a setting have its default.
        with checkpoint.taking_over(run.best):
            self.best = kept["score"] if {**default, **kept.get("how", {})} == self.how else None

    def score(self, state: State) -> dict[str, float]:
        if not state.finite():
            raise diverged(f"a weight is not finite by step {state.step}", self.run)
        found = self.scores(state.ema)
        value = found[self.scores.best]
        if self.instruments:
            found |= training_instruments(state.ema, seed=self.seed)
        if self.best is None or (value < self.best if self.lower else value > self.best):
            self.best = value
            record = {**state.dump(), "settings": self.seen, "score": value, "how": self.how}
            checkpoint.save(record, self.run.checkpoints, state.step, 0, checkpoint.BEST)
        return found


def learning_rate(base: float, t: Train, step: int) -> float:
    """The base rate, or its linear decay to 0 over the run."""
    return base * (1 - step / t.steps) if t.lr_decay == "linear" else base


def save(state: State, batches: Batches, processes: Processes, run: RunDirectory | None, keep: int) -> Path | None:
    """Checkpoint a healthy state; a sick one raises Diverged and leaves the last good checkpoint in place."""
    healthy = state.finite() and all(bool(losses.isfinite().all()) for losses in state.pending)
    if processes.any(not healthy):
        raise diverged(f"a weight or a loss is not finite by step {state.step}", run)
    if state.pending:  # what one process saves, all will load
        state.pending = list(processes.mean(torch.stack(state.pending)))
    if run is None:
        return None
    seen = {"pixels": batches.sha256, "settings": checkpoint.settings(run.config)}
    return checkpoint.save({**state.dump(), **seen}, run.checkpoints, state.step, keep)
