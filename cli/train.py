"""`train`: train a GAN, or resume an interrupted run."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from cli.common import MAIN, Quiet, Settings, console, open_settings, say, say_next
from cli.trust import Trust, require_trust


def train(
    arguments: Settings = None,
    out: Annotated[Path | None, typer.Option(help="run directory; default: runs/, named after the config and the changes")] = None,
    quiet: Quiet = False,
    trust: Trust = False,
) -> None:
    """Train a GAN, or resume an interrupted run.

    - `train` learns generated shapes in a few minutes on a laptop.
    - `train configs/cifar10/sngan.yaml generator.kernel=c2sp train.seed=1` trains SNGAN with 2x2 kernels and symmetric padding.

    - `train runs/quickstart` resumes a run; so does the same command again, bit for bit. With other settings it refuses and
      shows the difference.

    Several GPUs: `torchrun --nproc-per-node 8 run_gan.py train ...`.
    """
    from gan.config import Config
    from gan.memory import require_memory_to_train
    from gan.models.build import resolve_to_train
    from gan.models.summary import table
    from gan.run_directory import RunFiles, finished
    from gan.training import train as train_run
    from metrics.devices import open_device

    config, path, overrides, out = open_settings(arguments, out, Config)
    config = resolve_to_train(config)
    if config.evaluate.every:
        require_trust(path, [config.evaluate.features], overrides, trust)
    quiet = quiet or not MAIN
    if finished(out, config):
        if MAIN:
            files, steps = RunFiles(out), config.train.steps
            say(f"{out} is finished, {steps:,} steps; samples: {files.grid(steps)}, curves: {files.curves}")
            say(f"to train it longer: python run_gan.py train {shlex.quote(str(out))} train.steps={2 * steps}")
            if not quiet:
                say_next("evaluate", out)
        return
    if not quiet:
        require_memory_to_train(config, open_device(config.train.device))
        console.print(table(config))
        say(f"run directory: {out}")
    outcome = train_run(config, out, progress=not quiet)
    if outcome is not None:
        say(f"trained for {outcome.step:,} steps; samples: {outcome.grid}, curves: {RunFiles(outcome.directory).curves}")
        if not quiet:
            say_next("evaluate", out)
