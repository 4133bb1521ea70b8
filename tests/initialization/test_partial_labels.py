import numpy as np

from skmixmate.initialization import add_seeds


def seed(labels, clusters, n_clusters):
    random_state = np.random.RandomState(0)
    return add_seeds(np.array(labels), np.array(clusters), n_clusters, random_state)


def test_seeds_come_from_the_cluster_without_labelled_rows():
    clusters = np.repeat([0, 1, 2], 50)
    labels = np.full(150, -1)
    labels[:3], labels[100:103] = 1, 0
    seeded = seed(labels, clusters, 3)
    assert np.all(clusters[seeded == 2] == 1)
    assert np.sum(seeded == 2) == 10
    np.testing.assert_array_equal(seeded[labels >= 0], labels[labels >= 0])


def test_there_are_as_many_seeds_as_known_rows():
    clusters = np.repeat([0, 1, 2], 50)
    labels = np.full(150, -1)
    labels[:20], labels[50:75] = 0, 1
    assert np.sum(seed(labels, clusters, 3) == 2) == 22


def test_each_missing_class_has_its_own_cluster():
    clusters = np.repeat([0, 1, 2, 3], 20)
    labels = np.full(80, -1)
    labels[20:40] = 3
    seeded = seed(labels, clusters, 4)
    assert [set(clusters[seeded == k]) for k in range(4)] == [{0}, {2}, {3}, {1}]


def test_rows_of_no_cluster_are_no_seeds():
    labels = np.full(30, -1)
    labels[0] = 0
    clusters = np.repeat([0, 1, -1], 10)
    seeded = seed(labels, clusters, 2)
    np.testing.assert_array_equal(np.flatnonzero(seeded == 1), np.arange(10, 20))


def test_rows_after_the_clustered_ones_are_left_alone():
    labels = np.array([0, -1, -1, -1, 1, 1])
    seeded = seed(labels, [0, 0, 1, 1], 3)
    np.testing.assert_array_equal(seeded, [0, -1, 2, 2, 1, 1])
