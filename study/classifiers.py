"""What a study does with one classifier: its cost, and its test error with a card."""

import json
from pathlib import Path

from gan.classification.config import Config
from gan.classification.training import train as train_classifier
from gan.models.classifiers import build_classifier
from gan.models.counting import macs, parameter_count
from gan.run_directory import read_log
from study.study import Scoring

__all__ = ["curve", "materials", "model_facts", "score_run", "train"]

train = train_classifier
CLASSES = {"cifar10": 10, "cifar100": 100}


def materials(config: Config, scoring: Scoring) -> None:
    """Nothing: the training itself opens the test images."""


def curve(directory: Path) -> list[dict]:
    """Test error over training: [{"step": ..., "test_error": percent}]."""
    tested = [record for record in read_log(directory) if "test_accuracy" in record]
    return [{"step": r["step"], "test_error": 100 * (1 - r["test_accuracy"])} for r in tested]


def score_run(config: Config, directory: Path, materials: None, seed: int) -> dict:
    """The test error in percent, whose card is that of result.json. There is no best checkpoint: the test set chooses nothing."""
    result = json.loads((directory / "result.json").read_text())
    error = 100 * (1 - result["test_accuracy"])
    last = {"step": result["card"]["steps"], "scores": [{"name": "test_error", "value": error, "card": result["card"]}]}
    return {"last": last, "diversity": None}


def model_facts(config: Config, directory: Path) -> dict:
    """Parameters, multiply-adds per image, and those of one training step: forward, and a backward pass twice as dear."""
    result = directory / "result.json"  # knows the classes; a run that diverged has none
    classes = len(json.loads(result.read_text())["card"]["classes"]) if result.exists() else CLASSES.get(config.dataset.name, 10)
    model = build_classifier(**config.model.model_dump(), classes=classes)
    cost = macs(model, 1, 3, *[config.dataset.resolution] * 2)
    return {"parameters": parameter_count(model), "macs": cost, "step_macs": 3 * cost * config.train.batch_size}
