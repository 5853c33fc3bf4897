"""`fid`: score any images against any others."""

from pathlib import Path
from typing import Annotated

import typer

from cli.common import (
    Device,
    Features,
    Insist,
    Overwrite,
    Precision,
    RealCount,
    Resize,
    Scores,
    Seed,
    Weights,
    check_output,
    print_scores,
    say,
    say_next,
    tell_precision,
)
from data.files import write_atomically


def fid(
    real: Annotated[
        str,
        typer.Argument(
            help="folder, .zip or .tar, .npz of images or statistics, pack, LSUN *_lmdb, run, zoo:NAME, or cifar10[:test], "
            "cifar100, shapes"
        ),
    ],
    generated: Annotated[str, typer.Argument(help="images to score; the same kinds of source")],
    scores: Scores = "fid",
    count: Annotated[
        int | None, typer.Option(min=2, help="how many generated images; default: all there are, 10,000 of a run")
    ] = None,
    real_count: RealCount = None,
    protocol: Annotated[
        str | None, typer.Option(help="sn, mimicry or landscape: published counts and splits of a data set")
    ] = None,
    floor: Annotated[bool, typer.Option(help="also print what a perfect generator would score at these counts")] = False,
    save_statistics: Annotated[Path | None, typer.Option(help="write the reference's mean and covariance as .npz")] = None,
    features: Features = "efficientnet_lite0",
    weights: Weights = None,
    insist: Insist = False,
    resize: Resize = None,
    precision: Precision = "fp32",
    seed: Seed = 0,
    device: Device = "auto",
    json_file: Annotated[
        Path | None, typer.Option("--json", help="write the scores, with their protocol cards, to this file")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Score generated images against real ones.

    - `fid cifar10:test runs/mine` scores 10,000 images of a run.
    - `fid real.npz samples.zip --features inception --weights pt_inception-2015-12-05-6726825d.pth` is *the* FID.

    Only the 2015 Inception network gives `fid` and `inception_score`; other features give `fd_<name>` and `score_<name>`.
    """
    from dataclasses import replace

    from data.waiting import progress
    from gan.evaluation import apply_protocol, open_side, require_there
    from metrics import scoring
    from metrics.devices import open_device
    from metrics.features import open_extractor
    from metrics.protocol import PROTOCOLS

    if save_statistics and save_statistics.suffix != ".npz":
        raise typer.BadParameter(f"statistics are an npz: name a file such as {save_statistics.stem or 'real'}.npz")
    for path in (json_file, save_statistics):
        check_output(path, overwrite)
    wanted, given = scores.split(","), real
    scoring.require_known(wanted)
    where = open_device(device)
    if protocol:
        real, real_count, count = apply_protocol(protocol, real, real_count, count)
    require_there(real, generated)
    extractor = open_extractor(features, weights, resize, precision, device=where, insist=insist)
    scoring.require_given(extractor, wanted)
    tell_precision(precision, extractor)
    a = open_side(real, real_count, seed, device=where)
    b = open_side(generated, count, seed, device=where, shuffle=True)
    if protocol:
        b = replace(b, about={**b.about, "protocol": protocol})
        say(f"protocol {protocol}, {PROTOCOLS[protocol].note}")
    if floor:
        scoring.check_floor(a, b)
    with progress("images", scoring.passes(a, b, wanted=wanted), "scoring") as advance:
        a = scoring.identified(a)
        found, warnings = scoring.score(extractor, a, b, wanted, seed, progress=advance)
    if json_file:  # before anything that might go wrong
        write_scores(found, json_file)
    print_scores({None: found}, warnings)
    if json_file:
        say(f"scores with their cards: {json_file}")
    # What is asked for besides comes last: if it fails, no score is lost.
    if floor:
        with progress("images", a.count, "the floor") as advance:
            limit = scoring.floor(extractor, a, found[0].card, advance)
        card, (one, other) = limit.score.card, limit.parts
        say(
            f"floor: a perfect generator would score about {limit.score.value:.3g} in {extractor.score_name('fid')}, at "
            f"{card.generated_count:,} images against {card.real_count:,} (two parts of the reference, {one:,} and {other:,} "
            f"images, score {limit.measured:.3g})"
        )
        if json_file:
            write_scores([*found, limit.score], json_file)
    if save_statistics:
        scoring.reference_statistics(extractor, a).save(save_statistics)
        say(f"statistics of the reference: {save_statistics}")
    if a.batches is not None and b.batches is not None:  # of statistics most scores and the floor can't be had
        tell_what_next(given, generated, wanted, features, weights)


def tell_what_next(real: str, generated: str, wanted: list[str], features: str, weights: Path | None) -> None:
    """All scores after one of them, then the instruments of a run, or what a perfect generator would score."""
    from data.files import located
    from gan import zoo
    from gan.run_directory import RunFiles

    same = [*(["--features", features] if features != "efficientnet_lite0" else []), *(["--weights", weights] if weights else [])]
    if "all" not in wanted:
        say_next("fid", real, generated, "--scores", "all", *same)
    elif zoo.file_of(generated) or RunFiles(located(generated)).settings_file.is_file():
        say_next("probe", generated)
    else:
        say_next("fid", real, generated, "--floor", *same)


def write_scores(scores: list, path: Path) -> None:
    import json

    write_atomically(path, (json.dumps([s.to_dict() for s in scores], indent=2) + "\n").encode())
