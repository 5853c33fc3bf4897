"""train.compile: the same training, and what stands in its way in one sentence."""

import shutil
import sysconfig

import pytest
import torch

from gan.models.build import resolve
from gan.processes import Processes
from gan.run_directory import read_log
from gan.settings import ConfigError
from gan.state import State
from gan.step import Step
from gan.training import train


def test_compile_without_the_headers_of_python_is_refused(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: name)
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    with pytest.raises(ConfigError, match=r"needs Python\.h, which isn't in .*: install the headers"):
        train(tiny("sngan", "train.compile=true", "train.device=cpu"), tmp_path / "run", progress=False)


def test_what_a_compiler_says_is_one_sentence(tiny, tmp_path, monkeypatch):
    from torch._inductor.exc import CppCompileError

    def fails(*_):
        raise CppCompileError(["g++"], "In file included from a.cpp:1:\nfatal error: Python.h: No such file\n" + "x\n" * 140)

    monkeypatch.setattr(Step, "compute", fails)
    with pytest.raises(ConfigError, match=r"couldn't compile the networks \(.*fatal error: Python\.h: No such file\)") as refusal:
        train(tiny(), tmp_path, progress=False)
    assert "\n" not in str(refusal.value)


@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="torch.compile needs a C++ compiler on the CPU")
def test_compile_matches_eager(tiny, tmp_path):
    config = resolve(tiny("sngan", "train.compile=true"))
    alone = Processes(0, 1, torch.device("cpu"))
    step = Step(config, alone, State(config, alone), None)
    assert all(isinstance(net, torch._dynamo.OptimizedModule) for net in (step.G, step.D, step.frozen_D))
    for compile_ in (False, True):
        train(tiny("sngan", f"train.compile={compile_}", "train.steps=4"), tmp_path / str(compile_), progress=False)
    eager, compiled = (read_log(tmp_path / str(c))[0] for c in (False, True))
    assert compiled == pytest.approx(eager, rel=1e-3, abs=1e-4)


def test_compile_without_a_compiler_is_refused(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(ConfigError, match=r"needs the C\+\+ compiler .*, which isn.t here"):
        train(tiny("sngan", "train.compile=true", "train.device=cpu"), tmp_path / "run", progress=False)


def test_compile_with_a_penalty_is_refused(tiny):
    for settings in (["objective.gradient_penalty=10"], ["objective.r1=1"], ["objective.r2=1", "objective.penalty_every=4"]):
        with pytest.raises(ConfigError, match=r"twice through compiled code.*penalty_form=finite_difference"):
            tiny("dcgan", "train.compile=true", *settings)
    with pytest.raises(ConfigError, match="twice through compiled code"):
        tiny("wgan_gp", "train.compile=true", "objective.penalty_form=finite_difference")
    tiny("dcgan", "train.compile=true", "objective.r1=1", "objective.penalty_form=finite_difference")
