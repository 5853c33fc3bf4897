"""`open_source`: whatever lies at a path, as a source of images."""

from pathlib import Path

from data.database.reader import is_database
from data.files import located
from data.images import DataError
from data.sources.folder import FileSource
from data.sources.lsun import is_lsun, open_lsun
from data.sources.pack import PackSource, is_pack
from data.sources.source import Source


def open_source(path: Path, split: str | None = None, categories: str | None = None) -> Source:
    """A folder or zip of images, a pack, an LSUN database or a directory of such.

    split: "train", "test", or None for whatever lies there (of a directory of LSUN databases, train).
    categories: of LSUN databases alone, see open_lsun.
    Raises DataError for everything a user can put right.
    """
    file = path / "data.mdb" if (path / "data.mdb").is_file() else path
    if is_pack(file):
        if split == "test":
            raise DataError(f"{path} is a pack and has no test split: pack that too, or hold images out with dataset.hold_out=0.01")
        _no_categories(categories, f"{path} is a pack, all of which is used")
        return PackSource(file)
    if is_database(file) or is_lsun(path) or path.name == "data.mdb":
        return open_lsun(path, split, categories)
    _no_categories(categories, f"{path} holds no LSUN databases, which alone have categories")
    return FileSource(path, split)


def open_one_split(path: str | Path, split: str | None, categories: str | None = None) -> Source:
    """The same, of a path here or below GAN_DATA, for what makes another file of it: DataError where two splits would be mixed."""
    source = open_source(located(path), split, categories)
    if isinstance(source, FileSource) and source.both_splits:
        raise DataError(f"{source.path} has the splits train and test: choose one with --split")
    return source


def _no_categories(categories: str | None, why: str) -> None:
    if categories:
        raise DataError(f"{why}: leave --categories {categories} out")
