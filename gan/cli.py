"""The command line: `train` and `sample`. Every error a user can cause ends in one sentence and a non-zero exit."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

# PyTorch takes seconds to import: the commands do it themselves, so that --help need not wait.

QUICKSTART = Path(__file__).parent.parent / "configs" / "quickstart.yaml"

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False)
console = Console(stderr=True, highlight=False)


@app.callback()
def about() -> None:
    """Does this convolution kernel make a better GAN?

    Train DCGAN, CNN, SNGAN, WGAN-GP and GAN-Landscape generators with kernels c2 c2sp c3 c3sp c4 c4sp c5 c5sp, and draw from them.
    """


@app.command()
def train(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="[CONFIG] [KEY=VALUE]...", help="a YAML file (default: the quickstart), and settings to change"),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="run directory; default: runs/, named after the config and the changes")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="no table and no progress bar")] = False,
) -> None:
    """Train a GAN, or go on with an interrupted run.

    - `train` learns generated shapes in a few minutes on a laptop.
    - `train configs/cifar10/sngan.yaml generator.kernel=c2sp train.seed=1` trains SNGAN with 2x2 kernels and symmetric padding.

    The same command again resumes where the run stopped, bit for bit; with other settings it refuses and shows the difference.
    Several GPUs: `torchrun --nproc-per-node 8 run_gan.py train ...`.
    """
    from gan.config import load_config
    from gan.models import resolve
    from gan.models.summary import table
    from gan.training import train as train_run

    path, overrides = _split(arguments or [])
    config = resolve(load_config(path, overrides))
    out = out or Path("runs") / _name(path, overrides)
    if not quiet:
        console.print(table(config))
        say(f"run directory: {out}")
    outcome = train_run(config, out, progress=not quiet)
    if outcome is not None:
        curves = outcome.directory / "curves.png"
        say(f"trained for {outcome.step:,} steps; samples: {outcome.grid}, curves: {curves}")


@app.command()
def sample(
    run: Annotated[Path, typer.Argument(help="a run directory of `train`")],
    count: Annotated[int, typer.Option(min=1, help="how many images")] = 64,
    seed: Annotated[int, typer.Option(min=0, help="latents; image i of a seed is the same whatever the count")] = 0,
    grid: Annotated[Path | None, typer.Option(help="write one PNG here; default: RUN/samples/seed_N.png")] = None,
    images: Annotated[Path | None, typer.Option(help="write single PNGs into this directory, or this .zip")] = None,
    interpolate: Annotated[bool, typer.Option("--interpolate", help="each row of the grid walks between two latents")] = False,
    checkpoint: Annotated[int | None, typer.Option(help="step to draw from; default: the last saved")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or auto")] = "auto",
) -> None:
    """Draw pictures from a trained generator: its EMA weights, in eval mode.

    - `sample runs/quickstart` writes one grid.
    - `sample runs/quickstart --count 10000 --images samples.zip` writes single images.
    """
    import torch

    from gan import sampling

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    trained = sampling.load_generator(run, checkpoint, device)
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
        grid = grid or run / "samples" / f"{'walk' if interpolate else 'seed'}_{seed}.png"
        sampling.save_grid(pictures, grid, columns)
        say(f"grid of {len(pictures)} images from step {trained.step:,}: {grid}")


def say(text: str, style: str | None = None) -> None:
    """One line to stderr. No markup: paths may hold brackets."""
    console.print(text, style=style, markup=False, soft_wrap=True)


def _split(arguments: list[str]) -> tuple[Path, list[str]]:
    """[CONFIG] [KEY=VALUE]... -> the file and the overrides."""
    files = [a for a in arguments if "=" not in a]
    if len(files) > 1 or (files and files[0] != arguments[0]):
        raise typer.BadParameter(f"expected one CONFIG and then KEY=VALUE settings, got: {' '.join(arguments)}")
    return (Path(files[0]) if files else QUICKSTART), [a for a in arguments if "=" in a]


def _name(path: Path, overrides: list[str]) -> str:
    """A directory name that the same command always gets: cifar10-sngan_kernel=c2sp_seed=1."""
    stem = path.stem if path.parent.name in ("configs", "") else f"{path.parent.name}-{path.stem}"
    short = [o if o.startswith("discriminator.") else o.split(".", 1)[-1] for o in sorted(overrides)]
    changes = ["".join(c if c.isalnum() or c in "=.-" else "-" for c in o) for o in short]
    return "_".join([stem, *changes])


def main() -> None:
    try:
        app()
    except Exception as error:
        from gan.training import Interrupted

        if isinstance(error, Interrupted):
            say(str(error), "yellow")
            sys.exit(128 + error.signum)
        if not isinstance(error, _expected()):
            raise
        say(f"error: {error}", "red")
        sys.exit(1)


def _expected() -> tuple[type[Exception], ...]:
    """What a user can cause: each message says what is wrong and what to do."""
    from data import DataError
    from gan.checkpoint import CheckpointError
    from gan.config import ConfigError
    from gan.run_directory import RunError
    from gan.training import Diverged

    return ConfigError, DataError, RunError, CheckpointError, Diverged, OSError
