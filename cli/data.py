"""`data`: pack images for training, and look into packs and databases."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from cli.common import Overwrite, check_output, say, say_next
from data.files import printable

HELP = "Pack images for training; look into packs and databases."

LARGEST = 16_383  # pixels along a side: as much as WebP can store
FEW, LISTED = 10, 1000  # unusable images that are named, and that a pack has a list of

app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown", help=HELP)

From = Annotated[
    Path, typer.Argument(help="a folder, zip or tar, an .npz or .npy, an LSUN *_lmdb directory, a directory of these, or a pack")
]
FromOrSet = Annotated[
    Path,
    typer.Argument(
        help="a folder, zip or tar, an .npz or .npy, an LSUN *_lmdb directory, a directory of these, a pack, or a data set: "
        "cifar10, cifar10:test, cifar100, shapes"
    ),
]
Pack = Annotated[Path, typer.Argument(help="a pack")]
Split = Annotated[Literal["train", "test"] | None, typer.Option(help="train or test (LSUN's val); default: whatever lies there")]
Categories = Annotated[str | None, typer.Option(help="of a directory of LSUN's: bedroom, or bedroom,kitchen; default: all")]
Crop = Annotated[Literal["center", "pad", "cut"], typer.Option(help="centre square, black bars, or the central pixels as they are")]
Stored = Annotated[Literal["raw", "webp"], typer.Option("--format", help="raw reads fastest; lossless webp takes half the space")]
OnBad = Annotated[
    Literal["refuse", "skip", "report"],
    typer.Option(help="unusable images: stop at the first; leave out; or leave out, list them (up to 1,000) and exit with 1"),
]
OnBroken = Annotated[
    Literal["refuse", "skip", "keep"],
    typer.Option("--on-bad", help="images that can't be decoded: stop at the first, leave them out, or write them as they are"),
]
Count = Annotated[int | None, typer.Option(min=1, help="how many, repeated under other keys if need be; default: each once")]


@app.command()
def pack(
    source: From,
    size: Annotated[int, typer.Option(min=1, max=LARGEST, help="side of the stored squares, in pixels")],
    out: Annotated[Path, typer.Option(help="the file to make")],
    crop: Crop = "center",
    workers: Annotated[int, typer.Option(min=0, help="processes that decode; 0: one per core")] = 0,
    stored: Stored = "raw",
    on_bad: OnBad = "refuse",
    split: Split = None,
    categories: Categories = None,
) -> None:
    """Decode, crop and shrink every image once, into one file that trains without waiting.

    - `data pack bedroom_train_lmdb --size 128 --out bedrooms.pack` packs LSUN's bedrooms.
    - `train configs/lsun/sngan128.yaml dataset.path=bedrooms.pack` trains on it.

    Interrupted? The same command goes on. The file gets its name when it's complete.
    """
    from data import DataError
    from data.sources.opening import open_one_split
    from data.tools.pack import Squares
    from data.tools.pack import pack as make
    from data.waiting import progress
    from data.workers import cores

    found = open_one_split(source, split, categories)
    say(f"{len(found):,} images of {found.about}")
    with progress("images", len(found), "packing") as advance:
        packed = make(found, out, Squares(size, crop, stored), workers or cores(), on_bad, advance)
    say(f"{out}: {len(packed):,} images, {out.stat().st_size / 2**30:.2f} GiB")
    left_out, named = (packed.manifest[name] for name in ("skipped", "first_skipped"))
    _list_bad("left out", left_out, named, LISTED if on_bad == "report" else FEW)
    if left_out and on_bad == "report":
        raise DataError(f"{out} is complete but for {left_out:,} images that can't be used, listed above: mend them and pack again")
    tell_training(out, size)


def tell_training(path: Path, size: int) -> None:
    """The command that trains on what lies at a path, in squares of so many pixels or more; nothing for smaller ones."""
    from data.images import RESOLUTIONS

    possible = [resolution for resolution in RESOLUTIONS if resolution <= size]
    if possible:
        resolution = [f"dataset.resolution={possible[-1]}"] if possible[-1] != 32 else []  # which is the default
        say_next("train", f"dataset.path={path}", *resolution)


@app.command()
def info(source: FromOrSet) -> None:
    """What a pack, or any other place of images, holds."""
    from data.files import located
    from data.sources.folder import FileSource
    from data.sources.opening import open_source
    from data.sources.pack import PackSource

    if _is_set(source):
        _info_of_a_set(source)
        return
    found = open_source(located(source))
    if isinstance(found, PackSource):
        m = found.manifest
        rows = {name: m[name] for name in ("source", "count", "skipped", "size", "crop", "filter", "stored", "sha256", "made_with")}
    else:
        rows = {"source": found.about, "count": len(found), "fingerprint": found.fingerprint}
        if isinstance(found, FileSource) and found.left_out:
            rows["left out"] = found.left_out
    _print_rows(rows, found.classes)
    if isinstance(found, PackSource):
        _list_bad("left out", found.manifest["skipped"], found.manifest["first_skipped"])
    say_next("data", "grid", source, "--out", "grid.png")


def _info_of_a_set(source: Path) -> None:
    from data import load

    name, _, split = str(source).partition(":")
    images = load(name, split=split or "train")
    _print_rows({"source": images.source, "count": len(images), "size": images.resolution}, images.classes)
    say_next("data", "grid", source, "--out", "grid.png")


def _print_rows(rows: dict[str, object], classes: tuple[str, ...]) -> None:
    """A line each: no table, whose frame would break a sha256 at 80 columns."""
    rows = {**rows, "classes": f"{len(classes)}: " + ", ".join(classes[:8]) + (", …" if len(classes) > 8 else "")}
    for name, value in rows.items():
        say(f"{name:<11} {value:,}" if isinstance(value, int) else f"{name:<11} {value}")


def _is_set(source: Path) -> bool:
    """Whether it names a data set, cifar10:test, and no file that is there."""
    from data.by_name import BY_NAME
    from data.files import located

    return str(source).partition(":")[0] in BY_NAME and not located(source).exists()


@app.command()
def verify(file: Pack) -> None:
    """Read every image of a pack and compare it with the checksums of when it was packed."""
    from data import DataError
    from data.files import located
    from data.sources.pack import PackSource
    from data.sources.pack import verify as check
    from data.waiting import progress

    file = located(file)
    if not file.exists():
        raise DataError(f"there is nothing at {file}, nor below GAN_DATA: name a pack")
    if not PackSource.recognises(file):
        raise DataError(f"{file} is no pack: make one with `data pack`")
    source = PackSource(file)
    with progress("images", len(source), "verifying") as advance:
        problems = check(source, advance)
    for problem in problems[:20]:
        say(problem, "red")
    if problems:
        raise DataError(f"{file}: {len(problems):,} problems; pack the images again")
    say(f"{file}: all {len(source):,} images have the pixels that were packed")
    tell_training(file, source.size)


@app.command()
def grid(
    source: FromOrSet,
    out: Annotated[Path, typer.Option(help="the PNG to write")],
    count: Annotated[int, typer.Option(min=1, help="how many images")] = 64,
    seed: Annotated[int, typer.Option(min=0, help="of the choice")] = 0,
    size: Annotated[
        int | None, typer.Option(min=1, max=LARGEST, help="side in pixels; default: a pack's own, else what most have, up to 128")
    ] = None,
    crop: Annotated[
        Literal["center", "pad", "cut"] | None, typer.Option(help="as of `pack`; default: a pack's own, else center")
    ] = None,
    split: Split = None,
    categories: Categories = None,
    scale: Annotated[
        int | None, typer.Option(min=1, max=32, help="pixels of the grid for each of an image's; default: about 800 in all")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Draw some images, each once, as training sees them."""
    from data.files import located
    from data.sources.opening import open_source
    from data.tools.glance import glance
    from gan.sampling import save_grid

    check_output(out, overwrite)
    if _is_set(source):
        if size or crop or split or categories:
            raise typer.BadParameter(f"{source} is shown as it is: leave --size, --crop, --split and --categories out")
        _grid_of_a_set(source, out, count, seed, scale)
        return
    found = open_source(located(source), split, categories)
    images, left_out = glance(found, count, seed, size, crop)
    save_grid(images, out, scale=scale)
    say(f"{len(images):,} of {len(found):,} images at {images.shape[-1]} pixels: {out}")
    _list_bad("left out", len(left_out), left_out)
    tell_training(source, images.shape[-1])


def _grid_of_a_set(source: Path, out: Path, count: int, seed: int, scale: int | None) -> None:
    """A grid of a data set by name: a seeded choice."""
    import numpy as np

    from data import load
    from gan.sampling import save_grid

    name, _, split = str(source).partition(":")
    images = load(name, split=split or "train").images
    chosen = np.random.default_rng(seed).permutation(len(images))[:count]
    save_grid(images[chosen], out, scale=scale)
    say(f"{len(chosen):,} of {len(images):,} images of {name}:{split or 'train'} at {images.shape[-1]} pixels: {out}")
    say_next("train", f"dataset.name={name}")


@app.command()
def export(
    source: From,
    out: Annotated[Path, typer.Option(help="the directory to write data.mdb into, named CATEGORY_train_lmdb")],
    count: Count = None,
    on_bad: OnBroken = "refuse",
    split: Split = None,
    categories: Categories = None,
) -> None:
    """Write images in the layout of LSUN's own databases, unchanged."""
    from data.sources.opening import open_one_split
    from data.tools.export import export as write
    from data.waiting import progress

    found = open_one_split(source, split, categories)
    with progress("images", count or len(found), "exporting") as advance:
        made = write(found, out, count, advance, on_bad)
    say(f"{made.file}: {made.count:,} images of {found.about}")
    _list_bad("left out" if on_bad == "skip" else "can't be decoded:", len(made.bad), made.bad)
    say_next("data", "info", out)


def _list_bad(what: str, count: int, named: Sequence[str], most: int = FEW) -> None:
    if count:
        more = ", …" if count > len(named[:most]) else ""
        say(printable(f"{what} {count:,} images: {', '.join(named[:most])}{more}"), "yellow")
