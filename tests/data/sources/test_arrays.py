"""Images as samplers save them, in .npy and .npz."""

import io
import pickle
import zipfile

import numpy as np
import pytest
import torch

from data import DataError, load
from data.sources.arrays import ArraySource
from data.sources.opening import open_source
from data.tools.pack import Squares, pack


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), np.uint8)


def save(path, how, **arrays):
    {"npy": lambda: np.save(path, *arrays.values()), "stored": lambda: np.savez(path, **arrays)}.get(
        how, lambda: np.savez_compressed(path, **arrays)
    )()
    return path


KINDS = [("a.npy", "npy"), ("a.npz", "stored"), ("b.npz", "compressed")]


@pytest.mark.parametrize("name, how", KINDS)
def test_an_array_of_images_is_a_data_set(tmp_path, images, name, how):
    path = save(tmp_path / name, how, arr_0=images)
    found = load("folder", path, 16)
    assert torch.equal(found.images, torch.from_numpy(images).permute(0, 3, 1, 2)) and found.classes == ("all",)
    assert torch.equal(load("folder", path, 16, memory=0, workers=2).read([7, 3]), found.images[[7, 3]])
    train, test = (load("folder", path, 16, hold_out=0.4, split=split) for split in ("train", "test"))
    assert len(train) + len(test) == 20 and len(test) > 0
    source = pickle.loads(pickle.dumps(open_source(path)))
    assert np.array_equal(np.asarray(source.image(5)), images[5])
    packed = pack(source, tmp_path / "a.pack", Squares(16))
    assert np.array_equal(packed.pixels(5, 16), images[5].transpose(2, 0, 1))


def test_labels_and_other_arrays_beside_the_images_do_not_matter(tmp_path, images):
    path = save(tmp_path / "a.npz", "stored", arr_0=images, arr_1=np.arange(20), note=np.array("x"))
    assert len(ArraySource(path)) == 20


def test_images_of_another_shape_than_square_keep_it(tmp_path, images):
    path = save(tmp_path / "a.npy", "npy", x=images[:, :, :12])
    assert open_source(path).image(0).size == (12, 16)
    with pytest.raises(DataError, match="12×16 is smaller than 16×16"):
        load("folder", path, 16)


def test_a_fingerprint_is_of_the_pixels(tmp_path, images):
    first, again, other = images, images.copy(), images.copy()
    other[19, 15, 15, 2] ^= 1
    made = [save(tmp_path / f"{i}.npz", how, arr_0=a) for i, (a, how) in enumerate([(first, "stored"), (again, "x"), (other, "x")])]
    found = [ArraySource(path).fingerprint for path in made]
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize(
    "arrays, there",
    [
        ({"arr_0": np.zeros((4, 8, 8, 3), np.float32)}, r"no array of images, .*, but arr_0 float32 \(4, 8, 8, 3\): save"),
        ({"a": np.zeros((4, 3, 8, 8), np.uint8)}, r"a uint8 \(4, 3, 8, 8\)"),
        ({"a": np.zeros((0, 8, 8, 3), np.uint8)}, r"a uint8 \(0, 8, 8, 3\)"),
        ({"a": np.array([{}], object), "mean": np.zeros(3)}, r"a object \(1\), mean float64 \(3\)"),
        ({"a": np.zeros((1, 8, 8, 3), np.uint8), "b": np.zeros((1, 8, 8, 3), np.uint8)}, "several arrays of images"),
        ({}, "no array of images, .*, but nothing"),
        ({f"x{i}": np.zeros(1) for i in range(99)}, r"x7 float64 \(1\), …: save"),
    ],
)
def test_anything_else_in_it_is_described(tmp_path, arrays, there):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=rf"a\.npz holds .*{there}") as error:
        open_source(tmp_path / "a.npz")
    assert "\n" not in str(error.value)


class Bomb:
    def __reduce__(self):
        return print, ("exploded",)


def test_nothing_is_unpickled(tmp_path, capsys):
    np.save(tmp_path / "a.npy", np.array([Bomb()], object), allow_pickle=True)
    with pytest.raises(DataError, match="a object"):
        open_source(tmp_path / "a.npy")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name, how", KINDS)
def test_a_cut_or_foreign_file_is_a_sentence(tmp_path, images, name, how):
    path = save(tmp_path / name, how, arr_0=images)
    whole = path.read_bytes()
    for content in (b"", b"words", whole[:60], whole[: len(whole) // 2], whole[:-1]):
        path.write_bytes(content)
        with pytest.raises(DataError, match=rf"{name} can't be read") as error:
            open_source(path)
        assert "\n" not in str(error.value)


def test_a_flipped_bit_in_an_npz_is_found_before_use(tmp_path, images):
    path = save(tmp_path / "a.npz", "stored", arr_0=images)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"can't be read \(bad CRC-32\): it's damaged"):
        open_source(path)


def test_a_size_that_cannot_be_is_not_believed(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (10**9, 10**9, 10**9, 3)})
    (tmp_path / "a.npy").write_bytes(header.getvalue())
    with pytest.raises(DataError, match=r"it has not the .* bytes"):
        open_source(tmp_path / "a.npy")
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("arr_0.npy", header.getvalue())
    with pytest.raises(DataError, match=r"it has not the .* bytes"):
        open_source(tmp_path / "a.npz")


def test_an_archive_that_lost_its_beginning_is_no_array(tmp_path, images):
    path = save(tmp_path / "a.npz", "stored", arr_0=images)
    whole = path.read_bytes()
    path.write_bytes(whole[whole.index(b"\x93NUMPY") :])
    with pytest.raises(DataError, match=r"a\.npz can't be read \(it has not the 15,488 bytes"):
        open_source(path)


def test_a_test_split_and_categories_are_refused(tmp_path, images):
    path = save(tmp_path / "a.npy", "npy", x=images)
    with pytest.raises(DataError, match="has no test split"):
        load("folder", path, 16, split="test")
    with pytest.raises(DataError, match="holds no LSUN databases"):
        open_source(path, categories="bedroom")


def test_a_change_meanwhile_is_noticed(tmp_path, images):
    path = save(tmp_path / "a.npy", "npy", x=images)
    source = open_source(path)
    save(path, "npy", x=images[:3])
    with pytest.raises(DataError, match="was changed while it's in use"):
        source.check_unchanged()
    with pytest.raises(DataError, match="is cut short"):
        source.image(19)
