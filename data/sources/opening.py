"""Which kind of source lies at a path (`kind_of`, `open_source`); and `folder`, the data set of whatever lies at a path."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from data.decoding import SUFFIXES
from data.extensions import import_extensions
from data.files import located
from data.images import DataError
from data.sources.arrays import ArraySource
from data.sources.containers import open_container
from data.sources.folder import FileSource
from data.sources.lsun import LsunSource
from data.sources.pack import PackSource
from data.sources.registry import Request, register
from data.sources.source import Source

LEVELS = 3  # of folders: split, class, images
Kind = TypeVar("Kind", bound=type[Source])

KINDS: list[type[Source]] = [
    ArraySource,
    PackSource,
    LsunSource,
]  # the first that recognises a path opens it: packs are LMDB files, too


def source_kind(kind: Kind) -> Kind:
    """Class decorator: register a kind of source that `recognises` paths; it is asked before the others."""
    KINDS.insert(0, kind)
    return kind


def kind_of(path: Path) -> type[Source]:
    """The kind of source that lies at a path: the first that recognises it, else FileSource, whose errors say what is wrong."""
    import_extensions()
    return next((kind for kind in KINDS if kind.recognises(path)), FileSource)


def open_source(path: Path, split: str | None = None, categories: str | None = None) -> Source:
    """A folder or archive of images, an array of them, a pack, an LSUN database or a directory of such.

    split: "train", "test", or None for whatever lies there (of a directory of LSUN databases, train).
    categories: of LSUN databases alone.
    Raises DataError for everything a user can put right.
    """
    return kind_of(path)(path, split, categories)


def holds_images(path: Path, levels: int = LEVELS) -> bool:
    """Whether images lie at a path; of a directory, on its first levels."""
    if not path.exists():
        return False
    if kind_of(path) is not FileSource:
        return True
    try:
        names = _names_below(path, levels) if path.is_dir() else open_container(path).names
        return any(name.lower().endswith(SUFFIXES) for name in names)
    except (DataError, OSError):
        return False


def _names_below(directory: Path, levels: int) -> Iterator[str]:
    for here, directories, files in os.walk(directory, followlinks=True):
        yield from files
        if len(Path(here).relative_to(directory).parts) >= levels - 1:
            directories.clear()


def open_one_split(path: str | Path, split: str | None, categories: str | None = None) -> Source:
    """open_source at a path here or below GAN_DATA, for commands that write a new file: DataError if it would mix two splits."""
    source = open_source(located(path), split, categories)
    if source.both_splits:
        raise DataError(f"{source.path} has the splits train and test: choose one with --split")
    return source


@register("folder")
def folder(request: Request) -> Source:
    """Whatever lies at the path that the user gave, by `dataset.path` or GAN_DATA."""
    if not request.path and not os.environ.get("GAN_DATA"):
        raise DataError("the data set 'folder' needs to know where: set dataset.path, or GAN_DATA, to it")
    root = request.root
    return kind_of(root)(root, request.stored_split)
