"""`data export`: the encoded images of any source in LSUN's layout, an LMDB with one image per key, unchanged to the last byte."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha1
from pathlib import Path

import lmdb

from data.database.writer import alone, commit, open_writer, publish
from data.decoding import as_rgb, quiet_decoding
from data.images import DataError
from data.sources.pack import parts
from data.sources.source import Source, unusable
from data.workers import cores

PART = 256  # images per transaction
ANEW = "which begins anew"


@dataclass(frozen=True)
class Exported:
    """file: data.mdb; count: images in it; bad: "name (reason)" of each image that can't be decoded, written or not."""

    file: Path
    count: int
    bad: tuple[str, ...]


def export(
    source: Source, out: Path, count: int | None = None, progress: Callable[[int], None] = lambda n: None, on_bad: str = "refuse"
) -> Exported:
    """Write `out`/data.mdb; its name should be CATEGORY_train_lmdb. Keys are 40 hexadecimal digits, as LSUN's.

    count: how many; the images are repeated, under other keys, when there are fewer.
    on_bad: of images that can't be decoded: "keep" writes them too, as they are, unless they can't even be read; "skip" leaves them
        out; "refuse" raises DataError at the first.

    Raises DataError when the file is there already or can't be written, when no image is left, and for packs and arrays, which
    hold no encoded images. Whatever is raised, nothing half written stays.
    """
    if not source.encoded:
        raise DataError(f"{source.path} holds no encoded images, as packs and arrays don't: export what it was made of")
    count = len(source) if count is None else count
    file = out / "data.mdb"
    with alone(file) as partial:
        if file.exists():
            raise DataError(f"{file} exists: choose another --out, or remove it")
        partial.unlink(missing_ok=True)
        keys = (sha1(f"{source.name(i % len(source))}/{i}".encode(errors="surrogateescape")) for i in range(count))
        places = sorted((key.hexdigest().encode(), i % len(source)) for i, key in enumerate(keys))
        environment, _ = open_writer(partial, 2**30, again=ANEW)
        written, bad = 0, {}  # index -> what is wrong with it
        try:
            with quiet_decoding(), ThreadPoolExecutor(min(8, cores())) as pool:
                for part in parts(0, count, PART):
                    chosen = places[part.start : part.stop]
                    read = list(pool.map(lambda place: _read(source, place[1]), chosen))
                    source.check_unchanged()
                    bad |= {i: f"{source.name(i)} ({wrong})" for (_, i), (_, wrong) in zip(chosen, read) if wrong}
                    if bad and on_bad == "refuse":
                        first = next(iter(bad.values()))
                        raise DataError(
                            f"{source.path}: {first} can't be used; leave such images out with --on-bad skip, or fix it"
                        )
                    whole = ((key, value) for (key, _), (value, wrong) in zip(chosen, read) if on_bad == "keep" or not wrong)
                    values = [(key, value) for key, value in whole if value is not None]

                    def write(transaction: lmdb.Transaction, values: list[tuple[bytes, bytes]] = values) -> None:
                        for key, value in values:
                            transaction.put(key, value, append=True)

                    commit(environment, partial, write, ANEW)
                    written += len(values)
                    progress(len(part))
            if not written:
                raise DataError(
                    f"{source.path}: none of its images can be used, the first is {next(iter(bad.values()))}: choose others"
                )
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        finally:
            environment.close()
        publish(partial, file)
    return Exported(file, written, tuple(bad.values()))


def _read(source: Source, i: int) -> tuple[bytes | None, str]:
    """(the encoded image i, or None if it can't be read; why it can't be used, or "")."""
    value = None
    try:
        value = source.read(i)
        as_rgb(value)
    except Exception as error:
        return value, unusable(error, source)
    return value, ""
