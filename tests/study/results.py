"""Made-up results of runs, with known scores."""

CARD = {
    "features": "f", "weights_sha256": "a" * 64, "input_size": 32, "resize": "clean", "precision": "fp32", "real": "r",
    "real_count": 9, "real_sha256": "b", "generated": "g", "generated_count": 9,
}  # fmt: skip
MODEL = {"parameters": 1000, "macs": 2_000_000, "discriminator_macs": 1, "step_macs": 10**9}


def score(name, value, **card):
    return {"name": name, "value": value, "card": {**CARD, **card}, "spread": None, "spread_of": None, "interval": None}


def result(value, curve=(30.0, 20.0, 20.0, 20.0), steps=4, **changes):
    scores = [score("fd_f", value), score("score_f", 2.0)]
    best = {"step": 3, "scores": [score("fd_f", value - 1), score("score_f", 2.0)]}
    found = {"status": "finished", "why": None, "seed": 0, "diversity": 1.0, "model": MODEL, "timing": {}}
    found |= {"curve": [{"step": i + 1, "fd_f": v} for i, v in enumerate(curve)]}
    found |= {"last": {"step": 4, "scores": scores}, "best": best}
    return {**found, **changes}


def scored(value, **card):
    return result(value, last={"step": 4, "scores": [score("fd_f", value, **card)]})


def same_way(found, **changes):
    """The same result, its scores in training taken as the final one but for these changes."""
    way = {"samples": 500, "real": None, "split": "train", "features": "f", "weights": None, "precision": "fp32"}
    return {**found, "scoring": {**way, "reference": None}, "config": {"evaluate": {**way, **changes}}}


NAN = {"status": "diverged", "why": "NaN", "curve": [], "model": MODEL, "timing": {}}
BLIND = result(1.0, curve=())
FALLING = result(1.0, curve=(40.0, 30.0, 25.0, 18.0))
FLAT = result(1.0, curve=(40.0, 20.0, 20.0, 20.0))
