import io
import shutil
import struct
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data import DataError, load
from data.sources import containers
from data.sources.folder import FileSource
from data.sources.opening import open_source

R = 8
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def picture(seed=0, size=(R, R)):
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(noise)


def png(image, **options):
    file = io.BytesIO()
    image.save(file, "png", **options)
    return file.getvalue()


def pixels(image):
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)


def load_one(tmp_path, image, name="a.png", resolution=R, **options):
    image.save(tmp_path / name, **options)
    return load("folder", tmp_path, resolution).images[0]


@pytest.fixture
def classes(tmp_path):
    """Two classes, names that sort unlike they were written, and what must be overlooked."""
    root = tmp_path / "set"
    for seed, name in enumerate(["dog/2.png", "cat/9.PNG", "cat/10.png", "dog/deep/1.webp"]):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        picture(seed).save(root / name, lossless=True)
    (root / "__MACOSX").mkdir()
    for name in ["__MACOSX/x.png", "cat/._9.png", "cat/.hidden.png", "readme.txt", "cat/Thumbs.db"]:
        (root / name).write_bytes(b"no image")
    return root


def zip_of(root):
    return shutil.make_archive(str(root), "zip", root)


# -- names, classes, order ------------------------------------------------------------------------------------------


def test_order_labels_and_classes(classes):
    found = load("folder", classes, R)
    assert found.classes == ("cat", "dog") and found.labels.tolist() == [0, 0, 1, 1]
    expected = [pixels(picture(seed)) for seed in (2, 1, 0, 3)]  # cat/10.png, cat/9.PNG, dog/2.png, dog/deep/1.webp
    assert torch.equal(found.images, torch.stack(expected))
    assert found.images.is_contiguous() and found.images.dtype == torch.uint8 and found.labels.dtype == torch.int64
    assert found.skipped == () and "\n" not in found.source


def test_zip_equals_directory(classes):
    directory, archive = load("folder", classes, R), load("folder", zip_of(classes), R)
    assert torch.equal(directory.images, archive.images) and torch.equal(directory.labels, archive.labels)
    assert directory.classes == archive.classes


def test_without_class_folders(tmp_path):
    picture(0).save(tmp_path / "b.bmp")
    picture(1).save(tmp_path / "a.png")
    found = load("folder", tmp_path, R)
    assert found.classes == ("all",) and found.labels.tolist() == [0, 0]
    assert torch.equal(found.images, torch.stack([pixels(picture(1)), pixels(picture(0))]))


def test_linked_class_folders_count_and_a_loop_ends(tmp_path, classes):
    root = tmp_path / "links"
    root.mkdir()
    (root / "dog").symlink_to(classes / "dog")
    (root / "again").symlink_to(root)
    assert load("folder", root, R).classes == ("dog",)


def test_train_and_test_folders_are_splits(tmp_path, classes):
    shutil.copytree(classes / "cat", tmp_path / "split/train/cat")
    shutil.copytree(classes / "dog", tmp_path / "split/test/dog")
    for path in (tmp_path / "split", zip_of(tmp_path / "split")):
        assert load("folder", path, R, split="train").classes == ("cat",)
        assert load("folder", path, R, split="test").classes == ("dog",)
    with pytest.raises(DataError, match="no test split"):
        load("folder", classes, R, split="test")
    shutil.rmtree(tmp_path / "split/test")
    with pytest.raises(DataError, match="no images in a folder 'test'"):
        load("folder", tmp_path / "split", R, split="test")


def test_a_single_split_within_a_folder_has_its_classes_below_it(tmp_path, classes):
    images = load("folder", classes, R)
    (tmp_path / "d").mkdir()
    classes.rename(tmp_path / "d" / "train")
    found = load("folder", tmp_path, R)
    assert found.classes == images.classes and torch.equal(found.labels, images.labels)
    (tmp_path / "d" / "train").rename(tmp_path / "d" / "val")  # no split without one to train on
    assert load("folder", tmp_path, R, split="train").classes == ("d",)


def test_classes_are_below_the_split_also_where_a_share_is_held_out_of_it(tmp_path, classes):
    shutil.copytree(classes, tmp_path / "split/train")
    whole = load("folder", tmp_path / "split", R)
    parts = [load("folder", tmp_path / "split", R, split=split, hold_out=0.7) for split in ("train", "test")]
    assert all(part.classes == whole.classes == ("cat", "dog") for part in parts)
    assert sum(part.labels.bincount(minlength=2) for part in parts).tolist() == whole.labels.bincount().tolist()
    shutil.copytree(classes, tmp_path / "split/test")
    both = open_source(tmp_path / "split")
    assert both.classes == ("cat", "dog") and both.labels.tolist() == 2 * whole.labels.tolist()


def test_path_from_environment_home_and_relative(classes, monkeypatch):
    monkeypatch.setenv("GAN_DATA", str(classes))
    assert len(load("folder", resolution=R)) == 4
    monkeypatch.setenv("HOME", str(classes.parent))
    assert len(load("folder", "~/set", R)) == 4
    monkeypatch.setenv("GAN_DATA", str(classes.parent))
    assert len(load("folder", "set", R)) == 4  # below GAN_DATA
    monkeypatch.chdir(classes.parent)
    monkeypatch.delenv("GAN_DATA")
    assert len(load("folder", "set", R)) == 4
    with pytest.raises(DataError, match="GAN_DATA"):
        load("folder", resolution=R)


def test_a_fingerprint_is_of_contents_and_the_same_for_a_zip(classes, monkeypatch):
    first = FileSource(classes).fingerprint
    assert FileSource(Path(zip_of(classes))).fingerprint == first
    for whole in (2**33, 0):  # read wholly; in three pieces
        monkeypatch.setattr(containers, "WHOLE", whole)
        before = FileSource(classes).fingerprint
        path = classes / "cat/9.PNG"
        kept = path.read_bytes()
        for place in (20, len(kept) // 2, len(kept) - 1):
            path.write_bytes(kept[:place] + bytes([kept[place] ^ 1]) + kept[place + 1 :])
            assert FileSource(classes).fingerprint != before
        path.write_bytes(kept)
        assert FileSource(classes).fingerprint == before


def test_a_file_that_cannot_be_read_is_a_bad_image(classes):
    (classes / "cat/gone.png").symlink_to(classes / "nowhere")
    with pytest.raises(DataError, match=r"1 of 5 images can't be used: cat/gone.png"):
        load("folder", classes, R)
    for memory in (4, 0):
        found = load("folder", classes, R, on_bad="skip", memory=memory, workers=0)
        assert len(found.read(range(4))) == 4 and found.skipped[0].startswith("cat/gone.png")


def test_the_pieces_of_a_large_file(tmp_path, monkeypatch):
    monkeypatch.setattr(containers, "PIECE", 4)
    file = tmp_path / "a.png"
    file.write_bytes(bytes(range(100)))
    assert containers._crc(file, whole=False) == zlib.crc32(bytes([0, 1, 2, 3, 48, 49, 50, 51, 96, 97, 98, 99]))


# -- kinds of pixels ------------------------------------------------------------------------------------------------


def test_right_size_keeps_its_pixels(tmp_path):
    assert torch.equal(load_one(tmp_path, picture()), pixels(picture()))


def test_grey_and_bilevel(tmp_path):
    assert torch.equal(load_one(tmp_path, picture().convert("L")), pixels(picture().convert("L")))
    assert torch.equal(load_one(tmp_path, picture().convert("1")), pixels(picture().convert("1")))


def test_16_bit_grey_is_scaled_not_clipped(tmp_path):
    grey = np.linspace(0, 65535, R * R).reshape(R, R).astype(np.uint16)
    found = load_one(tmp_path, Image.fromarray(grey))
    assert torch.equal(found[0], torch.from_numpy((grey / 257).round().astype(np.uint8)))
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


@pytest.mark.parametrize(("bits", "photometric"), [(16, 1), (16, 0), (12, 1)])
def test_grey_tiffs_are_scaled_by_their_bits_and_turned_where_white_is_zero(tmp_path, bits, photometric):
    """Written by hand, since Pillow writes neither 12 bits nor these with white as zero."""
    grey = (np.linspace(0, 1, R * R).reshape(R, R) * (2**bits - 1)).astype(np.uint16)
    whole = np.unpackbits(grey.astype(">u2").view(np.uint8).reshape(R, R, 2), axis=-1)[..., 16 - bits :]
    packed = np.packbits(whole.reshape(R, -1), axis=-1).tobytes()  # most significant bit first, a line at a time
    content = packed if bits == 12 else grey.astype("<u2").tobytes()
    tags = [(256, R), (257, R), (258, bits), (259, 1), (262, photometric), (273, 8), (277, 1), (278, R), (279, len(content))]
    entries = b"".join(struct.pack("<HHII", tag, 3, 1, value) for tag, value in tags)
    directory = struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)
    (tmp_path / "deep.tif").write_bytes(b"II" + struct.pack("<HI", 42, 8 + len(content)) + content + directory)
    found = load("folder", tmp_path, R).images[0, 0].numpy()
    wanted = (grey / (2**bits - 1) * 255).round()
    assert (found == (wanted if photometric else 255 - wanted)).all()


def test_transparent_16_bit_grey_lies_over_white(tmp_path):
    grey = np.full((R, R), 1000, np.uint16)
    grey[: R // 2] = 30_000
    Image.fromarray(grey).save(tmp_path / "clear.png", transparency=1000)
    found = load("folder", tmp_path, R).images[0, 0]
    assert (found[: R // 2] == round(30_000 / 257)).all() and (found[R // 2 :] == 255).all()


def test_16_bit_colour_is_scaled_not_clipped(tmp_path):
    """Written by hand, since Pillow writes no such PNGs."""
    colours = np.random.default_rng(0).integers(0, 65536, (R, R, 3), np.uint16)
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in colours)

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", R, R, 16, 2, 0, 0, 0)
    (tmp_path / "deep.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    )
    found = load("folder", tmp_path, R).images[0].permute(1, 2, 0).numpy()
    assert np.abs(found - colours / 257).max() <= 1


def test_palette(tmp_path):
    image = picture().quantize(16)
    assert torch.equal(load_one(tmp_path, image), pixels(image))


def test_transparent_palette_lies_over_white(tmp_path):
    image = Image.new("P", (R, R), 0)
    image.putpalette([*RED, *BLUE])
    image.paste(1, (0, 0, R // 2, R))
    found = load_one(tmp_path, image, transparency=0)
    assert found[:, 0, 0].tolist() == list(BLUE) and found[:, 0, -1].tolist() == list(WHITE)


def test_alpha_lies_over_white(tmp_path):
    colours = [((*RED, 255), RED), ((*RED, 0), WHITE), ((*RED, 51), (255, 204, 204))]
    for colour, expected in colours:
        assert load_one(tmp_path, Image.new("RGBA", (R, R), colour))[:, 0, 0].tolist() == list(expected)
    assert load_one(tmp_path, Image.new("LA", (R, R), (0, 51)))[:, 0, 0].tolist() == [204] * 3


def test_cmyk_jpeg(tmp_path):
    found = load_one(tmp_path, Image.new("CMYK", (R, R), (0, 255, 255, 0)), "a.jpg", quality=100)
    assert (found[:, 4, 4] - torch.tensor(RED)).abs().max() <= 3


def test_exif_rotation_is_applied(tmp_path):
    # Orientation 6: "turn me a quarter clockwise"; red on the left comes to the top.
    image = Image.new("RGB", (2 * R, 2 * R), BLUE)
    image.paste(RED, (0, 0, R, 2 * R))
    exif = Image.Exif()
    exif[0x0112] = 6
    found = load_one(tmp_path, image, "a.jpeg", exif=exif, quality=95).int()
    assert (found[0, 1] > 200).all() and (found[2, -2] > 200).all()


# -- sizes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(4 * R, 2 * R), (2 * R, 4 * R)])
def test_large_images_give_their_centre(tmp_path, size):
    image = Image.new("RGB", size, BLUE)
    left, top = (size[0] - 2 * R) // 2, (size[1] - 2 * R) // 2
    image.paste(GREEN, (left, top, left + 2 * R, top + 2 * R))
    assert torch.equal(load_one(tmp_path, image), pixels(Image.new("RGB", (R, R), GREEN)))


def test_shrinking_is_antialiased(tmp_path):
    board = np.indices((8 * R, 8 * R)).sum(0) % 2 * 255  # single pixels black and white must come out grey
    found = load_one(tmp_path, Image.fromarray(board.astype(np.uint8)))
    assert (found.int() - 127).abs().max() <= 8


# -- bad images -----------------------------------------------------------------------------------------------------


def _bad(kind):
    jpeg = io.BytesIO()
    picture(size=(64, 64)).save(jpeg, "jpeg")
    return {
        "truncated.jpg": jpeg.getvalue()[: len(jpeg.getvalue()) // 2],
        "truncated.png": png(picture(size=(64, 64)))[:-400],
        "text.png": b"these are words, not pixels",
        "empty.webp": b"",
        "pixel.png": png(picture(size=(1, 1))),
        "narrow.png": png(picture(size=(4 * R, R - 1))),
    }[kind]


BAD = ["truncated.jpg", "truncated.png", "text.png", "empty.webp", "pixel.png", "narrow.png"]


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("zipped", [False, True])
def test_bad_image_is_refused_by_name_or_skipped(classes, name, zipped, capsys):
    (classes / "cat" / name).write_bytes(_bad(name))
    path = zip_of(classes) if zipped else classes
    with pytest.raises(DataError, match=f"1 of 5 images.*cat/{name}.*dataset.on_bad=skip") as error:
        load("folder", path, R)
    assert "\n" not in str(error.value)
    found = load("folder", path, R, on_bad="skip")
    assert found.skipped == (f"cat/{name}",) and len(found) == 4 and found.labels.tolist() == [0, 0, 1, 1]
    assert found.images.is_contiguous()
    assert torch.equal(found.images[-1], pixels(picture(3)))  # rows still belong to their labels
    told = f"{path}: left out 1 file that is no image (1 .txt; the first is readme.txt)\n"
    assert capsys.readouterr() == ("", told)


def test_many_bad_images_are_counted_not_listed(classes):
    for i in range(20):
        (classes / f"cat/bad{i:02}.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"20 of 24 images can't be used: cat/bad00.png.*cat/bad02.png.*…") as error:
        load("folder", classes, R)
    assert "bad03" not in str(error.value)


def test_a_class_of_bad_images_keeps_its_number(classes):
    (classes / "ant").mkdir()
    (classes / "ant/a.png").write_bytes(b"")
    found = load("folder", classes, R, on_bad="skip")
    assert found.classes == ("ant", "cat", "dog") and found.labels.tolist() == [1, 1, 2, 2]


def test_nothing_usable(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    for on_bad in ("refuse", "skip"):
        with pytest.raises(DataError, match="none of the 1 images"):
            load("folder", tmp_path, R, on_bad=on_bad)


def test_decompression_bomb_is_bad_and_quiet(classes, monkeypatch):
    (classes / "cat/bomb.png").write_bytes(png(Image.new("L", (40, 40))))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # 1,600 pixels: Pillow only warns below twice the limit
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        assert load("folder", classes, R, on_bad="skip").skipped == ("cat/bomb.png",)
    assert not heard


def test_broken_zip_member_is_a_bad_image(classes):
    # Both stored, so that the bytes can be found and one of them flipped: zipfile notices by its checksum.
    path = classes.parent / "stored.zip"
    good, bad = png(picture(0)), png(picture(1))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.png", good)
        archive.writestr("b.png", bad)
    data = bytearray(path.read_bytes())
    data[data.index(bad) + 50] ^= 255
    path.write_bytes(data)
    assert load("folder", path, R, on_bad="skip").skipped == ("b.png",)


# -- paths ----------------------------------------------------------------------------------------------------------


def test_missing_path(tmp_path):
    with pytest.raises(DataError, match=r"nothing at .*nowhere"):
        load("folder", tmp_path / "nowhere", R)


def test_no_images(tmp_path):
    with pytest.raises(DataError, match="holds no images"):
        load("folder", tmp_path, R)
    with zipfile.ZipFile(tmp_path / "words.zip", "w") as archive:
        archive.writestr("a.txt", "words")
    with pytest.raises(DataError, match=r"words\.zip holds no images"):
        load("folder", tmp_path / "words.zip", R)


def test_directory_of_zips_names_them(tmp_path):
    for name in ("b.zip", "a.ZIP"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(DataError, match=r"no images but zips: .*a.ZIP, b.zip"):
        load("folder", tmp_path, R)


def test_truncated_zip_and_no_zip(classes, tmp_path):
    short = tmp_path / "short.zip"
    short.write_bytes(Path(zip_of(classes)).read_bytes()[:-100])
    words = tmp_path / "words.txt"
    words.write_text("words")
    for path in (short, words):
        with pytest.raises(DataError, match=f"{path.name} can't be read as a zip") as error:
            load("folder", path, R)
        assert "\n" not in str(error.value)


def test_a_warning_filter_is_left_as_it_was(classes):
    before = list(warnings.filters)
    load("folder", classes, R)
    assert warnings.filters == before
