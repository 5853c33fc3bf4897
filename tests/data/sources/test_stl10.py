"""STL-10 from its published binary files: which byte is which pixel, labels, splits, and what isn't so."""

import numpy as np
import pytest
import torch
from PIL import Image

from data import DataError, load
from data.datasets import fitting
from data.decoding import fit


@pytest.fixture
def files(tmp_path):
    """The published layout with 6, 4 and 5 random images; and the train images, (6, 96, 96, 3) uint8."""
    folder = tmp_path / "stl10_binary"
    folder.mkdir()
    rng, kept = np.random.default_rng(0), None
    for part, n in (("train", 6), ("test", 4), ("unlabeled", 5)):
        pictures = rng.integers(0, 256, (n, 96, 96, 3), dtype=np.uint8)
        kept = pictures if part == "train" else kept
        with open(folder / f"{part}_X.bin", "wb") as file:
            for picture in pictures:
                for colour in range(3):
                    for column in range(96):
                        file.write(picture[:, column, colour].tobytes())
        if part != "unlabeled":
            (folder / f"{part}_y.bin").write_bytes(bytes([10, 1, 5, 2, 2, 3][:n]))
    return tmp_path, kept


@pytest.mark.parametrize("inside", ["", "stl10_binary"])
def test_pictures_are_stored_colour_by_colour_and_column_by_column(files, inside):
    root, pictures = files
    found = load("stl10", root / inside, 64)
    expected = np.stack([fit(Image.fromarray(picture), 64) for picture in pictures])
    assert torch.equal(found.images, torch.from_numpy(expected))
    assert found.labels.tolist() == [9, 0, 4, 1, 1, 2] and found.classes[9] == "truck" and len(found.classes) == 10


def test_each_split_is_its_own_file(files):
    root, _ = files
    asked = {
        "train": ("stl10", "train"),
        "test": ("stl10", "test"),
        "free": ("stl10_unlabeled", "train"),
        "free test": ("stl10_unlabeled", "test"),
    }
    sets = {key: load(name, root, 32, split=split) for key, (name, split) in asked.items()}
    assert {key: len(found) for key, found in sets.items()} == {"train": 6, "test": 4, "free": 5, "free test": 4}
    assert (
        sets["free"].classes == ("all",) and sets["free test"].fingerprint == sets["test"].fingerprint != sets["train"].fingerprint
    )


def test_images_read_from_the_disk_are_those_in_memory(files):
    loaded, streamed = (load("stl10", files[0], 32, memory=memory) for memory in (4, 0))
    assert torch.equal(streamed.read([3, 0]), loaded.images[[3, 0]]) and torch.equal(streamed.labels, loaded.labels)


def test_a_path_that_holds_it_is_meant_as_it(files):
    assert fitting("stl10", str(files[0])) == "stl10"


@pytest.mark.parametrize(
    ("file", "content", "why"),
    [
        ("train_X.bin", b"x" * 1000, r"1,000 bytes, no whole number of images of 96×96: unpack"),
        ("train_y.bin", bytes([1, 2, 3, 4, 5, 11]), "doesn't hold a label, 1 to 10, for each image"),
        ("train_y.bin", bytes([1, 2]), "doesn't hold a label"),
        ("train_y.bin", None, r"there is no .*train_y\.bin: unpack stl10_binary\.tar\.gz"),
    ],
)
def test_files_that_are_not_so_are_named(files, file, content, why):
    path = files[0] / "stl10_binary" / file
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(DataError, match=why):
        load("stl10", files[0], 32)


def test_nothing_there_says_what_to_fetch(tmp_path):
    with pytest.raises(DataError, match=r"unpack stl10_binary\.tar\.gz .* to the directory that holds stl10_binary"):
        load("stl10", tmp_path, 32)
