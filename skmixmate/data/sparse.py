"""Rows of sparse matrices, in memory or in a file."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse

from .containers import as_numpy
from .readers import Converter, RowReader

# Checks a scipy.sparse matrix, and converts it to CSR of floats.
SparseConverter: TypeAlias = Callable[[Any, np.dtype[Any]], sparse.csr_array]

# Rows that are read to estimate the number of stored entries in a row, and the largest
# gap, in rows, that is read through instead of starting another slice.
_PROBE_ROWS, _MAX_GAP = 256, 64

# Entries that are made dense at a time.
_DENSE_ENTRIES = 2**21


class SparseRows:
    """Rows of a sparse matrix, which are selected by slices and by indices.

    Parameters
    ----------
    source : scipy.sparse CSR matrix or array, or object
        The rows, float32 or float64. Its three arrays may be memory maps. Any other
        object has `shape`, `dtype` and slices that are scipy.sparse matrices, such as a
        matrix in a file.
    convert : callable, default=None
        Checks and converts the slices of a source that is not in memory.

    Attributes
    ----------
    shape : tuple of int
        (n_rows, n_features).
    dtype : dtype
        float32 or float64.
    row_entries : int
        Mean number of stored entries in a row, at least 1; an estimate if the rows are
        not in memory.
    """

    def __init__(self, source: Any, convert: SparseConverter | None = None) -> None:
        self.source = source
        self.convert = convert
        self.shape: tuple[int, int] = (int(source.shape[0]), int(source.shape[1]))
        dtype = np.dtype(source.dtype)
        self.dtype: np.dtype[Any] = (
            dtype if dtype == np.float32 else np.dtype(np.float64)
        )
        n_rows, n_stored = self.shape[0], 0
        if sparse.issparse(source):
            n_stored = source.nnz
        elif n_rows:
            n_rows = min(n_rows, _PROBE_ROWS)
            n_stored = self._slice(0, n_rows).nnz
        self.row_entries = 1 + n_stored // max(1, n_rows)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> "SparseRows":
        """Select rows, which are then in memory.

        Parameters
        ----------
        index : slice, int ndarray or int tensor of shape (n_index,)
        """
        if isinstance(index, torch.Tensor):
            index = index.numpy(force=True)
        if sparse.issparse(self.source):
            return SparseRows(_without_duplicates(self.source[index]))
        if isinstance(index, slice):
            start, stop, _ = index.indices(len(self))
            return SparseRows(self._slice(start, max(start, stop)))
        return SparseRows(self._gather(np.asarray(index)))

    @property
    def is_lazy(self) -> bool:
        """Whether rows are read from a file when they are selected."""
        if not sparse.issparse(self.source):
            return True
        base = self.source.data
        while isinstance(base, np.ndarray) and not isinstance(base, np.memmap):
            base = base.base
        return isinstance(base, np.memmap)

    @property
    def csr(self) -> sparse.csr_array:
        """The rows as scipy.sparse has them; they must be in memory."""
        return self.source

    @property
    def entries(self) -> npt.NDArray[Any]:
        """The stored entries, row by row; rows must be in memory."""
        values: npt.NDArray[Any] = self.source.data
        return values

    def with_entries(self, entries: npt.NDArray[Any]) -> "SparseRows":
        """Replace the stored entries.

        Parameters
        ----------
        entries : ndarray of shape (n_stored,)

        Returns
        -------
        rows : SparseRows
        """
        csr = self.source
        return SparseRows(
            sparse.csr_array((entries, csr.indices, csr.indptr), shape=self.shape)
        )

    def columns(self, index: npt.NDArray[np.intp]) -> "SparseRows":
        """Select columns of rows in memory."""
        return SparseRows(self.source[:, index])

    def sum(self, axis: int) -> npt.NDArray[np.float64]:
        """Sum the rows in memory, in float64.

        Parameters
        ----------
        axis : int
            0, along which the entries of each feature are.

        Returns
        -------
        sums : ndarray of shape (n_features,)
        """
        return column_sums(self, self.entries)

    def double(self) -> "SparseRows":
        """Convert rows in memory to float64."""
        return self.with_entries(self.entries.astype(np.float64, copy=False))

    def copy(self) -> "SparseRows":
        """Copy rows in memory."""
        return SparseRows(self.source.copy())

    def toarray(self) -> npt.NDArray[Any]:
        """Make rows in memory dense: callers see to it that they are few."""
        rows: npt.NDArray[Any] = self.source.toarray()
        return rows

    def _slice(self, start: int, stop: int) -> sparse.csr_array:
        """Read consecutive rows."""
        if start == stop:
            return sparse.csr_array((0, self.shape[1]), dtype=self.dtype)
        assert self.convert is not None
        rows = self.convert(self.source[start:stop], self.dtype)
        if rows.shape != (stop - start, self.shape[1]):
            raise ValueError(
                f"X returned rows of shape {rows.shape} for X[{start}:{stop}], but "
                f"should return {(stop - start, self.shape[1])}."
            )
        return _without_duplicates(rows)

    def _gather(self, index: npt.NDArray[np.intp]) -> sparse.csr_array:
        """Read rows in any order, in slices of rows that are close to each other."""
        if len(index) == 0:
            return self._slice(0, 0)
        order = np.argsort(index, kind="stable")
        ascending = index[order]
        ends = np.flatnonzero(np.diff(ascending) > _MAX_GAP) + 1
        parts = []
        for group in np.split(ascending, ends):
            first, last = int(group[0]), int(group[-1])
            parts.append(self._slice(first, last + 1)[group - first])
        rows = sparse.vstack(parts, format="csr")
        return rows[np.argsort(order, kind="stable")]


def _without_duplicates(csr: sparse.csr_array) -> sparse.csr_array:
    """Add up the entries that are stored several times, in a copy."""
    if csr.has_canonical_format:
        return csr
    csr = csr.copy()  # a slice shares the arrays of the user's matrix
    csr.sum_duplicates()
    return csr


def column_sums(rows: SparseRows, values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Sum a value of each stored entry over the rows.

    Parameters
    ----------
    rows : SparseRows
        In memory.
    values : ndarray of shape (n_stored,)

    Returns
    -------
    sums : float64 ndarray of shape (n_features,)
    """
    sums = np.bincount(rows.csr.indices, values, minlength=rows.shape[1])
    return sums.astype(np.float64)


def concatenate(parts: Sequence[Any]) -> Any:
    """Concatenate arrays, or sparse rows in memory.

    Parameters
    ----------
    parts : sequence of ndarray, or of SparseRows

    Returns
    -------
    rows : ndarray or SparseRows
    """
    if isinstance(parts[0], SparseRows):
        return SparseRows(sparse.vstack([part.csr for part in parts], format="csr"))
    return np.concatenate(parts)


def as_dense(rows: Any) -> npt.NDArray[Any]:
    """Return rows on the host as a dense array.

    Parameters
    ----------
    rows : ndarray, tensor or SparseRows
    """
    array: Any = as_numpy(rows)
    dense: npt.NDArray[Any] = (
        array.toarray() if isinstance(array, SparseRows) else array
    )
    return dense


def append_sparse(buffer: torch.Tensor | SparseRows, rows: SparseRows) -> SparseRows:
    """Append sparse rows to a buffer.

    Parameters
    ----------
    buffer : tensor or SparseRows of shape (n_buffered, n_features)
    rows : SparseRows
        In memory.

    Returns
    -------
    rows : SparseRows of shape (n_buffered + n_rows, n_features)
        A copy, of the dtype of `buffer`.
    """
    if isinstance(buffer, torch.Tensor):
        buffer = SparseRows(sparse.csr_array(buffer.numpy(force=True)))
    stacked = sparse.vstack([buffer.csr, rows.csr], format="csr", dtype=buffer.dtype)
    return SparseRows(stacked)


def is_sparse_file(X: Any) -> bool:
    """Return whether an object is a sparse matrix that is not in memory.

    Parameters
    ----------
    X : object

    Returns
    -------
    is_sparse_file : bool
        True for objects with a `format`, such as the sparse datasets of anndata.
    """
    names = ("shape", "dtype", "__getitem__")
    return (
        not sparse.issparse(X)
        and getattr(X, "format", None) in ("csr", "csc")
        and all(hasattr(X, name) for name in names)
    )


class DenseReader(RowReader):
    """Read sparse rows as dense ones, a bounded number at a time.

    Parameters
    ----------
    X : SparseRows
    as_floats : callable
        See :class:`~skmixmate.data.readers.RowReader`.
    """

    def __init__(self, X: SparseRows, as_floats: Converter) -> None:
        self.X = X
        super().__init__(len(X), as_floats)

    def _read_chunks(self, index: range | npt.NDArray[np.intp]) -> Iterator[Any]:
        size = max(1, _DENSE_ENTRIES // max(1, self.X.shape[1]))
        for start in range(0, len(index), size):
            rows = index[start : start + size]
            if isinstance(rows, range):
                yield self.X[rows.start : rows.stop].toarray()
            else:
                yield self.X[rows].toarray()
