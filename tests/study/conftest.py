"""Studies of made-up results, and studies whose runs take a second."""

import base64
import os
import sys

import numpy as np
import pytest
import yaml

from study.folder import ADOPTED, StudyFolder
from study.launch import Ended
from study.run import run_job
from study.study import Study
from tests.helpers import leave_result
from tests.study.results import MODEL, result

SMALL = {
    "generator.width": 4, "discriminator.width": 4, "generator.latent": 8, "train.batch_size": 8, "train.steps": 8,
    "train.log_every": 2, "train.checkpoint_every": 4, "train.sample_every": 8, "train.device": "cpu", "evaluate.every": 2,
    "evaluate.samples": 20, "evaluate.features": "module:tiny_features.build",
}  # fmt: skip


@pytest.fixture
def study(study_file, tmp_path):
    """study(values by row label) -> the study and its folder, with these final scores, seed by seed; a dict is a whole result."""

    def made(values, **changes):
        changes = {"scoring": {"samples": 5000}, **changes}  # other than in training, whose scores are then not averaged with these
        loaded = Study.load(study_file(axes={"generator.kernel": list(values)}, settings={"train.steps": 4}, **changes))
        folder = StudyFolder(tmp_path / "out")
        for job in loaded.jobs:
            given = values[job.row.label]
            if job.seed < len(given):
                record = given[job.seed] if isinstance(given[job.seed], dict) else result(given[job.seed])
                leave_result(folder, loaded, job, **{**record, "seed": job.seed, "label": job.row.label})
        return loaded, folder

    return made


@pytest.fixture
def classifiers(study_file, tmp_path):
    """classifiers(errors by kernel, in %) -> a study of classifiers and its folder. wrong: which images; cards: changes to them."""

    def made(errors, wrong=None, cards=None, parameters=None):
        seeds = list(range(len(next(iter(errors.values())))))
        axes = {"model.kernel": list(errors)}
        loaded = Study.load(study_file(task="classify", base={}, axes=axes, baseline="c3", seeds=seeds))
        folder = StudyFolder(tmp_path / "out")
        for job in loaded.jobs:
            row, last = job.row.label, {"step": 1}
            card = {"test_count": 10_000, "epochs": 5, "batch_size": 8, "precision": "fp32", "train_count": 1000}
            card |= {"classes": list("0123456789"), "train_sha256": "a", "test_sha256": "b"} | (cards or {}).get(row, {})
            if wrong is not None:
                bits = wrong[row][job.seed]
                errors = {**errors, row: {job.seed: 100 * bits.mean()}}
                last["wrong"], card["test_count"] = base64.b64encode(np.packbits(bits)).decode(), len(bits)
            last["scores"] = [{"name": "test_error", "value": errors[row][job.seed], "card": card}]
            model = {**MODEL, "parameters": (parameters or {}).get(row, 1000)}
            leave_result(folder, loaded, job, last=last, diversity=None, model=model)
        return loaded, folder

    return made


@pytest.fixture
def in_this_process(monkeypatch):
    """Runs of a study come one after the other in this process, without a start of PyTorch for each, and count as converged."""

    def run_here(folder, jobs, *_):
        study = Study.load(folder.path / ADOPTED)
        for job in jobs:
            run_job(study, folder, job)
            yield Ended(job, 0, "")

    monkeypatch.setattr("study.run.run_here", run_here)
    monkeypatch.setattr("study.run.measure_costs", lambda *_: False)
    monkeypatch.setattr("study.tasks.draw_probe", lambda *_: None)  # a second or two for each run
    monkeypatch.setattr("study.analysis.not_converged", lambda study, record: None)  # after eight steps


@pytest.fixture
def study_of(tmp_path, fifty, monkeypatch, quick_python):
    """study_of(settings, **changes) -> the file of a study of c2 and c3 whose runs take a second, also in other processes."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "tiny_features.py").write_text(
        "import torch\nfrom torch import nn\n\ndef build():\n    torch.manual_seed(0)\n"
        "    return nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, 6))\n"
    )
    monkeypatch.setattr(sys, "executable", quick_python)
    monkeypatch.syspath_prepend(str(tmp_path / "code"))
    others = [os.environ["PYTHONPATH"]] if "PYTHONPATH" in os.environ else []
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "code"), *others]))
    monkeypatch.setenv("GAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("study.tasks.PROBED", 50)  # of runs in this process: as many as there are real ones
    monkeypatch.setattr("study.tasks.DIVERSITY_IMAGES", 50)

    def write(settings=None, **changes):
        study = {
            "title": "Tiny",
            "base": {"dataset": {"name": "folder", "path": str(fifty)}},
            "settings": {**SMALL, **(settings or {})},
            "axes": {"generator.kernel": ["c2", "c3"]},
            "baseline": {"generator.kernel": "c3"},
            "seeds": [0],
            "scoring": {"samples": 30, "features": "module:tiny_features.build"},
        }
        file = tmp_path / "tiny.yaml"
        file.write_text(yaml.safe_dump({**study, **changes}))
        return file

    return write
