"""Networks of every size: multiples of 8 from 16 to 256, by seed map and doublings; and that all else works at sizes of its own."""

import pytest
import torch
from torch import nn

import gan
from data.images import RESOLUTIONS
from gan.config import Config
from gan.export import export
from gan.models import summary
from gan.models.build import build, build_discriminator, build_generator, resolve
from gan.models.counting import parameter_count
from gan.models.families import FAMILIES
from gan.models.sizes import halvings, seed_map
from gan.probe import probe
from gan.probe import summary as headlines
from gan.probe.inputs import real_images
from gan.processes import Processes
from gan.settings import ConfigError
from gan.state import Batches, State
from gan.step import Step
from gan.training import train
from tests.helpers import FEATURES, NAME

SOME = (16, 24, 40, 96, 160, 248, 256)
NORMED = ("dcgan", "cnn", "sngan", "wgan_gp", "landscape")


def settings(family, resolution, *overrides):
    return resolve(Config.load(None, [f"generator.family={family}", f"dataset.resolution={resolution}", *overrides]))


def test_every_size_is_a_seed_map_doubled():
    known = {16: (4, 2), 24: (6, 2), 32: (4, 3), 40: (5, 3), 48: (6, 3), 64: (4, 4), 96: (6, 4), 128: (4, 5), 248: (31, 3)}
    assert {size: seed_map(size) for size in known} == known and seed_map(256) == (4, 6)
    for size in RESOLUTIONS:
        side, doublings = seed_map(size)
        assert side * 2**doublings == size and side >= 4 and (side % 2 or side < 8)
    assert [halvings(size) for size in (40, 48, 96, 128)] == [3, 4, 5, 7]


@pytest.mark.parametrize("family", FAMILIES)
def test_both_networks_of_every_family_come_out_at_every_size(family):
    for size in SOME:
        with torch.device("meta"):
            G, D = build(settings(family, size))
            images = G(torch.empty(2, 128))
            assert images.shape == (2, 3, size, size) and D(images).shape == (2,), size


@pytest.mark.parametrize("family", FAMILIES)
def test_no_discriminator_leaves_out_a_row_or_column(family):
    """Each pixel has a say: a map that can't be halved isn't."""
    for size in (16, 24, 40):
        D = build_discriminator(settings(family, size, "discriminator.width=4", "discriminator.norm=none"))
        images = torch.rand(1, 3, size, size, requires_grad=True)
        (gradient,) = torch.autograd.grad(D(images).sum(), images)
        assert gradient[..., -1, :].any() and gradient[..., :, -1].any() and gradient[..., 0, :].any(), size


def test_the_published_networks_for_stl10_have_their_parameters():
    """Miyato et al. 2018, table 5, counted by hand: 6 x 6 x 512 doubled three times in G, four halvings and a flat block in D."""

    def up(a, b):
        return 2 * a + 9 * a * b + b + 2 * b + 9 * b * b + b + a * b + b

    def down(a, b, hidden):
        return 9 * a * hidden + hidden + 9 * hidden * b + b + a * b + b

    g = (128 + 1) * 512 * 36 + up(512, 256) + up(256, 128) + up(128, 64) + 2 * 64 + 9 * 64 * 3 + 3
    d = down(3, 64, 64) + sum(down(a, 2 * a, a) for a in (64, 128, 256, 512)) + 1024 + 1
    with torch.device("meta"):
        config = settings("sngan", 48)
        G, D = build_generator(config), build_discriminator(config)
        assert (parameter_count(G), parameter_count(D)) == (g, d)
        assert D.features(torch.empty(1, 3, 48, 48)).shape == (1, 1024, 3, 3)
        cnn = build_generator(settings("cnn", 48))
    assert cnn.seed == (512, 6, 6) and [m.out_channels for m in cnn.modules() if isinstance(m, nn.ConvTranspose2d)] == [
        256,
        128,
        64,
    ]


def test_the_widest_layers_of_256_pixels_are_those_of_128():
    with torch.device("meta"):
        for family in NORMED:
            wide, wider = (max(p.shape[0] for p in build_generator(settings(family, r)).trunk.parameters()) for r in (128, 256))
            assert wide == wider


def test_width_rules_hold_at_other_sizes():
    with torch.device("meta"):
        rule = "generator.width_rule=equal_parameters"
        a, b = (parameter_count(build_generator(settings("sngan", 48, f"generator.kernel={k}", rule))) for k in ("c3", "c2sp"))
    assert b == pytest.approx(a, rel=0.03)


def test_attention_finds_the_maps_of_other_sizes():
    G, D = build(settings("sngan", 48, "generator.attention=24", "discriminator.attention=12", "generator.width=8"))
    assert G(torch.zeros(1, 128)).shape == (1, 3, 48, 48) and D(torch.zeros(1, 3, 48, 48)).shape == (1,)
    with pytest.raises(ConfigError, match=r"generator\.attention=16: its layers work on maps of 12, 24, 48 pixels"):
        build(settings("sngan", 48, "generator.attention=16"))


def test_the_start_up_table_counts_what_a_discriminator_of_other_sizes_sees():
    """The seed's reach and D's sight, in pixels; D of 48 pixels sees as far as that of 64 where it has as many blocks."""
    assert summary.receptive_fields(settings("cnn", 48)) == summary.receptive_fields(settings("cnn", 32))


def test_a_size_without_networks_is_answered_with_the_nearest():
    for size, near in ((28, "24 or 32"), (8, "16"), (512, "256")):
        with pytest.raises(ConfigError, match=rf"dataset\.resolution: {size} is no multiple of 8 from 16 to 256.*mean {near}\?"):
            Config.load(None, [f"dataset.resolution={size}"])


@pytest.mark.parametrize("family", ["r3", "r3_grouped"])
def test_the_r3_networks_have_no_flat_layers_and_say_who_has(family):
    with pytest.raises(
        ConfigError, match=rf"flat_layers: family {family} adds no such layers; leave the setting at 0, or choose one of dcgan, cnn"
    ):
        build(settings(family, 32, "generator.flat_layers=1"))


# --- all else ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("family", "size"), list(zip([*NORMED, "r3"], (24, 40, 48, 16, 24, 48))))
def test_a_step_trains_and_instruments_measure(tiny, family, size):
    config = resolve(tiny(family, f"dataset.resolution={size}", "dataset.crop=pad", "train.device=cpu"))
    alone = Processes(0, 1, torch.device("cpu"))
    state = State(config, alone)
    assert Step(config, alone, state, Batches(config, alone))().isfinite().all()
    record = probe(config, samples=16)
    found = headlines(record)
    assert {"drift_x_px", "spread_px", "phase_mean_variance", "nyquist_peaks_db"} <= found.keys() and found["spread_px"] < 2 * size
    assert record["stages"][0]["size"] == state.generator.seed[1]


def test_a_run_of_another_size_is_sampled_scored_probed_and_exported(tiny, call, tiny_networks, tmp_path):
    run = tmp_path / "run"
    train(tiny("dcgan", "dataset.resolution=24", "train.steps=2", "train.device=cpu"), run, progress=False)
    trained = gan.load(run, device="cpu")
    assert trained.sample(3).shape == (3, 3, 24, 24)
    assert export(trained, tmp_path / "g.pt2") < 1e-4
    status, _, said = call("evaluate", run, "--features", FEATURES, "--scores", "fid", "--count", 40, "--device", "cpu")
    assert status == 0 and NAME in (run / "scores.json").read_text(), said
    record = probe(run, samples=16, real=real_images(trained.config, 16))
    assert record["card"]["resolution"] == 24 and record["numbers"]["spectrum_gap"] > 0
