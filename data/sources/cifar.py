"""`cifar10` and `cifar100`: from a zip of class folders, from torchvision's files, or downloaded.

Learning Multiple Layers of Features from Tiny Images (Krizhevsky, 2009).
"""

import http.client
import tarfile
from functools import partial
from pathlib import Path

import torch

from data.files import in_short
from data.gathering import gather
from data.images import DataError, ImageSet
from data.sources.folder import FileSource
from data.sources.opening import LEVELS, holds_images
from data.sources.registry import Request, register

PUBLISHED = {  # the archive, and the directory that it unpacks to
    "cifar10": ("cifar-10-python.tar.gz", "cifar-10-batches-py"),
    "cifar100": ("cifar-100-python.tar.gz", "cifar-100-python"),
}
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def _holds(name: str, root: Path) -> bool:
    if root.name in PUBLISHED[name]:
        return True
    if root.is_file():
        try:
            return _fits(name, FileSource(root).classes)
        except DataError:
            return False
    return any((root / found).exists() for found in (f"{name}-train.zip", f"{name}-test.zip", *PUBLISHED[name]))


def _fits(name: str, classes: tuple[str, ...]) -> bool:
    return set(classes) <= set(CIFAR10_CLASSES) if name == "cifar10" else len(classes) == 100


def _root(request: Request) -> Path:
    if request.resolution != 32:
        raise DataError(f"{request.name} is 32×32 and isn't rescaled: set dataset.resolution=32, not {request.resolution}")
    root = request.root  # where the thing itself was named, torchvision wants where it lies
    return root.parent if root.name in PUBLISHED[request.name] else root


def look(request: Request) -> None:
    """DataError where there is nothing to read, and no place to download to."""
    name, root = request.name, _root(request)
    zipped = _zip_of_split(root, request.split) if root.is_file() else root / f"{name}-{request.split}.zip"
    if root.is_file() or zipped.is_file():
        FileSource(zipped)
    elif request.download and not _holds(name, root):
        _require_room_for_a_download(name, root, bool(request.path))


@register("cifar10", splits=True, holds=partial(_holds, "cifar10"), look=look)
@register("cifar100", splits=True, holds=partial(_holds, "cifar100"), look=look)
def cifar(request: Request) -> ImageSet:
    """CIFAR-10 or CIFAR-100 (fine labels); classes in alphabetical order, which is torchvision's.

    The place to look in: a zip, or a directory in which are looked for, in this order: `<name>-<split>.zip` with a folder per class
    (images sorted by path), torchvision's unpacked directory, its archive; else it's downloaded there, unless the user named the
    place and it holds other images or isn't there.

    Returns: images (N, 3, 32, 32) uint8. Raises DataError (resolution not 32, nothing found, corrupt, no network).
    """
    name, root, split = request.name, _root(request), request.split
    if root.is_file():
        return _from_zip(name, _zip_of_split(root, split), split, request.on_bad)
    if (root / f"{name}-{split}.zip").is_file():
        return _from_zip(name, root / f"{name}-{split}.zip", split, request.on_bad)
    if request.download and not _holds(name, root):
        _require_room_for_a_download(name, root, bool(request.path))
    return _from_torchvision(name, root, split, request.download)


def _require_room_for_a_download(name: str, root: Path, named: bool) -> None:
    """DataError for a directory of other images. named: by dataset.path; in GAN_DATA, folders of other data sets are allowed."""
    if named and not root.is_dir():
        raise DataError(f"there is no directory {root}: make it if {name} is to be downloaded into it, or change dataset.path")
    if holds_images(root, LEVELS if named else 1):
        raise DataError(
            f"{root} holds images but no {name}, which isn't downloaded among them: set dataset.name=folder for these, or "
            f"dataset.path to another directory for {name}"
        )


def _zip_of_split(path: Path, split: str) -> Path:
    """Given x-train.zip but asked for the test split, x-test.zip: never one split under the other's name."""
    other = {"train": "test", "test": "train"}[split]
    if path.name.endswith(f"-{other}.zip"):
        return path.with_name(path.name.removesuffix(f"-{other}.zip") + f"-{split}.zip")
    return path


def _from_zip(name: str, path: Path, split: str, on_bad: str) -> ImageSet:
    found = gather(FileSource(path, about=f"{name} {split} split from {path.name}"), 32, on_bad)
    classes = CIFAR10_CLASSES if name == "cifar10" else found.classes
    if not _fits(name, found.classes):
        seen = ", ".join(found.classes[:3])
        raise DataError(f"{path} isn't {name}: its folders must be the classes of {name}, not {seen}, …")
    index = torch.tensor([classes.index(c) for c in found.classes])
    return ImageSet(found.images, index[found.labels], classes, found.source, found.skipped)


def _from_torchvision(name: str, root: Path, split: str, download: bool) -> ImageSet:
    from torchvision import datasets  # takes a second to import, and a zip needs none of it
    from torchvision.datasets.utils import check_integrity

    kind = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name]
    unpacked, archive = root / kind.base_folder, root / kind.filename
    files = f"{name}-{split}.zip or {kind.filename} (from {kind.url})"
    hint = f"put {files} into {root}, or set dataset.path or GAN_DATA to the directory that holds it"
    downloading = not unpacked.is_dir() and not archive.is_file()
    if unpacked.is_dir():
        trouble = f"{unpacked} is incomplete or corrupt, delete it"
    elif archive.is_file():
        # torchvision would download over a file with the wrong checksum; a user's file is the user's to delete.
        if not check_integrity(archive, kind.tgz_md5):
            raise DataError(f"{archive} is corrupt (its md5 is wrong): delete it, then {hint}")
        trouble = f"{archive} can't be unpacked into {root}"
    elif download:
        trouble = f"{name} isn't in {root} and can't be downloaded"
    else:
        raise DataError(f"{name} isn't in {root} and downloading is off: {hint}")
    try:
        # download=True also unpacks an archive that is there already, without any network.
        found = kind(root, train=split == "train", download=not unpacked.is_dir())
    except (OSError, RuntimeError, EOFError, http.client.HTTPException, tarfile.TarError) as error:
        if downloading and not check_integrity(archive, kind.tgz_md5):
            archive.unlink(missing_ok=True)  # what a broken download left: next time it would look like a user's file
        raise DataError(f"{trouble} ({in_short(error)}): {hint}") from error
    images = torch.from_numpy(found.data).permute(0, 3, 1, 2).contiguous()  # (N, 32, 32, 3) -> (N, 3, 32, 32)
    source = f"{name} {split} split from {kind.base_folder}"
    return ImageSet(images, torch.tensor(found.targets), tuple(found.classes), source)
