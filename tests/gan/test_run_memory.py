"""What cannot fit is refused before it starts; what could is never."""

import subprocess
import sys

import pytest
import torch

from data import memory
from gan.classification.config import Config as Classifier
from gan.config import Config
from gan.memory import require_memory, require_memory_to_train
from gan.run_directory import RunError
from tests.helpers import ROOT

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    "kind, overrides",
    [
        (Config, ["train.batch_size=10000000"]),
        (Config, ["generator.latent=100000000000"]),
        (Config, ["generator.latent=1000000000000000000"]),
        (Config, ["generator.width=1e9"]),
        (Config, ["generator.width=100000", "generator.width_rule=equal_parameters"]),
        (Config, ["generator.family=sngan", "discriminator.width=1e6"]),
        (Classifier, ["train.batch_size=100000000"]),
        (Classifier, ["model.width=1000000"]),
    ],
    ids=str,
)
def test_a_run_that_cannot_fit_is_refused_in_a_moment(kind, overrides):
    with pytest.raises(
        RunError, match=r"takes? (at least [\d.,]+ .iB of memory, and there are|more memory than any).*lower train\.batch_size"
    ):
        require_memory_to_train(kind.load(None, overrides), CPU)


def test_a_run_that_fits_is_let_be(monkeypatch):
    for config in (
        Config.load(None),
        Config.load(None, ["generator.family=landscape", "dataset.resolution=128"]),
        Classifier.load(None),
    ):
        require_memory_to_train(config, CPU)
    require_memory_to_train(Config.load(None, ["train.batch_size=10000000"]), torch.device("cuda"))  # which will say so itself
    monkeypatch.setattr(memory, "_of_the_machine", lambda: None)
    monkeypatch.setattr(memory, "_of_the_container", lambda: None)
    require_memory(2**80, "it", "do")


def test_an_estimate_is_less_than_what_the_weights_take():
    from gan.memory import _networks
    from gan.models.build import build, resolve

    config = resolve(Config.load(None, ["generator.width=8"]))
    g, d = (sum(p.numel() for p in net.parameters()) for net in build(config))
    with torch.device("meta"):
        found = [(sum(p.numel() for p in network.parameters()), copies) for network, copies, _ in _networks(config)]
    assert found == [(g, 5), (d, 4)]


def test_a_run_does_not_wait_for_pytorchs_compiler_or_torchvision(tmp_path):
    code = """if True:
        import sys, torch
        from gan.config import Config
        from gan.memory import require_memory_to_train, space_to_train
        from gan.training import train
        def nothing_slow(when):
            assert not {"torch._dynamo", "torch._inductor", "sympy", "torchvision"} & sys.modules.keys(), when
        for told in ("family=dcgan", "family=sngan", "family=r3", "conditional=true", "spectral_norm=true"):
            config = Config.load(None, [f"generator.{told}", "generator.kernel=c2sp", "generator.width_rule=equal_parameters"])
            require_memory_to_train(config, torch.device("cpu"))
            space_to_train(config, "nowhere")
            nothing_slow(told)
        small = ["generator.width=4", "discriminator.width=4", "train.batch_size=4", "train.device=cpu", "evaluate.every=0"]
        for steps in (1, 2):  # the second is read back
            train(Config.load(None, [*small, f"train.steps={steps}"]), sys.argv[1], progress=False)
            nothing_slow(f"step {steps}")
    """
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, check=True)
