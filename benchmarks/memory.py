"""Memory of a training step at 128x128: as it comes, with activation checkpointing, with gradient accumulation, with both.

    python benchmarks/memory.py [configs/lsun/sngan128.yaml] [KEY=VALUE]... [--parts 4] [--device cuda]

kept      weights, EMA, optimizer state
peak      the most that a step allocates on top of that, gradients included
seconds   of one step (the second one)

Images are generated shapes: what they show costs nothing. To reach: 8 GiB in all, batch 64.
"""

import argparse
from pathlib import Path

from common import keep_freed_memory, machine, peak_memory, timed
from rich.console import Console
from rich.table import Table

from gan.config import Config
from gan.models.build import resolve
from gan.timing import gan_step, kept_bytes

GIB = 2**30
ROOT = Path(__file__).parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", nargs="?", default=str(ROOT / "configs/lsun/sngan128.yaml"))
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--parts", type=int, default=4)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    keep_freed_memory()  # as the command line does
    checkpointing, parts = "train.activation_checkpointing=true", f"train.gradient_accumulation={options.parts}"
    variants = {
        "as it comes": [],
        "activation checkpointing": [checkpointing],
        f"gradient accumulation, {options.parts} parts": [parts],
        "both": [checkpointing, parts],
    }
    table = Table(title=f"{Path(options.config).stem}, {' '.join(options.settings) or 'its own settings'}", title_justify="left")
    for heading in ("", "kept, GiB", "peak, GiB", "in all", "s / step"):
        table.add_column(heading, justify="left" if not heading else "right")
    for name, overrides in variants.items():
        config = Config.load(options.config, [f"train.device={options.device}", *options.settings, *overrides])
        step, state = gan_step(resolve(config))
        step()
        seconds = timed(step, options.device)
        peak = peak_memory(step, options.device)
        kept = kept_bytes(state)
        table.add_row(name, *(f"{x / GIB:.2f}" for x in (kept, peak, kept + peak)), f"{seconds:.1f}")
    console = Console(width=110)
    console.print(machine(options.device))
    console.print(table)


if __name__ == "__main__":
    main()
