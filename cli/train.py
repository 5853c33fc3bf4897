"""`train`: train a GAN, or go on with an interrupted run."""

from pathlib import Path
from typing import Annotated

import typer

from cli.common import MAIN, Quiet, Settings, console, run_name, say, split_arguments
from cli.trust import Trust, require_trust


def train(
    arguments: Settings = None,
    out: Annotated[Path | None, typer.Option(help="run directory; default: runs/, named after the config and the changes")] = None,
    quiet: Quiet = False,
    trust: Trust = False,
) -> None:
    """Train a GAN, or go on with an interrupted run.

    - `train` learns generated shapes in a few minutes on a laptop.
    - `train configs/cifar10/sngan.yaml generator.kernel=c2sp train.seed=1` trains SNGAN with 2x2 kernels and symmetric padding.

    The same command again resumes where the run stopped, bit for bit; with other settings it refuses and shows the difference.
    Several GPUs: `torchrun --nproc-per-node 8 run_gan.py train ...`.
    """
    from gan.config import Config
    from gan.memory import require_memory_to_train
    from gan.models.build import resolve_to_train
    from gan.models.summary import table
    from gan.run_directory import RunFiles
    from gan.training import train as train_run
    from metrics.devices import open_device

    path, overrides = split_arguments(arguments)
    config = resolve_to_train(Config.load(path, overrides))
    if config.evaluate.every:
        require_trust(path, [config.evaluate.features], overrides, trust)
    quiet = quiet or not MAIN
    out = out or Path("runs") / run_name(path, overrides)
    if not quiet:
        require_memory_to_train(config, open_device(config.train.device))
        console.print(table(config))
        say(f"run directory: {out}")
    outcome = train_run(config, out, progress=not quiet)
    if outcome is not None:
        say(f"trained for {outcome.step:,} steps; samples: {outcome.grid}, curves: {RunFiles(outcome.directory).curves}")
