"""Differentiable augmentation: real and generated images are transformed alike before the discriminator sees them.

Zhao et al. 2020, "Differentiable Augmentation for Data-Efficient GAN Training" (DiffAugment): the gradient passes through it to the
generator, whose images therefore don't show it. Karras et al. 2020, "Training Generative Adversarial Networks with Limited Data"
(ADA): each transform is applied to each image with a probability, which is adapted to how much the discriminator overfits.

Random numbers come from the caller, as u in [0, 1), DRAWS for each image: gan.step derives them from (seed, step).
"""

from typing import Any

import torch
from torch import Tensor

from gan.config import Augment

CHANGES = ("brightness", "saturation", "contrast", "translation", "cutout")
AMOUNTS = ("brightness", "saturation", "contrast", "down", "right", "row", "column")
DRAWS = len(CHANGES) + len(AMOUNTS)  # random numbers per image: whether each change is made, then by how much


def augment(x: Tensor, u: Tensor, how: Augment, probability: float | Tensor = 1.0) -> Tensor:
    """x: (N, 3, H, W) in [-1, 1]; u: (N, DRAWS) in [0, 1). Returns (N, 3, H, W); colours may leave the range.

    how: which changes, and how large. probability: of each change to each image, a number or a scalar tensor.
    Derivatives of any order work.
    """
    made = dict(zip(CHANGES, (u[:, : len(CHANGES)] < probability).T))
    amount = dict(zip(AMOUNTS, u[:, len(CHANGES) :].to(x.dtype).T))
    where = lambda name, changed: torch.where(made[name][:, None, None, None], changed, x)
    if how.colour:
        x = where("brightness", brightness(x, amount["brightness"]))
        x = where("saturation", saturation(x, amount["saturation"]))
        x = where("contrast", contrast(x, amount["contrast"]))
    if how.translation:
        x = where("translation", translation(x, amount["down"], amount["right"], how.translation))
    if how.cutout:
        x = where("cutout", cutout(x, amount["row"], amount["column"], how.cutout))
    return x


# --- DiffAugment's changes, each by u in [0, 1) of shape (N,) -------------------------------------------------------------------


def brightness(x: Tensor, u: Tensor) -> Tensor:
    """x + b, with b = u - 0.5."""
    return x + _per_image(u - 0.5)


def saturation(x: Tensor, u: Tensor) -> Tensor:
    """Scale the distance of each pixel from its grey level by 2 u, from 0 to 2."""
    grey = x.mean(dim=1, keepdim=True)
    return (x - grey) * _per_image(2 * u) + grey


def contrast(x: Tensor, u: Tensor) -> Tensor:
    """Scale the distance of each pixel from its image's mean by u + 0.5, from 0.5 to 1.5."""
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    return (x - mean) * _per_image(u + 0.5) + mean


def translation(x: Tensor, u_down: Tensor, u_right: Tensor, share: float) -> Tensor:
    """Translate by whole pixels, up to this share of a side in each direction; the rest is filled with zeros, which are grey."""
    most = [int(size * share + 0.5) for size in x.shape[2:]]
    down, right = (uniform_integers(u, 2 * m + 1) - m for u, m in zip((u_down, u_right), most))
    return _Translation.apply(x, down, right)


def cutout(x: Tensor, u_row: Tensor, u_column: Tensor, share: float) -> Tensor:
    """Set a rectangle with this share of each side to 0. Its centre is uniform over the image, so it may cross the border."""
    rows, columns = (_covered(size, u, share) for size, u in zip(x.shape[2:], (u_row, u_column)))
    return x.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0.0)


def _covered(size: int, u: Tensor, share: float) -> Tensor:
    """(N, size): the positions along an axis that lie within the rectangle."""
    side = int(size * share + 0.5)
    first = (uniform_integers(u, size + 1 - side % 2) - side // 2)[:, None]
    position = torch.arange(size, device=u.device)
    return (position >= first) & (position < first + side)


def uniform_integers(u: Tensor, below: int) -> Tensor:
    """u (N,) in [0, 1) -> uniform integers 0 .. below - 1, (N,) int64."""
    return (u * below).long().clamp(max=below - 1)  # a float can round up to `below`


def _per_image(amount: Tensor) -> Tensor:
    return amount[:, None, None, None]


class _Translation(torch.autograd.Function):
    """y[n, :, i, j] = x[n, :, i - down[n], j - right[n]], or 0 outside. Its adjoint is the opposite translation, and so on."""

    @staticmethod
    def forward(x: Tensor, down: Tensor, right: Tensor) -> Tensor:
        n, _, h, w = x.shape
        rows, columns = torch.arange(h, device=x.device) - down[:, None], torch.arange(w, device=x.device) - right[:, None]
        inside = ((rows >= 0) & (rows < h))[:, :, None] & ((columns >= 0) & (columns < w))[:, None, :]
        image = torch.arange(n, device=x.device)[:, None, None]
        moved = x.permute(0, 2, 3, 1)[image, rows.clamp(0, h - 1)[:, :, None], columns.clamp(0, w - 1)[:, None, :]]
        return moved.permute(0, 3, 1, 2) * inside[:, None]  # lies channels_last

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        _, down, right = inputs
        ctx.save_for_backward(down, right)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple:
        down, right = ctx.saved_tensors
        return _Translation.apply(grad_outputs[0], -down, -right), None, None


# --- ADA's probability ----------------------------------------------------------------------------------------------------------


class AdaptiveProbability:
    """The probability of ADA: it rises while r_t is above augment.target, and falls otherwise. Karras et al. 2020, section 3.1.

    r_t, the mean sign of D(x) over real images, says how much D overfits. The probability is adjusted every augment.interval steps,
    at a rate that takes it from 0 to 1 in augment.images real images. Both numbers stay on the device, so that a GPU never waits.
    """

    def __init__(self, how: Augment, images_per_step: int, device: torch.device):
        self.how = how
        self.rate = images_per_step * how.interval / how.images
        self.numbers = torch.tensor([how.start, 0.0], device=device)  # the probability; the sum of r_t since it was adjusted

    @property
    def probability(self) -> Tensor:
        return self.numbers[0]

    def observe(self, r_t: Tensor, step: int) -> None:
        """Take in r_t, a scalar on the device, of step number `step` (the first is 1). It must be the same in every process."""
        probability, total = self.numbers
        total = total + r_t
        if step % self.how.interval == 0:
            direction = torch.sign(total / self.how.interval - self.how.target)
            probability, total = (probability + direction * self.rate).clamp(0, 1), torch.zeros_like(total)
        self.numbers = torch.stack([probability, total])
