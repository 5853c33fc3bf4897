"""Generators in a safetensors file: read as they were written, or refused in one sentence."""

import random

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import gan
from gan import weights
from gan.run_directory import RunError
from gan.weights import WeightsError


@pytest.fixture
def file(run, tmp_path):
    trained = gan.load(run, device="cpu")
    weights.write(trained.generator, trained.config, trained.step, tmp_path / "g.safetensors")
    return tmp_path / "g.safetensors"


def parts(file):
    with safe_open(file, framework="pt") as opened:
        names = opened.keys()
        return {name: opened.get_tensor(name) for name in names}, opened.metadata()


def rewrite(file, tensors=None, **header):
    """Another program's hand: no checksum is made anew, and None takes a word away."""
    state, before = parts(file)
    words = {key: value for key, value in {**before, **header}.items() if value is not None}
    save_file({**state, **(tensors or {})}, file, words)


def test_a_flipped_bit_changes_nothing_or_is_refused(file):
    whole, wanted, refused = file.read_bytes(), weights.read(file), 0
    choose = random.Random(0)
    places = [choose.randrange(len(whole)) for _ in range(60)] + [choose.randrange(8, 2500) for _ in range(60)]
    for place in places:
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << choose.randrange(8)]) + whole[place + 1 :])
        try:
            found = weights.read(file)
        except WeightsError as error:
            refused += 1
            assert "\n" not in str(error) and str(file) in str(error)
        else:
            assert (found.config, found.step, found.classes) == (wanted.config, wanted.step, wanted.classes)
            assert all(torch.equal(t, wanted.state[name]) for name, t in found.state.items())
    assert refused > 100


def test_a_number_or_a_setting_that_was_changed_is_told(file):
    state, _ = parts(file)
    name = next(iter(state))
    rewrite(file, {name: state[name] + 1e-3})
    with pytest.raises(WeightsError, match="is damaged \\(its bytes are not those that were written\\): fetch or write it again"):
        gan.load(file, device="cpu")


def test_a_file_of_before_has_no_checksum_and_is_taken_as_it_is(file, run):
    rewrite(file, sha256=None)
    assert torch.equal(gan.load(file, device="cpu").sample(2), gan.load(run, device="cpu").sample(2))


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi")
)


FOREIGN = [BOMB, "[" * 3000, "/etc/hostname", "- 1", "", "generator: {kernel: c9}", "no: settings"]


@pytest.mark.parametrize("text", FOREIGN, ids=range(len(FOREIGN)))
def test_foreign_settings_are_one_short_sentence(file, text):
    rewrite(file, config=text, sha256=None)
    with pytest.raises(WeightsError, match=r"the settings in .*g\.safetensors can't be read \(") as error:
        weights.read(file)
    assert "\n" not in str(error.value) and len(str(error.value)) < 600


def test_weights_that_are_not_finite_are_drawn_from_by_nothing(file):
    state, _ = parts(file)
    name = next(name for name, t in state.items() if t.is_floating_point())
    rewrite(file, {name: torch.full_like(state[name], float("nan"))}, sha256=None)
    with pytest.raises(RunError, match=r"g\.safetensors has diverged: its weights are not finite"):
        gan.load(file, device="cpu")
