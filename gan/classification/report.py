"""What a classifier's run shows and leaves: the start-up table, the log, curves and confusion, the result, exported weights."""

import json
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table
from safetensors.torch import save as safetensors_bytes
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from data.files import write_atomically
from gan import checkpoint
from gan.classification.config import Config
from gan.classification.state import Batches, State, Tested
from gan.models.classifiers import Classifier, build_classifier
from gan.models.counting import parameter_count
from gan.models.summary import macs
from gan.plots import BLUE, GREY, RED, pyplot, save_figure, tidy
from gan.progress import Pace
from gan.run_directory import RunDirectory, RunFiles
from gan.sampling import save_grid
from metrics.features.network import state_sha256
from metrics.protocol import library_versions


class Log:
    """Start-up table, progress bar, metrics.jsonl, timing.jsonl, TensorBoard, and once a grid of what the network is shown."""

    def __init__(self, run: RunDirectory, step: int, steps: int, progress: bool, batches: Batches):
        self.run, self.batch_size = run, batches.config.train.batch_size
        run.forget_after(step)
        if progress:
            Console(stderr=True, highlight=False).print(table(batches.config, len(batches.classes)))
        self.board = SummaryWriter(str(run.path), purge_step=step + 1)
        self.bar = tqdm(total=steps, initial=step, unit="step", disable=not progress, dynamic_ncols=True)
        self.since = (step, time.perf_counter())
        self.pace = Pace(steps, step, self.bar)
        self.shown: dict[str, str] = {}  # beside the bar
        for split in (batches.train, batches.test):
            if split.skipped:
                names = ", ".join(split.skipped[:5]) + (", …" if len(split.skipped) > 5 else "")
                self.bar.write(f"{split.source}: left out {len(split.skipped):,} images: {names}", file=sys.stderr)
        if not (run.samples / "batch.png").exists():
            save_grid(batches.as_uint8(batches.get(0)[0][:64]), run.samples / "batch.png")

    def tick(self) -> None:
        """One step is done."""
        self.bar.update()
        self.pace.tick()

    def metrics(self, record: dict) -> None:
        """Write a line of losses, or of what the test found; {"step", "epoch", ...}."""
        step = record["step"]
        self.run.log("metrics", record)
        for name, value in record.items():
            if name not in ("step", "epoch"):
                self.board.add_scalar(name, value, step)
        if "loss" in record:
            self._speed(step)
        shown = {"loss": "loss", "accuracy": "train", "test_accuracy": "test"}
        self.shown |= {"epoch": f"{record['epoch']}"} | {shown[k]: f"{v:.3f}" for k, v in record.items() if k in shown}
        self.bar.set_postfix(self.shown)

    def _speed(self, step: int) -> None:
        before, now = self.since, time.perf_counter()
        self.since = (step, now)
        steps_per_s = (step - before[0]) / (now - before[1])
        self.run.log("timing", {"step": step, "steps_per_s": steps_per_s, "images_per_s": steps_per_s * self.batch_size})
        self.board.add_scalar("speed/images_per_s", steps_per_s * self.batch_size, step)

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, *exception) -> None:
        self.bar.close()
        self.board.close()


def table(config: Config, classes: int) -> Table:
    """What is about to be trained, and what it costs."""
    m, t = config.model, config.train
    model = build_classifier(**m.model_dump(), classes=classes)
    rows = Table(title=f"{m.family}-{m.depth}", title_justify="left", show_header=False)
    rows.add_row("kernel", m.kernel)
    if m.family == "resnet":
        rows.add_row("block", m.block)
    rows.add_row("parameters", f"{parameter_count(model):,}")
    rows.add_row("multiply-adds per image", f"{macs(model, 1, 3, *[config.dataset.resolution] * 2) / 1e6:,.1f} M")
    rows.add_row("training", f"{t.epochs} epochs, batch {t.batch_size}, {t.schedule} schedule from {t.lr}, {t.precision}")
    return rows


# --- pictures ----------------------------------------------------------------------------------------------------------------


def plot_curves(records: list[dict], path: Path) -> None:
    """Loss and error over epochs, of training (augmented images) and test, as a PNG. Nothing is drawn without records."""
    trained, tested = ([r for r in records if key in r] for key in ("loss", "test_loss"))
    if not trained or not tested:
        return
    figure, axes = pyplot().subplots(1, 3, figsize=(12, 3.2), layout="constrained")
    per_epoch = tested[-1]["step"] / max(tested[-1]["epoch"], 1)

    def draw(axis, rows: list[dict], value, **style) -> None:
        axis.plot([r["step"] / per_epoch for r in rows], [value(r) for r in rows], linewidth=1.3, **style)

    dots = {"marker": "o", "markersize": 3}
    draw(axes[0], trained, lambda r: r["loss"], color=BLUE, label="training, augmented")
    draw(axes[0], tested, lambda r: r["test_loss"], color=RED, linestyle="--", label="test", **dots)
    draw(axes[1], trained, lambda r: 100 * (1 - r["accuracy"]), color=BLUE, label="training, augmented")
    draw(axes[1], tested, lambda r: 100 * (1 - r["test_accuracy"]), color=RED, linestyle="--", label="test", **dots)
    draw(axes[2], trained, lambda r: r["lr"], color=GREY)
    error = 100 * (1 - tested[-1]["test_accuracy"])
    for axis, title in zip(axes, ("cross-entropy", f"error, %; test at the end: {error:.2f}", "learning rate")):
        axis.set(title=title, xlabel="epoch", xlim=(0, None), ylim=(0, None))
    tidy(axes)
    axes[0].legend(frameon=False)
    save_figure(figure, path)


def plot_confusion(confusion: Tensor, classes: tuple[str, ...], path: Path) -> None:
    """Which class was taken for which: rows are the true classes, in percent; numbers where there are at most 20 classes."""
    n = len(classes)
    percent = 100 * confusion.double() / confusion.sum(dim=1, keepdim=True).clamp(min=1)
    side = min(3 + 0.45 * n, 14)
    figure, axis = pyplot().subplots(figsize=(side, side), layout="constrained")
    axis.imshow(percent.sqrt().numpy(), cmap="Greys", vmin=0, vmax=10)  # root: single percents are what one wants to see
    if n <= 20:
        axis.set_xticks(range(n), classes, rotation=45, ha="right")
        axis.set_yticks(range(n), classes)
        for i in range(n):
            for j in range(n):
                if confusion[i, j]:
                    colour = "white" if percent[i, j] > 30 else "black"
                    axis.text(j, i, f"{percent[i, j]:.0f}", ha="center", va="center", color=colour, fontsize=8)
    right = 100 * confusion.trace() / confusion.sum()
    axis.set(xlabel="named", ylabel="is", title=f"test images, % of their class; {right:.2f} % right")
    save_figure(figure, path)


# --- the result and the weights ----------------------------------------------------------------------------------------------


def write_result(file: Path, config: Config, state: State, batches: Batches, tested: Tested) -> dict:
    """RUN/result.json: test accuracy and loss with the card that says how they came about. Written whole or not at all."""
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
    result = {"test_accuracy": tested.accuracy, "test_loss": tested.loss, "card": card}
    write_atomically(file, (json.dumps(result, indent=2) + "\n").encode())
    return result


def export(run: Path, file: Path) -> None:
    """Write the finished run's weights (float32) into a safetensors file, with its result as JSON under `result` of the metadata.

    metrics/features/cifar_resnet.py takes features from it.
    """
    files = RunFiles(run)
    result = json.loads(files.result.read_text())
    state = checkpoint.load(files.checkpoint_of(None))
    model: Classifier = build_classifier(**result["card"]["model"], classes=len(result["card"]["classes"]))
    model.load_state_dict(state["model"])
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, safetensors_bytes(weights, {"result": json.dumps(result)}))
