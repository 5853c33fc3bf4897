"""`sample`: draw pictures from a trained generator."""

from pathlib import Path
from typing import Annotated

import typer

from cli.common import Device, Overwrite, check_output, say, say_next

UNLIKE = {"resolutions": "dataset.resolution", "lengths of latents": "generator.latent"}
FILES = (".png", ".jpg", ".jpeg", ".npz", ".npy", ".tar", ".gz", ".tgz", ".7z", ".rar")


def sample(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="run directories of `train`, or zoo:NAME; several: side by side")
    ],
    count: Annotated[int, typer.Option(min=1, help="how many images; with --interpolate in rows of ten")] = 64,
    seed: Annotated[int, typer.Option(min=0, help="seed of the latents; image i of a seed is the same whatever the count")] = 0,
    grid: Annotated[
        Path | None, typer.Option(help="write one PNG here; default: in RUN/samples, named after step, seed and count")
    ] = None,
    images: Annotated[Path | None, typer.Option(help="write single PNGs into this directory, or this .zip")] = None,
    interpolate: Annotated[bool, typer.Option("--interpolate", help="each row of the grid walks between two latents")] = False,
    of_class: Annotated[
        str | None,
        typer.Option(
            "--class",
            help="of a conditional run: a class by name or number; several with commas, or `all`, for a grid with a row of each; "
            "with --interpolate two to walk between",
        ),
    ] = None,
    checkpoint: Annotated[str, typer.Option(help="which to draw from: last, best, or a step")] = "last",
    scale: Annotated[
        int | None, typer.Option(min=1, max=32, help="pixels of the grid for each of an image's; default: about 800 in all")
    ] = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Draw pictures from a trained generator: its EMA weights, in eval mode.

    - `sample runs/quickstart` writes one grid.
    - `sample runs/quickstart --count 10000 --images samples.zip` writes single images.
    - `sample runs/c2 runs/c2sp` draws the same latents side by side.
    - `sample runs/mine --class cat,dog --interpolate` walks from cats to dogs, with a latent for each row.
    """
    import torch

    from data.space import require_space
    from gan import sampling, zoo
    from gan.evaluation import checkpoint_steps
    from gan.memory import require_memory
    from gan.randomness import latents
    from gan.run_directory import RunError, RunFiles, read_config
    from metrics.devices import open_device

    if checkpoint == "all":
        raise typer.BadParameter("sample draws from one checkpoint: last, best, or a step")
    if interpolate and images is not None:
        raise typer.BadParameter("--interpolate writes a grid; leave --images out")
    if grid is not None and grid.suffix.lower() != ".png":
        raise typer.BadParameter(f"--grid writes a PNG: name a file such as {grid.stem or 'grid'}.png")
    if images is not None and images.suffix.lower() in FILES:
        raise typer.BadParameter(f"--images writes single PNGs into a directory or a .zip, not into a {images.suffix} file")
    if len(runs) > 1 and images is not None:
        raise typer.BadParameter("--images writes those of one run; leave it out, or name one run")
    check_output(grid, overwrite)
    if images is not None and images.suffix.lower() == ".zip":
        check_output(images, overwrite)
    elif images is not None:
        sampling.require_empty(images)
    if images is not None:
        side = read_config(runs[0]).dataset.resolution
        require_space(images, count * side**2 / 2, f"{count:,} images", "free some, or ask for fewer")
    where = open_device(device)
    trained = []
    for run in runs:
        (step,) = checkpoint_steps(run, checkpoint)
        trained.append(sampling.load_generator(run, step, where))
    first = trained[0]
    for run, other in zip(runs, trained):
        unlike = [what for what, key in UNLIKE.items() if first.config.values()[key] != other.config.values()[key]]
        unlike += ["classes"] if of_class is not None and first.class_names != other.class_names else []
        if unlike:
            raise RunError(
                f"{runs[0]} and {run} have other {unlike[0]}, so no picture of one stands for one of the other; sample each"
            )
    side = first.config.dataset.resolution
    classes = first.classes(of_class) if of_class is not None else []
    if images is not None and len(classes) > 1:
        raise typer.BadParameter("--images writes the images of one class, or without --class those of all: name one")
    if interpolate and len(classes) > 2:
        raise typer.BadParameter("--interpolate walks within a class or between two: name one or two")
    if grid is not None or images is None:
        size = len(runs) * count * 3 * (side * (scale or 1)) ** 2
        require_memory(size, f"a grid of {count:,} images", "use --images, fewer, or a smaller --scale")
    if images is not None:
        written = sampling.save_images(sampling.samples(first.generator, seed, count, of_class=one_of(classes)), images)
        say(f"{written:,} images: {images}")
    if grid is not None or images is None:
        columns = 10 if interpolate else -(-count // len(classes)) if len(classes) > 1 else sampling.square(count)
        drawn = []
        for one in trained:
            if interpolate:
                pictures = sampling.interpolations(one.generator, seed, -(-count // columns), columns, classes)
            elif len(classes) > 1:
                pictures = sampling.by_class(one.generator, latents(seed, 0, columns, one.generator.latent), classes)
            else:
                pictures = torch.cat(list(sampling.samples(one.generator, seed, count, of_class=one_of(classes))))
            drawn.append(sampling.tiled(pictures, columns, 255))
        picture = sampling.beside(drawn)
        kind = ("walk" if interpolate else "seed") + ("_class_" + "-".join(map(str, classes)) if classes else "")
        kind = f"{'walk' if interpolate else 'seed'}_classes" if len(classes) > 20 else kind
        grid = grid or RunFiles(zoo.home(runs[0])).samples / grid_name(first.step, seed, len(pictures), kind, runs[1:], scale)
        sampling.save_picture(picture, grid, scale or sampling.visible_scale(drawn[0].shape[2]))
        steps = " and ".join(dict.fromkeys(f"{one.step:,}" for one in trained))
        say(f"grid of {len(pictures)} images from step {steps}: {grid}")
    say_next("plot" if len(runs) > 1 else "evaluate" if runs[0].is_dir() else "probe", *runs)


def one_of(classes: list[int]) -> int | None:
    """The first class that was named, if any."""
    return classes[0] if classes else None


def grid_name(step: int, seed: int, count: int, kind: str, others: list[Path], scale: int | None) -> str:
    """step_00006000_seed_0_64.png, or another kind than `seed`; behind that other runs, and a scale that was asked for: whatever
    makes another picture makes another name."""
    rest = "".join(f"_{run.resolve().name}" for run in others)[:150] + (f"_x{scale}" if scale else "")
    return f"step_{step:08d}_{kind}_{seed}_{count}{rest}.png"
