"""Class-conditional networks and runs: what the class changes in a layer, a step and a checkpoint, and that nothing else does."""

import shutil
from itertools import product

import pytest
import torch
from torch import nn

from data import DataError
from gan import checkpoint, sampling
from gan.config import Config
from gan.models.build import build, resolve
from gan.models.conditioning import ConditionalBatchNorm2d
from gan.models.counting import parameter_count
from gan.processes import Processes
from gan.randomness import choose_classes, class_labels
from gan.run_directory import RunError
from gan.settings import ConfigError
from gan.state import Batches, State, require_labels
from gan.step import Step
from gan.training import train
from metrics.instruments.shift import flat_twin
from tests.helpers import assert_same, final_state

ALONE = Processes(0, 1, torch.device("cpu"))
NORMED = ("dcgan", "cnn", "sngan", "wgan_gp", "landscape")
SMALL = ["generator.width=8", "discriminator.width=8", "generator.latent=8"]
CONDITIONAL = "generator.conditional=true"


def networks(family, *overrides, classes=3):
    return build(resolve(Config.load(None, [f"generator.family={family}", *SMALL, *overrides])), classes)


# --- layers ------------------------------------------------------------------------------------------------------------------


def conditional_norm(classes=3, channels=4):
    layer = ConditionalBatchNorm2d(nn.BatchNorm2d(channels), classes).double()
    for table in (layer.gain, layer.bias):
        nn.init.normal_(table, generator=torch.Generator().manual_seed(0))
    return layer


def test_each_image_gets_the_gain_and_bias_of_its_class():
    layer, x, labels = conditional_norm(), torch.randn(5, 4, 3, 3, dtype=torch.float64), [2, 0, 1, 1, 2]
    layer.shares = torch.eye(3, dtype=torch.float64)[labels]
    y = layer(x)
    for n, c, i, j in product(range(5), range(4), range(3), range(3)):
        values = x[:, c]
        normed = (x[n, c, i, j] - values.mean()) / (values.var(correction=0) + 1e-5) ** 0.5
        torch.testing.assert_close(y[n, c, i, j], layer.gain[labels[n], c] * normed + layer.bias[labels[n], c])


def test_between_two_classes_gain_and_bias_are_mixed_by_their_shares():
    layer, x = conditional_norm().eval(), torch.randn(1, 4, 2, 2, dtype=torch.float64)

    def at(*shares):
        layer.shares = torch.tensor([shares], dtype=torch.float64)
        return layer(x)

    torch.testing.assert_close(at(0.25, 0.75, 0), 0.25 * at(1, 0, 0) + 0.75 * at(0, 1, 0))


def test_without_labels_a_conditional_network_says_what_it_needs():
    G, D = networks("dcgan", CONDITIONAL)
    for network, x in ((G, torch.zeros(1, 8)), (D, torch.zeros(1, 3, 32, 32))):
        with pytest.raises(ValueError, match="needs labels"):
            network(x)


@pytest.mark.parametrize("family", NORMED)
def test_a_conditional_generator_begins_as_the_unconditional_one_of_its_seed(family):
    G, D = networks(family, CONDITIONAL)
    plain_G, plain_D = networks(family)
    z = torch.randn(4, 8)
    torch.testing.assert_close(G(z, torch.tensor([0, 1, 2, 2])), plain_G(z))
    mine = D.state_dict()
    assert all(torch.equal(mine[name], value) for name, value in plain_D.state_dict().items())
    assert sum(isinstance(m, ConditionalBatchNorm2d) for m in G.modules()) == sum(
        isinstance(m, nn.BatchNorm2d) for m in plain_G.modules()
    )


@pytest.mark.parametrize("family", [*NORMED, "r3"])
def test_the_gradient_of_one_class_moves_that_class_alone(family):
    G, D = networks(family, CONDITIONAL, "discriminator.norm=none")
    D(G(torch.randn(2, 8), torch.tensor([1, 1])), torch.tensor([1, 1])).sum().backward()
    tables = [D.embed.weight.grad.T]
    tables += (
        [G.embed.weight.grad.T]
        if G.embed is not None
        else [m.bias.grad for m in G.modules() if isinstance(m, ConditionalBatchNorm2d)]
    )
    for table in tables:
        assert not table[[0, 2]].any()
    assert any(table[1].any() for table in tables)


@pytest.mark.parametrize("family", ["sngan", "dcgan"])
def test_the_projection_is_head_plus_the_product_with_the_vector_of_the_class(family):
    _, D = networks(family, CONDITIONAL)
    D.eval()
    x, labels = torch.randn(3, 3, 32, 32), [2, 0, 2]
    h = D.pool(D.features(x))
    V = D.embed.weight.detach()
    if family == "sngan":  # spectral norm on the embedding, too
        assert abs(torch.linalg.matrix_norm(V, 2).item() - 1) < 0.05
    expected = [D.head(h[n])[0] + sum(V[i, labels[n]] * h[n, i] for i in range(len(V))) for n in range(3)]
    torch.testing.assert_close(D(x, torch.tensor(labels)), torch.stack(expected), rtol=1e-4, atol=1e-5)


def test_the_r3_networks_are_told_the_class_as_published():
    G, D = networks("r3", CONDITIONAL, "discriminator.width=12")
    z, y = torch.randn(3, 8), torch.tensor([2, 0, 2])
    joined = torch.stack([torch.cat([z[n], G.embed.weight[:, y[n]]]) for n in range(3)])
    nn.init.normal_(G.trunk[0].residual[-1].weight)
    torch.testing.assert_close(G(z, y), G.trunk(G.project(joined).view(3, *G.seed)))
    assert G.latent == 8 and G.project.linear.in_features == 16
    x = torch.randn(3, 3, 32, 32)
    vectors = D.head(D.pool(D.features(x)))
    assert vectors.shape == (3, 12)  # as many as the last map has channels
    torch.testing.assert_close(D(x, y), torch.stack([vectors[n] @ D.embed.weight[:, y[n]] for n in range(3)]))


def test_the_published_networks_have_as_many_parameters_with_labels_as_reported():
    """20.8 M in G; D's head then gives 768 numbers instead of one, and there is such a vector for each of ten classes."""
    wide = ["generator.width=768", "discriminator.width=768", "generator.latent=64"]
    with torch.device("meta"):
        (G, D), (_, plain) = (networks("r3_grouped", *option, *wide, classes=10) for option in ([CONDITIONAL], []))
    assert round(parameter_count(G) / 1e6, 1) == 20.8
    assert parameter_count(D) - parameter_count(plain) == 767 * 768 + 10 * 768


def test_the_vectors_of_classes_begin_as_published():
    """N(0, 1/K) beside z; in D shorter by the root of their length, so that <v, head(h)> is as large as a number of the head."""
    torch.manual_seed(0)
    G, D = networks("r3", CONDITIONAL, "generator.latent=64", "discriminator.width=64", classes=100)
    assert G.embed.weight.std().item() == pytest.approx(1 / 10, rel=0.05)
    assert D.embed.weight.std().item() == pytest.approx(1 / 10 / 8, rel=0.05)
    assert D.head.weight.std().item() == pytest.approx(1 / 8, rel=0.05)


@pytest.mark.parametrize("rule", ["equal_parameters", "equal_macs"])
def test_width_rules_count_the_class(rule):
    width = "generator.width=16"
    G, c3 = (
        networks("sngan", CONDITIONAL, width, *o, classes=10)[0]
        for o in ([f"generator.width_rule={rule}", "generator.kernel=c2"], [])
    )
    if rule == "equal_parameters":
        assert abs(parameter_count(G) / parameter_count(c3) - 1) < 0.02
    assert G.project.out_features > c3.project.out_features


def test_an_unconditional_run_has_the_names_that_it_had():
    for network in networks("sngan"):
        assert not any(word in name for name in network.state_dict() for word in ("embed", "class", "gain"))
    assert Config.load_saved({"generator": {"family": "sngan"}}).generator.conditional is False


def test_a_generator_without_a_norm_has_the_class_joined_to_z():
    G, _ = networks("sngan", CONDITIONAL, "generator.norm=none")
    z = torch.randn(1, 8).expand(2, 8)
    a, b = G(z, torch.tensor([0, 1]))
    assert G.project.in_features == 16 and (a - b).abs().max() > 1e-3


def test_what_a_class_adds_has_no_part_in_the_drift_by_padding_alone():
    G, plain = (networks("dcgan", "generator.kernel=c2", *option)[0] for option in ([CONDITIONAL], []))
    for module in G.modules():
        if isinstance(module, ConditionalBatchNorm2d):
            nn.init.normal_(module.bias, 5.0)
    maps = torch.rand(1, *G.seed)
    torch.testing.assert_close(flat_twin(G.trunk)(maps), flat_twin(plain.trunk)(maps))


# --- which class -------------------------------------------------------------------------------------------------------------


def test_classes_are_drawn_in_the_proportions_of_the_data():
    counts = torch.tensor([1, 0, 3])
    uniform = torch.tensor([0.0, 0.2499, 0.25, 0.9999])
    assert choose_classes(uniform, counts).tolist() == [0, 0, 2, 2]
    assert abs((class_labels(0, 0, 4000, counts) == 0).float().mean() - 0.25) < 0.03


def test_image_i_has_its_class_in_any_batch():
    counts = torch.ones(10, dtype=torch.int64)
    whole = class_labels(5, 0, 150, counts)
    assert torch.equal(torch.cat([class_labels(5, first, 30, counts) for first in range(0, 150, 30)]), whole)


@pytest.mark.parametrize("family", ["dcgan", "r3"])
def test_generated_images_have_the_labels_of_the_real_ones(labelled, family):
    config = resolve(labelled(family, "train.d_steps=2"))
    batches = Batches(config, ALONE)
    state = State(config, ALONE, batches.classes)
    step = Step(config, ALONE, state, batches)
    inputs = step.inputs()
    for update, batch in enumerate([*inputs.updates, *([inputs.generator] if family == "r3" else [])]):
        assert torch.equal(batch.labels, batches.set.labels[batches.order.indices(update * 8, 8)])
    seen = []
    for network, name in ((state.generator, "G"), (state.discriminator, "D")):
        network.register_forward_pre_hook(lambda _, given, name=name: seen.append((name, given[1])))
    step()
    first = inputs.updates[0].labels
    assert torch.equal(next(y for name, y in seen if name == "G"), first)
    assert any(name == "D" and torch.equal(y, first.repeat(2)) for name, y in seen) or family == "dcgan"
    assert torch.equal([y for name, y in seen if name == "G"][-1], inputs.generator.labels)


@pytest.mark.parametrize("family", ["wgan_gp", "landscape", "r3"])
@pytest.mark.parametrize("form", ["exact", "finite_difference"])
def test_a_step_with_penalties_trains_the_vectors_of_the_classes(labelled, family, form):
    config = resolve(labelled(family, f"objective.penalty_form={form}"))
    batches = Batches(config, ALONE)
    state = State(config, ALONE, batches.classes)
    before = [p.clone() for p in state.discriminator.embed.parameters()]
    assert Step(config, ALONE, state, batches)().isfinite().all()
    assert not torch.equal(before[0], next(state.discriminator.embed.parameters()))


def test_activation_checkpointing_changes_no_bit(labelled):
    states = []
    for option in (False, True):
        config = resolve(labelled("sngan", f"train.activation_checkpointing={option}".lower(), "train.gradient_accumulation=2"))
        batches = Batches(config, ALONE)
        state = State(config, ALONE, batches.classes)
        Step(config, ALONE, state, batches)()
        states.append(state.dump())
    assert_same(*states)


@pytest.mark.parametrize("family", ["dcgan", "r3"])
def test_compiled_networks_paint_and_judge_as_plain_ones(family):
    """In one graph each, with other labels at each call."""
    G, D = networks(family, CONDITIONAL)
    for network, given in ((G.eval(), torch.randn(3, 8)), (D.eval(), torch.randn(3, 3, 32, 32))):
        compiled = torch.compile(network, backend="eager", fullgraph=True)
        for labels in (torch.tensor([0, 1, 2]), torch.tensor([2, 2, 0])):
            torch.testing.assert_close(compiled(given, labels), network(given, labels))


def test_a_compiled_step_is_an_eager_one(labelled, monkeypatch):
    """Gradients of the tables and vectors of classes included."""
    monkeypatch.setattr("gan.step.compiled", lambda network: torch.compile(network, backend="eager"))
    found = []
    for compile_ in ("false", "true"):
        config = resolve(labelled("dcgan", f"train.compile={compile_}"))
        batches = Batches(config, ALONE)
        state = State(config, ALONE, batches.classes)
        step = Step(config, ALONE, state, batches)
        values = [step() for _ in range(2)]
        found.append([*values, *state.generator.parameters(), *state.discriminator.parameters()])
    for a, b in zip(*found):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("family", [*NORMED, "r3"])
def test_a_step_in_bf16_is_near_one_in_fp32(labelled, family):
    found = []
    for precision in ("fp32", "bf16"):
        config = resolve(labelled(family, f"train.precision={precision}", "generator.attention=16"))
        batches = Batches(config, ALONE)
        state = State(config, ALONE, batches.classes)
        found.append(Step(config, ALONE, state, batches)())
        assert all(p.dtype == torch.float32 for p in state.generator.parameters())
    torch.testing.assert_close(found[1][:4], found[0][:4], rtol=0.05, atol=0.05)


def test_several_gpus_share_the_statistics_of_conditional_norms():
    G, _ = networks("dcgan", CONDITIONAL)
    shared = nn.SyncBatchNorm.convert_sync_batchnorm(G)
    norms = [m.norm for m in shared.modules() if isinstance(m, ConditionalBatchNorm2d)]
    assert norms and all(isinstance(norm, nn.SyncBatchNorm) for norm in norms)


# --- runs --------------------------------------------------------------------------------------------------------------------


def test_a_conditional_run_that_was_stopped_ends_with_the_same_bits(labelled, tmp_path):
    options = ["train.checkpoint_every=2", "train.log_every=1", "train.sample_every=4"]
    train(labelled("dcgan", "train.steps=4", *options), tmp_path / "whole", progress=False)
    train(labelled("dcgan", "train.steps=2", *options), tmp_path / "parts", progress=False)
    train(labelled("dcgan", "train.steps=4", *options), tmp_path / "parts", progress=False)
    assert_same(final_state(tmp_path / "whole"), final_state(tmp_path / "parts"))


def test_a_run_does_not_go_on_with_other_labels(painted, pictures, labelled, tmp_path):
    run = shutil.copytree(painted, tmp_path / "run")
    swapped = shutil.copytree(pictures, tmp_path / "swapped")
    a, b = sorted((swapped / "train").iterdir())[:2]
    for source, target in ((a, swapped / "x"), (b, a), (swapped / "x", b)):
        source.rename(target)
    with pytest.raises(RunError, match="was trained on other images"):
        train(labelled("dcgan", f"dataset.path={swapped}", "train.steps=3"), run, progress=False)


def test_unlabelled_images_are_refused_in_a_sentence(tiny, tmp_path):
    with pytest.raises(DataError, match=r"has no classes, which generator\.conditional=true needs: sort its images into folders"):
        train(tiny("dcgan", CONDITIONAL), tmp_path / "run", progress=False)


def test_streamed_images_that_may_stand_in_for_others_are_refused(labelled):
    config = resolve(labelled("dcgan", "dataset.memory=0", "dataset.workers=0", "dataset.on_bad=skip"))
    with pytest.raises(ConfigError, match=r"dataset\.on_bad=skip shows the next image .* set dataset\.on_bad=refuse"):
        Batches(config, ALONE)


def test_streamed_and_loaded_images_come_with_the_same_labels(labelled):
    loaded, streamed = (Batches(resolve(labelled("dcgan", *o)), ALONE) for o in ([], ["dataset.memory=0", "dataset.workers=0"]))
    require_labels(streamed.set)
    assert torch.equal(loaded.get(1, 0), streamed.get(1, 0)) and torch.equal(loaded.labels(1, 0), streamed.labels(1, 0))
    assert loaded.sha256 == streamed.sha256 and loaded.classes.names == streamed.classes.names


def test_a_checkpoint_knows_the_classes_and_how_many_images_each_had(painted, pictures):
    generator = sampling.load_generator(painted).generator
    assert generator.class_names == tuple(sorted(p.name for p in (pictures / "train").iterdir()))
    assert generator.class_counts.tolist() == [len(list(p.iterdir())) for p in sorted((pictures / "train").iterdir())]


def test_a_checkpoint_without_classes_is_named(painted, tmp_path):
    run = shutil.copytree(painted, tmp_path / "run")
    file = checkpoint.saved(run / "checkpoints")[-1]
    state = checkpoint.load(file)
    del state["classes"]
    torch.save(state, file)
    with pytest.raises(checkpoint.CheckpointError, match="lacks 'classes'"):
        sampling.load_generator(run)
