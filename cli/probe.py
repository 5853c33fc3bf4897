"""`probe`: measure what a generator does to position, borders and high frequencies."""

from pathlib import Path
from typing import Annotated

import typer

from cli.common import Device, Overwrite, check_output, console, say, say_next, split_arguments


def probe(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RUN | CONFIG] [KEY=VALUE]...", help="a run or zoo:NAME; or a YAML file and settings to change"),
    ] = None,
    checkpoint: Annotated[str, typer.Option(help="of a run, which to measure: last, best, or a step")] = "last",
    samples: Annotated[int, typer.Option(min=16, help="how many generated images, and as many real ones")] = 1000,
    seeds: Annotated[
        int, typer.Option(min=1, help="how many seeds: of a run, of the latents; of a config, of the initial weights too")
    ] = 1,
    seed: Annotated[int, typer.Option(min=0, help="the first seed")] = 0,
    real: Annotated[
        str | None, typer.Option(help="real images, named as for `fid`, or none; default: the data set of the run or config")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="where to write the numbers; default: RUN/probe.json, of a config nowhere")
    ] = None,
    figure: Annotated[
        Path | None, typer.Option(help="where to draw the figure, a PNG; default: RUN/probe.png, of a config nowhere")
    ] = None,
    details: Annotated[bool, typer.Option("--details", help="print every number and every layer, too")] = False,
    device: Device = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Measure a generator's half-pixel drift, erosion at the borders and checkerboards, compared with real images, in seconds.

    - `probe runs/quickstart` measures a run and writes RUN/probe.json and RUN/probe.png.
    - `probe configs/cifar10/dcgan.yaml generator.kernel=c3 --seeds 3` measures the untrained networks of a config.

    It prints a verdict on position, checkerboards and borders.
    docs/instruments.md says what each number means, and what it can't tell.
    """
    from data import DataError
    from data.waiting import progress
    from gan import zoo
    from gan.config import Config
    from gan.evaluation import checkpoint_steps, open_side, require_there
    from gan.memory import require_memory
    from gan.models.build import resolve
    from gan.probe import measure, write_record
    from gan.probe.figure import draw_probe
    from gan.probe.inputs import halves, real_images
    from gan.probe.table import tables
    from gan.probe.verdict import verdicts
    from gan.run_directory import RunError, RunFiles, read_config
    from metrics.devices import open_device

    named = arguments[0] if arguments else ""
    run = Path(named) if named and (Path(named).is_dir() or zoo.file_of(named)) else None
    if named and not run and not Path(named).exists() and "=" not in named and not named.endswith((".yaml", ".yml")):
        raise RunError(f"there is no run directory {named}, and it names no YAML file")
    if run and len(arguments) > 1:
        raise typer.BadParameter(f"the settings of a run are fixed; leave out {' '.join(arguments[1:])}, or name a CONFIG")
    if checkpoint == "all" or (run is None and checkpoint != "last"):
        raise typer.BadParameter("--checkpoint is last, best, or a step, and of a run")
    check_output(json_file, overwrite)
    check_output(figure, overwrite)
    if run:
        config, target = read_config(run), run
        (step,) = checkpoint_steps(run, checkpoint)
        files = RunFiles(zoo.home(run))
        json_file, figure = json_file or files.probe, figure or files.probe_figure
    else:
        config = target = resolve(Config.load(*split_arguments(arguments)))
        step = None
    require_memory(samples * 3 * config.dataset.resolution**2, f"a measurement of {samples:,} images", "use fewer --samples")
    where = open_device(device)
    check_output(json_file)
    check_output(figure)
    images = None
    if real and real != "none":
        require_there(real)
        images = halves(open_side(real, seed=seed), samples, seed)
    elif real is None:
        try:
            images = real_images(config, samples, seed)
        except DataError as error:
            say(f"warning: measured without real images, for {error}", "yellow")
    with progress("images", seeds * samples, "probing") as advance:
        which = range(seed, seed + seeds)
        found = measure(target, step=step, samples=samples, seeds=which, real=images, device=where, progress=advance)
    if json_file:  # before anything that might go wrong
        write_record(found.record, json_file)
    for line in verdicts(found.record):
        say(line)
    for table in tables(found.record) if details else ():
        console.print(table)
    if json_file:
        say(f"all numbers with their card: {json_file} (--details prints them)")
    if figure:
        draw_probe(found, figure)
        say(f"figure: {figure}")
    say_next("compare", "configs/studies/kernels_shapes.yaml")
