"""The command line. What a user can cause ends in one sentence and a non-zero exit."""

import os
import sys

os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # before torch is imported: its profiler chats

import typer

from gan.allocator import keep_freed_memory
from gan.commands import data
from gan.commands.classify import classify
from gan.commands.common import MAIN, say
from gan.commands.compare import compare
from gan.commands.evaluate import evaluate
from gan.commands.fid import fid
from gan.commands.probe import probe
from gan.commands.sample import sample
from gan.commands.train import train

# PyTorch takes seconds to import: the commands do it themselves, so that --help need not wait.

COMMANDS = [
    train,
    sample,
    fid,
    evaluate,
    compare,
    probe,
    classify,
]

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False)
for command in COMMANDS:
    app.command()(command)
app.add_typer(data.app, name="data")


@app.callback()
def about() -> None:
    """Does this convolution kernel make a better GAN?

    Train DCGAN, CNN, SNGAN, WGAN-GP and GAN-Landscape generators with kernels c2 c2sp c3 c3sp c4 c4sp c5 c5sp, and draw from them.
    """


def main() -> None:
    keep_freed_memory()
    try:
        app()
    except SystemExit as ended:
        if ended.code == 130 and MAIN:  # Ctrl-C while nothing was training
            say("interrupted; the same command starts again, and training goes on from its last checkpoint", "yellow")
        raise
    except Exception as error:
        if isinstance(error, _known("gan.training", "Interrupted")):
            if MAIN:
                say(str(error), "yellow")
            sys.exit(128 + error.signum)
        if not isinstance(error, _expected()):
            raise
        if MAIN or not isinstance(error, _known("gan.training", "Diverged")):
            say(f"error: {_sentence(error)}", "red")
        sys.exit(1)


def _sentence(error: Exception) -> str:
    """What the system says of a file, in our words; of everything else, the message."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename} can't be read or written ({error.strerror}): choose another"
    if type(error).__name__ == "OutOfMemoryError":
        return "the GPU is out of memory: other programs may hold some of it; free it, take another, or compute on the CPU"
    if isinstance(error, MemoryError):
        return "out of memory: close other programs, or ask for fewer or smaller images"
    return str(error)


def _expected() -> tuple[type[Exception], ...]:
    """What a user can cause: each message says what is wrong and what to do."""
    ours = {
        "data.images": "DataError",
        "gan.checkpoint": "CheckpointError",
        "gan.config": "ConfigError",
        "gan.run_directory": "RunError",
        "gan.study": "StudyError",
        "gan.training": "Diverged",
        "metrics.network": "FeatureError",
        "metrics.protocol": "ProtocolError",
        "metrics.statistics": "StatisticsError",
        "torch": "OutOfMemoryError",
    }
    return OSError, MemoryError, *(error for module, name in ours.items() for error in _known(module, name))


def _known(module: str, name: str) -> tuple[type[Exception], ...]:
    """An error's class, if its module is loaded: else nobody can have raised it, and to import PyTorch for it takes seconds."""
    return (getattr(sys.modules[module], name),) if module in sys.modules else ()
