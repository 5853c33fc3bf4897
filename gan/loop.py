"""Shared by the training loops of `train` and `classify`: preparations before the first step, and ending a run before its last."""

import contextlib
import os
import shutil
import signal
import sys
import sysconfig
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from data.files import UserError, counted, printable, reason
from data.memory import lacks_memory
from gan import checkpoint
from gan.processes import Processes
from gan.run_directory import RunDirectory, RunError
from gan.settings import ConfigError, Tree
from metrics.precision import allow_tf32, emulated, kept_tf32

EMULATED = "for which this CPU has no instructions: about ten times slower than fp32"


class Diverged(UserError):
    """A loss or a weight became NaN or infinite; the message names the step and the last good checkpoint."""

    said_by_all = False


class Interrupted(UserError):
    """SIGINT or SIGTERM: the run was saved and can go on."""

    style, said_by_all = "yellow", False

    def __init__(self, message: str, signum: int):
        super().__init__(message)
        self.signum, self.exit_code = signum, 128 + signum


class LoopState(Protocol):
    """What a loop changes: at least its step, and the losses of the steps that were not logged yet, (k,) float32 each."""

    step: int
    pending: list[Tensor]


# --- before the first step ---------------------------------------------------------------------------------------------------


def announce_precision(asked: Tree, config: Tree, device: torch.device, resumed: bool, shown: bool) -> None:
    """Print what a precision of `auto` became, where `shown`; and always warn of bf16 that this CPU emulates and of tf32.

    asked, config: the settings before and after `auto` was settled. resumed: the run goes on, in the precision it was begun with.
    """
    if shown and "train.precision" in asked.automatic():
        why = "as this run was begun" if resumed else f"what suits this {device.type.upper()}"
        print(f"precision {config.train.precision} (auto: {why})", file=sys.stderr)
    scored = getattr(config, "evaluate", None)
    used = {
        "train.precision": config.train.precision,
        "evaluate.precision": scored.precision if scored and scored.every else "fp32",
    }
    slow = [key for key, precision in used.items() if emulated(precision, device)]
    if slow:
        advice = "set it to auto, or fp32" + (", in another --out: a run keeps its precision" if resumed else "")
        print(f"warning: {' and '.join(slow)} is bf16, {EMULATED}: {advice}", file=sys.stderr)
    if config.train.precision == "tf32" and device.type != "cuda":
        here = device.type.upper()
        print(f"warning: train.precision is tf32, which only GPUs have: this {here} computes in fp32", file=sys.stderr)


def announce_start(source: str, count: int, device: torch.device, precision: str, step: int, steps: int) -> None:
    """Print what is trained on, where and how, and from which step on. How long that takes is said once it is known."""
    start = f"goes on from step {step:,} of {steps:,}" if step else counted(steps, "step")
    print(printable(f"{source}: {count:,} images; {device.type.upper()}, {precision}; {start}"), file=sys.stderr)


def set_precision(config: Tree, device: torch.device) -> None:
    """fp32 means IEEE fp32, also in cuDNN; tf32 is asked for by name. Deterministic algorithms only concern CUDA."""
    tf32 = config.train.precision == "tf32"
    allow_tf32(tf32, tf32)
    torch.backends.cudnn.benchmark = not config.train.deterministic
    if device.type == "cuda":
        torch.use_deterministic_algorithms(config.train.deterministic)
        torch.utils.deterministic.fill_uninitialized_memory = False


@contextlib.contextmanager
def computing(config: Tree, device: torch.device) -> Iterator[None]:
    """`set_precision` for a block: afterwards PyTorch's switches, which are the whole process's, are as they were."""
    cudnn, filling = torch.backends.cudnn, torch.utils.deterministic
    deterministic = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    before = cudnn.benchmark, filling.fill_uninitialized_memory
    with kept_tf32():
        try:
            set_precision(config, device)
            yield
        finally:
            cudnn.benchmark, filling.fill_uninitialized_memory = before
            if device.type == "cuda":  # elsewhere nothing was changed, and the call would import PyTorch's compiler
                torch.use_deterministic_algorithms(deterministic[0], warn_only=deterministic[1])


def compiled(network: nn.Module) -> nn.Module:
    """torch.compile(network). ConfigError if the C++ compiler or Python's headers, which it needs on the CPU, are missing."""
    compiler = os.environ.get("CXX", {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++"))
    if next(network.parameters()).device.type == "cpu" and not shutil.which(compiler):
        raise ConfigError(f"train.compile=true needs the C++ compiler {compiler}, which isn't here: install it, or set CXX")
    headers = Path(sysconfig.get_path("include"))
    if next(network.parameters()).device.type == "cpu" and not (headers / "Python.h").is_file():
        raise ConfigError(
            f"train.compile=true needs Python.h, which isn't in {headers}: install the headers of Python (python3-dev), or set "
            "train.compile=false"
        )
    return torch.compile(network)


def compiler_said(error: BaseException) -> str | None:
    """The line of a torch.compile error that says why it failed; None for any other error."""
    chain = [error, error.__cause__, getattr(error, "inner_exception", None)]
    if not any(type(e).__module__.startswith(("torch._inductor", "torch._dynamo.exc")) for e in chain if e is not None):
        return None
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next((line for line in lines if "error:" in line), (lines or [type(error).__name__])[0])[:160]


def warn_device_change(saved: dict, device: torch.device, directory: Path) -> None:
    """Warn if a checkpoint comes from another kind of device: noise and flips are drawn on the device that trains."""
    before, now = saved.get("device", device.type), device.type
    if before != now:
        print(
            f"warning: {printable(str(directory))} was trained on {before} so far and goes on on {now}, which draws other noise "
            f"from the same seed: a good run, but not the one that {before} would have ended with",
            file=sys.stderr,
        )


# --- ending before the last step ---------------------------------------------------------------------------------------------


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


@contextlib.contextmanager
def resource_errors(directory: str | Path, device: torch.device) -> Iterator[None]:
    """A full or broken disk, a lack of memory and a failed torch.compile become a RunError that says what to do."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if isinstance(error, torch.OutOfMemoryError) or lacks_memory(error):
            raise RunError(
                f"{device} is out of memory; lower train.batch_size or the model's width, use train.precision=bf16, or, with GANs, "
                "lower dataset.memory, or set train.gradient_accumulation=2 or train.activation_checkpointing=true"
            ) from error
        if isinstance(error, OSError):
            what = reason(error) + (f" ({error.filename})" if error.filename else "")
            raise RunError(
                f"{directory}: {what}; fix that and repeat the command, which goes on from the last checkpoint"
            ) from error
        if said := compiler_said(error):
            raise ConfigError(
                f"train.compile=true: PyTorch couldn't compile the networks ({said}); install a C++ compiler and the headers of "
                "Python (python3-dev), or set train.compile=false"
            ) from error
        raise


def flush_losses(state: LoopState, processes: Processes, run: RunDirectory | None) -> list[float]:
    """The mean of each loss over the pending steps and over processes; clears the pending ones. Diverged if one isn't finite."""
    losses = processes.mean(torch.stack(state.pending)).double().cpu()
    bad = (~losses.isfinite().all(dim=1)).nonzero()
    if len(bad):
        raise diverged(f"a loss is not finite at step {state.step - len(losses) + int(bad[0]) + 1}", run)
    state.pending.clear()
    return losses.mean(dim=0).tolist()


def diverged(what: str, run: RunDirectory | None) -> Diverged:
    """The error to raise; `what` names the step."""
    last = checkpoint.latest_good(run.checkpoints) if run else None
    return Diverged(
        f"training diverged: {what}. "
        + (f"The last good checkpoint is {last}" if last else "There is no good checkpoint")
        + "; try a lower learning rate, another seed or precision=fp32, in a new --out"
    )
