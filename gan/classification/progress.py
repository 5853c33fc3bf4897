"""What a classifier's run shows while it trains: the start-up table, the bar and the logs."""

from rich.console import Console
from rich.table import Table

from gan.classification.config import Config
from gan.classification.state import Batches
from gan.models.classifiers import build_classifier
from gan.models.counting import parameter_count
from gan.models.summary import macs
from gan.progress import RunLog
from gan.run_directory import RunDirectory
from gan.sampling import save_grid


class Writer(RunLog):
    """What a classifier's run shows and logs; and once, a grid of what the network is shown."""

    def __init__(self, run: RunDirectory, step: int, progress: bool, config: Config, batches: Batches):
        if progress:
            Console(stderr=True, highlight=False, markup=False, emoji=False).print(table(config, len(batches.classes)))
        super().__init__(run, step, batches.steps, config.train.batch_size, progress)
        for split in (batches.train, batches.test):
            self.tell_skipped(split)
        if not (run.samples / "batch.png").exists():
            save_grid(batches.as_uint8(batches.get(0)[0][:64]), run.samples / "batch.png")

    def metrics(self, record: dict[str, float]) -> None:
        """A line of losses, or of what the test found: {"step", "epoch", ...}."""
        step = record["step"]
        self.run.log("metrics", record)
        for name, value in record.items():
            if name not in ("step", "epoch"):
                self.board.add_scalar(name, value, step)
        if "loss" in record:
            self.log_speed(step)
        shown = {"loss": "loss", "accuracy": "train", "test_accuracy": "test"}
        self.show({"epoch": f"{record['epoch']}"} | {shown[k]: f"{v:.3f}" for k, v in record.items() if k in shown})


def table(config: Config, classes: int) -> Table:
    """The start-up table: the network, its cost and the training settings."""
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
