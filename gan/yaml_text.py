"""A YAML reader for settings, without YAML's surprises; whatever it refuses it explains in one line.

010 is not 8, 1:30 not 90, 2020-01-01 not a date: they stay text, which pydantic converts where a number is wanted. A key may occur
once in a mapping. The values that aliases expand to are counted before they are built.
"""

import re
import reprlib
from typing import Any

import yaml

from data.files import in_short

LONGEST = 2**22  # bytes of a file
MOST = 100_000  # values that a text may expand to

_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 80
_REPR.maxlevel = 3


class YamlError(Exception):
    """A text can't be read; the message says why, on one line."""


class _Loader(yaml.SafeLoader):
    pass


_OTHER = {"int", "float", "timestamp"}
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if tag.rpartition(":")[2] not in _OTHER]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_INT = r"[-+]?(?:0|[1-9][0-9_]*|0x[0-9a-fA-F_]+|0b[01_]+)$"
_FLOAT = r"(?:[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+][0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(_INT), list("-+0123456789"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(_FLOAT), list("-+.0123456789"))


def read(text: str | bytes) -> Any:
    """The value of a YAML text. YamlError for a text that is malformed, ambiguous or too large."""
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _count(node, {})
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except YamlError:
        raise
    except RecursionError:
        raise YamlError("it is nested too deeply") from None
    except MemoryError:
        raise
    except Exception as error:  # foreign text makes PyYAML raise a dozen kinds of error
        raise YamlError(in_short(error, 300)) from None


def _count(node: yaml.Node, known: dict[int, int]) -> int:
    """How many values a node expands to. known: counts of nodes seen before; 0 while a node is still being counted."""
    if isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) in known:
        if not known[id(node)]:
            raise YamlError(f"the alias in line {node.start_mark.line + 1} contains itself")
        return known[id(node)]
    known[id(node)] = 0
    parts = node.value
    if isinstance(node, yaml.MappingNode):
        _require_single_keys(node)
        parts = [part for pair in node.value for part in pair]
    total = 1 + sum(_count(part, known) for part in parts)
    if total > MOST:
        raise YamlError(f"it expands to more than {MOST:,} values")
    known[id(node)] = total
    return total


def _require_single_keys(node: yaml.MappingNode) -> None:
    seen = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode):
            if (key.tag, key.value) in seen:
                raise YamlError(f"the key {shown(key.value)} occurs twice, the second time in line {key.start_mark.line + 1}")
            seen.add((key.tag, key.value))


def shown(value: object) -> str:
    """A value as a message shows it: its repr, cut where that is long."""
    if isinstance(value, int) and abs(value) >= 10**40:  # Python refuses to print the largest
        return "a number of more than 40 digits"
    return _REPR.repr(value)
