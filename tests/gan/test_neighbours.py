"""`evaluate --neighbours`: copies of training images are found and shown, in the run's folder and in a study's report."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import data
import gan
from gan import neighbours
from gan.evaluation import image_side
from gan.run_directory import RunError
from gan.sampling import Trained
from metrics.features import open_extractor
from study.nearest import nearest_images
from tests.helpers import FEATURES

pytestmark = pytest.mark.usefixtures("tiny_networks")


@pytest.fixture
def copying(run, monkeypatch):
    """The run's generator, but that what it draws are training images with a speck of noise."""
    trained = gan.load(run, device="cpu")
    images = data.load(**trained.config.dataset.arguments, split="train").images
    noise = torch.randint(0, 2, images.shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(Trained, "sample", lambda self, n, seed=0: (images // 2 * 2 + noise)[:n])
    return trained


def test_copies_are_found_in_both_spaces_and_lie_beside_their_sources(copying):
    found = neighbours.find_neighbours(copying, open_extractor(FEATURES), 30)
    for space in ("features", "pixels"):
        assert found.record[space]["share"] > found.record[space]["high"] and found.record[space]["closest"] > 0.9
    assert found.record["held_out"] == "training images, each beside the others" and found.record["training_images"] == 50
    width = 1 + 2 * neighbours.BESIDE
    assert found.picture.shape == (neighbours.SHOWN * width, 3, 32, 32)
    for row in found.picture.split(width):
        difference = (row.int() - row[:1].int()).abs().flatten(1).amax(dim=1)
        assert difference[1] <= 1 and difference[1 + neighbours.BESIDE] <= 1  # the source comes first in either space
    assert all("closer than chance allows" in line for line in neighbours.sentences(found.record))


def test_a_test_split_serves_as_the_images_that_were_not_seen(tiny, tmp_path):
    config = tiny("dcgan", "dataset.hold_out=0.4", "train.steps=1")
    trained = gan.train(config, tmp_path / "run")
    record = neighbours.find_neighbours(trained, open_extractor(FEATURES), 20).record
    assert record["held_out"] == "the test split" and record["held_out_images"] == 20 and 20 <= record["training_images"] <= 30


def test_large_images_are_compared_at_32_pixels():
    images = torch.arange(64 * 64, dtype=torch.float32).view(1, 1, 64, 64).expand(1, 3, 64, 64).remainder(256).to(torch.uint8)
    found = neighbours.pixels(images)
    assert found.shape == (1, 3 * 32 * 32)
    assert found[0, 0] == images[0, 0, :2, :2].float().mean()


def test_of_many_images_a_seeded_choice_is_looked_among(run):
    images = data.load(**gan.load(run).config.dataset.arguments, split="train")
    assert neighbours.images_of(images, 20, 1).shape[0] == 20
    assert torch.equal(neighbours.images_of(images, 20, 1), neighbours.images_of(images, 20, 1))
    assert len(torch.cat(list(image_side(images, None, 0).open()))) == 50


def test_the_command_writes_numbers_and_a_picture(run, call):
    arguments = ["--scores", "fid", "--count", 20, "--features", FEATURES, "--device", "cpu"]
    status, out, err = call("evaluate", run, *arguments, "--neighbours")
    assert (status, out) == (0, ""), err
    record = json.loads((run / "neighbours.json").read_text())
    assert (record["step"], record["samples"]) == (4, 20) and f"{run}/neighbours.png" in err
    assert np.asarray(Image.open(run / "neighbours.png")).shape == (3 * (10 * 34 + 2), 3 * (9 * 34 + 2), 3)
    assert all(line in err for line in neighbours.sentences(record)) and (run / "scores.json").is_file()
    whole, picture = (run / "neighbours.json").read_text(), (run / "neighbours.png").read_bytes()
    assert neighbours.read_neighbours(run) == (record, picture)
    changed = [whole.replace('"samples": 20', '"samples": 21'), whole.replace('"picture_sha256": "', '"picture_sha256": "0')]
    for text in ("{", "[]", *changed):
        (run / "neighbours.json").write_text(text)
        with pytest.raises(RunError, match="is damaged: delete both"):
            neighbours.read_neighbours(run)
    (run / "neighbours.json").write_text(whole)
    (run / "neighbours.png").write_bytes(picture[:-1])  # of another search, say, which was killed
    with pytest.raises(RunError, match="is damaged: delete both"):
        neighbours.read_neighbours(run)
    (run / "neighbours.png").unlink()
    assert neighbours.read_neighbours(run) is None


def test_the_report_of_a_study_shows_what_was_found(run, call, tmp_path):
    from types import SimpleNamespace

    arguments = ["--scores", "fid", "--count", 20, "--features", FEATURES, "--device", "cpu"]
    assert call("evaluate", run, *arguments, "--neighbours")[0] == 0
    jobs = [SimpleNamespace(name="c2/seed_0", path=run), SimpleNamespace(name="c3/seed_0", path=tmp_path / "none")]
    (looked,) = nearest_images(SimpleNamespace(jobs=jobs), SimpleNamespace(run=lambda job: job.path))
    assert looked.name == "c2/seed_0" and len(looked.lines) == 2 and looked.picture.startswith("iVBOR")
