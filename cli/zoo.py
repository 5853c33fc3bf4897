"""`zoo`: the trained generators of the repository, and how one is added."""

from pathlib import Path
from typing import Annotated

import typer

from cli.common import Device, Features, Overwrite, console, say, say_next
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

    cards = [zoo.card(name) for name in zoo.names()]
    if not cards:
        say(f"there are no generators in {zoo.folder()} yet")
        say_next("zoo", "add", "runs/quickstart", "quickstart")
        return
    rows = Table(title_justify="left", box=None, padding=(0, 2, 0, 0))
    for heading in ("name", "generator", "learned from", "score"):  # what is long goes on below itself
        rows.add_column(heading, no_wrap=heading in ("name", "score"), overflow="fold")
    for card in cards:
        size = f"{card.resolution} px, {card.parameters:,} parameters, {card.bytes / 1e6:.1f} MB"
        score = f"{printable(card.scores[0]['name'])}\n{card.scores[0]['value']:.4g}"
        rows.add_row(*map(printable, (card.name, f"{card.generator}, {size}", f"{card.data}, {card.steps:,} steps")), score)
    console.print(rows)
    say(f"their cards: {zoo.folder()}")
    say_next("sample", f"zoo:{cards[0].name}")


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
    from data.waiting import progress
    from gan.evaluation import checkpoint_steps
    from gan.sampling import load_generator
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
    text = f"{known['commit']}{' with changes' if known['changed'] else ''}" if known["commit"] else None
    with progress("images", what="scoring") as advance:
        card = make(load_generator(run, step, extractor.device), name, extractor, count, text, overwrite, advance)
    score = card.scores[0]
    say(f"zoo:{name}: {score['name']} {score['value']:.4g}, {card.bytes / 1e6:.2f} MB in {card.dtype}")
    say_next("sample", f"zoo:{name}")
