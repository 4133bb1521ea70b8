"""The start on a sparse subsample."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.metrics import normalized_mutual_info_score as nmi

from skmixmate.data.sparse import SparseRows
from skmixmate.initialization.initializers import cluster_subsample
from skmixmate.initialization.sparse import (
    dictionaries_from_sparse,
    impute_sparse_means,
    initial_likelihood,
)
from skmixmate.initialization.subsample import impute_means
from skmixmate.model.likelihoods import NegativeBinomial, Poisson


def draw(n_samples=200, n_features=400):
    rng = np.random.default_rng(0)
    y = np.arange(n_samples) % 2
    rates = np.where(rng.random((2, n_features)) < 0.1, 2, 0.05)
    return rng.poisson(rates[y]).astype(float), y


def test_missing_entries_are_imputed_by_means():
    X, _ = draw()
    X[3, np.flatnonzero(X[3])[0]] = np.nan
    imputed = impute_sparse_means(SparseRows(sparse.csr_array(X)))
    np.testing.assert_allclose(imputed.toarray(), impute_means(X.copy()))


@pytest.mark.parametrize("likelihood", [None, Poisson()])
@pytest.mark.parametrize("init", ["auto", "kmeans", "spectral", "ssc"])
def test_initializers_find_the_clusters(init, likelihood):
    X, y = draw()
    labels = cluster_subsample(
        SparseRows(sparse.csr_array(X)),
        init,
        2,
        np.random.RandomState(0),
        likelihood=likelihood,
    )
    assert nmi(y, labels) > 0.9


def test_a_sample_of_zeros_has_a_start():
    rows = SparseRows(sparse.csr_array((30, 300)))
    rng = np.random.RandomState(0)
    labels = cluster_subsample(rows, "random", 2, rng)
    dictionaries, intercepts = dictionaries_from_sparse(rows, labels, 2, 4, True, rng)
    np.testing.assert_allclose(np.linalg.norm(dictionaries, axis=2), 1)
    assert not intercepts.any()


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_atoms_are_principal_directions_of_clusters(fit_intercept):
    X, y = draw()
    dictionaries, intercepts = dictionaries_from_sparse(
        SparseRows(sparse.csr_array(X)),
        y,
        2,
        3,
        fit_intercept,
        np.random.RandomState(0),
    )
    for label in range(2):
        group = X[y == label]
        mean = group.mean(axis=0) * fit_intercept
        np.testing.assert_allclose(intercepts[label], mean)
        explained = np.square((group - mean) @ dictionaries[label].T).sum(axis=0)
        best = np.linalg.svd(group - mean, compute_uv=False)[:3] ** 2
        assert (explained > 0.8 * best).all()


def test_rows_fill_up_the_dictionary_of_a_small_cluster():
    X, y = draw()
    y[2:] = 0
    dictionaries, _ = dictionaries_from_sparse(
        SparseRows(sparse.csr_array(X)), y, 2, 9, True, np.random.RandomState(0)
    )
    np.testing.assert_allclose(np.linalg.norm(dictionaries, axis=2), 1)


def test_intercepts_of_counts_are_natural_parameters():
    X, y = draw()
    _, intercepts = dictionaries_from_sparse(
        SparseRows(sparse.csr_array(X)),
        y,
        2,
        3,
        True,
        np.random.RandomState(0),
        Poisson(),
    )
    np.testing.assert_allclose(intercepts[0], Poisson().mean_to_natural(X[y == 0]))


def test_the_dispersion_is_estimated():
    X, y = draw()
    rows, rng = SparseRows(sparse.csr_array(X)), np.random.RandomState(0)
    found = initial_likelihood(NegativeBinomial(), rows, y, rng)
    expected = NegativeBinomial().initial(X, y)
    assert found.dispersion == pytest.approx(expected.dispersion)
