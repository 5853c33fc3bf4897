"""gan.probe: a record of a run and of a config, its card, its summary, and that measuring changes nothing."""

import json

import pytest
import torch
from torch import nn

from data import DataError
from data.checksums import sealed
from data.sources.shapes import shapes
from gan.checkpoint import CheckpointError
from gan.models.build import build, resolve
from gan.probe import measure, probe, summary, training_instruments, write_record
from gan.probe.figure import draw_probe
from gan.probe.inputs import Real, halves, real_images, untrained
from gan.probe.measurement import over_seeds
from gan.probe.table import layers_of, listed, tables
from gan.probe.verdict import position, verdicts
from gan.run_directory import RunError
from metrics.scoring import Side

SMALL = {"samples": 32}


@pytest.fixture(scope="module")
def real():
    images = shapes(32, count=64).images
    return Real(images[:32], images[32:], "shapes")


def test_a_run_with_real_images(run, real):
    files = sorted(run.rglob("*"))
    record = probe(run, real=real, **SMALL)
    assert sorted(run.rglob("*")) == files  # writing is the command's business
    card, numbers = record["card"], record["numbers"]
    assert (card["what"], card["step"], card["samples"], card["real"], card["real_count"]) == ("run", 4, 32, "shapes", 32)
    assert (card["family"], card["kernel"], card["upsampling"], card["ema"], card["seeds"]) == (
        "dcgan",
        "c3sp",
        "transposed",
        True,
        1,
    )
    assert numbers["overlap_variation"] == pytest.approx(0, abs=1e-9) and numbers["geometric_drift_px"] < 0.5
    assert numbers["spectrum_gap"] > record["floor"]["spectrum_gap"] > 0
    assert record["real"]["phase_mean_variance"] >= 0 and record["spread"] == {}
    assert [row["name"] for row in record["layers"]] == ["trunk.2", "trunk.5", "trunk.8"]
    assert [stage["size"] for stage in record["stages"]] == [4, 8, 16]
    assert {layer["name"] for layer in record["erosion"]["discriminator"]} >= {"input", "features.2"}
    assert probe(run, step=2, real=real, **SMALL)["card"]["step"] == 2
    assert json.loads(json.dumps(record, allow_nan=False)) == record  # plain numbers, no NaN


@pytest.mark.parametrize("kernel, drift, overlap", [("c3", 3.5, 0.484), ("c3sp", 0, 0), ("c4", 0, 0)])
def test_an_untrained_config(tiny, kernel, drift, overlap):
    record = measure(tiny("dcgan", f"generator.kernel={kernel}", "generator.width=16"), seeds=range(2), **SMALL).record
    numbers = record["numbers"]
    assert record["card"]["step"] == 0 and not record["card"]["ema"] and record["card"]["train_seed"] is None
    assert numbers["drift_px"] == pytest.approx(drift, abs=0.8) and numbers["geometric_drift_px"] == pytest.approx(drift, abs=0.25)
    assert numbers["overlap_variation"] == pytest.approx(overlap, abs=1e-3)
    assert record["spread"]["phase_gain"] > 0 and "real" not in record and "spectrum_gap" not in numbers
    assert numbers["phase_mean_variance"] > 0.02  # pictures are not grey: there is something to measure


@pytest.mark.parametrize("family", ["cnn", "sngan", "wgan_gp", "landscape"])
def test_every_family(tiny, family):
    found = measure(tiny(family), samples=16)
    numbers = found.record["numbers"]
    assert all(numbers[name] is not None for name in summary(found.record))
    if family == "landscape":  # zero insertion puts every value at the top left of its cell
        assert numbers["geometric_drift_px"] > 3
    else:
        assert numbers["overlap_variation"] == 0


@pytest.mark.parametrize("state", ["untrained", "dead"])
def test_networks_that_let_nothing_through_are_described_and_drawn(tiny, tmp_path, monkeypatch, state):
    config = tiny("r3", "generator.norm=null") if state == "untrained" else tiny("dcgan", "generator.norm=none")

    def dead(*arguments):
        networks = untrained(*arguments)
        for layer in networks[0].modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.constant_(layer.bias, -10.0)
        return networks

    if state == "dead":
        monkeypatch.setattr("gan.probe.measurement.untrained", dead)
    found = measure(config, samples=16)
    assert found.record["layers"] and len(verdicts(found.record)) == 3
    assert ("no change in the seed map" in position(found.record)) == (state == "dead")
    draw_probe(found, tmp_path / "probe.png")
    assert (tmp_path / "probe.png").is_file()


def test_padding_flat_layers_and_control_kernels_are_named(tiny):
    settings = ["generator.kernel=c2alt", "generator.padding=reflect", "generator.flat_layers=1"]
    record = measure(tiny("sngan", *settings, "generator.width=8"), samples=16).record
    card = record["card"]
    assert (card["kernel"], card["padding"], card["flat_layers"]) == ("c2alt", "reflect", 1)
    assert layers_of(card) == "nearest c2alt, reflect padding, 1 flat layers"
    assert layers_of({"upsampling": "nearest", "kernel": "c3"}) == "nearest c3"  # a record of before
    layers = {row["layer"]: row for row in record["layers"]}
    assert "turning reflect 2x2" in layers and "nearest + turning reflect 2x2" in layers
    assert layers["turning reflect 2x2"]["geometric_drift_px"] == pytest.approx(0.5)
    off = measure(tiny("sngan", "generator.kernel=c3off"), samples=16).record
    assert off["layers"][-1]["layer"] == "far-sided 3x3" and off["layers"][-1]["geometric_drift_px"] == pytest.approx(1)
    assert off["numbers"]["geometric_drift_px"] > 5 > record["numbers"]["geometric_drift_px"]


def test_batch_norm_of_an_untrained_generator_gets_statistics(tiny):
    generator, _ = untrained(resolve(tiny("dcgan", "generator.kernel=c4")), seed=0)
    with torch.no_grad():
        picture = generator(torch.randn(64, generator.latent))
    assert not generator.training and 0.3 < picture.std() < 0.6


def test_the_summary_holds_the_headlines(run, real):
    headlines = summary(probe(run, real=real, **SMALL))
    assert list(headlines) == [
        "drift_x_px", "drift_y_px", "drift_px", "spread_px", "border_left_right_excess", "border_top_bottom_excess",
        "border_asymmetry_excess", "overlap_variation", "phase_gain", "phase_mean_variance", "nyquist_peaks_db", "spectrum_gap",
    ]  # fmt: skip
    assert all(isinstance(value, float) for value in headlines.values())
    without = summary(probe(run, **SMALL))
    borders = {"border_left_right_excess", "border_top_bottom_excess", "border_asymmetry_excess"}
    assert set(headlines) - set(without) == {*borders, "spectrum_gap"}


def test_drift_over_seeds_is_the_size_of_the_mean_and_not_the_mean_of_sizes():
    seeds = [{"drift_x_px": x, "drift_y_px": y, "drift_px": ((x * x + y * y) / 2) ** 0.5} for x, y in ((0.5, -0.3), (-0.5, 0.1))]
    numbers = over_seeds(seeds)["numbers"]
    assert numbers["drift_x_px"] == 0 and numbers["drift_y_px"] == pytest.approx(-0.1)
    assert numbers["drift_px"] == pytest.approx(0.1 / 2**0.5)


def test_the_same_command_gives_the_same_numbers(run, real):
    assert probe(run, real=real, **SMALL) == probe(run, real=real, **SMALL)
    assert probe(run, seeds=range(1, 2), **SMALL)["numbers"] != probe(run, seeds=range(2, 3), **SMALL)["numbers"]


def test_instruments_while_training_change_nothing(tiny):
    generator, _ = build(resolve(tiny("dcgan", "generator.kernel=c3")))
    for mode in (True, False):
        generator.train(mode)
        state = {name: value.clone() for name, value in generator.state_dict().items()}
        random = torch.get_rng_state()
        found = training_instruments(generator, samples=16)
        assert generator.training is mode and torch.equal(random, torch.get_rng_state())
        assert all(torch.equal(value, state[name]) for name, value in generator.state_dict().items())
        assert all(p.grad is None and p.requires_grad for p in generator.parameters())
    assert list(found) == ["phase_mean_variance", "nyquist_peaks_db", "phase_variance_ratio", "border_asymmetry", "phase_gain"]
    assert all(isinstance(value, float) for value in found.values()) and found["phase_gain"] > 0.5
    assert found == training_instruments(generator, samples=16)


# --- real images -------------------------------------------------------------------------------------------------------------


def test_halves_share_no_image():
    images = torch.arange(100, dtype=torch.uint8)[:, None, None, None].expand(100, 3, 32, 32)
    side = Side("hundred", 100, lambda: iter(images.split(7)))
    found = halves(side, 40, seed=1)
    a, b = ({int(image[0, 0, 0]) for image in part} for part in (found.images, found.others))
    assert len(a) == len(b) == 40 and not a & b
    assert {int(image[0, 0, 0]) for image in halves(side, 40, seed=2).images} != a
    assert len(halves(side, 1000).images) == 50


def test_too_few_or_no_images():
    with pytest.raises(RunError, match="has 31 images; the instruments need at least 32"):
        halves(Side("few", 31, lambda: iter([])), 100)
    with pytest.raises(RunError, match="statistics, not images"):
        halves(Side("npz", 1000, None), 100)


def test_real_images_of_a_config(tiny):
    assert len(real_images(tiny("dcgan"), 1000).images) == 25  # the fifty of the fixture, in two halves
    with pytest.raises(DataError):
        real_images(tiny("dcgan", "dataset.path=nowhere.zip"), 100)


# --- errors and files --------------------------------------------------------------------------------------------------------


def test_one_sentence_for_what_cannot_be_measured(run, tiny, real, tmp_path):
    with pytest.raises(RunError, match="at least 16 images and 1 seed, not 3 and 1"):
        probe(run, samples=3)
    with pytest.raises(RunError, match="is not a run directory"):
        probe(tmp_path / "nothing")
    with pytest.raises(RunError, match="shapes has images of 32 pixels, the generator paints 64"):
        probe(tiny("dcgan", "dataset.resolution=64"), real=real, **SMALL)


def test_a_sick_generator_is_refused(run):
    path = sorted((run / "checkpoints").glob("step_*.pt"))[-1]
    state = torch.load(path, weights_only=True)
    state["ema"]["project.weight"][0, 0] = torch.nan
    torch.save(state, path)
    with pytest.raises(CheckpointError, match=r"its EMA weights are not finite; the last good checkpoint is .*step_00000002\.pt"):
        probe(run, **SMALL)


def test_a_record_is_plain_json(run, tmp_path):
    record = probe(run, **SMALL)
    write_record(record, tmp_path / "probe.json")
    assert json.loads((tmp_path / "probe.json").read_text()) == sealed(record)


@pytest.mark.rendered
def test_figure_and_tables(run, tiny, real, tmp_path):
    for found in (measure(run, real=real, **SMALL), measure(tiny("sngan"), samples=16)):
        draw_probe(found, tmp_path / "deep" / "probe.png")
        assert (tmp_path / "deep" / "probe.png").read_bytes().startswith(b"\x89PNG")
        numbers, layers = tables(found.record)
        assert numbers.row_count == len(listed()) and layers.row_count == len(found.record["layers"])


def test_a_figure_has_no_empty_panel_and_titles_that_touch_nothing(run, real, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr("gan.probe.figure.save_figure", lambda figure, path: drawn.append(figure))
    for found in (measure(run, real=real, **SMALL), measure(run, **SMALL)):
        draw_probe(found, tmp_path / "probe.png")
    for figure, count in zip(drawn, (8, 7)):
        titled = [axis for axis in figure.axes if axis.get_title(loc="left")]
        assert len(titled) == count and len(figure.axes) == count + 1  # and a bar of colours
        figure.canvas.draw()
        boxes = [axis._left_title.get_window_extent() for axis in titled]
        assert not [(i, j) for i, a in enumerate(boxes) for j, b in enumerate(boxes[:i]) if a.overlaps(b)]
        assert all(box.x0 >= 0 and box.x1 <= figure.bbox.width for box in boxes)


def test_every_number_is_in_the_table(run, real):
    shown = {number.name for number in listed()} | {"drift_x_px", "drift_y_px"}  # parts of shown ones
    assert set(probe(run, real=real, **SMALL)["numbers"]) == shown
