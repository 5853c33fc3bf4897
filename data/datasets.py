"""`load`: one call for every data set by its name."""

import difflib
import os
from pathlib import Path

from data.database.reader import is_database
from data.decoding import CROPS
from data.files import located
from data.gathering import gather
from data.images import DataError, ImageSet
from data.sources.cifar import cifar
from data.sources.folder import FileSource
from data.sources.lsun import is_lsun, open_lsun, wanted_categories
from data.sources.opening import open_source
from data.sources.pack import PackSource, is_pack
from data.sources.shapes import shapes
from data.sources.source import Source, split_by_key
from data.streaming import StreamedSet
from data.workers import cores

NAMES = ("cifar10", "cifar100", "celeba", "celeba_hq", "folder", "lsun", "shapes")
DEFAULT_ROOT = "datasets"
CELEBA = {  # what the published archives are called, unpacked or not
    # 202,599 JPEGs of 178×218; the centre square is 178×178. Last, where torchvision puts them.
    "celeba": ("img_align_celeba", "img_align_celeba.zip", "celeba/img_align_celeba", "celeba/img_align_celeba.zip"),
    "celeba_hq": ("celeba_hq", "celeba_hq.zip", "CelebA-HQ-img"),  # 30,000 squares of 1024×1024 or 256×256
}


def load(
    name: str, path: str | Path | None = None, resolution: int = 32, *, split: str = "train", on_bad: str = "refuse",
    download: bool = True, crop: str = "center", categories: str | None = None, share: float = 0.0, memory: float = 4.0,
    workers: int | None = None,
) -> ImageSet | StreamedSet:  # fmt: skip
    """Load a data set into memory, or, where it's too large for that, open it to be read from the disk.

    name: one of NAMES.
    path: a directory or a file, also one below the directory that the environment variable GAN_DATA names; else GAN_DATA itself;
        else `datasets` in the working directory (for `folder` there is no such last resort). `shapes` needs no path. A pack may
        be the path of any but CIFAR and `shapes`.
    resolution: R, the side of the images in pixels. CIFAR is 32 only; all others crop and shrink, never enlarge.
    split: "train" or "test".
    on_bad: what to do about images that are broken or too small: "refuse" the data set, or "skip" them and list
        them in `ImageSet.skipped`.
    download: whether CIFAR may be fetched when it isn't found.
    crop: "center", "pad" or "cut", see data/decoding.py. categories: of LSUN, "bedroom,kitchen"; None: all that lie there.
    share: of the images, chosen by their keys, that is held out: it is the test split, and no part of the train split.
    memory: GiB that decoded images may take; larger sets are streamed.
    workers: processes that decode what is streamed; None: as many as there are cores, at most 8, and none for packs.

    Returns: images (N, 3, R, R) uint8. Raises DataError for everything a user can put right.
    """
    if name not in NAMES:
        nearest = difflib.get_close_matches(str(name), NAMES, n=1, cutoff=0)[0]
        raise DataError(f"there is no data set '{name}': did you mean '{nearest}'? (known: {', '.join(NAMES)})")
    if split not in ("train", "test"):
        raise DataError(f"a data set has the splits train and test, not '{split}'")
    if on_bad not in ("refuse", "skip"):
        raise DataError(f"dataset.on_bad is refuse or skip, not '{on_bad}'")
    if crop not in CROPS:
        raise DataError(f"dataset.crop is one of {', '.join(CROPS)}, not '{crop}'")
    if not isinstance(resolution, int) or resolution < 1:
        raise DataError(f"dataset.resolution must be a whole number of pixels, at least 1, not {resolution!r}")

    if share and name in ("cifar10", "cifar100", "shapes"):
        raise DataError(f"{name} has a test split of its own: set dataset.hold_out=0")
    if categories and name != "lsun":
        raise DataError(f"{name} has no categories, lsun has: set dataset.categories=null")
    if name == "shapes":
        return shapes(resolution, split)
    if not path and not os.environ.get("GAN_DATA") and name == "folder":
        raise DataError("the data set 'folder' needs to know where: set dataset.path, or GAN_DATA, to it")
    root = _root(path)
    if name in ("cifar10", "cifar100"):
        return cifar(name, root, resolution, split, on_bad, download)
    if name in CELEBA and not path and not _is_celeba(name, root):
        raise _no_celeba(name, root)  # not just whatever images lie there
    source = open_named(name, root, None if share else split, categories)
    if share and isinstance(source, FileSource) and source.both_splits:
        raise DataError(f"{source.path} has a test split of its own: set dataset.hold_out=0")
    if isinstance(source, PackSource):
        _check_pack(source, resolution, crop, categories)
    if share:
        source = split_by_key(source, share)[split == "test"]
    if len(source) * 3 * resolution**2 <= memory * 2**30:
        return gather(source, resolution, on_bad, crop)
    if workers is None:
        workers = min(8, cores()) if source.encoded else 0
    return StreamedSet(source, resolution, on_bad, crop, workers)


def _root(path: str | Path | None) -> Path:
    """Where to look: `path`, here or below GAN_DATA; without one, GAN_DATA; without that, DEFAULT_ROOT."""
    return located(path or os.environ.get("GAN_DATA") or DEFAULT_ROOT)


def open_named(name: str, root: Path, split: str | None, categories: str | None = None) -> Source:
    """The source of one of the names that are files of the user's: lsun, celeba, celeba_hq, folder."""
    if name == "lsun" and not is_pack(root):
        return open_lsun(root, split, categories)
    for known in CELEBA.get(name, ()):
        if (root / known).exists():
            root = root / known
            break
    if name in CELEBA and (not root.exists() or ((is_lsun(root) or is_database(root)) and not is_pack(root))):
        raise _no_celeba(name, root)
    return open_source(root, split)


def _is_celeba(name: str, root: Path) -> bool:
    known = CELEBA[name]
    return is_pack(root) or root.name in {Path(k).name for k in known} or any((root / k).exists() for k in known)


def _no_celeba(name: str, root: Path) -> DataError:
    wanted = " or ".join(CELEBA[name])
    return DataError(
        f"there is no {name} at {root}: set dataset.path, or GAN_DATA, to the directory that holds {wanted}, or to a pack of it"
    )


def _check_pack(pack: PackSource, resolution: int, crop: str, categories: str | None) -> None:
    """A pack was cropped when it was made: other settings would be silently without effect."""
    pack.require_crop(crop, f"pack again with --crop {crop}, or set dataset.crop={pack.manifest['crop']}")
    if pack.size < resolution:
        raise DataError(
            f"{pack.path} holds images of {pack.size} pixels, and nothing is ever enlarged: pack again with --size {resolution}, "
            f"or set dataset.resolution={pack.size}"
        )
    wanted = wanted_categories(categories) if categories else []
    if wanted and pack.classes not in (("all",), tuple(wanted)):
        raise DataError(f"{pack.path} holds {', '.join(pack.classes)}, not {categories}: pack that, or set dataset.categories=null")
