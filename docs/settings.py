"""docs/settings.md, a table of every setting with its default and its reason, from the code that defines them.

python docs/settings.py
"""

import inspect
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import yaml
from pydantic.fields import FieldInfo

from data.files import write_atomically
from gan import config
from gan.classification import config as classification
from gan.settings import Section, Tree, choices

PAGE = Path(__file__).parent / "settings.md"
HEAD = """# Settings

Made by `python docs/settings.py` from [gan/config.py](../gan/config.py) and
[gan/classification/config.py](../gan/classification/config.py). Each is a key of a YAML file, or typed:
`train configs/quickstart.yaml train.seed=1`. `null` as a default means what the last column says. Where that says nothing, a norm,
kernel or width is as the family was published, and anything else is off. Those marked * may change when a run goes on, and
`train.steps` may grow. A mistyped key is answered with the nearest right one. These are the defaults of a file that leaves a key
out; plain `train` takes the values of [configs/quickstart.yaml](../configs/quickstart.yaml), plain `classify` those of
resnet20_cpu.yaml.
"""


ENVIRONMENT = """
## Environment variables

| variable | what | without it |
|---|---|---|
| `GAN_DATA` | folder with data sets, where `dataset.path` and archives are looked for ([data.md](data.md)) | `datasets/` |
| `GAN_CACHE` | folder for what can be made again: statistics, decoded copies, indices, downloaded weights | `~/.cache/gan-scores` |
| `GAN_COPIES` | GiB that decoded copies of data sets may take; 0 keeps none ([data.md](data.md)) | 4 |
| `GAN_EXTENSIONS` | Python files or modules with parts of your own ([extending.md](extending.md)) | none |
| `GAN_ZOO` | folder of the trained generators that `zoo:NAME` means ([python.md](python.md)) | `zoo/` |
"""


def main() -> None:
    write_atomically(PAGE, page().encode())


def page() -> str:
    sections = ["## `train`\n", table(config.Config), "\n## `classify`\n", table(classification.Config), ENVIRONMENT]
    return "\n".join([HEAD, *sections])


def table(tree: type[Tree]) -> str:
    lines = ["| key | default | values | what |", "|---|---|---|---|"]
    for name, section in tree.model_fields.items():
        said = reasons(section.annotation)
        for key, field in section.annotation.model_fields.items():
            dotted = f"{name}.{key}"
            star = "*" if dotted in tree.RUNTIME else ""
            cells = [f"`{dotted}`{star}", f"`{in_yaml(field.default)}`", values(field), said.get(key, "")]
            lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines)


def in_yaml(value: object) -> str:
    return yaml.safe_dump(value).removesuffix("...\n").strip()


def values(field: FieldInfo) -> str:
    """Names to choose from, or the kind of value and its bounds."""
    if names := [name for name in choices(field.annotation) if not isinstance(name, type)]:  # of a Literal
        return ", ".join(f"`{in_yaml(name)}`" for name in names)
    kinds = {"bool": "true or false", "int": "whole number", "float": "number", "str": "text"}
    kind = next(text for name, text in kinds.items() if name in str(field.annotation))
    signs = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}
    bounds = [f"{signs[name]} {getattr(bound, name)}" for bound in field.metadata for name in signs if hasattr(bound, name)]
    return " ".join([kind, ", ".join(bounds)]).strip()


def reasons(section: type[Section]) -> dict[str, str]:
    """{key: the comment behind it}, those of the classes that it builds on included."""
    found = {}
    for part in reversed(section.__mro__):
        if issubclass(part, Section):
            found |= dict(re.findall(r"^    (\w+): .*?  # (.+)$", inspect.getsource(part), re.MULTILINE))
    return found


if __name__ == "__main__":
    main()
