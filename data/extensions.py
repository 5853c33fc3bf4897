"""Users' Python files that add to the registries: families, losses, data sources, features, instruments.

The environment variable GAN_EXTENSIONS names them, with a colon between (a semicolon on Windows). gan/config.py imports them before
it makes the choices of each setting, and data/ before it looks for a data set or at a path, so every process that does so has them.
docs/extending.md has an example of each kind.
"""

import importlib
import os
import sys
import traceback
from pathlib import Path

from data.files import UserError, expanded


class ExtensionError(UserError):
    """A file that GAN_EXTENSIONS names can't be imported; the message names it and says why."""


def import_extensions() -> None:
    """Import each file that GAN_EXTENSIONS names, once. ExtensionError for the first that can't be."""
    for text in filter(None, os.environ.get("GAN_EXTENSIONS", "").split(os.pathsep)):
        _import(expanded(text).resolve())


def _import(file: Path) -> None:
    if file.suffix != ".py" or not file.is_file():
        raise ExtensionError(f"GAN_EXTENSIONS names {file}, which is no Python file; files are separated by {os.pathsep!r}")
    # On the path, so that processes started by this one find the module by its name.
    if str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))
    try:
        module = importlib.import_module(file.stem)
    except Exception as error:  # whatever its code raises
        raise ExtensionError(f"{file}, which GAN_EXTENSIONS names, can't be imported: {_reason(error, file)}") from error
    if Path(getattr(module, "__file__", None) or "").resolve() != file:
        raise ExtensionError(f"{file}, which GAN_EXTENSIONS names, is called like another module, {file.stem}; rename it")


def _reason(error: Exception, file: Path) -> str:
    """'line 3: NameError: name 'x' is not defined', on one line."""
    if isinstance(error, SyntaxError):
        return f"line {error.lineno}: {error.msg}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == file]
    where = f"line {lines[-1]}: " if lines else ""
    return f"{where}{type(error).__name__}: {' '.join(str(error).split())}"
