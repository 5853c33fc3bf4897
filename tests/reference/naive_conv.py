"""The padding rule spelled out tap by tap: slow, and obviously right. (N, C, H, W) in, (N, D, H', W') out, any float dtype.

mode: symmetric; one-sided (torch's odd kernels, TensorFlow's even ones); turn 0 to turn 3 (one-sided, the corner of that layer);
off (everything at the far end). padding: zeros, reflect, replicate, circular.
"""

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
    if mode == "off":
        return 0, 0
    if total % 2 == 0:
        return total // 2, total // 2
    if mode == "symmetric":
        top, _, left, _ = AUTHORS[channel_group(channel, channels)]
    elif mode.startswith("turn"):
        top, _, left, _ = AUTHORS[int(mode[-1])]
    else:  # one-sided: even kernels at the bottom/right as TensorFlow, odd ones at the top/left as torch
        top = left = 1 if k % 2 else 0
    return (total - 1) // 2 + top, (total - 1) // 2 + left


def place(p, size, padding):
    """Where in a map of `size` pixels stands what pixel p has, p anywhere; None for a zero."""
    while not 0 <= p < size:
        if padding == "zeros":
            return None
        if padding == "replicate":
            p = 0 if p < 0 else size - 1
        if padding == "circular":
            p = p + size if p < 0 else p - size
        if padding == "reflect":
            p = 0 if size == 1 else -p if p < 0 else 2 * (size - 1) - p
    return p


def conv2d(x, weight, bias, stride, mode, padding="zeros"):
    n, channels, h, w = x.shape
    k = weight.shape[-1]
    rows = []
    for i in range((h + stride - 1) // stride):
        row = []
        for j in range((w + stride - 1) // stride):
            y = bias.expand(n, -1).clone()
            for c in range(channels):
                top, left = before(c, channels, k, stride, mode)
                for m in range(k):
                    for q in range(k):
                        p, r = place(stride * i + m - top, h, padding), place(stride * j + q - left, w, padding)
                        if p is not None and r is not None:
                            y = y + x[:, c, p, r, None] * weight[:, c, m, q]
            row.append(y)
        rows.append(torch.stack(row, -1))
    return torch.stack(rows, -2)


def conv_transpose2d(x, weight, bias, stride, mode, padding="zeros", output_size=None):
    """The scatter form, of an input that goes on beyond its border. It crops where the convolution of the same rule pads after, so
    that at stride 1 it is that convolution with flipped weights; kernels on one side are the adjoint of the convolution instead."""
    n, channels, h, w = x.shape
    k = weight.shape[-1]
    height, width = output_size or (h * stride, w * stride)
    reach = 0 if padding == "zeros" else k
    terms = [[[bias.expand(n, -1)] for _ in range(width)] for _ in range(height)]
    for c in range(channels):
        top, left = before(c, channels, k, stride, mode)
        if mode == "symmetric":
            top, left = k - stride - top, k - stride - left
        for i in range(-reach, h + reach):
            for j in range(-reach, w + reach):
                u, v = place(i, h, padding), place(j, w, padding)
                for m in range(k):
                    for q in range(k):
                        p, r = stride * i + m - top, stride * j + q - left
                        if u is not None and v is not None and 0 <= p < height and 0 <= r < width:
                            terms[p][r].append(x[:, c, u, v, None] * weight[c, :, m, q])
    return torch.stack([torch.stack([sum(t) for t in row], -1) for row in terms], -2)
