"""Writing LMDB files: one writer, all or nothing, a map that grows, and errors in one sentence."""

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import filelock
import lmdb

from data.database.reader import Database
from data.images import DataError

GOES_ON = "which goes on where it stopped"
GROWTH = 2  # factor by which a full map grows


@contextlib.contextmanager
def alone(out: Path) -> Iterator[Path]:
    """Lock `out` and give the temporary file to write to. The lock is released with its process, however that ends."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(out.with_name(f".{out.name}.lock"))
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise DataError(f"another process is writing {out}: wait for it, or choose another --out") from None
    except OSError as error:
        raise DataError(f"{out} can't be written ({error.strerror}): choose another --out") from None
    try:
        yield out.with_name(f".{out.name}.partial")
    finally:
        with contextlib.suppress(OSError):
            os.unlink(lock.lock_file)  # while it's held: whoever opened it meanwhile finds it gone
        lock.release()


def open_writer(
    file: Path, map_size: int, names: tuple[bytes, ...] = (), again: str = GOES_ON
) -> tuple[lmdb.Environment, list]:  # fmt: skip
    """Open an LMDB file for writing: (environment, its named databases). The caller holds the lock (`alone`)."""
    if file.is_file() and file.stat().st_size:  # in a truncated file the library would be killed by SIGBUS
        try:
            Database(file).check_whole()
        except DataError as error:
            why = str(error).removeprefix(f"{file} ").partition(":")[0]
            raise DataError(f"{file}, which is half finished, {why}: remove it, then give the same command again") from None
    try:
        environment = lmdb.open(str(file), subdir=False, lock=False, map_size=map_size, max_dbs=len(names), meminit=False)
        return environment, [environment.open_db(name) for name in names]
    except (lmdb.Error, OSError) as error:
        raise explained(error, file, again) from None


def commit(
    environment: lmdb.Environment, file: Path, write: Callable[[lmdb.Transaction], None], again: str = GOES_ON
) -> None:  # fmt: skip
    """Run `write` in a transaction, which is committed to the disk or has no effect. A full map is enlarged.

    again: what the same command does when repeated, for the error message.
    """
    while True:
        try:
            with environment.begin(write=True) as transaction:
                write(transaction)
            return
        except lmdb.MapFullError:
            try:
                environment.set_mapsize(GROWTH * environment.info()["map_size"])
            except (lmdb.Error, OSError, OverflowError) as error:
                raise explained(error, file, again) from None
        except (lmdb.Error, OSError) as error:
            raise explained(error, file, again) from None


def explained(error: Exception, file: Path, again: str = GOES_ON) -> DataError:
    """What went wrong while writing, and what to do. What was committed is safe in every case."""
    text = str(error)
    for number, advice in {
        errno.ENOSPC: "the disk is full: free some space",
        errno.EIO: "the disk is full or failing: free some space",  # what LMDB makes of a write that only partly fits
        errno.EDQUOT: "your disk quota is used up: free some space",
        errno.EFBIG: "files may not grow this large here (see `ulimit -f`, or the file system): choose another --out",
        errno.ENOMEM: "the file can't be mapped into memory: raise `ulimit -v`",
    }.items():
        if getattr(error, "errno", None) == number or os.strerror(number) in text:
            return DataError(f"{file}: {advice}, then give the same command again, {again}")
    return DataError(f"{file} can't be written ({text}): fix that, or remove it, then give the same command again")


def publish(partial: Path, out: Path) -> None:
    """Give a complete file its name, so that a power cut leaves either none or a complete one."""
    os.replace(partial, out)
    directory = os.open(out.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
