import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.datasets import make_blobs
from sklearn.metrics import adjusted_rand_score

from skmixmate.cluster._consensus import consensus_labels


def test_clear_clusters_are_those_of_k_means():
    X, y = make_blobs(200, centers=4, cluster_std=0.3, random_state=1)
    labels = consensus_labels(X, 4, np.random.RandomState(0))
    assert adjusted_rand_score(y, labels) == 1


def unclear(seed):
    return np.random.default_rng(seed).normal(size=(400, 6))


def agreement(find):
    """Mean similarity of what is found from several random states."""
    found = [find(np.random.RandomState(seed)) for seed in range(5)]
    pairs = [(one, other) for i, one in enumerate(found) for other in found[:i]]
    return np.mean([adjusted_rand_score(*pair) for pair in pairs])


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_luck_plays_a_smaller_part_than_in_a_run_of_k_means(seed):
    X = unclear(seed)
    consensus = agreement(lambda state: consensus_labels(X, 6, state))
    single = agreement(
        lambda state: KMeans(6, n_init=1, random_state=state).fit_predict(X)
    )
    assert consensus > single + 0.1


def test_one_cluster():
    assert (consensus_labels(unclear(0), 1, np.random.RandomState(0)) == 0).all()


def test_the_same_again():
    X = unclear(0)
    first, again = (consensus_labels(X, 6, np.random.RandomState(0)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
