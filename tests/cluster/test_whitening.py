import numpy as np
import pytest

from skmixmate.cluster._whitening import PrincipalComponents, whiten_within


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


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("exponent", [-100, 100])
def test_squares_of_samples_may_overflow(exponent):
    X = samples().astype(np.float32)
    usual, extreme = components(X), components(np.ldexp(X, exponent))
    whitened = usual.whiten(usual.transform(X), 1)
    actual = extreme.whiten(extreme.transform(np.ldexp(X, exponent)), 1)
    np.testing.assert_allclose(actual, whitened, atol=1e-3)


def test_directions_without_variance_are_left_out():
    X = samples()
    pca = components(np.hstack([X, X[:, :2] - X[:, 2:]]))
    assert len(pca.stds_) == 4


def test_equal_samples_have_one_component():
    pca = components(np.ones((9, 3)))
    whitened = pca.whiten(pca.transform(np.ones((2, 3))), 0.75)
    np.testing.assert_array_equal(whitened, np.zeros((2, 1)))


def clusters(stds, n_each=500):
    """Draw two clusters, far apart, with given standard deviations within them."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], n_each)
    X = rng.normal(size=(2 * n_each, len(stds))) * stds
    X[:, 0] += 1000 * labels
    return X, labels


@pytest.mark.parametrize("power", [0, 0.5, 1])
def test_variances_within_clusters_are_made_more_alike(power):
    stds = np.array([1.0, 4.0, 10.0])
    X, labels = clusters(stds)
    mapped = X @ whiten_within(X, labels, power)
    # The distance between clusters does not count.
    deviations = np.vstack(
        [mapped[labels == k] - mapped[labels == k].mean(axis=0) for k in (0, 1)]
    )
    np.testing.assert_allclose(deviations.std(axis=0), stds ** (1 - power), rtol=0.1)


def test_the_map_within_clusters_is_symmetric_and_only_shrinks():
    X, labels = clusters(np.array([1.0, 4.0, 10.0]))
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    matrix = whiten_within(X @ rotation, labels, 0.5)
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-12)
    eigenvalues = np.linalg.eigvalsh(matrix)
    assert eigenvalues[-1] == pytest.approx(1)
    np.testing.assert_allclose(eigenvalues, [10**-0.5, 0.5, 1], rtol=0.1)


def test_few_samples_are_whitened_less():
    X, labels = clusters(np.full(30, 1.0), n_each=8)
    spread = np.linalg.eigvalsh(whiten_within(X, labels, 1))[0]
    assert spread > 0.3  # the sample covariance is singular


def test_clusters_of_equal_samples_are_left_as_they_are():
    X, labels = np.repeat(np.eye(3), 4, axis=0), np.repeat(np.arange(3), 4)
    np.testing.assert_array_equal(whiten_within(X, labels, 0.5), np.eye(3))
