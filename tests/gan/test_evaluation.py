"""Where scored images come from: runs, zips, directories, saved statistics and data sets."""

import dataclasses
import json
import shutil
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from data import DataError
from data.sources.opening import open_source
from data.sources.shapes import COUNTS, shapes
from data.tools.export import export
from data.tools.pack import Squares, pack
from gan import sampling
from gan.evaluation import add_scores, checkpoint_steps, choice, merge, open_side, read_scores, reference_of
from gan.run_directory import RunError, RunFiles
from metrics.protocol import Card, ProtocolError, Score
from metrics.scoring import identified
from metrics.statistics import Statistics, StatisticsError, fingerprint


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """Indexes of databases may go here."""
    monkeypatch.setenv("GAN_CACHE", str(tmp_path_factory.mktemp("cache")))


def gather(side):
    return torch.cat(list(side.batches()))


def test_a_run_is_opened_as_its_last_ema_generator(run):
    side = open_side(str(run), 70, seed=3)
    expected = sampling.samples(sampling.load_generator(run).generator, 3, 70, 64)
    assert torch.equal(gather(side), torch.cat(list(expected)))
    assert (side.name, side.count, side.fixed) == ("run step 4", 70, False)
    assert side.about == {"ema": True, "batch_norm": "eval", "seed": 3}
    assert open_side(str(run)).count == 10_000 and open_side(str(run), step=2).name == "run step 2"


def test_a_zip_and_a_directory_of_the_same_images_are_the_same_side(fifty, tmp_path):
    with zipfile.ZipFile(fifty) as archive:
        archive.extractall(tmp_path / "fifty")
    a, b = open_side(str(fifty)), open_side(str(tmp_path / "fifty"))
    assert torch.equal(gather(a), gather(b)) and torch.equal(gather(a), shapes(32, count=50).images)
    assert (a.count, a.name, a.fixed, a.about) == (50, "fifty.zip", True, {}) and b.name == "fifty"
    assert torch.equal(gather(a), gather(a)), "each pass starts anew"


def test_a_pack_and_an_lsun_database_of_the_same_images_are_the_same_pictures(fifty, tmp_path):
    source = open_source(fifty)
    pack(source, tmp_path / "fifty.pack", Squares(32))
    lsun = tmp_path / "shapes_train_lmdb"
    export(source, lsun)
    expected = shapes(32, count=50).images
    packed, database, below = (open_side(str(path)) for path in (tmp_path / "fifty.pack", lsun, tmp_path))
    assert torch.equal(gather(packed), expected) and (packed.count, packed.fixed) == (50, True)
    pictures = [{image.numpy().tobytes() for image in images} for images in (gather(database), gather(below), expected)]
    assert pictures[0] == pictures[1] == pictures[2] and len(pictures[0]) == 50  # a database has an order of its own
    assert "fifty.pack" in packed.name and "shapes, train" in database.name and "shapes, train" in below.name
    chosen = open_side(str(tmp_path / "fifty.pack"), 20, seed=1, shuffle=True)
    assert torch.equal(gather(chosen), expected[choice(50, 20, 1, "x", shuffle=True)])


@pytest.mark.parametrize("memory", [4, 0], ids=["in memory", "streamed"])
def test_the_reference_of_a_run_is_what_it_trains_on(tiny, memory):
    config = tiny("dcgan", "dataset.hold_out=0.3", f"dataset.memory={memory}", "dataset.workers=0")
    trained, held = (reference_of(config, split) for split in ("train", "test"))
    parts = [{image.numpy().tobytes() for image in gather(side)} for side in (trained, held)]
    everything = {image.numpy().tobytes() for image in shapes(32, count=50).images}
    assert parts[0] | parts[1] == everything and not parts[0] & parts[1]
    assert (trained.count, held.count) == (len(parts[0]), len(parts[1])) and 0 < held.count < 25
    assert "hold-out" in held.name
    some = reference_of(config, count=10, seed=3)
    assert torch.equal(gather(some), gather(trained)[choice(trained.count, 10, 3, "x")])


def test_an_npz_is_opened_as_statistics_of_what_it_names(tmp_path):
    mean, covariance = torch.zeros(3).double(), torch.eye(3).double()
    Statistics(mean, covariance, 7, {"real": "shapes"}).save(tmp_path / "ours.npz")
    Statistics(mean, covariance, None, {}).save(tmp_path / "theirs.npz")
    ours, theirs = (open_side(str(tmp_path / f"{name}.npz")) for name in ("ours", "theirs"))
    assert (ours.name, ours.count, ours.batches) == ("shapes", 7, None) and ours.statistics.mean.tolist() == [0, 0, 0]
    assert (theirs.name, theirs.count) == ("theirs.npz", None)


def test_a_count_of_what_has_no_images_is_refused(tmp_path):
    Statistics(torch.zeros(3).double(), torch.eye(3).double(), 7, {}).save(tmp_path / "s.npz")
    with pytest.raises(ProtocolError, match=r"s\.npz holds a mean and a covariance of all its images; leave its count of 5 out"):
        open_side(str(tmp_path / "s.npz"), 5)


@pytest.mark.parametrize("name", ["samples.npz", "samples.npy"])
def test_samples_in_an_array_are_a_side(tmp_path, name):
    images = shapes(32, count=20).images
    array = images.permute(0, 2, 3, 1).numpy()
    np.savez(tmp_path / name, array) if name.endswith("npz") else np.save(tmp_path / name, array)
    side = open_side(str(tmp_path / name))
    assert torch.equal(gather(side), images) and (side.count, side.statistics) == (20, None)
    assert torch.equal(gather(open_side(str(tmp_path / name), 5, seed=1)), images[choice(20, 5, 1, "x")])
    assert sha256(side) == sha256(open_side(str(tmp_path / name))) != sha256(open_side(str(tmp_path / name), 5))


def test_what_an_npz_holds_instead_is_described(tmp_path):
    np.savez(tmp_path / "a.npz", mean=np.zeros(3), sigma=np.eye(3))
    with pytest.raises(DataError, match=r"a\.npz holds no array of images, .*but mean float64 \(3\), sigma float64 \(3, 3\)"):
        open_side(str(tmp_path / "a.npz"))


@pytest.mark.parametrize("name", ["shapes", "cifar10"])
def test_a_folder_called_like_a_data_set_is_not_shadowed(tmp_path, monkeypatch, small, name):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(COUNTS, "train", 30)
    (tmp_path / name).mkdir()
    for i, image in enumerate(small(3)):
        (tmp_path / name / f"{i}.png").write_bytes(image)
    with pytest.raises(DataError, match=f"{name} is a data set, and {name} is there, too: say ./{name} for that, or {name}:train"):
        open_side(name)
    assert open_side(f"./{name}").count == 3
    if name == "shapes":
        assert open_side("shapes:train").count == 30


def test_both_splits_of_a_folder_are_scored_together_with_a_word(write_folder, small, capsys):
    path = write_folder(dict(zip(["train/1.png", "test/2.png"], small(2))))
    assert open_side(str(path)).count == 2
    assert capsys.readouterr().err == f"{path}: the images of its splits train and test, together\n"


def test_files_in_class_folders_are_sides_class_by_class(write_folder, small):
    path = write_folder({f"{label}/{i}.png": image for i, (label, image) in enumerate(zip("aab", small(3)))})
    found = open_side(str(path)).classes()
    assert {name: side.count for name, side in found.items()} == {"a": 2, "b": 1}
    assert open_side(str(path), 1).classes().keys() < {"a", "b"}
    whole = torch.cat(list(open_side(str(path)).batches()))
    assert torch.equal(torch.cat([batch for side in found.values() for batch in side.batches()]), whole)


# --- what stands for images --------------------------------------------------------------------------------------------------


def sha256(side):
    return identified(side).sha256


def test_images_of_no_file_are_known_by_their_pixels(tiny, monkeypatch):
    monkeypatch.setitem(COUNTS, "train", 30)
    for side in (open_side("shapes"), open_side("shapes", 10), reference_of(tiny("dcgan", "dataset.name=shapes", "dataset.path="))):
        assert sha256(side) == fingerprint(side.batches())


def test_where_bad_images_are_left_out_the_pixels_are_hashed(tiny, fifty, tmp_path):
    with zipfile.ZipFile(fifty) as old, zipfile.ZipFile(tmp_path / "some.zip", "w") as new:
        for i, name in enumerate(old.namelist()):
            new.writestr(name, b"broken" if i == 3 else old.read(name))
    side = reference_of(tiny("dcgan", f"dataset.path={tmp_path / 'some.zip'}", "dataset.on_bad=skip"))
    assert side.count == 49 and sha256(side) == fingerprint(side.batches())


@pytest.mark.parametrize("kind", ["zip", "pack", "streamed", "in memory"])
def test_what_is_decoded_is_known_by_its_source_and_the_choice_without_decoding(kind, fifty, tiny, tmp_path, monkeypatch):
    path = fifty
    if kind == "pack":
        path = tmp_path / "fifty.pack"
        pack(open_source(fifty), path, Squares(32))

    def opened(count=None, seed=0, crop="center"):
        if kind in ("zip", "pack"):
            return open_side(str(path), count, seed)
        memory = 0 if kind == "streamed" else 4
        config = tiny("dcgan", f"dataset.memory={memory}", "dataset.workers=0", f"dataset.crop={crop}")
        return reference_of(config, count=count, seed=seed)

    sides = [opened(), opened(20), opened(20, 1), *([opened(crop="pad")] if kind not in ("zip", "pack") else [])]
    for side in sides:
        side.batches = None if side.batches is None else lambda: pytest.fail("decoded")
    found = [sha256(side) for side in sides]
    assert len(set(found)) == len(found) and None not in found
    assert [sha256(opened()), sha256(opened(20))] == found[:2], "the same again"


def test_a_changed_file_is_another_source(fifty, tmp_path):
    with zipfile.ZipFile(fifty) as archive:
        archive.extractall(tmp_path / "fifty")
    before = sha256(open_side(str(tmp_path / "fifty")))
    file = sorted((tmp_path / "fifty").rglob("*.png"))[7]
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    assert sha256(open_side(str(tmp_path / "fifty"))) != before


# --- scores.json -------------------------------------------------------------------------------------------------------------

CARD = Card("tiny", "a" * 64, 8, "clean", "fp32", "images", 200, None, "run step 2", 200)


def names_and_values(records):
    return [(r["step"], s["name"], s["value"]) for r in records for s in r["scores"]]


def test_later_scores_join_the_earlier_ones_and_replace_the_same():
    other = dataclasses.replace(CARD, features="other")
    records = merge([], 4, [Score("fd", 1.0, CARD), Score("score", 2.0, CARD)])
    records = merge(records, 2, [Score("fd", 3.0, CARD)])
    records = merge(records, 4, [Score("fd", 4.0, other)])  # other features
    records = merge(records, 4, [Score("fd", 5.0, dataclasses.replace(CARD, seed=1))])  # the seed may differ: the same score anew
    assert names_and_values(records) == [(2, "fd", 3.0), (4, "fd", 5.0), (4, "fd", 4.0), (4, "score", 2.0)]


@pytest.mark.parametrize("text", ["{", "[1]", '{"a": 1}', '[{"step": 1}]', '[{"step": 1, "scores": [{"name": "fd", "card": []}]}]'])
def test_a_file_of_scores_that_is_none_is_refused_before_it_is_written_over(tmp_path, text):
    assert read_scores(tmp_path) == []
    (tmp_path / "scores.json").write_text(text)
    with pytest.raises(RunError, match=r"scores\.json isn't what `evaluate` writes; move it away"):
        read_scores(tmp_path)


def test_scores_that_another_command_added_meanwhile_are_kept(tmp_path):
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda step: add_scores(tmp_path, step, [Score("fd", float(step), CARD)]), range(8)))
    assert names_and_values(read_scores(tmp_path)) == [(step, "fd", float(step)) for step in range(8)]
    assert [path.name for path in tmp_path.iterdir()] == ["scores.json"]


def test_a_changed_number_in_a_file_of_scores_is_noticed(tmp_path):
    add_scores(tmp_path, 3, [Score("fd", 61.25, CARD)])
    file = tmp_path / "scores.json"
    file.write_text(file.read_text().replace("61.25", "41.25"))
    with pytest.raises(RunError, match=r"scores\.json is damaged: a number isn't the one that was written; move it away"):
        read_scores(tmp_path)
    file.write_text(json.dumps([{"step": 3, "scores": [Score("fd", 1.0, CARD).to_dict()]}]))  # of before there was a checksum
    assert names_and_values(read_scores(tmp_path)) == [(3, "fd", 1.0)]


def test_a_data_set_is_opened_by_its_name_and_split(monkeypatch):
    monkeypatch.setitem(COUNTS, "train", 30)
    monkeypatch.setitem(COUNTS, "test", 20)
    train_side, named, test_side = (open_side(text) for text in ("shapes", "shapes:train", "shapes:test"))
    assert torch.equal(gather(train_side), shapes(32, "train", 30).images)
    assert torch.equal(gather(train_side), gather(named)) and train_side.name == named.name
    assert torch.equal(gather(test_side), shapes(32, "test", 20).images) and "test" in test_side.name


@pytest.mark.parametrize(
    "text, error, words",
    [
        ("cifar11", DataError, "cifar11 is no run, zoo:NAME, folder, zip, pack, LSUN database or npz, and no data set"),
        ("shapes:validation", DataError, "splits train and test"),
        ("nowhere.npz", StatisticsError, "there are no statistics at"),
        ("empty", DataError, "holds no images"),
        ("text.zip", DataError, "can't be read as a zip"),
        ("cut_train_lmdb", DataError, "is cut short"),
        ("begun", RunError, "has no checkpoint yet"),
    ],
)
def test_what_cannot_be_opened_is_named(tiny, tmp_path, monkeypatch, text, error, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "config.yaml").write_text(tiny().dump())
    (tmp_path / "text.zip").write_text("text")
    (tmp_path / "cut_train_lmdb").mkdir()
    (tmp_path / "cut_train_lmdb" / "data.mdb").write_bytes(b"")
    with pytest.raises(error, match=words) as refusal:
        open_side(text)
    assert "\n" not in str(refusal.value)


def test_a_seed_chooses_images_once_each_and_in_order():
    chosen = choice(1000, 100, 0, "x")
    assert chosen == sorted(set(chosen)) and len(chosen) == 100 and chosen[0] >= 0 and 500 < chosen[-1] < 1000
    assert chosen == choice(1000, 100, 0, "x") != choice(1000, 100, 1, "x")
    assert choice(5, None, 0, "x") == choice(5, 5, 3, "x") == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("kind", ["zip", "data set"])
def test_a_count_chooses_by_seed_and_more_than_there_are_is_refused(kind, fifty, monkeypatch):
    monkeypatch.setitem(COUNTS, "train", 50)
    text = str(fifty) if kind == "zip" else "shapes"
    everything = gather(open_side(text))
    for seed in (0, 1):
        side = open_side(text, 20, seed)
        assert side.count == 20 and torch.equal(gather(side), everything[choice(50, 20, seed, "x")])
    with pytest.raises(DataError, match="has 50 images, fewer than the 51 asked for"):
        open_side(text, 51)


@pytest.mark.parametrize("which, steps", [("last", [None]), ("all", [2, 4]), ("2", [2])])
def test_checkpoints_are_chosen_by_word_or_step(run, which, steps):
    assert checkpoint_steps(run, which) == steps


def test_a_best_checkpoint_that_was_not_kept_is_said(run, tmp_path):
    with pytest.raises(RunError, match="keeps no best checkpoint; train it with"):
        checkpoint_steps(run, "best")
    shutil.copytree(run, tmp_path / "copy")
    shutil.copy(RunFiles(run).checkpoint_of(None), RunFiles(tmp_path / "copy").best)
    assert checkpoint_steps(tmp_path / "copy", "best") == ["best"]


@pytest.mark.parametrize("which", ["first", "-1", "2.5", "", "²", "٣", "9" * 5000])
def test_another_word_for_a_checkpoint_is_refused(run, which):
    with pytest.raises(RunError, match=f"--checkpoint is last, best, all or a step, not '{which}'"):
        checkpoint_steps(run, which)
