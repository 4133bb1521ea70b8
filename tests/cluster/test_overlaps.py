import numpy as np
from scipy.cluster.hierarchy import is_valid_linkage, linkage
from scipy.spatial.distance import squareform

from skmixmate.cluster._overlaps import (
    median_margin,
    overlap_linkage,
    soft_overlaps,
)


def draw_margins(n_clusters=7):
    energies = np.random.default_rng(0).exponential(size=(500, n_clusters))
    return energies - energies.min(axis=1, keepdims=True)


def test_the_margin_is_that_of_the_second_cluster():
    assert median_margin(np.array([[0, 3, 1], [2, 0, 8], [5, 9, 0.0]])) == 2
    assert median_margin(np.zeros((4, 1))) == 0
    assert median_margin(np.zeros((0, 3))) == 0


def test_overlaps_sum_softened_posteriors():
    margins = np.array([[0, 2.0], [0, 4], [6, 0]])
    weights = np.exp(-margins / 2)
    posterior = weights / weights.sum(axis=1, keepdims=True)
    overlaps = soft_overlaps(margins, 2.0)
    np.testing.assert_allclose(overlaps, [posterior[:2].sum(axis=0), posterior[2]])


def test_multiplying_the_energies_changes_nothing():
    margins = draw_margins()
    trees = [
        overlap_linkage(soft_overlaps(m, median_margin(m)))
        for m in (margins, 1e6 * margins)
    ]
    np.testing.assert_allclose(*trees)


def test_energies_that_are_infinite_or_equal():
    margins = np.array([[0, 0, np.inf], [0, 0, np.inf], [np.inf, np.inf, 0]])
    overlaps = soft_overlaps(margins, median_margin(margins))
    np.testing.assert_array_equal(overlaps, [[1, 1, 0], [0, 0, 0], [0, 0, 1]])
    assert overlap_linkage(overlaps)[0, :2].tolist() == [0, 1]


def test_trees_are_valid_and_merge_the_largest_overlap_first():
    margins = draw_margins()
    overlaps = soft_overlaps(margins, median_margin(margins))
    tree = overlap_linkage(overlaps)
    assert is_valid_linkage(tree)
    sizes = overlaps.sum(axis=1)
    ratios = len(margins) * (overlaps + overlaps.T) / 2 / np.outer(sizes, sizes)
    np.fill_diagonal(ratios, 0)
    first, second = np.unravel_index(ratios.argmax(), ratios.shape)
    assert set(tree[0, :2]) == {first, second}
    np.testing.assert_allclose(tree[0, 2], np.log1p(1 / ratios.max()))


def test_of_equal_sizes_the_first_merges_are_those_of_single_linkage():
    overlaps = np.array([[9, 1, 0, 0], [1, 9, 0, 0], [0, 0, 9, 1], [0, 0, 1, 9.0]])
    distances = squareform(np.where(overlaps == 1, 1.0, 9.0) * (1 - np.eye(4)))
    expected = linkage(distances, "single")
    np.testing.assert_array_equal(overlap_linkage(overlaps)[:, :2], expected[:, :2])


def test_a_cluster_without_samples_merges_first():
    overlaps = np.array([[40, 2, 1], [0, 0, 0], [3, 0, 30.0]])
    tree = overlap_linkage(overlaps)
    assert tree[0, :2].tolist() == [0, 1]
    assert tree[0, 2] < 1e-6


def test_one_cluster_has_an_empty_tree():
    assert overlap_linkage(np.ones((1, 1))).shape == (0, 4)
