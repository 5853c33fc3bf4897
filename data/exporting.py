"""`data export`: the encoded images of any source in LSUN's layout, an LMDB with one image per key, unchanged to the last byte."""

from collections.abc import Callable
from hashlib import sha1
from pathlib import Path

import lmdb

from data.images import DataError
from data.packed import PackSource, parts
from data.source import Source
from data.writing import alone, commit, open_writer, publish

PART = 256  # images per transaction


def export(source: Source, out: Path, count: int | None = None, progress: Callable[[int], None] = lambda n: None) -> Path:
    """Write `out`/data.mdb; its name should be CATEGORY_train_lmdb. Keys are 40 hexadecimal digits, as LSUN's.

    count: how many; the images are repeated, under other keys, when there are fewer. Returns the file. Raises DataError when it's
    there already or can't be written, and for packs, which hold no encoded images.
    """
    if isinstance(source, PackSource):
        raise DataError(f"{source.path} is a pack, which holds no encoded images: export what it was made of")
    count = len(source) if count is None else count
    file = out / "data.mdb"
    with alone(file) as partial:
        if file.exists():
            raise DataError(f"{file} exists: choose another --out, or remove it")
        partial.unlink(missing_ok=True)
        keys = (sha1(f"{source.name(i % len(source))}/{i}".encode()).hexdigest().encode() for i in range(count))
        places = sorted((key, i % len(source)) for i, key in enumerate(keys))
        environment, _ = open_writer(partial, 2**30)
        try:
            for part in parts(0, count, PART):
                values = [(key, source.read(i)) for key, i in places[part.start : part.stop]]

                def write(transaction: lmdb.Transaction, values: list[tuple[bytes, bytes]] = values) -> None:
                    for key, value in values:
                        transaction.put(key, value, append=True)

                commit(environment, partial, write)
                progress(len(part))
        finally:
            environment.close()
        publish(partial, file)
    return file
