import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator

from skmixmate.data import loader as _rows
from skmixmate.data.loader import (
    RowLoader,
    centered_norm,
    check_squares,
    concat_rows,
    feature_means,
    is_lazy,
    missing_counts,
    root_mean_square_norm,
    rows_beyond_squares,
    scale_of_norm,
    validate_rows,
    windows,
)
from skmixmate.distributed.communicator import Communicator

ALONE = Communicator()
CPU = torch.device("cpu")


def random_data(n_samples=20, n_features=5, missing=0.3, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(3, 2, size=(n_samples, n_features)).astype(dtype)
    X[rng.uniform(size=X.shape) < missing] = np.nan
    return X


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("as_tensor", [False, True])
def test_rows_are_put_after_those_that_wait(as_tensor, order):
    X = random_data(missing=0)
    X.flags.writeable = as_tensor  # a memory map may be read-only
    given = torch.from_numpy(X) if as_tensor else np.asarray(X, order=order)
    waiting = torch.ones(3, 5, dtype=torch.float32)
    rows = concat_rows(waiting, given, np.array([1, 7]))
    expected = np.vstack([np.ones((3, 5)), X[[1, 7]]]).astype(np.float32)
    np.testing.assert_array_equal(rows, expected)
    assert rows.is_contiguous()
    assert concat_rows(waiting, given, np.arange(0)).shape == (3, 5)


@settings(deadline=None)
@given(
    n_samples=st.integers(1, 30),
    missing=st.sampled_from([0.0, 0.3, 1.0]),
    dtype=st.sampled_from([np.float32, np.float64]),
    as_tensor=st.booleans(),
    order=st.sampled_from(["C", "F"]),
)
def test_take_shifts_scales_and_marks_what_is_missing(
    n_samples, missing, dtype, as_tensor, order
):
    X = np.asarray(random_data(n_samples, missing=missing, dtype=dtype), order=order)
    untouched = X.copy()
    data = torch.from_numpy(X) if as_tensor else X
    location = torch.ones(5, dtype=torch.from_numpy(X).dtype)
    rows = RowLoader(data, device=CPU, location=location, scale=2.0)

    for index in (slice(0, 3), torch.arange(len(X)).flip(0)):
        expected = (torch.from_numpy(X)[index] - 1) * 2
        values, observed = rows.load(index)
        if observed is None:
            assert not expected.isnan().any()
        else:
            torch.testing.assert_close(observed, ~expected.isnan())
        torch.testing.assert_close(values, expected.nan_to_num(0))
        torch.testing.assert_close(
            rows.to_data_units(values).nan_to_num(),
            torch.from_numpy(X)[index].nan_to_num(1),
        )
    np.testing.assert_array_equal(X, untouched)


def test_read_only_data_are_taken():
    X = random_data(missing=0)
    X.setflags(write=False)
    values, _ = RowLoader(X, device=CPU).load(slice(2, 4))
    np.testing.assert_array_equal(values.numpy(), X[2:4])


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@settings(deadline=None)
@given(
    n_rows=st.integers(1, 200),
    n_run=st.integers(1, 20),
    n_runs=st.integers(1, 10),
    seed=st.integers(0, 9),
)
def test_windows_part_the_rows_into_runs(n_rows, n_run, n_runs, seed):
    parts = list(windows(n_rows, n_run, n_run * n_runs, generator(seed)))
    assert sorted(torch.cat(parts).tolist()) == list(range(n_rows))
    assert max(map(len, parts)) <= n_run * n_runs
    for part in parts:
        assert (part.diff() > 0).all()
        assert (part.diff() > 1).sum() < n_runs


def mapped(X, folder):
    np.save(folder / "X.npy", X)
    return np.load(folder / "X.npy", mmap_mode="r")


@pytest.mark.parametrize("window", [2**28, 1000])  # all; 24 rows of 40 bytes
def test_batches_do_not_depend_on_where_the_data_lie(monkeypatch, tmp_path, window):
    monkeypatch.setattr(_rows, "_SHUFFLE_WINDOW_BYTES", window)
    monkeypatch.setattr(_rows, "_SHUFFLE_CHUNK_BYTES", 200)
    X = random_data(100)
    X[60:] = 0  # of the later mini-batches in a window some are complete
    X[:, 0] = np.arange(100)
    results = [
        list(RowLoader(data, device=CPU).batches(torch.arange(3, 100), 4, generator()))
        for data in (X, torch.from_numpy(X), mapped(X, tmp_path))
    ]
    met = torch.cat([values[:, 0] for values, _ in results[0]])
    assert len(met) == len(met.unique()) == 96  # the last one of 97 is left out
    assert met.min() >= 3
    assert not torch.equal(met, met.sort().values)
    for batches in zip(*results, strict=True):
        for values, observed in batches:
            torch.testing.assert_close(values, batches[0][0], rtol=0, atol=0)
            expected = torch.from_numpy(~np.isnan(X[values[:, 0].long()]))
            assert expected.all() if observed is None else observed.equal(expected)


def test_a_last_window_of_too_few_rows_has_no_batches(monkeypatch):
    monkeypatch.setattr(_rows, "_SHUFFLE_WINDOW_BYTES", 1000)
    monkeypatch.setattr(_rows, "_SHUFFLE_CHUNK_BYTES", 200)
    rows = RowLoader(random_data(51), device=CPU)  # windows of 24, 24 and 3
    for seed in range(5):
        lengths = [
            len(values)
            for values, _ in rows.batches(torch.arange(51), 4, generator(seed))
        ]
        assert lengths == [4] * 12


@pytest.mark.parametrize("window", [2**28, 1000])
def test_all_rows_need_not_be_numbered(monkeypatch, tmp_path, window):
    monkeypatch.setattr(_rows, "_SHUFFLE_WINDOW_BYTES", window)
    monkeypatch.setattr(_rows, "_SHUFFLE_CHUNK_BYTES", 200)
    X = random_data(100, missing=0)
    for data in (X, mapped(X, tmp_path)):
        rows = RowLoader(data, device=CPU)
        batches = rows.batches(slice(None), 4, generator())
        numbered = rows.batches(torch.arange(100), 4, generator())
        for (values, _), (expected, _) in zip(batches, numbered, strict=True):
            torch.testing.assert_close(values, expected, rtol=0, atol=0)


def test_a_map_is_read_in_runs(monkeypatch, tmp_path):
    monkeypatch.setattr(_rows, "_SHUFFLE_WINDOW_BYTES", 1000)
    monkeypatch.setattr(_rows, "_SHUFFLE_CHUNK_BYTES", 200)
    rows = RowLoader(mapped(random_data(100, missing=0), tmp_path), device=CPU)
    reads = []
    read = rows._read
    rows._read = lambda index: reads.append(index) or read(index)
    batches = list(rows.batches(torch.arange(100), 4, generator()))
    assert len(batches) == 25
    assert len(reads) == 5  # 24 rows each, and what is left
    for index in reads:
        assert (index.diff() > 1).sum() <= 5  # 6 runs of 4 rows


def test_views_of_a_map_are_known_as_such(tmp_path):
    X = mapped(np.zeros((4, 3)), tmp_path)
    assert is_lazy(X)
    assert is_lazy(np.asarray(X)[1:])
    assert not is_lazy(np.array(X))
    assert not is_lazy(torch.zeros(3))


def test_blocks_cover_all_rows_once():
    rows = RowLoader(np.zeros((10, 1)), device=CPU)
    assert [len(rows.X[block]) for block in rows.chunks(4)] == [4, 4, 2]


@pytest.mark.parametrize("n_samples", [7, 300_000])  # more than one block
def test_summaries_equal_those_of_numpy(n_samples):
    X = random_data(n_samples)
    rows = RowLoader(X, device=CPU)
    np.testing.assert_array_equal(missing_counts(rows), np.isnan(X).sum(axis=1))
    np.testing.assert_allclose(
        feature_means(rows, ALONE).numpy(), np.nanmean(X, axis=0)
    )
    expected = np.sqrt(5 * np.nanmean(X**2))
    assert root_mean_square_norm(rows, ALONE) == pytest.approx(expected)


def test_feature_never_observed_has_mean_zero():
    X = random_data(missing=0)
    X[:, 1] = np.nan
    assert feature_means(RowLoader(X, device=CPU), ALONE)[1] == 0


def test_large_but_finite_tensors_are_taken():
    X = torch.full((4, 3), 3e38) * torch.tensor([[1.0], [0.1], [0.01], [0.001]])
    assert X.nansum().isinf()
    assert validate_rows(BaseEstimator(), X, reset=True).shape == (4, 3)


# --- containers ----------------------------------------------------------------------


def reversed_column():
    return np.arange(6.0)[:, None][:, ::-1]


def test_rows_of_a_column_that_was_reversed_can_be_read():
    X = reversed_column()
    rows = RowLoader(validate_rows(BaseEstimator(), X, reset=True), device=CPU)
    index = torch.tensor([4, 0])
    np.testing.assert_array_equal(rows.load(index)[0], X[[4, 0]])
    np.testing.assert_array_equal(rows.load(slice(1, 3))[0], X[1:3])
    joint = concat_rows(torch.empty(0, 1, dtype=torch.float64), X[:1], np.array([0]))
    np.testing.assert_array_equal(joint, X[:1])


def test_masked_arrays_are_missing_where_they_are_masked():
    X = random_data(dtype=np.float32)
    masked = np.ma.array(np.nan_to_num(X, nan=1e6), mask=np.isnan(X))
    rows = validate_rows(BaseEstimator(), masked, reset=True)
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows, X)


@pytest.mark.parametrize("missing", [pd.NA, None, np.nan])
@pytest.mark.parametrize("dtype", ["Int64", "Float32", "double[pyarrow]"])
def test_nullable_columns_are_missing_where_they_are_null(missing, dtype):
    if "pyarrow" in dtype:
        pytest.importorskip("pyarrow")
    frame = pd.DataFrame({"a": [1, missing, 3], "b": [4, 5, missing]}, dtype=dtype)
    rows = validate_rows(BaseEstimator(), frame, reset=True)
    np.testing.assert_array_equal(rows, [[1, 4], [np.nan, 5], [3, np.nan]])


@pytest.mark.parametrize(
    "given",
    [
        np.ones((3, 2)) * 1j,
        (np.ones((3, 2)) * 1j).astype(object),
        [[1j, 2.0], [3.0, 4.0]],
        [np.ones(2) * 1j],
        torch.ones(3, 2) * 1j,
        pd.DataFrame(np.ones((3, 2)) * 1j),
        np.ma.array(np.ones((3, 2)) * 1j, mask=np.eye(3, 2)),
    ],
)
def test_complex_data_are_refused_in_any_container(given):
    with pytest.raises(ValueError, match="Complex data not supported"):
        validate_rows(BaseEstimator(), given, reset=True)


@pytest.mark.parametrize("given", [(row for row in []), {"a": [1.0]}, {1.0}, len])
def test_what_has_no_rows_is_named(given):
    name = type(given).__name__
    with pytest.raises(TypeError, match=f"X is a {name}, but should be an array"):
        validate_rows(BaseEstimator(), given, reset=True)


@pytest.mark.parametrize(
    ("dtype", "factor"),
    [
        (np.float32, 2.0**100),
        (np.float32, 2.0**-120),
        (np.float64, 2.0**1000),
        (np.float64, 2.0**-1000),
    ],
)
def test_norms_in_extreme_units(dtype, factor):
    X = random_data(dtype=dtype)
    plain, extreme = RowLoader(X, device=CPU), RowLoader(X * dtype(factor), device=CPU)
    for find in (root_mean_square_norm, centered_norm):
        expected = find(plain, ALONE) * factor
        assert find(extreme, ALONE) == pytest.approx(expected, rel=1e-6)


def test_sums_that_overflow_have_a_mean():
    X = np.full((1000, 1), 1e308)
    X[::2] = 1.5e308
    means = feature_means(RowLoader(X, device=CPU), ALONE)
    np.testing.assert_allclose(means, 1.25e308)


@pytest.mark.parametrize("constant", [np.pi * 1e12, np.pi * 1e300])
def test_a_large_constant_feature_does_not_set_the_norm(constant):
    X = random_data(137, missing=0)
    expected = centered_norm(RowLoader(X, device=CPU), ALONE)
    X = np.column_stack([X, np.full(137, constant)])
    X[5, 5] = np.nan
    # Missing entries are made up for by all others.
    assert centered_norm(RowLoader(X, device=CPU), ALONE) == pytest.approx(
        expected, rel=1e-3
    )
    assert centered_norm(RowLoader(X[:, 5:6], device=CPU), ALONE) == 0


def test_scales_that_a_dtype_cannot_hold_are_refused():
    assert scale_of_norm(0.0, 9.2, np.float32) == 1
    assert scale_of_norm(4.6, 9.2, np.float32) == 2
    for norm, dtype in ((1e-38, "float32"), (1e39, "float32"), (np.inf, "float64")):
        with pytest.raises(ValueError, match=f"X has rows of .*{dtype}.*Multiply X"):
            scale_of_norm(norm, 9.2, np.dtype(dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_that_cannot_be_squared_are_found(dtype):
    rows = torch.ones(4, 3, dtype=dtype)
    assert len(rows_beyond_squares(rows)) == 0
    rows[1, 2] = -(torch.finfo(dtype).max ** 0.5)
    rows[3, 0] = torch.inf
    assert rows_beyond_squares(rows).tolist() == [1, 3]
    largest = torch.finfo(dtype).max ** 0.5
    with pytest.raises(ValueError, match=r"X has an entry .*scale_=0\.5 .* to square"):
        check_squares(largest, 0.5, dtype, 3)
    check_squares(largest, 1e-3, dtype, 3)
