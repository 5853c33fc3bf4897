"""The three ways to make a square; what is read as an image, and how, whatever its metadata say."""

import io
import struct
import subprocess
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps, PngImagePlugin

from data import DataError, load
from data.decoding import FORMATS, SUFFIXES, as_rgb, fit
from data.images import RESOLUTIONS
from data.sources.opening import open_source
from data.streaming import full_size_batches
from gan.config import Dataset
from tests.data.pictures import encoded, noise


def png(bits, colour, key, row):
    """A PNG of one row, by hand, since Pillow writes no such depths. key: of its transparent colour."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    width = len(row) * 8 // (bits * {0: 1, 2: 3}[colour])
    parts = chunk(b"IHDR", struct.pack(">IIBBBBB", width, 1, bits, colour, 0, 0, 0)), chunk(b"tRNS", key)
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IDAT", zlib.compress(b"\0" + row)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("bits", "colour", "key", "row", "seen"),
    [
        (2, 0, struct.pack(">H", 1), bytes([0b00011011]), [0, 255, 170, 255]),
        (4, 0, struct.pack(">H", 2), bytes([0x02, 0xF1]), [0, 255, 255, 17]),
        (8, 0, struct.pack(">H", 2), bytes([0, 2, 170]), [0, 255, 170]),
        (8, 2, struct.pack(">3H", 16, 0, 0), bytes([16, 0, 0, 0, 16, 0]), [255, 0]),
        (16, 2, struct.pack(">3H", 4096, 0, 0), struct.pack(">6H", 4096, 0, 0, 16, 0, 0), [255, 0]),
        (16, 2, struct.pack(">3H", 30000, 30000, 30000), struct.pack(">6H", *[30000] * 3, *[0] * 3), [255, 0]),
    ],
)
def test_the_transparent_colour_of_a_png_is_white_at_every_depth(bits, colour, key, row, seen):
    assert np.asarray(as_rgb(png(bits, colour, key, row)))[0, :, 0].tolist() == seen


def test_cut_takes_the_central_pixels_as_they_are():
    image = noise(0, (40, 30))
    assert (fit(image, 16, "cut") == np.asarray(image)[7:23, 12:28].transpose(2, 0, 1)).all()
    with pytest.raises(ValueError, match="40×30 is smaller than 32×32"):
        fit(image, 32, "cut")


def test_pad_shows_the_whole_image_between_black_bars():
    found = fit(Image.new("RGB", (64, 32), "white"), 16, "pad")
    assert (found[:, :4] == 0).all() and (found[:, -4:] == 0).all() and (found[:, 4:12] == 255).all()
    assert fit(Image.new("RGB", (64, 8)), 16, "pad").shape == (3, 16, 16)


def test_pad_puts_black_around_a_small_image_and_leaves_its_pixels():
    """As digits of 28 pixels are usually trained on at 32."""
    image = noise(0, (28, 28))
    found = fit(image, 32, "pad")
    assert (found[:, 2:-2, 2:-2] == np.asarray(image).transpose(2, 0, 1)).all()
    assert found[:, :2].sum() + found[:, -2:].sum() + found[:, :, :2].sum() + found[:, :, -2:].sum() == 0
    assert (fit(noise(0, (15, 8)), 16, "pad") == 0).all(axis=(0, 2)).sum() == 8


def test_center_of_celeba_is_its_square_of_178():
    image = noise(0, (178, 218))
    wanted = image.crop((0, 20, 178, 198)).resize((64, 64), Image.Resampling.LANCZOS)
    assert (fit(image, 64) == np.asarray(wanted).transpose(2, 0, 1)).all()


def test_celeba_is_found_by_its_published_names(tmp_path):
    (tmp_path / "img_align_celeba").mkdir()
    noise(0, (178, 218)).save(tmp_path / "img_align_celeba/000001.jpg")
    noise(0, (50, 50)).save(tmp_path / "other.jpg")
    for path in (tmp_path, tmp_path / "img_align_celeba"):
        assert load("celeba", path, 64).images.shape == (1, 3, 64, 64)
    (tmp_path / "root/celeba").mkdir(parents=True)  # as torchvision has it, beside other data
    noise(1, (178, 218)).save(tmp_path / "root/other.jpg")
    (tmp_path / "img_align_celeba").rename(tmp_path / "root/celeba/img_align_celeba")
    for path in (tmp_path / "root", tmp_path / "root/celeba"):
        found = load("celeba", path, 64)
        assert len(found) == 1 and "img_align_celeba" in found.source
    with pytest.raises(DataError, match=r"there is no celeba at .*img_align_celeba or img_align_celeba.zip"):
        load("celeba", tmp_path / "nowhere", 64)
    with pytest.raises(DataError, match=r"dataset\.crop is one of center, pad, cut"):
        load("celeba", tmp_path, 64, crop="centre")


# --- what is read ------------------------------------------------------------------------------------------------------------

MADE_BY_PILLOW = {
    ".jpg": "jpeg", ".jfif": "jpeg", ".mpo": "mpo", ".png": "png", ".apng": "png", ".webp": "webp", ".avif": "avif", ".bmp": "bmp",
    ".gif": "gif", ".tif": "tiff", ".tiff": "tiff", ".jp2": "jpeg2000", ".ppm": "ppm", ".dds": "dds", ".pcx": "pcx", ".qoi": "qoi",
    ".sgi": "sgi",
}  # fmt: skip


@pytest.mark.parametrize("suffix", MADE_BY_PILLOW)
def test_whatever_pillow_reads_is_an_image(tmp_path, suffix):
    image = Image.new("RGB", (16, 16), (200, 100, 50))
    (tmp_path / f"a{suffix.upper()}").write_bytes(encoded(image, MADE_BY_PILLOW[suffix]))
    found = load("folder", tmp_path, 16)
    assert len(found) == 1 and (found.images.float().mean((0, 2, 3)) - torch.tensor([200.0, 100, 50])).abs().max() < 4


NOT_READ = {  # and why
    "BLP": "games", "BUFR": "another program", "CUR": "pointers", "DCX": "fax", "DIB": "any bytes may pass", "EPS": "Ghostscript",
    "FITS": "floats", "FLI": "films", "FPX": "another library", "FTEX": "games", "GBR": "brushes", "GRIB": "another program",
    "HDF5": "another program", "ICNS": "icons", "IPTC": "news",
    "IM": "any bytes may pass", "MIC": "another library", "MPEG": "another program",
    "MSP": "black and white", "PCD": "thumbnails", "PIXAR": "no software", "SPIDER": "any bytes may pass",
    "TGA": "any bytes may pass", "WMF": "another program", "XBM": "black and white", "XPM": "icons",
}  # fmt: skip


def test_every_suffix_of_pillows_is_read_or_left_out_for_a_reason():
    Image.init()
    known = {suffix: kind for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    assert {kind for suffix, kind in known.items() if suffix not in SUFFIXES} <= NOT_READ.keys()
    assert not NOT_READ.keys() & FORMATS.keys() and set(FORMATS) <= set(Image.OPEN)


@pytest.mark.parametrize(
    "start", [b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"\xc5\xd0\xd3\xc6", b"\xd7\xcd\xc6\x9a\0\0"]
)
def test_no_other_program_is_started_whatever_a_file_is_called(tmp_path, start, monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **o: pytest.fail("a program was started"))
    (tmp_path / "a.png").write_bytes(start + bytes(500))
    with pytest.raises(DataError, match=r"a\.png \(not an image\)"):
        load("folder", tmp_path, 16)
    with pytest.raises(DataError, match=r"a\.png can't be decoded \(not an image\)"):
        list(full_size_batches(open_source(tmp_path), [0]))


# --- metadata ----------------------------------------------------------------------------------------------------------------


def exif(orientation, *entries):
    """An EXIF block, big-endian, by hand: entries are (tag, type, count, 4 bytes)."""
    entries = [(0x0112, 3, 1, struct.pack(">HH", orientation, 0)), *entries]
    found = b"".join(struct.pack(">HHI", *entry[:3]) + entry[3] for entry in entries)
    return b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">H", len(entries)) + found + bytes(8) + struct.pack(">II", 1, 0)


ODD = {  # tags as cameras and editors leave them
    "x/0": (0x011A, 5, 1, struct.pack(">I", 46)),
    "beyond the end": (0x011A, 5, 1, b"\xff\xff\xff\xf0"),
    "of no type": (0x0131, 99, 7, b"abcd"),
    "a number that is text": (0x011A, 2, 3, b"72\0\0"),
    "a pointer to nowhere": (0x8769, 4, 1, b"\x7f\xff\xff\xff"),
    "text that is no text": (0x010E, 2, 4, b"\xff\xfe\xfd\xfc"),
}


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp"])
@pytest.mark.parametrize("odd", ODD)
def test_odd_tags_do_not_make_a_picture_unusable(kind, odd):
    image = noise(0, (40, 20))
    plain = np.asarray(as_rgb(encoded(image, kind)))
    found = as_rgb(encoded(image, kind, exif=exif(6, ODD[odd])))
    assert (np.asarray(found) == np.rot90(plain, -1)).all()  # "turn me a quarter clockwise"


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "tiff"])
def test_all_eight_orientations_are_those_of_pillow(kind, orientation):
    turned = Image.Exif()
    turned[0x0112] = orientation
    data = encoded(noise(0, (24, 16)), kind, exif=turned)
    wanted = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    assert (np.asarray(as_rgb(data)) == np.asarray(wanted)).all()


@pytest.mark.parametrize("value", [0, 9, 60000])
def test_an_orientation_that_is_none_means_upright(value):
    image = noise(0, (24, 16))
    assert (np.asarray(as_rgb(encoded(image, "png", exif=exif(value)))) == np.asarray(image)).all()


def test_megabytes_of_text_or_profile_do_not_matter():
    image, text = noise(0, (24, 16)), PngImagePlugin.PngInfo()
    text.add_text("prompt", "x" * (2 * 2**20), zip=True)
    turned = Image.Exif()
    turned[0x0112] = 3
    for options in ({"pnginfo": text}, {"icc_profile": bytes(3 * 2**20)}, {"pnginfo": text, "icc_profile": bytes(3 * 2**20)}):
        assert (np.asarray(as_rgb(encoded(image, **options))) == np.asarray(image)).all()
        assert (np.asarray(as_rgb(encoded(image, exif=turned, **options))) == np.asarray(image)[::-1, ::-1]).all()


def test_segments_that_cannot_be_read_are_left_out_of_a_jpeg():
    data = encoded(noise(0, (24, 16)), "jpeg", quality=95)
    wanted = np.asarray(as_rgb(data))
    for segment in (
        b"ICC_PROFILE\0",
        b"MPF\0MM\0*\xff\xff\xff\xff",
        b"Photoshop 3.0\x008BIM\x04",
        b"http://ns.adobe.com/xap/1.0/\0<",
    ):
        for marker in range(0xE1, 0xEE):
            block = b"\xff" + bytes([marker]) + struct.pack(">H", len(segment) + 2) + segment
            assert (np.asarray(as_rgb(data[:2] + block + data[2:])) == wanted).all()


def test_an_xmp_tag_that_is_no_text_does_not_stop_a_tiff():
    data = bytearray(encoded(noise(0, (24, 16)), "tiff"))
    place = data.index(struct.pack("<HHI", 284, 3, 1))  # the tag of planes, which are of one kind anyway
    data[place : place + 12] = struct.pack("<HHII", 700, 4, 1, 7)
    assert (np.asarray(as_rgb(bytes(data))) == np.asarray(noise(0, (24, 16)))).all()


# --- values ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values, kind",
    [
        (np.linspace(0, 1, 256, dtype=np.float32), "floating-point numbers"),
        (np.arange(256, dtype=np.int32) << 22, "32-bit or signed integers"),
        (np.arange(256, dtype=np.int32), "32-bit or signed integers"),  # which would pass for 16 bits, and be black
    ],
)
def test_values_without_a_known_white_are_refused_not_black(tmp_path, values, kind):
    Image.fromarray(values.reshape(16, 16)).save(tmp_path / "a.tif")
    with pytest.raises(DataError, match=rf"a\.tif \(its pixels are {kind}, whose white level isn't defined"):
        load("folder", tmp_path, 16)


@pytest.mark.parametrize("kind", ["tiff", "png", "ppm"])
def test_sixteen_bits_are_scaled_in_every_format(kind):
    grey = np.linspace(0, 65535, 256).reshape(16, 16).astype(np.uint16)
    image = Image.fromarray(grey) if kind != "ppm" else Image.fromarray(grey.astype(np.int32))
    found = np.asarray(as_rgb(encoded(image, kind)))
    assert (found[..., 0] == (grey / 257).round()).all() and (found[..., 0] == found[..., 2]).all()


@pytest.mark.parametrize("over", [1, 3])  # Pillow itself only warns below twice the limit
def test_the_limit_of_pixels_holds_for_scores_as_for_training(tmp_path, monkeypatch, over):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    noise(0, (50, 20 * over + 1)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a\.png can't be decoded \(.*(pixels|limit)"):
        list(full_size_batches(open_source(tmp_path), [0]))
    with pytest.raises(DataError, match=r"a\.png \(.*(pixels|limit)"):
        load("folder", tmp_path, 16)


# --- too small ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "side, resolution, advice",
    [
        (12, 16, "enlarge them to 16 pixels or more yourself, or set dataset.crop=pad, which puts black around them"),
        (28, 32, r"set dataset\.resolution=24, or set dataset.crop=pad, which puts black around them"),
        (48, 64, r"set dataset\.resolution=48"),
        (100, 128, r"set dataset\.resolution=96"),
    ],
)
def test_the_advice_for_small_images_is_possible(tmp_path, side, resolution, advice):
    noise(0, (side, side)).save(tmp_path / "a.png")
    for memory, words in ((4, "none of the 1 images can be used"), (0, "can't be used")):
        with pytest.raises(DataError, match=rf"(?=.*{words}).*{side}×{side} is smaller than {resolution}×{resolution}.*{advice}"):
            found = load("folder", tmp_path, resolution, memory=memory, workers=0)
            found.read([0])
    noise(1, (resolution, resolution)).save(tmp_path / "b.png")
    with pytest.raises(
        DataError, match=rf"1 of 2 images can't be used: .*; {advice}.*, or leave them out with dataset\.on_bad=skip"
    ):
        load("folder", tmp_path, resolution)


@pytest.mark.parametrize(("side", "resolution"), [(12, 16), (28, 32), (48, 64)])
def test_both_ways_that_are_advised_work(tmp_path, side, resolution):
    noise(0, (side, side)).save(tmp_path / "a.png")
    assert load("folder", tmp_path, resolution, crop="pad").images.shape[-1] == resolution
    if side >= RESOLUTIONS[0]:
        assert load("folder", tmp_path, side // 8 * 8).images.shape[-1] == side // 8 * 8
    assert all(Dataset(resolution=r).resolution == r for r in RESOLUTIONS)
