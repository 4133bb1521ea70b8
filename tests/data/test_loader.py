import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator

from skmixmate.data.loader import RowLoader, concat_rows, is_lazy, shuffle_windows
from skmixmate.data.validation import validate_rows

CPU = torch.device("cpu")

# Windows of 24 rows of 5 float64 entries, in chunks of 4 rows.
SMALL_WINDOWS = {"shuffle_window_bytes": 1000, "shuffle_chunk_bytes": 200}


def random_data(n_samples=20, n_features=5, missing=0.3, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(3, 2, size=(n_samples, n_features)).astype(dtype)
    X[rng.uniform(size=X.shape) < missing] = np.nan
    return X


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def memory_map(X, folder):
    np.save(folder / "X.npy", X)
    return np.load(folder / "X.npy", mmap_mode="r")


# --- loading rows --------------------------------------------------------------------


@settings(deadline=None)
@given(
    n_samples=st.integers(1, 30),
    missing=st.sampled_from([0.0, 0.3, 1.0]),
    dtype=st.sampled_from([np.float32, np.float64]),
    as_tensor=st.booleans(),
    order=st.sampled_from(["C", "F"]),
)
def test_load_shifts_scales_and_masks_rows(n_samples, missing, dtype, as_tensor, order):
    X = np.asarray(random_data(n_samples, missing=missing, dtype=dtype), order=order)
    original = X.copy()
    data = torch.from_numpy(X) if as_tensor else X
    location = torch.ones(5, dtype=torch.from_numpy(X).dtype)
    loader = RowLoader(data, device=CPU, location=location, scale=2.0)

    for index in (slice(0, 3), torch.arange(len(X)).flip(0)):
        expected = (torch.from_numpy(X)[index] - 1) * 2
        rows, observed, *_ = loader.load(index)
        if observed is None:
            assert not expected.isnan().any()
        else:
            torch.testing.assert_close(observed, ~expected.isnan())
        torch.testing.assert_close(rows, expected.nan_to_num(0))
        torch.testing.assert_close(
            loader.to_data_units(rows).nan_to_num(),
            torch.from_numpy(X)[index].nan_to_num(1),
        )
    np.testing.assert_array_equal(X, original)


def test_load_accepts_read_only_arrays():
    X = random_data(missing=0)
    X.setflags(write=False)
    rows, *_ = RowLoader(X, device=CPU).load(slice(2, 4))
    np.testing.assert_array_equal(rows.numpy(), X[2:4])


def test_load_accepts_a_reversed_column():
    X = np.arange(6.0)[:, None][:, ::-1]
    loader = RowLoader(validate_rows(BaseEstimator(), X, reset=True), device=CPU)
    index = torch.tensor([4, 0])
    np.testing.assert_array_equal(loader.load(index).rows, X[[4, 0]])
    np.testing.assert_array_equal(loader.load(slice(1, 3)).rows, X[1:3])
    rows = concat_rows(torch.empty(0, 1, dtype=torch.float64), X[:1], np.array([0]))
    np.testing.assert_array_equal(rows, X[:1])


def test_check_rejects_rows():
    def reject_large_rows(rows):
        if rows.max() > 8:
            raise ValueError("too large")

    X = np.arange(12.0).reshape(4, 3)
    loader = RowLoader(X, device=CPU, check=reject_large_rows)
    loader.load(slice(0, 3))
    with pytest.raises(ValueError, match="too large"):
        loader.load(slice(2, 4))


def test_chunks_cover_all_rows_once():
    loader = RowLoader(np.zeros((10, 2)), device=CPU, chunk_entries=8)
    for chunks in (loader.chunks(4), loader.chunks()):
        assert [len(loader.X[chunk]) for chunk in chunks] == [4, 4, 2]


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("as_tensor", [False, True])
def test_concat_rows_appends_to_the_buffer(as_tensor, order):
    X = random_data(missing=0)
    X.flags.writeable = as_tensor  # a memory map may be read-only
    data = torch.from_numpy(X) if as_tensor else np.asarray(X, order=order)
    buffer = torch.ones(3, 5, dtype=torch.float32)
    rows = concat_rows(buffer, data, np.array([1, 7]))
    expected = np.vstack([np.ones((3, 5)), X[[1, 7]]]).astype(np.float32)
    np.testing.assert_array_equal(rows, expected)
    assert rows.is_contiguous()
    assert concat_rows(buffer, data, np.arange(0)).shape == (3, 5)


def test_views_of_a_memory_map_are_lazy(tmp_path):
    X = memory_map(np.zeros((4, 3)), tmp_path)
    assert is_lazy(X)
    assert is_lazy(np.asarray(X)[1:])
    assert not is_lazy(np.array(X))
    assert not is_lazy(torch.zeros(3))


# --- mini-batches in random order ----------------------------------------------------


@settings(deadline=None)
@given(
    n_rows=st.integers(1, 200),
    chunk_rows=st.integers(1, 20),
    n_chunks=st.integers(1, 10),
    seed=st.integers(0, 9),
)
def test_shuffle_windows_divide_the_rows(n_rows, chunk_rows, n_chunks, seed):
    window_rows = chunk_rows * n_chunks
    windows = list(shuffle_windows(n_rows, chunk_rows, window_rows, generator(seed)))
    assert sorted(torch.cat(windows).tolist()) == list(range(n_rows))
    assert max(map(len, windows)) <= window_rows
    for window in windows:
        assert (window.diff() > 0).all()
        assert (window.diff() > 1).sum() < n_chunks


@pytest.mark.parametrize("windows", [{}, SMALL_WINDOWS])
def test_batches_do_not_depend_on_the_container(tmp_path, windows):
    X = random_data(100)
    X[60:] = 0  # so that some of the later mini-batches in a window are complete
    X[:, 0] = np.arange(100)
    results = [
        list(
            RowLoader(data, device=CPU, **windows).batches(
                torch.arange(3, 100), 4, generator()
            )
        )
        for data in (X, torch.from_numpy(X), memory_map(X, tmp_path))
    ]
    numbers = torch.cat([batch.rows[:, 0] for batch in results[0]])
    assert len(numbers) == len(numbers.unique()) == 96  # the last of 97 is left out
    assert numbers.min() >= 3
    assert not torch.equal(numbers, numbers.sort().values)
    for batches in zip(*results, strict=True):
        for rows, observed, *_ in batches:
            torch.testing.assert_close(rows, batches[0].rows, rtol=0, atol=0)
            expected = torch.from_numpy(~np.isnan(X[rows[:, 0].long()]))
            assert expected.all() if observed is None else observed.equal(expected)


@pytest.mark.parametrize("windows", [{}, SMALL_WINDOWS])
def test_weights_and_labels_stay_with_their_rows(tmp_path, windows):
    X = random_data(100, dtype=np.float32)
    X[:, 0] = np.arange(100)
    known = {"sample_weight": np.arange(100) / 2, "labels": torch.arange(100) % 3}
    for data in (X, memory_map(X, tmp_path)):
        loader = RowLoader(data, device=CPU, **known, **windows)
        batches = list(loader.batches(torch.arange(3, 100), 4, generator()))
        for batch in [
            *batches,
            loader.load(slice(2, 9)),
            loader.load(torch.tensor([5])),
        ]:
            numbers = batch.rows[..., 0]
            assert batch.weights.dtype == torch.float32
            assert batch.weights.equal(numbers / 2)
            assert batch.labels.equal(numbers.long() % 3)


def test_a_last_window_smaller_than_a_batch_is_left_out():
    # Windows of 24, 24 and 3 rows.
    loader = RowLoader(random_data(51), device=CPU, **SMALL_WINDOWS)
    for seed in range(5):
        batches = loader.batches(torch.arange(51), 4, generator(seed))
        assert [batch.n_rows for batch in batches] == [4] * 12


@pytest.mark.parametrize("windows", [{}, SMALL_WINDOWS])
def test_a_slice_selects_the_same_batches_as_all_indices(tmp_path, windows):
    X = random_data(100, missing=0)
    for data in (X, memory_map(X, tmp_path)):
        loader = RowLoader(data, device=CPU, **windows)
        batches = loader.batches(slice(None), 4, generator())
        expected = loader.batches(torch.arange(100), 4, generator())
        for batch, expected_batch in zip(batches, expected, strict=True):
            torch.testing.assert_close(batch.rows, expected_batch.rows, rtol=0, atol=0)


def test_a_memory_map_is_read_in_chunks(tmp_path):
    X = memory_map(random_data(100, missing=0), tmp_path)
    loader = RowLoader(X, device=CPU, **SMALL_WINDOWS)
    reads = []
    read = loader._read
    loader._read = lambda index: reads.append(index) or read(index)
    batches = list(loader.batches(torch.arange(100), 4, generator()))
    assert len(batches) == 25
    assert len(reads) == 5  # four windows of 24 rows, and the last of 4
    for index in reads:
        assert (index.diff() > 1).sum() <= 5  # 6 chunks of 4 rows
