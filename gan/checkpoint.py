"""Checkpoints: plain tensors and numbers in one file, written beside, synced, renamed. A crash leaves the old one whole.

They load with torch.load(weights_only=True): no code is ever unpickled.
"""

import errno
import io
import re
from pathlib import Path

import torch

from data.files import UserError, write_atomically

BEST = "best.pt"
NAME = re.compile(r"step_(\d+)\.pt")


class CheckpointError(UserError):
    """A checkpoint can't be written or read; the message says which and what to do."""


def path_of(directory: Path, step: int) -> Path:
    return directory / f"step_{step:08d}.pt"


def saved(directory: Path) -> list[Path]:
    """The finished checkpoints of a directory, oldest first."""
    return sorted((p for p in directory.glob("step_*.pt") if NAME.fullmatch(p.name)), key=step_of)


def step_of(path: Path) -> int:
    return int(NAME.fullmatch(path.name)[1])


def save(state: dict, directory: Path, step: int, keep: int, name: str | None = None) -> Path:
    """Write the checkpoint of a step, then drop all but the newest `keep`. CheckpointError if the disk refuses.

    name: another file name, such as BEST, which is replaced and never dropped.
    """
    path = directory / name if name else path_of(directory, step)
    buffer = io.BytesIO()
    torch.save(state, buffer)
    try:
        write_atomically(path, buffer.getbuffer())
    except OSError as error:
        what = "the disk is full" if error.errno == errno.ENOSPC else error.strerror
        last = saved(directory)
        rest = f"{last[-1].name} is whole: mend that and repeat the command to go on from it" if last else "nothing was saved yet"
        raise CheckpointError(f"step {step} can't be saved in {directory}: {what}; {rest}") from error
    if name is None:
        for old in saved(directory)[:-keep]:
            old.unlink(missing_ok=True)
    return path


def load(path: Path) -> dict:
    """Read a checkpoint onto the CPU. CheckpointError if there is none, or the file is not one of ours."""
    if not path.is_file():
        raise CheckpointError(f"no checkpoint {path}")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torn or foreign bytes make the reader raise a dozen kinds of error
        reason = error.strerror if isinstance(error, OSError) else type(error).__name__
        raise CheckpointError(f"{path} can't be read ({reason}); delete it to go on from the one before it") from None
    if not isinstance(state, dict) or "step" not in state:
        raise CheckpointError(f"{path} is not a checkpoint of this program; delete it to go on from the one before it")
    return state
