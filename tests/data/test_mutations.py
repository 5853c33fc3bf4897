"""Files of every kind that is read, with bytes changed, cut out and put in at random: the right pixels, or one sentence.

What has a checksum (zips, compressed tars, packs, arrays in an .npz) gives its very pixels or is refused; what has none (a JPEG,
say) is decoded or refused by its name. Nothing else ever comes out: no other error, no signal, no image lost in silence.

For longer, and with other choices: GAN_MUTATION_SECONDS=60 GAN_MUTATION_SEED=7 pytest tests/data/test_mutations.py
"""

import io
import os
import random
import tarfile
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data import DataError, load
from data.files import UserError
from data.sources import containers
from data.sources.folder import FileSource
from data.sources.opening import open_source
from data.sources.pack import PackSource, verify
from data.streaming import full_size_batches
from data.tools.export import export
from data.tools.pack import Squares, pack
from gan.config import Config
from tests.data.pictures import encoded, noise

R = 8
SECONDS = float(os.environ.get("GAN_MUTATION_SECONDS", "0.2"))  # for each kind, and 20 tries at the least
SEED = os.environ.get("GAN_MUTATION_SEED", "0")
SLOW = 10  # seconds that one try may take


def mutated(data: bytes, choose: random.Random, headers: int = 4096) -> bytes:
    """One of the things that happen to files, mostly near their beginning or end, where they say what they are."""
    out = bytearray(data)
    for _ in range(choose.choice([1, 1, 2, 8])):
        near = choose.choice([choose.randrange(len(out)), min(choose.randrange(headers), len(out) - 1)])
        at = choose.choice([near, len(out) - 1 - min(choose.randrange(headers), len(out) - 1)])
        how = choose.randrange(6)
        if how == 0:
            out[at] ^= 1 << choose.randrange(8)
        elif how == 1:
            out[at] = choose.choice([0, 255, 128, choose.randrange(256)])
        elif how == 2:
            out[at : at + 4] = choose.choice([b"\0" * 4, b"\xff" * 4, b"\x7f\xff\xff\xff", choose.randbytes(4)])
        elif how == 3:
            out[at : at + choose.randrange(1, 64)] = b""
        elif how == 4:
            out[at:at] = choose.randbytes(choose.randrange(1, 64))
        else:
            del out[max(1, at) :]
        if not out:
            return b""
    return bytes(out)


def pictures() -> dict[str, bytes]:
    """Small pictures in every way that they are often stored."""
    turned = Image.Exif()
    turned[0x0112], turned[0x0131] = 6, "software"
    rgb, grey = noise(0, (12, 10)), Image.fromarray(np.linspace(0, 65535, 120).reshape(10, 12).astype(np.uint16))
    found = {f"{kind}.{kind}": encoded(rgb, kind) for kind in ("bmp", "jpeg", "png", "webp", "tiff", "gif", "ppm", "qoi", "avif")}
    found |= {f"turned.{kind}": encoded(rgb, kind, exif=turned) for kind in ("jpeg", "png", "webp", "tiff")}
    found |= {"lzw.tif": encoded(rgb, "tiff", compression="tiff_lzw"), "grey.png": encoded(grey), "grey.tif": encoded(grey, "tiff")}
    found |= {"jp2.jp2": encoded(rgb, "jpeg2000"), "pcx.pcx": encoded(rgb, "pcx"), "sgi.sgi": encoded(rgb, "sgi")}
    found |= {"profile.png": encoded(rgb, icc_profile=bytes(500)), "profile.jpg": encoded(rgb, "jpeg", icc_profile=bytes(500))}
    return found | {"palette.png": encoded(rgb.quantize(8)), "alpha.webp": encoded(rgb.convert("RGBA"), "webp")}


def ten() -> dict[str, bytes]:
    return {f"{'ab'[i % 2]}/{i}.png": encoded(noise(i, (R, R))) for i in range(10)}


def folder(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def pixels_of(path: Path) -> list[bytes]:
    """Of each image, in memory, streamed and in its own size: all three agree."""
    images = load("folder", path, R).images
    source = open_source(path)
    streamed = load("folder", path, R, memory=0, workers=0).read(range(len(source)))
    assert (streamed == images).all()
    for batch in full_size_batches(source, list(range(len(source)))):
        assert (batch == images).all()
    return [image.numpy().tobytes() for image in images]


def outcome(work) -> list[bytes] | str:
    """What `work` gives, or its sentence. Whatever else it does fails the test."""
    start = time.monotonic()
    try:
        found = work()
    except UserError as error:
        found = str(error)
        assert "\n" not in found and 10 < len(found) < 1500, found
    assert time.monotonic() - start < SLOW
    return found


# --- each kind: how a file of it is made, and what holds for what is read of it afterwards ---------------------------------------


def zip_of_ten(root: Path) -> Path:
    with zipfile.ZipFile(root / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in ten().items():
            archive.writestr(name, content)
    return root / "a.zip"


def tar_of_ten(root: Path, mode: str = "w", name: str = "a.tar") -> Path:
    with tarfile.open(root / name, mode) as archive:
        for inner, content in ten().items():
            entry = tarfile.TarInfo(f"./{inner}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return root / name


def array_of_ten(root: Path, save=np.savez, name: str = "a.npz") -> Path:
    save(root / name, np.stack([np.asarray(noise(i, (R, R))) for i in range(10)]))
    return root / name


def pack_of_ten(root: Path, stored: str = "raw") -> Path:
    return pack(open_source(folder(root / "set", ten())), root / "a.pack", Squares(R, stored=stored)).path


def lsun_of_ten(root: Path) -> Path:
    return export(open_source(folder(root / "set", ten())), root / "x_train_lmdb").file


CHECKED = {  # by a checksum of all they hold
    "zip": zip_of_ten,
    "tar.gz": lambda root: tar_of_ten(root, "w:gz", "a.tar.gz"),
    "npz": array_of_ten,
    "compressed npz": lambda root: array_of_ten(root, np.savez_compressed),
}
PLAIN = {  # whose pixels, or bytes of images, may be changed unnoticed
    "tar": tar_of_ten,
    "npy": lambda root: array_of_ten(root, np.save, "a.npy"),
    "lsun": lsun_of_ten,
}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("GAN_COPIES", "0")


def tries(share: float = 1.0):
    """Sources of random choices until the time is over, always the same ones in the same order."""
    end, number = time.monotonic() + share * SECONDS, 0
    while time.monotonic() < end or number < 20:
        yield random.Random(f"{SEED},{number}")
        number += 1


@pytest.mark.parametrize("kind", CHECKED)
def test_what_has_a_checksum_gives_its_very_pixels_or_a_sentence(kind, tmp_path, cache):
    path = CHECKED[kind](tmp_path)
    whole, wanted, refused = path.read_bytes(), pixels_of(path), 0
    for choose in tries():
        path.write_bytes(mutated(whole, choose))
        found = outcome(lambda: pixels_of(path))
        refused += isinstance(found, str)
        if not isinstance(found, str):
            assert set(found) <= set(wanted), "an image is another"
            assert len(found) + _left_out(path) == len(wanted), "an image is lost"
    assert refused > 5


def _left_out(path: Path) -> int:
    """How many files are said to be no images, or are hidden: those whose names were changed may be."""
    source = open_source(path)
    if not isinstance(source, FileSource):
        return 0
    files, hidden = source._files, 0
    if isinstance(files, containers.Zip):
        entries = zipfile.ZipFile(path).namelist()
        hidden = sum(any(map(containers.is_dropping, name.replace("\\", "/").split("/"))) for name in entries)
    return len(files.names) - len(source) + sum(files.odd.values()) + hidden


@pytest.mark.parametrize("kind", PLAIN)
def test_what_has_none_gives_all_its_images_or_a_sentence(kind, tmp_path, cache):
    path = PLAIN[kind](tmp_path)
    whole, refused = path.read_bytes(), 0
    for choose in tries():
        path.write_bytes(mutated(whole, choose))
        found = outcome(lambda: pixels_of(path))
        refused += isinstance(found, str)
        assert isinstance(found, str) or len(found) + _left_out(path) == 10, "an image is lost"
    assert refused > 5


@pytest.mark.parametrize("stored", ["raw", "webp"])
def test_a_pack_is_right_refused_or_found_wrong_by_verify(stored, tmp_path, cache):
    path = pack_of_ten(tmp_path, stored)
    whole, wanted, seen = path.read_bytes(), pixels_of(path), set()
    for choose in tries():
        path.write_bytes(mutated(whole, choose, 12_288))
        if not outcome(lambda: PackSource.recognises(path)):
            seen.add("no pack")
            continue
        verified = outcome(lambda: verify(PackSource(path)))
        found = outcome(lambda: pixels_of(path))
        assert found == wanted if verified == [] else isinstance(found, str) or verified
        seen.add("right" if verified == [] else "wrong")
    assert {"right", "wrong"} <= seen


@pytest.mark.parametrize("name", pictures())
def test_a_picture_is_decoded_or_refused_by_its_name(name, tmp_path, cache):
    whole, refused = pictures()[name], 0
    for choose in tries(1 / 6):
        (tmp_path / name).write_bytes(mutated(whole, choose, 200))
        for work in (
            lambda: list(load("folder", tmp_path, R).images),
            lambda: list(full_size_batches(open_source(tmp_path), [0])),
            lambda: list(load("folder", tmp_path, R, memory=0, workers=0).read([0])),
        ):
            found = outcome(work)
            refused += isinstance(found, str)
            assert len(found) == 1 or f"{name} " in found
    assert refused


def test_a_half_finished_pack_is_gone_on_with_rightly_or_refused(tmp_path, cache, monkeypatch):
    """Each try in a process of its own, which a signal would end."""
    import data.tools.pack as making

    monkeypatch.setattr(making, "COMMIT", (2, 2**26))
    monkeypatch.setattr(making, "PART", 2)
    source, out, partial = open_source(folder(tmp_path / "set", ten())), tmp_path / "a.pack", tmp_path / ".a.pack.partial"
    whole = pack(source, tmp_path / "whole.pack", Squares(R))
    wanted = [whole.pixels(i, R).tobytes() for i in range(10)]
    monkeypatch.setattr(making, "_decode_all", lambda source, start, *rest: _decoded(making, source, start, rest, 6))
    with pytest.raises(KeyboardInterrupt):
        pack(source, out, Squares(R))
    begun = partial.read_bytes()
    monkeypatch.setattr(making, "_decode_all", lambda source, start, *rest: _decoded(making, source, start, rest, 99))
    codes = set()
    for choose in tries():
        out.unlink(missing_ok=True)
        partial.write_bytes(mutated(begun, choose, 8192))
        child = os.fork()
        if not child:
            os._exit(_packed(source, out, whole, wanted))
        codes.add(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    assert codes == {RIGHT, REFUSED}


RIGHT, REFUSED, WRONG = 0, 1, 2


def _packed(source, out: Path, whole: PackSource, wanted: list[bytes]) -> int:
    try:
        found = pack(source, out, Squares(R))
        same = [found.pixels(i, R).tobytes() for i in range(len(found))] == wanted and found.fingerprint == whole.fingerprint
        return RIGHT if same and not verify(found) else WRONG
    except DataError as error:
        return WRONG if "\n" in str(error) else REFUSED
    except BaseException:
        return WRONG


def _decoded(making, source, start: int, rest: tuple, stop: int):
    """What worker processes would give, from this one; interrupted at the image `stop`."""
    making.worker.shared = source
    for first in range(start, len(source), making.PART):
        if first >= stop:
            raise KeyboardInterrupt
        yield making._decode(range(first, min(first + making.PART, len(source))), *rest[:1])


SETTINGS = b"""dataset: {name: folder, path: "x: y", resolution: 32}
generator: {kernel: c2sp, width: 4.0}
train: &t
  seed: 0x10
  lr_g: 2e-4
  steps: 1_000
discriminator: {<<: {kernel: c3}, width: 8}
"""


def test_settings_are_read_or_refused_in_a_short_sentence(tmp_path):
    file, refused = tmp_path / "a.yaml", 0
    for choose in tries():
        text = mutated(SETTINGS, choose, 400)
        for _ in range(choose.randrange(3)):
            at = choose.randrange(len(text) + 1)
            odd = [
                b"&a ",
                b"*a",
                b"[",
                b"{",
                b"!!",
                b"!!bool ",
                b"? ",
                b"<<: ",
                b"'",
                b'"',
                b"\t",
                b"\n",
                b"- ",
                b"%",
                b"|",
                b"0",
                b": ",
            ]
            text = text[:at] + choose.choice(odd) + text[at:]
        file.write_bytes(text)
        found = outcome(lambda: [Config.load(file)])
        refused += isinstance(found, str)
        typed = text.decode(errors="surrogateescape")
        key = choose.choice(["dataset.path", "train.seed", "generator.kernel", "train.device", typed[:9]])
        override = f"{key}={typed[: choose.randrange(30)]}"
        outcome(lambda override=override: [Config.load(None, [override])])
    assert refused > 5
