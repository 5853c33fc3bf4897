"""`compare`: train every row of a study with every seed, score them alike, and write one table and one report."""

import os
from pathlib import Path
from typing import Annotated

import typer

from cli.common import Quiet, say


def compare(
    study: Annotated[
        Path, typer.Argument(help="a study file, such as configs/studies/kernels_cifar10.yaml, or a started study's folder")
    ],
    settings: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="settings for all rows")] = None,
    out: Annotated[Path | None, typer.Option(help="folder of the study; default: runs/, named after the file")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="runs at once; default: one per GPU, or one per core")] = None,
    launcher: Annotated[
        str, typer.Option(help="here, slurm, or submitit (its local executor, to try it without a cluster)")
    ] = "here",
    launch: Annotated[list[str] | None, typer.Option(help="KEY=VALUE for submitit, such as slurm_partition=gpu")] = None,
    only: Annotated[str | None, typer.Option(help="do one run, ROW/seed_N, in this process; how the launchers start each")] = None,
    export: Annotated[
        Path | None,
        typer.Option(help="copy report and finished runs, without weights, to this folder, which can be gone on with"),
    ] = None,
    report: Annotated[bool, typer.Option("--report", help="train nothing: table and report of what is there")] = False,
    quiet: Quiet = False,
) -> None:
    """Train every row of a study with every seed, score them alike, and write one table and one report.

    - `compare configs/studies/kernels_cifar10_cpu.yaml` trains c2 c2sp c3 c4 c4sp c5 with three seeds each.
    - `compare runs/kernels_cifar10_cpu --report` draws the report of what has finished so far.

    The same command again goes on: finished runs are kept, interrupted ones resumed. A run that fails or diverges is counted and
    shown.
    """
    from study.costs import measure_costs
    from study.folder import StudyFolder
    from study.report import write_report
    from study.run import locked, nothing_lost, run_all, run_one, terminated_as_interrupt
    from study.study import StudyError, load_study, settle_precision, value_of

    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise StudyError("compare starts the runs itself: start it with python, not with torchrun (WORLD_SIZE is set)")
    loaded = load_study(study, settings or [])
    folder = out or (study if study.is_dir() else Path("runs") / study.stem)
    loaded = settle_precision(loaded, folder, launcher)
    options = dict(value_of(option) for option in launch or [])
    with nothing_lost(folder):
        if only:
            run_one(loaded, folder, only)
            return
        if report:
            failed, table = [], write_report(loaded, folder)
        else:
            with locked(folder), terminated_as_interrupt(launcher):
                failed = run_all(loaded, folder, workers, launcher, options, say, progress=not quiet)
                table = write_report(loaded, folder)
                if launcher == "here" and measure_costs(loaded, folder, say):  # elsewhere, this machine isn't theirs
                    table = write_report(loaded, folder)
    if not quiet:
        print(table)
    say(f"table: {folder / 'table.md'}, report: {folder / 'report.html'}")
    if export:
        with nothing_lost(export):
            count = StudyFolder(folder).export(loaded, export)
        say(f"{count} runs without their weights: {export}")
    if failed:
        raise typer.Exit(1)
