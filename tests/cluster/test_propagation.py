import numpy as np
import pytest
from sklearn.datasets import make_blobs
from sklearn.linear_model import LogisticRegression

from skmixmate.cluster._propagation import GraphClassifier


def classifier(n_classes, metric="euclidean"):
    return GraphClassifier(n_classes, metric, np.random.RandomState(0))


def with_few_labels(y, n_each=30):
    """Keep the first labels of each class."""
    known = np.full(len(y), -1)
    for label in np.unique(y):
        first = np.flatnonzero(y == label)[:n_each]
        known[first] = label
    return known


def three_in_a_row():
    """Draw a class that has the other one on both sides."""
    X, places = make_blobs(300, centers=[[-9, 0], [0, 0], [9, 0]], random_state=0)
    return X, (places == 1).astype(int)


def test_classes_may_consist_of_several_clusters():
    X, y = three_in_a_row()
    known = with_few_labels(y)
    graph = classifier(2).fit(X, known)
    linear = LogisticRegression().fit(X[known >= 0], y[known >= 0])
    assert np.mean(graph.labels_ == y) > 0.95
    assert linear.score(X, y) < 0.7


def test_known_labels_are_kept():
    X, y = make_blobs(200, centers=3, random_state=0)
    known = with_few_labels(y)
    known[0] = (y[0] + 1) % 3
    labels = classifier(3).fit(X, known).labels_
    np.testing.assert_array_equal(labels[known >= 0], known[known >= 0])


def test_new_samples_are_classified_by_their_neighbours():
    X, y = three_in_a_row()
    graph = classifier(2).fit(X[:150], with_few_labels(y[:150]))
    assert np.mean(graph.predict_proba(X[150:]).argmax(axis=1) == y[150:]) > 0.95


def test_far_from_all_labelled_samples_the_linear_classifier_decides():
    centers = [[0, 0], [30, 0], [60, 0], [90, 0]]
    X, y = make_blobs(4 * [100], centers=centers, shuffle=False, random_state=0)
    known = np.full(400, -1)
    known[:5], known[300:305] = 0, 1
    labels = classifier(2).fit(X, known).labels_
    np.testing.assert_array_equal(labels, y >= 2)


@pytest.mark.parametrize("factor", [1e-3, 1e4])
def test_units_do_not_matter(factor):
    X, y = make_blobs(200, centers=3, cluster_std=3, random_state=0)
    known = with_few_labels(y)
    labels = classifier(3).fit(X, known).labels_
    scaled = classifier(3).fit(factor * X, known).labels_
    assert np.mean(labels == scaled) > 0.99


def test_a_single_class_is_everywhere():
    X = make_blobs(20, random_state=0)[0]
    graph = classifier(3).fit(X, np.array([1] + 19 * [-1]))
    assert set(graph.labels_) == set(graph.predict_proba(X).argmax(axis=1)) == {1}


def test_samples_that_coincide():
    X = np.repeat(np.array([[0.0, 0.0], [1.0, 2.0]]), 20, axis=0)
    known = np.full(40, -1)
    known[0], known[20] = 0, 1
    graph = classifier(2).fit(X, known)
    np.testing.assert_array_equal(graph.labels_, np.repeat([0, 1], 20))
    labels = graph.predict_proba(X).argmax(axis=1)
    np.testing.assert_array_equal(labels, graph.labels_)
