"""DiffAugment spelled out, a pixel at a time. Images (3, H, W) in and out, any float dtype; u in [0, 1)."""

import torch


def brightness(x, u):
    return x + (u - 0.5)


def saturation(x, u):
    y = x.clone()
    for i in range(x.shape[1]):
        for j in range(x.shape[2]):
            grey = (x[0, i, j] + x[1, i, j] + x[2, i, j]) / 3
            for c in range(3):
                y[c, i, j] = grey + 2 * u * (x[c, i, j] - grey)
    return y


def contrast(x, u):
    mean = x.sum() / x.numel()
    return mean + (0.5 + u) * (x - mean)


def translation(x, u_down, u_right, share):
    _, h, w = x.shape
    most = [int(size * share + 0.5) for size in (h, w)]
    down, right = (_one_of(range(-m, m + 1), u) for m, u in zip(most, (u_down, u_right)))
    y = torch.zeros_like(x)
    for i in range(h):
        for j in range(w):
            if 0 <= i - down < h and 0 <= j - right < w:
                y[:, i, j] = x[:, i - down, j - right]
    return y


def cutout(x, u_row, u_column, share):
    _, h, w = x.shape
    y = x.clone()
    rows, columns = (_hole(size, u, share) for size, u in ((h, u_row), (w, u_column)))
    for i in rows:
        for j in columns:
            y[:, i, j] = 0
    return y


def _hole(size, u, share):
    """Centres are the pixels, or for an even side the lines between them, the borders included."""
    side = int(size * share + 0.5)
    centre = _one_of(range(size) if side % 2 else range(size + 1), u)
    return [p for p in range(centre - side // 2, centre - side // 2 + side) if 0 <= p < size]


def _one_of(values, u):
    return values[int(u * len(values))]
