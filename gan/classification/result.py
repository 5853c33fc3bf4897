"""The result of a finished classifier: its test accuracy with a card, and the export of its weights."""

import base64
import contextlib
import json
from pathlib import Path

import numpy as np
from safetensors.torch import save as safetensors_bytes

from data.checksums import sealed, whole
from data.files import write_atomically
from gan import checkpoint
from gan.classification.config import Config
from gan.classification.state import Batches, State, Tested
from gan.models.classifiers import Classifier, build_classifier
from gan.models.counting import parameter_count
from gan.models.summary import macs
from gan.run_directory import RunError, RunFiles, begun_config
from metrics.features.network import state_sha256
from metrics.protocol import library_versions


def write_result(file: Path, config: Config, state: State, batches: Batches, tested: Tested) -> dict:
    """Write RUN/result.json, atomically: test accuracy and loss with a card that says how they were measured.

    Its `wrong` is a bit for each test image, the first in the highest bit, as base64: with it, two networks are compared image
    by image (study.images).
    """
    t, model = config.train, state.model
    card = {
        "model": config.model.model_dump(),
        "classes": list(batches.classes),
        "parameters": parameter_count(model),
        "multiply_adds": macs(model, 1, 3, *[config.dataset.resolution] * 2),
        "weights_sha256": state_sha256(model),
        "data": batches.train.source,
        "train_count": len(batches.train),
        "train_sha256": batches.sha256,
        "test": batches.test.source,
        "test_count": len(batches.test),
        "test_sha256": batches.test_sha256,
        "mean": batches.mean,
        "std": batches.std,
        "resolution": config.dataset.resolution,
        "augment": config.augment.model_dump(),
        "epochs": t.epochs,
        "steps": state.step,
        "batch_size": t.batch_size,
        "seed": t.seed,
        "precision": t.precision,
        "versions": library_versions(),
    }
    wrong = base64.b64encode(np.packbits(tested.wrong.numpy())).decode()
    result = sealed({"test_accuracy": tested.accuracy, "test_loss": tested.loss, "wrong": wrong, "card": card})
    write_atomically(file, (json.dumps(result, indent=2) + "\n").encode())
    return result


def read_result(file: Path) -> dict:
    """RUN/result.json. RunError where there is none, or it is damaged."""
    try:
        result = json.loads(file.read_text())
        if whole(result) and isinstance(result["card"], dict):
            return result
    except FileNotFoundError:
        raise RunError(f"there is no {file}: the run isn't finished; the same `classify` goes on with it") from None
    except (ValueError, TypeError, KeyError, RecursionError):
        pass
    raise RunError(f"{file} is damaged; delete it, and the same `classify` writes it again") from None


def finished(path: str | Path, config: Config) -> dict | None:
    """The result of a run with these settings that has nothing left to do; None for any other. Nothing is decoded or loaded."""
    files, kept = RunFiles(path), begun_config(path, Config)
    last = files.latest()
    if kept is None or last is None or files.lock.exists() or kept.difference(config.settled("cpu", kept)):
        return None
    if not (files.curves.is_file() and files.confusion.is_file()):
        return None
    with contextlib.suppress(RunError):  # none, or a damaged one, which is written again
        result = read_result(files.result)
        if (result["card"]["steps"], result["card"]["epochs"]) == (checkpoint.step_of(last), config.train.epochs):
            return result
    return None


def export(run: Path, file: Path) -> None:
    """Write the finished run's weights (float32) into a safetensors file, with its result as JSON under `result` of the metadata.

    gan/classification/features.py takes features from it.
    """
    files = RunFiles(run)
    result = read_result(files.result)
    path = files.checkpoint_of(None)
    state = checkpoint.load(path)
    model: Classifier = build_classifier(**result["card"]["model"], classes=len(result["card"]["classes"]))
    with checkpoint.load_errors(path):
        model.load_state_dict(state["model"])
    if state_sha256(model) != result["card"]["weights_sha256"]:
        raise RunError(f"{path} has other weights than {files.result} was tested with; give the same `classify` again")
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, safetensors_bytes(weights, {"result": json.dumps(result)}))
