"""Losses against their formulas, and penalties against discriminators whose gradients are known."""

import math

import pytest
import torch

from gan.objectives import LOSSES, certainty, difference_penalty, gradient_penalty, input_gradient, r1_penalty

REAL = [-2.5, -0.3, 0.0, 0.7, 3.0]  # on both sides of every margin
FAKE = [-3.0, -0.6, 1.5]


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


# name: the discriminator's term on a real and on a fake logit, the generator's on a fake one
TERMS = {
    "non_saturating": (lambda r: -math.log(sigmoid(r)), lambda f: -math.log(1 - sigmoid(f)), lambda f: -math.log(sigmoid(f))),
    "hinge": (lambda r: max(0, 1 - r), lambda f: max(0, 1 + f), lambda f: -f),
    "wasserstein": (lambda r: -r, lambda f: f, lambda f: -f),
    "least_squares": (lambda r: (r - 1) ** 2 / 2, lambda f: f**2 / 2, lambda f: (f - 1) ** 2 / 2),
}
SLOPES = {
    "non_saturating": (lambda r: sigmoid(r) - 1, sigmoid, lambda f: sigmoid(f) - 1),
    "hinge": (lambda r: -1 if r < 1 else 0, lambda f: 1 if f > -1 else 0, lambda f: -1),
    "wasserstein": (lambda r: -1, lambda f: 1, lambda f: -1),
    "least_squares": (lambda r: r - 1, lambda f: f, lambda f: f - 1),
}


def logits(values):
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


def mean(term, values):
    return sum(map(term, values)) / len(values)


def test_every_loss_has_a_formula_here():
    assert LOSSES.keys() == TERMS.keys() | {"relativistic"}


def test_the_relativistic_loss_is_its_formula_over_pairs():
    """-log s(C(x) - C(G(z))) and -log s(C(G(z)) - C(x)), with their slopes."""
    real, fake = logits(REAL), logits([*FAKE, 0.2, -1.0])
    pairs = list(zip(real.tolist(), fake.tolist()))
    for loss, sign in ((LOSSES["relativistic"].discriminator(real, fake), 1), (LOSSES["relativistic"].generator(fake, real), -1)):
        assert loss.item() == pytest.approx(sum(-math.log(sigmoid(sign * (r - f))) for r, f in pairs) / 5, rel=1e-12)
        slopes = torch.autograd.grad(loss, [real, fake])
        wanted = [sign * (sigmoid(sign * (r - f)) - 1) / 5 for r, f in pairs]
        assert slopes[0].tolist() == pytest.approx(wanted, rel=1e-12)
        assert slopes[1].tolist() == pytest.approx([-w for w in wanted], rel=1e-12)
    assert [name for name, loss in LOSSES.items() if loss.paired] == ["relativistic"]


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("hinge", (2 - 2) / 5),  # signs of D(x): - - 0 + +
        ("non_saturating", (2 - 2) / 5),
        ("least_squares", (2 - 3) / 5),  # whose targets are 1 and 0: of D(x) - 1/2
        ("wasserstein", (3 - 2) / 5),  # of D(x) - D(G(z)), which has no zero of its own
        ("relativistic", (3 - 2) / 5),
    ],
)
def test_certainty_counts_the_real_images_that_are_told_from_generated_ones(name, wanted):
    fake = torch.tensor([-3.0, -0.6, 1.5, -1.0, 4.0])
    assert certainty(LOSSES[name], torch.tensor(REAL), fake).item() == pytest.approx(wanted)


@pytest.mark.parametrize("name", TERMS)
def test_a_loss_is_its_formula(name):
    on_real, on_fake, generator = TERMS[name]
    d_loss = LOSSES[name].discriminator(logits(REAL), logits(FAKE))
    assert d_loss.item() == pytest.approx(mean(on_real, REAL) + mean(on_fake, FAKE), rel=1e-12)
    assert LOSSES[name].generator(logits(FAKE)).item() == pytest.approx(mean(generator, FAKE), rel=1e-12)


@pytest.mark.parametrize("name", TERMS)
def test_a_loss_has_the_slope_of_its_formula(name):
    real, fake, fooled = logits(REAL), logits(FAKE), logits(FAKE)
    LOSSES[name].discriminator(real, fake).backward()
    LOSSES[name].generator(fooled).backward()
    for x, values, slope in zip((real, fake, fooled), (REAL, FAKE, FAKE), SLOPES[name]):
        assert x.grad.tolist() == pytest.approx([slope(v) / len(values) for v in values], rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("name", LOSSES)
def test_discriminator_raises_real_and_lowers_fake_which_the_generator_raises(name):
    real, fake, fooled = logits([-0.5]), logits([0.5]), logits([0.5])
    LOSSES[name].discriminator(real, fake).backward()
    LOSSES[name].generator(fooled, *[real.detach()] * LOSSES[name].paired).backward()
    assert real.grad < 0 and fake.grad > 0 and fooled.grad < 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_non_saturating_loss_neither_overflows_nor_saturates(dtype):
    real, fake, fooled = (torch.tensor(x, dtype=dtype, requires_grad=True) for x in ([-1e4, 1e4], [1e4, -1e4], [-1e4, 1e4]))
    d_loss, g_loss = LOSSES["non_saturating"].discriminator(real, fake), LOSSES["non_saturating"].generator(fooled)
    assert d_loss.item() == pytest.approx(1e4, rel=0.01) and g_loss.item() == pytest.approx(5e3, rel=0.01)
    (d_loss + g_loss).backward()
    assert real.grad.tolist() == [-0.5, 0] and fake.grad.tolist() == [0.5, 0] and fooled.grad.tolist() == [-0.5, 0]


# --- penalties ---------------------------------------------------------------------------------------------------------------


def images(n, seed=0):
    return torch.randn(n, 3, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def epsilons(n):
    return torch.rand(n, dtype=torch.float64, generator=torch.Generator().manual_seed(9))


def weights(norm=None):
    w = images(1, seed=5)[0].flatten()
    return (w if norm is None else w / w.norm() * norm).clone().requires_grad_()


def linear(w):
    return lambda x: x.flatten(1) @ w


def quadratic(x):
    """D(x) = |x|^2 / 2, whose gradient is x."""
    return x.flatten(1).square().sum(1) / 2


@pytest.mark.parametrize("norm", [0.25, 1.0, 3.0])
def test_penalties_of_a_linear_discriminator(norm):
    D = linear(weights(norm))
    assert gradient_penalty(D, images(4), images(4, 1), epsilons(4)).item() == pytest.approx((norm - 1) ** 2, abs=1e-14)
    assert r1_penalty(D, images(4)).item() == pytest.approx(norm**2 / 2, rel=1e-12)


def test_penalties_of_a_linear_discriminator_move_its_weights_by_their_formulas():
    for penalty, slope in (
        (lambda D: gradient_penalty(D, images(4), images(4, 1), epsilons(4)), lambda w: 2 * (w.norm() - 1) * w / w.norm()),
        (lambda D: r1_penalty(D, images(4)), lambda w: w),
    ):
        w = weights()
        penalty(linear(w)).backward()
        torch.testing.assert_close(w.grad, slope(w.detach()), rtol=1e-12, atol=1e-12)


def test_gradient_penalty_looks_between_real_and_fake_with_an_epsilon_per_image():
    real, fake, e = images(5), images(5, 1), epsilons(5)
    expected = [((e[i] * real[i] + (1 - e[i]) * fake[i]).norm().item() - 1) ** 2 for i in range(5)]
    assert gradient_penalty(quadratic, real, fake, e).item() == pytest.approx(sum(expected) / 5, rel=1e-12)


def test_epsilon_one_is_real_and_zero_is_fake():
    real, fake = images(4), images(4, 1)
    for epsilon, there in ((1.0, real), (0.0, fake)):
        penalty = gradient_penalty(quadratic, real, fake, torch.full((4,), epsilon, dtype=torch.float64))
        assert penalty.item() == pytest.approx((there.flatten(1).norm(dim=1) - 1).square().mean().item(), rel=1e-12)


def test_r1_is_half_the_mean_squared_norm():
    real = images(5)
    assert r1_penalty(quadratic, real).item() == pytest.approx(real.square().sum().item() / 5 / 2, rel=1e-12)


def test_input_gradient_has_the_shape_of_its_input():
    torch.testing.assert_close(input_gradient(quadratic, images(3)), images(3))


@pytest.mark.parametrize(
    "penalty",
    [lambda D: gradient_penalty(D, images(3), images(3, 1), epsilons(3)), lambda D: r1_penalty(D, images(3))],
    ids=["gradient_penalty", "r1"],
)
def test_second_derivatives_agree_with_finite_differences(penalty):
    """The penalty of D(x) = <v, tanh(W x)> by its weights: a derivative of a derivative."""
    generator = torch.Generator().manual_seed(3)
    w = torch.randn(12, 4, dtype=torch.float64, generator=generator).requires_grad_()
    v = torch.randn(4, dtype=torch.float64, generator=generator).requires_grad_()
    assert torch.autograd.gradcheck(lambda w, v: penalty(lambda x: torch.tanh(x.flatten(1) @ w) @ v), (w, v))


def test_penalties_reach_the_discriminator_and_nothing_before_it():
    w, real, fake = weights(), images(4).requires_grad_(), images(4, 1).requires_grad_()
    (gradient_penalty(linear(w), real, fake, epsilons(4)) + r1_penalty(linear(w), real)).backward()
    assert w.grad is not None and real.grad is None and fake.grad is None


def test_dead_units_make_no_nan():
    """Where D is flat the norm has no derivative; the weights must stay finite all the same."""
    w = weights()
    penalty = gradient_penalty(lambda x: torch.relu(x.flatten(1) @ w - 1e6), images(4), images(4, 1), epsilons(4))
    penalty.backward()
    assert penalty.item() == 1 and w.grad.isfinite().all()


# --- the finite difference ---------------------------------------------------------------------------------------------------


def directions(n, seed):
    return torch.randn(n, 3, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("sigma", [1.0, 0.01])
def test_a_difference_of_a_linear_discriminator_is_its_slope_along_the_direction(sigma):
    w, x, n = weights(3.0), images(4), directions(4, 1)
    found = difference_penalty(linear(w)(x), linear(w)(x + sigma * n), sigma)
    along = [sum(a * b for a, b in zip(w.tolist(), one.flatten().tolist())) ** 2 / 2 for one in n]
    assert found.item() == pytest.approx(sum(along) / 4, rel=1e-9)


def tanh_net(seed=3):
    generator = torch.Generator().manual_seed(seed)
    w, v = (torch.randn(*shape, dtype=torch.float64, generator=generator).requires_grad_() for shape in ((12, 4), (4,)))
    return lambda x: torch.tanh(x.flatten(1) @ (w / 3)) @ v, (w, v)


def test_differences_have_the_exact_penalty_and_its_gradient_as_their_mean():
    """Over 20,000 directions, within the error of that mean; by the weights, too, which is what trains."""
    D, parameters = tanh_net()
    x = images(2).repeat(10_000, 1, 1, 1)
    found = difference_penalty(D(x), D(x + 0.01 * directions(len(x), 5)), 0.01)
    exact = r1_penalty(D, images(2))
    assert found.item() == pytest.approx(exact.item(), rel=0.03)
    for a, b in zip(torch.autograd.grad(found, parameters), torch.autograd.grad(exact, parameters)):
        torch.testing.assert_close(a, b, rtol=0, atol=0.05 * b.abs().max().item())


def test_the_error_of_the_mean_falls_with_the_square_of_sigma():
    """Over a direction and its opposite odd powers of sigma cancel: a tenth of sigma leaves a hundredth of the error."""
    D, _ = tanh_net()
    x, n = images(1).repeat(400, 1, 1, 1), directions(400, 6)
    along = (input_gradient(D, x) * n).flatten(1).sum(1).square().mean() / 2
    errors = [
        sum(difference_penalty(D(x), D(x + sign * sigma * n), sigma) for sign in (1, -1)).item() / 2 - along.item()
        for sigma in (0.1, 0.01)
    ]
    assert errors[0] / errors[1] == pytest.approx(100, rel=0.1)


def nodes(loss):
    """Names of the operations of a graph."""
    names, todo = set(), [loss.grad_fn]
    while todo:
        node = todo.pop()
        names.add(node.name())
        todo += [following for following, _ in node.next_functions if following is not None]
    return names


def test_a_difference_differentiates_once_where_the_exact_penalty_does_twice():
    D, _ = tanh_net()
    once, twice = nodes(difference_penalty(D(images(2)), D(images(2) + 0.01), 0.01)), nodes(r1_penalty(D, images(2)))
    assert "TanhBackward0" in once and not any("BackwardBackward" in name for name in once)
    assert any("TanhBackwardBackward" in name for name in twice)
