import numpy as np
import pytest
from sklearn.datasets import load_iris, make_blobs
from sklearn.preprocessing import StandardScaler

from skmixmate import SpectralGraphClustering, clustering_accuracy_score
from skmixmate.cluster._gaussian import gaussian_labels


def crossing(n_each=200, seed=0):
    """Two long clusters that cross, and a start that cuts both in half."""
    noise = np.random.default_rng(seed).normal(size=(2, n_each, 2))
    X = np.concatenate([noise[0] * [5, 0.3], noise[1] * [0.3, 5]])
    return X, np.repeat([0, 1], n_each)


def test_clusters_that_cross_are_told_apart_by_their_shapes():
    X, y = crossing()
    start = (np.abs(X[:, 0]) < 1).astype(int)
    found = gaussian_labels(X, start, 2)
    assert clustering_accuracy_score(y, found) > 0.9


def test_shapes_of_iris():
    X, y = load_iris(return_X_y=True)
    X = StandardScaler().fit_transform(X)
    graph, refined = (
        SpectralGraphClustering(3, refine=refine, random_state=0).fit_predict(X)
        for refine in (False, True)
    )
    assert clustering_accuracy_score(y, graph) < 0.85
    assert clustering_accuracy_score(y, refined) > 0.95


def test_units_and_mixtures_of_features_do_not_matter():
    X, _ = make_blobs(300, 4, centers=3, cluster_std=[1, 3, 2], random_state=3)
    start = (X[:, 0] > np.median(X[:, 0])) + (X[:, 1] > 0).astype(int)
    mixed = X @ np.random.default_rng(0).normal(size=(4, 4)) * 1e3 - 1e4
    np.testing.assert_array_equal(
        gaussian_labels(X, start, 3), gaussian_labels(mixed, start, 3)
    )


@pytest.mark.parametrize("n_members", [1, 4])
def test_a_cluster_without_enough_samples_leaves_all_as_they_were(n_members):
    X = np.random.default_rng(0).normal(size=(40, 4))
    start = (np.arange(40) < n_members).astype(int)
    assert gaussian_labels(X, start, 2) is start


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_features_that_say_nothing_or_the_same_twice(dtype):
    X, y = make_blobs(200, 2, centers=[[0, 0], [4, 4]], random_state=0)
    start = (X[:, 0] > 1).astype(int)
    redundant = np.column_stack([X, X.sum(axis=1), np.ones(200)]).astype(dtype)
    assert clustering_accuracy_score(y, start) < 0.95
    assert clustering_accuracy_score(y, gaussian_labels(redundant, start, 2)) > 0.98


def test_a_cluster_that_loses_all_samples_leaves_all_as_they_were():
    X = np.random.default_rng(0).normal(size=(300, 1))
    start = np.arange(300) % 7  # all of them look the same
    found = gaussian_labels(X, start, 7)
    assert len(np.unique(found)) == 7


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_samples_that_are_all_the_same_keep_their_labels(value):
    labels = np.repeat([0, 1], 10)
    refined = gaussian_labels(np.full((20, 3), value), labels, 2)
    np.testing.assert_array_equal(refined, labels)
