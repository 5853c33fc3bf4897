"""`load`: one call for every data set by its name; `look`: whether it could. `register` adds one: see data/sources/registry.py."""

import difflib
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import data.sources
from data.files import located
from data.gathering import gather
from data.images import DataError, ImageSet
from data.notes import note
from data.sources.opening import holds_images
from data.sources.registry import DataSet, Request, data_sets, register
from data.sources.source import Source, split_by_key
from data.streaming import StreamedSet
from data.workers import cores

__all__ = ["Request", "fitting", "load", "look", "names", "register"]

for module in iter_modules(data.sources.__path__):  # each registers its data sets
    import_module(f"data.sources.{module.name}")


def names() -> tuple[str, ...]:
    """What `dataset.name` may be."""
    return tuple(data_sets())


def fitting(name: str, path: str) -> str:
    """The data set to use if a user named a path, but `name` comes from a file or the default.

    `folder` if images of another kind lie at the path, or if the data set is read from no path; else `name`.
    """
    found = data_sets().get(name)
    if found is None or not path:
        return name
    if not found.paths:
        return "folder"
    root = located(path)
    return "folder" if found.holds and not found.holds(root) and holds_images(root) else name


def require_path_of_use(name: str, path: str) -> None:
    """DataError for a path with a data set that is read from no path, such as `shapes`."""
    found = data_sets().get(name)
    if found and path and not found.paths:
        raise DataError(
            f"{name} is read from no path, so dataset.path={path} has no effect: set dataset.name=folder for images there, or "
            "dataset.path=null"
        )


def load(
    name: str, path: str | Path | None = None, resolution: int = 32, *, split: str = "train", **settings
) -> ImageSet | StreamedSet:
    """Load a data set into memory, or, where it's too large for that, open it to be read from the disk.

    name: one of `names()`.
    path: a directory or a file, also one below the directory that the environment variable GAN_DATA names; else GAN_DATA itself;
        else `datasets` in the working directory (for `folder` there is no such last resort). `shapes` takes no path. A pack may
        be the path of any but CIFAR and `shapes`.
    resolution: R, the side of the images in pixels. CIFAR is 32 only; all others crop and shrink, never enlarge.
    split: "train" or "test".
    settings: on_bad, crop, categories, hold_out, memory, workers, download, as `Request` explains them.

    Returns: images (N, 3, R, R) uint8. Raises DataError for everything a user can put right.
    """
    found, request = _requested(name, path, resolution, split, settings)
    if path and not found.paths:
        note(f"{name} is found at no path: dataset.path={path} isn't looked at")
    opened = found.open(request)
    return _in_memory_or_streamed(opened, request) if isinstance(opened, Source) else opened


def look(name: str, path: str | Path | None = None, resolution: int = 32, *, split: str = "train", **settings) -> None:
    """Raise the DataError that `load` would for images that aren't there or don't fit the settings. Nothing is decoded for it."""
    found, request = _requested(name, path, resolution, split, settings)
    if path and found.paths and not located(path).exists():
        raise DataError(f"there is nothing at {path}, nor below GAN_DATA: let dataset.path name the images of {name}")
    if found.look:
        found.look(request)
    elif isinstance(opened := found.open(request), Source):
        _prepared(opened, request)


def _requested(name: str, path: str | Path | None, resolution: int, split: str, settings: dict) -> tuple[DataSet, Request]:
    """The data set of a name, and what is asked of it. DataError for what it can't have."""
    found = data_sets().get(name)
    if found is None:
        nearest = difflib.get_close_matches(str(name), names(), n=1, cutoff=0)[0]
        raise DataError(f"there is no data set '{name}': did you mean '{nearest}'? (known: {', '.join(names())})")
    request = Request(name, path, resolution, split, **settings)
    if request.hold_out and found.splits:
        raise DataError(f"{name} has a test split of its own: set dataset.hold_out=0")
    if request.categories and not found.categories:
        having = ", ".join(other for other, one in data_sets().items() if one.categories)
        raise DataError(f"{name} has no categories, {having} has: set dataset.categories=null")
    return found, request


def _in_memory_or_streamed(source: Source, request: Request) -> ImageSet | StreamedSet:
    source, resolution, on_bad, crop = _prepared(source, request), request.resolution, request.on_bad, request.crop
    if len(source) * 3 * resolution**2 <= request.memory * 2**30:
        return gather(source, resolution, on_bad, crop)
    workers = request.workers
    if workers is None:
        workers = min(8, cores()) if source.encoded else 0
    return StreamedSet(source, resolution, on_bad, crop, min(workers, len(source)))


def _prepared(source: Source, request: Request) -> Source:
    """The part of a source that is asked for. DataError where it can't be shown so, or be parted."""
    source.check_settings(request.resolution, request.crop, request.categories)
    if not request.hold_out:
        return source
    if source.both_splits:
        raise DataError(f"{source.path} has a test split of its own: set dataset.hold_out=0")
    return split_by_key(source, request.hold_out)[request.split == "test"]
