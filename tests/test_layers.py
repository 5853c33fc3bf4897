"""Imports run one way: run_gan → cli → study → gan → metrics → data; and no package's __init__ holds code of its own."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = ["data", "metrics", "gan", "study", "cli"]  # each may import itself and what stands before it
FILES = [file for floor in FLOORS for file in sorted((ROOT / floor).rglob("*.py"))]


def imported(file: Path) -> set[str]:
    """The top-level packages that a file imports, anywhere in it."""
    nodes = list(ast.walk(ast.parse(file.read_text())))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom) and not node.level]
    package = file.relative_to(ROOT).parts[0]
    names += [package for node in nodes if isinstance(node, ast.ImportFrom) and node.level]
    return {name.partition(".")[0] for name in names}


def test_there_are_files_to_look_at():
    assert len(FILES) > 80 and all((ROOT / floor / "__init__.py").exists() for floor in FLOORS)


@pytest.mark.parametrize("floor", FLOORS)
def test_nothing_imports_what_stands_above_it(floor):
    above = set(FLOORS[FLOORS.index(floor) + 1 :]) | {"tests", "benchmarks"}
    wrong = {str(file.relative_to(ROOT)): imported(file) & above for file in (ROOT / floor).rglob("*.py")}
    assert {file: names for file, names in wrong.items() if names} == {}


@pytest.mark.parametrize("file", [file for file in FILES if file.name == "__init__.py"], ids=lambda f: str(f.relative_to(ROOT)))
def test_an_init_only_exports(file):
    allowed = ast.Import | ast.ImportFrom | ast.Expr | ast.Assign  # imports, a docstring, __all__
    other = [node for node in ast.parse(file.read_text()).body if not isinstance(node, allowed)]
    lazy = [node for node in other if isinstance(node, ast.FunctionDef) and node.name == "__getattr__"]  # PEP 562
    assert other == lazy


def test_the_layers_that_are_installed_need_nothing_but_torch_and_each_other():
    names = [
        module.partition(".")[2]
        for module in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["py-modules"]
    ]
    assert {"kernels", "padding", "fast_padding", "fusing"} <= set(names)
    for file in [ROOT / f"gan/{name}.py" for name in names]:
        assert imported(file) <= {"torch", "gan", "collections", "contextlib", "functools", "itertools", "platform", "typing"}
        relative = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.ImportFrom) and node.level]
        assert {name for node in relative for name in ([node.module] if node.module else [a.name for a in node.names])} <= set(
            names
        )
        assert not re.search(r"^\s*(from|import) gan\b", file.read_text(), re.MULTILINE), "installed, they are in another package"
