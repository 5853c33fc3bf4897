"""A registry: each entry is registered by the file that defines it, so that a new one changes no other file."""

from importlib import import_module
from pkgutil import iter_modules
from typing import Generic, TypeVar

from data.files import UserError

Entry = TypeVar("Entry")


class TakenError(UserError, ValueError):
    """Two modules register one name."""


class Registry(Generic[Entry]):
    """Entries by name. The modules of `package` are imported before a lookup, so that their entries are registered.

    A module outside of that package registers its entries when somebody imports it.
    """

    def __init__(self, package: str):
        self._package = package
        self._entries: dict[str, tuple[str, Entry]] = {}  # name: module and entry

    def add(self, name: str, entry: Entry, module: str) -> None:
        """Register an entry. TakenError if another module has taken the name; the same module may replace its own (notebooks)."""
        owner = self._entries.get(name, (module,))[0]
        if owner != module:
            second, first = (
                (owner, module) if module.startswith(f"{self._package}.") else (module, owner)
            )  # the user's is to change
            raise TakenError(f"{second} registers {name!r}, which {first} has registered: choose another name")
        self._entries[name] = module, entry

    def entries(self) -> dict[str, Entry]:
        """All of them: in alphabetical order of modules, within a module in the order in which they stand there."""
        for module in iter_modules(import_module(self._package).__path__):
            if not module.ispkg:
                import_module(f"{self._package}.{module.name}")
        return {name: entry for name, (_, entry) in sorted(self._entries.items(), key=lambda item: item[1][0])}
