"""Losses and penalties in the papers' symbols. D(x) are logits of shape (N,); every function returns a scalar to minimise."""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Loss(NamedTuple):
    """The losses of both networks, from logits of shape (N,)."""

    discriminator: Callable[[Tensor, Tensor], Tensor]  # (D(x), D(G(z))) -> scalar
    generator: Callable[..., Tensor]  # D(G(z)) -> scalar; (D(G(z)), D(x)) -> scalar of a paired one
    paired: bool = False  # whether the generator's loss compares with as many real images
    undecided: float | None = 0.0  # the logit of an image that may be either; None: only differences of logits mean anything


LOSSES = {
    # -log s(D(x)) - log(1 - s(D(G(z)))), and -log s(D(G(z))) for G. Goodfellow et al. 2014, section 3.
    "non_saturating": Loss(
        lambda real, fake: F.softplus(-real).mean() + F.softplus(fake).mean(),
        lambda fake: F.softplus(-fake).mean(),
    ),
    # max(0, 1 - D(x)) + max(0, 1 + D(G(z))), and -D(G(z)). Lim & Ye 2017; Miyato et al. 2018, eq. 16-17.
    "hinge": Loss(
        lambda real, fake: F.relu(1 - real).mean() + F.relu(1 + fake).mean(),
        lambda fake: -fake.mean(),
    ),
    # D(G(z)) - D(x), and -D(G(z)). Arjovsky et al. 2017, eq. 2; wants gradient_penalty.
    "wasserstein": Loss(
        lambda real, fake: fake.mean() - real.mean(),
        lambda fake: -fake.mean(),
        undecided=None,
    ),
    # (D(x) - 1)^2 / 2 + D(G(z))^2 / 2, and (D(G(z)) - 1)^2 / 2. Mao et al. 2017, eq. 9.
    "least_squares": Loss(
        lambda real, fake: (real - 1).square().mean() / 2 + fake.square().mean() / 2,
        lambda fake: (fake - 1).square().mean() / 2,
        undecided=0.5,
    ),
    # -log s(D(x) - D(G(z))), and -log s(D(G(z)) - D(x)), x and z in pairs. Jolicoeur-Martineau 2019 (RSGAN); Huang et al. 2024
    # (R3GAN), eq. 2; wants r1 and r2.
    "relativistic": Loss(
        lambda real, fake: F.softplus(fake - real).mean(),
        lambda fake, real: F.softplus(real - fake).mean(),
        paired=True,
        undecided=None,
    ),
}


def register(name: str, loss: Loss) -> None:
    """Let `objective.loss` name this loss. ValueError for a name that is taken."""
    if name in LOSSES:
        raise ValueError(f"there is a loss {name!r} already; choose another name")
    LOSSES[name] = loss


def certainty(loss: Loss, real: Tensor, fake: Tensor) -> Tensor:
    """r_t of Karras et al. 2020 (ADA), eq. 1: the mean sign of D(x); 0 for a discriminator that guesses, 1 for one that never errs.

    Where only differences mean something, the mean sign of D(x) - D(G(z)), in pairs.
    """
    return (real - (fake if loss.undecided is None else loss.undecided)).sign().mean()


def input_gradient(discriminator: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The gradient of D(x) by x, (N, C, H, W), differentiable again."""
    x = x.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(discriminator(x).sum(), x, create_graph=True)
    return gradient


def gradient_penalty(discriminator: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, epsilon: Tensor) -> Tensor:
    """(|grad D(x^)|_2 - 1)^2 at x^ = e x + (1 - e) G(z), e ~ U[0, 1) of shape (N,). Gulrajani et al. 2017, eq. 3, less lambda."""
    epsilon = epsilon.view(-1, 1, 1, 1)
    norm = input_gradient(discriminator, epsilon * real + (1 - epsilon) * fake).flatten(1).norm(dim=1)
    return (norm - 1).square().mean()


def r1_penalty(discriminator: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """|grad D(x)|^2 / 2 on real images, or R2 on generated ones. Mescheder et al. 2018, eq. 9, without gamma."""
    return input_gradient(discriminator, x).flatten(1).square().sum(dim=1).mean() / 2


def difference_penalty(here: Tensor, there: Tensor, sigma: float) -> Tensor:
    """r1_penalty from D(x) and D(x + sigma n), n ~ N(0, I), without a second derivative: ((D(x + sigma n) - D(x)) / sigma)^2 / 2.

    Its mean over n is |grad D(x)|^2 / 2 + O(sigma^2), without the rest where D is linear. With one n per image, a mean over N
    images scatters by sqrt(2 / N) of itself. The approximated R1 of Lin et al. 2025 (arXiv 2501.08316), with 1 / (2 sigma^2)
    written out.
    """
    return ((there - here) / sigma).square().mean() / 2
