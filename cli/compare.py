"""`compare`: train every row of a study with every seed, score them alike, and write one table and one report."""

from pathlib import Path
from typing import Annotated

import typer

from cli.common import Overwrite, Quiet, require_once, say, say_next
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
    seeds: Annotated[
        str | None, typer.Option(help="instead of the file's, such as 0,1,2,3,4: a study grows by naming the old ones and more")
    ] = None,
    until: Annotated[
        str | None, typer.Option(help="add seeds until the half-width of every interval is at most this, such as 10%")
    ] = None,
    max_seeds: Annotated[int | None, typer.Option(min=2, help="with --until: no more seeds than this; default: 20")] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="train nothing: how many seeds and hours intervals of 5, 10 and 20 % take")
    ] = False,
    pilot: Annotated[
        Path | None, typer.Option(help="with --plan: folder of the study whose spread it goes by; default: this study's own")
    ] = None,
    report: Annotated[bool, typer.Option("--report", help="train nothing: table and report of the runs there are")] = False,
    quiet: Quiet = False,
    trust: Trust = False,
    overwrite: Overwrite = False,
) -> None:
    """Train every row of a study with every seed, score them alike, and write one table and one report.

    - `compare configs/studies/kernels_cifar10_cpu.yaml` trains c2 c2sp c3 c4 c4sp c5 with three seeds each.
    - `compare runs/kernels_cifar10_cpu --report` draws the report of what has finished so far.
    - `compare runs/kernels_cifar10_cpu --until 10%` adds seeds until differences are known to ± 10 %.
    - `compare configs/studies/kernels_cifar10.yaml --plan --pilot runs/kernels_cifar10_cpu` says how many that would take.

    The same command again resumes: finished runs are kept, interrupted ones go on. A run that fails or diverges is counted and
    shown.
    """
    from data.files import counted
    from gan.processes import world_size
    from gan.settings import parsed
    from study import run
    from study.analysis import analyse
    from study.folder import StudyFolder
    from study.launch import default_workers, gpus_for
    from study.plan import grown, width_reached
    from study.plan import plan as plan_of
    from study.report import write_report
    from study.study import Study, StudyError
    from study.terminal import in_terminal
    from study.tuning import with_choices

    if world_size() > 1:
        raise StudyError("compare starts the runs itself: start it with python, not with torchrun (WORLD_SIZE is set)")
    _require_together(
        only=only, report=report, plan=plan, pilot=pilot, until=until, export=export, launch=launch, workers=workers,
        launcher=launcher != "here", max_seeds=max_seeds, overwrite=overwrite, seeds=seeds,
    )  # fmt: skip
    most = max_seeds or 20
    wanted = None if until is None else _share("--until", until)
    folder = out or (study if study.is_dir() else Path("runs") / study.stem)
    require_once(settings or [])
    loaded = Study.load(study, settings or [], None if seeds is None else _seeds(seeds)).settled(folder, launcher)
    if plan:
        other = pilot or folder
        if not other.is_dir():
            raise StudyError(f"there is no study in {other} to take a spread from: name a started one with --pilot")
        print(plan_of(loaded, with_choices(Study.load(other), other), other, workers or default_workers(gpus_for(loaded))))
        say_next("compare", study)
        return
    if not report:
        require_trust(study, loaded.features, settings or [], trust)
    require_once(launch or [])
    options = dict(parsed(option) for option in launch or [])
    failed = []
    with run.disk_errors(folder):
        if only:
            say(f"{only}: {run.outcome(run.run_one(loaded, folder, only))}")
            say_next("compare", folder)
            return
        if report:
            write_report(loaded, folder)
        else:
            _, failed = run.compare(loaded, folder, workers, launcher, options, say, progress=not quiet)
            while wanted and not failed and (more := grown(loaded, folder, wanted, most)):
                loaded = more
                say(f"{counted(len(loaded.seeds), 'seed')} for intervals of ± {100 * wanted:g} %")
                _, failed = run.compare(loaded, folder, workers, launcher, options, say, progress=not quiet)
    loaded = with_choices(loaded, folder)
    compared = any(map(loaded.partner, loaded.rows))
    if wanted and not failed:
        analysis = analyse(loaded, StudyFolder(folder))
        reached, without = width_reached(loaded, analysis)
        said = "no interval can be had" if reached is None else f"the widest interval is ± {100 * reached:.2g} %"
        seeds_there = len(loaded.seeds)
        said += f" with {counted(seeds_there, 'seed')}"
        if (reached is None or reached > wanted) and seeds_there >= most:
            said += f", {'as many as' if seeds_there == most else 'more than'} --max-seeds {most} allows"
        elif reached is not None and reached > wanted and any(group.images for group in analysis.groups.values()):
            said += ": for less, whatever the seeds, there are too few test images"
        say(said + (f"; none can be had for {', '.join(without)}" if without and reached is not None else ""))
    if not quiet:
        print(in_terminal(loaded, folder))
    say(f"table: {folder / 'table.md'}, report: {folder / 'report.html'}")
    if export:
        with run.disk_errors(export):
            count = StudyFolder(folder).export(loaded, export, overwrite)
        say(f"{counted(count, 'run')} without their weights: {export}")
    if not quiet:
        unfinished = not all(StudyFolder(folder).done(loaded, job) for job in loaded.jobs)
        if failed or unfinished:
            say_next("compare", folder)
        elif not until and compared:
            say_next("compare", folder, "--until", "10%")
        elif not export:
            say_next("compare", folder, "--report", "--export", Path("results") / folder.name)
    if failed:
        raise typer.Exit(1)


def _require_together(**options: object) -> None:
    """Refuse options of which one would be left unread."""
    given = {name: bool(value) for name, value in options.items()}
    grows = ("max_seeds", "launch")
    alone = {  # each does one thing and ends: what of the others would be left unread
        "only": ("trains one run here", ("report", "plan", "until", "export", "pilot", "launcher", "workers", "overwrite", *grows)),
        "plan": ("prints a plan", ("report", "until", "export", "launcher", "overwrite", "seeds", *grows)),
        "report": ("trains nothing", ("until", "launcher", "workers", *grows)),
    }
    for name, (what, others) in alone.items():
        for other in others:
            if given[name] and given[other]:
                raise typer.BadParameter(f"--{name} {what} and ends: leave --{other.replace('_', '-')} out")
    needed = {  # what an option says something about
        "pilot": ("plan", "names the study that --plan goes by"), "launch": ("launcher", "is for submitit"),
        "max_seeds": ("until", "ends what --until begins"), "overwrite": ("export", "replaces what --export finds"),
    }  # fmt: skip
    for name, (other, what) in needed.items():
        if given[name] and not given[other]:
            add = "--launcher slurm or submitit" if other == "launcher" else f"--{other}"
            raise typer.BadParameter(f"--{name.replace('_', '-')} {what}: add {add}, or leave it out")


def _seeds(text: str) -> list[int]:
    """'0,1,2' -> [0, 1, 2]."""
    from study.study import StudyError

    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise StudyError(f"--seeds takes whole numbers with commas between, such as 0,1,2,3,4, not {text!r}")
    return list(map(int, parts))


def _share(option: str, text: str) -> float:
    """'10%' -> 0.1."""
    from study.study import StudyError

    number = text.strip().removesuffix("%").strip()
    try:
        share = float(number) / 100
    except ValueError:
        share = 0.0
    if not (text.strip().endswith("%") and 0 < share < 10):
        raise StudyError(f"{option} takes a percentage, such as 10%, not {text!r}")
    return share
