"""Packs: the folder reader's pixels, whole or not at all, and nothing lost by a kill, a full disk or a broken image."""

import errno
import json
import os
import resource
import shutil
import signal
import time
from pathlib import Path

import lmdb
import pytest
import torch

import data.tools.pack
from data import DataError, load
from data.database.reader import Database
from data.sources.folder import FileSource
from data.sources.opening import open_source
from data.sources.pack import PackSource, verify
from data.tools.pack import Squares, pack
from tests.data.pictures import encoded, noise

R = 16


@pytest.fixture
def hundred(write_folder, small):
    """A hundred images in classes a and b."""
    return write_folder({f"{'ab'[i % 2]}/{i:03}.png": image for i, image in enumerate(small(100))})


@pytest.fixture
def by_tens(monkeypatch):
    monkeypatch.setattr(data.tools.pack, "COMMIT", (10, 2**26))
    monkeypatch.setattr(data.tools.pack, "PART", 5)


def pack_of(path, out, size=R, crop="center", stored="raw", on_bad="skip", **options):
    return pack(open_source(path), out, Squares(size, crop, stored), on_bad=on_bad, **options)


def everything(source):
    return torch.stack([torch.from_numpy(source.pixels(i, R).copy()) for i in range(len(source))])


@pytest.mark.parametrize("stored", ["raw", "webp"])
def test_a_pack_holds_what_the_folder_reader_gives(tmp_path, photos, odd_pictures, write_folder, stored):
    files = {f"{i:02}.jpg": photo for i, photo in enumerate(photos[:10])} | {f"{n}.png": d for n, d in odd_pictures.items()}
    folder = write_folder(files)
    wanted = load("folder", folder, R)
    found = pack_of(folder, tmp_path / "a.pack", stored=stored, workers=2)
    assert torch.equal(everything(found), wanted.images) and verify(found) == []
    loaded, streamed = (load("folder", tmp_path / "a.pack", R, memory=memory) for memory in (4, 0))
    assert torch.equal(loaded.images, wanted.images) and torch.equal(streamed.read([3, 1]), wanted.images[[3, 1]])
    assert loaded.fingerprint == streamed.fingerprint == found.manifest["sha256"]


def test_classes_names_and_hold_outs_survive(hundred, tmp_path):
    found = pack_of(hundred, tmp_path / "a.pack")
    source = open_source(hundred)
    assert found.classes == ("a", "b") and found.labels.tolist() == source.labels.tolist() == [0] * 50 + [1] * 50
    assert (found.hashes == source.hashes).all()
    held, kept = (load("folder", path, R, split="test", hold_out=0.2).images for path in (hundred, tmp_path / "a.pack"))
    assert torch.equal(held, kept)
    assert {"source", "count", "skipped", "size", "crop", "filter", "sha256", "format"} <= found.manifest.keys()


def test_raw_and_webp_have_one_checksum_and_other_pixels_another(hundred, tmp_path):
    raw, webp, pad = (
        pack_of(hundred, tmp_path / n, **o).fingerprint for n, o in [("r", {}), ("w", {"stored": "webp"}), ("p", {"size": 8})]
    )
    assert raw == webp != pad


def test_a_large_pack_gives_smaller_images(tmp_path, photos, write_folder):
    folder = write_folder({f"{i}.jpg": photo for i, photo in enumerate(photos[:3])})
    pack_of(folder, tmp_path / "a.pack", size=64)
    assert load("folder", tmp_path / "a.pack", 32).images.shape == (3, 3, 32, 32)
    with pytest.raises(DataError, match=r"holds images of 64 pixels.*pack again with --size 128, or set dataset.resolution=64"):
        load("folder", tmp_path / "a.pack", 128)


def test_unusable_images_are_counted_listed_and_left_out(hundred, tmp_path):
    (hundred / "a/000.png").write_bytes(b"no image")
    (hundred / "b/001.png").write_bytes(encoded(noise(0, (1, 1))))
    found = pack_of(hundred, tmp_path / "a.pack", workers=2)
    assert len(found) == 98 and found.manifest["skipped"] == 2
    assert found.manifest["first_skipped"] == ["a/000.png (not an image)", "b/001.png (1×1 is smaller than 16×16)"]
    wanted = load("folder", hundred, R, on_bad="skip")
    assert torch.equal(everything(found), wanted.images) and found.labels.tolist() == wanted.labels.tolist()


def test_refusing_names_the_image_and_skipping_goes_on_from_there(hundred, tmp_path, by_tens):
    (hundred / "b/051.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"b/051.png \(not an image\) can't be used; leave such images out with --on-bad skip"):
        pack_of(hundred, tmp_path / "a.pack", on_bad="refuse")
    assert not (tmp_path / "a.pack").exists()
    done = []
    assert len(pack_of(hundred, tmp_path / "a.pack", progress=done.append)) == 99
    assert done[0] >= 70  # fifty a's and a part of the b's were not done twice


def test_nothing_usable(tmp_path, write_folder):
    with pytest.raises(DataError, match="no image can be used"):
        pack_of(write_folder({"a.png": b"", "b.png": b""}), tmp_path / "a.pack")
    assert not (tmp_path / "a.pack").exists()


def test_made_already_or_made_of_something_else(hundred, tmp_path):
    out = tmp_path / "a.pack"
    first = pack_of(hundred, out)
    before = out.stat().st_mtime_ns
    assert pack_of(hundred, out).fingerprint == first.fingerprint and out.stat().st_mtime_ns == before
    with pytest.raises(DataError, match=r"a.pack exists and was made with another size, crop: choose another --out"):
        pack_of(hundred, out, size=8, crop="pad")
    (hundred / "a/000.png").unlink()
    with pytest.raises(DataError, match="made with another source"):
        pack_of(hundred, out)
    (tmp_path / "words").write_text("words")
    with pytest.raises(DataError, match="exists and is no pack"):
        pack_of(hundred, tmp_path / "words")
    assert (tmp_path / "words").read_text() == "words"


def test_other_pixels_under_the_same_names_and_sizes_are_another_source(write_folder, tmp_path):
    files = [{f"{i}.bmp": encoded(noise(seed + i), "bmp") for i in range(3)} for seed in (0, 5)]
    first, other = (write_folder(each, tmp_path / name) for each, name in zip(files, "ab"))
    pack_of(first, tmp_path / "a.pack")
    with pytest.raises(DataError, match="made with another source"):
        pack_of(other, tmp_path / "a.pack")


def child(work):
    """Run `work` in a forked process; gives its id. It ends with 0, or with 1 and the error in the file `error`."""
    pid = os.fork()
    if pid:
        return pid
    code = 0
    try:
        work()
    except DataError as error:
        Path("error").write_text(str(error))
        code = 1
    finally:
        os._exit(code)


def slowly(monkeypatch):
    fit = data.sources.source.fit
    monkeypatch.setattr(data.sources.source, "fit", lambda *a: time.sleep(0.02) or fit(*a))


def test_kill_in_the_middle_and_go_on(hundred, tmp_path, by_tens, monkeypatch):
    out, partial = tmp_path / "a.pack", tmp_path / ".a.pack.partial"
    with monkeypatch.context() as patch:
        slowly(patch)
        pid = child(lambda: pack_of(hundred, out, workers=2))
    end = time.monotonic() + 60
    while _committed(partial) < 20:
        assert _running(pid) and time.monotonic() < end
        time.sleep(0.02)
    workers = _children(pid)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert not out.exists() and len(workers) == 2
    with pytest.raises(DataError, match="half-finished pack"):
        PackSource(partial)
    done = []
    found = pack_of(hundred, out, progress=done.append)
    assert 20 <= done[0] < 100 and sum(done) == 100 and not partial.exists()
    assert torch.equal(everything(found), load("folder", hundred, R).images) and verify(found) == []
    assert found.fingerprint == pack_of(hundred, tmp_path / "whole.pack").fingerprint
    while any(_running(pid) for pid in workers):  # they follow their parent
        assert time.monotonic() < end
        time.sleep(0.1)


def _committed(partial):
    """How many images a half-finished pack has."""
    try:
        database = Database(partial)
        return database.entries(database.tree("images"))
    except DataError:  # not yet there, or read in the middle of a write
        return 0


def _children(pid):
    return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_half_finished_pack_of_something_else_is_left_alone(hundred, tmp_path, by_tens, monkeypatch):
    monkeypatch.setattr(data.tools.pack._GrowingPack, "finish", lambda self, about: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        pack_of(hundred, tmp_path / "a.pack")
    monkeypatch.undo()
    before = (tmp_path / ".a.pack.partial").read_bytes()
    with pytest.raises(DataError, match=r"\.a\.pack\.partial was begun with another size: remove it"):
        pack_of(hundred, tmp_path / "a.pack", size=8)
    assert (tmp_path / ".a.pack.partial").read_bytes() == before


def test_two_at_once(hundred, tmp_path, monkeypatch):
    out = tmp_path / "a.pack"
    with monkeypatch.context() as patch:
        slowly(patch)
        pid = child(lambda: pack_of(hundred, out))
    end = time.monotonic() + 60
    while not (tmp_path / ".a.pack.partial").exists():
        assert time.monotonic() < end
    with pytest.raises(DataError, match=r"another process is writing .*a\.pack"):
        pack_of(hundred, out)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0  # the first one was not disturbed
    assert verify(PackSource(out)) == [] and len(pack_of(hundred, out)) == 100


def test_a_half_finished_pack_that_is_damaged(hundred, tmp_path):
    (tmp_path / ".a.pack.partial").write_bytes(b"words" * 5000)
    with pytest.raises(
        DataError, match=r"\.a\.pack\.partial, which is half finished, .*remove it, then give the same command again"
    ):
        pack_of(hundred, tmp_path / "a.pack")


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_a_half_finished_pack_that_was_cut_when_it_was_copied(hundred, tmp_path, by_tens, monkeypatch, share):
    """The library would map what isn't there, and the process be killed."""
    monkeypatch.setattr(data.tools.pack.worker, "in_order", _stops_after(8))
    with pytest.raises(KeyboardInterrupt):
        pack_of(hundred, tmp_path / "a.pack")
    monkeypatch.undo()
    partial = tmp_path / ".a.pack.partial"
    os.truncate(partial, int(share * partial.stat().st_size))
    with pytest.raises(DataError, match=r"remove it, then give the same command"):
        pack_of(hundred, tmp_path / "a.pack")
    partial.unlink()
    assert verify(pack_of(hundred, tmp_path / "a.pack")) == []


def _stops_after(parts):
    def in_order(pool, work, tasks, ahead):
        for i, task in enumerate(tasks):
            if i == parts:
                raise KeyboardInterrupt
            yield pool.submit(work, task).result()

    return in_order


def test_a_disk_that_fails_is_no_broken_image(hundred, tmp_path, by_tens, monkeypatch):
    read = FileSource.read

    def failing(self, i):
        if i == 37:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return read(self, i)

    monkeypatch.setattr(FileSource, "read", failing)
    with pytest.raises(DataError, match=r"can't be read \(Input/output error\): fix the disk"):
        pack_of(hundred, tmp_path / "a.pack")
    assert not (tmp_path / "a.pack").exists()
    monkeypatch.undo()
    assert len(pack_of(hundred, tmp_path / "a.pack")) == 100


def test_files_that_go_while_they_are_packed_are_no_broken_images(hundred, tmp_path):
    source = open_source(hundred)
    for file in sorted(hundred.rglob("*.png"))[50:]:
        file.unlink()
    with pytest.raises(DataError, match="is gone since the images were listed"):
        pack(source, tmp_path / "a.pack", Squares(R))


@pytest.mark.parametrize("change", ["gone", "another"])
def test_a_zip_that_changes_while_it_is_packed(hundred, tmp_path, by_tens, monkeypatch, change):
    archive = Path(shutil.make_archive(str(tmp_path / "images"), "zip", hundred))
    source, decode = open_source(archive), data.tools.pack._decode_all

    def changed(*arguments):
        for number, part in enumerate(decode(*arguments)):
            if number == 3 and change == "gone":
                archive.unlink()
            elif number == 3:
                archive.write_bytes(archive.read_bytes()[:-100])
            yield part

    monkeypatch.setattr(data.tools.pack, "_decode_all", changed)
    with pytest.raises(DataError, match=r"was changed while it's in use|can't be read any more"):
        pack(source, tmp_path / "a.pack", Squares(R))
    assert not (tmp_path / "a.pack").exists()


def test_a_database_that_is_written_to_while_it_is_packed(write_lsun, small, tmp_path, by_tens, monkeypatch):
    source = open_source(write_lsun(values={f"{i:040}".encode(): image for i, image in enumerate(small(40))}))
    decode = data.tools.pack._decode_all

    def touched(*arguments):
        for number, part in enumerate(decode(*arguments)):
            if number == 3:
                os.utime(source._databases[0].file, (1, 1))
            yield part

    monkeypatch.setattr(data.tools.pack, "_decode_all", touched)
    with pytest.raises(DataError, match="was changed while it's in use"):
        pack(source, tmp_path / "a.pack", Squares(R))
    assert not (tmp_path / "a.pack").exists()


def test_a_small_map_grows(hundred, tmp_path, monkeypatch):
    monkeypatch.setattr("data.tools.pack._space", lambda count, size: 2**16)
    assert verify(pack_of(hundred, tmp_path / "a.pack")) == []


@pytest.mark.parametrize(
    "number, advice", [(errno.ENOSPC, "the disk is full"), (errno.EDQUOT, "quota"), (errno.ENOMEM, "ulimit -v")]
)
def test_a_full_disk_is_a_sentence_and_loses_nothing(hundred, tmp_path, by_tens, monkeypatch, number, advice):
    begin, calls = data.database.writer.commit, []

    def commit(environment, file, write):
        calls.append(file)

        def fail(transaction):
            write(transaction)
            if len(calls) == 4:
                raise lmdb.Error(f"mdb_txn_commit: {os.strerror(number)}")

        begin(environment, file, fail)

    monkeypatch.setattr(data.tools.pack, "commit", commit)
    with pytest.raises(DataError, match=f"{advice}.*same command again"):
        pack_of(hundred, tmp_path / "a.pack")
    monkeypatch.undo()
    done = []
    assert verify(pack_of(hundred, tmp_path / "a.pack", progress=done.append)) == [] and done[0] == 30


def test_a_limit_on_file_sizes_as_a_disk_really_fails(hundred, tmp_path, by_tens, monkeypatch):
    """The system refuses the write in the middle of a commit; with room, the same command goes on."""
    monkeypatch.chdir(tmp_path)

    def limited():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, -1))
        pack_of(hundred, tmp_path / "a.pack")

    assert os.waitstatus_to_exitcode(os.waitpid(child(limited), 0)[1]) == 1
    message = Path("error").read_text()
    assert "files may not grow this large" in message or "the disk is full or failing" in message
    done = []
    assert verify(pack_of(hundred, tmp_path / "a.pack", progress=done.append)) == [] and 0 < done[0] < 100


def test_a_directory_that_cannot_be_written(hundred, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"can't be written .*choose another --out"):
        pack_of(hundred, tmp_path / "file" / "a.pack")


def test_a_worker_that_dies(hundred, tmp_path, by_tens, monkeypatch):
    decode = data.tools.pack._decode
    monkeypatch.setattr(data.tools.pack, "_decode", _die_at_fifty)
    with pytest.raises(DataError, match=r"a decoding process died.*same command again"):
        pack_of(hundred, tmp_path / "a.pack")
    monkeypatch.setattr(data.tools.pack, "_decode", decode)
    done = []
    assert verify(pack_of(hundred, tmp_path / "a.pack", progress=done.append)) == [] and done[0] > 0


_decode_well = data.tools.pack._decode


def _die_at_fifty(part, **rest):
    if 50 in part:
        os.kill(os.getpid(), signal.SIGKILL)
    return _decode_well(part, **rest)


@pytest.mark.parametrize("stored", ["raw", "webp"])
def test_every_changed_byte_of_an_image_is_found(hundred, tmp_path, stored):
    found = pack_of(hundred, tmp_path / "a.pack", stored=stored)
    place = int(found._offsets[42] + found._sizes[42] // 2)
    with open(tmp_path / "a.pack", "r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 64]))
    problems = verify(PackSource(tmp_path / "a.pack"))
    assert len(problems) == 1 and problems[0].startswith("image 42 ")


def test_a_cut_pack_is_refused(hundred, tmp_path):
    pack_of(hundred, tmp_path / "a.pack")
    whole = (tmp_path / "a.pack").read_bytes()
    assert PackSource.recognises(tmp_path / "a.pack")
    for size in (4096, 9000, len(whole) // 2):
        (tmp_path / "a.pack").write_bytes(whole[:size])
        with pytest.raises(DataError, match=r"a.pack is (cut short|damaged|no LMDB)"):
            load("folder", tmp_path / "a.pack", R)


def test_settings_that_a_pack_cannot_follow_are_refused(hundred, tmp_path):
    """A pack of shrunk squares must not pass for one of cut-out pixels."""
    path = pack_of(hundred, tmp_path / "a.pack").path
    with pytest.raises(DataError, match=r"made with --crop center: pack again with --crop cut, or set dataset.crop=center"):
        load("lsun", path, R, crop="cut")
    with pytest.raises(DataError, match=r"made with --crop center"):  # at another size, too
        load("lsun", path, R // 2, crop="cut")
    with pytest.raises(DataError, match=r"made with --crop center: choose --crop center, or pack the original images"):
        pack_of(path, tmp_path / "b.pack", size=R // 2, crop="pad")
    with pytest.raises(DataError, match=r"a.pack holds a, b, not bedroom"):
        load("lsun", path, R, categories="bedroom")
    assert len(load("lsun", path, R, categories="a,b", crop="center")) == 100


def test_labels_and_hashes_are_verified_too(hundred, tmp_path):
    path = pack_of(hundred, tmp_path / "a.pack").path
    with lmdb.open(str(path), subdir=False, lock=False, max_dbs=2) as environment:
        rows = environment.open_db(b"rows")
        with environment.begin(write=True, db=rows) as transaction:
            key, value = next(iter(transaction.cursor()))
            transaction.put(key, value[:-4] + b"\1\0\0\0" if value[-4:] == bytes(4) else value[:-4] + bytes(4))
    assert verify(PackSource(path)) == ["labels or the hashes of names are not those that were packed"]


def texts_of(file, change=lambda texts: None):
    """The JSON texts of a pack, after `change`."""
    with lmdb.open(str(file), subdir=False, lock=False, max_dbs=2) as environment, environment.begin(write=True) as transaction:
        texts = {name: transaction.get(name) for name in (b"job", b"state", b"manifest")}
        change(texts)
        for name, text in texts.items():
            if text is not None:
                transaction.put(name, text)
    return texts


def place_of(file, name):
    """Where in the file such a text begins."""
    found = Database(file).records()
    return next(int(found.offsets[i]) for i in range(len(found.ends)) if found.key(i) == name)


def test_every_flipped_bit_of_a_manifest_is_found_before_use(write_folder, small, tmp_path):
    folder = write_folder(dict(zip(["ä/a.png", "b/b.png", "b/bad.png"], [*small(2), b"no image"])))
    path = pack_of(folder, tmp_path / "a.pack").path
    text = texts_of(path)[b"manifest"]
    for i in range(len(text)):
        flipped = text[:i] + bytes([text[i] ^ 1 << i % 8]) + text[i + 1 :]
        with pytest.raises(DataError, match=r"a\.pack is (damaged: its manifest|a pack of format)"):
            data.sources.pack._manifest(flipped, path)
    whole = bytearray(path.read_bytes())
    whole[place_of(path, b"manifest") + 20] ^= 1
    path.write_bytes(whole)
    for use in (PackSource, lambda path: load("folder", path, R)):
        with pytest.raises(DataError, match="its manifest can't be read; pack again"):
            use(path)


def without_seal(texts):
    """As packs were before their texts had a checksum."""
    for name, text in texts.items():
        texts[name] = text if text is None else text.rpartition(b', "seal": ')[0] + b"}" if b'"seal"' in text else text
    state = json.loads(texts[b"state"])
    state.pop("rows")
    texts[b"state"] = json.dumps(state).encode()


def test_old_packs_without_a_checksum_still_load_and_go_on(hundred, tmp_path, by_tens, monkeypatch):
    wanted = load("folder", hundred, R).images
    path = pack_of(hundred, tmp_path / "a.pack").path
    assert b"seal" not in b"".join(filter(None, texts_of(path, without_seal).values()))
    assert verify(PackSource(path)) == [] and torch.equal(load("folder", path, R).images, wanted)
    assert len(pack_of(hundred, path)) == 100
    monkeypatch.setattr(data.tools.pack.worker, "in_order", _stops_after(8))
    with pytest.raises(KeyboardInterrupt):
        pack_of(hundred, tmp_path / "b.pack")
    monkeypatch.undo()
    texts_of(tmp_path / ".b.pack.partial", without_seal)
    done = []
    assert torch.equal(everything(pack_of(hundred, tmp_path / "b.pack", progress=done.append)), wanted) and done[0] == 40


@pytest.mark.parametrize("part", ["state", "job", "rows", "image"])
def test_a_half_finished_pack_that_rotted_is_not_gone_on_with(hundred, tmp_path, by_tens, monkeypatch, part):
    monkeypatch.setattr(data.tools.pack.worker, "in_order", _stops_after(8))
    with pytest.raises(KeyboardInterrupt):
        pack_of(hundred, tmp_path / "a.pack")
    monkeypatch.undo()
    partial = tmp_path / ".a.pack.partial"
    whole = bytearray(partial.read_bytes())
    database = Database(partial)
    where = {name: database.records(database.tree(name)) for name in ("images", "rows")}
    places = {
        "state": place_of(partial, b"state") + 12,
        "job": place_of(partial, b"job") + 40,
        "rows": int(where["rows"].offsets[1]) + 36,
        "image": int(where["images"].offsets[13]) + 100,
    }
    whole[places[part]] ^= 4
    partial.write_bytes(whole)
    with pytest.raises(DataError, match=r"\.a\.pack\.partial, which is half finished, is damaged \(.*\): remove it, then give"):
        pack_of(hundred, tmp_path / "a.pack")
    assert not (tmp_path / "a.pack").exists()


def test_labels_that_rotted_are_not_trained_with(hundred, tmp_path):
    path = pack_of(hundred, tmp_path / "a.pack").path
    found = PackSource(path)
    where = found._database.records(found._database.tree("rows"))
    whole = bytearray(path.read_bytes())
    whole[int(where.offsets[0]) + 40] ^= 1  # the first label
    path.write_bytes(whole)
    with pytest.raises(DataError, match="is damaged: labels or the hashes of names are not those that were packed; pack again"):
        load("folder", path, R)


def test_nothing_but_the_pack_stays_where_it_was_made(hundred, tmp_path):
    (tmp_path / "out").mkdir()
    pack_of(hundred, tmp_path / "out/a.pack")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.pack"]


def test_the_advice_for_a_pack_of_small_images_is_possible(hundred, tmp_path):
    path = pack_of(hundred, tmp_path / "a.pack").path
    with pytest.raises(DataError, match=r"of 16 pixels: pack again with --size 32, or set dataset.resolution=16$"):
        load("folder", path, 32)


def test_a_pack_has_no_test_split(hundred, tmp_path):
    pack_of(hundred, tmp_path / "a.pack")
    with pytest.raises(DataError, match=r"no test split: .*dataset.hold_out"):
        load("folder", tmp_path / "a.pack", R, split="test")
