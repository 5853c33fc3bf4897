"""The training loop.

A step is a function of (weights, optimizer state, seed, step index): its images, flips and noise are derived from the seed and the
index, never from a running generator. So a run that was killed and resumed ends with the same bits as one that was not, and runs
with different kernels see the same data and the same latents.
"""

import copy
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter
from torchvision.utils import make_grid
from tqdm import tqdm

import data
from gan import checkpoint
from gan.checkpoint import CheckpointError
from gan.config import Config, ConfigError
from gan.models import build, resolve
from gan.objectives import LOSSES, gradient_penalty, r1_penalty
from gan.processes import Processes
from gan.randomness import derive, latents, step_noise, step_uniform
from gan.report import plot_curves
from gan.run_directory import RunDirectory, read_log
from gan.sampling import draw, save_grid

LOGGED = ("d_loss", "g_loss", "d_real", "d_fake", "penalty")  # losses; mean D(x) and D(G(z)); the unweighted penalty


class Diverged(Exception):
    """A loss or a weight became NaN or infinite; the message names the step and the last good checkpoint."""


class Interrupted(Exception):
    """SIGINT or SIGTERM: the run was saved and can go on."""

    def __init__(self, message: str, signum: int):
        super().__init__(message)
        self.signum = signum


@dataclass(frozen=True)
class Outcome:
    directory: Path
    step: int
    grid: Path


def train(config: Config, directory: str | Path, progress: bool = True) -> Outcome:
    """Train, or go on with, the run in `directory` until train.steps generator updates.

    Raises DataError, ConfigError, RunError, CheckpointError, Diverged or Interrupted; each says what to do. Nothing that was
    checkpointed is lost in any of them.
    """
    config = resolve(config)
    processes = Processes.start(config.train.device)
    try:
        if not processes.main:
            return _train(config, processes, None, progress)
        with RunDirectory(directory, config) as run:
            return _train(config, processes, run, progress)
    finally:
        processes.stop()


def _train(config: Config, processes: Processes, run: RunDirectory | None, progress: bool) -> Outcome | None:
    t = config.train
    _set_precision(config, processes.device)
    if t.batch_size % processes.world:
        raise ConfigError(f"train.batch_size={t.batch_size} can't be shared evenly by {processes.world} processes")
    batches = Batches(config, processes)

    # Everything that training changes lives in `state`; everything else here is made anew from the settings.
    state = State(config, processes)
    latest = processes_agree_on_latest(run, processes)
    if latest is not None:
        state.load(checkpoint.load(latest))
    G, D = state.generator, state.discriminator
    G_parallel, D_parallel = processes.parallel(G), processes.parallel(D)
    if t.compile:
        G_parallel, D_parallel = torch.compile(G_parallel), torch.compile(D_parallel)
    loss = LOSSES[config.objective.loss]
    autocast = torch.autocast(processes.device.type, torch.bfloat16, enabled=t.precision == "bf16")
    one_pass = config.discriminator.norm != "batch"  # batch norm would mix the statistics of real and fake
    n = t.batch_size // processes.world

    def noise(step: int, name: str) -> Tensor:
        z = step_noise((n, G.latent), processes.rank, processes.world, processes.device, t.seed, name, step)
        return z

    writer = Writer(run, state.step, progress, config, batches)
    with StopSignals() as signals:
        while state.step < t.steps:
            step = state.step
            set_learning_rate(state.optimizer_g, t.lr_g, config, step)
            set_learning_rate(state.optimizer_d, t.lr_d, config, step)

            # The discriminator sees the generator only through its pictures, so no graph is built through G here.
            D.requires_grad_(True)
            for update in range(t.d_steps):
                real = batches.get(step, update)
                with autocast:
                    with torch.no_grad():
                        fake = G_parallel(noise(step, f"z{update}"))
                    if one_pass:
                        on_real, on_fake = D_parallel(torch.cat([real, fake.to(real.dtype)])).chunk(2)
                    else:
                        on_real, on_fake = D_parallel(real), D_parallel(fake)
                    d_loss = loss.discriminator(on_real.float(), on_fake.float())
                    penalty = torch.zeros((), device=processes.device)
                    if config.objective.gradient_penalty:
                        e = step_uniform(n, processes.rank, processes.world, processes.device, t.seed, f"epsilon{update}", step)
                        penalty = gradient_penalty(D, real, fake.to(real.dtype), e)
                        d_loss = d_loss + config.objective.gradient_penalty * penalty
                    if config.objective.r1:
                        r1 = r1_penalty(D, real)
                        d_loss, penalty = d_loss + config.objective.r1 * r1, penalty + r1
                d_loss.backward()
                state.optimizer_d.step()
                state.optimizer_d.zero_grad()

            # The generator's gradient passes through D, but D's own weights need none: that saves a third of its backward.
            D.requires_grad_(False)
            with autocast:
                g_loss = loss.generator(D(G_parallel(noise(step, "z"))).float())
            g_loss.backward()
            state.optimizer_g.step()
            state.optimizer_g.zero_grad()
            state.step += 1
            state.update_ema()

            # Losses stay on the device until a line is due: asking for their value would make a GPU wait.
            state.pending.append(torch.stack([d_loss, g_loss, on_real.mean(), on_fake.mean(), penalty]).detach().float())
            if state.step % t.log_every == 0:
                writer.losses(flush(state, processes, run), state.step)
            if state.step % t.sample_every == 0 or state.step == t.steps:
                writer.grid(state)
            stop = signals.received if processes.world == 1 else state.step % 10 == 0 and processes.any(bool(signals.received))
            if state.step % t.checkpoint_every == 0 or state.step == t.steps or stop:
                path = save(state, processes, run, t.keep_checkpoints)
                if stop:
                    writer.close()
                    raise Interrupted(f"interrupted at step {state.step}, saved in {path}; the same command goes on from there", stop)
    writer.close()
    if run is None:
        return None
    plot_curves(read_log(run.path), run.path / "curves.png")
    return Outcome(run.path, state.step, grid_path(run, state.step))


# --- what a step changes -----------------------------------------------------------------------------------------------------


class State:
    """Weights, optimizers, EMA, step, and the losses not yet logged: all that a checkpoint holds."""

    def __init__(self, config: Config, processes: Processes):
        t = config.train
        networks = build(config)
        if processes.world > 1 and processes.device.type == "cuda":
            networks = tuple(nn.SyncBatchNorm.convert_sync_batchnorm(net) for net in networks)
        memory_format = torch.channels_last if t.channels_last else torch.contiguous_format
        self.generator, self.discriminator = (net.to(processes.device, memory_format=memory_format) for net in networks)
        self.ema = copy.deepcopy(self.generator).eval().requires_grad_(False)
        self.ema_decay = t.ema_decay
        betas = (t.beta1, t.beta2)
        self.optimizer_g = torch.optim.Adam(self.generator.parameters(), lr=t.lr_g, betas=betas, fused=True)
        self.optimizer_d = torch.optim.Adam(self.discriminator.parameters(), lr=t.lr_d, betas=betas, fused=True)
        self.step = 0
        self.pending: list[Tensor] = []

    @torch.no_grad()
    def update_ema(self) -> None:
        """Move the average towards the weights and the batch-norm statistics; it starts fast, so that the first weights fade."""
        decay = min(self.ema_decay, (1 + self.step) / (10 + self.step))
        averages, values = (
            [t for t in (*net.parameters(), *net.buffers()) if t.is_floating_point()] for net in (self.ema, self.generator)
        )
        torch._foreach_lerp_(averages, values, 1 - decay)

    def dump(self) -> dict:
        return {
            "step": self.step,
            "generator": self.generator.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer_g": self.optimizer_g.state_dict(),
            "optimizer_d": self.optimizer_d.state_dict(),
            "pending": [t.cpu() for t in self.pending],
        }

    def load(self, saved: dict) -> None:
        self.step = saved["step"]
        for name in ("generator", "discriminator", "ema", "optimizer_g", "optimizer_d"):
            getattr(self, name).load_state_dict(saved[name])
        device = next(self.generator.parameters()).device
        self.pending = [t.to(device) for t in saved["pending"]]

    def finite(self) -> bool:
        """Whether every weight of both networks is a finite number."""
        weights = [p for net in (self.generator, self.discriminator) for p in net.parameters()]
        return bool(torch.stack(torch._foreach_norm(weights)).isfinite().all())


class Batches:
    """Real images on the device, as a function of (seed, step, update): floats in [-1, 1], half of them mirrored."""

    def __init__(self, config: Config, processes: Processes):
        self.config, self.processes = config, processes
        d = config.dataset
        if not processes.main:
            processes.wait()  # the main process may be downloading
        self.set = data.load(d.name, d.path, d.resolution, on_bad=d.on_bad)
        if processes.main:
            processes.wait()
        self.images = self.set.images.to(processes.device)  # decoded once, uint8: CIFAR-10 takes 150 MB
        self.order = data.EpochOrder(len(self.set), derive(config.train.seed, "order"))

    def get(self, step: int, update: int) -> Tensor:
        """(n, 3, R, R): this rank's share of the batch."""
        t, p = self.config.train, self.processes
        n = t.batch_size // p.world
        position = (step * t.d_steps + update) * t.batch_size + p.rank * n
        x = self.images[self.order.indices(position, n).to(p.device)]
        x = x.float() / 127.5 - 1
        if self.config.dataset.flip:
            mirror = step_uniform(n, p.rank, p.world, p.device, t.seed, f"flip{update}", step) < 0.5
            x = torch.where(mirror[:, None, None, None], x.flip(3), x)
        return x.contiguous(memory_format=torch.channels_last) if t.channels_last else x


def set_learning_rate(optimizer: torch.optim.Optimizer, base: float, config: Config, step: int) -> None:
    """The base rate, or its linear decay to 0 over the run."""
    for group in optimizer.param_groups:
        group["lr"] = base * (1 - step / config.train.steps) if config.train.lr_decay == "linear" else base


def flush(state: State, processes: Processes, run: RunDirectory | None) -> dict:
    """The mean of the pending losses, which are then forgotten. Diverged if one of them is not finite."""
    losses = processes.mean(torch.stack(state.pending)).double().cpu()
    bad = (~losses.isfinite().all(dim=1)).nonzero()
    if len(bad):
        raise _diverged(f"a loss is not finite at step {state.step - len(losses) + int(bad[0]) + 1}", run)
    state.pending.clear()
    return dict(zip(LOGGED, losses.mean(dim=0).tolist()))


def save(state: State, processes: Processes, run: RunDirectory | None, keep: int) -> Path | None:
    """Checkpoint a healthy state; a sick one raises Diverged and leaves the last good checkpoint in place."""
    healthy = state.finite() and all(bool(losses.isfinite().all()) for losses in state.pending)
    if processes.any(not healthy):
        raise _diverged(f"a weight or a loss is not finite by step {state.step}", run)
    return checkpoint.save(state.dump(), run.checkpoints, state.step, keep) if run else None


def _diverged(what: str, run: RunDirectory | None) -> Diverged:
    last = run.latest() if run else None
    return Diverged(
        f"training diverged: {what}. "
        + (f"The last good checkpoint is {last}" if last else "There is no checkpoint yet")
        + "; try a lower learning rate, another seed or precision=fp32, in a new --out"
    )


def processes_agree_on_latest(run: RunDirectory | None, processes: Processes) -> Path | None:
    """The main process' newest checkpoint, told to all."""
    told = [run.latest() if run else None]
    if processes.world > 1:
        torch.distributed.broadcast_object_list(told)
    return told[0]


def _set_precision(config: Config, device: torch.device) -> None:
    """fp32 means IEEE fp32, also in cuDNN; tf32 is asked for by name. Deterministic algorithms only concern CUDA."""
    tf32 = "tf32" if config.train.precision == "tf32" else "ieee"
    torch.backends.cuda.matmul.fp32_precision = tf32
    torch.backends.cudnn.conv.fp32_precision = tf32
    torch.backends.cudnn.benchmark = not config.train.deterministic
    if device.type == "cuda":
        torch.use_deterministic_algorithms(config.train.deterministic)
        torch.utils.deterministic.fill_uninitialized_memory = False


# --- what a run shows --------------------------------------------------------------------------------------------------------


def grid_path(run: RunDirectory, step: int) -> Path:
    return run.samples / f"step_{step:08d}.png"


class Writer:
    """Progress bar, metrics.jsonl, timing.jsonl, TensorBoard and sample grids; in the main process only."""

    def __init__(self, run: RunDirectory | None, step: int, progress: bool, config: Config, batches: Batches):
        self.run, self.config = run, config
        if run is None:
            return
        run.forget_after(step)
        self.board = SummaryWriter(str(run.path), purge_step=step + 1)
        self.bar = tqdm(total=config.train.steps, initial=step, unit="step", disable=not progress, dynamic_ncols=True)
        self.fixed = latents(derive(config.train.seed, "grid"), 0, 64, config.generator.latent)
        self.since = (step, time.perf_counter())
        real = run.samples / "real.png"
        if not real.exists():
            save_grid(batches.set.images[batches.order.indices(0, 64)], real)

    def losses(self, losses: dict, step: int) -> None:
        if self.run is None:
            return
        t = self.config.train
        before, now = self.since, time.perf_counter()
        self.since = (step, now)
        steps_per_s = (step - before[0]) / (now - before[1])
        images_per_s = steps_per_s * t.batch_size * t.d_steps
        self.run.log("metrics", {"step": step, **losses})
        self.run.log("timing", {"step": step, "steps_per_s": steps_per_s, "images_per_s": images_per_s})
        for name, value in losses.items():
            self.board.add_scalar(f"loss/{name}", value, step)
        self.board.add_scalar("speed/images_per_s", images_per_s, step)
        self.bar.update(step - self.bar.n)
        shown = {"D": f"{losses['d_loss']:.3f}", "G": f"{losses['g_loss']:.3f}", "images/s": f"{images_per_s:.0f}"}
        self.bar.set_postfix(shown)

    def grid(self, state: State) -> None:
        """The same latents each time, from the EMA in eval mode: nothing that trains is touched."""
        if self.run is None:
            return
        images = draw(state.ema, self.fixed)
        save_grid(images, grid_path(self.run, state.step))
        self.board.add_image("samples", make_grid(images, nrow=8), state.step)

    def close(self) -> None:
        if self.run is not None:
            self.bar.update(self.config.train.steps - self.bar.n if self.bar.n > self.config.train.steps else 0)
            self.bar.close()
            self.board.close()


class StopSignals:
    """Within the block, SIGINT and SIGTERM ask the loop to save and stop; a second one stops at once."""

    def __enter__(self) -> "StopSignals":
        self.received = 0
        self._old = {}
        if threading.current_thread() is threading.main_thread():
            self._old = {s: signal.signal(s, self._receive) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def _receive(self, signum: int, frame) -> None:
        if self.received:
            raise KeyboardInterrupt
        self.received = signum

    def __exit__(self, *exception) -> None:
        for signum, handler in self._old.items():
            signal.signal(signum, handler)


__all__ = ["CheckpointError", "Diverged", "Interrupted", "Outcome", "train"]
