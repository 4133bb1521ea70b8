import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skmixmate import clustering_accuracy_score

labels = st.lists(st.integers(0, 4), min_size=1, max_size=30)


@given(labels=labels, seed=st.integers(0, 99))
def test_score_is_invariant_to_permutations_of_the_labels(labels, seed):
    names = np.random.default_rng(seed).permutation(5)
    assert clustering_accuracy_score(labels, names[labels]) == 1


def test_each_class_is_matched_with_one_cluster():
    assert clustering_accuracy_score([0, 0, 0, 0], [0, 0, 1, 2]) == 0.5
    assert clustering_accuracy_score([0, 1, 2, 2], [0, 0, 0, 0]) == 0.5


def test_invalid_labels_are_rejected():
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        clustering_accuracy_score([0, 1], [0])
    with pytest.raises(ValueError, match="labels_true is empty"):
        clustering_accuracy_score([], [])
