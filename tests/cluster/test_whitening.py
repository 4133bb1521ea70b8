import numpy as np
import pytest

from skmixmate.cluster._whitening import PrincipalComponents


def samples(n_features=4):
    rng = np.random.default_rng(0)
    return rng.normal(size=(200, n_features)) * 10.0 ** np.arange(n_features) + 5


def components(X):
    return PrincipalComponents(np.random.RandomState(0)).fit(X)


@pytest.mark.parametrize("power", [0, 0.5, 1])
def test_variances_are_made_more_alike(power):
    X = samples()
    pca = components(X)
    whitened = pca.whiten(pca.transform(X), power)
    np.testing.assert_allclose(whitened.mean(axis=0), 0, atol=1e-9)
    stds = whitened.std(axis=0, ddof=1)
    np.testing.assert_allclose(stds, pca.stds_ ** (1 - power))
    np.testing.assert_allclose(pca.stds_, [1e3, 1e2, 1e1, 1], rtol=0.2)


def test_directions_without_variance_are_left_out():
    X = samples()
    pca = components(np.hstack([X, X[:, :2] - X[:, 2:]]))
    assert len(pca.stds_) == 4


def test_equal_samples_have_one_component():
    pca = components(np.ones((9, 3)))
    whitened = pca.whiten(pca.transform(np.ones((2, 3))), 0.75)
    np.testing.assert_array_equal(whitened, np.zeros((2, 1)))
