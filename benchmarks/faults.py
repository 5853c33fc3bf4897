"""Kills, full disks and damaged files, at random: nothing may be lost, nothing half written, nothing misread.

    python benchmarks/faults.py --trials 300 --seed 0

A trial runs a command (`train`, `classify`, `evaluate`, `sample`, `plot`, `export`, `zoo add`) in a process of its own, and lets
one system call go wrong: killed before it, refused by it (disk full, quota, input/output error), a write that is cut short or
killed half way, or kill -9 at any time. Then the same command is given again, and all that it leaves must be what an untroubled run
leaves, to the last bit, and nothing else: no temporary file, no lock. An error must be one sentence. Other trials give two commands
at once, or damage a file that is read back: then the result is the same, or the command refuses in one sentence.

Prints a line for each trial that found something, and a summary; exits with 1 if there is any. Linux and macOS.
"""

import argparse
import contextlib
import errno
import hashlib
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before PyTorch is imported: its threads don't survive a fork
sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from torch import nn

from cli.main import main as command_line
from data.files import UserError
from data.sources.shapes import shapes
from gan import checkpoint, plots, zoo
from gan import neighbours as _neighbours  # noqa: F401
from gan import zoo_entry as _zoo_entry  # noqa: F401
from gan.classification import training as _classifying  # noqa: F401 (what the commands import is imported once, before they fork)
from gan.evaluation import read_scores
from gan.export import export as _export  # noqa: F401
from gan.probe import figure as _figure  # noqa: F401
from gan.sampling import save_images
from metrics.features import efficientnet, inception  # noqa: F401

GAN = """
dataset: {{name: folder, path: {images}}}
generator: {{width: 4, latent: 8}}
discriminator: {{width: 4}}
train: {{batch_size: 8, steps: 9, log_every: 2, checkpoint_every: 3, sample_every: 4, device: cpu}}
evaluate: {{every: 3, samples: 20, features: "module:benchmarks.faults.tiny_features"}}
"""
CLASSIFIER = """
dataset: {{name: folder, path: {images}}}
model: {{depth: 8, width: 4}}
train: {{batch_size: 8, epochs: 2, log_every: 4, checkpoint_every: 3, device: cpu}}
"""
FEATURES = ["--features", "module:benchmarks.faults.tiny_features"]
REFUSALS = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS)
# Files that are there as a whole, or not.
AT_ONCE = (".png", ".zip", ".npz", ".safetensors", "result.json", "neighbours.json", "tiny.json")
OF_A_START = ("events.out.tfevents", "timing.jsonl")  # what differs from start to start: when, and how fast
LIMIT = 120  # seconds that a command may take


def tiny_features() -> nn.Module:
    """A network that takes no time, for scores."""
    torch.manual_seed(0)
    return nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, 6))


# --- faults ------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fault:
    """What goes wrong: at the n-th change of the disk, at a file's n-th byte, or after so many seconds."""

    kind: str  # kill, refuse, cut, cut and kill, kill -9, none
    at: float = 0
    number: int = 0  # of the error

    def __str__(self) -> str:
        return f"{self.kind} {self.at:g}" + (f" ({os.strerror(self.number)})" if self.number else "")


NONE = Fault("none")


class Changes:
    """Counts the changes of the disk below a folder, by Python's audit events and calls of fsync, and lets one of them go wrong."""

    NAMED = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate")

    def __init__(self, root: Path, fault: Fault):
        self.root, self.fault, self.count = str(root), fault, 0
        self._fsync = os.fsync
        os.fsync = self._synced
        sys.addaudithook(self._heard)

    def _heard(self, event: str, given: tuple) -> None:
        writes = event == "open" and isinstance(given[2], int) and given[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if (writes or event in self.NAMED) and str(given[0]).startswith(self.root):
            self._change(str(given[0]))

    def _synced(self, descriptor: int) -> None:
        self._change(None)
        self._fsync(descriptor)

    def _change(self, file: str | None) -> None:
        self.count += 1
        if self.count != self.fault.at:
            return
        if self.fault.kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.fault.kind == "refuse":
            raise OSError(self.fault.number, os.strerror(self.fault.number), *([file] if file else []))


@dataclass
class Ended:
    code: int  # as a shell gives it; negative: the signal
    said: str  # on standard error
    changes: int = 0  # of the disk

    def trouble(self) -> str | None:
        """What is wrong with the way in which the command ended, if anything."""
        if "Traceback" in self.said:
            return f"a traceback: {self.said.strip().splitlines()[-1]}"
        if self.code not in (0, 1, -signal.SIGKILL, -signal.SIGXFSZ):
            return f"exit status {self.code}"
        if self.code == 1 and sum(line.startswith("error: ") for line in self.said.splitlines()) != 1:
            return f"no sentence of error: {self.said!r}"
        return None


def run(arguments: list[str], root: Path, fault: Fault = NONE) -> Ended:
    """A command in a fork of this process."""
    return start(arguments, root, fault)()


def start(arguments: list[str], root: Path, fault: Fault = NONE) -> Callable[[], Ended]:
    """As `run`, at once; the function that is returned waits for its end. The zoo is that of the folder."""
    os.environ["GAN_ZOO"] = str(root / "zoo")
    said, counted = root / f".said-{time.monotonic_ns()}", root / f".count-{time.monotonic_ns()}"
    sys.stdout.flush()
    child = os.fork()
    if not child:
        _become(arguments, root, fault, said, counted)

    def wait() -> Ended:
        status = _status(child, fault.at if fault.kind == "kill -9" else LIMIT)
        ended = Ended(status, said.read_text(errors="replace") if said.exists() else "")
        if counted.exists():
            ended.changes = int(counted.read_text() or 0)
        for file in (said, counted):
            file.unlink(missing_ok=True)
        return ended

    return wait


def _become(arguments: list[str], root: Path, fault: Fault, said: Path, counted: Path) -> None:
    """In the fork: the command, with its fault, to the end of the process."""
    code = 70
    try:
        descriptor = os.open(said, os.O_WRONLY | os.O_CREAT)
        os.dup2(descriptor, 1), os.dup2(descriptor, 2)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))
        sys.argv = ["run_gan.py", *arguments]
        count = os.open(counted, os.O_WRONLY | os.O_CREAT)
        changes = Changes(root, fault)
        if fault.kind.startswith("cut"):
            resource.setrlimit(resource.RLIMIT_FSIZE, (int(fault.at), resource.RLIM_INFINITY))
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL if "kill" in fault.kind else signal.SIG_IGN)
        try:
            command_line()
            code = 0
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 0
        except BaseException:
            import traceback

            traceback.print_exc()
            code = 1
        os.write(count, str(changes.count).encode())
    finally:
        os._exit(code)


def _status(child: int, seconds: float) -> int:
    """How a child ended; after so many seconds it is killed."""
    end, killed = time.monotonic() + seconds, False
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if not killed and time.monotonic() > end:
            os.kill(child, signal.SIGKILL)
            killed = True
        time.sleep(0.002)


# --- what must hold ----------------------------------------------------------------------------------------------------------


def contents(folder: Path) -> dict[str, bytes]:
    """All files of a folder, hidden ones too, but for what differs from start to start."""
    files = [file for file in sorted(folder.rglob("*")) if file.is_file() and not file.name.startswith(OF_A_START)]
    return {str(file.relative_to(folder)): meaning(file) for file in files}


def meaning(file: Path) -> bytes:
    """The bytes of a file; of a checkpoint its tensors and numbers, which may lie in another order."""
    if file.suffix != ".pt":
        return file.read_bytes()
    digest = hashlib.sha256()

    def add(thing: object) -> None:
        if isinstance(thing, torch.Tensor):
            digest.update(f"{thing.dtype} {tuple(thing.shape)}".encode() + thing.contiguous().numpy().tobytes())
        elif isinstance(thing, dict):
            for key in sorted(thing, key=str):
                digest.update(f"{key}:".encode())
                add(thing[key])
        elif isinstance(thing, list | tuple):
            digest.update(f"{len(thing)} things".encode())
            for part in thing:
                add(part)
        else:
            digest.update(repr(thing).encode())

    try:
        add(checkpoint.load(file))
    except checkpoint.CheckpointError as error:
        return str(error).encode()
    return digest.digest()


def unlike(found: dict[str, bytes], wanted: dict[str, bytes]) -> str | None:
    """The first file that differs, if any."""
    for name in sorted(found.keys() | wanted.keys()):
        if name not in found or name not in wanted:
            return f"{name} is {'left over' if name in found else 'missing'}"
        if found[name] != wanted[name]:
            return f"{name} has other bytes"
    return None


@dataclass
class Case:
    """A command, what it starts from, and what it leaves."""

    name: str
    arguments: Callable[[Path], list[str]]  # for a folder
    before: Path | None = None  # copied there first
    again: list[str] = field(default_factory=list)  # what is added when the command is given again
    changes: int = 0
    seconds: float = 0.0
    wanted: dict[str, bytes] = field(default_factory=dict)

    def prepare(self, root: Path) -> Path:
        folder = Path(tempfile.mkdtemp(dir=root))
        if self.before:
            shutil.copytree(self.before, folder, dirs_exist_ok=True)
        return folder

    def learn(self, root: Path) -> Path:
        """What an untroubled command leaves, and how often it changes the disk. Gives the folder that it left that in."""
        folder = self.prepare(root)
        begun = time.monotonic()
        ended = run(self.arguments(folder), folder)
        self.seconds = time.monotonic() - begun
        if ended.code:
            raise SystemExit(f"{self.name} fails without a fault: {ended.said}")
        self.changes, self.wanted = ended.changes, contents(folder)
        return folder

    def fault(self, numbers: random.Random) -> Fault:
        """One that may befall it."""
        at = numbers.randint(1, self.changes)
        sizes = sorted(len(data) for data in self.wanted.values())
        return numbers.choice(
            [
                Fault("kill", at),
                Fault("refuse", at, numbers.choice(REFUSALS)),
                Fault("cut", numbers.randint(0, sizes[-1])),
                Fault("cut and kill", numbers.randint(0, sizes[-1])),
                Fault("kill -9", numbers.uniform(0, self.seconds)),
            ]
        )

    def trial(self, root: Path, numbers: random.Random) -> str | None:
        """One to three faults, then the command to its end; what is wrong then, if anything."""
        folder, faults = self.prepare(root), []
        for _ in range(numbers.choice((1, 1, 2, 3))):
            faults.append(self.fault(numbers))
            ended = run(self.arguments(folder) + (self.again if len(faults) > 1 else []), folder, faults[-1])
            if trouble := ended.trouble() or self.half_written(folder):
                return f"{self.name}, {', '.join(map(str, faults))}: {trouble}"
        ended = run(self.arguments(folder) + self.again, folder)
        trouble = ended.trouble() or unlike(contents(folder), self.wanted)
        if not trouble and ended.code and "is not an empty directory" not in ended.said:
            trouble = ended.said
        if trouble:
            return f"{self.name}, {', '.join(map(str, faults))}, then again: {trouble}"
        shutil.rmtree(folder)
        return None

    def half_written(self, folder: Path) -> str | None:
        """A file that has its final name and isn't whole, if any: a checkpoint of no use, or another output with other bytes."""
        try:
            for path in folder.rglob("*.pt"):
                checkpoint.load(path)
            for path in folder.rglob("scores.json"):
                read_scores(path.parent)
            for path in folder.glob("zoo/*.json"):
                zoo.file_of(f"zoo:{path.stem}")
        except UserError as error:
            return str(error)
        old = contents(self.before) if self.before else {}
        for name, data in contents(folder).items():
            hidden = any(part.startswith(".") for part in Path(name).parts)
            if not hidden and name.endswith(AT_ONCE) and data not in (self.wanted.get(name), old.get(name)):
                return f"{name} is half written"
        return None


def at_once(runs: Path, root: Path, numbers: random.Random) -> str | None:
    """Two commands that write one file: both scores stand in it, the zip is one of the two, and so is the entry of the zoo."""
    folder = Path(tempfile.mkdtemp(dir=root))
    shutil.copytree(runs / "gan", folder / "run")
    kind = numbers.choice(("evaluate", "zoo add", "sample"))
    if kind == "zoo add":
        add = ["zoo", "add", str(folder / "run"), "tiny", "--count", "20", *FEATURES, "--checkpoint"]
        ends = [wait() for wait in [start([*add, step], folder) for step in ("6", "9")]]
        zoo.file_of("zoo:tiny")  # for what it raises
        wrong = None if any(end.code == 0 for end in ends) else "neither made the entry"
    elif kind == "evaluate":
        evaluate = ["evaluate", str(folder / "run"), "--count", "20", "--scores", "fid", *FEATURES, "--checkpoint"]
        ends = [wait() for wait in [start([*evaluate, step], folder) for step in ("6", "9")]]
        text = (folder / "run/scores.json").read_text()
        wrong = None if all(f'"step": {step}' in text for step in (6, 9)) else "a score was lost"
    else:
        sample = ["sample", str(folder / "run"), "--count", "30", "--images", str(folder / "z.zip"), "--overwrite", "--seed"]
        alone = []
        for seed in ("1", "2"):
            run([*sample, seed], folder)
            alone.append((folder / "z.zip").read_bytes())
        ends = [wait() for wait in [start([*sample, seed], folder) for seed in ("1", "2")]]
        wrong = None if (folder / "z.zip").read_bytes() in alone else "the zip is of neither"
    left = [name for name in contents(folder) if Path(name).name.startswith(".")]
    wrong = (
        wrong
        or next((trouble for end in ends if (trouble := end.trouble())), None)
        or (f"{left[0]} is left over" if left else None)
    )
    shutil.rmtree(folder)
    return f"two at once: {wrong}" if wrong else None


@dataclass
class Reader:
    """A file that is read back, and a command that reads it, below a folder."""

    file: str
    arguments: Callable[[Path], list[str]]
    output: str
    learnt: ClassVar[dict[tuple[str, ...], bytes]] = {}  # by command: what it writes without damage

    def trial(self, runs: Path, root: Path, numbers: random.Random) -> str | None:
        """Damage the file: the command writes the same as before, or refuses in one sentence."""
        key = tuple(self.arguments(Path()))
        if key not in self.learnt:
            folder = self._copied(runs, root)
            whole = run(self.arguments(folder), folder)
            if whole.code:
                raise SystemExit(f"{self.arguments(folder)} fails without damage: {whole.said}")
            self.learnt[key] = (folder / self.output).read_bytes()
            shutil.rmtree(folder)
        folder = self._copied(runs, root)
        what = damage(folder / self.file, numbers)
        ended = run(self.arguments(folder), folder)
        trouble = ended.trouble()
        if not trouble and ended.code == 0 and (folder / self.output).read_bytes() != self.learnt[key]:
            trouble = "another result, without a word"
        shutil.rmtree(folder)
        return f"{self.file}, {what}: {trouble}" if trouble else None

    @staticmethod
    def _copied(runs: Path, root: Path) -> Path:
        return Path(shutil.copytree(runs, tempfile.mkdtemp(dir=root), dirs_exist_ok=True))


def damage(file: Path, numbers: random.Random) -> str:
    """Flip a bit, cut the file, blank a part, or put noise there; what was done."""
    data = bytearray(file.read_bytes())
    place = numbers.randrange(len(data))
    kind = numbers.choice(("flip", "flip", "flip", "cut", "blank", "noise"))
    if kind == "flip":
        data[place] ^= 1 << numbers.randrange(8)
    elif kind == "cut":
        del data[place:]
    else:
        end = min(len(data), place + numbers.choice((1, 16, 512)))
        data[place:end] = bytes(end - place) if kind == "blank" else numbers.randbytes(end - place)
    file.write_bytes(data)
    return f"{kind} at {place:,}"


# --- the campaign ------------------------------------------------------------------------------------------------------------


Trial = Callable[[Path, Path, random.Random], str | None]  # of the finished runs, a folder to work in, and numbers


def prepared(root: Path, chosen: list[str] | None = None) -> tuple[dict[str, Trial], Path]:
    """Images, settings and finished runs, and what is tried on them, by name. chosen: of the trials; None: all."""
    images, runs = root / "images", root / "runs"
    for split, count in (("train", 40), ("test", 20)):
        drawn = shapes(32, split, count=count)
        for name, label in (("a", 0), ("b", 1)):
            save_images(iter([drawn.images[label::2]]), images / split / name)
    save_images(iter([shapes(32, count=40).images]), root / "images.zip")
    (root / "gan.yaml").write_text(GAN.format(images=root / "images.zip"))
    (root / "classifier.yaml").write_text(CLASSIFIER.format(images=images))
    runs.mkdir()
    train = Case("train", lambda folder: ["train", str(root / "gan.yaml"), "--out", str(folder / "run"), "-q"])
    classify = Case("classify", lambda folder: ["classify", str(root / "classifier.yaml"), "--out", str(folder / "run"), "-q"])
    needs = lambda *kinds: not chosen or set(kinds) & set(chosen)
    os.rename(train.learn(root) / "run", runs / "gan")
    if needs("classify", "w.safetensors"):
        os.rename(classify.learn(root) / "run", runs / "c")
    scores, zipped = ["--count", "20", "--scores", "fid", *FEATURES], str(root / "images.zip")
    gan, weights = str(runs / "gan"), str(runs / "w.safetensors")
    classified = ["classify", str(root / "classifier.yaml"), "--out", str(runs / "c"), "-q"]
    for wanted, arguments in (
        (needs("evaluate", "gan/scores.json"), ["evaluate", gan, *scores, "--checkpoint", "6"]),
        (needs("w.safetensors"), [*classified, "--export", weights]),
        (needs("s.npz"), ["fid", zipped, zipped, "--save-statistics", str(runs / "s.npz"), *FEATURES]),
        (needs("e.safetensors"), ["export", gan, "--to", str(runs / "e.safetensors")]),
        (needs("zoo add", "zoo/tiny.safetensors", "zoo/tiny.json"), ["zoo", "add", gan, "tiny", "--count", "20", *FEATURES]),
    ):
        if wanted and (ended := run(arguments, runs)).code:
            raise SystemExit(f"{' '.join(arguments)} fails without a fault: {ended.said}")
    if needs("sample two", "plot"):
        shutil.copytree(runs / "gan", runs / "twin")
    given = lambda *words: lambda folder: [word.format(folder) for word in words]  # {} stands for the folder
    grid, result = ["--count", "9", "--grid", "{}/g.png"], ["--json", "{}/f.json"]
    resnet = ["--features", "cifar_resnet", "--insist", "--weights", "{}/w.safetensors"]
    cases = [
        train,
        classify,
        Case("evaluate", given("evaluate", "{}/gan", *scores, "--checkpoint", "all"), runs),
        Case("neighbours", given("evaluate", "{}/gan", *scores, "--neighbours"), runs),
        Case("sample zip", given("sample", "{}/gan", "--count", "30", "--images", "{}/z.zip"), runs, ["--overwrite"]),
        Case("sample folder", given("sample", "{}/gan", "--count", "30", "--images", "{}/z"), runs),
        Case("sample two", given("sample", "{}/gan", "{}/twin", "--count", "9"), runs),
        Case("plot", given("plot", "{}/gan", "{}/twin", "--out", "{}/p.png"), runs, ["--overwrite"]),
        Case("export", given("export", "{}/gan", "--to", "{}/n.safetensors"), runs, ["--overwrite"]),
        Case(
            "zoo add",
            given("zoo", "add", "{}/gan", "tiny", "--count", "20", *FEATURES, "--checkpoint", "6", "--overwrite"),
            runs,
        ),
    ]
    readers = [
        Reader("gan/checkpoints/step_00000009.pt", given("sample", "{}/gan", *grid), "g.png"),
        Reader("gan/checkpoints/best.pt", given("sample", "{}/gan", "--checkpoint", "best", *grid), "g.png"),
        Reader("gan/config.yaml", given("sample", "{}/gan", *grid), "g.png"),
        Reader("gan/scores.json", given("evaluate", "{}/gan", *scores), "gan/scores.json"),
        Reader("gan/metrics.jsonl", given("plot", "{}/gan", "--out", "{}/p.png"), "p.png"),
        Reader("s.npz", given("fid", "{}/s.npz", zipped, *FEATURES, *result), "f.json"),
        Reader("w.safetensors", given("fid", zipped, zipped, *resnet, *result), "f.json"),
        Reader("e.safetensors", given("sample", "{}/e.safetensors", *grid), "g.png"),
        Reader("zoo/tiny.safetensors", given("sample", "zoo:tiny", *grid), "g.png"),
        Reader("zoo/tiny.json", given("sample", "zoo:tiny", *grid), "g.png"),
    ]

    def of_case(case: Case) -> Trial:
        def trial(runs: Path, root: Path, numbers: random.Random) -> str | None:
            if not case.wanted:
                shutil.rmtree(case.learn(root))
            return case.trial(root, numbers)

        return trial

    found: dict[str, Trial] = {case.name: of_case(case) for case in cases}
    found |= {reader.file: reader.trial for reader in readers}
    found["two at once"] = at_once
    if unknown := set(chosen or ()) - found.keys():
        raise SystemExit(f"there is no {sorted(unknown)[0]!r} to try; there are {', '.join(found)}")
    return {name: trial for name, trial in found.items() if needs(name)}, runs


def campaign(trials: int, seed: int, chosen: list[str] | None = None, say: Callable[[str], None] = print) -> list[str]:
    """What so many trials of the chosen kinds, or of all, found: a line each."""
    numbers, found = random.Random(seed), []
    plots.figure_bytes(plots.panels(1)[0])  # which imports what figures need: no fault is to hit that
    with contextlib.ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="faults-"))).resolve()
        os.environ["GAN_CACHE"] = str(root / "cache")
        kinds, runs = prepared(root, chosen)
        for trial in range(trials):
            if wrong := list(kinds.values())[trial % len(kinds)](runs, root, numbers):
                found.append(wrong)
                say(wrong)
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trials", type=int, default=210, help="of all kinds in turns")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="*", help="of trials: commands, and files that are damaged; default: all")
    given = parser.parse_args()
    wrong = campaign(given.trials, given.seed, given.kinds)
    print(f"{given.trials} trials, {len(wrong)} of them found something")
    sys.exit(bool(wrong))
