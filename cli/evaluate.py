"""`evaluate`: score the generator of a run."""

from typing import Annotated

import typer

from cli.common import (
    Device,
    Features,
    Insist,
    Precision,
    RealCount,
    Resize,
    Run,
    Scores,
    Seed,
    Weights,
    check_output,
    print_scores,
    say,
    say_next,
    tell_precision,
)

NEIGHBOURS = 1000  # samples at most whose nearest training images are looked for


def evaluate(
    run: Run,
    checkpoint: Annotated[str, typer.Option(help="which to score: last, best, all, or a step")] = "last",
    real: Annotated[
        str | None, typer.Option(help="reference images, named as for `fid`; default: those the run was trained on")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="train or test split of the run's data set; default: its setting evaluate.split")
    ] = None,
    scores: Scores = "fid,is",
    count: Annotated[int, typer.Option(min=20, help="how many generated images")] = 10_000,
    real_count: RealCount = None,
    neighbours: Annotated[
        bool, typer.Option("--neighbours", help="also look for the samples' nearest training images: RUN/neighbours.json and .png")
    ] = False,
    features: Features = "efficientnet_lite0",
    weights: Weights = None,
    insist: Insist = False,
    resize: Resize = None,
    precision: Precision = "fp32",
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Score a run's generator and add to RUN/scores.json; `--checkpoint all` also draws the scores over training."""
    import data
    from data.waiting import progress
    from gan import plots, zoo
    from gan.evaluation import checkpoint_sides, checkpoint_steps, evaluate_run, open_side, reference_of, require_there
    from gan.neighbours import find_neighbours, save_neighbours, sentences
    from gan.run_directory import RunFiles, read_config
    from gan.sampling import load_generator
    from metrics.devices import open_device
    from metrics.features import open_extractor
    from metrics.protocol import ProtocolError
    from metrics.scoring import INTRA, passes, require_given, require_known

    if zoo.file_of(run) is not None:
        raise ProtocolError(f"{run} has no directory to write scores to; `fid` scores it: fid REAL {run}")
    config = read_config(run)
    if split and real:
        raise ProtocolError(f"--split chooses among the run's own images; leave it out with --real {real}")
    wanted = scores.split(",")
    require_known(wanted)
    where = open_device(device)
    files = RunFiles(run)
    check_output(files.scores)
    steps = checkpoint_steps(run, checkpoint)
    if real:
        require_there(real)
    else:
        data.look(**config.dataset.arguments, split=split or config.evaluate.split)
    extractor = open_extractor(features, weights, resize, precision, device=where, insist=insist)
    require_given(extractor, wanted)
    tell_precision(precision, extractor)
    if real:
        side = open_side(real, real_count, seed, device=where)
    else:
        side = reference_of(config, split or config.evaluate.split, real_count, seed)
    generated = count * (2 if INTRA in wanted else 1)
    images = len(steps) * (generated + (passes(side, wanted=wanted) or 0))
    with progress("images", images, "scoring") as advance:
        sides = checkpoint_sides(run, steps, count, seed, where)
        found, warnings = evaluate_run(run, sides, extractor, side, wanted, seed, advance)
    print_scores(found, warnings)
    say(f"scores with their cards: {files.scores}")
    if neighbours:  # comes last: if it fails, no score is lost
        with progress("images", what="neighbours") as advance:
            trained = load_generator(run, steps[-1], where)
            near = find_neighbours(trained, extractor, min(count, NEIGHBOURS), seed, advance, advance.expect)
        save_neighbours(near, run)
        for line in sentences(near.record):
            say(line)
        say(f"nearest training images by features and by pixels, most suspicious samples first: {files.neighbours_figure}")
    if len(found) > 1:
        plots.plot_scores({step: {s.name: s.value for s in values} for step, values in found.items()}, files.scores_figure)
        say(f"scores over training: {files.scores_figure}")
    say_next("probe", run)
