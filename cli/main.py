"""The command line. An error that a user can cause ends in one sentence and a non-zero exit status."""

import os
import sys
from importlib import import_module

os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # before torch is imported: silences its profiler

import typer

from cli import data, zoo
from cli.classify import classify
from cli.common import MAIN, say
from cli.compare import compare
from cli.evaluate import evaluate
from cli.export import export
from cli.fid import fid
from cli.plot import plot
from cli.probe import probe
from cli.sample import sample
from cli.streams import forgiving_stderr
from cli.train import train
from data.files import REASONS, UserError, reason
from data.memory import lacks_memory
from gan.allocator import keep_freed_memory

# PyTorch takes seconds to import: the commands do it themselves, so that --help need not wait.

COMMANDS = [
    train,
    sample,
    fid,
    evaluate,
    compare,
    probe,
    plot,
    export,
    classify,
]

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False)
for command in COMMANDS:
    app.command()(command)
app.add_typer(data.app, name="data")
app.add_typer(zoo.app, name="zoo")


@app.callback()
def about() -> None:
    """Does this convolution kernel make a better GAN?

    Train DCGAN, CNN, SNGAN, WGAN-GP, GAN-Landscape and R3GAN generators with kernels c2 c2sp c2alt c3 c3sp c3off c4 c4sp c5
    c5sp, and draw from them.
    """


def main() -> None:
    with forgiving_stderr():
        _main()


def _main() -> None:
    keep_freed_memory()
    try:
        refuse_settings_as_options(sys.argv[1:])
        app()
    except SystemExit as ended:
        if ended.code == 130 and MAIN:  # Ctrl-C while nothing was training
            say("interrupted; the same command starts again, and training goes on from its last checkpoint", "yellow")
        raise
    except UserError as error:
        if MAIN or error.said_by_all:
            say(f"error: {error}" if error.exit_code == 1 else str(error), error.style)
        sys.exit(error.exit_code)
    except Exception as error:
        sentence = _resource_error(error)
        if sentence is None:
            raise
        say(f"error: {sentence}", "red")
        sys.exit(1)


def refuse_settings_as_options(words: list[str]) -> None:
    """UserError for --steps 3 and the like, where the command has no such option but a setting of that name."""
    taking = {"train": "gan.config", "probe": "gan.config", "compare": "gan.config", "classify": "gan.classification.config"}
    if not words or words[0] not in taking:
        return
    alone = typer.Typer(add_completion=False)
    alone.command()(next(command for command in COMMANDS if command.__name__ == words[0]))
    command = typer.main.get_command(alone)
    options = {name for parameter in command.params for name in parameter.opts} | {"--help"}
    unknown = [
        i for i, word in enumerate(words) if word.startswith("--") and len(word) > 2 and word.partition("=")[0] not in options
    ]
    for i in unknown:
        name, equals, value = words[i][2:].partition("=")
        name = name.replace("-", "_")
        known = import_module(taking[words[0]]).Config.keys()
        keys = [key for key in known if name in (key, key.partition(".")[2])]
        if not equals and i + 1 < len(words) and not words[i + 1].startswith("-"):
            value = words[i + 1]
        if keys:
            said = " or ".join(f"{key}={value or '…'}" for key in keys)
            raise UserError(f"{words[0]} has no option {words[i]}; settings are given without dashes: {said}")


def _resource_error(error: Exception) -> str | None:
    """A message for lack of memory or a file that can't be used; None for an error in the program, which keeps its traceback."""
    if type(error).__name__ == "OutOfMemoryError":  # torch's, which is not imported for this
        return "the GPU is out of memory: other programs may hold some of it; free it, take another, or compute on the CPU"
    if lacks_memory(error):
        return "out of memory: close other programs, or ask for fewer or smaller images"
    if not isinstance(error, OSError):
        return None
    where = f"{error.filename} can't be read or written ({reason(error)})" if error.filename else reason(error)
    if error.errno in REASONS:
        return f"{where}: fix that and give the same command again"
    return f"{where}: choose another" if error.filename else f"the system refuses ({where}): give the same command again"
