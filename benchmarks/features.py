"""The default features at several input sizes: images per second, and how well the Fréchet distance tells damage apart.

    GAN_DATA=DIRECTORY python benchmarks/features.py [--device cuda] [--images 2000] [--sizes 224 128] [--rounds 5] [--weights FILE]

With --weights, an exported CIFAR-10 classifier stands beside them (`cifar_resnet`); its training images are those of the training
set here. Needs the real CIFAR-10 (cifar10-train.zip and cifar10-test.zip). For each size and precision, with disjoint sets of
`--images`:

    images/s      64 images a call, resizing included, bf16 where it is native; the variants take turns within each round, the
                  fastest counts
    floor         training set against four more of it, mean and standard deviation: what sampling alone gives
    test          training set against test set
    noise, blur   training set against the damaged test set, at growing strength (Gaussian, in grey levels and pixels)
    order         pairs of neighbouring strengths whose distances are in the right order
    seen          what noise 2 and blur 0.5 add to the distance of the test set, in standard deviations of the floor
    named right   test images whose probabilities are highest for their class, or for the ImageNet classes of it

A wrong order, or slight damage that hardly stands out from sampling, would rule a size out. Target: 60 images/s at 224 on 2 cores.
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import argparse
import math
from dataclasses import replace
from itertools import pairwise

import torch
from common import fastest, keep_freed_memory, machine, precisions
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

import gan.classification.features  # noqa: F401 (registers cifar_resnet)
from data import EpochOrder, ImageSet, load
from metrics.features import Extractor, open_extractor
from metrics.features.network import DEFAULT
from metrics.frechet import frechet_from_features

SIZES = (224, 192, 160, 128, 96, 64)
NOISES = (2, 4, 8, 16)  # standard deviation in grey levels
BLURS = (0.5, 0.75, 1.0, 1.5)  # standard deviation in pixels

# ImageNet's classes for CIFAR-10's: airliner, warplane; sports car, …; birds; cats; gazelles; dogs; frogs; sorrel; liner, …; …
IN_IMAGENET = [
    [404, 895], [468, 511, 609, 656, 751, 817], [*range(7, 25), *range(80, 101), *range(127, 147)], [*range(281, 286)],
    [351, 352, 353], [*range(151, 269)], [30, 31, 32], [339], [403, 510, 554, 628], [555, 569, 675, 717, 864, 867],
]  # fmt: skip


def noisy(images: Tensor, sigma: float) -> Tensor:
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    return (images + sigma * noise).round().clamp(0, 255).byte()


def blurred(images: Tensor, sigma: float) -> Tensor:
    return gaussian_blur(images, 2 * math.ceil(3 * sigma) + 1, sigma)


def named_right(extractor: Extractor, images: Tensor, labels: Tensor) -> float:
    probabilities = extractor(images)[1].cpu()
    theirs = IN_IMAGENET if extractor.classes == 1000 else [[k] for k in range(10)]
    guess = torch.stack([probabilities[:, classes].sum(dim=1) for classes in theirs], dim=1).argmax(dim=1)
    return (guess == labels).float().mean().item()


def in_order(distances: list[float]) -> int:
    return sum(low < high for low, high in pairwise(distances))


def fidelity(extractor: Extractor, train: ImageSet, test: ImageSet, count: int) -> list[str]:
    """One row of the table, without the speed."""
    images = test.images[:count]
    reference = extractor(train.images[:count])[0]

    def distance(other: Tensor) -> float:
        return frechet_from_features(reference, extractor(other)[0])

    floor = torch.tensor([distance(train.images[k * count : (k + 1) * count]) for k in range(1, 5)])
    clean = distance(images)
    noise, blur = [distance(noisy(images, s)) for s in NOISES], [distance(blurred(images, s)) for s in BLURS]
    order = in_order([clean, *noise]) + in_order([clean, *blur])
    digits = 1 if clean > 10 else 2
    series = [" ".join(f"{value:.{digits}f}" for value in values) for values in ([clean], noise, blur)]
    seen = " ".join(f"{(slight - clean) / floor.std():.1f}" for slight in (noise[0], blur[0]))
    right = named_right(extractor, images[:1000], test.labels[:count][:1000])
    return [
        f"{floor.mean():.{digits}f} ± {floor.std():.{digits}f}",
        *series,
        f"{order}/{len(NOISES) + len(BLURS)}",
        seen,
        f"{right:.0%}",
    ]


def real_cifar10() -> tuple[ImageSet, ImageSet]:
    root = Path(os.environ.get("GAN_DATA", ""))
    files = [root / f"cifar10-{split}.zip" for split in ("train", "test")]
    if not all(file.exists() for file in files):
        sys.exit("this needs the real CIFAR-10: set GAN_DATA to a directory with cifar10-train.zip and cifar10-test.zip")
    return shuffled(load("cifar10", files[0])), shuffled(load("cifar10", files[1], split="test"))


def shuffled(data: ImageSet) -> ImageSet:
    """The archives hold one class after the other: the first images would be airplanes."""
    order = EpochOrder(len(data), seed=0).indices(0, len(data))
    return replace(data, images=data.images[order], labels=data.labels[order])


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--device", default="cpu")
    arguments.add_argument("--images", type=int, default=2000, help="images per set (default 2000); 0 measures speed only")
    arguments.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--weights", type=Path, help="of a cifar_resnet, measured too")
    args = arguments.parse_args()
    keep_freed_memory()  # as the command line does
    console = Console(width=170)
    train, test = real_cifar10()
    console.print(machine(args.device))
    networks = [(DEFAULT, None, size) for size in args.sizes]
    if args.weights:
        networks.append(("cifar_resnet", args.weights, None))
    opened = [open_extractor(*n[:2], size=n[2], precision=p, device=args.device) for n in networks for p in precisions(args.device)]
    extractors = {(e.name, e.size, e.precision): e for e in opened}

    batch = test.images[:64].to(args.device)
    runs = {variant: lambda extractor=extractor: extractor(batch) for variant, extractor in extractors.items()}
    times = fastest(runs, args.rounds, args.device)

    table = Table(title=f"CIFAR-10, sets of {args.images} images", title_justify="left")
    headings = ("images/s", "floor", "test", f"noise {NOISES}", f"blur {BLURS}", "order", "seen", "named right")
    for heading in ("features", "size", "precision", *headings):
        table.add_column(heading, justify="left" if heading in ("features", "precision") else "right")
    for variant, extractor in track(extractors.items(), "distances", console=console, transient=True):
        distances = fidelity(extractor, train, test, args.images) if args.images else []
        table.add_row(*map(str, variant), f"{64 / times[variant]:.0f}", *distances)
    console.print(table)


if __name__ == "__main__":
    main()
