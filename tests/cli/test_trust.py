"""Code that a settings file names runs if the user wrote the file, typed the name, or has said that it may."""

import pytest

from cli.trust import TrustError, require_trust

NAME = "module:theirs.network"


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GAN_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("place", ["run/config.yaml", "study.yaml", ".study.yaml", "."])
def test_a_file_from_elsewhere_is_asked_about_once(tmp_path, place):
    file = tmp_path / place
    with pytest.raises(
        TrustError, match=f"names {NAME}, a Python function that would run here: if you know whose it is, say --trust"
    ):
        require_trust(file, ["efficientnet_lite0", NAME], [], trust=False)
    require_trust(file, [NAME], [], trust=True)
    require_trust(file, [NAME], [], trust=False)
    with pytest.raises(TrustError, match="module:other"):
        require_trust(file, [NAME, "module:other.network"], [], trust=False)


def test_names_of_ones_own_are_not(tmp_path):
    require_trust(
        tmp_path / "config.yaml", ["module:typed.net", None, "inception"], ["evaluate.features=module:typed.net"], trust=False
    )
    require_trust(tmp_path / "mine.yaml", [NAME], [], trust=False)
    require_trust(tmp_path / "study.yaml", [NAME], [], trust=False)  # the study that was begun with it


def test_a_cache_that_cannot_be_written_asks_again(tmp_path, monkeypatch):
    (tmp_path / "cache").touch()
    require_trust(tmp_path / "study.yaml", [NAME], [], trust=True)
    with pytest.raises(TrustError):
        require_trust(tmp_path / "study.yaml", [NAME], [], trust=False)
