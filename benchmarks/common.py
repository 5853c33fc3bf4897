"""Fair timing: variants take turns within each round, and each one's fastest round counts, which other work disturbs least."""

import os

os.environ.setdefault("KINETO_LOG_LEVEL", "5")  # before torch is imported: the profiler chats

import time
from pathlib import Path

import torch


def machine(device: str) -> str:
    """One line that says what was measured on."""
    if device.startswith("cuda"):
        return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    text = Path("/proc/cpuinfo").read_text()
    names = [line.split(":")[1].strip() for line in text.splitlines() if line.startswith("model name")]
    flags = " with AVX512-BF16" if "avx512_bf16" in text else ""
    return f"{names[0] if names else 'CPU'}{flags}, {torch.get_num_threads()} threads, torch {torch.__version__}"


def fastest(runs: dict, rounds: int, device: str = "cpu", warm_up: int = 2) -> dict[str, float]:
    """Seconds of each function's fastest round, after the warm-up calls."""
    times = {name: [] for name in runs}
    for run in runs.values():
        for _ in range(warm_up):
            run()
    for _ in range(rounds):
        for name, run in runs.items():
            times[name].append(timed(run, device))
    return {name: min(values) for name, values in times.items()}


def timed(run, device: str) -> float:
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - start


def peak_memory(run, device: str) -> int:
    """Bytes allocated at the worst moment of one call, above what was there before it."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        run()
    level = peak = 0
    for event in sorted(profile.profiler.kineto_results.events(), key=lambda e: e.start_ns()):
        if event.name() == "[memory]":
            level += event.nbytes()
            peak = max(peak, level)
    return peak
