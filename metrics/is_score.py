"""The Inception Score, over a stream of class probabilities.

Source: Salimans, Goodfellow, Zaremba, Cheung, Radford, Chen, "Improved techniques for training GANs", NeurIPS 2016
(arXiv 1606.03498), section 4: IS = exp E_x KL(p(y | x) || p(y)), the mean over parts of the images, each with its own p(y).
"""

import math

import numpy as np
import torch
from torch import Tensor

from metrics.frechet import as_features
from metrics.score_table import Embedded, Value, register


class InceptionScore:
    """Mean and standard deviation of the score over `splits` contiguous parts of `count` images that arrive in batches.

    Part i holds images i * count // splits to (i + 1) * count // splits - 1, as in the authors' code, which is why the count must
    be known beforehand. Since KL = sum p log p - sum p log q, a part needs two sums: memory does not grow with the images.
    """

    def __init__(self, count: int, splits: int = 10):
        """ValueError for splits < 1 and for fewer images than splits."""
        if not 1 <= splits <= count:
            raise ValueError(f"{splits} splits need at least 1 image each, and there are {count}: score more images or split less")
        self.count, self.splits = count, splits
        self.seen = 0
        self._limits = [i * count // splits for i in range(splits + 1)]
        self._entropies = torch.zeros(splits, dtype=torch.float64)  # sum over images of sum_y p log p
        self._classes: Tensor | None = None  # (splits, C) float64: sum over images of p(y | x)

    def update(self, probabilities: Tensor | np.ndarray) -> None:
        """Add (n, C) probabilities p(y | x) in any floating point dtype.

        ValueError, changing nothing, if they aren't probabilities (negative, or a row's sum more than 1e-3 from 1), if the number
        of classes changes, or if there are more images than announced.
        """
        p = as_features(probabilities, None if self._classes is None else self._classes.shape[1]).double()
        if (p < 0).any() or ((p.sum(dim=1) - 1).abs() > 1e-3).any():
            raise ValueError("these are not probabilities, not negative and with rows that sum to 1: pass logits through a softmax")
        if self.seen + len(p) > self.count:
            raise ValueError(f"{self.seen + len(p)} images arrived, but {self.count} were announced: pass the true count")
        if self._classes is None:
            self._classes = torch.zeros(len(self._entropies), p.shape[1], dtype=torch.float64)
        for part, (start, stop) in enumerate(zip(self._limits, self._limits[1:])):
            mine = p[max(0, start - self.seen) : max(0, stop - self.seen)]
            self._classes[part] += mine.sum(dim=0)
            self._entropies[part] += torch.xlogy(mine, mine).sum()  # 0 log 0 = 0
        self.seen += len(p)

    def result(self) -> tuple[float, float]:
        """(mean, standard deviation with ddof 0) over the parts; scores lie between 1 and C. ValueError before all images came."""
        if self._classes is None or self.seen != self.count:
            raise ValueError(f"{self.seen} images arrived, but {self.count} were announced: add the others or pass the true count")
        sizes = torch.tensor(self._limits, dtype=torch.float64).diff()
        q = self._classes / sizes[:, None]
        scores = (self._entropies / sizes - torch.xlogy(q, q).sum(dim=1)).exp()
        return scores.mean().item(), math.sqrt(scores.var(correction=0).item())


def inception_score(probabilities: Tensor | np.ndarray, splits: int = 10) -> tuple[float, float]:
    """(mean, std) of the score of (N, C) probabilities, all at once. ValueErrors as in InceptionScore."""
    score = InceptionScore(len(probabilities), splits)
    score.update(probabilities)
    return score.result()


@register("is", gatherer=InceptionScore)
def inception(real: Embedded, generated: Embedded, seed: int) -> list[Value]:
    """The score of the generated side alone, with its deviation over splits."""
    gathered = generated.seen("is")
    mean, spread = gathered.result()
    return [Value("inception_score", mean, spread, f"{gathered.splits} splits")]
