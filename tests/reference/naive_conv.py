"""The padding rule spelled out tap by tap: slow, and obviously right. (N, C, H, W) in, (N, D, H', W') out, any float dtype."""

import torch

# [top, bottom, left, right]: 1 marks the sides that get the left-over pixel, in the order of the paper's authors.
AUTHORS = [[0, 1, 0, 1], [1, 0, 1, 0], [0, 1, 1, 0], [1, 0, 0, 1]]


def channel_group(channel, channels):
    """Group sizes are equal but for the first channels % 4 groups, which hold one channel more."""
    limits = []
    for group in range(4):
        limits += [group] * (channels // 4 + (1 if group < channels % 4 else 0))
    return limits[channel]


def before(channel, channels, k, s, mode):
    """Pixels padded above and left of this input channel."""
    total = k - s
    if total % 2 == 0:
        return total // 2, total // 2
    if mode == "symmetric":
        top, _, left, _ = AUTHORS[channel_group(channel, channels)]
    else:  # one-sided: even kernels at the bottom/right as TensorFlow, odd ones at the top/left as torch
        top = left = 1 if k % 2 else 0
    return (total - 1) // 2 + top, (total - 1) // 2 + left


def conv2d(x, weight, bias, stride, mode):
    n, channels, h, w = x.shape
    k = weight.shape[-1]
    rows = []
    for i in range(h // stride):
        row = []
        for j in range(w // stride):
            y = bias.expand(n, -1).clone()
            for c in range(channels):
                top, left = before(c, channels, k, stride, mode)
                for m in range(k):
                    for q in range(k):
                        p, r = stride * i + m - top, stride * j + q - left
                        if 0 <= p < h and 0 <= r < w:
                            y = y + x[:, c, p, r, None] * weight[:, c, m, q]
            row.append(y)
        rows.append(torch.stack(row, -1))
    return torch.stack(rows, -2)


def conv_transpose2d(x, weight, bias, stride, mode):
    """The scatter form. It crops where the convolution of the same rule pads after, so that at stride 1 it is that convolution
    with flipped weights; one-sided kernels are the adjoint of the one-sided convolution instead."""
    n, channels, h, w = x.shape
    k = weight.shape[-1]
    terms = [[[bias.expand(n, -1)] for _ in range(w * stride)] for _ in range(h * stride)]
    for c in range(channels):
        top, left = before(c, channels, k, stride, mode)
        if mode == "symmetric":
            top, left = k - stride - top, k - stride - left
        for i in range(h):
            for j in range(w):
                for m in range(k):
                    for q in range(k):
                        p, r = stride * i + m - top, stride * j + q - left
                        if 0 <= p < h * stride and 0 <= r < w * stride:
                            terms[p][r].append(x[:, c, i, j, None] * weight[c, :, m, q])
    return torch.stack([torch.stack([sum(t) for t in row], -1) for row in terms], -2)
