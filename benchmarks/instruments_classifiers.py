"""Erosion in trained classifiers: how dull the border of each stage's last map is and where it leans, beside untrained ones.

    GAN_DATA=... python benchmarks/instruments_classifiers.py STUDY_OR_RUN ... [--images 1000] [--out FILE]

Takes runs of `classify`, ResNets, or a folder of `compare` with such runs; prints a Markdown table, means over seeds. Untrained:
fresh weights, and batch norm with the statistics of these images. Q is left out: every batch norm sets it anew.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import argparse
import json

import torch
from torch import Tensor

import data
from data.files import write_atomically
from gan import checkpoint
from gan.classification.config import Config
from gan.models.classifiers import Classifier, build_classifier
from gan.models.compact_blocks import ResidualBlock
from metrics.instruments.erosion import LayerErosion, erosion

OWN = {"seed", "parameters", "multiply_adds", "weights_sha256", "versions"}  # what a kernel and a seed change of a card


def runs_below(places: list[Path]) -> list[Path]:
    """The finished ResNets, which must differ in nothing but kernel and seed: they share a table."""
    results = [result.parent for place in places for result in place.glob("**/result.json")]
    found = sorted(run for run in results if (run / "config.yaml").is_file() and checkpoint.saved(run / "checkpoints"))
    if not found:
        sys.exit(f"no finished run of `classify`, with its config.yaml and checkpoints, in {', '.join(map(str, places))}")
    cards = [json.loads((run / "result.json").read_text())["card"] for run in found]
    if any(card["model"]["family"] != "resnet" for card in cards):
        sys.exit("only ResNets have the three stages of this table; leave runs of other families out")
    same = [{**{k: v for k, v in card.items() if k not in OWN}, "model": {**card["model"], "kernel": None}} for card in cards]
    if any(card != same[0] for card in same):
        sys.exit("these runs differ in more than kernel and seed: make a table for each network, data set and schedule")
    return found


def networks(run: Path, config: Config, images: Tensor) -> tuple[Classifier, Classifier, Tensor]:
    """A fresh network, the run's own, and the images as it sees them."""
    card = json.loads((run / "result.json").read_text())["card"]
    torch.manual_seed(config.train.seed)
    fresh, trained = (build_classifier(**card["model"], classes=len(card["classes"])) for _ in range(2))
    trained.load_state_dict(checkpoint.load(checkpoint.saved(run / "checkpoints")[-1])["model"])
    x = (images - torch.tensor(card["mean"]).view(3, 1, 1)) / torch.tensor(card["std"]).view(3, 1, 1)
    for layer in fresh.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = None  # a plain mean over the batches
    with torch.no_grad():
        for part in x.split(250):
            fresh(part)
    return fresh.eval(), trained.eval(), x


def stages(network: Classifier, x: Tensor) -> list[LayerErosion]:
    """The last map of each stage: those of (N, w, 32, 32), (N, 2w, 16, 16) and (N, 4w, 8, 8) for images of 32 pixels."""
    blocks = [(str(i), module) for i, module in enumerate(network.features) if isinstance(module, ResidualBlock)]
    layers = erosion(network, x, blocks, batch=250)[1:]
    return [layers[(i + 1) * len(layers) // 3 - 1] for i in range(3)]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("places", nargs="+", type=Path)
    arguments.add_argument("--images", type=int, default=1000)
    arguments.add_argument("--out", type=Path)
    args = arguments.parse_args()
    found: dict[str, dict[str, list[list[LayerErosion]]]] = {}
    for run in runs_below(args.places):
        config = Config.load(run / "config.yaml")
        test = data.load(**{**config.dataset.arguments, "workers": 0}, split="test")
        order = data.EpochOrder(len(test), seed=0).indices(0, args.images)
        fresh, trained, x = networks(run, config, test.images[order].float())
        row = found.setdefault(config.model.kernel, {"untrained": [], "trained": []})
        for when, network in (("untrained", fresh), ("trained", trained)):
            row[when].append(stages(network, x))
    lines = [
        f"{args.images:,} images of {test.source}. Border: mean activation of the outermost pixels over that of the others. Lean:",
        "of the centre of mass from the middle, in sides of the map. Means over seeds (least to largest).",
        "",
        "| kernel | seeds | | border, 32² | 16² | 8² | lean at 8², right | down |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for kernel, row in found.items():
        for when, runs in row.items():
            borders = [spread([run[i].border for run in runs], 2) for i in range(3)]
            leans = [spread([getattr(run[2], axis) for run in runs], 3) for axis in ("lean_x", "lean_y")]
            lines.append(f"| {kernel} | {len(runs)} | {when} | " + " | ".join([*borders, *leans]) + " |")
    text = "\n".join(lines)
    print(text)
    if args.out:
        write_atomically(args.out, (text + "\n").encode())


def spread(values: list[float], digits: int) -> str:
    mean = sum(values) / len(values)
    return f"{mean:.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


if __name__ == "__main__":
    main()
