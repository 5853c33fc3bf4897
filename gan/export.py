"""Export of a generator to ONNX, torch.export's .pt2 or safetensors, with a check that the file gives the same images.

ONNX and .pt2 take latents z (N, latent) float32, any N, and give images (N, 3, R, R): uint8, or float32 in [-1, 1]. They hold the
EMA weights in float32, batch norm with its own statistics, and plain convolutions: nothing of this program is needed to run them.
Those of a conditional generator also take labels (N,) int64, the numbers of classes.
"""

import contextlib
import copy
import io
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from data.files import UserError, folder_beside, swap_in
from gan import weights
from gan.fusing import plain
from gan.randomness import latents
from gan.sampling import Trained, labels_of, load_generator, require_finite, to_uint8

KINDS = (".onnx", ".pt2", ".safetensors")
IMAGES = ("uint8", "float")
TOLERANCE = 1e-4  # largest difference of a pixel in [-1, 1] from PyTorch's: a hundredth of a grey level
CHECKED = (1, 5)  # batch sizes that are compared


class ExportError(UserError):
    """A generator can't be exported; the message says why and what to do."""


class Pictures(nn.Module):
    """z (N, latent), and labels (N,) int64 of a conditional generator -> images (N, 3, R, R), uint8 or float32 in [-1, 1]."""

    def __init__(self, generator: nn.Module, uint8: bool):
        super().__init__()
        self.generator, self.uint8 = generator, uint8

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        images = (self.generator(z) if labels is None else self.generator(z, labels)).contiguous()
        return to_uint8(images) if self.uint8 else images


def export(trained: Trained, path: str | Path, images: str = "float") -> float:
    """Write a generator in the format of the path's suffix (one of KINDS), and compare the file's images with PyTorch's.

    Returns the largest difference of a pixel, in [-1, 1], or of uint8 in grey levels. The file gets its name once it has drawn
    what PyTorch draws, at several batch sizes.

    ExportError for another ending, where a package is missing, where a pixel is no finite number, or where the pictures differ by
    more than rounding.
    """
    path = Path(path)
    if path.suffix not in KINDS:
        raise ExportError(f"{path} ends in none of {', '.join(KINDS)}: name the file by the form that you want")
    if images not in IMAGES:
        raise ExportError(f"images are {' or '.join(IMAGES)}, not {images!r}")
    if path.suffix == ".safetensors" and images != "float":
        raise ExportError("a .safetensors file holds weights, which draw nothing by themselves: leave the kind of images out")
    require_finite(trained.generator, "the generator")
    generator = copy.deepcopy(trained.generator).cpu().to(memory_format=torch.contiguous_format)
    pictures = Pictures(generator, images == "uint8").eval()
    path.parent.mkdir(parents=True, exist_ok=True)
    with folder_beside(path) as folder, plain(generator), torch.no_grad():
        beside = folder / path.name
        if path.suffix == ".safetensors":
            weights.write(generator, trained.config, trained.step, beside)
            run = Pictures(load_generator(beside).generator, False)
        elif path.suffix == ".pt2":
            torch.export.save(_exported(pictures), beside)
            run = torch.export.load(beside).module()
        else:
            _write_onnx(pictures, beside)
            run = _opened_onnx(beside)
        worst = _difference(pictures, run, path)
        swap_in(beside, path)
    return worst


def _difference(pictures: Pictures, run: Callable[[Tensor], Tensor], path: Path) -> float:
    """The largest difference of a pixel between the file's images and PyTorch's. ExportError if it is more than rounding."""
    worst = 0.0
    for n in CHECKED:
        given = _given(pictures, 1, n)
        wanted, found = pictures(*given), run(*given)
        if found.shape != wanted.shape or found.dtype != wanted.dtype:
            raise ExportError(f"{path} wasn't kept: it draws {found.dtype} {tuple(found.shape)} and not {tuple(wanted.shape)}")
        difference = float((found.double() - wanted.double()).abs().max())
        if not difference <= (1 if pictures.uint8 else TOLERANCE):  # nor NaN
            raise ExportError(
                f"{path} wasn't kept: its pixels differ by {difference:.2g} from PyTorch's; try another form, and report it"
            )
        worst = max(worst, difference)
    return worst


def _given(pictures: Pictures, seed: int, n: int) -> tuple[Tensor, ...]:
    """Latents, and labels of a conditional generator, of the first n images of a seed."""
    labels = labels_of(pictures.generator, seed, 0, n)
    z = latents(seed, 0, n, pictures.generator.latent)
    return (z,) if labels is None else (z, labels)


# --- .pt2 and ONNX -----------------------------------------------------------------------------------------------------------


def _exported(pictures: Pictures) -> torch.export.ExportedProgram:
    """The program of torch.export, for any batch size. The example has two images: with one, the size would become a constant."""
    example, n = _given(pictures, 0, 2), torch.export.Dim("n", min=1)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The tensor attributes .*shares")  # of conditional norms, set anew by each call
        return torch.export.export(pictures, example, dynamic_shapes={name: {0: n} for name, _ in zip(("z", "labels"), example)})


def _write_onnx(pictures: Pictures, path: Path) -> None:
    """Input z, and labels, output images. ExportError where onnxscript is missing."""
    names = ["z", "labels"] if pictures.generator.classes else ["z"]
    try:
        import onnxscript  # noqa: F401 (torch.onnx asks for it)
    except ImportError:
        raise ExportError("ONNX needs two packages: pip install onnxscript onnxruntime; .pt2 needs none") from None
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):  # its own deprecations, and its progress
        warnings.simplefilter("ignore")
        program = torch.onnx.export(_exported(pictures), input_names=names, output_names=["images"], dynamo=True, verbose=False)
        program.save(path, external_data=False)


def _opened_onnx(path: Path) -> Callable[[Tensor], Tensor]:
    """The file as a function. ExportError where onnxruntime is missing."""
    try:
        import onnxruntime
    except ImportError:
        raise ExportError("ONNX is checked before it is kept: pip install onnxruntime") from None
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [given.name for given in session.get_inputs()]
    return lambda *given: torch.from_numpy(session.run(["images"], {k: x.numpy() for k, x in zip(names, given)})[0])
