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

from skmixmate.data import readers as _sources
from skmixmate.data.loader import is_lazy, validate_rows
from skmixmate.data.readers import (
    MapReader,
    as_reader,
    is_stream,
    stack_rows,
    stream_chunks,
)

from ..sources import File, Listed, Pairs, Stream

LONGEST = 25  # rows, of 5 features each


class Sparse:
    """Gives slices that are sparse, as a file of a sparse matrix may."""

    def __init__(self, X):
        self.X, self.shape, self.dtype = sparse.csr_array(X), X.shape, X.dtype

    def __getitem__(self, index):
        return self.X[index]


class Repeated:
    """Gives each row in a slice so many times."""

    def __init__(self, X, times):
        self.X, self.times, self.shape, self.dtype = X, times, X.shape, X.dtype

    def __getitem__(self, index):
        return np.repeat(self.X[index], self.times, axis=0)


class Lengthless(Dataset):
    def __getitem__(self, index):
        return np.ones(3)


def sparse_rows():
    return [sparse.csr_array(row[None]) for row in np.eye(3)]


@pytest.fixture(autouse=True)
def small_readings(monkeypatch):
    monkeypatch.setattr(_sources, "_CHUNK_ENTRIES", 5 * LONGEST)
    monkeypatch.setattr(_sources, "_MAX_GAP", 5 * 4)


def as_file(X):
    return File(X, LONGEST)


def data(n_samples=100, dtype=np.float64):
    X = np.random.default_rng(0).normal(3, 2, size=(n_samples, 5))
    X[::7, 2] = np.nan
    return X.astype(dtype)


def named(rows):
    return {"row": torch.stack([row for row, _ in rows]), "n": len(rows)}


SOURCES = {
    "file": as_file,
    "dataset of arrays": Pairs,
    "dataset of tensors": lambda X: TensorDataset(torch.from_numpy(X)),
    "shuffled loader": lambda X: DataLoader(
        TensorDataset(torch.from_numpy(X), torch.arange(len(X))), 7, shuffle=True
    ),
    "loader of one by one": lambda X: DataLoader(TensorDataset(torch.from_numpy(X))),
    "loader with its own batches": lambda X: DataLoader(
        Pairs(torch.from_numpy(X)),
        batch_sampler=[[3, 1], [2]],
        collate_fn=named,
    ),
    "loader with workers": lambda X: DataLoader(
        Pairs(torch.from_numpy(X)), 16, collate_fn=named, num_workers=2
    ),
    "transformed": lambda X: MapReader(X / 2, lambda rows: rows * 2, 9),
}


# --- reading -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sources_give_the_rows_of_an_array(kind, dtype):
    X = data(dtype=dtype)
    source = as_reader(SOURCES[kind](X), None)
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
    if kind != "transformed":
        for index in (np.arange(3, 100), np.array([9, 2, 99, 50]), np.arange(0)):
            np.testing.assert_array_equal(source[index], X[index])


@settings(deadline=None)
@given(
    n_samples=st.integers(1, 90),
    reads=st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99)), max_size=8),
    index=st.lists(st.integers(0, 99), max_size=40),
)
def test_any_order_of_reading_gives_the_rows_of_an_array(n_samples, reads, index):
    X = data(n_samples)
    source = as_reader(as_file(X), None)
    index = np.array(index, dtype=int) % n_samples
    for start, stop in reads:
        np.testing.assert_array_equal(source[start:stop], X[start:stop])
        np.testing.assert_array_equal(source[index], X[index])


def test_slices_that_follow_each_other_read_each_row_once():
    file = as_file(data())
    source = as_reader(file, None)
    for start in range(0, 100, 3):
        source[start : start + 3]
    assert file.n_read == 100
    assert file.n_alive == 0
    assert file.most_alive <= 2 * LONGEST


def test_neighbours_are_read_together_and_distant_rows_are_not():
    file = as_file(data())
    source = as_reader(file, None)
    read = file.n_read
    source[np.array([10, 12, 14, 60])]
    assert file.n_read - read == 5 + 1


def test_a_source_is_pickled_without_what_it_has_read():
    source = as_reader(Pairs(data()), None)
    source[:10]
    copy = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(copy[10:20], source[10:20])


def test_workers_and_loaders_leave_the_global_state_alone():
    X = data()
    loader = DataLoader(TensorDataset(torch.from_numpy(X)), 8, shuffle=True)
    before = torch.random.get_rng_state()
    source = as_reader(loader, None)
    source[:]
    source[np.arange(50)]
    list(stream_chunks(Stream(X), None))
    assert before.equal(torch.random.get_rng_state())


def test_sampler_of_a_loader_has_no_say():
    X = torch.arange(20.0).reshape(10, 2)
    sampler = RandomSampler(X, num_samples=3)
    loader = DataLoader(TensorDataset(X), 4, sampler=sampler, drop_last=True)
    np.testing.assert_array_equal(as_reader(loader, None)[:], X)


# --- types ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "expected"),
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
def test_types_are_converted_as_those_of_arrays_and_tensors(given, expected):
    rows = as_reader(given, None)[:]
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
        source = as_reader(Listed([item, item]), None)
        np.testing.assert_array_equal(source[:], [row, row])


def test_what_is_in_memory_stays_as_it_is():
    for X in (
        [[1.0]],
        np.ones((2, 2)),
        np.float64(3),
        torch.ones(2, 2),
        sparse.eye_array(3),
        pd.DataFrame({"dtype": [1.0], "shape": [2.0]}),
        "text",
    ):
        assert as_reader(X, None) is X


def test_masked_entries_of_slices_are_missing():
    X = data()
    masked = np.ma.array(np.nan_to_num(X, nan=1e6), mask=np.isnan(X))
    source = as_reader(as_file(masked), None)
    np.testing.assert_array_equal(source[:], X)
    np.testing.assert_array_equal(source[np.array([9, 2, 99, 7])], X[[9, 2, 99, 7]])


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_masked_items_are_missing_where_they_are_masked(dtype):
    X = data()
    X[~np.isnan(X)] = X[~np.isnan(X)].astype(dtype)
    masked = np.ma.array(np.nan_to_num(X, nan=99).astype(dtype), mask=np.isnan(X))
    rows = list(masked)
    for container in (
        Pairs(masked),
        DataLoader(Listed(rows), 7),
        DataLoader(Listed([(row, None) for row in rows]), 7, num_workers=2),
    ):
        np.testing.assert_array_equal(as_reader(container, None)[:], X)
    for stream in (Stream(rows), DataLoader(Stream(rows), 7)):
        np.testing.assert_array_equal(np.concatenate([*stream_chunks(stream, None)]), X)


def test_items_may_be_views_that_torch_does_not_wrap():
    X = data()
    X.flags.writeable = False
    for rows in (list(X), list(X[:, ::-1]), list(X.astype(X.dtype.newbyteorder()))):
        source = as_reader(DataLoader(Listed(rows), 7), None)
        np.testing.assert_array_equal(source[:], np.stack(rows))


def test_loaders_convert_types_as_torch_does():
    counts = np.arange(20).reshape(4, 5)
    assert as_reader(DataLoader(Listed(list(counts))), None).dtype == np.float32
    assert as_reader(Listed(list(counts)), None).dtype == np.float64


def test_an_empty_batch_in_a_stream_is_no_harm():
    X = data()
    batches = [X[:10], X[10:10], X[10:]]
    stream = DataLoader(Stream(batches), batch_size=None)
    np.testing.assert_array_equal(np.concatenate(list(stream_chunks(stream, None))), X)


# --- streams -------------------------------------------------------------------------


@pytest.mark.parametrize("n_samples", [3, 100, 60])
def test_parts_of_a_stream(n_samples):
    X = data(n_samples)
    pairs = Stream([(row, None) for row in X])
    for stream, size in (
        (pairs, 256),
        (DataLoader(pairs, 10, collate_fn=stack_rows), 30),
        (DataLoader(Stream(X.reshape(-1, 1, 5)), 10), 30),
    ):
        assert is_stream(stream)
        parts = list(stream_chunks(stream, None))
        np.testing.assert_array_equal(np.concatenate(parts), X)
        assert max(map(len, parts)) <= size


def test_a_stream_of_batches():
    X = data()
    stream = DataLoader(Stream(np.split(X, [10, 50])), batch_size=None)
    np.testing.assert_array_equal(np.concatenate(list(stream_chunks(stream, None))), X)


# --- mistakes ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (as_file(np.ones(3)), ValueError, r"Expected 2D array, got X of shape \(3,\)"),
        (as_file(np.ones((2, 3, 3))), ValueError, r"Expected 2D.*\(2, 3, 3\)"),
        (as_file(np.ones((3, 3), complex)), ValueError, "Complex data"),
        (as_file(np.full((3, 3), "one")), ValueError, "could not convert string"),
        (as_file(np.ones((0, 3))), ValueError, r"0 sample\(s\)"),
        (as_file(np.ones((3, 0))), ValueError, r"0 feature\(s\)"),
        (as_file(np.full((3, 3), np.inf)), ValueError, "infinity"),
        (as_file(np.zeros((3, 3), "M8[D]")), ValueError, "datetime64.*numeric"),
        (Sparse(np.eye(3)), TypeError, "Sparse data was passed for X"),
        (Pairs(torch.ones(3, 3) * 1j), ValueError, "Complex data not supported"),
        (DataLoader(Pairs(np.ones((3, 3)) * 1j)), ValueError, "Complex data"),
        (Listed(sparse_rows()), TypeError, "Sparse data was passed for X"),
        (DataLoader(Listed(sparse_rows())), TypeError, "Sparse data was passed for X"),
        (
            DataLoader(Listed([torch.ones(3).to_sparse()])),
            TypeError,
            "Sparse data was passed for X",
        ),
        (DataLoader(Listed([np.array(["a", "b"])])), ValueError, "could not convert"),
        (Listed([()]), ValueError, r"should be rows.*shape \(1,\)"),
        (Listed([np.ones(0)]), ValueError, r"0 feature\(s\)"),
        (Listed([np.ones((2, 0))]), ValueError, r"0 feature\(s\)"),
        (Lengthless(), TypeError, "Lengthless, a Dataset .* X, has no __len__"),
        (DataLoader(Lengthless(), batch_sampler=[[0]]), TypeError, "no __len__"),
        (Listed([]), ValueError, r"0 sample\(s\)"),
        (Listed([[1.0, 2.0]]), ValueError, r"should be rows.*shape \(1,\)"),
        (Listed([np.ones(3), np.ones(2)]), ValueError, r"one shape.*\(2,\), \(3,\)"),
        (DataLoader(Pairs(np.ones((3, 3))), None), ValueError, "batch_size=None"),
        (Stream([np.ones(3)]), TypeError, "Stream without length.*partial_fit"),
        (DataLoader(Stream([])), TypeError, "DataLoader without length.*partial_fit"),
    ],
)
def test_mistakes_are_named(given, error, message):
    with pytest.raises(error, match=message):
        validate_rows(BaseEstimator(), given, reset=True)


def test_mistakes_further_on_are_named_when_they_are_read():
    X = data()
    X[-1, 3] = np.inf
    source = as_reader(as_file(X), None)
    source[:70]
    with pytest.raises(ValueError, match="X contains infinity"):
        source[70:]
    loader = DataLoader(Listed([np.ones(3), np.ones(2)]))
    with pytest.raises(ValueError, match="rows of 2 features after rows of 3"):
        as_reader(loader, None)[:]
    loader = DataLoader(Pairs(X), 10, collate_fn=lambda items: items[0][0][None])
    with pytest.raises(ValueError, match="X gave 10 rows where 100 were asked for"):
        as_reader(loader, None)[:]
    with pytest.raises(ValueError, match="X gave 1 rows where 3 were asked for"):
        as_reader(loader, None)[np.arange(3)]
    with pytest.raises(ValueError, match="X yielded no rows"):
        list(stream_chunks(Stream([]), None))


@pytest.mark.parametrize(("times", "n_given"), [(0, 0), (2, 2)])
def test_slices_of_another_length_are_named(times, n_given):
    broken = Repeated(data(), 1)
    source = as_reader(broken, None)
    broken.times = times
    with pytest.raises(ValueError, match=r"X gave \d+ rows where 75 were"):
        source[25:]
    with pytest.raises(ValueError, match=f"X gave {n_given} rows where 1 were"):
        source[np.array([60])]


def test_images_with_channels_first_are_refused():
    estimator = BaseEstimator()
    estimator.image_shape = (4, 2, 3)
    images = torch.arange(48.0).reshape(2, 4, 2, 3)
    rows = validate_rows(estimator, TensorDataset(images), reset=True)
    np.testing.assert_array_equal(rows[:], images.flatten(1))
    channels_first = TensorDataset(images.permute(0, 3, 1, 2))
    with pytest.raises(ValueError, match=r"\(3, 4, 2\).*\(4, 2, 3\).*channels last"):
        validate_rows(estimator, channels_first, reset=True)
    estimator.image_shape = (4, 6)
    of_one_channel = TensorDataset(images.reshape(2, 1, 4, 6))
    np.testing.assert_array_equal(
        validate_rows(estimator, of_one_channel, reset=True)[:], images.flatten(1)
    )
