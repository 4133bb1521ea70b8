import numpy as np
import pytest
import torch

from skmixmate.initialization.atoms import (
    dictionaries_from_labels,
    mean_abs_projections,
)
from skmixmate.initialization.subsample import (
    draw_subsample,
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
