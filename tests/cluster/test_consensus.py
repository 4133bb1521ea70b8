import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.datasets import make_blobs
from sklearn.metrics import adjusted_rand_score

from skmixmate.cluster._consensus import consensus_labels


def test_separated_clusters_are_found():
    X, y = make_blobs(200, centers=4, cluster_std=0.3, random_state=1)
    labels = consensus_labels(X, 4, np.random.RandomState(0))
    assert adjusted_rand_score(y, labels) == 1


def overlapping_data(seed):
    return np.random.default_rng(seed).normal(size=(400, 6))


def mean_agreement(cluster):
    """Return the mean similarity of the labels from several random states."""
    labels = [cluster(np.random.RandomState(seed)) for seed in range(5)]
    pairs = [(one, other) for i, one in enumerate(labels) for other in labels[:i]]
    return np.mean([adjusted_rand_score(*pair) for pair in pairs])


@pytest.mark.combinations(3)
@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_consensus_is_more_stable_than_k_means(seed):
    X = overlapping_data(seed)
    consensus = mean_agreement(lambda state: consensus_labels(X, 6, state))
    single = mean_agreement(
        lambda state: KMeans(6, n_init=1, random_state=state).fit_predict(X)
    )
    assert consensus > single + 0.1


def test_one_cluster():
    assert (
        consensus_labels(overlapping_data(0), 1, np.random.RandomState(0)) == 0
    ).all()


def test_labels_are_reproducible():
    X = overlapping_data(0)
    first, again = (consensus_labels(X, 6, np.random.RandomState(0)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
