"""Consent to run code: a settings file from elsewhere may name any importable function as a feature network.

What users type, and their own files, are trusted. A run's config.yaml and a study.yaml are files that people pass on: features
`module:…` in those need --trust once, which is remembered by name in the user's cache directory.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from data.files import UserError, cache_directory, write_atomically

PREFIX = "module:"
HANDED_ON = ("config.yaml", "study.yaml", ".study.yaml")

Trust = Annotated[
    bool, typer.Option("--trust", help="run the Python function that a config.yaml or study.yaml from elsewhere names as features")
]


class TrustError(UserError):
    """A settings file names code that the user has not allowed to run."""


def require_trust(file: Path, names: Iterable[str | None], typed: Iterable[str], trust: bool) -> None:
    """TrustError if a file that may have come from elsewhere names code that this user has not trusted before.

    names: of the features that the settings ask for. typed: the KEY=VALUE settings of the command line. trust: say so now.
    """
    wanted = {name for name in names if name and name.startswith(PREFIX)}
    wanted -= {setting.partition("=")[2].strip("\"' ") for setting in typed}
    known = _trusted()
    if not wanted - known:
        return
    if file.is_dir() or file.name in HANDED_ON:
        new = sorted(wanted - known)[0]
        if not trust:
            raise TrustError(
                f"{file} names {new}, a Python function that would run here: if you know whose it is, say --trust, once"
            )
    _remember(known | wanted)


def _trusted() -> set[str]:
    try:
        return set(_file().read_text(errors="replace").splitlines())
    except OSError:
        return set()


def _remember(names: set[str]) -> None:
    try:
        _file().parent.mkdir(parents=True, exist_ok=True)
        write_atomically(_file(), "".join(f"{name}\n" for name in sorted(names)).encode(errors="replace"))
    except OSError:
        pass  # then it is asked again


def _file() -> Path:
    return cache_directory() / "trusted.txt"
