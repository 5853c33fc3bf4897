"""Which code a run was made with, for its record."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
CODE = ("run_gan.py", "cli", "study", "gan", "metrics", "data")


def revision() -> dict[str, str | bool | None]:
    """{"commit": the one that is checked out, "changed": whether the code differs from it}; None for both where git can't say."""
    try:
        top, commit = _git("rev-parse", "--show-toplevel", "HEAD").split()
        if Path(top).resolve() != ROOT.resolve():  # a copy of the code within somebody else's repository
            return {"commit": None, "changed": None}
        return {"commit": commit, "changed": bool(_git("status", "--porcelain", "--", *CODE).strip())}
    except (OSError, subprocess.SubprocessError, ValueError):
        return {"commit": None, "changed": None}


def _git(*arguments: str) -> str:
    return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True, timeout=60).stdout
