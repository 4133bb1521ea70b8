import numpy as np
import pytest
from sklearn.datasets import load_digits, load_iris, make_blobs
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from skmixmate import EnsembleClustering
from skmixmate.cluster._gaussian import normal_misfit


def heavy_tailed(rng, n_each=150):
    """Two clusters, of which one feature in four has entries far from all others."""
    y = np.repeat([0, 1], n_each)
    X = rng.normal(size=(2 * n_each, 8)) + 3 * y[:, None]
    is_far = rng.random(X.shape) < 0.02
    X[is_far] *= 40
    return X, y


def test_normal_distributions_of_any_shape_are_recognized():
    X, y = make_blobs(600, 2, centers=3, random_state=1)
    X = X @ np.array([[1.0, 0.0], [4.0, 6.0]])
    ensemble = EnsembleClustering(3, random_state=0).fit(X)
    assert ensemble.source_ == "normal"
    assert adjusted_rand_score(y, ensemble.labels_) > 0.97


def test_iris_is_found_as_normal_distributions_find_it():
    X, y = load_iris(return_X_y=True)
    labels = EnsembleClustering(3, random_state=0).fit_predict(X)
    assert adjusted_rand_score(y, labels) > 0.9


def test_digits_are_found_by_all_graphs():
    X, y = load_digits(return_X_y=True)
    ensemble = EnsembleClustering(10, random_state=0).fit(X)
    assert ensemble.source_ == "graphs"
    assert normalized_mutual_info_score(y, ensemble.labels_) > 0.9


def test_without_agreement_the_result_is_a_consensus():
    X, y = heavy_tailed(np.random.default_rng(0))
    ensemble = EnsembleClustering(2, random_state=0).fit(X)
    assert ensemble.source_ == "consensus"
    indices = {
        name: adjusted_rand_score(y, labels)
        for name, labels in ensemble.members_.items()
    }
    assert adjusted_rand_score(y, ensemble.labels_) > np.median([*indices.values()])
    assert indices["kmeans"] < 0.1


@pytest.mark.parametrize("factor", [1e-200, 1e-3, 1e200])
def test_units_and_origin_do_not_matter(factor):
    X, _ = make_blobs(200, 3, centers=4, cluster_std=3, random_state=0)
    labels = EnsembleClustering(4, random_state=0).fit_predict(X)
    other = EnsembleClustering(4, random_state=0).fit_predict(factor * (X + 8))
    assert adjusted_rand_score(labels, other) > 0.98


def test_rows_that_repeat():
    X = np.repeat(np.random.default_rng(0).normal(size=(12, 4)), 50, axis=0)
    labels = EnsembleClustering(10, random_state=0).fit_predict(X)
    groups = labels.reshape(12, 50)
    assert (groups == groups[:, :1]).all()
    assert len(np.unique(labels)) == 10


@pytest.mark.parametrize("n_distinct", [1, 2, 3])
def test_fewer_distinct_rows_than_clusters(n_distinct):
    X = np.arange(20.0)[:, None] % n_distinct
    labels = EnsembleClustering(3, random_state=0).fit_predict(X)
    assert len(np.unique(labels)) == n_distinct


@pytest.mark.parametrize("shape", [(3, 2), (5, 1), (30, 500), (40, 1)])
def test_few_rows(shape):
    X = np.random.default_rng(0).normal(size=shape)
    labels = EnsembleClustering(3, random_state=0).fit_predict(X)
    assert labels.shape == (len(X),)
    assert set(labels) <= {0, 1, 2}


def test_misfit_is_small_for_normal_distributions_only():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 500)
    normal = rng.normal(size=(1000, 5)) @ rng.normal(size=(5, 5))
    assert normal_misfit(normal, labels, 2) < 0.04
    assert normal_misfit(rng.standard_t(2, (1000, 5)), labels, 2) > 0.15
    assert normal_misfit(rng.integers(0, 2, (1000, 5)), labels, 2) > 0.15
    assert normal_misfit(np.ones((1000, 5)), labels, 2) == 1
    assert normal_misfit(normal[:, :1], np.arange(1000) // 3, 334) == 1


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_samples_that_are_all_equal_are_one_cluster():
    X = np.ones((60, 100))  # of more features than components
    assert not EnsembleClustering(3, random_state=0).fit_predict(X).any()
