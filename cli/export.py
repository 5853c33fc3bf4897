"""`export`: write a generator for other programs."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from cli.common import Overwrite, Run, check_output, say, say_next


def export(
    run: Run,
    to: Annotated[Path, typer.Option(help="the file to write: .onnx, .pt2 (torch.export) or .safetensors (weights and settings)")],
    images: Annotated[
        Literal["float", "uint8"], typer.Option(help="what .onnx and .pt2 give: float32 in [-1, 1], or uint8")
    ] = "float",
    checkpoint: Annotated[str, typer.Option(help="of a run, which to export: last, best, or a step")] = "last",
    overwrite: Overwrite = False,
) -> None:
    """Write a generator, its EMA weights, as one file: latents (N, latent) in, images (N, 3, R, R) out, for any N.

    - `export runs/quickstart --to shapes.onnx` writes ONNX, and runs it by onnxruntime beside PyTorch before it is kept.
    - `export zoo:shapes32-c2sp --to shapes.pt2 --images uint8` writes what `torch.export.load` reads.
    """
    from gan.evaluation import checkpoint_steps
    from gan.export import export as write
    from gan.sampling import load_generator

    if checkpoint == "all":
        raise typer.BadParameter("export writes one checkpoint: last, best, or a step")
    check_output(to, overwrite)
    (step,) = checkpoint_steps(run, checkpoint)
    trained = load_generator(run, step)
    worst = write(trained, to, images)
    unit = "grey levels" if images == "uint8" else "in [-1, 1]"
    size = to.stat().st_size / 1e6
    say(f"step {trained.step:,}, {size:.1f} MB: {to}; its pixels differ from PyTorch's by at most {worst:.1g} {unit}")
    if to.suffix == ".safetensors":
        say_next("sample", to)
    else:
        opens = {".onnx": "onnxruntime.InferenceSession({!r})", ".pt2": "torch.export.load({!r}).module()"}
        say(f"next, in Python: {opens[to.suffix].format(str(to))}")
