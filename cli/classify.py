"""`classify`: train an image classifier, or resume an interrupted run."""

from pathlib import Path
from typing import Annotated

import typer

from cli.common import Overwrite, Quiet, check_output, open_settings, say, say_next

DEFAULT = Path(__file__).parents[1] / "configs" / "classification" / "resnet20_cpu.yaml"


def classify(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[CONFIG | RUN] [KEY=VALUE]...", help="a YAML file (default: resnet20_cpu) or a run, and settings to change"
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="run directory; default: runs/, named after the config and the changes")] = None,
    export: Annotated[
        Path | None, typer.Option(help="write the weights to this .safetensors file, for `--features cifar_resnet`")
    ] = None,
    quiet: Quiet = False,
    overwrite: Overwrite = False,
) -> None:
    """Train an image classifier with any kernel, and test it.

    - `classify` trains ResNet-20 on CIFAR-10 in a quarter of an hour on one CPU core.
    - `classify configs/classification/resnet56.yaml model.kernel=c2sp` trains ResNet-56 with 2x2 kernels and symmetric padding.
    - `classify --export weights.safetensors` trains, or takes the finished run, and writes its weights.

    The same command again resumes where the run stopped, bit for bit; with other settings it refuses and shows the difference.
    """
    from gan.classification.config import Config
    from gan.classification.result import export as export_weights
    from gan.classification.result import finished
    from gan.classification.training import train
    from gan.run_directory import RunFiles

    if export is not None and export.suffix != ".safetensors":  # now, not after hours
        raise typer.BadParameter(f"--export writes safetensors: name a file such as {export.stem or 'weights'}.safetensors")
    config, _, _, out = open_settings(arguments, out, Config, DEFAULT)
    check_output(export, overwrite)
    result = finished(out, config)
    if result:
        say(f"{out} is finished, {config.train.epochs:,} epochs")
    else:
        if not quiet:
            say(f"run directory: {out}")
        result = train(config, out, progress=not quiet).result
    right, card = result["test_accuracy"], result["card"]
    say(f"{right:.2%} accuracy on {card['test_count']:,} test images after {card['steps']:,} steps; result: {RunFiles(out).result}")
    if export is not None:
        export_weights(out, export)
        say(f"weights: {export} ({export.stat().st_size / 1e6:.1f} MB)")
    if quiet:
        return
    if export is None:
        say_next("classify", out, "--export", "weights.safetensors")
    else:
        ours = card["model"]["family"] == "resnet" and card["data"].startswith("cifar10 ")  # else its scores have another name
        insist = () if ours else ("--insist",)
        say_next("fid", "cifar10:test", "runs/quickstart", "--features", "cifar_resnet", "--weights", export, *insist)
