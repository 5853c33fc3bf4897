"""What training costs: multiply-adds, time and memory of a step.

For a fair comparison, variants take turns within each round, and the fastest round of each counts: the one least disturbed.
"""

import os

os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # before torch is imported: silences its profiler

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypedDict

import torch

from data.files import counted
from gan.classification import config as classification_config
from gan.classification import state as classification_state
from gan.classification import training as classification_training
from gan.config import Config
from gan.loop import compiled, computing
from gan.processes import Processes
from gan.state import Batches, State
from gan.step import Step
from metrics.precision import native_bf16, onednn_kind


def machine(device: str) -> str:
    """The machine in one line, with its instruction sets. device: cpu, cuda, cuda:N or auto."""
    if device != "cpu" and torch.cuda.is_available():
        return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    info = Path("/proc/cpuinfo")
    text = info.read_text() if info.is_file() else ""
    names = [line.split(":")[1].strip() for line in text.splitlines() if line.startswith("model name")]
    # What PyTorch's own loops and oneDNN's convolutions use of it, also where a cap is set on what the processor has.
    kinds = f"{torch.backends.cpu.get_cpu_capability()}, oneDNN {onednn_kind(torch.float32) or 'none'}"
    bf16 = (onednn_kind(torch.bfloat16) or "by this processor") if native_bf16("cpu") else "emulated"
    threads = torch.get_num_threads()
    return f"{names[0] if names else 'CPU'} ({kinds}, bf16 {bf16}), {counted(threads, 'thread')}, torch {torch.__version__}"


def instructions(device: str) -> dict[str, str]:
    """The instruction sets that PyTorch's own loops and oneDNN's products use; of a GPU, its compute capability."""
    if device != "cpu" and torch.cuda.is_available():
        return {"cuda": ".".join(map(str, torch.cuda.get_device_capability()))}
    return {"torch": torch.backends.cpu.get_cpu_capability(), "onednn": onednn_kind(torch.float32) or "none"}


def fastest(runs: dict[str, Callable], rounds: int, device: str = "cpu", warm_up: int = 2, calls: int = 1) -> dict[str, float]:
    """Seconds a call of each function's fastest round of `calls` calls, after the warm-up calls."""
    times = {name: [] for name in runs}
    for run in runs.values():
        for _ in range(warm_up):
            run()
    for _ in range(rounds):
        for name, run in runs.items():
            times[name].append(timed(run, device, calls))
    return {name: min(values) for name, values in times.items()}


def timed(run: Callable, device: str, calls: int = 1) -> float:
    """Seconds a call. Of what takes less than a millisecond, a GPU should get several calls in a row, as in a network."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    for _ in range(calls):
        run()
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return (time.perf_counter() - start) / calls


def peak_memory(run: Callable, device: str) -> int:
    """The most bytes allocated at once during one call, above what was allocated before it."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        run()
    level = peak = 0
    for event in sorted(profile.profiler.kineto_results.events(), key=lambda e: e.start_ns()):
        if event.name() == "[memory]":
            level += event.nbytes()
            peak = max(peak, level)
    return peak


class StepCost(TypedDict):
    """What a training step takes."""

    ms_per_step: float
    images_per_s: float  # real ones shown to the discriminator, as in timing.jsonl
    peak_bytes: int  # above weights, optimizer state and images


def training_macs(config: Config, generator: int, discriminator: int) -> int:
    """Multiply-adds of one training step from those of one image's forward pass through each network.

    A backward pass costs twice the forward one, and half of that where only the input's gradient is wanted. D's update: D forward
    and backward on real and generated images, G forward. G's update: G forward and backward, D forward and backward to its input.
    Penalties, which differentiate twice, are left out.
    """
    d_update = 2 * 3 * discriminator + generator
    g_update = 3 * generator + 2 * discriminator
    return config.train.batch_size * (config.train.d_steps * d_update + g_update)


SHAPES = {"dataset.name": "shapes", "dataset.path": None, "dataset.categories": None, "dataset.hold_out": 0.0}


def step_costs(configs: Mapping[str, Config | classification_config.Config], rounds: int = 5) -> dict[str, StepCost]:
    """The cost of a step of each resolved config, measured in turns. They share a device.

    The images are generated shapes, since what a step costs doesn't depend on what they show.
    """
    # Every config runs the same forward functions, and torch.compile specialises one function for 8 networks at most: of more, the
    # others would silently run eager, and a comparison of their times would be wrong.
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, 8 * len(configs))
    device = str(Processes.start(next(iter(configs.values())).train.device).device)
    steps = {name: _step(config) for name, config in configs.items()}
    seconds = fastest(steps, rounds, device)
    return {
        name: {
            "ms_per_step": 1e3 * seconds[name],
            "images_per_s": config.train.batch_size * getattr(config.train, "d_steps", 1) / seconds[name],
            "peak_bytes": peak_memory(steps[name], device),
        }
        for name, config in configs.items()
    }


def _step(config: Config | classification_config.Config) -> Callable:
    """A function that takes a training step."""
    return _classification_step(config) if isinstance(config, classification_config.Config) else gan_step(config)[0]


def gan_step(config: Config) -> tuple[Callable, State]:
    """A function that takes a training step of a resolved config on generated shapes, and the state that it changes."""
    processes = Processes.start(config.train.device)
    config = config.replace(SHAPES).settled(processes.device)
    batches = Batches(config, processes)
    state = State(config, processes, batches.classes)
    step = Step(config, processes, state, batches)

    def run() -> None:
        with computing(config, processes.device):
            step()

    return run, state


def kept_bytes(state: State) -> int:
    """Bytes of weights, buffers, EMA and optimizer state."""
    tensors = [t for net in (state.generator, state.discriminator, state.ema) for t in (*net.parameters(), *net.buffers())]
    for optimizer in (state.optimizer_g, state.optimizer_d):
        tensors += [t for values in optimizer.state.values() for t in values.values() if torch.is_tensor(t)]
    return sum(t.numel() * t.element_size() for t in tensors)


def _classification_step(config: classification_config.Config) -> Callable:
    device = Processes.start(config.train.device).device
    config = config.replace(SHAPES).settled(device)
    batches = classification_state.Batches(config, device)
    state = classification_state.State(config, device, len(batches.classes))
    network = compiled(state.model) if config.train.compile else state.model

    def run() -> None:
        with computing(config, device):
            classification_training.take_step(config, state, network, batches)

    return run
