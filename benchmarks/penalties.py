"""R1 and R2 exactly, which takes a double backward, and as finite differences, which doesn't: value, gradient and cost.

    GAN_DATA=... python benchmarks/penalties.py [configs/cifar10/r3_cpu.yaml] [KEY=VALUE]... [--steps 100] [--compile]

Both networks are trained for --steps first: untrained r3 networks are linear. Then, on one batch of real images,

value     mean R1 by differences along --directions directions, over the exact one; and how much one direction per image scatters
gradient  cosine of its gradient by D's weights to the exact one, with one direction per image, as in training, and of their mean
cost      one discriminator update with no penalty, with both exact, with both by differences: the fastest round, and peak memory

each of the first two at several sigma, in fp32, and in bf16 as it would be: training takes the differences in fp32.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import argparse

import torch
from common import fastest, keep_freed_memory, machine, peak_memory
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from gan.config import Config
from gan.loop import set_precision
from gan.models.build import resolve_to_train
from gan.objectives import difference_penalty, r1_penalty
from gan.processes import Processes
from gan.state import Batches, State
from gan.step import Step

ROOT = Path(__file__).parent.parent
SIGMAS = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
VARIANTS = {
    "no penalty": ["objective.r1=0", "objective.r2=0", "schedule.r1=null", "schedule.r2=null"],
    "R1 and R2, exact": ["objective.penalty_every=1", "objective.penalty_form=exact"],
    "R1 and R2, finite differences": ["objective.penalty_every=1", "objective.penalty_form=finite_difference"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", nargs="?", default=str(ROOT / "configs/cifar10/r3_cpu.yaml"))
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--directions", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compile", action="store_true", help="also time compiled networks (takes minutes to warm up)")
    options = parser.parse_args()
    keep_freed_memory()  # as the command line does
    console = Console(width=130)
    console.print(machine(options.device))
    settings = ["train.precision=fp32", f"train.device={options.device}", *options.settings]
    step = step_of(options.config, settings)
    for _ in range(options.steps):
        step()
    real = step.batches.get(step.state.step, 0)
    where = f"{Path(options.config).stem} after {options.steps} steps, {len(real)} real images"
    console.print(values(step.state.discriminator.requires_grad_(True), real, options.directions, where))
    console.print(costs(options, settings))


def step_of(config: str, settings: list[str]) -> Step:
    config = resolve_to_train(Config.load(config, settings))
    processes = Processes.start(config.train.device)
    set_precision(config, processes.device)
    return Step(config, processes, State(config, processes), Batches(config, processes))


# --- value -------------------------------------------------------------------------------------------------------------------


def values(D: nn.Module, real: Tensor, directions: int, where: str) -> Table:
    exact = r1_penalty(D, real)
    wanted = gradient(D, exact)
    table = Table(title=f"R1 of {where}: {exact.item():.4g} exactly", title_justify="left")
    for heading in ("sigma", "precision", "value / exact", "scatter of a batch", "cosine, one direction", "cosine of the mean"):
        table.add_column(heading, justify="right")
    for precision in ("fp32", "bf16"):
        for sigma in SIGMAS:
            found = [once(D, real, sigma, seed, precision) for seed in range(directions)]
            numbers = torch.stack([value for value, _ in found]) / exact
            alone = torch.stack([cosine(g, wanted) for _, g in found]).mean()
            together = cosine(torch.stack([g for _, g in found]).mean(dim=0), wanted)
            columns = [numbers.mean(), numbers.std(), alone, together]
            table.add_row(f"{sigma:g}", precision, *(f"{column.item():.3f}" for column in columns))
    return table


def once(D: nn.Module, real: Tensor, sigma: float, seed: int, precision: str) -> tuple[Tensor, Tensor]:
    """R1 by differences along one direction per image, and its gradient by the weights."""
    n = torch.randn(real.shape, generator=torch.Generator(real.device).manual_seed(seed), device=real.device)
    with torch.autocast(real.device.type, torch.bfloat16, enabled=precision == "bf16"):
        here, there = D(torch.cat([real, real + sigma * n])).float().chunk(2)
    found = difference_penalty(here, there, sigma)
    return found.detach(), gradient(D, found)


def gradient(D: nn.Module, loss: Tensor) -> Tensor:
    found = torch.autograd.grad(loss, list(D.parameters()), allow_unused=True)
    return torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for p, g in zip(D.parameters(), found)])


def cosine(a: Tensor, b: Tensor) -> Tensor:
    return torch.nn.functional.cosine_similarity(a, b, dim=0)


# --- cost --------------------------------------------------------------------------------------------------------------------


def costs(options: argparse.Namespace, settings: list[str]) -> Table:
    runs = {name: update_of(options.config, [*settings, *more]) for name, more in VARIANTS.items()}
    if options.compile:
        for name in ("no penalty", "R1 and R2, finite differences"):
            runs[f"{name}, compiled"] = update_of(options.config, [*settings, *VARIANTS[name], "train.compile=true"])
    times = fastest(runs, options.rounds, options.device)
    table = Table(title="One discriminator update", title_justify="left")
    for heading in ("", "ms", "x no penalty", "peak memory, MiB"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, seconds in times.items():
        peak = peak_memory(runs[name], options.device)
        table.add_row(name, f"{seconds * 1e3:.1f}", f"{seconds / times['no penalty']:.2f}", f"{peak / 2**20:.0f}")
    return table


def update_of(config: str, settings: list[str]):
    step = step_of(config, settings)
    inputs = step.inputs()
    return lambda: step.update_discriminator(inputs.updates[0], inputs.strengths)


if __name__ == "__main__":
    main()
