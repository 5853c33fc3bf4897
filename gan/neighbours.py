"""The training images nearest to a generator's samples, as numbers and as a picture: does it copy what it was trained on?

Distances are taken in feature space and between pixels. Real images that were not trained on (the test split, or what
dataset.hold_out kept) show how close images come that can't have been copied. Without any, each training image is compared with
the others, which has the same distribution if images are independent.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import torch
from torch import Tensor

import data
from data import DataError
from data.checksums import sealed, whole
from data.files import write_atomically
from gan.evaluation import image_side
from gan.run_directory import RunError, RunFiles
from gan.sampling import Trained, png, tiled, visible_scale
from metrics.features import Extractor
from metrics.neighbours import Memorisation, Nearest, memorisation_of, nearest

SHOWN, BESIDE = 10, 4  # samples in the picture, and neighbours of each in either space
PIXELS = 32  # side at which pixels are compared
LARGEST = 50_000  # training images that are looked among, a seeded choice of more


@dataclass(frozen=True)
class Neighbours:
    """What `find_neighbours` returns."""

    record: dict  # what goes to neighbours.json
    picture: Tensor  # (SHOWN * (1 + 2 BESIDE), 3, R, R) uint8: each sample, its nearest by features, its nearest by pixels


def find_neighbours(
    trained: Trained, extractor: Extractor, count: int = 1000, seed: int = 0,
    progress: Callable[[int], object] = lambda n: None, expect: Callable[[int], object] = lambda n: None,
) -> Neighbours:  # fmt: skip
    """Look for `count` samples of a run among the images that it was trained on. RunError below 20 training images.

    progress, expect: called with images whose features were computed, and with how many these will be.
    """
    arguments = trained.config.dataset.arguments
    training = images_of(data.load(**arguments, split="train"), LARGEST, seed)
    if len(training) < 20:
        raise RunError(f"neighbours need at least 20 training images to look among, not {len(training)}")
    try:
        held_out, source = images_of(data.load(**arguments, split="test"), count, seed), "the test split"
    except DataError:
        held_out, source = training[:count], "training images, each beside the others"
    own = source != "the test split"
    samples = trained.sample(count, seed)
    expect(len(training) + len(samples) + (0 if own else len(held_out)))
    found: dict[str, Memorisation] = {}
    spaces: list[Nearest] = []
    for space, embed in (("features", lambda x: features(extractor, x, progress)), ("pixels", pixels)):
        among = embed(training)
        of_samples = nearest(embed(samples), among, BESIDE)
        of_held_out = nearest(among[: len(held_out)], among, own=True) if own else nearest(embed(held_out), among)
        found[space] = memorisation_of(of_samples.distances[:, 0], of_held_out.distances[:, 0])
        spaces.append(of_samples)
    chosen = spaces[0].distances[:, 0].argsort()[:SHOWN]
    rows = [torch.cat([samples[i : i + 1], *(training[space.indices[i]] for space in spaces)]) for i in chosen]
    record = {
        "step": trained.step, "samples": count, "seed": seed, "training_images": len(training), "held_out": source,
        "held_out_images": len(held_out), "features": extractor.name, "weights_sha256": extractor.sha256,
        **{space: memorisation._asdict() for space, memorisation in found.items()},
    }  # fmt: skip
    return Neighbours(record, torch.cat(rows))


def images_of(images: data.ImageSet | data.StreamedSet, most: int, seed: int) -> Tensor:
    """Up to `most` images of a set, a seeded choice, (n, 3, R, R) uint8."""
    side = image_side(images, min(most, len(images)), seed, shuffle=True)
    return torch.cat(list(side.open()))


def features(extractor: Extractor, images: Tensor, progress: Callable[[int], object]) -> Tensor:
    found = []
    for batch in images.split(64):
        found.append(extractor(batch)[0].cpu())
        progress(len(batch))
    return torch.cat(found)


def pixels(images: Tensor) -> Tensor:
    """(n, 3, R, R) uint8 -> (n, 3 * 32 * 32) float32: larger images are averaged down, where a shift of a pixel matters less."""
    found = images.float()
    if images.shape[-1] > PIXELS:
        found = torch.nn.functional.adaptive_avg_pool2d(found, PIXELS)
    return found.flatten(1)


def save_neighbours(found: Neighbours, run: Path) -> None:
    """Write RUN/neighbours.json, and RUN/neighbours.png, whose sha256 it has: what is shown together was found together."""
    files, grid = RunFiles(run), tiled(found.picture, 1 + 2 * BESIDE, 255)
    picture = png(grid, visible_scale(grid.shape[2]))
    record = sealed({**found.record, "picture_sha256": sha256(picture).hexdigest()})
    write_atomically(files.neighbours, (json.dumps(record, indent=2) + "\n").encode())
    write_atomically(files.neighbours_figure, picture)


def read_neighbours(run: Path) -> tuple[dict, bytes] | None:
    """The record of RUN/neighbours.json, and its picture as a PNG; None where one of them is missing.

    RunError where one is damaged, or they don't belong together. Records of before have no checksums.
    """
    files = RunFiles(run)
    try:
        record, picture = json.loads(files.neighbours.read_text()), files.neighbours_figure.read_bytes()
        sentences(record)  # for what it raises
        if whole(record) and record.get("picture_sha256") in (None, sha256(picture).hexdigest()):
            return record, picture
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    raise RunError(
        f"{files.neighbours} or the picture beside it is damaged: delete both, or `evaluate --neighbours` again"
    ) from None


def sentences(record: dict) -> list[str]:
    """The record in words, one line for each of the two spaces."""
    lines = []
    for space in ("features", "pixels"):
        m = record[space]
        verdict = "closer than chance allows" if m["share"] > m["high"] or m["closest"] > m["closest_high"] else "no sign of copies"
        lines.append(
            f"{space}: {m['share']:.1%} of samples lie closer to a training image than held-out ones do (by chance {m['low']:.1%} "
            f"to {m['high']:.1%}), {m['closest']:.1%} closer than all but 1 % of those (by chance up to {m['closest_high']:.1%}): "
            f"{verdict}"
        )
    return lines
