import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.base import BaseEstimator
from torch.utils.data import (
    DataLoader,
    Dataset,
    RandomSampler,
    TensorDataset,
)

from skmixmate.data.loader import is_lazy
from skmixmate.data.readers import MapReader, as_reader
from skmixmate.data.validation import as_floats, validate_rows

from ..sources import File, Listed, Pairs, Stream

MAX_ROWS = 25  # rows of 5 features in a slice


class SparseFile:
    """Returns sparse slices."""

    def __init__(self, X):
        self.X, self.shape, self.dtype = sparse.csr_array(X), X.shape, X.dtype

    def __getitem__(self, index):
        return self.X[index]


class Repeated:
    """Returns each row of a slice several times."""

    def __init__(self, X, times):
        self.X, self.times, self.shape, self.dtype = X, times, X.shape, X.dtype

    def __getitem__(self, index):
        return np.repeat(self.X[index], self.times, axis=0)


class Lengthless(Dataset):
    def __getitem__(self, index):
        return np.ones(3)


def sparse_rows():
    return [sparse.csr_array(row[None]) for row in np.eye(3)]


def reader(X):
    """Return a reader with chunks of 25 rows, which seeks over more than 4 rows."""
    return as_reader(X, None, as_floats, chunk_entries=5 * MAX_ROWS, max_gap=5 * 4)


def as_file(X):
    return File(X, MAX_ROWS)


def data(n_samples=100, dtype=np.float64):
    X = np.random.default_rng(0).normal(3, 2, size=(n_samples, 5))
    X[::7, 2] = np.nan
    return X.astype(dtype)


def collate_to_dict(rows):
    return {"row": torch.stack([row for row, _ in rows]), "n": len(rows)}


CONTAINERS = {
    "file": as_file,
    "dataset of arrays": Pairs,
    "dataset of tensors": lambda X: TensorDataset(torch.from_numpy(X)),
    "shuffled loader": lambda X: DataLoader(
        TensorDataset(torch.from_numpy(X), torch.arange(len(X))), 7, shuffle=True
    ),
    "loader of single items": lambda X: DataLoader(TensorDataset(torch.from_numpy(X))),
    "loader with a batch sampler": lambda X: DataLoader(
        Pairs(torch.from_numpy(X)),
        batch_sampler=[[3, 1], [2]],
        collate_fn=collate_to_dict,
    ),
    "loader with workers": lambda X: DataLoader(
        Pairs(torch.from_numpy(X)), 16, collate_fn=collate_to_dict, num_workers=2
    ),
    "map": lambda X: MapReader(X / 2, lambda rows: rows * 2, 9, as_floats),
}


# --- reading -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", CONTAINERS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_readers_read_the_same_rows_as_an_array(kind, dtype):
    X = data(dtype=dtype)
    source = reader(CONTAINERS[kind](X))
    assert is_lazy(source)
    assert source.shape == X.shape
    assert source.dtype == X.dtype
    assert len(source) == len(X)
    for index in (
        slice(0, 40),
        slice(40, 41),
        slice(41, 100),
        slice(0, 0),
        slice(90, 200),
        slice(None),
    ):
        np.testing.assert_array_equal(source[index], X[index])
    if kind != "map":
        for index in (np.arange(3, 100), np.array([9, 2, 99, 50]), np.arange(0)):
            np.testing.assert_array_equal(source[index], X[index])


@settings(deadline=None)
@given(
    n_samples=st.integers(1, 90),
    reads=st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99)), max_size=8),
    index=st.lists(st.integers(0, 99), max_size=40),
)
def test_rows_can_be_read_in_any_order(n_samples, reads, index):
    X = data(n_samples)
    source = reader(as_file(X))
    index = np.array(index, dtype=int) % n_samples
    for start, stop in reads:
        np.testing.assert_array_equal(source[start:stop], X[start:stop])
        np.testing.assert_array_equal(source[index], X[index])


def test_consecutive_slices_read_each_row_once():
    file = as_file(data())
    source = reader(file)
    for start in range(0, 100, 3):
        source[start : start + 3]
    assert file.n_read == 100
    assert file.n_alive == 0
    assert file.most_alive <= 2 * MAX_ROWS


def test_gaps_are_read_through_only_if_they_are_small():
    file = as_file(data())
    source = reader(file)
    read = file.n_read
    source[np.array([10, 12, 14, 60])]
    assert file.n_read - read == 5 + 1


def test_pickles_do_not_contain_the_rows_read_ahead():
    source = reader(Pairs(data()))
    source[:10]
    copy = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(copy[10:20], source[10:20])


def test_loaders_do_not_draw_from_the_global_generator():
    X = data()
    loader = DataLoader(TensorDataset(torch.from_numpy(X)), 8, shuffle=True)
    before = torch.random.get_rng_state()
    source = reader(loader)
    source[:]
    source[np.arange(50)]
    assert before.equal(torch.random.get_rng_state())


def test_the_sampler_of_a_loader_is_ignored():
    X = torch.arange(20.0).reshape(10, 2)
    sampler = RandomSampler(X, num_samples=3)
    loader = DataLoader(TensorDataset(X), 4, sampler=sampler, drop_last=True)
    np.testing.assert_array_equal(reader(loader)[:], X)


# --- types ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("X", "expected"),
    [
        (as_file(np.ones((4, 2), np.uint8)), np.float64),
        (as_file(np.ones((4, 2), np.float16)), np.float64),
        (as_file(np.ones((4, 2), ">f4")), np.float64),
        (Pairs(np.ones((4, 2), np.uint8)), np.float64),
        (Pairs(torch.ones(4, 2, dtype=torch.uint8)), np.float32),
        (Pairs(torch.ones(4, 2, dtype=torch.bfloat16)), np.float32),
        (Pairs(torch.ones(4, 2, dtype=torch.float64).requires_grad_()), np.float64),
    ],
)
def test_dtypes_are_converted_as_for_arrays_and_tensors(X, expected):
    rows = reader(X)[:]
    assert rows.dtype == expected
    assert (rows == 1).all()


def test_items_are_rows_or_have_one_as_their_first_entry():
    row = np.arange(6.0)
    for item in (
        row,
        (row, "label"),
        [row, 3],
        {"image": row, "label": None},
        ((row, row), 1),
        row.reshape(1, 2, 3),
    ):
        source = reader(Listed([item, item]))
        np.testing.assert_array_equal(source[:], [row, row])


def test_data_in_memory_are_not_wrapped():
    for X in (
        [[1.0]],
        np.ones((2, 2)),
        np.float64(3),
        torch.ones(2, 2),
        sparse.eye_array(3),
        pd.DataFrame({"dtype": [1.0], "shape": [2.0]}),
        "text",
    ):
        assert reader(X) is X


def test_masked_entries_of_slices_are_missing():
    X = data()
    masked = np.ma.array(np.nan_to_num(X, nan=1e6), mask=np.isnan(X))
    source = reader(as_file(masked))
    np.testing.assert_array_equal(source[:], X)
    np.testing.assert_array_equal(source[np.array([9, 2, 99, 7])], X[[9, 2, 99, 7]])


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_masked_entries_of_items_are_missing(dtype):
    X = data()
    X[~np.isnan(X)] = X[~np.isnan(X)].astype(dtype)
    masked = np.ma.array(np.nan_to_num(X, nan=99).astype(dtype), mask=np.isnan(X))
    rows = list(masked)
    for container in (
        Pairs(masked),
        DataLoader(Listed(rows), 7),
        DataLoader(Listed([(row, None) for row in rows]), 7, num_workers=2),
    ):
        np.testing.assert_array_equal(reader(container)[:], X)


def test_items_may_be_views_that_torch_cannot_wrap():
    X = data()
    X.flags.writeable = False
    for rows in (list(X), list(X[:, ::-1]), list(X.astype(X.dtype.newbyteorder()))):
        source = reader(DataLoader(Listed(rows), 7))
        np.testing.assert_array_equal(source[:], np.stack(rows))


def test_loaders_convert_dtypes_as_torch_does():
    counts = np.arange(20).reshape(4, 5)
    assert reader(DataLoader(Listed(list(counts)))).dtype == np.float32
    assert reader(Listed(list(counts))).dtype == np.float64


# --- errors --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        (as_file(np.ones(3)), ValueError, r"Expected 2D array, got X of shape \(3,\)"),
        (as_file(np.ones((2, 1, 1, 1, 3))), ValueError, r"Expected 2D.*1, 1, 1, 3"),
        (as_file(np.ones((3, 3), complex)), ValueError, "Complex data"),
        (as_file(np.full((3, 3), "one")), ValueError, r"not numeric: 0 \(categories"),
        (as_file(np.ones((0, 3))), ValueError, r"0 sample\(s\)"),
        (as_file(np.ones((3, 0))), ValueError, r"0 feature\(s\)"),
        (as_file(np.full((3, 3), np.inf)), ValueError, "infinity"),
        (as_file(np.zeros((3, 3), "M8[D]")), ValueError, r"not numeric: 0 \(dates"),
        (SparseFile(np.eye(3)), TypeError, "Sparse data was passed for X"),
        (Pairs(torch.ones(3, 3) * 1j), ValueError, "Complex data not supported"),
        (DataLoader(Pairs(np.ones((3, 3)) * 1j)), ValueError, "Complex data"),
        (Listed(sparse_rows()), TypeError, "Sparse data was passed for X"),
        (DataLoader(Listed(sparse_rows())), TypeError, "Sparse data was passed for X"),
        (
            DataLoader(Listed([torch.ones(3).to_sparse()])),
            TypeError,
            "Sparse data was passed for X",
        ),
        (
            DataLoader(Listed([np.array(["a", "b"])])),
            ValueError,
            r"not numeric: 0 \(categories",
        ),
        (Listed([()]), ValueError, r"should be rows.*shape \(1,\)"),
        (Listed([np.ones(0)]), ValueError, r"0 feature\(s\)"),
        (Listed([np.ones((2, 0))]), ValueError, r"0 feature\(s\)"),
        (Lengthless(), TypeError, "X is a Lengthless, a Dataset .* no __len__"),
        (DataLoader(Lengthless(), batch_sampler=[[0]]), TypeError, "no __len__"),
        (Listed([]), ValueError, r"0 sample\(s\)"),
        (Listed([[1.0, 2.0]]), ValueError, r"should be rows.*shape \(1,\)"),
        (Listed([np.ones(3), np.ones(2)]), ValueError, r"one shape.*\(2,\), \(3,\)"),
        (DataLoader(Pairs(np.ones((3, 3))), None), ValueError, "batch_size=None"),
        (Stream([np.ones(3)]), TypeError, "Stream without length.*partial_fit"),
        (DataLoader(Stream([])), TypeError, "DataLoader without length.*partial_fit"),
    ],
)
def test_invalid_data_are_rejected(X, error, message):
    with pytest.raises(error, match=message):
        validate_rows(BaseEstimator(), X, reset=True)


def test_errors_in_later_rows_are_raised_when_they_are_read():
    X = data()
    X[-1, 3] = np.inf
    source = reader(as_file(X))
    source[:70]
    with pytest.raises(ValueError, match="X contains infinity"):
        source[70:]
    loader = DataLoader(Listed([np.ones(3), np.ones(2)]))
    with pytest.raises(ValueError, match="rows of 2 features after rows of 3"):
        reader(loader)[:]
    loader = DataLoader(Pairs(X), 10, collate_fn=lambda items: items[0][0][None])
    with pytest.raises(ValueError, match="X returned 10 rows where 100 were requested"):
        reader(loader)[:]
    with pytest.raises(ValueError, match="X returned 1 rows where 3 were requested"):
        reader(loader)[np.arange(3)]


@pytest.mark.parametrize(("times", "n_rows"), [(0, 0), (2, 2)])
def test_slices_of_the_wrong_length_are_rejected(times, n_rows):
    broken = Repeated(data(), 1)
    source = reader(broken)
    broken.times = times
    with pytest.raises(ValueError, match=r"X returned \d+ rows where 75 were"):
        source[25:]
    with pytest.raises(ValueError, match=f"X returned {n_rows} rows where 1 were"):
        source[np.array([60])]
