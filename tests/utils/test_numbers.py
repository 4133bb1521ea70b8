import numpy as np
import pytest

from skmixmate.utils.numbers import (
    far_means,
    largest_magnitude,
    near_origin,
    safe_exponent,
    with_safe_squares,
)


@pytest.mark.parametrize(
    ("dtype", "exponent"),
    [
        (np.float32, -148),
        (np.float32, -60),
        (np.float32, 127),
        (np.float64, -1073),
        (np.float64, 1023),
    ],
)
def test_extreme_data_are_multiplied_by_a_power_of_two(dtype, exponent):
    X = np.array([[1.0, -1.5], [np.nan, 0.0]], dtype)
    extreme = np.ldexp(X, exponent)
    scaled = with_safe_squares(extreme)
    assert scaled.dtype == dtype
    found_exponent = safe_exponent(extreme)
    np.testing.assert_array_equal(np.ldexp(scaled, found_exponent), extreme)
    assert 0.5 <= largest_magnitude(scaled) < 1


@pytest.mark.parametrize("factor", [0.0, 1e-9, 1.0, 4e9])
def test_data_of_ordinary_magnitude_are_not_copied(factor):
    X = np.random.default_rng(0).uniform(-1, 1, size=(5, 2)).astype(np.float32) * factor
    assert with_safe_squares(X) is X


def test_only_data_far_from_the_origin_are_centred():
    X = np.random.default_rng(0).normal(size=(50, 3))
    assert far_means(X + 10) is None
    assert near_origin(X + 10) is not None
    np.testing.assert_allclose(far_means(X + 1e6), 1e6 + X.mean(axis=0), rtol=1e-15)
    np.testing.assert_allclose(near_origin(X + 1e6), X - X.mean(axis=0), atol=1e-9)


def test_far_means_ignore_missing_entries():
    X = np.random.default_rng(0).normal(1e9, 1, size=(50, 3))
    X[::3, 0] = np.nan
    X[:, 2] = np.nan
    np.testing.assert_allclose(far_means(X)[:2], np.nanmean(X[:, :2], axis=0))
    assert far_means(X)[2] == 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("exponent", [20, 100])
def test_means_of_constant_columns_are_exact(dtype, exponent):
    constant = np.ldexp(dtype(np.pi), exponent)
    X = np.random.default_rng(0).normal(size=(137, 2)).astype(dtype)
    X[:, 1] = constant
    assert far_means(X)[1] == constant
    assert not near_origin(X)[:, 1].any()
    np.testing.assert_allclose(
        near_origin(X)[:, 0], X[:, 0] - X[:, 0].mean(), atol=1e-6
    )


def test_differences_do_not_overflow():
    X = np.array([[-1.7e308, 0.0], [1.7e308, 1e308], [1.7e308, 1.7e308]] * 5)
    assert np.isfinite(near_origin(X)).all()
    X = np.full((4, 1), np.finfo(np.float64).max)
    assert not near_origin(X).any()
