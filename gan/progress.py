"""What a run shows and logs while it trains: progress bar, metrics.jsonl, timing.jsonl, TensorBoard, sample grids."""

import contextlib
import sys
import time
from collections.abc import Iterator
from functools import cached_property
from typing import Self

from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from data import ImageSet, StreamedSet
from data.files import duration, printable
from data.waiting import Estimate
from data.waiting import progress as waiting
from gan import sampling
from gan.config import Config
from gan.randomness import derive, latents
from gan.run_directory import RunDirectory
from gan.sampling import GRID_COLUMNS, save_grid, tiled
from gan.state import Batches, State

# Without the rate, which the images a second say: 80 columns show losses and scores whole.
BAR = "{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"
SHORT = {"inception_score": "is"}  # of scores, beside the bar: else what stands before the features, fd of fd_efficientnet_lite0


class RunLog:
    """The progress bar, metrics.jsonl, timing.jsonl and TensorBoard of a run; in processes that have no `run`, nothing.

    steps: of the whole run. images_per_step: real ones, for the speed.
    """

    def __init__(self, run: RunDirectory | None, step: int, steps: int, images_per_step: int, progress: bool):
        self.run = run
        if run is None:
            return
        run.truncate_logs(step)
        self.images_per_step, self.step = images_per_step, step
        self.bar = tqdm(total=steps, initial=step, disable=not progress, dynamic_ncols=True, bar_format=BAR)
        self.pace = Pace(steps, step, self.bar)
        self.since = (step, time.perf_counter())  # of the last line in timing.jsonl
        self.shown: dict[str, str] = {}  # beside the bar
        self.last = ""
        self.scored = False

    @cached_property
    def board(self) -> SummaryWriter:
        """The TensorBoard file of this call, created with the first line: a call that trains nothing leaves none."""
        return SummaryWriter(str(self.run.path), purge_step=self.step + 1)

    def tick(self) -> None:
        """One step is done."""
        if self.run is not None:
            self.bar.update()
            self.pace.tick()

    def tell_skipped(self, images: ImageSet | StreamedSet) -> None:
        """Print how many images were left out, as dataset.on_bad=skip allows, and the first names."""
        if self.run is not None and (skipped := images.skipped):
            names = ", ".join(skipped[:5]) + (", …" if len(skipped) > 5 else "")
            total = len(skipped) + len(images)
            said = f"{images.source}: left out {len(skipped):,} of {total:,} images: {names}"
            self.bar.write(printable(said), file=sys.stderr)

    def log_speed(self, step: int) -> float:
        """Images per second since the last call."""
        (before, then), now = self.since, time.perf_counter()
        self.since = (step, now)
        steps_per_s = (step - before) / (now - then)
        images_per_s = steps_per_s * self.images_per_step
        self.run.log("timing", {"step": step, "steps_per_s": steps_per_s, "images_per_s": images_per_s})
        self.board.add_scalar("speed/images_per_s", images_per_s, step)
        return images_per_s

    def show(self, values: dict[str, str], last: str = "") -> None:
        """Show these beside the bar, and what was shown under other names before. last: what may be cut where that is narrow."""
        self.shown |= values
        self.last = last or self.last
        words = [f"{name} {value}" for name, value in self.shown.items()]
        self.bar.set_postfix_str(", ".join([*words, self.last] if self.last else words))

    @contextlib.contextmanager
    def scoring(self, count: int) -> Iterator[Estimate]:
        """A bar of its own while so many images are scored; the first time, how long that takes is said, too."""
        with waiting("images", count, "scoring", not self.bar.disable, words=not self.scored) as advance:
            yield advance
        self.scored = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception) -> None:
        if self.run is not None:
            self.bar.close()
            if "board" in vars(self):
                self.board.close()


class Writer(RunLog):
    """What a GAN's run shows and logs: losses, scores, and grids of the same latents."""

    def __init__(self, run: RunDirectory | None, step: int, progress: bool, config: Config, batches: Batches):
        t = config.train
        super().__init__(run, step, t.steps, t.batch_size * t.d_steps, progress)
        if run is None:
            return
        self.latents = latents(derive(t.seed, "grid"), 0, 64, config.generator.latent)
        self.tell_skipped(batches.set)
        real = run.samples / "real.png"
        if not real.exists():
            save_grid(batches.set.images[batches.order.indices(0, 64)], real)

    def losses(self, losses: dict[str, float], step: int) -> None:
        if self.run is None:
            return
        self.run.log("metrics", {"step": step, **losses})
        images_per_s = self.log_speed(step)
        for name, value in losses.items():
            self.board.add_scalar(f"loss/{name}", value, step)
        self.show({"D": f"{losses['d_loss']:.3g}", "G": f"{losses['g_loss']:.3g}"}, f"{images_per_s:.0f} images/s")

    def scores(self, scores: dict[str, float], step: int) -> None:
        """Scores and instruments; in the main process only."""
        self.run.log("metrics", {"step": step, **scores})
        for name, value in scores.items():
            self.board.add_scalar(f"score/{name}", value, step)
        short = {SHORT.get(name, name.partition("_")[0]): f"{value:.4g}" for name, value in list(scores.items())[:2]}
        self.show(short)  # the bar has no room for instruments, nor for whole names

    def grid(self, state: State) -> None:
        """The same latents each time, from the EMA in eval mode: nothing that trains is touched. Of a conditional run eight of each
        class, a row each."""
        if self.run is None:
            return
        images = sampling.grid(state.ema, self.latents)
        save_grid(images, self.run.grid(state.step), GRID_COLUMNS)
        self.board.add_image("samples", tiled(images, GRID_COLUMNS), state.step)


class Pace:
    """Prints once, after a few seconds of training, how long the rest will take, for logs where no bar can be seen."""

    WARM_UP, AFTER = 5, 5.0  # steps that are not timed; seconds of timed steps

    def __init__(self, total: int, done: int, bar: tqdm):
        self.total, self.done, self.bar = total, done, bar
        self.taken, self.start = 0, None

    def tick(self) -> None:
        """One step is done."""
        self.taken += 1
        if self.bar.disable or self.start == 0:
            return
        now = time.perf_counter()
        if self.start is None and self.taken == self.WARM_UP:
            self.start = now
        elif self.start and now - self.start > self.AFTER:
            rate = (self.taken - self.WARM_UP) / (now - self.start)
            left = self.total - self.done - self.taken
            self.bar.write(f"{rate:.3g} steps a second: about {duration(left / rate)} to go", file=sys.stderr)
            self.start = 0
