"""What conditional generators draw, export and are scored by: the class that was asked for."""

import re
import shutil

import pytest
import torch

import gan
from gan import sampling
from gan.evaluation import generator_side, image_side, reference_of
from gan.export import export
from gan.models.build import build_generator, resolve
from gan.models.conditioning import ConditionalBatchNorm2d
from gan.probe import probe
from gan.probe.inputs import untrained
from gan.processes import Processes
from gan.randomness import latents
from gan.run_directory import RunError
from gan.state import Batches
from metrics.frechet import frechet_from_features
from metrics.protocol import ProtocolError
from metrics.scoring import Side, passes, score
from study.study import Study
from tests.helpers import FEATURES, NAME, one_error

ALONE = Processes(0, 1, torch.device("cpu"))


def levels_apart(a, b):
    return (a.int() - b.int()).abs().max().item()


# --- pictures ----------------------------------------------------------------------------------------------------------------


def test_a_class_is_painted_whatever_the_batch(generator):
    whole = torch.cat(list(sampling.samples(generator, 3, 20, 20)))
    assert levels_apart(torch.cat(list(sampling.samples(generator, 3, 20, 7))), whole) <= 1
    labels = sampling.labels_of(generator, 3, 0, 20)
    for i in (0, 13):
        alone = sampling.draw(generator, latents(3, i, 1, 8), labels=labels[i : i + 1])
        assert levels_apart(alone[0], whole[i]) <= 1
    assert not torch.equal(*(torch.cat(list(sampling.samples(generator, 3, 4, of_class=c))) for c in (0, 1)))


def test_a_grid_has_a_row_for_each_class_and_a_latent_for_each_column(generator):
    z = latents(1, 0, 64, 8)
    rows = sampling.grid(generator, z).unflatten(0, (10, 8))
    for label in (0, 7):
        assert levels_apart(rows[label], sampling.draw(generator, z[:8], labels=torch.full((8,), label))) <= 1


def test_a_walk_between_classes_begins_and_ends_in_them(generator):
    rows = sampling.interpolations(generator, 0, rows=2, columns=5, classes=[4, 9]).unflatten(0, (2, 5))
    z = latents(0, 0, 4, 8)[::2]
    for column, label in ((0, 4), (4, 9)):
        assert levels_apart(rows[:, column], sampling.draw(generator, z, labels=torch.full((2,), label))) <= 1
    middle = torch.zeros(2, 10)
    middle[:, [4, 9]] = 0.5
    assert levels_apart(rows[:, 2], sampling.draw(generator, z, labels=middle)) <= 1


def test_sample_writes_classes_by_name_and_by_number(painted, call, tmp_path):
    name = sampling.load_generator(painted).generator.class_names[3]
    for index, option in enumerate((name, "3", "all", f"{name},0")):
        status, _, said = call("sample", painted, "--class", option, "--count", 20, "--grid", tmp_path / f"{index}.png")
        assert status == 0, said
    by_name, by_number, every, two = ((tmp_path / f"{i}.png").read_bytes() for i in range(4))
    assert by_name == by_number and len({by_name, every, two}) == 3
    assert call("sample", painted, "--class", f"{name},0", "--interpolate", "--count", 20)[0] == 0
    assert (painted / "samples" / "step_00000002_walk_class_3-0_0_20.png").exists()


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--class", "nothing"], "the generator has no class 'nothing'; its 10 are "),
        (["--class", "stra"], "did you mean star"),
        (["--class", "0,1", "--images", "x"], "writes the images of one class"),
        (["--class", "0,1,2", "--interpolate"], "name one or two"),
    ],
)
def test_what_sample_cannot_do_with_classes_is_a_sentence(painted, call, options, why):
    status, _, said = call("sample", painted, *options)
    assert status and re.search(why, " ".join(said.replace("│", " ").split())), said


def test_drawing_asks_for_one_class_that_there_is_and_for_images(painted):
    trained = gan.load(painted, device="cpu")
    for drawn, why in (
        (lambda: trained.sample(0, of_class=0), "at least 1 image is drawn"),
        (lambda: trained.sample(0, of_class="nothing"), "at least 1 image is drawn"),
        (lambda: trained.sample(1, of_class="nothing"), "has no class 'nothing'"),
        (lambda: trained.sample(1, of_class="all"), "one class is drawn at a time, not 'all'"),
        (lambda: trained.batches(1, of_class="0,1"), "one class is drawn at a time, not '0,1'"),
    ):
        with pytest.raises(RunError, match=why):
            drawn()
    assert torch.equal(torch.cat(list(trained.batches(5, batch_size=2, of_class=3))), trained.sample(5, of_class=3, batch_size=2))


def test_a_name_of_a_class_is_text_whatever_it_holds(painted):
    trained = sampling.load_generator(painted)
    trained.generator.class_names = ("a,b", "a", "b", "=1+1", "[red]x", "3", "US$1_a^{$", "\x1b[31m", "all", "9")
    assert [trained.classes(name) for name in ("a,b", "a, b", "=1+1", "[red]x", "3", "US$1_a^{$", "4", "9,0")] == [
        [0], [1, 2], [3], [4], [5], [6], [4], [9, 0],
    ]  # fmt: skip
    with pytest.raises(RunError) as error:
        trained.classes("c")
    assert "\x1b" not in str(error.value) and "\n" not in str(error.value)


def test_a_run_without_classes_has_none_to_choose(run, call):
    status, _, said = call("sample", run, "--class", "0")
    assert status and "no classes to choose from" in one_error(said)


def drawn_by_onnx(path):
    session = pytest.importorskip("onnxruntime").InferenceSession(path, providers=["CPUExecutionProvider"])
    assert [(given.name, given.shape[1:]) for given in session.get_inputs()] == [("z", [8]), ("labels", [])]
    return lambda z, labels: torch.from_numpy(session.run(None, {"z": z.numpy(), "labels": labels.numpy()})[0])


@pytest.mark.parametrize(
    ("file", "options"),
    [
        ("g.pt2", ["dcgan"]),
        ("g.onnx", ["sngan", "generator.attention=16", "generator.kernel=c2sp"]),
        ("g.pt2", ["r3", "generator.attention=8"]),
    ],
)
def test_an_exported_file_draws_the_class_that_it_is_told(labelled, file, options, tmp_path):
    """Other numbers of images, and other classes, than it was recorded with."""
    if file == "g.onnx":
        pytest.importorskip("onnxscript")
    config = resolve(labelled(*options))
    torch.manual_seed(0)
    generator = build_generator(config, 10).eval().requires_grad_(False)
    for weight in generator.parameters():  # so that pictures of classes differ
        weight.add_(torch.randn(weight.shape) / 20)
    trained = sampling.Trained(generator, config, 4)
    z, labels = latents(5, 0, 7, 8), torch.tensor([9, 0, 3, 3, 7, 1, 2])
    export(trained, tmp_path / file)
    run = drawn_by_onnx(tmp_path / file) if file == "g.onnx" else torch.export.load(tmp_path / file).module()
    found = run(z, labels)
    assert (found - trained(z, labels)).abs().max() < 1e-4
    assert (found - trained(z, labels.flip(0))).abs().max() > 1e-2


def test_an_exported_generator_takes_labels_too(painted, tmp_path):
    trained = sampling.load_generator(painted)
    assert export(trained, tmp_path / "a.safetensors") < 1e-4
    again = gan.load(tmp_path / "a.safetensors", device="cpu")
    assert again.class_names == trained.class_names and torch.equal(again.generator.class_counts, trained.generator.class_counts)
    name = again.class_names[2]
    assert torch.equal(again.sample(3, of_class=name), trained.sample(3, of_class=2))
    assert torch.equal(again(torch.zeros(1, 8), torch.tensor([2])), trained(torch.zeros(1, 8), torch.tensor([2])))


# --- scores and instruments --------------------------------------------------------------------------------------------------


def test_intra_is_the_mean_of_the_distances_of_each_class(tiny_networks, labelled, generator):
    from metrics.features import open_extractor

    extractor = open_extractor(FEATURES)
    real, mine = reference_of(labelled()), generator_side(generator, "mine", 0, 100)
    seen = []
    scores, _ = score(extractor, real, mine, ["intra"], progress=seen.append)
    found = {s.name: s for s in scores}
    assert sum(seen) == passes(real, mine, wanted=["intra"]) == 300  # what a bar has for its total
    assert set(found) == {NAME, f"{NAME}_intra", *(f"{NAME}_intra:{name}" for name in generator.class_names)}
    images = Batches(resolve(labelled()), ALONE).set
    expected = []
    for label, name in enumerate(generator.class_names):
        own = images.images[images.labels == label]
        sides = own, sampling.draw(generator, latents(0, 0, 10, 8), labels=torch.full((10,), label))
        expected.append(frechet_from_features(*(extractor(x)[0] for x in sides)))
        assert found[f"{NAME}_intra:{name}"].value == pytest.approx(expected[-1], rel=1e-3)
        assert found[f"{NAME}_intra:{name}"].card.real_count == len(own)
    assert found[f"{NAME}_intra"].value == pytest.approx(sum(expected) / 10, rel=1e-3)
    assert found[f"{NAME}_intra"].card.generated_count == 100


def test_what_has_no_classes_has_no_score_by_class(tiny_networks, labelled, generator):
    from metrics.features import open_extractor

    extractor = open_extractor(FEATURES)
    real, mine = reference_of(labelled()), generator_side(generator, "mine", 0, 100)
    plain = Side("files", 20, lambda: iter([torch.zeros(20, 3, 8, 8, dtype=torch.uint8)]))
    with pytest.raises(ProtocolError, match="files has no classes, which the score 'intra' compares one by one"):
        score(extractor, real, plain, ["fid", "intra"])
    images = Batches(resolve(labelled()), ALONE).set
    few = image_side(images, 3, 0)
    with pytest.raises(ProtocolError, match="don't have the same classes: only one of them has"):
        score(extractor, few, mine, ["intra"])


def test_evaluate_scores_a_conditional_run_by_class(painted, call, tiny_networks, tmp_path):
    run = shutil.copytree(painted, tmp_path / "run")
    status, _, said = call("evaluate", run, "--features", FEATURES, "--scores", "fid,intra", "--count", 40, "--device", "cpu")
    assert status == 0 and f"{NAME}_intra:star" in (run / "scores.json").read_text(), said


@pytest.mark.parametrize("family", ["dcgan", "r3"])
def test_instruments_measure_conditional_networks(labelled, painted, family):
    if family == "dcgan":
        numbers = probe(painted, samples=16)["numbers"]
        assert numbers["drift_px"] is not None
    record = probe(labelled(family), samples=16)
    assert record["card"]["conditional"] and record["numbers"]["spread_px"] is not None


def test_untrained_networks_have_statistics_of_all_classes(labelled):
    G, _ = untrained(resolve(labelled()), 0)
    norms = [m.norm for m in G.modules() if isinstance(m, ConditionalBatchNorm2d)]
    assert norms and all(norm.running_mean.abs().sum() > 0 for norm in norms)


def test_a_study_pairs_conditional_rows_with_their_partners(study_file):
    study = Study.load(study_file(axes={"generator.kernel": ["c2", "c3"], "generator.conditional": [False, True]}, seeds=[0]))
    pairs = {row.label: study.partner(row) for row in study.rows}
    assert {k: v and v.label for k, v in pairs.items()} == {
        "c2 False": "c3 False", "c2 True": "c3 True", "c3 False": None, "c3 True": None
    }  # fmt: skip
    assert [study.config(job).generator.conditional for job in study.jobs] == [False, True, False, True]
