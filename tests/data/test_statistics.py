import numpy as np
import pytest
import torch

from skmixmate.data.batch import Batch
from skmixmate.data.loader import RowLoader
from skmixmate.data.statistics import (
    centered_norm,
    feature_means,
    feature_stds,
    largest_entry,
    largest_squarable,
    root_mean_square_norm,
    rows_beyond_squares,
    scale_of_norm,
    summarize,
)
from skmixmate.distributed.communicator import Communicator

from .test_loader import CPU, random_data

ALONE = Communicator()


@pytest.mark.parametrize("n_samples", [7, 300_000])  # more than one chunk
def test_statistics_equal_those_of_numpy(n_samples):
    X = random_data(n_samples)
    loader = RowLoader(X, device=CPU)
    np.testing.assert_array_equal(summarize(loader).n_missing, np.isnan(X).sum(axis=1))
    np.testing.assert_allclose(
        feature_means(loader, ALONE).numpy(), np.nanmean(X, axis=0)
    )
    expected = np.sqrt(5 * np.nanmean(X**2))
    assert root_mean_square_norm(loader, ALONE) == pytest.approx(expected)
    assert largest_entry(loader) == np.nanmax(np.abs(X))


@pytest.mark.parametrize("n_samples", [7, 300_000])
@pytest.mark.parametrize("offset", [0, 1e9])
def test_standard_deviations_equal_those_of_numpy(n_samples, offset):
    X = random_data(n_samples) + offset
    X[:, 2] = np.pi * 1e9  # constant
    summary = summarize(RowLoader(X, device=CPU), with_sums=True)
    expected = np.nanstd(X - offset, axis=0)
    expected[2] = 0
    stds = feature_stds(summary, ALONE)
    np.testing.assert_allclose(stds, expected, rtol=1e-6)


def test_weighted_statistics_are_those_of_repeated_rows():
    X = random_data(40) + 3
    weights = np.arange(40) % 4
    known = {"sample_weight": weights, "counted": np.flatnonzero(weights)}
    loader = RowLoader(X, device=CPU, **known, chunk_entries=35)
    repeated = RowLoader(np.repeat(X, weights, axis=0), device=CPU)
    summary = summarize(loader, with_sums=True)
    expected = summarize(repeated, with_sums=True)
    for name in ("sums", "counts", "squares"):
        torch.testing.assert_close(getattr(summary, name), getattr(expected, name))
    n_missing = np.where(weights == 0, 5, np.isnan(X).sum(axis=1))
    np.testing.assert_array_equal(summary.n_missing, n_missing)
    torch.testing.assert_close(
        feature_means(loader, ALONE), feature_means(repeated, ALONE)
    )
    stds = [feature_stds(each, ALONE) for each in (summary, expected)]
    torch.testing.assert_close(*stds)
    for function in (centered_norm, root_mean_square_norm):
        assert function(loader, ALONE) == pytest.approx(function(repeated, ALONE))


def test_rows_that_do_not_count_are_checked_but_change_nothing():
    X = random_data(40)
    counted = np.flatnonzero(np.arange(40) % 3)
    loader = RowLoader(X, device=CPU, counted=counted, chunk_entries=35)
    expected = RowLoader(X[counted], device=CPU, chunk_entries=35)
    for function in (centered_norm, root_mean_square_norm, feature_means):
        assert np.array_equal(function(loader, ALONE), function(expected, ALONE))
    X[0] = 1e9
    assert largest_entry(loader) == largest_entry(expected)
    checked = []
    loader.check = lambda rows: checked.extend(rows[:, 0].tolist())
    summarize(loader)
    assert len(checked) == 40


@pytest.mark.parametrize("weight", [1e-6, 1.0, 3.5])
def test_small_weights_of_a_feature_do_not_change_its_mean(weight):
    X = np.array([[1.0, np.nan], [3.0, 5.0], [np.nan, 7.0]])
    loader = RowLoader(X, device=CPU, sample_weight=np.full(3, weight))
    np.testing.assert_allclose(feature_means(loader, ALONE), [2, 6])


def test_a_feature_that_is_never_observed_has_mean_zero():
    X = random_data(missing=0)
    X[:, 1] = np.nan
    assert feature_means(RowLoader(X, device=CPU), ALONE)[1] == 0


# --- extreme magnitudes --------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "factor"),
    [
        (np.float32, 2.0**100),
        (np.float32, 2.0**-120),
        (np.float64, 2.0**1000),
        (np.float64, 2.0**-1000),
    ],
)
def test_norms_scale_with_the_data(dtype, factor):
    X = random_data(dtype=dtype)
    ordinary = RowLoader(X, device=CPU)
    extreme = RowLoader(X * dtype(factor), device=CPU)
    for compute_norm in (root_mean_square_norm, centered_norm):
        expected = compute_norm(ordinary, ALONE) * factor
        assert compute_norm(extreme, ALONE) == pytest.approx(expected, rel=1e-6)


def test_means_are_finite_if_sums_overflow():
    X = np.full((1000, 1), 1e308)
    X[::2] = 1.5e308
    means = feature_means(RowLoader(X, device=CPU), ALONE)
    np.testing.assert_allclose(means, 1.25e308)


@pytest.mark.parametrize("constant", [np.pi * 1e12, np.pi * 1e300])
def test_centered_norm_ignores_a_large_constant_feature(constant):
    X = random_data(137, missing=0)
    expected = centered_norm(RowLoader(X, device=CPU), ALONE)
    X = np.column_stack([X, np.full(137, constant)])
    X[5, 5] = np.nan
    # The tolerance is for the rescaling that compensates for the missing entry.
    norm = centered_norm(RowLoader(X, device=CPU), ALONE)
    assert norm == pytest.approx(expected, rel=1e-3)
    assert centered_norm(RowLoader(X[:, 5:6], device=CPU), ALONE) == 0


def test_scale_of_norm_rejects_scales_outside_the_dtype():
    assert scale_of_norm(0.0, 9.2, np.float32) == 1
    assert scale_of_norm(4.6, 9.2, np.float32) == 2
    for norm, dtype in ((1e-38, "float32"), (1e39, "float32"), (np.inf, "float64")):
        with pytest.raises(ValueError, match=f"X has rows of .*{dtype}.*Multiply X"):
            scale_of_norm(norm, 9.2, np.dtype(dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_whose_squares_overflow_are_found(dtype):
    rows = torch.ones(4, 3, dtype=dtype)
    assert len(rows_beyond_squares(Batch(rows))) == 0
    rows[1, 2] = -(torch.finfo(dtype).max ** 0.5)
    rows[3, 0] = torch.inf
    assert rows_beyond_squares(Batch(rows)).tolist() == [1, 3]
    largest = torch.full((1, 3), largest_squarable(dtype, 3), dtype=dtype)
    assert largest.square().sum().isfinite()


def test_a_summary_replaces_the_pass_that_finds_means():
    X = np.random.default_rng(0).normal(size=(50, 3)) + 5
    X[::7, 1] = np.nan
    loader = RowLoader(X, device=torch.device("cpu"))
    summary = summarize(loader, with_sums=True)
    np.testing.assert_array_equal(summary.n_missing, np.isnan(X).sum(axis=1))
    means = feature_means(loader, Communicator(), summary)
    np.testing.assert_allclose(means, np.nanmean(X, axis=0))
    assert torch.equal(means, feature_means(loader, Communicator()))
    norms = [centered_norm(loader, Communicator(), s) for s in (summary, None)]
    assert norms[0] == norms[1]
