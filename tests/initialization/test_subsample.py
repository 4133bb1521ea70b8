import numpy as np
import pytest
import torch

from skmixmate.initialization.atoms import (
    dictionaries_from_labels,
    mean_abs_projections,
)
from skmixmate.initialization.subsample import (
    draw_rows,
    draw_subsample,
    find_distinct,
    impute_means,
)

from .blobs import blobs, random_state


@pytest.mark.parametrize("as_tensor", [False, True])
def test_subsample_takes_complete_rows_where_there_are_enough(as_tensor):
    X, _ = blobs()
    X[::2, 0] = np.nan
    n_missing = np.isnan(X).sum(axis=1)
    data = torch.from_numpy(X) if as_tensor else X
    drawn, sample = draw_subsample(data, n_missing, 20, 10, random_state())
    assert sample.shape == (20, 6)
    complete = {tuple(row) for row in X[1::2]}
    assert {tuple(row) for row in sample} <= complete
    assert len({tuple(row) for row in sample}) == 20
    np.testing.assert_array_equal(sample, X[drawn])


def test_subsample_fills_rows_where_complete_ones_are_too_few():
    X, _ = blobs()
    X[3:, 0] = np.nan
    X[5] = np.nan
    drawn, sample = draw_subsample(X, np.isnan(X).sum(axis=1), 1000, 10, random_state())
    assert sample.shape == (89, 6)
    assert 5 not in drawn  # nothing is observed of it
    assert np.isfinite(sample).all()
    assert np.isnan(X[3:, 0]).all()  # X itself is left alone


# --- rows with several copies --------------------------------------------------------

COPIES = np.array([0, 3, 1, 0, 2, 6])
CANDIDATES = np.flatnonzero(COPIES)


def test_all_copies_are_drawn_where_there_are_not_more():
    repeated = np.repeat(np.arange(6), COPIES)
    orders = set()
    for seed in range(5):
        drawn = draw_rows(CANDIDATES, 100, random_state(seed), COPIES)
        np.testing.assert_array_equal(np.sort(drawn), repeated)
        orders.add(tuple(drawn))
    assert len(orders) == 5  # random


def test_each_copy_is_drawn_at_most_once_and_equally_often():
    counts = np.zeros((2000, 6))
    for seed in range(2000):
        drawn = draw_rows(CANDIDATES, 5, random_state(seed), COPIES)
        counts[seed] = np.bincount(drawn, minlength=6)
    assert (counts.sum(axis=1) == 5).all()
    assert (counts <= COPIES).all()
    np.testing.assert_allclose(counts.mean(axis=0), 5 * COPIES / 12, atol=0.05)


def test_copies_need_not_be_integers():
    copies = np.array([0.2, 0.8, 2.5, 0.5])
    counts = np.zeros((2000, 4))
    for seed in range(2000):
        drawn = draw_rows(np.arange(4), 100, random_state(seed), copies)
        counts[seed] = np.bincount(drawn, minlength=4)
    assert (counts.sum(axis=1) == 4).all()
    assert (np.abs(counts - copies) < 1).all()
    np.testing.assert_allclose(counts.mean(axis=0), copies, atol=0.05)


def test_one_copy_each_is_a_random_sample():
    counts = np.zeros(8)
    for seed in range(2000):
        drawn = draw_rows(np.arange(8), 3, random_state(seed), np.ones(8))
        assert len(set(drawn)) == 3
        counts[drawn] += 1
    np.testing.assert_allclose(counts / 2000, 3 / 8, atol=0.05)


def test_there_are_different_rows_even_if_one_has_nearly_all_copies():
    copies = np.array([1e9, 2.0, 1.0, 3.0])
    drawn = draw_rows(np.arange(4), 50, random_state(), copies, n_distinct=3)
    assert set(drawn) == {0, 1, 3}


def test_find_distinct():
    indices = np.array([7, 3, 7, 9, 3])
    first, inverse = find_distinct(indices)
    np.testing.assert_array_equal(first, [0, 1, 3])
    np.testing.assert_array_equal(indices[first][inverse], indices)


def test_a_subsample_counts_the_copies_of_complete_rows():
    X, _ = blobs()
    X[3:, 0] = np.nan
    n_missing = np.isnan(X).sum(axis=1)
    copies = np.where(np.arange(len(X)) < 3, 10, 1)
    drawn, _ = draw_subsample(X, n_missing, 20, 20, random_state(), copies=copies)
    assert set(drawn) == {0, 1, 2}


# --- imputation ----------------------------------------------------------------------


def test_impute_means():
    nan = np.nan
    sample = np.array([[1.0, nan, nan], [3.0, 4.0, nan], [nan, 6.0, nan]])
    expected = [[1, 5, 0], [3, 4, 0], [2, 6, 0]]
    np.testing.assert_array_equal(impute_means(sample), expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_means_far_from_the_origin_have_all_digits(dtype):
    rng = np.random.default_rng(0)
    X = (1e6 + rng.integers(-8, 9, size=(4001, 2))).astype(dtype)
    labels = np.zeros(len(X), dtype=int)
    dictionaries, intercepts = dictionaries_from_labels(
        X, labels, 1, 2, True, random_state(), atoms="pca"
    )
    expected = X.astype(np.float64).mean(axis=0)
    np.testing.assert_allclose(intercepts[0], expected, rtol=0, atol=1e-4)
    deviations = np.abs((X - expected) @ dictionaries[0].T).mean(axis=0)
    reaches = mean_abs_projections(X, labels, dictionaries, intercepts)
    np.testing.assert_allclose(reaches[0], deviations, rtol=1e-5)
    X[::7, 0] = np.nan
    filled = impute_means(X.copy())[0, 0]
    assert filled == pytest.approx(np.nanmean(X[:, 0].astype(np.float64)), abs=0.07)
