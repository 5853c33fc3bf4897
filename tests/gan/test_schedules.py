"""gan.schedules: what settings become, against the formulas, and what a run does with them."""

import math

import pytest
import torch

from gan import schedules
from gan.config import Config
from gan.models.build import resolve
from gan.processes import Processes
from gan.settings import ConfigError
from gan.state import State
from gan.training import train
from tests.helpers import PulledPlug, assert_same, crash_at, final_state


def config(*overrides):
    return Config.load(None, ["train.steps=1000", *overrides])


def test_without_a_schedule_every_value_is_its_setting():
    c = config("train.lr_g=1e-3", "train.beta2=0.9", "train.ema_decay=0.99", "objective.r1=2", "objective.r2=3")
    for step in (0, 500, 999, 5000):
        assert schedules.at(c, step) == (1e-3, c.train.lr_d, 0.9, 0.99, 2, 3, 1)


@pytest.mark.parametrize(
    ("start", "end", "field", "first", "last"),
    [
        ("train.lr_g", "schedule.lr_g", "lr_g", 2e-4, 5e-5),
        ("train.lr_d", "schedule.lr_d", "lr_d", 2e-4, 0.0),
        ("train.beta2", "schedule.beta2", "beta2", 0.9, 0.99),
        ("objective.r1", "schedule.r1", "r1", 0.05, 0.005),
        ("objective.r2", "schedule.r2", "r2", 0.05, 0.5),
        ("augment.probability", "schedule.probability", "probability", 0.0, 0.55),
    ],
)
def test_a_value_goes_along_half_a_cosine_and_stays(start, end, field, first, last):
    c = config(f"{start}={first}", f"{end}={last}", "schedule.steps=400", "augment.cutout=0.5")
    found = [getattr(schedules.at(c, step), field) for step in (0, 100, 200, 399, 400, 900)]
    done = [(1 - math.cos(math.pi * step / 400)) / 2 for step in (0, 100, 200, 399)]
    assert found == pytest.approx([*(first + share * (last - first) for share in done), last, last], rel=1e-12, abs=1e-15)
    others = [schedules.at(c, step)._replace(**{field: 0}) for step in (0, 250)]
    assert others[0] == others[1]


def test_steps_are_those_of_the_run_where_none_are_given():
    c = config("train.lr_g=0.004", "schedule.lr_g=0.002")
    assert [schedules.at(c, step).lr_g for step in (0, 500, 1000)] == pytest.approx([0.004, 0.003, 0.002])


def test_the_average_lengthens_by_its_half_life():
    """R3GAN's own numbers: from none to 5,000,000 images, which at batches of 512 are 9,766 steps."""
    c = config("train.ema_decay=0", "schedule.ema_decay=0.999929", "schedule.steps=100")
    decays = [schedules.at(c, step).ema_decay for step in (0, 50, 100)]
    assert decays[0] == 0 and decays[2] == pytest.approx(0.999929, rel=1e-12)
    whole = math.log(0.5) / math.log(0.999929)
    assert whole == pytest.approx(5e6 / 512, rel=1e-3)
    assert decays[1] ** (whole / 2) == pytest.approx(0.5, rel=1e-9)


def test_a_scheduled_average_starts_as_its_schedule_says(tiny):
    """R3GAN's has no start of its own; without a schedule the average starts fast."""
    for more, kept in (["schedule.ema_decay=0.9"], 0.5), ([], 0.1):
        state = State(resolve(tiny("r3", "train.ema_decay=0.5", "train.device=cpu", *more)), Processes(0, 1, torch.device("cpu")))
        before = state.ema.project.maps.clone()
        with torch.no_grad():
            state.generator.project.maps.add_(1)
        state.update_ema()
        torch.testing.assert_close(state.ema.project.maps, before + (1 - kept))


def test_linear_decay_of_the_rates():
    decaying, constant = (config("train.steps=100", f"train.lr_decay={d}", "train.lr_g=0.004") for d in ("linear", "none"))
    assert [schedules.at(decaying, step).lr_g for step in (0, 75, 99)] == pytest.approx([0.004, 0.001, 0.00004])
    assert schedules.at(constant, 99).lr_g == 0.004


def test_two_ways_to_lower_a_rate_are_refused_and_a_weight_that_is_0():
    with pytest.raises(ConfigError, match=r"train\.lr_decay=linear cannot go with schedule\.lr_g; choose one of them"):
        config("train.lr_decay=linear", "schedule.lr_g=0")
    with pytest.raises(ConfigError, match=r"schedule\.r2 changes nothing while objective\.r2 is 0"):
        config("objective.r1=1", "schedule.r1=0.1", "schedule.r2=0.1")


def test_a_run_may_be_longer_where_its_schedule_does_not_depend_on_its_length():
    for own, refused in (("schedule.steps=500", []), ("schedule.steps=null", ["train.steps: 1000 -> 2000"])):
        before = config("schedule.lr_g=0", own)
        assert before.difference(before.replace({"train.steps": 2000})) == refused


RECIPE = [
    *("schedule.lr_g=1e-5", "schedule.lr_d=1e-5", "schedule.beta2=0.5", "schedule.ema_decay=0.9", "schedule.r1=0.01"),
    *("schedule.r2=0.01", "schedule.probability=0.9", "augment.probability=0.1", "augment.colour=true", "train.ema_decay=0"),
    *("objective.penalty_every=2", "objective.penalty_form=finite_difference", "schedule.steps=10", "train.sample_every=100"),
]


def test_crash_and_resume_under_a_whole_recipe_equals_an_unbroken_run_bitwise(tiny, tmp_path):
    c = tiny("r3", *RECIPE)
    train(c, tmp_path / "whole", progress=False)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(PulledPlug):
        crash_at(patch, 9)
        train(c, tmp_path / "broken", progress=False)
    train(c, tmp_path / "broken", progress=False)
    whole = final_state(tmp_path / "whole")
    assert_same(whole, final_state(tmp_path / "broken"))
    assert (tmp_path / "whole/metrics.jsonl").read_bytes() == (tmp_path / "broken/metrics.jsonl").read_bytes()
    for net in "gd":
        (group,) = whole[f"optimizer_{net}"]["param_groups"]
        assert tuple(group["betas"]) == (0.5, 0.5) and float(group["lr"]) == pytest.approx(1e-5)  # beta1 was that from the first
