"""The commands `data pack`, `info`, `verify`, `grid` and `export`, in the order in which they are used."""

import pytest
from PIL import Image
from typer.testing import CliRunner

from data import DataError
from gan.commands.data import app
from tests.data.pictures import encoded, noise


def run(*arguments):
    found = CliRunner().invoke(app, [str(a) for a in arguments])
    if found.exception and not isinstance(found.exception, SystemExit):
        raise found.exception  # as the command line does, which prints expected ones as a sentence
    assert found.exit_code == 0, found.output
    return found.output


def test_from_a_folder_to_a_database_to_a_pack(write_folder, tmp_path):
    folder = write_folder({f"{i:02}.png": encoded(noise(i, (20, 20))) for i in range(9)} | {"bad.png": b""})
    database, packed, picture = tmp_path / "noise_train_lmdb", tmp_path / "a.pack", tmp_path / "grid.png"
    assert "10 images of folder folder" in run("export", folder, "--out", database)
    assert "10 images of lsun noise" in run("pack", database, "--size", 16, "--out", packed, "--workers", 1)
    text = run("info", packed)
    assert "left out 1 images" in text and "not an image" in text and "Lanczos" in text
    assert "fingerprint" in run("info", database)
    assert "all 9 images have the pixels" in run("verify", packed)
    run("grid", packed, "--out", picture)
    assert Image.open(picture).size == (3 * 18 + 2, 3 * 18 + 2)
    with pytest.raises(DataError, match="is no pack: make one"):
        run("verify", database)
    with pytest.raises(DataError, match="--on-bad skip"):
        run("pack", database, "--size", 16, "--out", tmp_path / "b.pack", "--on-bad", "refuse")


def test_verify_says_which_image_is_broken(write_folder, tmp_path):
    folder = write_folder({f"{i}.png": encoded(noise(i)) for i in range(3)})
    run("pack", folder, "--size", 16, "--out", tmp_path / "a.pack")
    pixels = noise(1).tobytes()
    data = bytearray((tmp_path / "a.pack").read_bytes())
    plane = bytes(pixels[0::3])
    data[data.index(plane) + 7] ^= 1
    (tmp_path / "a.pack").write_bytes(data)
    with pytest.raises(DataError, match="1 problems; pack the images again"):
        run("verify", tmp_path / "a.pack")
