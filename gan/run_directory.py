"""A run's directory: where each of its files lies, and what keeps two processes, or two experiments, out of the same one."""

import contextlib
import json
import os
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

import filelock

from data.files import UserError, locked, reason, remove_abandoned, write_atomically
from gan import checkpoint, weights, zoo
from gan.config import Config
from gan.settings import ConfigError, OtherCommand, Tree

AnyConfig = TypeVar("AnyConfig", bound=Tree)


class RunError(UserError):
    """A run can't start, go on, or be read; the message says why and what to do."""


class RunFiles:
    """The paths of the files of a run of `train` or `classify`. Creating the object touches none of them.

    TensorBoard's event files lie beside them.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.lock = self.path / ".lock"  # while a process trains, or after one that was killed
        self.settings_file = self.path / "config.yaml"
        self.metrics = self.path / "metrics.jsonl"  # losses and scores: a function of the settings
        self.timing = self.path / "timing.jsonl"
        self.checkpoints = self.path / "checkpoints"
        self.best = self.checkpoints / checkpoint.BEST  # the checkpoint with the best score in training
        self.samples = self.path / "samples"
        self.curves = self.path / "curves.png"
        self.scores = self.path / "scores.json"  # of `evaluate`
        self.scores_figure = self.path / "scores.png"
        self.probe = self.path / "probe.json"
        self.probe_figure = self.path / "probe.png"
        self.neighbours = self.path / "neighbours.json"  # of `evaluate --neighbours`
        self.neighbours_figure = self.path / "neighbours.png"
        self.result = self.path / "result.json"  # of a classifier
        self.confusion = self.path / "confusion.png"

    def grid(self, step: int) -> Path:
        """The picture of the fixed latents at a step."""
        return self.samples / f"step_{step:08d}.png"

    def latest(self) -> Path | None:
        """The newest checkpoint, or None."""
        return (checkpoint.saved(self.checkpoints) or [None])[-1]

    def checkpoint_of(self, step: int | str | None) -> Path:
        """The checkpoint of a step, the "best", or (None, "last") the last. RunError if it isn't there."""
        if step == "best":
            if not self.best.exists():
                raise RunError(f"{self.path} keeps no best checkpoint; train it with evaluate.every=1000, say")
            return self.best
        found = checkpoint.saved(self.checkpoints)
        if not found:
            raise RunError(f"{self.path} has no checkpoint yet; train it first")
        if step in (None, "last"):
            return found[-1]
        if isinstance(step, str):
            if not step.isdecimal():
                raise RunError(f"a checkpoint is that of a step, best or last, not {step!r}")
            step = int(step)
        if checkpoint.path_of(self.checkpoints, step) not in found:
            steps = ", ".join(str(checkpoint.step_of(p)) for p in found)
            raise RunError(f"{self.path} has no checkpoint of step {step}; it has {steps}")
        return checkpoint.path_of(self.checkpoints, step)

    def require_log(self, saved: dict) -> None:
        """RunError if metrics.jsonl isn't, up to the step of a checkpoint, what it was when that was saved.

        One that isn't there begins anew; checkpoints of before know nothing of it.
        """
        if "log" in saved and self.metrics.exists():
            kept = [line for line, at in _lines(self.metrics) if at <= saved["step"]]
            if sha256(_text(kept)).hexdigest() != saved["log"]:
                raise RunError(
                    f"{self.metrics} is damaged: its lines up to step {saved['step']} are not those that were written; put them "
                    "back, or delete the file, which then begins anew"
                )


class RunDirectory(RunFiles):
    """Opened with `with RunDirectory(path, config)`: creates or reopens the directory and locks it until the end of the block.

    An existing run is resumed if its settings are the same, and refused with the list of differences (RunError) if they aren't.
    `metrics.jsonl` holds what the training computed, a function of the settings alone; `timing.jsonl` how long it took.
    """

    def __init__(self, path: str | Path, config: Tree):
        super().__init__(path)
        self.config = config
        self._held = contextlib.ExitStack()

    def __enter__(self) -> "RunDirectory":
        try:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            self.samples.mkdir(exist_ok=True)
        except OSError as error:
            raise RunError(f"{self.path} can't be used as a run directory: {reason(error)}; choose another with --out") from None
        try:
            self._held.enter_context(locked(self.lock))
        except filelock.Timeout:
            raise RunError(f"{self.path} is in use by another training process; wait for it, or choose another --out") from None
        try:
            for folder in (self.path, self.checkpoints, self.samples):
                remove_abandoned(folder)
            self._compare_config()
        except BaseException:
            self._held.close()
            raise
        return self

    def __exit__(self, *exception) -> None:
        self._held.close()

    def _compare_config(self) -> None:
        file = self.settings_file
        if file.exists():
            old = read_config(self.path, type(self.config))  # of another command's run, too, which isn't replaced
            changes = old.difference(self.config) if begun(self.path) else []
            if changes:
                raise RunError(
                    f"{self.path} holds a run with other settings ({'; '.join(changes)}); "
                    "choose another directory with --out, or go back to its settings"
                )
        elif any(self.checkpoints.glob("*.pt")):
            raise RunError(f"{self.path} has checkpoints but no config.yaml; put it back, or choose another --out")
        write_atomically(file, self.config.dump().encode())

    def truncate_logs(self, step: int) -> None:
        """Cut the logs back to a step: a resumed run writes the later lines again. A line torn by a crash goes too."""
        for file in (self.metrics, self.timing):
            if file.exists():
                write_atomically(file, _text([line for line, at in _lines(file) if at <= step]))

    def log(self, name: str, record: dict) -> None:
        """Append one line to `name`.jsonl: metrics or timing."""
        with open(self.path / f"{name}.jsonl", "a") as file:
            file.write(json.dumps(record) + "\n")

    def log_sha256(self) -> str:
        """Of metrics.jsonl, which is on the disk then: for a checkpoint, up to whose step no line is written again."""
        if not self.metrics.exists():
            return sha256().hexdigest()
        with open(self.metrics, "rb") as file:
            os.fsync(file.fileno())
            return sha256(file.read()).hexdigest()


def begun(path: Path) -> bool:
    """Whether a run has logged or saved anything yet. Until then its settings may change: it may have failed to open its data."""
    files = RunFiles(path)
    return files.metrics.exists() or any(files.checkpoints.glob("*.pt"))


def begun_config(path: str | Path, kind: type[AnyConfig] = Config) -> AnyConfig | None:
    """The settings of a run that has begun, whose precision it keeps; None where there is none. RunError as read_config."""
    return read_config(path, kind) if begun(Path(path)) and RunFiles(path).settings_file.exists() else None


def finished(path: str | Path, config: Tree) -> bool:
    """Whether a run with these settings has nothing left to do: its last checkpoint and the pictures that come after it are there,
    and no killed process has left anything else.

    No images or weights are loaded for it. A run with other settings counts as unfinished: opening it says what differs.
    """
    files, kept = RunFiles(path), begun_config(path, type(config))
    last = files.latest()
    if kept is None or last is None or files.lock.exists() or kept.difference(config.settled("cpu", kept)):
        return False
    step = checkpoint.step_of(last)
    return step == config.train.steps and files.curves.is_file() and files.grid(step).is_file()


def _text(lines: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def _lines(file: Path) -> list[tuple[str, float]]:
    """The lines of a log with their steps; infinity for a last one that a crash has torn. RunError for any other torn one."""
    *lines, last = file.read_bytes().decode(errors="replace").split("\n")
    found = [(line, _step(line)) for line in lines]
    torn = next((i for i, (_, step) in enumerate(found, 1) if step == float("inf")), None)
    if torn:
        raise RunError(f"{file} is damaged in line {torn}: mend that line or delete it, and repeat the command")
    return [*found, (last, _step(last))] if last else found


def _step(line: str) -> float:
    with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
        step = json.loads(line)["step"]
        if isinstance(step, int | float):
            return step
    return float("inf")


def read_config(path: str | Path, kind: type[AnyConfig] = Config) -> AnyConfig:
    """The settings of a finished or running run, of zoo:NAME or of a .safetensors. RunError if `path` is not a run directory.

    kind: the Config of the command that made it; gan.classification.config has that of `classify`.
    """
    weights_file = zoo.file_of(path)
    if weights_file is not None and kind is Config:
        return weights.read(weights_file).config
    file = RunFiles(path).settings_file
    if not file.is_file():
        raise RunError(f"{path} is not a run directory: it has no config.yaml; train one with `python run_gan.py train`")
    try:
        return kind.load_saved(file)
    except OtherCommand as error:
        raise RunError(f"{path} is a run of `{error.command}`; choose another directory") from None
    except ConfigError as error:
        raise RunError(f"the settings of {path} can't be read: {error}") from None


def read_log(path: str | Path, name: str = "metrics") -> list[dict]:
    """The records of metrics.jsonl or timing.jsonl; [] if there is none yet. A torn last line is left out."""
    file = Path(path) / f"{name}.jsonl"
    if not file.exists():
        return []
    return [json.loads(line) for line, step in _lines(file) if step < float("inf")]
