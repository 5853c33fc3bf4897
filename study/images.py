"""What the choice of test images contributes to a difference of test errors, from which images each run named wrongly.

All rows of a study are tested on the same images. Of the difference of two rows only the images tell that one names rightly and the
other doesn't (McNemar, Psychometrika 1947); so it is surer than that of two rows with test images of their own, and by how much
depends on how far they are wrong about the same ones. To first order the logarithm of a run's error e is the mean of w / e over
images, w being 1 for an image that it named wrongly and 0 for any other; a row's is the mean over its runs. The covariance of
these over images, divided by their number, is that of the rows' logarithms over other sets of as many images. What differs from one
seed to the next is left out of it, since the spread over seeds holds that already.
"""

import base64
import itertools
from collections.abc import Mapping

import numpy as np


def wrong_images(record: dict) -> np.ndarray | None:
    """Of a finished classifier's record: (images,) bool, in the order of the test split; None for older records and for GANs."""
    kept = record["last"].get("wrong")
    if kept is None:
        return None
    bits = np.frombuffer(base64.b64decode(kept), np.uint8)
    return np.unpackbits(bits, count=record["last"]["scores"][0]["card"]["test_count"]).astype(bool)


def covariance(wrong: Mapping[str, Mapping[int, np.ndarray | None]]) -> dict[tuple[str, str], float] | None:
    """{(row, row): covariance of the logarithms of their errors over test images} from the wrong_images of runs, by row and seed.

    Rows without a run are left out. None unless all runs have kept their images, equally many.
    """
    known = {row: {seed: w for seed, w in own.items() if w is not None} for row, own in wrong.items() if own}
    counts = {len(w) for own in known.values() for w in own.values()}
    if len(counts) != 1 or any(len(own) < len(wrong[row]) for row, own in known.items()):
        return None
    (count,) = counts
    # An error of 0 counts as half an image.
    relative = {row: {seed: w / max(w.mean(), 0.5 / count) for seed, w in own.items()} for row, own in known.items()}
    found = np.atleast_2d(np.cov([np.mean(list(own.values()), axis=0) for own in relative.values()]))
    # Of the covariance over images, what differs from seed to seed: in one row, and in two alike.
    for (i, a), (j, b) in itertools.product(enumerate(relative.values()), repeat=2):
        if len(seeds := sorted(a.keys() & b.keys())) > 1:
            own = [np.array([row[seed] for seed in seeds]) for row in (a, b)]
            deviations = [each - each.mean(axis=0) for each in own]
            together = (deviations[0] * deviations[1]).sum(axis=0).mean() / (len(seeds) - 1)
            found[i, j] -= together * len(seeds) / (len(a) * len(b))
    for i, own in enumerate(known.values()):
        if not any(images.any() for images in own.values()):  # the least that half an image can vary
            found[i, i] = 2 * count
    values, vectors = np.linalg.eigh(found / count)
    found = vectors * values.clip(min=0) @ vectors.T  # taking something off may have left no covariance
    return {(a, b): float(found[i, j]) for i, a in enumerate(relative) for j, b in enumerate(relative)}
