"""One example of each way to give data to a fit; `exhaustive` tests have the others."""

import numpy as np
import pytest
from scipy import sparse

from skmixmate import MixMateClustering
from skmixmate.datasets import make_sparse_mixture


@pytest.fixture(scope="module")
def bunch():
    return make_sparse_mixture(120, 16, n_clusters=3, n_atoms=4, random_state=0)


def from_rows(bunch, **params):
    init = np.stack([bunch.data[bunch.target == k][:4] for k in range(3)])
    defaults = {"init": init, "max_iter": 3, "tol": 0, "batch_size": 1000}
    return MixMateClustering(3, **{**defaults, **params})


def assert_same_model(first, second, atol=1e-8):
    for name in ("dictionaries_", "intercepts_", "weights_"):
        np.testing.assert_allclose(
            getattr(first, name), getattr(second, name), atol=atol
        )


def test_sparse_rows_give_the_model_of_dense_rows(bunch):
    X = np.where(np.abs(bunch.data) < 0.5, 0, bunch.data)
    dense, from_csr = (from_rows(bunch).fit(rows) for rows in (X, sparse.csr_array(X)))
    assert_same_model(dense, from_csr)
    np.testing.assert_array_equal(dense.labels_, from_csr.labels_)
    for method in ("predict", "predict_proba", "energies", "transform", "reconstruct"):
        np.testing.assert_allclose(
            getattr(dense, method)(sparse.csc_array(X)),
            getattr(dense, method)(X),
            atol=1e-6,
        )


def test_missing_entries_of_sparse_rows(bunch):
    X = np.where(np.abs(bunch.data) < 0.5, 0, bunch.data)
    X[np.random.default_rng(0).random(X.shape) < 0.1] = np.nan
    dense, from_csr = (from_rows(bunch).fit(rows) for rows in (X, sparse.csr_array(X)))
    assert_same_model(dense, from_csr)


def test_a_row_of_integer_weight_counts_as_so_many_rows(bunch):
    weights = np.random.default_rng(0).integers(0, 4, len(bunch.data))
    weighted = from_rows(bunch).fit(bunch.data, sample_weight=weights)
    repeated = from_rows(bunch).fit(np.repeat(bunch.data, weights, axis=0))
    assert_same_model(weighted, repeated)
    np.testing.assert_allclose(weighted.loss_, repeated.loss_)
    scores = [
        weighted.score(bunch.data, sample_weight=weights),
        weighted.score(np.repeat(bunch.data, weights, axis=0)),
    ]
    np.testing.assert_allclose(*scores)


def test_known_rows_keep_their_label_and_name_their_cluster(bunch):
    known = np.where(np.arange(120) < 30, bunch.target, -1)
    mixmate = MixMateClustering(
        3, n_atoms=4, supervision="auto", max_iter=3, tol=0, random_state=0
    ).fit(bunch.data, known)
    np.testing.assert_array_equal(mixmate.labels_[:30], bunch.target[:30])
    assert np.mean(mixmate.labels_ == bunch.target) > 0.95
    rest = slice(30, None)
    np.testing.assert_array_equal(
        mixmate.labels_[rest], mixmate.predict(bunch.data)[rest]
    )


def test_labels_are_not_combined_with_weights_or_sparse_rows(bunch):
    mixmate = MixMateClustering(3, supervision="auto")
    with pytest.raises(ValueError, match="weights and labels cannot be combined"):
        mixmate.fit(bunch.data, bunch.target, sample_weight=np.ones(120))
    with pytest.raises(TypeError, match=r"known labels .* need dense rows"):
        mixmate.fit(sparse.csr_array(bunch.data), bunch.target)
