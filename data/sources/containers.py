"""Where files lie: in a directory, a zip or a tar. All three list and read them alike; which of them are images says folder.py."""

import bz2
import gzip
import lzma
import os
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import IO

from tqdm import tqdm

from data.decoding import require_size
from data.files import in_short, reason, stamp_of
from data.images import DataError
from data.unpacking import unpacked

WHOLE = 2**33  # bytes of a directory that are read wholly to tell it from others; of the files of a larger one, three pieces each
PIECE = 4096
BLOCK = 512  # bytes of a tar's header
NO_FILE = "no regular file"  # a pipe, a device, a socket
REPLACED = "file whose name a later one has, too"
COMPRESSED: dict[bytes, Callable[[Path], IO[bytes]]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}

# Folders and files that operating systems create: thumbnails, bins, settings. Images among them are not part of the data.
DROPPINGS = {"__macosx", "@eadir", "#recycle", "@recycle", "$recycle.bin", "system volume information", "lost+found"}
DROPPINGS |= {"network trash folder", "thumbs.db", "ehthumbs.db", "desktop.ini"}


class Container:
    """Files in one place. names: their paths with "/", unordered; odd: {kind of entry that is no regular file: how many}.

    Reading is safe from threads and from forked or spawned processes.
    """

    path: Path
    names: list[str]
    odd: Counter[str]

    def read(self, name: str) -> bytes:
        """A file's content. OSError or whatever zipfile raises; ValueError for more than an image may have."""
        raise NotImplementedError

    def checksums(self, names: list[str]) -> list[tuple[int, int]]:
        """(bytes, CRC-32) of each of these files; -1 for what can't be read, which is for `on_bad` to judge."""
        raise NotImplementedError

    def check_unchanged(self) -> None:
        """DataError if files may have changed since they were listed, where that can be told at little cost."""

    def stamp(self, names: list[str]) -> str:
        """Sizes and times of these files, where `checksums` or `check_unchanged` may miss a change; else ""."""
        return ""


def open_container(path: Path) -> Container:
    """DataError where nothing is, and for what is neither a directory nor an archive that can be read."""
    if path.is_dir():
        return Directory(path)
    if not path.exists():
        raise DataError(f"there is nothing at {path}: give a directory or a zip of images (to train: by dataset.path, or GAN_DATA)")
    if not path.is_file():
        raise DataError(f"{path} is neither a file nor a directory: give a directory or a zip of images")
    return Tar(path) if _is_tar(path) else Zip(path)


def is_dropping(name: str) -> bool:
    """Whether a file or folder is one that systems make for themselves, or hidden."""
    return name.startswith(".") or name.lower() in DROPPINGS


# --- directories -------------------------------------------------------------------------------------------------------------


class Directory(Container):
    """All files below a directory: each real file once, by its own path; then those reached only through links.

    A link to a parent directory is left out, since it would bring in everything beside.
    """

    def __init__(self, path: Path):
        self.path = path
        self.names, self.odd = [], Counter()
        self._real: set[str] = set()  # directories whose files are listed
        links = self._list(os.fspath(path), "", os.path.realpath(path))
        to_files: list[tuple[str, str]] = []
        while links:
            further = []
            for link, name, above in sorted(links):
                target = os.path.realpath(link)
                if not os.path.isdir(link):
                    to_files.append((link, name))
                elif not f"{above}/".startswith(target.rstrip("/") + "/"):
                    further += self._list(link, f"{name}/", target)
            links = further
        targets = set()
        for link, name in to_files:  # last, since directories may have listed their targets
            target = os.path.realpath(link)
            if not os.path.exists(link):
                self.names.append(name)  # a dangling link is an image that can't be read
            elif not os.path.isfile(link):
                self.odd[NO_FILE] += 1
            elif target not in targets and os.path.dirname(target) not in self._real:
                targets.add(target)
                self.names.append(name)
        del self._real

    def _list(self, path: str, prefix: str, real: str) -> list[tuple[str, str, str]]:
        """Add the files below a directory, without its links; these are returned, each as (path, name, real directory)."""
        links = []
        directories = [(path, prefix, real)]
        while directories:
            path, prefix, real = directories.pop()
            if real in self._real:
                continue
            self._real.add(real)
            try:
                with os.scandir(path) as found:
                    entries = [entry for entry in found if not is_dropping(entry.name)]
            except OSError as error:
                if not prefix:
                    raise DataError(f"{path} can't be read ({error.strerror}): choose another") from None
                self.odd[f"folder that can't be read ({error.strerror})"] += 1
                continue
            for entry in entries:
                name = prefix + entry.name
                if entry.is_symlink():
                    links.append((entry.path, name, real))
                elif entry.is_dir():
                    directories.append((entry.path, f"{name}/", os.path.join(real, entry.name)))
                elif entry.is_file():
                    self.names.append(name)
                else:
                    self.odd[NO_FILE] += 1  # a pipe, a device or a socket, which might be read for ever
        return links

    def read(self, name: str) -> bytes:
        file = self.path / name
        try:
            with open(file, "rb", opener=_without_waiting) as opened:
                require_size(os.fstat(opened.fileno()).st_size)
                return opened.read()
        except FileNotFoundError:
            if file.is_symlink():  # a dangling link was one all along
                raise
            raise DataError(f"{file} is gone since the images were listed: put it back, or give the command again") from None

    def checksums(self, names: list[str]) -> list[tuple[int, int]]:
        files = [self.path / name for name in names]
        sizes = [_size(file) for file in files]
        whole = sum(sizes) <= WHOLE
        return list(zip(sizes, _of_each(files, lambda file: _crc(file, whole))))

    def stamp(self, names: list[str]) -> str:
        lines = (f"{name}\0{stamp_of(self.path / name)}\n" for name in names)
        return sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()


def _of_each(files: list, work: Callable[..., int]) -> list[int]:
    bar = tqdm(total=len(files), desc=f"checksums of {len(files):,} files", delay=2, leave=False, disable=None)
    with ThreadPoolExecutor(8) as pool, bar:
        found = []
        for crc in pool.map(work, files):
            found.append(crc)
            bar.update()
    return found


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return -1


def _without_waiting(file: str, flags: int) -> int:
    return os.open(file, flags | getattr(os, "O_NONBLOCK", 0))  # what has become a pipe since it was listed


def _crc(file: Path, whole: bool) -> int:
    try:
        with open(file, "rb", opener=_without_waiting) as opened:
            if whole:
                return _crc_of(iter(lambda: opened.read(2**20), b""))
            size = opened.seek(0, os.SEEK_END)
            pieces = []
            for start in (0, (size - PIECE) // 2, size - PIECE):
                opened.seek(max(0, start))
                pieces.append(opened.read(PIECE))
            return _crc_of(pieces)
    except OSError:
        return -1


def _crc_of(pieces) -> int:
    crc = 0
    for piece in pieces:
        crc = zlib.crc32(piece, crc)
    return crc


# --- archives ----------------------------------------------------------------------------------------------------------------


class _Archive(Container):
    """An archive. Of several entries with one name the last counts, as if they were unpacked."""

    def __init__(self, path: Path):
        self.path = path
        self.odd = Counter()
        self._stamp = stamp_of(path)

    def check_unchanged(self) -> None:
        if stamp_of(self.path) != self._stamp:
            raise DataError(f"{self.path} was changed while it's in use: wait until it's complete, then give the command again")


def _plain(name: str) -> str:
    """ "./a\\b.png" -> "a/b.png": one way to write the names that archives made on different systems have."""
    return "/".join(part for part in name.replace("\\", "/").split("/") if part not in ("", ".", ".."))


class Zip(_Archive):
    """A zip, kept open; each process that reads it opens its own."""

    def __init__(self, path: Path):
        super().__init__(path)
        # Kept open: to read the list of 50,000 files takes as long as to read their labels and checksums.
        self._zip: tuple[int, zipfile.ZipFile] | None = (os.getpid(), _open_zip(path))
        stored: dict[str, str] = {}
        for info in self._zip[1].infolist():
            if info.filename.endswith(("/", "\\")):  # a folder
                self.odd.update([NO_FILE] if info.file_size else [])
                continue
            name = _plain(info.filename)
            self.odd.update([REPLACED] if name in stored else [])
            stored[name] = info.filename
        self.names = [name for name in stored if not any(map(is_dropping, name.split("/")))]
        self._stored = {name: other for name, other in stored.items() if name != other}  # where the archive says it otherwise

    def read(self, name: str) -> bytes:
        archive = self._archive()
        info = archive.getinfo(self._stored.get(name, name))
        require_size(info.file_size)
        return archive.read(info)

    def checksums(self, names: list[str]) -> list[tuple[int, int]]:
        """From the archive's own list."""
        archive = self._archive()
        found = (archive.getinfo(self._stored.get(name, name)) for name in names)
        return [(info.file_size, info.CRC) for info in found]

    def _archive(self) -> zipfile.ZipFile:
        """The open zip of this process: forked ones would share one position in the file."""
        if self._zip is None or self._zip[0] != os.getpid():
            try:
                self._zip = (os.getpid(), zipfile.ZipFile(self.path))
            except (OSError, zipfile.BadZipFile) as error:
                why = reason(error) if isinstance(error, OSError) else in_short(error)
                raise DataError(f"{self.path} can't be read any more ({why}): put it back, or give the command again") from None
        return self._zip[1]

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_zip": None}


def _open_zip(path: Path) -> zipfile.ZipFile:
    try:
        archive = zipfile.ZipFile(path)
    except UnicodeDecodeError:
        raise DataError(
            f"{path} can't be read as a zip (it says that a name is UTF-8, which it isn't): unpack it and name the directory"
        ) from None
    except NotImplementedError as error:
        raise DataError(f"{path} can't be read as a zip ({error}): unpack it and name the directory") from None
    except Exception as error:  # foreign bytes make zipfile raise a dozen kinds of error
        advice = "if it was cut short, get it again; if it is an image, name its directory"
        raise DataError(f"{path} can't be read as a zip ({in_short(error)}): {advice}") from None
    found, told = len(archive.infolist()), _told_entries(path)
    if told is not None and told != found % 2**16:
        raise DataError(f"{path} is damaged: it lists {found:,} files, and says that they are {told:,}; get it again")
    return archive


def _told_entries(path: Path) -> int | None:
    """The number of entries that a zip's end record gives in 16 bits; None if it is given elsewhere (APPNOTE.TXT, 4.3.16)."""
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - 2**16 - 22))
        end = file.read()
    place = end.rfind(b"PK\5\6")
    told = int.from_bytes(end[place + 10 : place + 12], "little")
    return None if place < 0 or told == 2**16 - 1 else told


class Tar(_Archive):
    """A tar, whose files are read by their offset. A compressed one is first unpacked into a temporary file without a name."""

    def __init__(self, path: Path):
        super().__init__(path)
        self._file = _open_tar(path)
        self._where: dict[str, tuple[int, int]] = {}  # name -> offset, size
        try:
            with tarfile.open(fileobj=self._file, mode="r:") as archive:
                for member in archive:
                    self._add(member)
                end = archive.offset
        except Exception as error:  # foreign bytes make tarfile raise a dozen kinds of error
            why = in_short(error)
            raise DataError(f"{path} can't be read as a tar ({why}): get it again, or name an unpacked directory") from None
        self._file.seek(end)
        if self._file.read(BLOCK) != bytes(BLOCK):  # tarfile takes anything that is no header for the end
            raise DataError(f"{path} is cut short or damaged, {len(self._where):,} files from its beginning: get it again")
        self.names = list(self._where)

    def _add(self, member: tarfile.TarInfo) -> None:
        name = _plain(member.name)
        if any(map(is_dropping, name.split("/"))) or member.isdir():
            return
        if member.isreg() and not member.issparse():
            self.odd.update([REPLACED] if name in self._where else [])
            self._where[name] = member.offset_data, member.size
        elif not member.islnk() and not member.issym():  # what links lead to is in the archive by its own name
            self.odd[NO_FILE] += 1

    def read(self, name: str) -> bytes:
        offset, size = self._where[name]
        require_size(size)
        return _read_at(self._file, offset, size)

    def checksums(self, names: list[str]) -> list[tuple[int, int]]:
        def crc(name: str) -> int:
            offset, size = self._where[name]
            return _crc_of(_read_at(self._file, offset + i, min(2**20, size - i)) for i in range(0, size, 2**20))

        return [(self._where[name][1], found) for name, found in zip(names, _of_each(names, crc))]

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_file": None}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._file = _open_tar(self.path)


def _read_at(file: IO[bytes], offset: int, size: int) -> bytes:
    data = os.pread(file.fileno(), size, offset)
    if len(data) != size:
        raise ValueError("the archive is cut short")
    return data


def _head(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(BLOCK)
    except OSError as error:
        raise DataError(f"{path} can't be read ({error.strerror}): choose another") from None


def _opener(path: Path) -> Callable[[Path], IO[bytes]] | None:
    head = _head(path)
    return next((opener for magic, opener in COMPRESSED.items() if head.startswith(magic)), None)


def _is_tar(path: Path) -> bool:
    return _head(path)[257:262] == b"ustar" or path.suffix == ".tar" or _opener(path) is not None


def _open_tar(path: Path) -> IO[bytes]:
    opener = _opener(path)
    return open(path, "rb") if opener is None else unpacked(path, opener)
