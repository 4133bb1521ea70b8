import numpy as np
import pytest
from sklearn.linear_model import orthogonal_mp
from sklearn.metrics import adjusted_rand_score
from sklearn.preprocessing import normalize

from skmixmate import SparseSubspaceClustering
from skmixmate.cluster._graph import self_representation


def subspaces(n_subspaces=3, dimension=3, n_each=60, n_features=20, seed=0):
    rng = np.random.default_rng(seed)
    codes = rng.normal(size=(n_subspaces, n_each, dimension))
    bases = rng.normal(size=(n_subspaces, dimension, n_features))
    X = (codes @ bases).reshape(-1, n_features)
    return X, np.repeat(np.arange(n_subspaces), n_each)


@pytest.mark.parametrize("n_nonzero_coefs", [1, 2, 5])
def test_self_representation_is_orthogonal_matching_pursuit(n_nonzero_coefs):
    X = np.random.default_rng(0).normal(size=(40, 15))
    coefs = self_representation(X, n_nonzero_coefs, tol=1e-5).toarray()
    for i, row in enumerate(X):
        others = np.delete(np.arange(40), i)
        expected = orthogonal_mp(X[others].T, row, n_nonzero_coefs=n_nonzero_coefs)
        np.testing.assert_allclose(coefs[i, others], expected, atol=1e-8)
    assert not coefs.diagonal().any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pursuit_stops_when_the_residual_is_small(dtype):
    X, y = subspaces()
    coefs = self_representation(normalize(X).astype(dtype), 10, tol=1e-5).tocoo()
    assert np.bincount(coefs.row).max() == 3  # the dimension of the subspaces
    np.testing.assert_array_equal(y[coefs.row], y[coefs.col])


def test_samples_may_coincide_or_be_zero():
    X, _ = subspaces(n_each=10)
    X = np.vstack([X, X[:5], np.zeros((2, 20))])
    coefs = self_representation(X, 5, tol=1e-5)
    assert np.isfinite(coefs.data).all()
    labels = SparseSubspaceClustering(3, random_state=0).fit_predict(X)
    np.testing.assert_array_equal(labels[:5], labels[30:35])


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_subspaces_are_separated_at_any_scale(scale):
    X, y = subspaces()
    labels = SparseSubspaceClustering(3, random_state=0).fit_predict(scale * X)
    assert adjusted_rand_score(y, labels) == 1


def test_invalid_parameters_are_rejected():
    with pytest.raises(ValueError, match=r"'n_nonzero_coefs'.*Got 0 instead"):
        SparseSubspaceClustering(n_nonzero_coefs=0).fit(np.eye(9))
    with pytest.raises(ValueError, match=r"n_samples=4 should be >= n_clusters=8"):
        SparseSubspaceClustering(8).fit(np.eye(4))
