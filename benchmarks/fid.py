"""FID beside pytorch-fid's, with the same weights in one run: the matrix part, two folders of PNGs to the number, and memory.

    GAN_DATA=DIRECTORY python benchmarks/fid.py [--images 5000] [--rounds 1] [--weights pt_inception-2015-12-05-6726825d.pth]

matrix      the distance of two sets of statistics of 2,048 features: ours, and scipy.linalg.sqrtm as pytorch-fid calls it
folders     `python -m pytorch_fid A B` and `run_gan.py fid A B --features inception`, each in a process of its own, from its start
            to the number; both as they come, but for the device. The commands take turns within each round, the fastest counts
memory      the most that such a process ever held (its workers not counted), of ours also for a quarter of the images

The images are CIFAR-10's: training images against test images blurred by 0.75 pixels, which stand in for a generator's. Without
GAN_DATA they are the shapes.

Without --weights both networks get seeded random ones, made to give features that vary: plain random weights hardly tell images
apart, and their distance is mostly rounding. Each batch norm is set to the mean and variance of what reaches it from 64 of the
training images, and adds 1 before the ReLU; without that 1, one direction, the pictures' contrast, would carry most of the
features' variance. All this decides values and not times. How far bf16 moves the distance depends on the weights, too: of eight
kinds of random ones this moved least, others up to 3 % and more, so the real weights have the last word.

To reach on CPU: the matrix part 8 x; folders 1.4 x in fp32 with values alike to 1e-4, 3 x in bf16 with values alike to 0.5 %;
memory that doesn't depend on the number of images.
"""

import argparse
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import torch
from common import fastest, machine, precisions
from features import blurred
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from data import load
from gan.sampling import save_images
from metrics.features import inception
from metrics.features.resize import resize
from metrics.frechet import frechet_distance

ROOT = Path(__file__).parent.parent
FEATURES = 2048
CALIBRATION = 64  # images
BLUR = 0.75  # pixels
TO_REACH = {"fp32": (1.4, 1e-4), "bf16": (3.0, 5e-3)}  # times as fast as pytorch-fid, relative difference of the distance

# A small process between us and what is measured: a child's peak counts from its fork on, and this one has no memory to inherit.
MEASURED = """
import json, os, subprocess, sys, time
start = time.perf_counter()
child = subprocess.Popen(sys.argv[1:])
_, status, usage = os.wait4(child.pid, 0)
print(json.dumps({"seconds": time.perf_counter() - start, "peak": usage.ru_maxrss}))
sys.exit(abs(os.waitstatus_to_exitcode(status)))
"""


def statistics(seed: int, count: int = 5000) -> tuple[Tensor, Tensor]:
    """Mean and covariance of `count` feature vectors whose variances fall by five orders of magnitude, as those of images do."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(count, FEATURES, dtype=torch.float64, generator=generator) * torch.logspace(0, -2.5, FEATURES)
    mixing = torch.randn(FEATURES, FEATURES, dtype=torch.float64, generator=torch.Generator().manual_seed(99)) / FEATURES**0.5
    rows = rows @ mixing + 0.01 * seed
    return rows.mean(dim=0), rows.T.cov()


def matrix_part(rounds: int) -> str:
    from pytorch_fid.fid_score import calculate_frechet_distance

    (m1, S1), (m2, S2) = statistics(1), statistics(2)
    arrays = [x.numpy() for x in (m1, S1, m2, S2)]
    values = {}

    def theirs():
        values["theirs"] = calculate_frechet_distance(*arrays)

    def ours():
        values["ours"] = frechet_distance(m1, S1, m2, S2)

    try:
        times = fastest({"theirs": theirs, "ours": ours}, rounds, warm_up=0)
    except TypeError as error:  # scipy has taken arguments of sqrtm away
        sys.exit(f"the installed pytorch-fid does not work with the installed scipy ({error}): pip install 'scipy<1.18'")
    return (
        f"matrix part, {FEATURES:,} features: pytorch-fid {times['theirs']:.2f} s, ours {times['ours']:.2f} s, "
        f"{times['theirs'] / times['ours']:.1f} x (to reach: 8), "
        f"the distance differs by {abs(values['ours'] / values['theirs'] - 1):.0e}"
    )


# --- what both are given -----------------------------------------------------------------------------------------------------


def pictures(count: int) -> tuple[str, Tensor, Tensor]:
    """What they are, and two sets of (count, 3, 32, 32) uint8."""
    root = Path(os.environ.get("GAN_DATA", ""))
    archives = [root / f"cifar10-{split}.zip" for split in ("train", "test")]
    if all(archive.exists() for archive in archives):
        name, sets = "CIFAR-10", [load("cifar10", a, split=s) for a, s in zip(archives, ("train", "test"))]
    else:
        name, sets = "shapes", [load("shapes", split=s) for s in ("train", "test")]
    if count > min(map(len, sets)):
        sys.exit(f"{name} has {min(map(len, sets)):,} test images, fewer than the {count:,} asked for: choose a smaller --images")
    chosen = [s.images[torch.randperm(len(s), generator=torch.Generator().manual_seed(0))[:count]] for s in sets]
    return name, chosen[0], blurred(chosen[1], BLUR)


def calibrated_weights(images: Tensor) -> dict[str, Tensor]:
    """Seeded random weights, with batch norms that fit what reaches them from these images."""
    torch.manual_seed(0)
    network = inception.architecture().to_empty(device="cpu")
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        elif isinstance(layer, nn.BatchNorm2d):
            layer.reset_parameters()
            nn.init.ones_(layer.bias)
            layer.momentum = None  # the statistics of all batches seen, here one
    nn.init.zeros_(network.fc.bias)
    with torch.no_grad():
        network.train()(resize(images, inception.SIZE, "pytorch_fid") / 127.5 - 1)
    return network.state_dict()


def torch_home(directory: Path, weights: Path | None, images: Tensor) -> Path:
    """The weights, at the place in a torch cache where pytorch-fid looks for its download."""
    from pytorch_fid.inception import FID_WEIGHTS_URL

    path = directory / "hub" / "checkpoints" / Path(FID_WEIGHTS_URL).name
    path.parent.mkdir(parents=True)
    if weights is None:
        torch.save(calibrated_weights(images[:CALIBRATION]), path)
    elif weights.is_file():
        path.symlink_to(weights.resolve())
    else:
        sys.exit(f"there are no weights at {weights}: give the file that pytorch-fid downloads, or leave --weights out")
    return path


# --- from folders to the number ----------------------------------------------------------------------------------------------


def measured(command: list, environment: dict[str, str]) -> tuple[float, float, str]:
    """Seconds, peak MiB and standard output of a command in a process of its own. Ends everything if it fails."""
    command = [sys.executable, "-c", MEASURED, sys.executable, *map(str, command)]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["without a word"])[-1]
        sys.exit(f"a command that was to be timed failed ({' '.join(command[4:])}): {last}")
    output, _, usage = done.stdout.strip().rpartition("\n")
    usage = json.loads(usage)
    unit = 2**20 if sys.platform == "darwin" else 2**10  # bytes there, KiB elsewhere
    return usage["seconds"], usage["peak"] / unit, output


def theirs(folders: tuple[Path, Path], weights: Path, device: str) -> tuple[float, float, float]:
    """Seconds, peak MiB and FID of pytorch-fid's command."""
    command = ["-W", "ignore", "-m", "pytorch_fid", *folders, "--device", device]
    seconds, peak, output = measured(command, {"TORCH_HOME": str(weights.parents[2])})
    return seconds, peak, float(re.search(r"FID:\s+(\S+)", output)[1])


def ours(folders: tuple[Path, Path], weights: Path, device: str, precision: str, count: int) -> tuple[float, float, float]:
    """The same of ours, with nothing cached."""
    with tempfile.TemporaryDirectory() as empty:
        command = ["run_gan.py", "fid", *folders, "--features", "inception", "--weights", weights, "--insist", "--device", device]
        command += ["--precision", precision, "--json", f"{empty}/scores.json", "--count", count, "--real-count", count]
        seconds, peak, _ = measured(command, {"GAN_CACHE": f"{empty}/cache"})
        return seconds, peak, json.loads(Path(empty, "scores.json").read_text())[0]["value"]


def folders_part(console: Console, directory: Path, count: int, rounds: int, device: str, weights: Path | None) -> list[str]:
    name, real, generated = pictures(count)
    folders = directory / "real", directory / "generated"
    for images, folder in zip((real, generated), folders):
        save_images(iter([images]), folder)
    weights = torch_home(directory / "torch", weights, real)

    runs = {"pytorch-fid": lambda: theirs(folders, weights, device)}
    for precision in precisions(device):
        runs[f"ours {precision}"] = lambda p=precision: ours(folders, weights, device, p, count)
    found = {variant: [] for variant in runs}
    for _ in range(rounds):
        for variant, run in runs.items():
            found[variant].append(run())
    best = {variant: min(results) for variant, results in found.items()}
    quarter = {precision: ours(folders, weights, device, precision, count // 4) for precision in precisions(device)}

    slowest, _, wanted = best["pytorch-fid"]
    table = Table(title=f"2 x {count:,} {name} images of 32 pixels, PNG folders to the distance", title_justify="left")
    for heading in ("", "s", "images/s", "x pytorch-fid", "distance", "differs by", "peak MiB"):
        table.add_column(heading, justify="right" if heading else "left")
    for variant, (seconds, peak, value) in best.items():
        speed, difference = f"{2 * count / seconds:.1f}", f"{abs(value / wanted - 1):.1e}"
        table.add_row(variant, f"{seconds:.1f}", speed, f"{slowest / seconds:.2f}", f"{value:.4f}", difference, f"{peak:.0f}")
    console.print(table)

    lines = []
    for precision, (_, less, _) in quarter.items():
        seconds, peak, value = best[f"ours {precision}"]
        faster, alike = TO_REACH[precision]
        lines.append(
            f"{precision}: {slowest / seconds:.2f} x pytorch-fid (to reach: {faster}), "
            f"the distance differs by {abs(value / wanted - 1):.1e} (to reach: {alike:.0e}), "
            f"peak {peak:.0f} MiB, with a quarter of the images {less:.0f} MiB"
        )
    return lines


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--images", type=int, default=5000, help="images per folder (default 5000)")
    arguments.add_argument("--rounds", type=int, default=1, help="of the folders; the matrix part takes two (default 1)")
    arguments.add_argument("--weights", type=Path, help="the 2015 weights as pytorch-fid downloads them, instead of random ones")
    arguments.add_argument("--device", default="cpu")
    args = arguments.parse_args()
    if importlib.util.find_spec("pytorch_fid") is None:
        sys.exit("pytorch-fid is missing: pip install -r requirements.txt")
    if args.images < 8:
        sys.exit(f"--images must be at least 8, not {args.images}")
    warnings.filterwarnings("ignore", category=DeprecationWarning)  # pytorch-fid calls sqrtm with arguments that scipy wants gone
    console = Console(width=120)
    console.print(machine(args.device))
    console.print(matrix_part(rounds=2), highlight=False, soft_wrap=True)
    with tempfile.TemporaryDirectory() as directory:
        lines = folders_part(console, Path(directory), args.images, args.rounds, args.device, args.weights)
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    main()
