"""Directories, zips and tars as people and systems make them: every real file once, nothing left out in silence."""

import bz2
import errno
import gzip
import lzma
import os
import pickle
import socket
import struct
import tarfile
import time
import zipfile

import pytest
import torch

from data import DataError, load
from data.sources.folder import FileSource
from data.sources.opening import open_one_split, open_source

R = 16


@pytest.fixture
def files(small):
    """Four images in two classes."""
    return dict(zip(["cat/1.png", "cat/2.png", "dog/1.png", "dog/2.png"], small(4)))


@pytest.fixture
def wanted(files, write_folder, tmp_path):
    return load("folder", write_folder(files, tmp_path / "wanted"), R)


def zipped(path, files, **options):
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def tarred(path, files):
    source = path.parent / f"{path.name}.files"
    for name, data in files.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(data)
    with tarfile.open(path, {".gz": "w:gz", ".tgz": "w:gz", ".bz2": "w:bz2", ".xz": "w:xz"}.get(path.suffix, "w")) as archive:
        archive.add(source, ".")
    return path


def same(found, wanted):
    return torch.equal(found.images, wanted.images) and found.classes == wanted.classes and torch.equal(found.labels, wanted.labels)


# --- archives ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("write", ["./{}", "{}", ".\\{}", "\\{}", "../{}", "/{}"])
def test_names_of_a_zip_as_different_systems_write_them(tmp_path, files, wanted, write):
    separator = "\\" if "\\" in write else "/"
    path = zipped(tmp_path / "a.zip", {write.format(name.replace("/", separator)): data for name, data in files.items()})
    found = load("folder", path, R)
    assert same(found, wanted) and found.fingerprint == wanted.fingerprint


def test_of_several_files_by_one_name_the_last_counts(tmp_path, files, wanted, small):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("./cat/1.png", small(9)[8])
        for name, data in files.items():
            archive.writestr(name, data)
    assert same(load("folder", tmp_path / "a.zip", R), wanted)
    assert FileSource(tmp_path / "a.zip").left_out == "1 × file whose name a later one has, too"
    with tarfile.open(tarred(tmp_path / "a.tar", files), "a") as archive:
        archive.add(tmp_path / "a.tar.files/cat/2.png", "cat/1.png")
    source = open_source(tmp_path / "a.tar")
    assert source.read(0) == files["cat/2.png"] and source.left_out == "1 × file whose name a later one has, too"


def test_a_folder_in_a_zip_that_holds_bytes_is_counted(tmp_path, files):
    source = open_source(zipped(tmp_path / "a.zip", {"dog/": b"", **files, "cat/\0.png": b"x", "cat/x/": b"x"}))
    assert len(source) == 4 and source.left_out == "2 × no regular file"


def test_a_zip_whose_list_was_cut_is_damaged(tmp_path, files):
    data = bytearray(zipped(tmp_path / "a.zip", files).read_bytes())
    first, second = data.index(b"PK\1\2"), data.index(b"PK\1\2", data.index(b"PK\1\2") + 4)
    end = data.index(b"PK\5\6")
    data[end + 12 : end + 16] = struct.pack("<I", end - second)  # the size of the list, and where it begins
    data[end + 16 : end + 20] = struct.pack("<I", first)
    del data[first:second]
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(DataError, match=r"a\.zip is damaged: it lists 3 files, and says that they are 4; get it again"):
        open_source(tmp_path / "a.zip")


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tgz", "a.tar.bz2", "a.tar.xz", "images.bin"])
def test_a_tar_compressed_or_not_is_what_its_folder_is(tmp_path, files, wanted, name):
    path = tarred(tmp_path / name, files)
    assert same(load("folder", path, R), wanted) and load("folder", path, R).fingerprint == wanted.fingerprint
    streamed = load("folder", path, R, memory=0, workers=2)
    assert torch.equal(streamed.read([3, 0]), wanted.images[[3, 0]])
    source = open_source(path)
    assert pickle.loads(pickle.dumps(source)).read(1) == source.read(1) == files["cat/2.png"]


def test_an_unpacked_tar_leaves_nothing_in_the_cache(tmp_path, files):
    source = open_source(tarred(tmp_path / "a.tar.gz", files))
    assert len(source) == 4 and os.listdir(os.environ["GAN_CACHE"]) == []


def test_links_in_a_tar_are_not_counted_twice(tmp_path, files):
    with tarfile.open(tarred(tmp_path / "a.tar", files), "a") as archive:
        for kind, target in ((tarfile.SYMTYPE, "1.png"), (tarfile.LNKTYPE, "./cat/1.png")):
            link = tarfile.TarInfo(f"./cat/link{kind[0]}.png")
            link.type, link.linkname = kind, target
            archive.addfile(link)
        pipe = tarfile.TarInfo("./cat/pipe.png")
        pipe.type = tarfile.FIFOTYPE
        archive.addfile(pipe)
    source = open_source(tmp_path / "a.tar")
    assert len(source) == 4 and source.left_out == "1 × no regular file"


def test_a_tar_that_ends_between_two_files_is_called_cut(tmp_path, files):
    path = tarred(tmp_path / "a.tar", files)
    whole = path.read_bytes()
    with tarfile.open(path) as archive:
        borders = [member.offset for member in archive][2:]
    for border in borders:
        path.write_bytes(whole[:border])
        with pytest.raises(DataError, match=r"a\.tar is cut short or damaged, \d files from its beginning: get it again"):
            open_source(path)
        path.write_bytes(whole[:border] + b"x" * 512 + whole[border + 512 :])
        with pytest.raises(DataError, match=r"a\.tar (is cut short or damaged|can't be read as a tar)"):
            open_source(path)


@pytest.mark.parametrize("suffix, compress", [(".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)])
def test_a_compressed_tar_that_is_cut_damaged_or_a_trap(tmp_path, files, suffix, compress, monkeypatch):
    monkeypatch.setattr("data.unpacking.SLACK", 2**16)
    whole = tarred(tmp_path / f"a.tar{suffix}", files).read_bytes()
    path = tmp_path / f"b.tar{suffix}"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"can't be unpacked \(.*damaged or cut short, get it again"):
        open_source(path)
    path.write_bytes(compress(bytes(2**22)))
    with pytest.raises(DataError, match="unpacks to more than 200 times its size, which images don't: unpack it yourself"):
        open_source(path)


@pytest.mark.parametrize(
    "field, value, advice",
    [
        ("name", b"\xff\xfe", "says that a name is UTF-8, which it isn't"),
        ("version", struct.pack("<H", 99), "zip file version 9.9"),
    ],
)
def test_zips_that_python_cannot_read_are_a_sentence(tmp_path, files, field, value, advice):
    path = zipped(tmp_path / "a.zip", {name.replace("cat", "kätzchen"): data for name, data in files.items()})
    data = bytearray(path.read_bytes())
    entry = data.index(b"PK\1\2")
    place = entry + {"name": 46, "version": 6}[field]
    data[place : place + len(value)] = value
    path.write_bytes(data)
    with pytest.raises(DataError, match=rf"a\.zip can't be read as a zip \(.*{advice}.*unpack it and name the directory") as error:
        open_source(path)
    assert "\n" not in str(error.value)


def test_a_file_of_zeros_is_not_read_or_unpacked(tmp_path, files, write_folder, monkeypatch):
    monkeypatch.setattr("data.decoding.LARGEST", 2**20)
    bomb = {**files, "dog/3.png": bytes(2**20 + 1)}
    zipped_, folder = zipped(tmp_path / "a.zip", bomb, compression=zipfile.ZIP_DEFLATED), write_folder(bomb)
    monkeypatch.setattr(zipfile.ZipFile, "read", read := _Counted(zipfile.ZipFile.read))
    for path in (zipped_, folder, tarred(tmp_path / "a.tar", bomb)):
        found = load("folder", path, R, on_bad="skip")
        assert found.skipped == ("dog/3.png",) and len(found) == 4
    assert read.largest < 2**20


class _Counted:
    """Stands for a method; largest: how many bytes it has returned at most."""

    def __init__(self, method):
        self.method, self.largest = method, 0

    def __get__(self, instance, kind):
        def call(*arguments):
            found = self.method(instance, *arguments)
            self.largest = max(self.largest, len(found))
            return found

        return call


# --- splits ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("around", ["", "photos/"])
@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
def test_splits_are_found_below_one_folder_and_by_their_other_names(tmp_path, small, write_folder, around, kind, capsys):
    names = ["train/cat/1.png", "train/dog/1.png", "val/cat/2.png"]
    files = {f"{around}{name}": image for name, image in zip(names, small(3))}
    path = {
        "folder": lambda: write_folder(files),
        "zip": lambda: zipped(tmp_path / "a.zip", files),
        "tar": lambda: tarred(tmp_path / "a.tar", files),
    }[kind]()
    train, test = (load("folder", path, R, split=split) for split in ("train", "test"))
    assert (train.classes, test.classes, len(train), len(test)) == (("cat", "dog"), ("cat",), 2, 1)
    assert capsys.readouterr().err == f"{path}: the folder val is its test split\n"  # once
    with pytest.raises(DataError, match=r"has a test split of its own: set dataset\.hold_out=0"):
        load("folder", path, R, hold_out=0.5)
    with pytest.raises(DataError, match="has the splits train and test: choose one with --split"):
        open_one_split(path, None)


def test_what_belongs_to_no_split_is_said(tmp_path, small, write_folder, capsys):
    path = write_folder({f"{split}/a/{i}.png": image for i, (split, image) in enumerate(zip(["Train", "VAL", "Test"], small(3)))})
    assert len(load("folder", path, R)) == len(load("folder", path, R, split="test")) == 1
    assert load("folder", path, R, split="test").fingerprint != load("folder", path, R).fingerprint
    assert capsys.readouterr().err == f"{path}: VAL belongs to no split and is left out\n"


def test_folders_that_are_not_all_splits_are_classes(small, write_folder):
    path = write_folder({f"{name}/{i}.png": image for i, (name, image) in enumerate(zip(["train", "test", "bus"], small(3)))})
    assert load("folder", path, R).classes == ("bus", "test", "train")


# --- directories -------------------------------------------------------------------------------------------------------------


def test_links_that_lead_to_each_other_give_each_file_once(small, write_folder):
    path = write_folder(dict(zip(["a/1.png", "b/2.png"], small(2))))
    for here, there in (("a/x", "../b"), ("b/y", "../a"), ("b/z", "../b"), ("c", "a"), ("d", "."), ("e", "..")):
        (path / here).symlink_to(there)
    assert FileSource(path).names == ["a/1.png", "b/2.png"]
    (path / "loop.png").symlink_to("loop2.png")
    (path / "loop2.png").symlink_to("loop.png")
    assert load("folder", path, R, on_bad="skip").skipped == ("loop.png", "loop2.png")


def test_linked_files_and_folders_count_once_by_their_own_names_first(small, write_folder, tmp_path):
    pool = write_folder(dict(zip(["p/1.png", "p/2.png", "q/3.png"], small(3))), tmp_path / "pool")
    path = write_folder({"z.png": small(4)[3]}, tmp_path / "set")
    (path / "a.png").symlink_to("z.png")  # to one that is there by itself
    (path / "b.png").symlink_to(pool / "q/3.png")
    (path / "c.png").symlink_to(pool / "q/3.png")
    (path / "d.png").symlink_to(pool / "p/1.png")  # which a linked folder holds, too
    (path / "p").symlink_to(pool / "p")
    (path / "r").symlink_to(pool / "p")
    assert FileSource(path).names == ["b.png", "p/1.png", "p/2.png", "z.png"]


def test_a_thousand_folders_of_links_end_soon(tmp_path, small):
    for i in range(30):
        (tmp_path / f"set/{i}").mkdir(parents=True)
        (tmp_path / f"set/{i}/a.png").write_bytes(small(1)[0])
    for i in range(30):
        for j in range(30):
            (tmp_path / f"set/{i}/to{j}").symlink_to(f"../{j}")
    start = time.monotonic()
    assert len(FileSource(tmp_path / "set")) == 30 and time.monotonic() - start < 5


def test_pipes_sockets_and_devices_are_left_out_and_never_waited_for(small, write_folder, capsys):
    path = write_folder({"a.png": small(1)[0]})
    os.mkfifo(path / "b.png")
    (path / "c.png").symlink_to("/dev/zero")
    (path / "d.png").symlink_to("b.png")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path / "e.png"))
    assert load("folder", path, R).skipped == () and len(FileSource(path)) == 1
    assert capsys.readouterr().err == f"{path}: left out 4 × no regular file\n"
    for place in (path / "b.png", "/dev/zero"):
        with pytest.raises(DataError, match="is neither a file nor a directory"):
            open_source(path / place)
    (path / "lsun_train_lmdb").mkdir()
    os.mkfifo(path / "lsun_train_lmdb/data.mdb")
    assert len(load("folder", path, R)) == 1


def test_what_has_become_a_pipe_meanwhile_is_a_bad_image(small, write_folder):
    path = write_folder(dict(zip(["a.png", "b.png"], small(2))))
    source = FileSource(path)
    (path / "a.png").unlink()
    os.mkfifo(path / "a.png")
    with pytest.raises(Exception, match="cannot identify"):
        source.image(0)
    assert source.fingerprint != FileSource(path).fingerprint


def test_droppings_of_systems_are_no_images(small, write_folder, tmp_path):
    image = small(1)[0]
    droppings = ["@eaDir/a.png/SYNOPHOTO_THUMB_M.jpg", "__MACOSX/._a.png", "#recycle/b.png", "$RECYCLE.BIN/c.png", "Thumbs.db"]
    droppings += ["cat/.thumbnails/a.png", "cat/@eaDir/a.png", "lost+found/d.png", "System Volume Information/e.png", "desktop.ini"]
    files = dict.fromkeys([*droppings, "cat/a.png"], image)
    for path in (write_folder(files), zipped(tmp_path / "a.zip", files), tarred(tmp_path / "a.tar", files)):
        source = FileSource(path)
        assert (source.names, source.left_out) == (["cat/a.png"], "")


def test_what_is_left_out_is_counted_and_named_once(small, write_folder, capsys):
    names = ["a.heic", "b.heic", "c.HEIC", "notes.txt", "list.csv", "deep/video.mp4", "nosuffix"]
    path = write_folder({"0.png": small(1)[0], **dict.fromkeys(names, b"")})
    for _ in range(2):
        load("folder", path, R)
    told = "7 files that are no images (3 .heic, 1 .txt, 1 .csv, …; the first is a.heic)"
    found = capsys.readouterr().err
    assert found.count(f"{path}: left out 7 files that are no images (3 .heic, 1 ") == 1 and found.count("\n") == 1
    assert FileSource(path).left_out.startswith(told.partition("1 .txt")[0])
    (path / "0.png").unlink()
    with pytest.raises(DataError, match=r"holds no images \(jpeg, jpg, .*\), but 7 files that are no images .*: set dataset.path"):
        FileSource(path)


def test_a_folder_that_others_may_not_read_is_said(small, write_folder, monkeypatch):
    path, scandir = write_folder(dict(zip(["a/1.png", "b/2.png"], small(2)))), os.scandir

    def refusing(place):  # root may read every folder, so permissions would not do
        if os.path.basename(place) == refused:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), place)
        return scandir(place)

    monkeypatch.setattr(os, "scandir", refusing)
    refused = "b"
    assert FileSource(path).left_out == "1 × folder that can't be read (Permission denied)"
    refused = path.name
    with pytest.raises(DataError, match=r"can't be read \(Permission denied\): choose another"):
        FileSource(path)
