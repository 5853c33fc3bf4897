"""Entries are found without being listed anywhere but in the file that defines them."""

import sys

import pytest

from data.files import UserError
from metrics.registry import Registry


@pytest.fixture
def registry(tmp_path, monkeypatch):
    """A registry of the package `shelf`, and a function that writes a module into that package."""
    (tmp_path / "shelf").mkdir()
    (tmp_path / "shelf" / "__init__.py").write_text("")
    (tmp_path / "table_of_shelf.py").write_text("from metrics.registry import Registry\nTABLE = Registry('shelf')\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] in ("shelf", "table_of_shelf")]:
        monkeypatch.delitem(sys.modules, name)

    def write(module, *names):
        lines = ["from table_of_shelf import TABLE", *(f"TABLE.add({name!r}, {name.upper()!r}, __name__)" for name in names)]
        (tmp_path / "shelf" / f"{module}.py").write_text("\n".join(lines))

    return write


def test_every_module_of_the_package_has_registered_before_the_first_look(registry):
    registry("b", "x", "a")
    registry("a", "z")
    from table_of_shelf import TABLE

    assert list(TABLE.entries().items()) == [("z", "Z"), ("x", "X"), ("a", "A")]


def test_a_file_that_was_imported_first_keeps_its_place(registry):
    registry("b", "x")
    registry("a", "z")
    import shelf.b  # noqa: F401
    from table_of_shelf import TABLE

    assert list(TABLE.entries()) == ["z", "x"]


def test_a_name_is_taken_once_but_its_owner_may_replace_it():
    table = Registry("metrics.features")
    table.add("x", 1, "mine")
    table.add("x", 2, "mine")
    with pytest.raises(ValueError, match="theirs registers 'x', which mine has registered"):
        table.add("x", 3, "theirs")
    assert table.entries()["x"] == 2


def test_who_took_a_name_of_the_package_is_named_in_one_sentence(registry):
    registry("a", "z")
    from table_of_shelf import TABLE

    TABLE.add("z", "their own", "theirs")  # imported first, as the files of GAN_EXTENSIONS are
    with pytest.raises(UserError, match=r"^theirs registers 'z', which shelf\.a has registered: choose another name$"):
        TABLE.entries()
