"""Schedules: the values of learning rates and other scheduled settings at a step, a function of the settings and the step alone."""

from math import cos, log, pi
from typing import NamedTuple

from gan.config import Config, Train


class Values(NamedTuple):
    """The scheduled values at one step."""

    lr_g: float
    lr_d: float
    beta2: float
    ema_decay: float
    r1: float
    r2: float
    probability: float  # of augment; not one that adapts


def at(config: Config, step: int) -> Values:
    """The values of step number `step`, the first being 0."""
    t, o, s = config.train, config.objective, config.schedule
    done = step / (s.steps or t.steps)
    half_lives = half_life(t.ema_decay), None if s.ema_decay is None else half_life(s.ema_decay)
    return Values(
        lr_g=cosine(learning_rate(t.lr_g, t, step), s.lr_g, done),
        lr_d=cosine(learning_rate(t.lr_d, t, step), s.lr_d, done),
        beta2=cosine(t.beta2, s.beta2, done),
        ema_decay=t.ema_decay if s.ema_decay is None else decay(cosine(*half_lives, done)),
        r1=cosine(o.r1, s.r1, done),
        r2=cosine(o.r2, s.r2, done),
        probability=cosine(config.augment.start, s.probability, done),
    )


def cosine(start: float, end: float | None, done: float) -> float:
    """From start (done = 0) to end (done = 1) along half a cosine, and end after that; start where there is no end."""
    return start if end is None else end + (start - end) * (1 + cos(pi * min(done, 1.0))) / 2


def learning_rate(base: float, t: Train, step: int) -> float:
    """The base rate, or its linear decay to 0 over the run."""
    return base * (1 - step / t.steps) if t.lr_decay == "linear" else base


def half_life(decay: float) -> float:
    """The steps after which weights count half in an average with this decay."""
    return log(0.5) / log(decay) if decay else 0.0


def decay(half_life: float) -> float:
    """The decay of an average with this half-life in steps: the inverse of `half_life`."""
    return 0.5 ** (1 / half_life) if half_life else 0.0
