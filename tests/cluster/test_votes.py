import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.metrics import euclidean_distances
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


def test_samples_do_not_vote_on_themselves():
    points = normal(600, 5)  # several chunks
    means = vote(points, points, np.eye(600), n_neighbors=3, excludes_self=True)
    distances = euclidean_distances(points)
    np.fill_diagonal(distances, np.inf)
    nearest = np.argsort(distances, axis=1)[:, :3]
    np.testing.assert_array_equal(np.sort(means.argsort()[:, -3:]), np.sort(nearest))


def two_groups(n_samples=400):
    """Draw two groups that do not overlap, seen from the mean of both."""
    labels = np.arange(n_samples) % 2
    X = 0.5 * normal(n_samples, 5)
    X[:, 0] += np.where(labels == 0, -5, 5)
    return X, labels


def test_samples_among_others_of_another_class_do_not_vote():
    X, y = two_groups()
    labels = y.copy()
    labels[:20] = 1 - y[:20]
    classifier = NeighborClassifier(2, np.random.RandomState(0)).fit(X, labels)
    # Each is the nearest to itself, and would be a tenth of the votes or more.
    probabilities = classifier.predict_proba(X[:20])
    np.testing.assert_allclose(probabilities, np.eye(2)[y[:20]], atol=1e-6)


def test_a_class_whose_samples_are_all_outvoted_keeps_them():
    X, y = two_groups()
    labels = y.copy()
    labels[[0, 100, 200]] = 2
    classifier = NeighborClassifier(3, np.random.RandomState(0)).fit(X, labels)
    assert (classifier.predict_proba(X[[0, 100, 200]])[:, 2] > 0.05).all()


def test_variants_vote_where_neighbors_disagree():
    X, labels = two_groups()
    variants = X.copy()
    variants[labels == 1, 0] *= 0.1  # closer to the middle
    middle = X[:40].copy()
    middle[:, 0] = 0

    def probabilities(points, *variants):
        classifier = NeighborClassifier(2, np.random.RandomState(0))
        return classifier.fit(X, labels, variants).predict_proba(points)

    # Outside the middle all neighbours agree.
    expected = probabilities(X[:40])
    np.testing.assert_array_equal(probabilities(X[:40], variants), expected)
    alone, with_variants = probabilities(middle), probabilities(middle, variants)
    is_split = alone.max(axis=1) < 0.99
    assert is_split.sum() > 10
    assert (with_variants[is_split, 1] >= alone[is_split, 1]).all()
    assert with_variants[is_split, 1].mean() > 0.9


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
