"""Sparse rows in memory and in files."""

import pickle

import numpy as np
import pytest
import torch
from scipy import sparse

from skmixmate.data.loader import RowLoader, concat_rows
from skmixmate.data.sparse import DenseReader, SparseRows, concatenate
from skmixmate.data.statistics import (
    centered_norm,
    feature_means,
    feature_stds,
    largest_entry,
    root_mean_square_norm,
    summarize,
)
from skmixmate.data.validation import as_csr, as_floats
from skmixmate.distributed.communicator import Communicator

CPU, ALONE = torch.device("cpu"), Communicator()


def draw_array(dtype=np.float64, missing=0.0):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 30)) * (rng.random((300, 30)) < 0.2)
    X[:, 4] = 3
    X[(X != 0) & (rng.random(X.shape) < missing)] = np.nan
    return X.astype(dtype)


class File:
    """Returns slices as matrices of another format, with integers."""

    format = "csr"

    def __init__(self, X):
        self.X, self.shape, self.dtype = sparse.coo_array(X), X.shape, X.dtype

    def __getitem__(self, index):
        assert isinstance(index, slice)
        return self.X.tocsr()[index].tocoo()


@pytest.mark.parametrize(
    "index",
    [slice(20, 90), slice(0, 0), np.array([250, 3, 3, 299, 4]), torch.arange(5)],
)
def test_rows_are_selected(index):
    X = draw_array()
    for rows in (SparseRows(sparse.csr_array(X)), SparseRows(File(X), as_csr)):
        selected = rows[index]
        np.testing.assert_array_equal(
            selected.toarray(),
            X[np.asarray(index) if not isinstance(index, slice) else index],
        )
        assert not selected.is_lazy
        assert len(selected) == selected.shape[0]


def test_a_file_with_integers_is_read_as_float64():
    X = np.rint(draw_array()).astype(np.int32)
    rows = SparseRows(File(X), as_csr)
    assert rows.is_lazy
    assert rows.dtype == rows[:10].dtype == np.float64


def test_slices_that_are_not_sparse_are_rejected():
    class Wrong(File):
        def __getitem__(self, index):
            return np.zeros((5, 3))

    with pytest.raises(TypeError, match="slices of type ndarray"):
        SparseRows(Wrong(draw_array()), as_csr)


def test_slices_of_another_shape_are_rejected():
    class Wrong(File):
        def __getitem__(self, index):
            return sparse.csr_array((5, 3))

    with pytest.raises(ValueError, match="shape"):
        SparseRows(Wrong(draw_array()), as_csr)


def test_rows_can_be_pickled_and_concatenated():
    X = draw_array()
    rows = pickle.loads(pickle.dumps(SparseRows(sparse.csr_array(X))))
    np.testing.assert_array_equal(concatenate([rows[:7], rows[7:]]).toarray(), X)
    np.testing.assert_array_equal(concatenate([X[:7], X[7:]]), X)


@pytest.mark.parametrize("is_sparse", [False, True])
def test_rows_are_appended_to_a_buffer(is_sparse):
    X = draw_array(missing=0.1)
    buffer = torch.from_numpy(X[:5])
    if is_sparse:
        buffer = SparseRows(sparse.csr_array(X[:5]))
    indices = np.array([5, 7])
    rows = concat_rows(buffer, SparseRows(sparse.csr_array(X)), indices)
    expected = X[[0, 1, 2, 3, 4, 5, 7]]
    np.testing.assert_array_equal(rows.toarray(), expected)
    np.testing.assert_array_equal(concat_rows(buffer, X, indices), expected)


def test_dense_reader_reads_rows_of_pixels():
    X = draw_array()
    reader = DenseReader(SparseRows(sparse.csr_array(X)), as_floats)
    np.testing.assert_array_equal(reader[40:90], X[40:90])
    np.testing.assert_array_equal(reader[np.array([9, 2])], X[[9, 2]])


@pytest.mark.parametrize("missing", [0.0, 0.2])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("factor", [1, 1e-25, 1e25])
def test_statistics_are_those_of_dense_rows(dtype, missing, factor):
    X = draw_array(dtype, missing) * dtype(factor)
    dense, rows = (
        RowLoader(data, device=CPU, chunk_entries=500)
        for data in (X, SparseRows(sparse.csr_array(X)))
    )
    expected, summary = (summarize(loader, with_sums=True) for loader in (dense, rows))
    np.testing.assert_array_equal(summary.n_missing, expected.n_missing)
    torch.testing.assert_close(summary.counts, expected.counts)
    stds = feature_stds(summary, ALONE)
    assert stds[4] == 0  # a constant
    if factor == 1:  # the squares of dense float32 rows overflow
        np.testing.assert_allclose(stds, feature_stds(expected, ALONE), rtol=1e-5)
    for statistic in (feature_means, centered_norm, root_mean_square_norm):
        np.testing.assert_allclose(
            statistic(rows, ALONE), statistic(dense, ALONE), rtol=1e-5
        )
    assert largest_entry(rows) == largest_entry(dense)
