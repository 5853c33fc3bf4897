"""The commands `data pack`, `info`, `verify`, `grid` and `export`, in the order in which they are used."""

import subprocess
import sys

import lmdb
import pytest
from PIL import Image
from typer.testing import CliRunner

from cli.data import app
from data import DataError
from data.sources.opening import open_source
from data.sources.pack import verify
from data.streaming import full_size_batches
from tests.data.pictures import encoded, noise
from tests.helpers import ROOT


def run(*arguments):
    found = CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "400"})
    if found.exception and not isinstance(found.exception, SystemExit):
        raise found.exception  # as the command line does, which prints expected ones as a sentence
    assert found.exit_code == 0, found.output
    return found.output


def test_from_a_folder_to_a_database_to_a_pack(write_folder, tmp_path):
    folder = write_folder({f"{i:02}.png": encoded(noise(i, (20, 20))) for i in range(9)} | {"bad.png": b""})
    database, packed, picture = tmp_path / "noise_train_lmdb", tmp_path / "a.pack", tmp_path / "grid.png"
    assert "10 images of folder folder" in run("export", folder, "--out", database, "--on-bad", "keep")
    assert "10 images of lsun noise" in run("pack", database, "--size", 16, "--out", packed, "--workers", 1, "--on-bad", "skip")
    text = run("info", packed)
    assert "left out 1 images" in text and "not an image" in text and "Lanczos" in text
    assert "fingerprint" in run("info", database)
    assert "all 9 images have the pixels" in run("verify", packed)
    run("grid", packed, "--out", picture, "--scale", 1)
    assert Image.open(picture).size == (3 * 18 + 2, 3 * 18 + 2)
    with pytest.raises(DataError, match="is no pack: make one"):
        run("verify", database)
    with pytest.raises(DataError, match="--on-bad skip"):
        run("pack", database, "--size", 16, "--out", tmp_path / "b.pack")  # by default
    with pytest.raises(DataError, match="--on-bad skip"):
        run("export", folder, "--out", tmp_path / "other_train_lmdb")


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


def test_pack_stores_in_the_format_asked_for(write_folder, tmp_path):
    folder = write_folder({f"{i}.png": encoded(Image.new("RGB", (64, 64), (i, 2, 3))) for i in range(20)})
    for stored in ("raw", "webp"):
        run("pack", folder, "--size", 64, "--out", tmp_path / stored, "--workers", 1, "--format", stored)
    raw, webp = (open_source(tmp_path / stored) for stored in ("raw", "webp"))
    assert (raw.manifest["stored"], webp.manifest["stored"]) == ("raw", "webp") and raw.fingerprint == webp.fingerprint
    assert len(webp.read(0)) < len(raw.read(0)) == 3 * 64 * 64 and webp.read(0).startswith(b"RIFF")


@pytest.fixture
def categories(write_lsun, small):
    """bedroom and kitchen of train, bedroom of val: 3, 2 and 1 images."""
    for name, count in {"bedroom_train": 3, "kitchen_train": 2, "bedroom_val": 1}.items():
        root = write_lsun(name, {f"{name}{i}".encode(): image for i, image in enumerate(small(count))}).parent
    return root


def test_categories_and_splits_are_chosen(categories, write_folder, small, tmp_path):
    def count(*options):
        run("pack", categories, "--size", 16, "--out", tmp_path / "a.pack", "--workers", 1, *options)
        found = open_source(tmp_path / "a.pack")
        (tmp_path / "a.pack").unlink()
        return len(found), found.classes

    assert count() == (5, ("bedroom", "kitchen"))
    assert count("--categories", "kitchen") == (2, ("kitchen",))
    assert count("--categories", "kitchen,bedroom") == (5, ("kitchen", "bedroom"))
    assert count("--split", "test") == (1, ("bedroom",))
    assert "2 of 2 images" in run("grid", categories, "--out", tmp_path / "a.png", "--categories", "kitchen")
    assert "1 images of lsun bedroom, val" in run("export", categories, "--out", tmp_path / "x_train_lmdb", "--split", "test")
    split = write_folder({"train/a.png": small(1)[0], "test/a.png": small(1)[0], "test/b.png": small(1)[0]})
    assert "2 of 2 images" in run("grid", split, "--out", tmp_path / "b.png", "--split", "test")
    assert "1 of 1 images" in run("grid", split, "--out", tmp_path / "c.png", "--split", "train")


def test_categories_where_there_are_none_are_refused(categories, write_folder, small, tmp_path):
    def pack(source, wanted):
        return run("pack", source, "--size", 16, "--out", tmp_path / "a.pack", "--workers", 1, "--categories", wanted)

    folder = write_folder({"bedroom/a.png": small(1)[0]})
    with pytest.raises(DataError, match=r"holds no LSUN databases.*leave --categories bedroom out"):
        pack(folder, "bedroom")
    with pytest.raises(DataError, match="bedroom_train_lmdb holds bedroom, not kitchen: name the directory above it"):
        pack(categories / "bedroom_train_lmdb", "kitchen")
    assert "3 images" in pack(categories / "bedroom_train_lmdb", "bedroom")
    with pytest.raises(DataError, match=r"a.pack is a pack, all of which is used: leave --categories kitchen out"):
        run("grid", tmp_path / "a.pack", "--out", tmp_path / "a.png", "--categories", "kitchen")


def test_an_empty_database_is_told_before_anything_is_made(write_lsun, tmp_path):
    directory = write_lsun(values={})
    for path in (directory, directory.parent, directory / "data.mdb"):
        with pytest.raises(DataError, match="holds no images"):
            run("pack", path, "--size", 16, "--out", tmp_path / "a.pack")
    assert [path.name for path in tmp_path.iterdir()] == ["lsun"]


def test_reporting_finishes_the_pack_lists_all_and_fails(write_folder, small, tmp_path):
    bad = {f"bad{i:02}.png": b"no image" for i in range(12)}
    folder, out = write_folder({"a.png": small(1)[0], **bad}), tmp_path / "a.pack"
    for _ in range(2):  # also when the pack is there already
        found = CliRunner().invoke(
            app,
            ["pack", str(folder), "--size", "16", "--out", str(out), "--on-bad", "report", "--workers", "1"],
            env={"COLUMNS": "999"},
        )
        assert isinstance(found.exception, DataError) and "complete but for 12 images" in str(found.exception)
        assert all(f"{name} (not an image)" in found.output for name in bad) and len(open_source(out)) == 1
    text = run("pack", folder, "--size", 16, "--out", out, "--on-bad", "skip")
    assert "bad09.png" in text and "bad10.png" not in text and "…" in text
    run(
        "pack",
        write_folder({"a.png": small(1)[0]}, tmp_path / "fine"),
        "--size",
        16,
        "--out",
        tmp_path / "b.pack",
        "--on-bad",
        "report",
    )


def test_export_says_what_cannot_be_decoded(write_folder, small, tmp_path):
    folder = write_folder({"a.png": small(1)[0], "bad.png": b"no image"})
    text = run("export", folder, "--out", tmp_path / "x_train_lmdb", "--on-bad", "keep")
    assert "2 images of folder" in text and "can't be decoded: 1 images: bad.png (not an image)" in text
    text = run("export", folder, "--out", tmp_path / "y_train_lmdb", "--on-bad", "skip")
    assert "1 images of folder" in text and "left out 1 images: bad.png (not an image)" in text


def test_a_grid_of_few_small_images_counts_those_that_are_shown(write_folder, tmp_path):
    folder = write_folder({f"{i}.png": encoded(noise(i, (20, 24))) for i in range(4)} | {"bad.png": b"no image"})
    picture = tmp_path / "a.png"
    text = run("grid", folder, "--out", picture, "--scale", 1)
    assert "4 of 5 images at 20 pixels" in text and "left out 1 images: bad.png (not an image)" in text
    assert Image.open(picture).size == (2 * 22 + 2, 2 * 22 + 2)
    with pytest.raises(DataError, match=r"none of 5 images can be used, the first is .*\): choose") as error:
        run("grid", folder, "--out", tmp_path / "b.png", "--size", 64)
    assert "BytesIO" not in str(error.value)


def test_an_image_that_cannot_be_decoded_is_told_without_a_place_in_memory(write_folder, tmp_path):
    with pytest.raises(DataError, match=r"a.png can't be decoded \(not an image\)"):
        list(full_size_batches(open_source(write_folder({"a.png": b"no image"})), [0]))
    folder = write_folder({"a.png": encoded(noise(0))}, tmp_path / "other")
    run("pack", folder, "--size", 16, "--out", tmp_path / "a.pack", "--format", "webp")
    with lmdb.open(str(tmp_path / "a.pack"), subdir=False, lock=False, max_dbs=2) as environment:
        images = environment.open_db(b"images")
        with environment.begin(write=True, db=images) as transaction:
            transaction.put(bytes(8), b"no image")
    with pytest.raises(DataError, match="1 problems"):
        run("verify", tmp_path / "a.pack")
    assert verify(open_source(tmp_path / "a.pack")) == ["image 0 can't be read (not an image)"]


WITHOUT_TORCH = """
import sys
from cli.main import main
sys.argv[0] = "run_gan.py"
try:
    main()
finally:
    loaded = {"torch", "torchvision", "scipy", "matplotlib"} & sys.modules.keys()
    assert not loaded, f"waited for {loaded}"
"""


def test_looking_packing_and_exporting_do_not_wait_for_torch(write_folder, write_lsun, small, tmp_path):
    def command(*arguments, status=0):
        line = [sys.executable, "-c", WITHOUT_TORCH, "data", *map(str, arguments)]
        done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=120)
        assert done.returncode == status and "waited" not in done.stderr, done.stderr
        return done.stderr

    folder = write_folder({f"{i}.png": image for i, image in enumerate(small(3))})
    assert "fingerprint" in command("info", folder)
    assert "fingerprint" in command("info", write_lsun(values={b"a": small(1)[0]}))
    command("pack", folder, "--size", 16, "--out", tmp_path / "a.pack", "--workers", 1)
    assert "sha256" in command("info", tmp_path / "a.pack")
    assert "all 3 images" in command("verify", tmp_path / "a.pack")
    assert "3 images" in command("export", folder, "--out", tmp_path / "x_train_lmdb")
    assert command("verify", folder, status=1).startswith("error: ")


def test_info_says_what_is_left_out(write_folder, small):
    found = run("info", write_folder({"a.png": small(1)[0], "b.heic": b"", "[red]c.txt": b""}))
    assert "2 files that are no images" in found and ".heic" in found


def test_a_key_that_is_set_twice_is_refused(call, tmp_path):
    status, _, err = call("train", "train.seed=1", "train.steps=2", "train.seed=3", "--out", tmp_path / "run")
    assert status == 1 and "train.seed is set more than once (train.seed=1 and train.seed=3): leave one of them" in err
    study = ["compare", "configs/studies/kernels_shapes.yaml", "train.steps=1", "train.steps=1", "--out", tmp_path / "study"]
    status, _, err = call(*study)
    assert status == 1 and "train.steps is set more than once" in err
    assert not list(tmp_path.iterdir())


def test_a_data_set_is_drawn_by_its_name(tmp_path):
    said = run("grid", "shapes:test", "--out", tmp_path / "a.png", "--count", 4)
    assert "4 of " in said and "images of shapes:test at 32 pixels" in said
    assert Image.open(tmp_path / "a.png").size == (11 * (2 * 34 + 2), 11 * (2 * 34 + 2))  # about 800
    assert "next: python run_gan.py train dataset.name=shapes" in said
    said = run("info", "shapes:test")
    assert "shapes test split" in said and "next: python run_gan.py data grid shapes:test --out grid.png" in said
    run("grid", "shapes:test", "--out", tmp_path / "b.png", "--count", 4, "--seed", 1)
    assert (tmp_path / "a.png").read_bytes() != (tmp_path / "b.png").read_bytes()
    refused = CliRunner().invoke(app, ["grid", "shapes", "--out", str(tmp_path / "c.png"), "--size", "64"])
    assert refused.exit_code == 2 and not (tmp_path / "c.png").exists()


def test_info_breaks_no_sha256_at_80_columns(write_folder, tmp_path):
    folder, packed = write_folder({"a.png": encoded(noise(0, (20, 20)))}), tmp_path / "a.pack"
    run("pack", folder, "--size", 16, "--out", packed, "--workers", 1)
    found = CliRunner().invoke(app, ["info", str(packed)], env={"COLUMNS": "80"})
    (line,) = [line for line in found.output.splitlines() if line.startswith("sha256")]
    assert len(line) <= 80 and len(line.split()[1]) == 64
