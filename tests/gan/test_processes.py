"""Two processes that equal one, and what torchrun may have set wrongly."""

import shutil
import socket
import subprocess

import pytest
import torch

from gan.run_directory import read_log
from gan.settings import ConfigError
from gan.training import train
from metrics.devices import DeviceError
from tests.helpers import ROOT, assert_same, final_state

FINITE = ["objective.penalty_form=finite_difference", "objective.penalty_sigma=0.1"]


@pytest.mark.parametrize("name", ["WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_PORT"])
def test_a_variable_of_torchruns_that_is_no_number_is_named(tiny, tmp_path, monkeypatch, name):
    for variable in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(variable, "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv(name, "abc")
    with pytest.raises(ConfigError, match=f"{name}=abc is set in the environment, which is no number"):
        train(tiny(), tmp_path, progress=False)


def test_part_of_what_torchrun_sets_is_named(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(ConfigError, match="but not LOCAL_RANK, MASTER_ADDR, MASTER_PORT; start several processes with torchrun"):
        train(tiny("dcgan"), tmp_path, progress=False)


def test_cuda_is_refused_where_there_is_none(tiny, tmp_path):
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA GPU")
    with pytest.raises(DeviceError, match="no CUDA GPU"):
        train(tiny("dcgan", "train.device=cuda"), tmp_path, progress=False)


def torchrun(python, config, run):
    """Train in two processes; returns what they print."""
    file = run.parent / f"{run.name}.yaml"
    file.write_text(config.dump())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [python, "-m", "torch.distributed.run", "--nproc-per-node=2", f"--master-port={port}", "run_gan.py"]
    command += ["train", str(file), "--out", str(run), "-q"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=180)


@pytest.mark.parametrize("family", ["sngan", "wgan_gp"])
def test_two_processes_give_the_losses_of_one(quick_python, tiny, pictures, tmp_path, family):
    """Two ranks of batch 4 against one of batch 8, gloo on the CPU, no batch norm: to float tolerance. One is conditional."""
    more = [*FINITE, "objective.r1=1", "objective.penalty_sigma=1", "augment.colour=true", "augment.translation=0.125"]
    conditional = [f"dataset.path={pictures}", "generator.conditional=true", "generator.attention=16", "discriminator.attention=16"]
    more = more if family == "sngan" else ["objective.penalty_every=2", *conditional]
    config = tiny(family, "generator.norm=none", "train.steps=8", "train.log_every=2", "train.device=cpu", *more)
    train(config, tmp_path / "one", progress=False)
    done = torchrun(quick_python, config, tmp_path / "two")
    assert done.returncode == 0, done.stderr
    one, two = read_log(tmp_path / "one"), read_log(tmp_path / "two")
    assert len(one) == len(two) == 4
    for a, b in zip(one, two):
        assert a == pytest.approx(b, rel=1e-4, abs=1e-5)


def test_two_processes_resume_and_refuse_together(quick_python, tiny, tmp_path):
    """A run that stopped between two log lines logs as a whole one does; a refusal is one sentence, not two tracebacks."""
    whole = tiny("sngan", "generator.norm=none", "train.lr_decay=none", "train.log_every=6", "train.device=cpu")
    assert torchrun(quick_python, whole, tmp_path / "whole").returncode == 0
    shutil.copytree(tmp_path / "whole", tmp_path / "broken")
    (tmp_path / "broken/checkpoints/step_00000012.pt").unlink()  # back to step 10, within a window of six
    assert torchrun(quick_python, whole, tmp_path / "broken").returncode == 0
    assert (tmp_path / "whole/metrics.jsonl").read_bytes() == (tmp_path / "broken/metrics.jsonl").read_bytes()
    assert_same(final_state(tmp_path / "whole"), final_state(tmp_path / "broken"))

    refused = torchrun(quick_python, whole.replace({"train.seed": 1}), tmp_path / "whole")
    assert refused.returncode != 0
    ours = refused.stderr.split("ChildFailedError")[0]
    assert ours.count("train.seed: 0 -> 1") == 1 and "gan/training.py" not in ours
