"""`compare`: train every row of a study with every seed, score them alike, and write one table and one report."""

from pathlib import Path
from typing import Annotated

import typer

from cli.common import Overwrite, Quiet, require_once, say
from cli.trust import Trust, require_trust


def compare(
    study: Annotated[
        Path, typer.Argument(help="a study file, such as configs/studies/kernels_cifar10.yaml, or a started study's folder")
    ],
    settings: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="settings for all rows; scoring.KEY=VALUE: how they are scored"),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="folder of the study; default: runs/, named after the file")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="runs trained at once; default: one per GPU, or one per core")] = None,
    launcher: Annotated[
        str, typer.Option(help="where the runs train: here, slurm (a job each), or submitit (its local executor, to try that)")
    ] = "here",
    launch: Annotated[list[str] | None, typer.Option(help="KEY=VALUE for submitit, such as slurm_partition=gpu")] = None,
    only: Annotated[str | None, typer.Option(help="train and score one run, ROW/seed_N, in this process")] = None,
    export: Annotated[
        Path | None, typer.Option(help="copy report, records and samples, no weights, to this folder; compare goes on from it")
    ] = None,
    report: Annotated[bool, typer.Option("--report", help="train nothing: table and report of the runs there are")] = False,
    quiet: Quiet = False,
    trust: Trust = False,
    overwrite: Overwrite = False,
) -> None:
    """Train every row of a study with every seed, score them alike, and write one table and one report.

    - `compare configs/studies/kernels_cifar10_cpu.yaml` trains c2 c2sp c3 c4 c4sp c5 with three seeds each.
    - `compare runs/kernels_cifar10_cpu --report` draws the report of what has finished so far.

    The same command again goes on: finished runs are kept, interrupted ones resumed. A run that fails or diverges is counted and
    shown.
    """
    from gan.config import parsed
    from gan.processes import world_size
    from study import run
    from study.folder import StudyFolder
    from study.report import write_report
    from study.study import Study, StudyError

    if world_size() > 1:
        raise StudyError("compare starts the runs itself: start it with python, not with torchrun (WORLD_SIZE is set)")
    folder = out or (study if study.is_dir() else Path("runs") / study.stem)
    require_once(settings or [])
    loaded = Study.load(study, settings or []).settled(folder, launcher)
    if not report:
        require_trust(study, loaded.features, settings or [], trust)
    options = dict(parsed(option) for option in launch or [])
    failed = []
    with run.disk_errors(folder):
        if only:
            run.run_one(loaded, folder, only)
            return
        if report:
            table = write_report(loaded, folder)
        else:
            table, failed = run.compare(loaded, folder, workers, launcher, options, say, progress=not quiet)
    if not quiet:
        print(table)
    say(f"table: {folder / 'table.md'}, report: {folder / 'report.html'}")
    if export:
        with run.disk_errors(export):
            count = StudyFolder(folder).export(loaded, export, overwrite)
        say(f"{count} runs without their weights: {export}")
    if failed:
        raise typer.Exit(1)
