"""How much room a disk has, asked before the work: else that ends in the middle."""

import shutil
from pathlib import Path

from data.files import UserError
from data.memory import in_words


def require_space(path: Path, size: float, what: str, advice: str) -> None:
    """UserError if so many bytes are more than is free where `path` lies or is to lie. what: 'a pack'; advice: 'choose another'."""
    place = Path(path).absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if size > free:
        raise UserError(f"{what} takes at least {in_words(size)}, and {in_words(free)} are free on the disk of {path}: {advice}")
