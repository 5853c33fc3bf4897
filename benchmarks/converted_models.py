"""Whether models of torchvision and timm whose convolutions were converted work wherever they did before.

    pip install timm onnxruntime
    python benchmarks/converted_models.py [resnet18 timm/dla34 ...] [--kernel c2sp] [--strided stride] [--size 64]

Names without timm/ are torchvision's; default: over 60, those of timm only where it is installed. Weights are random, nothing is
downloaded. For each tool: ok, or what went wrong, or - where the model as it was fails in the same tool. `refused` is what
`convert` says of a model with layers that do more than torch's own.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import argparse
import copy
import importlib.util
import io
import os
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch
import torchvision
from common import machine
from torch import Tensor, nn
from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

from gan.kernels import convert

# --- tools: (model in eval mode, pictures of even size, pictures to run on) -> (what came out, what should have) --------------
# What was recorded at even sizes must serve odd ones too, so the last are of an odd size where the model takes one.


def traced(model: nn.Module, x: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """torch.jit.trace, saved, loaded, and run at another size."""
    file = io.BytesIO()
    torch.jit.save(torch.jit.trace(model, x, check_trace=False), file)
    file.seek(0)
    return torch.jit.load(file)(other), model(other)


def features(model: nn.Module, x: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """torchvision's create_feature_extractor, which traces by torch.fx."""

    def extracted() -> Tensor:
        last = get_graph_node_names(model)[1][-1]
        return create_feature_extractor(model, [last])(other)[last]

    with ThreadPoolExecutor() as own:  # torch.fx leaves a thread in which it failed in a state of tracing
        return own.submit(extracted).result(), model(other)


def exported(model: nn.Module, x: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """torch.export."""
    return torch.export.export(model, (x,)).module()(x), model(x)


def onnx(model: nn.Module, x: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """torch.onnx.export by tracing, for pictures of any number and size; run by onnxruntime."""
    import onnxruntime

    file = io.BytesIO()
    axes = {"x": {0: "n", 2: "h", 3: "w"}}
    with silence():  # of its own report of a failure
        torch.onnx.export(model, (x,), file, dynamo=False, input_names=["x"], dynamic_axes=axes)
    session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {"x": other.numpy()})[0]), model(other)


@contextmanager
def silence() -> Iterator[None]:
    """Nothing is written to the file of standard output, not by C++ either."""
    sys.stdout.flush()
    kept = os.dup(1)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        try:
            yield
        finally:
            sys.stdout.flush()
            os.dup2(kept, 1)
            os.close(kept)


def vmapped(model: nn.Module, x: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """torch.vmap over pictures, one at a time."""
    return torch.vmap(lambda one: model(one.unsqueeze(0)).squeeze(0))(x), model(x)


def along(model: nn.Module, x: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """torch.func.jvp, by forward derivatives, against the gradient: v (J t) = (v J) t. In float64."""
    model, x = copy.deepcopy(model).double(), x.double()
    t = torch.randn_like(x)
    y, forward = torch.func.jvp(model, (x,), (t,))
    v = torch.randn_like(y)
    (backward,) = torch.autograd.grad(model(x.requires_grad_()), x, v)
    return (v * forward).sum(), (backward * t).sum()


TOOLS: dict[str, Callable[[nn.Module, Tensor, Tensor], tuple[Tensor, Tensor]]] = {
    "trace": traced, "export": exported, "onnx": onnx, "vmap": vmapped, "jvp": along, "fx": features,
}  # fmt: skip


def outcome(tool: str, model: nn.Module, x: Tensor, other: Tensor) -> str:
    """'ok', or the first line of what went wrong."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found, wanted = TOOLS[tool](model, x, other)
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4 * max(1.0, float(wanted.detach().abs().max())))
    except Exception as error:  # a tool may raise anything
        return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:80]}"
    return "ok"


# --- models ------------------------------------------------------------------------------------------------------------------

TORCHVISION = (
    "alexnet vgg11 vgg11_bn resnet18 resnet34 resnet50 resnext50_32x4d wide_resnet50_2 densenet121 densenet169 squeezenet1_0 "
    "squeezenet1_1 googlenet mobilenet_v2 mobilenet_v3_small mobilenet_v3_large mnasnet0_5 mnasnet0_75 mnasnet1_0 mnasnet1_3 "
    "shufflenet_v2_x0_5 shufflenet_v2_x1_0 shufflenet_v2_x1_5 efficientnet_b0 efficientnet_b1 efficientnet_b2 efficientnet_v2_s "
    "regnet_x_400mf regnet_x_800mf regnet_y_400mf regnet_y_800mf convnext_tiny"
)
TIMM = (
    "resnet10t resnet14t resnet26 resnet26d resnet26t seresnext26ts ecaresnet26t skresnet18 resnest14d res2net50_26w_4s dla34 "
    "dla46_c dla60x_c hrnet_w18_small ghostnet_050 mobilenetv3_small_050 mobilenetv4_conv_small efficientnet_lite0 mixnet_s "
    "rexnet_100 repvgg_a0 regnetx_002 regnety_002 densenet121 ese_vovnet19b_dw cspresnet50 darknet17 selecsls42 fbnetc_100 "
    "hardcorenas_a lcnet_050 tinynet_e spnasnet_100 vgg11_bn tf_efficientnet_lite0 resnetv2_50"
)


def built(name: str) -> nn.Module:
    torch.manual_seed(0)
    if name.startswith("timm/"):
        import timm

        return timm.create_model(name.removeprefix("timm/"), num_classes=10).eval()
    options = {"init_weights": True} if name in ("googlenet", "inception_v3") else {}
    return torchvision.models.get_model(name, num_classes=10, **options).eval()


def row(name: str, kernel: str, strided: str | None, size: int) -> list[str]:
    """How many convolutions were replaced, and a cell for each tool."""
    plain = built(name)
    x = torch.randn(2, 3, size, size)
    other = x[:, :, :-1, 1:-2]
    try:
        plain(other)
    except RuntimeError:
        other = x
    try:
        model = convert(copy.deepcopy(plain), kernel, strided=strided)
    except ValueError as error:
        return [f"refused: {error}"]
    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    cells = [f"{sum(hasattr(layer, 'rule') for layer in layers)} of {len(layers)}"]
    for tool in TOOLS:
        found = outcome(tool, model, x, other)
        cells.append(found if found == "ok" or outcome(tool, plain, x, other) == "ok" else "-")
    return cells


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [*TORCHVISION.split(), *(f"timm/{name}" for name in TIMM.split() if importlib.util.find_spec("timm"))]
    arguments.add_argument("models", nargs="*", default=names, metavar="MODEL")
    arguments.add_argument("--kernel", default="c2sp")
    arguments.add_argument("--strided", choices=("pool", "stride"))
    arguments.add_argument("--size", type=int, default=64)
    args = arguments.parse_args()
    print(f"{machine('cpu')}; torchvision {torchvision.__version__}; {args.kernel}, {args.strided or 'default'}, {args.size} px")
    print(f"{'model':26} {'replaced':>11}  " + " ".join(f"{tool:6}" for tool in TOOLS))
    start, whole = time.time(), 0
    for name in args.models:
        cells = row(name, args.kernel, args.strided, args.size)
        whole += all(cell in ("ok", "-") for cell in cells[1:])
        print(f"{name:26} {cells[0]:>11}  " + " ".join(f"{cell:6}" for cell in cells[1:]), flush=True)
    print(f"{whole} of {len(args.models)} models as before, {time.time() - start:.0f} s")


if __name__ == "__main__":
    main()
