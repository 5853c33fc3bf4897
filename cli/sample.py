"""`sample`: draw pictures from a trained generator."""

from pathlib import Path
from typing import Annotated

import typer

from cli.common import Device, Overwrite, Run, check_output, say, say_next

FILES = (".png", ".jpg", ".jpeg", ".npz", ".npy", ".tar", ".gz", ".tgz", ".7z", ".rar")


def sample(
    run: Run,
    count: Annotated[int, typer.Option(min=1, help="how many images; with --interpolate in rows of ten")] = 64,
    seed: Annotated[int, typer.Option(min=0, help="seed of the latents; image i of a seed is the same whatever the count")] = 0,
    grid: Annotated[Path | None, typer.Option(help="write one PNG here; default: RUN/samples/seed_N.png")] = None,
    images: Annotated[Path | None, typer.Option(help="write single PNGs into this directory, or this .zip")] = None,
    interpolate: Annotated[bool, typer.Option("--interpolate", help="each row of the grid walks between two latents")] = False,
    checkpoint: Annotated[str, typer.Option(help="which to draw from: last, best, or a step")] = "last",
    device: Device = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Draw pictures from a trained generator: its EMA weights, in eval mode.

    - `sample runs/quickstart` writes one grid.
    - `sample runs/quickstart --count 10000 --images samples.zip` writes single images.
    """
    import torch

    from gan import sampling, zoo
    from gan.evaluation import checkpoint_steps
    from gan.memory import require_memory
    from gan.run_directory import RunFiles
    from metrics.devices import open_device

    if checkpoint == "all":
        raise typer.BadParameter("sample draws from one checkpoint: last, best, or a step")
    if interpolate and images is not None:
        raise typer.BadParameter("--interpolate writes a grid; leave --images out")
    if grid is not None and grid.suffix.lower() != ".png":
        raise typer.BadParameter(f"--grid writes a PNG: name a file such as {grid.stem or 'grid'}.png")
    if images is not None and images.suffix.lower() in FILES:
        raise typer.BadParameter(f"--images writes single PNGs into a directory or a .zip, not into a {images.suffix} file")
    check_output(grid, overwrite)
    if images is not None and images.suffix.lower() == ".zip":
        check_output(images, overwrite)
    elif images is not None:
        sampling.require_empty(images)
    (step,) = checkpoint_steps(run, checkpoint)
    trained = sampling.load_generator(run, step, open_device(device))
    if grid is not None or images is None:
        require_memory(count * 3 * trained.config.dataset.resolution**2, f"a grid of {count:,} images", "use --images, or fewer")
    if images is not None:
        written = sampling.save_images(sampling.samples(trained.generator, seed, count), images)
        say(f"{written:,} images: {images}")
    if grid is not None or images is None:
        columns = None
        if interpolate:
            columns = 10
            pictures = sampling.interpolations(trained.generator, seed, -(-count // columns), columns)
        else:
            pictures = torch.cat(list(sampling.samples(trained.generator, seed, count)))
        grid = grid or RunFiles(zoo.home(run)).samples / f"{'walk' if interpolate else 'seed'}_{seed}.png"
        sampling.save_grid(pictures, grid, columns)
        say(f"grid of {len(pictures)} images from step {trained.step:,}: {grid}")
    say_next("evaluate", run)
