"""What training sees of a streamed set: the same bits as from memory, also after a crash, and a refusal of other data."""

import pytest
import torch

from data.sources.opening import open_source
from data.tools.pack import Squares, pack
from gan.config import Config
from gan.models.build import resolve
from gan.processes import Processes
from gan.run_directory import RunError
from gan.state import Batches
from gan.training import train
from tests.data.pictures import encoded, noise
from tests.helpers import PulledPlug, assert_same, crash_at, final_state

SMALL = [
    "generator.width=4",
    "discriminator.width=4",
    "generator.latent=8",
    "train.batch_size=8",
    "train.steps=12",
    "train.d_steps=2",
]
SMALL += ["train.log_every=4", "train.checkpoint_every=5", "train.sample_every=6", "train.device=cpu"]


@pytest.fixture
def packed(write_lsun, tmp_path):
    return pack(open_source(write_lsun()), tmp_path / "photos.pack", Squares(32)).path


def config(path, *overrides):
    return resolve(Config.load(None, ["dataset.name=lsun", f"dataset.path={path}", *SMALL, *overrides]))


def batches(path, *overrides, rank=0, world=1):
    return Batches(config(path, *overrides), Processes(rank, world, torch.device("cpu")))


POSITIONS = [(0, 0), (0, 1), (1, 0), (50, 1), (3, 0), (3, 0)]


@pytest.mark.parametrize("workers", [0, 1])
def test_streamed_batches_are_those_of_memory(packed, write_lsun, workers):
    kept = batches(packed)
    read = batches(packed, "dataset.memory=0", f"dataset.workers={workers}")
    assert kept.feeder is None and read.feeder is not None and kept.sha256 == read.sha256
    for step, update in POSITIONS:
        assert torch.equal(kept.get(step, update), read.get(step, update))
    assert read.get(0, 0).is_contiguous(memory_format=torch.channels_last)


def test_ranks_see_the_rows_of_one_process(packed):
    whole = batches(packed, "dataset.memory=0")
    ranks = [batches(packed, "dataset.memory=0", rank=r, world=2) for r in range(2)]
    for step, update in POSITIONS:
        assert torch.equal(torch.cat([rank.get(step, update) for rank in ranks]), whole.get(step, update))


def test_a_rank_reads_ahead_what_it_will_be_asked_for(packed):
    rank = batches(packed, "dataset.memory=0", rank=1, world=2)
    for step, update in [(0, 0), (0, 1), (1, 0)]:
        expected = set(rank.feeder._ahead)
        rank.get(step, update)
        assert len(expected - set(rank.feeder._ahead)) <= 1  # only what is behind was dropped


@pytest.mark.parametrize("block", [1, 4])
def test_an_epoch_shows_every_image_once(packed, block):
    read = batches(packed, "dataset.memory=0", "dataset.flip=false", f"dataset.block={block}", "train.batch_size=12")
    seen = torch.cat([read.get(step, update) for step in range(2) for update in range(2)])
    assert len(seen) == 48 and len(seen.flatten(1).unique(dim=0)) == 48


def test_crash_and_resume_of_a_streamed_run_equal_a_run_in_memory(packed, tmp_path):
    train(config(packed), tmp_path / "whole", progress=False)
    streamed = config(packed, "dataset.memory=0")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(PulledPlug):
        crash_at(patch, 9)
        train(streamed, tmp_path / "broken", progress=False)
    train(streamed, tmp_path / "broken", progress=False)
    assert_same(final_state(tmp_path / "whole"), final_state(tmp_path / "broken"))
    for file in ("metrics.jsonl", "samples/real.png"):
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "broken" / file).read_bytes()


def test_other_images_are_refused_without_reading_them_all(packed, write_lsun, photos, tmp_path):
    options = ["dataset.memory=0", "dataset.workers=0", "train.steps=5"]
    train(config(packed, *options), tmp_path / "run", progress=False)
    other = write_lsun("bedroom_train", {f"{i}".encode(): photo for i, photo in enumerate(photos[:40])}, tmp_path / "other")
    fewer = pack(open_source(other), tmp_path / "fewer.pack", Squares(32)).path
    for path in (other, fewer):
        with pytest.raises(RunError, match="trained on other images"):
            train(config(path, *options), tmp_path / "run", progress=False)


def test_other_pixels_of_the_same_size_are_refused_streamed_and_in_memory(write_folder, write_lsun, tmp_path):
    pictures = [{f"{i}.bmp": encoded(noise(seed + i, (32, 32)), "bmp") for i in range(9)} for seed in (0, 50)]
    folders = [write_folder(files, tmp_path / f"folder{i}") for i, files in enumerate(pictures)]
    databases = [
        write_lsun("bedroom_train", {name.encode(): picture for name, picture in files.items()}, tmp_path / f"lsun{i}")
        for i, files in enumerate(pictures)
    ]
    for name, (first, other) in {"folder": folders, "lsun": databases}.items():
        for memory in (0, 4):
            options = [f"dataset.name={name}", f"dataset.memory={memory}", "dataset.workers=0"]
            assert batches(first, *options).sha256 != batches(other, *options).sha256
        run = tmp_path / f"run_{name}"
        train(config(first, *options, "train.steps=2"), run, progress=False)
        with pytest.raises(RunError, match="trained on other images"):
            train(config(other, *options, "train.steps=2"), run, progress=False)


@pytest.mark.parametrize("name", ["folder", "lsun"])
def test_memory_changes_nothing_that_a_run_remembers(write_folder, write_lsun, photos, name):
    path = write_folder({f"{i}.jpg": photo for i, photo in enumerate(photos)}) if name == "folder" else write_lsun()
    kept, read = (batches(path, f"dataset.name={name}", f"dataset.memory={m}", "dataset.workers=0") for m in (4, 0))
    assert kept.feeder is None and read.feeder is not None and kept.sha256 == read.sha256
    assert torch.equal(kept.get(3, 1), read.get(3, 1))


def test_where_images_are_left_out_memory_and_disk_differ(write_lsun, photos):
    """Streamed, the next image takes the place of an unusable one; in memory there are fewer."""
    path = write_lsun(values={f"{i:02}".encode(): photo for i, photo in enumerate(photos[:20])} | {b"03": b"no image"})
    kept, read = (batches(path, "dataset.on_bad=skip", f"dataset.memory={m}", "dataset.workers=0") for m in (4, 0))
    assert len(kept.set) == 19 and len(read.set) == 20 and kept.sha256 != read.sha256
