"""`plot`: the curves of several runs in one picture."""

import os
from pathlib import Path
from typing import Annotated

import typer

from cli.common import Overwrite, check_output, say, say_next


def plot(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="run directories of `train`, finished or not")],
    out: Annotated[Path, typer.Option(help="the PNG to write")] = Path("curves.png"),
    overwrite: Overwrite = False,
) -> None:
    """Draw losses, logits and the scores taken in training, of several runs, in one picture.

    - `plot runs/c2 runs/c2sp --out kernels.png`
    """
    from data.files import counted
    from gan import checkpoint
    from gan.plots import plot_runs
    from gan.run_directory import RunError, RunFiles, read_config, read_log

    if out.suffix.lower() != ".png":
        raise typer.BadParameter(f"--out is a PNG: name a file such as {out.stem or 'curves'}.png")
    check_output(out, overwrite)
    logs = {}
    for run, name in zip(runs, names(runs)):
        read_config(run)
        if last := RunFiles(run).latest():
            RunFiles(run).require_log(checkpoint.load(last))
        logs[name] = read_log(run)
        if not logs[name]:
            raise RunError(f"{run} has logged nothing yet; train it first")
    plot_runs(logs, out)
    say(f"{counted(len(runs), 'run')}: {out}")
    say_next("sample", *runs)


def names(runs: list[Path]) -> list[str]:
    """What tells the runs apart: the names of their folders, or else their paths below what they share."""
    short = [run.resolve().name for run in runs]
    if len(set(short)) == len(runs):
        return short
    shared = os.path.commonpath([run.resolve().parent for run in runs])
    return [os.path.relpath(run.resolve(), shared) for run in runs]
