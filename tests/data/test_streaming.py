"""Streaming gives what memory gives: the same images in the same order, for any number of processes, after any interruption."""

import errno
import gc
import os
import re
import signal
import threading
import time

import pytest
import torch

import data.streaming
import data.workers
from data import DataError, EpochOrder, Feeder, load, notes
from data.database.reader import Database
from data.files import UserError
from data.sources.opening import open_source
from data.streaming import AHEAD, StreamedSet
from data.tools.pack import Squares, pack
from gan.config import Config
from gan.evaluation import image_side
from gan.progress import Writer
from gan.training import train
from metrics.scoring import identified
from tests.helpers import assert_same, final_state

R = 16


@pytest.fixture
def directory(write_lsun, small):
    return write_lsun(values={f"{i:040}".encode(): image for i, image in enumerate(small(50))})


@pytest.fixture
def images(directory):
    return load("lsun", directory, R).images


def streamed(directory, **options):
    return load("lsun", directory, R, memory=0, **{"workers": 0, **options})


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_equal_those_in_memory_at_any_position(directory, images, workers):
    order = EpochOrder(50, seed=1)
    feeder = Feeder(streamed(directory, workers=workers), order, n=8, stride=8)
    for position in [0, 8, 16, 16, 800, 808, 24, 0, 45, 53, 1_000_003]:  # on, again, jumps ahead and back, over an epoch's end
        assert torch.equal(feeder.get(position), images[order.indices(position, 8)])


def test_two_ranks_share_every_epoch_without_overlap(directory, images):
    order = EpochOrder(48, seed=0)
    ranks = [Feeder(streamed(directory), EpochOrder(48, seed=0), n=4, stride=8) for _ in range(2)]
    shares = [torch.cat([ranks[r].get(step * 8 + 4 * r) for step in range(6)]) for r in range(2)]
    both = torch.stack([share.view(6, 4, -1) for share in shares], 1).flatten(0, 2)  # (48, pixels) in the order of one process
    assert torch.equal(both, images[order.indices(0, 48)].flatten(1))
    assert len(both.unique(dim=0)) == 48


@pytest.mark.parametrize("block", [1, 2, 7, 100])
def test_blocks_change_the_order_not_the_images(directory, images, block):
    order = EpochOrder(50, seed=3, block=block)
    feeder = Feeder(streamed(directory), order, n=10, stride=10)
    for epoch in range(2):
        seen = torch.cat([feeder.get(50 * epoch + i) for i in range(0, 50, 10)])
        assert torch.equal(seen.flatten(1).unique(dim=0), images.flatten(1).unique(dim=0))


def test_reading_ahead_goes_no_further_than_it_should(directory, monkeypatch):
    read, fill = [], data.streaming.fill
    monkeypatch.setattr(
        data.streaming, "fill", lambda out, source, indices, *rest: read.append(indices) or fill(out, source, indices, *rest)
    )
    feeder = Feeder(streamed(directory), EpochOrder(50, 0), n=2, stride=2)
    for position in range(0, 20, 2):
        feeder.get(position)
    _wait_until(lambda: len(read) == 9 + AHEAD)
    assert len({tuple(indices) for indices in read}) == len(read)  # nothing twice


def test_unusable_images_are_replaced_by_the_next_one_or_refused(write_lsun, small, capsys):
    values = {f"{i}".encode(): image for i, image in enumerate(small(5))} | {b"1": b"no image", b"4": b""}
    directory = write_lsun(values=values)
    kept = streamed(directory, on_bad="skip")
    good = load("lsun", directory, R, on_bad="skip").images  # keys 0, 2, 3
    assert torch.equal(kept.read([1, 4, 0, 3]), good[[1, 0, 0, 2]])
    assert kept.skipped == ("1 (not an image)", "4 (not an image)")
    kept.read([1])
    assert capsys.readouterr().err.count("left out 1 (not an image)") == 1  # once, not every epoch
    feeder = Feeder(streamed(directory), EpochOrder(5, 0), n=5, stride=5)
    with pytest.raises(DataError, match=r"bedroom_train_lmdb: [14] \(not an image\) can't be used; fix it, or .*on_bad=skip"):
        feeder.get(0)


def test_a_disk_that_fails_replaces_no_image(directory, monkeypatch):
    images = streamed(directory, on_bad="skip")
    monkeypatch.setattr(Database, "read", lambda *arguments: (_ for _ in ()).throw(OSError(errno.EIO, os.strerror(errno.EIO))))
    with pytest.raises(DataError, match=r"can't be read \(Input/output error\): fix the disk"):
        images.read([0])


@pytest.mark.parametrize("rank", [0, 1])
def test_the_disk_is_asked_for_every_window_once_and_ahead(directory, rank):
    images, asked = streamed(directory), []
    order = EpochOrder(len(images), 0, block=2)
    images.origin.will_need = lambda indices: asked.append(indices.tolist())
    feeder = Feeder(images, order, 2, 4)
    for step in range(40):
        feeder.get(4 * step + 2 * rank)
        feeder._threads.submit(int).result()
        assert sum(map(len, asked)) >= 4 * step + 4, "asked for what was read already"
    expected = [order.indices(64 * i, 64).tolist() for i in range(len(asked))]
    assert sorted(asked) == sorted(expected)


def test_nothing_usable_ends(write_lsun):
    directory = write_lsun(values={b"a": b"", b"b": b""})
    with pytest.raises(DataError, match="none of the 2 images can be used, the last is b"):
        streamed(directory, on_bad="skip").read([0])


def test_many_unusable_images_in_a_row_end(write_lsun, monkeypatch):
    monkeypatch.setattr(data.streaming, "MANY", 3)
    directory = write_lsun(values={f"{i}".encode(): b"" for i in range(9)})
    with pytest.raises(DataError, match="none of 3 images in a row can be used, the last is 6"):
        streamed(directory, on_bad="skip").read([4])


def test_a_worker_that_dies_is_one_sentence(directory):
    images = streamed(directory, workers=2)
    feeder = Feeder(images, EpochOrder(50, 0), n=8, stride=8)
    feeder.get(0)
    os.kill(next(iter(images._processes._processes)), signal.SIGKILL)
    with pytest.raises(DataError, match=r"a decoding process died.*same command again.*checkpoint") as error:
        for position in range(8, 8 * 1000, 8):
            feeder.get(position)
    assert "\n" not in str(error.value)


def test_a_worker_that_dies_while_training_ends_the_run_which_goes_on_to_the_same_bits(write_lsun, tmp_path, monkeypatch):
    settings = ["dataset.name=lsun", f"dataset.path={write_lsun()}", "dataset.memory=0", "dataset.workers=2"]
    settings += ["dataset.resolution=32"]
    settings += ["generator.width=4", "discriminator.width=4", "train.batch_size=8", "train.steps=24", "train.checkpoint_every=4"]
    config = Config.load(None, [*settings, "train.log_every=8", "train.device=cpu", "generator.latent=8"])
    tick, ticks = Writer.tick, []

    def kill_one(self):
        tick(self)
        ticks.append(self)
        if len(ticks) == 9:
            os.kill(next(iter(pools[0]._processes)), signal.SIGKILL)

    make, pools = data.streaming.worker.process_pool, []
    monkeypatch.setattr(data.streaming.worker, "process_pool", lambda *given: pools.append(make(*given)) or pools[-1])
    monkeypatch.setattr(Writer, "tick", kill_one)
    with pytest.raises(DataError, match=r"a decoding process died.*same command again"):
        train(config, tmp_path / "broken", progress=False)
    train(config, tmp_path / "broken", progress=False)
    train(config, tmp_path / "whole", progress=False)
    assert_same(final_state(tmp_path / "broken"), final_state(tmp_path / "whole"))


def test_a_job_asked_to_stop_can_finish_its_step(directory, images):
    """Schedulers send SIGTERM to every process of a job; the workers must outlive the step that is still to be saved."""
    found = streamed(directory, workers=2)
    feeder, order = Feeder(found, EpochOrder(50, 0), n=8, stride=8), EpochOrder(50, 0)
    feeder.get(0)
    for pid in list(found._processes._processes):
        os.kill(pid, signal.SIGTERM)
        os.kill(pid, signal.SIGINT)
    time.sleep(0.1)
    for position in range(8, 200, 8):
        assert torch.equal(feeder.get(position), images[order.indices(position, 8)])


def test_data_that_changes_meanwhile_is_one_sentence(directory):
    feeder = Feeder(streamed(directory), EpochOrder(50, 0), n=8, stride=8)
    feeder.get(0)
    with open(directory / "data.mdb", "ab") as file:
        file.write(bytes(4096))
    with pytest.raises(DataError, match="changed while it's in use"):
        for position in range(8, 8 * 20, 8):
            feeder.get(position)


def test_threads_and_processes_end_with_their_owner(directory):
    before = threading.active_count()
    images = streamed(directory, workers=2)
    feeder = Feeder(images, EpochOrder(50, 0), n=8, stride=8)
    feeder.get(0)
    pids = list(images._processes._processes)
    del feeder, images
    gc.collect()
    _wait_until(lambda: threading.active_count() <= before and not any(os.path.exists(f"/proc/{pid}") for pid in pids))


def test_memory_stays_flat_over_epochs(directory):
    """Of a process with the images of an epoch in flight: later epochs need no more than the first few."""
    feeder = Feeder(streamed(directory), EpochOrder(50, 0), n=25, stride=25)
    levels = []
    for epoch in range(60):
        for i in range(2):
            feeder.get(50 * epoch + 25 * i)
        levels.append(_resident())
    assert max(levels[20:]) - levels[19] < 2**20
    assert len(feeder._ahead) == AHEAD and len(feeder.order._permutations) <= 2


def test_the_choice_between_memory_and_disk(directory, tmp_path):
    size = 50 * 3 * R * R / 2**30  # GiB
    assert isinstance(load("lsun", directory, R, memory=size * 0.99, workers=0), StreamedSet)
    assert not isinstance(load("lsun", directory, R, memory=size * 1.01), StreamedSet)
    assert load("lsun", directory, R, memory=0).workers >= 1  # encoded images want processes, packs don't
    packed = pack(open_source(directory), tmp_path / "a.pack", Squares(R))
    assert load("lsun", packed.path, R, memory=0).workers == 0


def test_scores_know_the_images_by_one_name_in_memory_or_streamed(directory):
    sides = [image_side(load("lsun", directory, R, memory=memory, workers=0), 20, 0) for memory in (4, 0)]
    assert len({identified(side).sha256 for side in sides}) == 1
    other = image_side(load("lsun", directory, R // 2, memory=0, workers=0), 20, 0)
    assert identified(other).sha256 != identified(sides[0]).sha256


def test_it_passes_for_an_image_set(directory, images):
    found = streamed(directory)
    assert len(found) == 50 and found.resolution == R and found.classes == ("bedroom",) and found.source.startswith("lsun")
    assert torch.equal(found.images[torch.tensor([3, 4])], images[3:5]) and torch.equal(found.labels, torch.zeros(50).long())
    batches = list(found.batches(range(50), 20))
    assert [len(b) for b in batches] == [20, 20, 10] and torch.equal(torch.cat(batches), images)
    assert torch.equal(torch.cat(list(load("lsun", directory, R).batches(range(50), 20))), images)


def _resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def _wait_until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.01)


def test_there_are_no_more_processes_than_images_or_batches_that_are_read_at_a_time(directory):
    assert streamed(directory, workers=400).workers == AHEAD


def test_a_machine_without_shared_memory_is_told_what_to_do(directory, monkeypatch):
    def refused(*_, **__):
        raise OSError(errno.ENOENT, "No such file or directory")

    monkeypatch.setattr(data.workers, "ProcessPoolExecutor", refused)
    with pytest.raises(UserError, match=r"2 processes that decode can't be started .*: set dataset\.workers=0, or .* /dev/shm"):
        streamed(directory, workers=2)


@pytest.mark.parametrize("text", ["abc", "0", "-1", "²", "1.5"])
@pytest.mark.parametrize("name", ["LOCAL_WORLD_SIZE", "GAN_COMPARE_WORKERS"])
def test_what_shares_the_cores_is_a_number(name, text, monkeypatch):
    monkeypatch.setenv(name, text)
    with pytest.raises(UserError, match=f"{name}={re.escape(text)} is set in the environment, which is no number of processes"):
        data.workers.cores()


@pytest.mark.parametrize(
    ("rank", "world", "speaks"),
    [(None, None, True), ("0", "2", True), ("1", "2", False), ("3", None, True), ("1", "1", True)],
)
def test_one_of_several_processes_speaks_and_one_alone_does(rank, world, speaks, monkeypatch):
    for name, value in (("RANK", rank), ("WORLD_SIZE", world)):
        monkeypatch.delenv(name, raising=False)
        if value:
            monkeypatch.setenv(name, value)
    assert notes.speaks() == speaks
