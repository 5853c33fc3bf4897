"""The git revision of the code, for a run's record."""

import json
import subprocess
from pathlib import Path

from data.files import write_atomically

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


def noted(directory: Path) -> list[dict]:
    """All revisions that a run in this folder was trained with, the present one last; stored there in revisions.json."""
    file = directory / "revisions.json"
    try:
        before = [code for code in json.loads(file.read_text()) if code.keys() == {"commit", "changed"}]
    except (OSError, ValueError, TypeError, AttributeError):  # none yet, or torn
        before = []
    found = [*(code for code in before if code != revision()), revision()]
    if found != before:
        directory.mkdir(parents=True, exist_ok=True)
        write_atomically(file, json.dumps(found).encode())
    return found


def _git(*arguments: str) -> str:
    return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True, timeout=60).stdout
