"""Shared by the commands: common options, a run's default directory, checks of output files, and printing."""

import errno
import hashlib
import os
import shlex
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from data.files import UserError, is_special, printable, reason
from data.notes import speaks

LONG = 60  # letters of a run's name
QUICKSTART = Path(__file__).parents[1] / "configs" / "quickstart.yaml"

# What is shown may hold names of files and classes, which are no markup: [bold] and :smile: stay as they are.
console = Console(stderr=True, highlight=False, markup=False, emoji=False)
MAIN = speaks()  # under torchrun, one process speaks for all

# --- options -----------------------------------------------------------------------------------------------------------------

Settings = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[CONFIG | RUN] [KEY=VALUE]...",
        help="a YAML file (default: the quickstart) or a run to resume, and settings to change",
    ),
]
Run = Annotated[Path, typer.Argument(help="a run directory of `train`; `sample`, `fid`, `probe` and `export` take zoo:NAME too")]
Device = Annotated[str, typer.Option(help="cpu, cuda or auto")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="print no table and no progress bar")]

Scores = Annotated[
    str,
    typer.Option(
        help="one or more, with commas: fid, is, kid, pr, dc, interval, infinity, intra; or all; docs/scores.md explains them"
    ),
]
RealCount = Annotated[int | None, typer.Option(min=2, help="how many reference images; default: all")]
Features = Annotated[
    str,
    typer.Option(
        help="network that gives the features: efficientnet_lite0, inception, dinov2, cifar_resnet, or module:package.function"
    ),
]
Weights = Annotated[Path | None, typer.Option(help="file with the weights of that network, checked by its sha256")]
Insist = Annotated[
    bool,
    typer.Option("--insist", help="take weights with an unknown sha256; the names of the scores then carry its first 8 digits"),
]
Resize = Annotated[
    str | None,
    typer.Option(help="how images are resized for that network: pytorch_fid, tf1, clean or pillow; default: its own way"),
]
Precision = Annotated[
    str, typer.Option(help="of that network: fp32, bf16, or auto (bf16 where the device multiplies it natively, else fp32)")
]
Seed = Annotated[int, typer.Option(min=0, help="seed of the latents, of the choice of images and of subsets")]


Overwrite = Annotated[bool, typer.Option("--overwrite", help="replace files that exist; without it they are kept")]


def check_output(path: Path | None, overwrite: bool = True) -> None:
    """RunError for a file that can't be written, before the work and not after it. Its directory is made.

    overwrite: whether the file may be replaced; if not, one that exists is refused too.
    """
    if path is None:
        return
    from gan.run_directory import RunError

    if is_special(path) and os.access(path, os.W_OK):
        return
    if not overwrite and path.is_file():
        raise RunError(f"{path} exists: name another, or say --overwrite to replace it")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not path.exists():
            tempfile.TemporaryFile(dir=path.parent).close()
        elif not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise RunError(f"{path} can't be written ({reason(error)}): choose another") from None


def split_arguments(arguments: list[str] | None, default: Path = QUICKSTART) -> tuple[Path, list[str]]:
    """[CONFIG] [KEY=VALUE]... -> the file and the overrides. typer.BadParameter for another order."""
    arguments = arguments or []
    settings = [a for a in arguments if "=" in a and not a.endswith((".yaml", ".yml")) and not _is_run(a)]
    files = [a for a in arguments if a not in settings]
    if len(files) > 1 or (files and files[0] != arguments[0]):
        raise typer.BadParameter(f"expected one CONFIG and then KEY=VALUE settings, got: {' '.join(arguments)}")
    require_once(settings)
    return (Path(files[0]) if files else default), settings


def _is_run(text: str) -> bool:
    return (Path(text) / "config.yaml").is_file()


def open_settings(arguments: list[str] | None, out: Path | None, kind, default: Path = QUICKSTART):
    """What `[CONFIG | RUN] [KEY=VALUE]...` and --out ask for: the settings, the file they stand in, the changes, the run directory.

    kind: the Config of the command. UserError or typer.BadParameter for what can't be.
    """
    from gan.run_directory import RunFiles, read_config

    path, overrides = split_arguments(arguments, default)
    if not path.is_dir():
        return kind.load(path, overrides), path, overrides, out or default_run(path, overrides)
    read_config(path, kind)  # says in one sentence what is wrong with it
    if out is not None and out.resolve() != path.resolve():
        raise typer.BadParameter(f"{path} is a run, which goes on where it is: leave out --out {out}, or name a CONFIG")
    file = RunFiles(path).settings_file
    return kind.load_saved(file, overrides), file, overrides, path


def require_once(settings: list[str]) -> None:
    """UserError for a key that is set twice."""
    keys = [setting.partition("=")[0] for setting in settings]
    if twice := [key for key in keys if keys.count(key) > 1]:
        given = " and ".join(setting for setting in settings if setting.startswith(f"{twice[0]}="))
        raise UserError(f"{twice[0]} is set more than once ({given}): leave one of them")


def default_run(path: Path, overrides: list[str]) -> Path:
    """Where a run lies that nobody named: in runs/, and where an earlier version put it if it did, by a name with `=` in it."""
    former = Path("runs") / _named(path, overrides)
    return former if _is_run(str(former)) else Path("runs") / run_name(path, overrides)


def run_name(path: Path, overrides: list[str]) -> str:
    """A directory name that the same command always gets: cifar10-sngan_kernel-c2sp_seed-1.

    The end of one that would be longer than LONG letters is a hash of all of it.
    """
    name = _named(path, overrides).replace("=", "-")
    return name if len(name) <= LONG else f"{name[: LONG - 9]}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _named(path: Path, overrides: list[str]) -> str:
    stem = path.stem if path.parent.name in ("configs", "") else f"{path.parent.name}-{path.stem}"
    short = [o if o.startswith("discriminator.") else o.split(".", 1)[-1] for o in sorted(overrides)]
    changes = ["".join(c if c.isalnum() or c in "=.-" else "-" for c in o) for o in short]
    return "_".join([stem, *changes])


# --- what is shown -----------------------------------------------------------------------------------------------------------


def say(text: str, style: str | None = None) -> None:
    """One line to stderr, with control characters, which paths may hold, written out."""
    console.print(printable(text), style=style, soft_wrap=True)


def say_next(*words: object) -> None:
    """Print the command to type next: say_next("sample", "runs/mine")."""
    say(f"next: python run_gan.py {shlex.join(str(word) for word in words)}")


def tell_precision(asked: str, extractor) -> None:
    """Print what precision `auto` became, or warn that bf16 is emulated here. extractor: metrics.features.Extractor."""
    from gan.loop import EMULATED
    from metrics.precision import emulated

    if asked == "auto":
        say(f"precision {extractor.precision} (auto: what suits this {extractor.device.type.upper()})")
    elif emulated(asked, extractor.device):
        say(f"warning: --precision is bf16, {EMULATED}: leave it out, or say auto", "yellow")


def print_scores(found: dict, warnings: list[str]) -> None:
    """A table of scores, {step: [Score, ...]}, and below it the card they share. The step is None where no run was scored."""
    from rich.table import Table

    rows = Table(title_justify="left")
    for heading in ("step", "score", "value", "spread"):
        # A name is never cut; what is said of the spread goes on below it where the terminal is narrow.
        rows.add_column(heading, justify="left" if heading == "score" else "right", no_wrap=heading != "spread", overflow="fold")
    for step, scores in found.items():
        for s in scores:
            spread = f"± {s.spread:.3g} ({s.spread_of})" if s.spread is not None else ""
            spread += f", 95 % over these: {s.interval[0]:.2f} to {s.interval[1]:.2f}" if s.interval else ""
            rows.add_row("" if step is None else f"{step:,}", printable(s.name), f"{s.value:.4g}", spread)
    console.print(rows)
    card = scores[0].card
    say(
        f"{card.generated} ({card.generated_count or '?'} images) against {card.real} ({card.real_count or '?'} images); "
        f"features {card.features} {card.weights_sha256[:8]} at {card.input_size} px, resize {card.resize}, {card.precision}"
    )
    for warning in warnings:
        say(f"warning: {warning}", "yellow")
