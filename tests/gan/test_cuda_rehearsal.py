"""CUDA without a GPU: the code runs on fake tensors of a `cuda` device, where one that was left on the CPU is an error.

Forward only, since PyTorch's backward asks for the GPU itself: here gradients of the right shapes appear out of thin air.
What fake tensors can't show: the kernels themselves, threads, pinned memory, how fast anything is.
"""

import contextlib
import itertools

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import gan.classification.features  # registers cifar_resnet
import gan.state
from gan import randomness, sampling
from gan.classification import config as classification_config
from gan.classification import state as classification_state
from gan.classification import training as classification_training
from gan.fast_padding import pad
from gan.kernels import KERNELS, conv2d, conv_transpose2d
from gan.models.build import build, resolve
from gan.models.compact_blocks import BRANCHES
from gan.models.upsampling import UPSAMPLINGS, upsample_conv
from gan.padding import BELOW_RIGHT, CORNERS, PADDINGS, Rule, towards
from gan.probe import inputs, measurement
from gan.processes import Processes
from gan.state import Batches, State
from gan.step import Step
from metrics.features import extractor as features
from metrics.features import inception
from metrics.features.network import Options
from tests.helpers import FEATURES, random_images

pytestmark = pytest.mark.skipif(
    torch.version.cuda is None, reason="needs a PyTorch built for CUDA, though no GPU: this one can't even pretend to have one"
)
CUDA = torch.device("cuda")
FAMILIES = ["dcgan", "cnn", "sngan", "wgan_gp", "landscape"]
aten = torch.ops.aten


class Watch(TorchDispatchMode):
    """Notes every operation, and those that make the host wait for a GPU or the GPU for the host.

    Fake tensors have no values: a number that is asked for is 1, a mask is true everywhere.
    """

    def __init__(self):
        super().__init__()
        self.operations: list[tuple] | None = None  # once a list: name, numbers and other settings, tensors that go in and come out
        self.waits: list[str] = []
        self.pinned: list[Tensor] = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if operation in (aten._local_scalar_dense.default, aten.item.default, aten.is_nonzero.default):
            self.note_wait(args[0].is_cuda, operation)
            return True if args[0].dtype == torch.bool else 1.0 if args[0].is_floating_point() else 1
        if operation == aten.is_pinned.default:
            return False
        if operation == aten._pin_memory.default:
            self.pinned.append(aten.clone.default(args[0]))
            return self.pinned[-1]
        if operation == aten.index.Tensor:
            x, places = args
            self.note_wait(x.is_cuda and any(i is not None and (not i.is_cuda or i.dtype == torch.bool) for i in places), operation)
            if len(places) == 1 and places[0].dtype == torch.bool:
                return x.clone()
        if operation.namespace == "aten" and "_fused_" in str(operation):  # in place, and without a stand-in in PyTorch
            assert all(t.is_cuda for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor))
            found = None
        else:
            found = operation(*args, **kwargs)
        if operation in (aten._to_copy.default, aten.copy_.default):
            source, target = (args[0], found) if operation == aten._to_copy.default else (args[1], args[0])
            pinned = any(source is x for x in self.pinned) and (kwargs.get("non_blocking") or True in args[2:])
            self.note_wait(source.device != target.device and not (pinned and target.is_cuda), operation)
        if self.operations is not None and operation.namespace not in ("prim", "profiler"):  # which launch nothing
            settings = [x for x in tree_leaves((args, kwargs)) if not isinstance(x, Tensor)]
            tensors = [(x.shape, x.dtype, x.device) for x in tree_leaves((args, kwargs, found)) if isinstance(x, Tensor)]
            self.operations.append((str(operation), settings, tensors))
        return found

    def note_wait(self, waits: bool, operation) -> None:
        if waits:
            self.waits.append(str(operation))


def fill_gradients(loss: Tensor) -> None:
    """Stands in for Tensor.backward: a gradient for every leaf of the graph."""
    seen, todo = set(), [loss.grad_fn]
    while todo:
        node = todo.pop()
        if node is not None and node not in seen:
            seen.add(node)
            todo += [following for following, _ in node.next_functions]
            if hasattr(node, "variable"):
                leaf = node.variable
                leaf.grad = torch.empty_like(leaf) if leaf.grad is None else leaf.grad + 1


def replace_parameters(module: nn.Module, change, recurse: bool = True) -> nn.Module:
    """Stands in for nn.Module._apply, which swaps parameters in place: fake ones refuse."""
    for part in module.modules():
        for name, p in part._parameters.items():
            if p is not None:
                part._parameters[name] = nn.Parameter(change(p.detach()), p.requires_grad)
        for name, b in part._buffers.items():
            if b is not None:
                part._buffers[name] = change(b)
    return module


def copy_fake(tensor: Tensor, memo: dict) -> Tensor:
    """Stands in for Tensor.__deepcopy__, which for a fake tensor copies what it is made with, and ends in a broken heap."""
    copied = tensor.detach().clone()
    return nn.Parameter(copied, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else copied


@pytest.fixture
def cuda(monkeypatch):
    """with cuda() as watch: there is a fake GPU. Deterministic algorithms are on, as in training."""
    monkeypatch.setattr(randomness, "generator", lambda device, *parts: torch.Generator().manual_seed(0))
    monkeypatch.setattr(nn.Module, "_apply", replace_parameters)
    monkeypatch.setattr(Tensor, "backward", fill_gradients)
    monkeypatch.setattr(Tensor, "__deepcopy__", copy_fake)
    monkeypatch.setattr(nn.Parameter, "__deepcopy__", copy_fake)
    # Differentiable by D's weights, as the true one is.
    monkeypatch.setattr(torch.autograd, "grad", lambda y, x, create_graph: (torch.ones_like(x) * y,))
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_: True)

    @contextlib.contextmanager
    def pretend():
        torch.use_deterministic_algorithms(True)
        try:
            with FakeTensorMode(allow_fallback_kernels=False, allow_non_fake_inputs=True), Watch() as watch:
                yield watch
        finally:
            torch.use_deterministic_algorithms(False)

    return pretend


def on_cuda(*things) -> bool:
    tensors = [t for t in tree_leaves(things) if isinstance(t, Tensor)]
    return bool(tensors) and all(t.is_cuda for t in tensors)


def test_a_tensor_left_on_the_cpu_is_an_error(cuda):
    """What the other tests stand on."""
    with cuda() as watch:
        x = torch.ones(2, 3, device=CUDA)
        with pytest.raises(RuntimeError, match=r"cuda:0.*cpu"):
            x + torch.ones(3)
        assert not watch.waits
        torch.arange(2).pin_memory().to(CUDA, non_blocking=True)
        assert not watch.waits
        for wait in (lambda: bool(x.isfinite().all()), x.cpu, lambda: torch.ones(3).to(CUDA), lambda: x[torch.arange(2)]):
            watch.waits.clear()
            wait()
            assert len(watch.waits) == 1


def test_paddings_and_layers_of_every_kernel(cuda, monkeypatch):
    with cuda():
        for form in (torch.channels_last, torch.contiguous_format):
            x = torch.empty(2, 8, 6, 6, device=CUDA).contiguous(memory_format=form)
            for kernel in KERNELS:
                for stride in (1, 2):
                    for make in (conv2d, conv_transpose2d):
                        assert on_cuda(make(kernel, 8, 4, stride, device=CUDA)(x))
            for traced in (False, True):  # as torch.compile for CUDA sees it
                with monkeypatch.context() as patch:
                    patch.setattr(torch.compiler, "is_compiling", lambda traced=traced: traced)
                    for corners, mode in itertools.product((CORNERS, (BELOW_RIGHT,)), PADDINGS):
                        padded = pad(x.clone().requires_grad_(), Rule(0, 1, towards(corners, 8), mode))
                        assert on_cuda(padded) and padded.shape == (2, 8, 7, 7) and padded.requires_grad


def test_every_kernel_with_every_upsampling(cuda):
    with cuda():
        x = torch.empty(2, 8, 4, 4, device=CUDA).contiguous(memory_format=torch.channels_last)
        for kernel in KERNELS:
            for upsampling in UPSAMPLINGS:
                assert on_cuda(upsample_conv(upsampling, kernel, 8, 4).to(CUDA)(x))


@pytest.mark.parametrize("family", FAMILIES)
def test_both_networks_of_every_family(cuda, tiny, family):
    for kernel, upsampling in zip(("c2sp", "c3sp", "c4sp"), UPSAMPLINGS[:1] + UPSAMPLINGS[2:4]):
        settings = [f"generator.kernel={kernel}", f"discriminator.kernel={kernel}", f"generator.upsampling={upsampling}"]
        G, D = build(resolve(tiny(family, *settings)))
        with cuda():
            assert on_cuda(D.to(CUDA)(G.to(CUDA)(torch.empty(2, 8, device=CUDA))))


def placed(batches: Batches, config, processes: Processes) -> Batches:
    """Batches that were opened on the CPU, moved as their constructor does: reading files takes true tensors."""
    batches.config, batches.processes = config, processes
    batches.images = batches.set.images.to(processes.device)
    batches._labels = batches.set.labels.to(processes.device) if batches.classes else None
    return batches


VARIANTS = [
    *((family, []) for family in FAMILIES),
    ("dcgan", ["discriminator.norm=batch", "train.channels_last=false", "dataset.flip=true"]),
    ("sngan", ["train.precision=bf16", "train.gradient_accumulation=2"]),
    ("dcgan", ["generator.upsampling=bilinear", "objective.loss=least_squares"]),
    ("wgan_gp", ["objective.r1=1", "train.precision=bf16", "train.activation_checkpointing=true"]),
    ("r3", ["schedule.r1=0.01", "augment.colour=true", "augment.translation=0.1", "schedule.probability=0.5"]),
    ("r3", ["generator.family=r3_grouped", "objective.penalty_form=finite_difference", "augment.cutout=0.5", "augment.target=0.6"]),
    ("sngan", ["generator.conditional=true", "generator.attention=16", "discriminator.attention=8", "train.precision=bf16"]),
    ("dcgan", ["generator.conditional=true", "discriminator.norm=batch", "generator.spectral_norm=true", "train.d_steps=2"]),
    ("r3", ["generator.conditional=true", "generator.attention=8", "train.gradient_accumulation=2"]),
    ("cnn", ["generator.padding=reflect", "discriminator.padding=circular", "dataset.resolution=24", "generator.kernel=c2alt"]),
]


@pytest.mark.parametrize(("family", "overrides"), VARIANTS)
def test_a_training_step_stays_on_the_gpu_and_never_waits(cuda, tiny, pictures, monkeypatch, family, overrides):
    """Data, noise, both networks, losses, penalties, Adam, EMA; and what a CUDA graph would repeat is the same in every step."""
    config = resolve(tiny(family, f"dataset.path={pictures}", "train.device=cpu", *overrides))
    batches = Batches(config, Processes(0, 1, torch.device("cpu")))
    networks = build(config)  # true ones: spectral norm's first iterations would take most of the test's time
    monkeypatch.setattr(gan.state, "build", lambda config, classes: networks)
    with cuda() as watch:
        gpu = Processes(0, 1, CUDA)
        state = State(config, gpu, batches.classes)
        step = Step(config, gpu, state, placed(batches, config, gpu))
        step()  # Adam makes its own tensors, and the learning rates move over
        watch.waits.clear()
        launched = []
        for _ in range(2):
            inputs = step.inputs()
            assert on_cuda(inputs)
            watch.operations = []
            values = step.compute(inputs)
            launched.append(watch.operations)
            watch.operations = None
            state.step += 1
            state.set_learning_rates(0.1 / state.step, 0.1)
            state.update_ema()
            if state.adaptive:
                state.adaptive.observe(values[5], state.step)
                assert on_cuda(state.adaptive.numbers)
            assert on_cuda(values) and values.shape == (6 if state.adaptive else 5,) and values.dtype == torch.float32
        assert watch.waits == []
        assert launched[0] == launched[1]
        devices = {device.type for _, _, tensors in launched[0] for shape, _, device in tensors if shape.numel()}
        assert devices == {"cuda"}
        assert on_cuda(*(list(net.state_dict().values()) for net in (state.generator, state.discriminator, state.ema)))
        assert on_cuda(*(list(o.state.values()) for o in (state.optimizer_g, state.optimizer_d)))
        assert state.finite() is True


def test_rates_of_a_gpu_are_tensors_filled_in_place_and_saved_as_numbers(cuda, tiny):
    config = resolve(tiny("dcgan", "train.device=cpu"))
    with cuda():
        state = State(config, Processes(0, 1, CUDA))
        state.set_learning_rates(0.5, 0.25)
        (group,) = state.optimizer_g.param_groups
        rate = group["lr"]
        assert on_cuda(rate) and rate.dtype == torch.float32  # what the fused kernel reads
        state.set_learning_rates(0.125, 0.25)
        assert group["lr"] is rate
        saved = state.dump()
        assert all(type(saved[f"optimizer_{net}"]["param_groups"][0]["lr"]) is float for net in "gd")
        assert all(losses.device.type == "cpu" for losses in saved["pending"])
        state.load(saved)
        state.set_learning_rates(0.125, 0.25)
        assert on_cuda(state.optimizer_g.param_groups[0]["lr"])


@pytest.mark.parametrize(
    "options", [["dcgan"], ["dcgan", "generator.conditional=true"], ["r3", "generator.conditional=true"]], ids=" ".join
)
def test_drawing_from_a_gpu_gives_pictures_on_the_cpu(cuda, tiny, options):
    config = resolve(tiny(*options, "train.device=cpu"))
    with cuda():
        generator, discriminator = inputs.untrained(config, 0, CUDA)
        assert on_cuda(list(generator.parameters()), list(discriminator.parameters()))
        pictures = [torch.cat(list(sampling.samples(generator, 0, 70))), sampling.interpolations(generator, 0, 2, 3)]
        if generator.classes:
            pictures = [torch.cat(list(sampling.samples(generator, 0, 70, of_class=3)))]
            pictures += [sampling.interpolations(generator, 0, 2, 3, [0, 1])]
        assert [(len(p), p.dtype, p.device.type) for p in pictures] == [(70, torch.uint8, "cpu"), (6, torch.uint8, "cpu")]


@pytest.mark.parametrize("conditional", ["false", "true"])
def test_instruments(cuda, tiny, monkeypatch, conditional):
    """All that looks into the networks; the numbers of pictures are taken on the CPU."""
    more = ["generator.upsampling=pixelshuffle", f"generator.conditional={conditional}"]
    config = resolve(tiny("dcgan", "train.device=cpu", *more))
    monkeypatch.setattr(measurement, "image_numbers", lambda images, real=None: {"device": images.device.type})
    monkeypatch.setattr(measurement, "_rings", lambda images: images)
    with cuda():
        networks = inputs.untrained(config, 0, CUDA)
        found = measurement.measure_networks(*networks, 0, 64, None)
    assert found.record["numbers"]["device"] == "cpu" and len(found.record["layers"]) == 3
    assert all(picture.device.type == "cpu" for picture in found.pictures.values())


@pytest.mark.parametrize(
    ("name", "precision", "resizes"),
    [
        ("efficientnet_lite0", "bf16", ["clean"]),
        ("inception", "fp32", ["pytorch_fid"]),
        ("cifar_resnet", "fp32", ["clean", "tf1"]),
        (FEATURES, "bf16", ["clean", "pytorch_fid"]),
    ],
)
def test_features(cuda, tiny_networks, monkeypatch, request, name, precision, resizes):
    weights = request.getfixturevalue("inception_weights") if name == "inception" else None
    for resize in resizes:
        network = features.builder_of(name)(Options(name, weights, resize, None, weights is not None))
        with cuda(), monkeypatch.context() as patch:
            patch.setattr(features, "open_device", torch.device)  # which looks for a true one
            extractor = features.Extractor(network, precision, CUDA)
            found, probabilities = extractor(random_images(70, 40, 48))
        assert on_cuda(found) and found.shape == (70, extractor.dim) and found.dtype == torch.float32
        assert extractor.classes is None or (on_cuda(probabilities) and probabilities.shape == (70, extractor.classes))


@pytest.fixture(scope="module")
def inception_weights(tmp_path_factory):
    """A file of the right shapes."""
    pytest.importorskip("pytorch_fid.inception", reason="needs pytorch-fid: pip install -r requirements.txt")
    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    torch.save(inception.architecture().to_empty(device="cpu").state_dict(), path)
    return path


@pytest.mark.parametrize("model", [*(f"block={block}" for block in BRANCHES), "family=densenet"])
def test_a_classifier_s_step_never_waits(cuda, pictures, model):
    """A step, augmented in every way, and a test."""
    depth = 10 if "densenet" in model else 8
    settings = [f"model.{model}", f"model.depth={depth}", "model.kernel=c2sp", "dataset.name=folder", f"dataset.path={pictures}"]
    settings += ["train.batch_size=8", "train.device=cpu", "train.label_smoothing=0.1", "augment.cutout=8", "augment.mixup=0.5"]
    config = classification_config.Config.load(None, settings)
    batches = classification_state.Batches(config, torch.device("cpu"))
    with cuda() as watch:
        batches.device, batches.levels = CUDA, batches.levels.to(CUDA)
        batches.train, batches.images, batches.labels = batches._placed(batches.train)
        batches.test, batches.test_images, batches.test_labels = batches._placed(batches.test)
        state = classification_state.State(config, CUDA, len(batches.classes))
        classification_training.take_step(config, state, state.model, batches)
        watch.waits.clear()
        assert on_cuda(classification_training.take_step(config, state, state.model, batches))
        assert watch.waits == []
        assert on_cuda(list(state.model.state_dict().values()), list(state.optimizer.state.values()))
        assert batches.as_uint8(batches.get(0)[0]).device.type == "cpu"
        with torch.no_grad():
            for x, labels in batches.test_batches(20):
                assert on_cuda(state.model.eval()(x), labels)
