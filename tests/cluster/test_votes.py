import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier

from skmixmate.cluster._votes import N_NEIGHBORS, NeighborClassifier, vote


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_neighbors_vote_with_weights_that_fall_with_the_distance():
    reference, points = normal(300, 5), normal(1100, 5, seed=1)
    labels = np.arange(300) % 3

    def weights(distances):
        return np.exp(-(distances**2) / distances[:, -1:] ** 2)

    expected = KNeighborsClassifier(N_NEIGHBORS, weights=weights, algorithm="brute")
    expected.fit(reference, labels)
    means = vote(points, reference, np.eye(3)[labels])
    np.testing.assert_allclose(means, expected.predict_proba(points), atol=1e-4)


@pytest.mark.parametrize("n_reference", [1, 4])
def test_fewer_references_than_neighbors(n_reference):
    reference = normal(n_reference, 3)
    means = vote(reference[:1], reference, np.eye(n_reference))
    assert means.argmax() == 0
    assert means.sum() == pytest.approx(1)


def test_references_at_the_same_place_vote_alike():
    means = vote(np.ones((2, 3)), np.ones((4, 3)), np.eye(4))
    np.testing.assert_allclose(means, 0.25)


def test_directions_that_vary_within_classes_do_not_hide_them():
    labels = np.arange(400) % 2
    X = normal(400, 10) * np.r_[1.0, np.full(9, 10.0)].astype(np.float32)
    X[:, 0] += 8 * labels
    classifier = NeighborClassifier(2, np.random.RandomState(0))
    found = classifier.fit(X[:300], labels[:300]).predict_proba(X[300:]).argmax(axis=1)
    plain = KNeighborsClassifier(N_NEIGHBORS).fit(X[:300], labels[:300])
    assert (found == labels[300:]).mean() > 0.95
    assert (plain.predict(X[300:]) == labels[300:]).mean() < 0.8


def test_wrong_labels_are_outvoted():
    X, y = load_digits(return_X_y=True)
    rng = np.random.default_rng(0)
    labels = np.where(rng.random(len(y)) < 0.1, rng.integers(10, size=len(y)), y)
    classifier = NeighborClassifier(10, np.random.RandomState(0)).fit(X, labels)
    assert (labels == y).mean() < 0.92
    assert (classifier.predict_proba(X).argmax(axis=1) == y).mean() > 0.97
