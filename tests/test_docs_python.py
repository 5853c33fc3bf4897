"""Every example of docs/python.md, as doctest finds it, in one session and a folder of its own."""

import doctest

import pytest

import gan
import metrics
from tests.helpers import ROOT

PAGE = ROOT / "docs/python.md"


@pytest.mark.filterwarnings("ignore:.*images are no more than the.*features")
def test_the_examples_of_the_page_do_what_they_say(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = PAGE.read_text().replace("```", "\n")  # the end of a block ends the output
    found = doctest.DocTestParser().get_doctest(text, {}, PAGE.name, str(PAGE), 0)
    report = []
    failed, tried = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS, verbose=False).run(found, out=report.append)
    assert failed == 0, "".join(report)
    assert tried > 25


def test_the_page_names_every_exported_name():
    text = PAGE.read_text()
    missing = [
        f"{package.__name__}.{name}"
        for package in (gan, metrics)
        for name in package.__all__
        if f"`{package.__name__}.{name}" not in text
    ]
    assert missing == []
