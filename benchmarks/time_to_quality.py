"""Minutes of training until SNGAN-32, at a width for two CPU cores, comes near CIFAR-10: ours beside mimicry's code.

    pip install --no-deps torch-mimicry
    GAN_DATA=DIRECTORY python benchmarks/time_to_quality.py [--target 100] [--minutes 20] [--width 32] [--every 250] ...

Equal settings: c3, width, hinge loss, spectral norm in D, one D and one G update on 64 images, Adam (5e-4 and 1e-3, betas 0 and
0.9), no schedule, no average of the weights. Both get their real images from our batches, so that data decide nothing. "with EMA"
scores the average of our weights (0.998), which mimicry has no counterpart of. One run each, taking turns block by block, mimicry
in a process of its own; what counts is training alone, not scoring: fd_efficientnet_lite0, --samples generated against 10,000 real
images. fp32, where bf16 is native also ours in bf16.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import argparse
import contextlib
import multiprocessing
import time
from collections.abc import Callable, Iterator

import mimicry
import torch
from common import keep_freed_memory, machine, precisions
from rich.console import Console
from rich.table import Table
from torch import Tensor

import data
from gan.config import Config
from gan.evaluation import image_side
from gan.loop import set_precision
from gan.models.build import resolve
from gan.processes import Processes
from gan.state import Batches, State
from gan.step import Step
from metrics.features import open_extractor
from metrics.precision import allow_tf32
from metrics.scoring import Side, reference_statistics, score

REAL, BATCH = 10_000, 64
KEPT = "fp32, with EMA"


def config_of(width: int, precision: str, ema: float) -> Config:
    changes = {"dataset.name": "cifar10", "generator.family": "sngan", "generator.kernel": "c3", "generator.latent": width}
    changes |= {"generator.width": width, "discriminator.width": width, "objective.loss": "hinge", "train.beta1": 0.0}
    changes |= {"train.beta2": 0.9, "train.lr_g": 5e-4, "train.lr_d": 1e-3, "train.precision": precision, "train.ema_decay": ema}
    return resolve(Config.load(None, changes={**changes, "train.device": "cpu"}))


class Ours:
    def __init__(self, width: int, precision: str, ema: float):
        self.config, self.processes = config_of(width, precision, ema), Processes.start("cpu")
        self.state = State(self.config, self.processes)
        self.step = Step(self.config, self.processes, self.state, Batches(self.config, self.processes))

    def train(self, steps: int) -> float:
        start = time.perf_counter()
        for _ in range(steps):
            set_precision(self.config, self.processes.device)
            self.step()
        return time.perf_counter() - start

    @torch.no_grad()
    def images(self, z: Tensor) -> Tensor:
        return self.state.ema(z)


class Theirs:
    """mimicry, trained here by its own train_step."""

    def __init__(self, width: int):
        torch.manual_seed(0)
        config, self.taken = config_of(width, "fp32", 0.0), 0
        self.batches = Batches(config, Processes.start("cpu"))
        self.g, d = mimicry.networks("sngan", nz=width, ngf=width, ndf=width)
        self.step = mimicry.step(self.g, d, config.train.lr_g, config.train.lr_d, "cpu")

    def train(self, steps: int) -> float:
        self.g.train()
        start = time.perf_counter()
        for _ in range(steps):
            self.step(self.batches.get(self.taken, 0).contiguous())
            self.taken += 1
        return time.perf_counter() - start

    @torch.no_grad()
    def images(self, z: Tensor) -> Tensor:
        return self.g.eval()(z)


def serve(connection, width: int) -> None:
    allow_tf32(False, False)
    theirs = Theirs(width)
    with contextlib.suppress(EOFError):
        while True:
            name, argument = connection.recv()
            connection.send(getattr(theirs, name)(argument))


class Elsewhere:
    """Theirs in a process of its own, whose allocator is as Python leaves it."""

    def __init__(self, width: int):
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        context.Process(target=serve, args=(other, width), daemon=True).start()
        other.close()

    def train(self, steps: int) -> float:
        self.connection.send(("train", steps))
        return self.connection.recv()

    def images(self, z: Tensor) -> Tensor:
        self.connection.send(("images", z))
        return self.connection.recv()


def generated(draw: Callable[[Tensor], Tensor], latent: int, count: int) -> Side:
    def batches() -> Iterator[Tensor]:
        generator = torch.Generator().manual_seed(0)
        for first in range(0, count, 100):
            z = torch.randn(min(100, count - first), latent, generator=generator)
            yield ((draw(z).float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)

    return Side("generated", count, batches, fixed=False)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--target", type=float, default=100.0, help="the distance to reach")
    arguments.add_argument("--minutes", type=float, default=20.0, help="of training, after which a run gives up")
    arguments.add_argument("--width", type=int, default=32)
    arguments.add_argument("--every", type=int, default=250, help="steps between scores")
    arguments.add_argument("--samples", type=int, default=5000, help="generated images of a score")
    args = arguments.parse_args()
    keep_freed_memory()  # as the command line does
    console = Console(width=110)
    console.print(machine("cpu"))
    console.print(f"{args.samples:,} generated images against {REAL:,}; scored every {args.every:,} steps", highlight=False)

    runs = {"mimicry fp32": Elsewhere(args.width)} if mimicry.installed() else {}
    runs |= {f"ours {p}": Ours(args.width, p, 0.0) for p in precisions("cpu")}
    runs[f"ours {KEPT}"] = Ours(args.width, "fp32", 0.998)
    extractor = open_extractor("efficientnet_lite0")
    real = image_side(data.load("cifar10"), REAL, 0)
    statistics = reference_statistics(extractor, real)
    real = Side(real.name, real.count, None, statistics)

    seconds, steps, reached, last = dict.fromkeys(runs, 0.0), dict.fromkeys(runs, 0), {}, {}
    going = set(runs)
    while going:
        for name in [name for name in runs if name in going]:
            seconds[name] += runs[name].train(args.every)
            steps[name] += args.every
            found, _ = score(extractor, real, generated(runs[name].images, args.width, args.samples), ["fid"])
            last[name] = found[0].value
            console.print(f"{name}: {steps[name]:,} steps, {seconds[name] / 60:.1f} minutes: {last[name]:.1f}", highlight=False)
            if last[name] <= args.target:
                reached[name] = seconds[name]
            if name in reached or seconds[name] > 60 * args.minutes:
                going.discard(name)

    table = Table(
        title=f"SNGAN-32, width {args.width}: training until fd_efficientnet_lite0 is {args.target:g}", title_justify="left"
    )
    for heading in ("run", "steps", "minutes", "ms / step", "x mimicry"):
        table.add_column(heading, justify="left" if heading == "run" else "right")
    other = reached.get("mimicry fp32")
    for name in runs:
        minutes = f"{reached[name] / 60:.1f}" if name in reached else f"not in {args.minutes:g} ({last[name]:.1f})"
        ratio = f"{other / reached[name]:.2f}" if other and name in reached else "-"
        table.add_row(name, f"{steps[name]:,}", minutes, f"{1e3 * seconds[name] / steps[name]:.0f}", ratio)
    console.print(table)


if __name__ == "__main__":
    main()
