"""Images for scores: as they are on disk, one size, in the order of their names."""

import io
import shutil
import threading
import tracemalloc

import numpy as np
import pytest
import torch
from PIL import Image

from data import DataError
from data.sources.opening import open_source
from data.streaming import AT_ONCE, DECODING, IN_FLIGHT, full_size_batches
from data.tools.pack import Squares, pack


def picture(seed, width=7, height=5):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def pixels(image):
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)


@pytest.fixture
def root(tmp_path):
    """Ten images, i of seed i, two of them in a folder of their own."""
    (tmp_path / "set" / "z").mkdir(parents=True)
    for i in range(10):
        picture(i).save(tmp_path / "set" / (f"{i}.png" if i < 8 else f"z/{i}.png"))
    (tmp_path / "set" / "readme.txt").write_text("no image")
    return tmp_path / "set"


def gather(path, chosen, batch_size=64):
    return torch.cat(list(full_size_batches(open_source(path), chosen, batch_size)))


@pytest.mark.parametrize("width, height", [(7, 5), (1, 1), (3, 300)])
def test_images_keep_their_size_and_every_pixel(tmp_path, width, height):
    for i in range(3):
        picture(i, width, height).save(tmp_path / f"{i}.png")
    found = gather(tmp_path, [0, 1, 2])
    assert found.shape == (3, 3, height, width) and found.dtype == torch.uint8
    assert torch.equal(found, torch.stack([pixels(picture(i, width, height)) for i in range(3)]))


def test_chosen_images_come_in_the_order_asked_for(root):
    found = gather(root, [8, 2, 5])
    assert torch.equal(found, torch.stack([pixels(picture(i)) for i in (8, 2, 5)]))


@pytest.mark.parametrize("batch_size, sizes", [(1, [1] * 10), (4, [4, 4, 2]), (64, [10])])
def test_batches_cut_the_images_but_do_not_change_them(root, batch_size, sizes):
    batches = list(full_size_batches(open_source(root), list(range(10)), batch_size))
    assert [len(batch) for batch in batches] == sizes and all(batch.is_contiguous() for batch in batches)
    assert torch.equal(torch.cat(batches), gather(root, list(range(10))))


@pytest.mark.parametrize(("side", "count"), [(512, 300), (2048, 24), (4096, 8)])
def test_what_large_images_take_is_bounded_however_many_cores_there_are(side, count, tmp_path, monkeypatch):
    """Arrays as NumPy allocates them, and for each image at work what its file and Pillow would hold."""
    alive, most, lock = 0, 0, threading.Lock()

    class Counted:
        """Stands for an image; how many there are is counted."""

        size = width, height = side, side

        def __init__(self):
            nonlocal alive, most
            with lock:
                alive += 1
                most = max(most, alive)

        def __array__(self, dtype=None, copy=None):
            return np.broadcast_to(np.uint8(7), (side, side, 3))

        def __del__(self):
            nonlocal alive
            with lock:
                alive -= 1

    for i in range(count):
        (tmp_path / f"{i:03}.png").touch()
    source = open_source(tmp_path)
    monkeypatch.setattr(source, "image", lambda i: Counted())
    monkeypatch.setattr("data.workers.cores", lambda: 16)
    tracemalloc.start()
    sizes = [len(batch) for batch in full_size_batches(source, list(range(count)))]
    arrays = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    batch = max(3 * side**2, AT_ONCE)
    assert sum(sizes) == count and max(sizes) * 3 * side**2 <= batch
    assert batch < arrays + most * DECODING * side**2 < IN_FLIGHT + 2 * batch


def test_a_zip_equals_its_directory(root):
    shutil.make_archive(str(root), "zip", root)
    archive = root.with_name("set.zip")
    assert len(open_source(archive)) == len(open_source(root)) == 10
    assert torch.equal(gather(archive, [9, 0, 3], 2), gather(root, [9, 0, 3], 2))


def test_other_kinds_of_pixels_become_rgb(tmp_path):
    picture(0).convert("L").save(tmp_path / "grey.png")
    transparent = picture(1).convert("RGBA")
    transparent.putalpha(0)
    transparent.save(tmp_path / "nothing.png")
    grey, nothing = gather(tmp_path, [0, 1])
    assert torch.equal(grey[0], grey[1]) and torch.equal(grey[0], grey[2]) and grey.float().std() > 0
    assert (nothing == 255).all()


@pytest.mark.parametrize("batch_size", [1, 64])
def test_an_image_of_another_size_is_named_with_both_sizes(root, batch_size):
    picture(3, 9, 5).save(root / "6.png")
    with pytest.raises(DataError, match=r"6\.png is 9×5, the first image 7×5; a score needs images of one size"):
        gather(root, list(range(10)), batch_size)
    assert len(gather(root, [0, 1, 9])) == 3  # it isn't in the way where it wasn't chosen


def test_a_turned_image_is_of_another_size(root):
    picture(3, 5, 7).save(root / "6.png")
    with pytest.raises(DataError, match=r"6\.png is 5×7"):
        gather(root, [5, 6])


@pytest.mark.parametrize("kind", ["foreign", "torn", "empty"])
def test_a_broken_image_is_named_in_one_sentence(root, kind):
    buffer = io.BytesIO()
    picture(4, 40, 40).save(buffer, "png")
    (root / "4.png").write_bytes({"foreign": b"not an image", "torn": buffer.getvalue()[:500], "empty": b""}[kind])
    with pytest.raises(DataError, match=r"4\.png can't be decoded .*fix or remove it") as refusal:
        gather(root, [4, 0])
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("content", ["nothing", "empty directory", "no zip"])
def test_where_no_images_are_none_are_opened(tmp_path, content):
    path = tmp_path / "here"
    if content == "empty directory":
        path.mkdir()
    elif content == "no zip":
        path.write_bytes(b"text")
    with pytest.raises(DataError, match="here"):
        open_source(path)


def test_a_database_and_a_pack_give_their_images(root, write_lsun, tmp_path):
    """In the order of keys, which here is that of names; a pack made at the images' own size keeps every pixel."""
    directory = write_lsun(values={f"{i}".encode(): (root / f"{i}.png").read_bytes() for i in range(8)})
    wanted = gather(root, range(8))
    for path in (directory, directory.parent, directory / "data.mdb"):
        assert len(open_source(path)) == 8 and torch.equal(gather(path, [3, 0], 1), wanted[[3, 0]])
    packed = pack(open_source(directory), tmp_path / "a.pack", Squares(5, "cut")).path
    assert len(open_source(packed)) == 8 and torch.equal(gather(packed, range(8)), wanted[:, :, :, 1:6])


def test_a_database_of_mixed_sizes_is_refused_with_the_way_out(write_lsun, root):
    picture(1, 9, 5).save(root / "1.png")
    directory = write_lsun(values={f"{i}".encode(): (root / f"{i}.png").read_bytes() for i in range(3)})
    with pytest.raises(DataError, match=r"1 is 9×5, the first image 7×5; .*`data pack`"):
        gather(directory, range(3))
