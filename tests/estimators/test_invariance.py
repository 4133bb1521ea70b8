"""Scaling, shifting or reordering the data does not change the clusters."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.metrics import adjusted_rand_score

from skmixmate import MixMateClustering

from ..helpers import data, far_blobs, small


@pytest.mark.parametrize("fit_intercept", [False, True])
@pytest.mark.parametrize("factor", [1e-3, 7.3, 1e3])
def test_scaling_the_data_does_not_change_labels(factor, fit_intercept):
    X = data(n_nonzero=2)
    expected = small(fit_intercept=fit_intercept).fit_predict(X)
    mixmate = small(fit_intercept=fit_intercept).fit(factor * X)
    np.testing.assert_array_equal(mixmate.labels_, expected)
    reconstructed = small(fit_intercept=fit_intercept).fit(X).reconstruct(X)
    np.testing.assert_allclose(mixmate.reconstruct(factor * X), factor * reconstructed)


@pytest.mark.slow
@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_scaling_the_data_does_not_change_labels_when_distances_tie(factor):
    X = load_digits().data  # integers
    mixmate = small(n_clusters=10, image_shape=None)
    expected = mixmate.fit_predict(X)
    np.testing.assert_array_equal(mixmate.fit_predict(factor * X), expected)


def test_shifting_the_data_does_not_change_labels_with_intercepts():
    X = data(n_nonzero=2)
    shifted = small(fit_intercept=True).fit_predict(X + 1e5)
    np.testing.assert_array_equal(small(fit_intercept=True).fit_predict(X), shifted)


def test_row_order_does_not_matter_in_one_batch():
    X = data()
    order = np.random.default_rng(0).permutation(len(X))
    params = {"init": X[:18].reshape(3, 6, 16), "batch_size": 1000, "max_iter": 10}
    mixmate, shuffled = small(**params).fit(X), small(**params).fit(X[order])
    np.testing.assert_array_equal(mixmate.labels_[order], shuffled.labels_)
    np.testing.assert_allclose(mixmate.loss_curve_, shuffled.loss_curve_)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    ("offset", "dtype"),
    [
        (1e6, np.float32),
        (1e9, np.float64),
        (1e12, np.float64),
        (1e6 * np.arange(6), np.float32),
        (10.0 ** np.arange(7, 13), np.float64),
    ],
)
def test_data_may_be_far_from_the_origin(offset, dtype, seed):
    X, y = far_blobs()
    mixmate = MixMateClustering(3, max_iter=3, tol=0, random_state=seed)
    labels = mixmate.fit_predict((X + offset).astype(dtype))
    assert adjusted_rand_score(y, labels) == 1


@pytest.mark.parametrize(
    ("constant", "dtype"),
    [(1e7, np.float32), (1e30, np.float32), (np.pi * 1e16, float), (1e300, float)],
)
def test_a_large_constant_feature_has_no_effect(constant, dtype):
    X, y = far_blobs()
    X = np.column_stack([X, np.full(300, constant)]).astype(dtype)
    X[::9, 2] = np.nan
    mixmate = MixMateClustering(3, max_iter=3, tol=0, random_state=0).fit(X)
    assert adjusted_rand_score(y, mixmate.labels_) == 1
    np.testing.assert_array_equal(mixmate.intercepts_[:, 6], X[0, 6])
    assert np.isfinite(mixmate.score(X))
    out = np.empty((300, 3), dtype)
    assert np.isfinite(mixmate.predict_proba(X, out=out)).all()


@pytest.mark.parametrize(
    ("factor", "dtype"),
    [
        (1e-36, np.float32),
        (1e-23, np.float32),
        (1e19, np.float32),
        (1e37, np.float32),
        (1e-300, np.float64),
        (1e154, np.float64),
        (1e300, np.float64),
    ],
)
@pytest.mark.parametrize("fit_intercept", [False, True])
def test_scaling_the_data_does_not_change_labels_when_squares_overflow(
    factor, dtype, fit_intercept
):
    X, _ = far_blobs()
    X[::9, 2] = np.nan
    mixmate = MixMateClustering(
        3, max_iter=3, tol=0, fit_intercept=fit_intercept, random_state=0
    )
    labels = mixmate.fit_predict(X.astype(dtype))
    extreme = (X * factor).astype(dtype)
    assert adjusted_rand_score(labels, mixmate.fit_predict(extreme)) == 1
    assert np.isfinite(mixmate.predict_proba(extreme)).all()
    assert np.isfinite(mixmate.reconstruct(extreme)).all()
