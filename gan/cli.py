"""The command line: `train`, `sample`, `fid` and `evaluate`. What a user can cause ends in one sentence and a non-zero exit."""

import contextlib
import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

# PyTorch takes seconds to import: the commands do it themselves, so that --help need not wait.

QUICKSTART = Path(__file__).parent.parent / "configs" / "quickstart.yaml"

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False)
console = Console(stderr=True, highlight=False)
MAIN = os.environ.get("RANK", "0") == "0"  # under torchrun, one process speaks for all


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
    quiet = quiet or not MAIN
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
    checkpoint: Annotated[str, typer.Option(help="last, best, or a step")] = "last",
    device: Annotated[str, typer.Option(help="cpu, cuda or auto")] = "auto",
) -> None:
    """Draw pictures from a trained generator: its EMA weights, in eval mode.

    - `sample runs/quickstart` writes one grid.
    - `sample runs/quickstart --count 10000 --images samples.zip` writes single images.
    """
    import torch

    from gan import sampling
    from gan.evaluation import checkpoint_steps

    if checkpoint == "all":
        raise typer.BadParameter("sample draws from one checkpoint: last, best, or a step")
    if interpolate and images is not None:
        raise typer.BadParameter("--interpolate writes a grid; leave --images out")
    (step,) = checkpoint_steps(run, checkpoint)
    trained = sampling.load_generator(run, step, _device(device))
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


Features = Annotated[str, typer.Option(help="efficientnet_lite0, inception, or module:package.function")]
Weights = Annotated[Path | None, typer.Option(help="a file of weights for the features, checked by its sha256")]
Insist = Annotated[bool, typer.Option("--insist", help="take unknown weights; the scores then carry another name")]
Resize = Annotated[str | None, typer.Option(help="pytorch_fid, tf1 or clean; default: the features' own")]
Precision = Annotated[str, typer.Option(help="of the features: fp32 or bf16")]
Device = Annotated[str, typer.Option(help="cpu, cuda or auto")]


@app.command()
def fid(
    real: Annotated[str, typer.Argument(help="the reference: folder, .zip, .npz, run, or cifar10[:test], cifar100, shapes")],
    generated: Annotated[str, typer.Argument(help="what is scored, of the same kinds")],
    scores: Annotated[str, typer.Option(help="of fid, is, kid, pr, dc, interval, infinity; commas between")] = "fid",
    count: Annotated[int | None, typer.Option(min=2, help="generated images; default: all there are, 10,000 of a run")] = None,
    real_count: Annotated[int | None, typer.Option(min=2, help="reference images; default: all")] = None,
    protocol: Annotated[
        str | None, typer.Option(help="sn, mimicry or landscape: published counts and splits of a data set")
    ] = None,
    floor: Annotated[bool, typer.Option(help="also the distance between two halves of the reference")] = False,
    save_statistics: Annotated[Path | None, typer.Option(help="write the reference's mean and covariance as .npz")] = None,
    features: Features = "efficientnet_lite0",
    weights: Weights = None,
    insist: Insist = False,
    resize: Resize = None,
    precision: Precision = "fp32",
    seed: Annotated[int, typer.Option(min=0, help="of latents, choices of images, subsets")] = 0,
    device: Device = "auto",
    json_file: Annotated[Path | None, typer.Option("--json", help="write the scores with their cards here")] = None,
) -> None:
    """Score generated images against real ones.

    - `fid cifar10:test runs/mine` scores 10,000 images of a run.
    - `fid real.npz samples.zip --features inception --weights pt_inception-2015-12-05-6726825d.pth` is *the* FID.

    Only the 2015 Inception network gives `fid` and `inception_score`; other features give `fd_<name>` and `score_<name>`.
    """
    import json

    from gan.evaluation import apply_protocol, open_side
    from metrics import scoring
    from metrics.features import open_extractor

    device = _device(device)
    extractor = open_extractor(features, weights, resize, precision, device=device, insist=insist)
    if protocol:
        real, real_count, count = apply_protocol(protocol, real)
    a = open_side(real, real_count, seed, device=device)
    b = open_side(generated, count, seed, device=device, shuffle=True)
    with _progress("images") as advance:
        found, warnings = scoring.score(extractor, a, b, scores.split(","), seed, progress=advance)
        if floor:
            distance, half = scoring.floor(extractor, a, progress=advance)
        if save_statistics:
            scoring.reference_statistics(extractor, a).save(save_statistics)
    _print_scores({None: found}, warnings)
    if floor:
        say(f"floor: {extractor.score_name('fid')} between two halves of the reference ({half:,} images each) is {distance:.3f}")
    if json_file:
        json_file.write_text(json.dumps([s.to_dict() for s in found], indent=2) + "\n")
        say(f"scores with their cards: {json_file}")


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(help="a run directory of `train`")],
    checkpoint: Annotated[str, typer.Option(help="last, best, all, or a step")] = "last",
    real: Annotated[str | None, typer.Option(help="the reference, as for `fid`; default: the run's own training images")] = None,
    scores: Annotated[str, typer.Option(help="as for `fid`")] = "fid,is",
    count: Annotated[int, typer.Option(min=20, help="generated images")] = 10_000,
    real_count: Annotated[int | None, typer.Option(min=2, help="reference images; default: all")] = None,
    features: Features = "efficientnet_lite0",
    weights: Weights = None,
    insist: Insist = False,
    resize: Resize = None,
    precision: Precision = "fp32",
    seed: Annotated[int, typer.Option(min=0, help="of latents")] = 0,
    device: Device = "auto",
) -> None:
    """Score a run's generator and write RUN/scores.json; `--checkpoint all` also draws the scores over training."""
    from gan import report
    from gan.config import load_config
    from gan.evaluation import checkpoint_steps, evaluate_run, open_side, reference_of
    from metrics.features import open_extractor

    device = _device(device)
    steps = checkpoint_steps(run, checkpoint)
    extractor = open_extractor(features, weights, resize, precision, device=device, insist=insist)
    config = load_config(run / "config.yaml")
    side = open_side(real, real_count, seed, device=device) if real else reference_of(config, count=real_count, seed=seed)
    with _progress("images") as advance:
        found, warnings = evaluate_run(run, extractor, side, count, seed, scores.split(","), steps, device, advance)
    _print_scores(found, warnings)
    say(f"scores with their cards: {run / 'scores.json'}")
    if len(found) > 1:
        report.plot_scores({step: {s.name: s.value for s in values} for step, values in found.items()}, run / "scores.png")
        say(f"scores over training: {run / 'scores.png'}")


def _print_scores(found: dict, warnings: list[str]) -> None:
    """A table of scores, and below it the card they share."""
    from rich.table import Table

    rows = Table(title_justify="left")
    for heading in ("step", "score", "value", "spread"):
        rows.add_column(heading, justify="left" if heading == "score" else "right")
    for step, scores in found.items():
        for s in scores:
            spread = f"± {s.spread:.3g} ({s.spread_of})" if s.spread is not None else ""
            spread += f", 95 %: {s.interval[0]:.2f} to {s.interval[1]:.2f}" if s.interval else ""
            rows.add_row("" if step is None else f"{step:,}", s.name, f"{s.value:.4g}", spread)
    console.print(rows)
    card = scores[0].card
    say(
        f"{card.generated} ({card.generated_count or '?'} images) against {card.real} ({card.real_count or '?'} images); "
        f"features {card.features} {card.weights_sha256[:8]} at {card.input_size} px, resize {card.resize}, {card.precision}"
    )
    for warning in warnings:
        say(f"warning: {warning}", "yellow")


@contextlib.contextmanager
def _progress(unit: str):
    """A bar of unknown length on stderr; gives the function that advances it."""
    from tqdm import tqdm

    with tqdm(unit=unit, unit_scale=True, leave=False, disable=None) as bar:
        yield bar.update


def _device(device: str) -> str:
    if device != "auto":
        return device
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def say(text: str, style: str | None = None) -> None:
    """One line to stderr. No markup: paths may hold brackets."""
    console.print(text, style=style, markup=False, soft_wrap=True)


def _split(arguments: list[str]) -> tuple[Path, list[str]]:
    """[CONFIG] [KEY=VALUE]... -> the file and the overrides."""
    settings = [a for a in arguments if "=" in a and not a.endswith((".yaml", ".yml"))]
    files = [a for a in arguments if a not in settings]
    if len(files) > 1 or (files and files[0] != arguments[0]):
        raise typer.BadParameter(f"expected one CONFIG and then KEY=VALUE settings, got: {' '.join(arguments)}")
    return (Path(files[0]) if files else QUICKSTART), settings


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
        from gan.training import Diverged, Interrupted

        if isinstance(error, Interrupted):
            if MAIN:
                say(str(error), "yellow")
            sys.exit(128 + error.signum)
        if not isinstance(error, _expected()):
            raise
        if MAIN or not isinstance(error, Diverged):
            say(f"error: {error}", "red")
        sys.exit(1)


def _expected() -> tuple[type[Exception], ...]:
    """What a user can cause: each message says what is wrong and what to do."""
    from data import DataError
    from gan.checkpoint import CheckpointError
    from gan.config import ConfigError
    from gan.run_directory import RunError
    from gan.training import Diverged
    from metrics.features import FeatureError
    from metrics.protocol import ProtocolError
    from metrics.statistics import StatisticsError

    scores = FeatureError, ProtocolError, StatisticsError
    return *scores, ConfigError, DataError, RunError, CheckpointError, Diverged, OSError
