"""`zoo`: the trained generators of the repository, and how one is added."""

from pathlib import Path
from typing import Annotated

import typer

from cli.common import Device, Features, Overwrite, console, progress, say
from data.files import printable

app = typer.Typer(rich_markup_mode="markdown", help="List the trained generators of the repository; `zoo add` adds one from a run.")


@app.callback(invoke_without_command=True)
def zoo(context: typer.Context) -> None:
    """List the trained generators of the repository.

    `zoo:NAME` stands for one wherever a run can stand in `sample`, `fid`, `probe` and `export`, and in `gan.load`.
    """
    if context.invoked_subcommand is not None:
        return
    from rich.table import Table

    from gan import zoo

    rows = Table(title_justify="left")
    for heading in ("name", "learned", "pixels", "generator", "parameters", "steps", "score", "value", "MB"):
        rows.add_column(heading, justify="right" if heading in ("pixels", "parameters", "steps", "value", "MB") else "left")
    for card in map(zoo.card, zoo.names()):
        score = card.scores[0]
        numbers = f"{card.parameters:,}", f"{card.steps:,}", score["name"], f"{score['value']:.4g}", f"{card.bytes / 1e6:.1f}"
        rows.add_row(*map(printable, (card.name, card.data, str(card.resolution), card.generator, *numbers)))
    console.print(rows)
    say(f"cards: {zoo.folder()}; draw from one: python run_gan.py sample zoo:NAME")


@app.command()
def add(
    run: Annotated[Path, typer.Argument(help="a run directory of `train`")],
    name: Annotated[str, typer.Argument(help="of the new entry: letters, digits, - and _")],
    checkpoint: Annotated[str, typer.Option(help="which to keep: last, best, or a step")] = "last",
    count: Annotated[int, typer.Option(min=20, help="how many generated images are scored")] = 10_000,
    features: Features = "efficientnet_lite0",
    device: Device = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Make an entry from a run: its weights in at most 2 MB, scored as they are stored, and a card.

    The reference is the run's own data, the test split where it has one. GAN_ZOO names another folder than zoo/.
    """
    from gan.evaluation import checkpoint_steps
    from gan.zoo_entry import add as make
    from gan.zoo_entry import require_free
    from metrics.devices import open_device
    from metrics.features import open_extractor
    from study.revision import revision

    if checkpoint == "all":
        raise typer.BadParameter("an entry is one checkpoint: last, best, or a step")
    require_free(name, overwrite)
    (step,) = checkpoint_steps(run, checkpoint)
    extractor = open_extractor(features, device=open_device(device))
    known = revision()
    text = known["commit"] and f"{known['commit']}{' with changes' if known['changed'] else ''}"
    with progress("images") as advance:
        card = make(run, name, step, extractor, count, text, advance, overwrite)
    score = card.scores[0]
    say(f"zoo:{name}: {score['name']} {score['value']:.4g}, {card.bytes / 1e6:.2f} MB in {card.dtype}")
