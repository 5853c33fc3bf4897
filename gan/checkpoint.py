"""Checkpoints: tensors and numbers in one file, written under another name, synced and renamed, so that a crash leaves the old one.

They load with torch.load(weights_only=True): no code is ever unpickled. A file is the zip that torch.save writes, with the sha256
of all its bytes in the zip's comment, which is checked before the file is used. Older files have none; for those the zip's own
CRC-32s are checked.
"""

import contextlib
import io
import re
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from data.checksums import sealed_zip, whole_zip
from data.files import UserError, reason, replacing
from data.memory import lacks_memory
from gan.settings import Tree

BEST = "best.pt"
NAME = re.compile(r"step_([0-9]+)\.pt")

LENGTHS = ("train.steps",)  # may grow: it stays the same run


class CheckpointError(UserError):
    """A checkpoint can't be written, read or used; the message says which and what to do."""


def path_of(directory: Path, step: int) -> Path:
    return directory / f"step_{step:08d}.pt"


def saved(directory: Path) -> list[Path]:
    """The finished checkpoints of a directory, oldest first."""
    return sorted((p for p in directory.glob("step_*.pt") if NAME.fullmatch(p.name)), key=step_of)


def step_of(path: Path) -> int:
    return int(NAME.fullmatch(path.name)[1])


# --- writing -----------------------------------------------------------------------------------------------------------------


def save(state: dict, directory: Path, step: int, keep: int, name: str | None = None) -> Path:
    """Write the checkpoint of a step, then delete all but the newest `keep`. CheckpointError if it can't be written.

    name: another file name, such as BEST, which is overwritten and never deleted.
    """
    path = directory / name if name else path_of(directory, step)
    buffer = io.BytesIO()
    torch.save(state, buffer)
    try:
        with replacing(path) as file:
            file.write(sealed_zip(buffer))
    except OSError as error:
        last = latest_good(directory)
        rest = f"{last.name} is whole: fix that and repeat the command to go on from it" if last else "nothing was saved yet"
        raise CheckpointError(f"step {step} can't be saved in {directory}: {reason(error)}; {rest}") from error
    if name is None:
        prune(directory, keep)
    return path


def prune(directory: Path, keep: int) -> None:
    """Delete all but the newest `keep` checkpoints, also those that a killed run hadn't deleted yet."""
    for old in saved(directory)[:-keep]:
        old.unlink(missing_ok=True)


# --- reading -----------------------------------------------------------------------------------------------------------------


def load(path: Path) -> dict:
    """Read a checkpoint onto the CPU. CheckpointError: missing, damaged, of another program, or of another step than its name."""
    if not path.is_file():
        raise CheckpointError(f"no checkpoint {path}")
    try:
        sound = whole_zip(path)
        state = torch.load(path, map_location="cpu", weights_only=True) if sound else None
    except OSError as error:
        raise CheckpointError(f"{path} can't be read ({reason(error)}): fix that") from None
    except Exception as error:  # torn or foreign bytes make the reader raise a dozen kinds of error
        if lacks_memory(error):
            raise
        raise CheckpointError(f"{path} is damaged ({type(error).__name__}); {_instead(path)}") from None
    if not sound:
        raise CheckpointError(f"{path} is damaged (its bytes are not those that were written); {_instead(path)}")
    if not isinstance(state, dict) or type(state.get("step")) is not int:
        raise CheckpointError(f"{path} is not a checkpoint of this program; {_instead(path)}")
    if NAME.fullmatch(path.name) and step_of(path) != state["step"]:
        raise CheckpointError(f"{path} holds step {state['step']}, not the one of its name; {_instead(path)}")
    return state


def _instead(path: Path) -> str:
    """What to do about a checkpoint that can't be used."""
    if not NAME.fullmatch(path.name):
        return "delete it, and the next score in training keeps another"
    before = [other for other in saved(path.parent) if step_of(other) < step_of(path)]
    return f"delete it, the one before is {before[-1].name}" if before else "delete it; there is none before it to go on from"


@contextlib.contextmanager
def load_errors(path: Path) -> Iterator[None]:
    """Errors of loading a checkpoint into a state become a CheckpointError: the file belongs to another run or version."""
    try:
        yield
    except KeyError as error:
        raise CheckpointError(f"{path} lacks {error}, so another program or version wrote it; {_instead(path)}") from error
    except (RuntimeError, ValueError, TypeError, AttributeError, IndexError) as error:
        line = " ".join(str(error).split())[:160]
        raise CheckpointError(f"{path} is of other networks than this run's ({line}); {_instead(path)}") from error


def require_settings(state: dict, config: Tree, path: Path) -> None:
    """CheckpointError if a checkpoint was written under other settings than its run has: it belongs to another run."""
    kept = state.get("settings", {})  # older checkpoints have none
    unlike = [f"{key}: {kept[key]} there, {value} here" for key, value in settings(config).items() if kept.get(key, value) != value]
    if unlike:
        raise CheckpointError(f"{path} is of another run ({'; '.join(unlike)}); put back this run's own, or {_instead(path)}")


def settings(config: Tree) -> dict:
    """The settings that decide what a run computes; they are stored in its checkpoints."""
    return {key: value for key, value in config.values().items() if key not in config.RUNTIME and key not in LENGTHS}


# --- finite weights ----------------------------------------------------------------------------------------------------------


def finite(state: dict) -> bool:
    """Whether every weight and buffer of a checkpoint's networks, the EMA included, is finite."""
    networks = [part for name in ("generator", "discriminator", "ema", "model") if isinstance(part := state.get(name), dict)]
    return all_finite([value for part in networks for value in part.values() if isinstance(value, Tensor)])


def all_finite(tensors: list[Tensor]) -> bool:
    """Whether every value is finite; integers always are."""
    floats = [tensor.detach() for tensor in tensors if tensor.is_floating_point() and tensor.numel()]
    return not floats or bool(torch.stack(torch._foreach_norm(floats)).isfinite().all())


def latest_good(directory: Path) -> Path | None:
    """The newest checkpoint that can be read and whose weights are all finite; None without one."""
    for path in reversed(saved(directory)):
        with contextlib.suppress(CheckpointError):
            if finite(load(path)):
                return path
    return None
