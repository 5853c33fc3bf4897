"""Reading images for training, beside torchvision's LSUN with a DataLoader, from the same LMDB in one run.

    GAN_DATA=DIRECTORY python benchmarks/data.py [--count 100000] [--workers 2] [--scratch DIRECTORY] [--device cuda]
        [--parts throughput first memory cold waiting]

The database is made of real photos (GAN_DATA/bedrooms-256.zip, or --source), else of generated ones, repeated under other keys
until there are --count. It and its packs stay in --scratch for the next run: 100,000 photos of 32 kB take 3 GB, and 5 GB packed.

throughput   batches of 64 at 128 pixels, shuffled, as uint8 tensors. The variants take turns, each for --seconds a round after a
             warm-up; the fastest round counts. torchvision: Resize, CenterCrop, PILToTensor in --workers processes. Ours from the
             database: as many processes; it shrinks by Lanczos, twice the work of torchvision's bilinear filter. Packs: threads of
             the training process; the WebP pack holds a fiftieth of the images, since writing it takes longest
first batch  from the settings to the first batch on the device, in a new process, imports not counted: with the key index yet to
             be made, and later
memory       anonymous memory of the process that reads a pack, and of the fullest decoding worker of a small database, by epoch
cold         images/s from the raw pack when none of it is in memory, in random order and in shuffled blocks of neighbours
             (dataset.block=256): each variant begins with the system's copy of the file dropped, and the best of its rounds counts
waiting      share of the time of training steps (SNGAN at 128 pixels, see --width) spent in waiting for the pack

To reach on 2 cores: packs 3 x torchvision; first batch within 1 s at 100,000 images; flat memory over 10 epochs; waiting below 2 %.
"""

import argparse
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from common import machine
from rich.console import Console
from rich.table import Table
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import LSUN

from data import EpochOrder, Feeder, load
from data.sources.opening import open_source
from data.sources.shapes import shapes
from data.tools.export import export
from data.tools.pack import Squares, pack
from gan.config import Config
from gan.loop import set_precision
from gan.models.build import resolve
from gan.processes import Processes
from gan.sampling import save_images
from gan.state import Batches, State
from gan.step import Step

BATCH, R = 64, 128


def prepare(args) -> dict[str, Path]:
    """The database of --count images, one of a fiftieth, their packs: made where they aren't there yet."""
    scratch = args.scratch / str(args.count)
    source = args.source or Path(os.environ.get("GAN_DATA", ""), "bedrooms-256.zip")
    if not source.is_file():
        source = args.scratch / "shapes-256.zip"
        if not source.exists():
            save_images(iter([shapes(256, count=500).images]), source)
    places = {"all": scratch / "bedroom_train_lmdb", "small": scratch / "small" / "bedroom_train_lmdb"}
    for name, count in (("all", args.count), ("small", max(BATCH, args.count // 50))):
        if not (places[name] / "data.mdb").exists():
            export(open_source(source), places[name], count)
    for stored, source in (("raw", "all"), ("webp", "small")):
        places[stored] = scratch / f"{stored}.pack"
        pack(open_source(places[source]), places[stored], Squares(R, stored=stored), workers=args.workers)
    return places


def torchvision_batches(root: Path, workers: int):
    transform = transforms.Compose([transforms.Resize(R), transforms.CenterCrop(R), transforms.PILToTensor()])
    images = LSUN(str(root), classes=["bedroom_train"], transform=transform)
    loader = DataLoader(images, BATCH, shuffle=True, num_workers=workers, persistent_workers=True, drop_last=True)
    while True:
        yield from (batch for batch, _ in loader)


def our_batches(path: Path, workers: int | None = None):
    images = load("lsun", path, R, memory=0, workers=workers)
    feeder = Feeder(images, EpochOrder(len(images), seed=0), BATCH, BATCH)
    return (feeder.get(position) for position in itertools.count(0, BATCH))


def images_per_second(batches, seconds: float) -> float:
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        count += len(next(batches))
    return count / (time.perf_counter() - start)


def throughput(places: dict[str, Path], args, console: Console) -> None:
    os.chdir(args.scratch)  # torchvision drops its key cache where it runs
    variants = {
        f"torchvision LSUN, DataLoader of {args.workers}": torchvision_batches(places["all"].parent, args.workers),
        f"ours, the same database, {args.workers} processes": our_batches(places["all"], args.workers),
        "ours, pack, webp": our_batches(places["webp"]),
        "ours, pack, raw": our_batches(places["raw"]),
    }
    best = dict.fromkeys(variants, 0.0)
    for _ in range(args.rounds):
        for name, batches in variants.items():
            images_per_second(batches, min(2, args.seconds))  # what others read ahead, and the start of the workers, don't count
            best[name] = max(best[name], images_per_second(batches, args.seconds))
    theirs = next(iter(best.values()))
    table = Table(title=f"Throughput: {args.count:,} images, batches of {BATCH} at {R}×{R}", title_justify="left")
    for heading in ("variant", "images / s", "x torchvision"):
        table.add_column(heading, justify="left" if heading == "variant" else "right")
    for name, speed in best.items():
        table.add_row(name, f"{speed:,.0f}", f"{speed / theirs:.2f}")
    console.print(table)


def settings(path: Path, device: str, *more: str):
    named = ["dataset.name=lsun", f"dataset.path={path}", f"dataset.resolution={R}", "dataset.memory=0", f"train.device={device}"]
    return resolve(Config.load(None, [*named, f"train.batch_size={BATCH}", *more]))


def first_batch(path: Path, device: str) -> None:
    """In a process of its own: prints the seconds."""
    processes = Processes.start(device)
    torch.empty(1, device=processes.device)
    start = time.perf_counter()
    Batches(settings(path, device), processes).get(0, 0).sum().item()
    print(json.dumps(time.perf_counter() - start))


def time_to_first_batch(places: dict[str, Path], args, console: Console) -> None:
    def measured(path: Path) -> str:
        command = [sys.executable, __file__, "--first-batch", str(path), "--device", args.device]
        found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        return f"{json.loads(found.stdout.splitlines()[-1]):.2f} s"

    (places["all"] / "data.keys").unlink(missing_ok=True)
    new, known, packed = measured(places["all"]), measured(places["all"]), measured(places["raw"])
    console.print(f"First batch: database, index yet to be made {new}; database {known}; pack {packed}")


def anonymous(pid: int | str) -> float:
    """MiB"""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.partition("RssAnon:")[2].split()[0]) / 1024


def memory(places: dict[str, Path], args, console: Console) -> None:
    for what, path, workers in (("pack, this process", "raw", 0), (f"database of {args.workers} workers", "small", args.workers)):
        images = load("lsun", places[path], R, memory=0, workers=workers)
        feeder = Feeder(images, EpochOrder(len(images), seed=0), BATCH, BATCH)
        levels = []
        for epoch in range(args.epochs):
            for position in range(epoch * len(images), (epoch + 1) * len(images), BATCH):
                feeder.get(position)
            pids = list(images._processes._processes) if workers else ["self"]
            levels.append(max(anonymous(pid) for pid in pids))
        console.print(f"Memory by epoch, {what}, {len(images):,} images, MiB: {', '.join(f'{level:.0f}' for level in levels)}")


def cold_disk(places: dict[str, Path], args, console: Console) -> None:
    if not hasattr(os, "posix_fadvise"):
        return console.print("Cold: this system can't be asked to drop its copy of a file")
    best = {1: 0.0, 256: 0.0}
    for _ in range(args.rounds):
        for block in best:
            images = load("lsun", places["raw"], R, memory=0)
            with open(places["raw"], "rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            feeder = Feeder(images, EpochOrder(len(images), 0, block), BATCH, BATCH)
            batches = (feeder.get(position) for position in itertools.count(0, BATCH))
            best[block] = max(best[block], images_per_second(batches, args.seconds))
    speeds = ", ".join(f"dataset.block={block} {speed:,.0f} images/s" for block, speed in best.items())
    console.print(f"Cold, raw pack, {len(images):,} images: {speeds}")


def waiting(places: dict[str, Path], args, console: Console) -> None:
    net = ["generator.family=sngan", "objective.loss=hinge", f"generator.width={args.width}", f"discriminator.width={args.width}"]
    config = settings(places["raw"], args.device, *net, "train.precision=bf16", "train.deterministic=false", "train.beta1=0")
    processes = Processes.start(args.device)
    set_precision(config, processes.device)
    batches = Batches(config, processes)
    get, waited = batches.feeder.get, []

    def timed_get(position: int):
        start = time.perf_counter()
        batch = get(position)
        waited.append(time.perf_counter() - start)
        return batch

    batches.feeder.get = timed_get
    step = Step(config, processes, State(config, processes), batches)
    for _ in range(2):
        step().cpu()
    waited.clear()
    start = time.perf_counter()
    for _ in range(args.steps):
        step()
    step().cpu()
    total = time.perf_counter() - start
    console.print(
        f"Waiting: {100 * sum(waited) / total:.2f} % of {args.steps + 1} steps of {total / (args.steps + 1) * 1e3:.0f} ms "
        f"(SNGAN at {R} pixels, width {args.width:g}, batch {BATCH}, bf16)"
    )


PARTS = {
    "throughput": throughput,
    "first": time_to_first_batch,
    "memory": memory,
    "cold": cold_disk,
    "waiting": waiting,
}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--count", type=int, default=100_000, help="images in the database")
    arguments.add_argument("--source", type=Path, help="a zip of photos; default: GAN_DATA/bedrooms-256.zip, else generated ones")
    arguments.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()) / "gan-data-benchmark")
    arguments.add_argument("--workers", type=int, default=2)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--seconds", type=float, default=10)
    arguments.add_argument("--epochs", type=int, default=10)
    arguments.add_argument("--steps", type=int, default=20)
    arguments.add_argument("--width", type=float, default=16, help="of the networks; published: 64, minutes per step on a CPU")
    arguments.add_argument("--device", default="cpu")
    arguments.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="default: all")
    arguments.add_argument("--clean", action="store_true", help="remove the database and the packs afterwards")
    arguments.add_argument("--first-batch", type=Path, help=argparse.SUPPRESS)
    args = arguments.parse_args()
    if args.first_batch:
        return first_batch(args.first_batch, args.device)
    args.scratch = args.scratch.resolve()
    args.scratch.mkdir(parents=True, exist_ok=True)
    console = Console(width=110)
    console.print(machine(args.device))
    places = prepare(args)
    for part in args.parts:
        PARTS[part](places, args, console)
    if args.clean:
        shutil.rmtree(args.scratch)


if __name__ == "__main__":
    main()
