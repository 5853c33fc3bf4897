"""metrics.frechet against numpy's general eigenvalues, closed forms, and distributions whose distance is known."""

import warnings

import numpy as np
import pytest
import torch

from metrics import frechet
from metrics.frechet import (
    Moments,
    frechet_distance,
    frechet_from_features,
    nuclear_norm,
    square_root,
)
from tests.helpers import random_features
from tests.reference import naive_scores


def covariance(d, seed, rank=None, decay=0.0):
    """A random covariance of this rank, its spectrum falling by e^-decay in all."""
    scale = torch.exp(-decay * torch.arange(rank or d) / d)
    root = random_features(d, rank or d, seed) * scale
    return root @ root.T / d


def trace_of_root(S1, S2):
    """tr (S1 S2)^(1/2) as the distance takes it."""
    return nuclear_norm(square_root(S1).T @ square_root(S2))


def moments(x, batch=None):
    stream = Moments(x.shape[1])
    for piece in x.split(batch or len(x)):
        stream.update(piece)
    return stream


# --- moments -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 3, 511, 512, 513, 1500])
def test_moments_equal_numpy(n):
    x = random_features(n, 20, seed=n)
    stream = moments(x, batch=97)
    assert stream.count == n and stream.mean.shape == (20,) and stream.covariance.shape == (20, 20)
    assert stream.mean.dtype == stream.covariance.dtype == torch.float64
    assert torch.equal(stream.covariance, stream.covariance.T)
    np.testing.assert_allclose(stream.mean, x.numpy().mean(axis=0), rtol=0, atol=1e-14)
    np.testing.assert_allclose(stream.covariance, np.cov(x.numpy(), rowvar=False), rtol=0, atol=1e-13)


@pytest.mark.parametrize("offset", [1e4, -1e7])
def test_a_large_mean_costs_no_digits(offset):
    # E xx^T - mm^T in float64 would lose 8 digits at 1e4 and all of them at 1e7, where the smaller variances are 1e-4.
    x = random_features(2000, 12, seed=1, spread=torch.logspace(0, -2, 12, dtype=torch.float64)) + offset
    exact = np.cov((x - offset).numpy(), rowvar=False)  # the rounding of x itself is part of x
    spreads = np.sqrt(np.outer(exact.diagonal(), exact.diagonal()))
    assert np.max(np.abs(moments(x, 64).covariance.numpy() - exact) / spreads) < 1e-12
    assert (moments(x, 64).mean - offset - (x - offset).mean(dim=0)).abs().max() <= 4 * np.spacing(abs(offset))


def test_a_drifting_stream_is_as_good():
    x = random_features(3000, 5, seed=2) + torch.linspace(0, 1e4, 3000, dtype=torch.float64)[:, None]
    np.testing.assert_allclose(moments(x, 100).covariance, np.cov(x.numpy(), rowvar=False), rtol=1e-12)


@pytest.mark.parametrize("batch", [1, 64, 333, 512, 1024, 1100])
def test_batches_may_be_cut_anywhere(batch):
    x = random_features(1100, 7, seed=3, shift=1e4)
    whole, cut = moments(x), moments(x, batch)
    assert torch.equal(cut.mean, whole.mean) and torch.equal(cut.covariance, whole.covariance)


def test_reading_in_between_changes_nothing():
    x = random_features(700, 6, seed=4)
    read, unread = Moments(6), Moments(6)
    for piece in x.split(50):
        read.update(piece)
        unread.update(piece)
        _ = read.mean
        if read.count > 1:
            _ = read.covariance
    assert torch.equal(read.covariance, unread.covariance) and torch.equal(read.mean, unread.mean)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_moments_of_any_float_dtype_are_summed_in_float64(dtype):
    x = random_features(600, 4, seed=5).to(dtype)
    np.testing.assert_allclose(moments(x).covariance, np.cov(x.double().numpy(), rowvar=False), rtol=1e-11)


def test_moments_of_read_only_numpy_warn_of_nothing():
    x = random_features(10, 4, seed=6).numpy()
    x.flags.writeable = False
    stream = Moments(4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stream.update(x)
    np.testing.assert_allclose(stream.covariance, np.cov(x, rowvar=False), rtol=1e-12)


def test_the_memory_of_a_batch_may_be_reused():
    x = random_features(700, 4, seed=8)
    stream, batch = Moments(4), torch.empty(50, 4, dtype=torch.float64)
    for piece in x.split(50):
        stream.update(batch.copy_(piece))
    assert torch.equal(stream.mean, moments(x).mean) and torch.equal(stream.covariance, moments(x).covariance)


def test_features_of_inference_mode():
    x = random_features(700, 4, seed=9)
    with torch.inference_mode():
        inside = moments(x.clone(), 64)
    assert torch.equal(inside.covariance, moments(x).covariance)
    with torch.inference_mode():
        y = x + 1
    assert frechet_from_features(x, y) == pytest.approx(4)


def test_moments_refuse_and_stay_as_they_were():
    x = random_features(5, 3, seed=7)
    stream = moments(x)
    for bad, message in [
        (torch.full((2, 3), torch.nan), "NaN or infinity"),
        (torch.full((2, 3), -torch.inf), "NaN or infinity"),
        (torch.zeros(2, 4), "4 columns instead of 3"),
        (torch.zeros(3), "matrix"),
        (torch.zeros(2, 3, dtype=torch.int64), "floating point"),
    ]:
        with pytest.raises(ValueError, match=message):
            stream.update(bad)
    assert stream.count == 5 and torch.equal(stream.covariance, moments(x).covariance)


def test_too_few_images_have_no_moments():
    stream = Moments(3)
    with pytest.raises(ValueError, match="at least 1 image"):
        _ = stream.mean
    stream.update(torch.ones(1, 3))
    assert torch.equal(stream.mean, torch.ones(3, dtype=torch.float64))
    with pytest.raises(ValueError, match="at least 2 images"):
        _ = stream.covariance


# --- the trace and the distance ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_equals_the_general_eigenvalues(seed):
    d = 2 + 3 * seed
    m1, m2, S1, S2 = (
        random_features(1, d, seed)[0],
        random_features(1, d, seed + 100)[0],
        covariance(d, seed, decay=5),
        covariance(d, seed + 50),
    )
    expected = naive_scores.frechet(*(x.numpy() for x in (m1, S1, m2, S2)))
    assert frechet_distance(m1, S1, m2, S2) == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert frechet_distance(m1.numpy(), S1.numpy(), m2.numpy(), S2.numpy()) == frechet_distance(m1, S1, m2, S2)


@pytest.mark.parametrize("ranks", [(40, 10), (10, 40), (10, 7), (1, 1), (20, 30), (39, 40)])
def test_singular_covariances(ranks):
    S1, S2 = (covariance(40, seed, rank) for seed, rank in enumerate(ranks))
    # With roots A, B of 40 x rank the trace is the sum of the singular values of A^T B, by numpy's SVD.
    roots = [random_features(40, rank, seed).numpy() / 40**0.5 for seed, rank in enumerate(ranks)]
    expected = np.linalg.svd(roots[0].T @ roots[1], compute_uv=False).sum()
    assert trace_of_root(S1, S2) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("smallest", [1e-6, 1e-10, 1e-13, 1e-15, 1e-17, 0.0])
def test_near_singular_covariances(smallest):
    # Same eigenvectors, so the trace is the sum of roots of products of eigenvalues, half of which are tiny in one of the two.
    d = 60
    vectors = torch.linalg.qr(random_features(d, d, seed=0)).Q
    a, b = torch.ones(d, dtype=torch.float64), torch.linspace(1, 2, d, dtype=torch.float64)
    a[: d // 2] = smallest
    S1, S2 = ((vectors * x) @ vectors.T for x in (a, b))
    S1, S2 = (S1 + S1.T) / 2, (S2 + S2.T) / 2
    assert trace_of_root(S1, S2) == pytest.approx((a * b).sqrt().sum().item(), rel=1e-6)


@pytest.mark.parametrize("rank", [1, 2, 30, 59, 60])
@pytest.mark.parametrize("decay", [0, 20, 40])
def test_equal_sides_are_at_distance_0(rank, decay):
    S = covariance(60, seed=rank, rank=rank, decay=decay)
    m = random_features(1, 60, seed=1)[0] * 100
    assert 0 <= frechet_distance(m, S, m, S) <= 1e-6 * S.trace().item()


def test_features_without_any_spread():
    zero, S, m = torch.zeros(5, 5), covariance(5, seed=0), torch.zeros(5)
    assert frechet_distance(m, zero, m, zero) == 0
    assert frechet_distance(m, S, m, zero) == pytest.approx(S.trace().item(), rel=1e-12)
    assert frechet_from_features(torch.ones(7, 5), torch.zeros(3, 5)) == pytest.approx(5)


@pytest.mark.parametrize("seed", range(10))
def test_is_symmetric(seed):
    S1, S2 = covariance(30, seed, rank=30 - seed), covariance(30, seed + 99)
    m1, m2 = random_features(2, 30, seed)
    there, back = frechet_distance(m1, S1, m2, S2), frechet_distance(m2, S2, m1, S1)
    assert there == pytest.approx(back, rel=1e-7) and there > 0


def test_a_shift_adds_its_square():
    S, step = covariance(25, seed=0), random_features(1, 25, seed=1)[0]
    m = torch.zeros(25)
    assert frechet_distance(m, S, m + step, S) == pytest.approx(step.square().sum().item(), rel=1e-9)


def test_commuting_covariances_have_a_closed_form():
    a, b = torch.linspace(0, 3, 30, dtype=torch.float64), torch.linspace(2, 1, 30, dtype=torch.float64)
    Q = torch.linalg.qr(random_features(30, 30, seed=0)).Q
    m, expected = torch.zeros(30), ((a - b) ** 2).sum().item()  # a and b are standard deviations
    assert frechet_distance(m, (a**2).diag(), m, (b**2).diag()) == pytest.approx(expected, rel=1e-9)
    S1, S2 = ((Q * x**2) @ Q.T for x in (a, b))
    assert frechet_distance(m, S1, m, S2) == pytest.approx(expected, rel=1e-7)


def test_rotation_and_scale():
    S1, S2, m1, m2 = covariance(20, 0), covariance(20, 1), *random_features(2, 20, seed=2)
    Q = torch.linalg.qr(random_features(20, 20, seed=3)).Q
    plain = frechet_distance(m1, S1, m2, S2)
    turned = frechet_distance(Q @ m1, Q @ S1 @ Q.T, Q @ m2, Q @ S2 @ Q.T)
    assert turned == pytest.approx(plain, rel=1e-9)
    assert frechet_distance(3 * m1, 9 * S1, 3 * m2, 9 * S2) == pytest.approx(9 * plain, rel=1e-9)


@pytest.mark.parametrize("unit", [1e-12, 1e12])
def test_units_of_the_features_do_not_matter(unit):
    S1, S2 = covariance(20, 0, rank=12), covariance(20, 1)
    assert trace_of_root(S1 * unit, S2 * unit) == pytest.approx(unit * trace_of_root(S1, S2), rel=1e-9)


def test_refuses_what_is_no_covariance():
    m, S = torch.zeros(3), torch.eye(3)
    for cov, message in [
        (torch.diag(torch.tensor([1.0, 1.0, -0.01])), "not a covariance"),
        (-S, "not a covariance"),
        (torch.tensor([[1.0, 2, 0], [0, 1, 0], [0, 0, 1]]), "not symmetric"),
        (torch.full((3, 3), torch.nan), "NaN or infinity"),
        (torch.ones(3, 2), "square"),
        (torch.eye(4), "does not go with"),
    ]:
        with pytest.raises(ValueError, match=message):
            frechet_distance(m, S, m, cov)
    with pytest.raises(ValueError, match="NaN or infinity"):
        frechet_distance(m, S, m * torch.nan, S)
    with pytest.raises(ValueError, match="3 and 4 features"):
        frechet_distance(m, S, torch.zeros(4), torch.eye(4))


def test_tiny_negative_eigenvalues_are_rounding():
    S = torch.diag(torch.tensor([1.0, 0.5, -1e-9], dtype=torch.float64))
    assert trace_of_root(S, S) == pytest.approx(1.5, rel=1e-8)


def test_square_roots_square():
    for rank in (5, 30):
        S = covariance(30, seed=0, rank=rank)
        F = square_root(S)
        assert F.shape == (30, rank)
        torch.testing.assert_close(F @ F.T, S, rtol=0, atol=1e-12)


def test_pivots_that_are_rounding_are_no_rank():
    S = torch.diag(torch.tensor([1.0, 1e-17, 2.0], dtype=torch.float64))
    assert torch.linalg.cholesky_ex(S).info == 0
    assert square_root(S).shape == (3, 2)


def test_the_nuclear_norm_sees_singular_values_that_squares_hide():
    # 1e-9 squared drowns beside 1: the eigenvalues of P P^T alone would give noise of 1e-8 for each of 199.
    values = torch.full((200,), 1e-9, dtype=torch.float64)
    values[0] = 1
    U, V = torch.linalg.qr(random_features(200, 200, 0)).Q, torch.linalg.qr(random_features(300, 200, 1)).Q
    P = (U * values) @ V.T
    assert nuclear_norm(P) == pytest.approx(1 + 199e-9, abs=1e-11)
    assert nuclear_norm(P.T) == pytest.approx(nuclear_norm(P), abs=1e-11)


# --- from features -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "m"), [(12, 9), (12, 90), (90, 12), (40, 41), (41, 40), (90, 120), (2, 2)])
def test_the_gram_way_equals_the_covariance_way(n, m):
    a, b = random_features(n, 40, seed=n, spread=2, shift=3), random_features(m, 40, seed=m + 1)
    A, B = moments(a), moments(b)
    expected = frechet_distance(A.mean, A.covariance, B.mean, B.covariance)
    assert frechet_from_features(a, b) == pytest.approx(expected, rel=1e-7)
    assert frechet_from_features(a.numpy(), b.numpy()) == frechet_from_features(a, b)
    if n > 40 and m > 40:
        assert frechet_from_features(a, b) == pytest.approx(naive_scores.frechet_from_features(a, b), rel=1e-9)


@pytest.mark.parametrize("n", [5, 40, 200])
def test_equal_features_are_at_distance_0(n):
    a = random_features(n, 40, seed=0, shift=1e4)
    assert 0 <= frechet_from_features(a, a.flip(0)) < 1e-6 * a.var(dim=0).sum().item()


def test_few_images_never_need_a_d_by_d_matrix(monkeypatch):
    monkeypatch.setattr(frechet, "square_root", lambda S: pytest.fail("factored a (d, d) covariance"))
    a, b = random_features(6, 20_000, seed=0), random_features(8, 20_000, seed=1)
    assert frechet_from_features(a, b) > 0


def test_features_are_checked():
    x = random_features(5, 3, seed=0)
    with pytest.raises(ValueError, match="at least 2 images, not 1"):
        frechet_from_features(x, x[:1])
    with pytest.raises(ValueError, match="2 columns instead of 3"):
        frechet_from_features(x, x[:, :2])
    with pytest.raises(ValueError, match="NaN or infinity"):
        frechet_from_features(x, x * torch.nan)


def test_inputs_stay_as_they_are():
    a, b = random_features(30, 10, seed=0), random_features(5, 10, seed=1)
    kept = a.clone(), b.clone()
    frechet_from_features(a, b)
    assert torch.equal(a, kept[0]) and torch.equal(b, kept[1])


def test_parity_with_torch_fidelity():
    a, b = random_features(300, 50, seed=0).numpy(), random_features(400, 50, seed=1, spread=1.3, shift=0.2).numpy()
    fidelity = pytest.importorskip("torch_fidelity.metric_fid")
    theirs = fidelity.fid_statistics_to_metric(
        *(fidelity.fid_features_to_statistics(torch.from_numpy(x)) for x in (a, b)), verbose=False
    )
    assert frechet_from_features(a, b) == pytest.approx(theirs["frechet_inception_distance"], rel=1e-9)
