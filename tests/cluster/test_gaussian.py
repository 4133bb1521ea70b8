import numpy as np
import pytest
from sklearn.datasets import load_iris, make_blobs
from sklearn.preprocessing import StandardScaler

from skmixmate import SpectralGraphClustering, clustering_accuracy_score
from skmixmate.cluster._gaussian import gaussian_labels


def crossing_clusters(n_each=200, seed=0):
    """Return two long clusters that cross each other, and their labels."""
    noise = np.random.default_rng(seed).normal(size=(2, n_each, 2))
    X = np.concatenate([noise[0] * [5, 0.3], noise[1] * [0.3, 5]])
    return X, np.repeat([0, 1], n_each)


def test_clusters_that_cross_are_separated_by_their_shapes():
    X, y = crossing_clusters()
    initial = (np.abs(X[:, 0]) < 1).astype(int)
    refined = gaussian_labels(X, initial, 2)
    assert clustering_accuracy_score(y, refined) > 0.9


def test_refinement_improves_the_clustering_of_iris():
    X, y = load_iris(return_X_y=True)
    X = StandardScaler().fit_transform(X)
    graph, refined = (
        SpectralGraphClustering(3, refine=refine, random_state=0).fit_predict(X)
        for refine in (False, True)
    )
    assert clustering_accuracy_score(y, graph) < 0.85
    assert clustering_accuracy_score(y, refined) > 0.95


def test_labels_are_invariant_to_linear_transformations():
    X, _ = make_blobs(300, 4, centers=3, cluster_std=[1, 3, 2], random_state=3)
    initial = (X[:, 0] > np.median(X[:, 0])) + (X[:, 1] > 0).astype(int)
    mixed = X @ np.random.default_rng(0).normal(size=(4, 4)) * 1e3 - 1e4
    np.testing.assert_array_equal(
        gaussian_labels(X, initial, 3), gaussian_labels(mixed, initial, 3)
    )


@pytest.mark.parametrize("n_first", [1, 4])
def test_labels_are_kept_if_a_cluster_has_too_few_samples(n_first):
    X = np.random.default_rng(0).normal(size=(40, 4))
    initial = (np.arange(40) < n_first).astype(int)
    assert gaussian_labels(X, initial, 2) is initial


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_constant_and_redundant_features_are_ignored(dtype):
    X, y = make_blobs(200, 2, centers=[[0, 0], [4, 4]], random_state=0)
    initial = (X[:, 0] > 1).astype(int)
    redundant = np.column_stack([X, X.sum(axis=1), np.ones(200)]).astype(dtype)
    assert clustering_accuracy_score(y, initial) < 0.95
    assert clustering_accuracy_score(y, gaussian_labels(redundant, initial, 2)) > 0.98


def test_labels_are_kept_if_a_cluster_becomes_empty():
    X = np.random.default_rng(0).normal(size=(300, 1))
    initial = np.arange(300) % 7  # all have the same distribution
    refined = gaussian_labels(X, initial, 7)
    assert len(np.unique(refined)) == 7


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_labels_are_kept_if_all_samples_are_the_same(value):
    labels = np.repeat([0, 1], 10)
    refined = gaussian_labels(np.full((20, 3), value), labels, 2)
    np.testing.assert_array_equal(refined, labels)
