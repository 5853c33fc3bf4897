"""Differentiable augmentation: real and generated images are changed alike before the discriminator sees them.

Zhao et al. 2020, "Differentiable Augmentation for Data-Efficient GAN Training" (DiffAugment): the generator learns through it, so
that it isn't copied into the pictures. Karras et al. 2020, "Training Generative Adversarial Networks with Limited Data" (ADA): each
change is made to each image with a probability, which follows how far the discriminator overfits.

What is drawn comes from outside, as numbers u in [0, 1), DRAWS for each image: gan.step takes them from (seed, step).
"""

from typing import Any

import torch
from torch import Tensor

from gan.config import Augment

CHANGES = ("brightness", "saturation", "contrast", "translation", "cutout")
AMOUNTS = ("brightness", "saturation", "contrast", "down", "right", "row", "column")
DRAWS = len(CHANGES) + len(AMOUNTS)  # whether each change is made, then by how much


def augment(x: Tensor, u: Tensor, how: Augment, probability: float | Tensor = 1.0) -> Tensor:
    """x: (N, 3, H, W) in [-1, 1]; u: (N, DRAWS). Returns (N, 3, H, W); colours may leave the range. Derivatives of any order work.

    probability: of each change to each image, a number or a scalar tensor.
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
    """x + b, b between -0.5 and 0.5."""
    return x + _per_image(u - 0.5)


def saturation(x: Tensor, u: Tensor) -> Tensor:
    """Colours 0 to 2 times as far from their pixel's grey."""
    grey = x.mean(dim=1, keepdim=True)
    return (x - grey) * _per_image(2 * u) + grey


def contrast(x: Tensor, u: Tensor) -> Tensor:
    """Pixels 0.5 to 1.5 times as far from their image's mean."""
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    return (x - mean) * _per_image(u + 0.5) + mean


def translation(x: Tensor, u_down: Tensor, u_right: Tensor, share: float) -> Tensor:
    """Moved by whole pixels, up to this share of a side each way; zeros, which are grey, come in."""
    most = [int(size * share + 0.5) for size in x.shape[2:]]
    down, right = (whole(u, 2 * m + 1) - m for u, m in zip((u_down, u_right), most))
    return _Translation.apply(x, down, right)


def cutout(x: Tensor, u_row: Tensor, u_column: Tensor, share: float) -> Tensor:
    """A rectangle of this share of each side becomes 0; its centre is anywhere, so that it may reach over the border."""
    rows, columns = (_covered(size, u, share) for size, u in zip(x.shape[2:], (u_row, u_column)))
    return x.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0.0)


def _covered(size: int, u: Tensor, share: float) -> Tensor:
    """(N, size): the positions along an axis that lie within the rectangle."""
    side = int(size * share + 0.5)
    first = (whole(u, size + 1 - side % 2) - side // 2)[:, None]
    position = torch.arange(size, device=u.device)
    return (position >= first) & (position < first + side)


def whole(u: Tensor, below: int) -> Tensor:
    """Uniform whole numbers 0 .. below - 1, (N,) int64."""
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
    """Rises while D is surer of real images than augment.target says, and falls otherwise. Karras et al. 2020, section 3.1.

    Every augment.interval steps it moves, so far that augment.images real images make 1 of 0. How sure D is says r_t, the mean sign
    of D(x) over the real images of those steps. Both numbers lie on the device, so that nothing waits for them.
    """

    def __init__(self, how: Augment, images_per_step: int, device: torch.device):
        self.how = how
        self.rate = images_per_step * how.interval / how.images
        self.numbers = torch.tensor([how.start, 0.0], device=device)  # the probability; r_t of each step since it moved, summed

    @property
    def probability(self) -> Tensor:
        return self.numbers[0]

    def observe(self, r_t: Tensor, step: int) -> None:
        """r_t of step number `step`, the first being 1; the same in every process."""
        probability, total = self.numbers
        total = total + r_t
        if step % self.how.interval == 0:
            surer = torch.sign(total / self.how.interval - self.how.target)
            probability, total = (probability + surer * self.rate).clamp(0, 1), torch.zeros_like(total)
        self.numbers = torch.stack([probability, total])
