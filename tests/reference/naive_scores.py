"""Scores straight from their formulas, in float64 numpy and plain loops: slow, and obviously right. (n, d) features in."""

import numpy as np


def frechet(mean1, cov1, mean2, cov2):
    """|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)); the product isn't symmetric, so its eigenvalues are the general ones."""
    roots = np.sqrt(np.linalg.eigvals(cov1 @ cov2).astype(complex)).real
    return np.sum((mean1 - mean2) ** 2) + np.trace(cov1) + np.trace(cov2) - 2 * np.sum(roots)


def frechet_from_features(a, b):
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return frechet(a.mean(axis=0), np.cov(a, rowvar=False), b.mean(axis=0), np.cov(b, rowvar=False))


def inception_score(p, splits):
    """exp of the mean over images of sum_y p(y|x) log(p(y|x) / p(y)), for every part of the images."""
    p, scores = np.asarray(p, np.float64), []
    for i in range(splits):
        part = p[i * len(p) // splits : (i + 1) * len(p) // splits]
        q = part.mean(axis=0)
        divergences = []
        for row in part:
            divergences.append(sum(row[y] * np.log(row[y] / q[y]) for y in range(len(row)) if row[y] > 0))
        scores.append(np.exp(np.mean(divergences)))
    return np.mean(scores), np.std(scores)


def squared_mmd(x, y):
    """Eq. 4 of Bińkowski et al. 2018 with k(x, y) = (x.y / d + 1)^3."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    n, m = len(x), len(y)

    def k(u, v):
        return (np.dot(u, v) / len(u) + 1) ** 3

    value = sum(k(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    value += sum(k(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return value - 2 * sum(k(u, v) for u in x for v in y) / (n * m)


def distance(u, v):
    return np.sqrt(np.sum((u - v) ** 2))


def radii(x, k):
    """The distance of every point to its k-th nearest other point."""
    return [sorted(distance(x[i], x[j]) for j in range(len(x)) if j != i)[k - 1] for i in range(len(x))]


def precision_recall(real, fake, k):
    real, fake = np.asarray(real, np.float64), np.asarray(fake, np.float64)

    def inside(points, centres):
        balls = list(zip(centres, radii(centres, k)))
        return np.mean([any(distance(point, centre) <= radius for centre, radius in balls) for point in points])

    return inside(fake, real), inside(real, fake)


def density_coverage(real, fake, k):
    real, fake = np.asarray(real, np.float64), np.asarray(fake, np.float64)
    inside = np.array([[distance(x, y) <= radius for y in fake] for x, radius in zip(real, radii(real, k))])
    return inside.sum() / (k * len(fake)), inside.any(axis=1).mean()
