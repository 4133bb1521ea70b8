"""Mini-batches of X: rows that are read, shifted, scaled and moved to a device."""

import copy
import math
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from .batch import Batch
from .containers import as_tensor, is_wrappable
from .readers import RowReader
from .sparse import SparseRows, append_sparse
from .sparse_batch import SparseBatch, entries_with_zero, scaled

_ALL = slice(None)

Rows: TypeAlias = npt.NDArray[Any] | torch.Tensor | RowReader | SparseRows

# Entries of a chunk, when all of X is read in order.
_CHUNK_ENTRIES = 2**20

# Bytes of a shuffle window, and of each chunk of consecutive rows in it. Data that fit
# into one window are shuffled as a whole.
_SHUFFLE_WINDOW_BYTES, _SHUFFLE_CHUNK_BYTES = 7 * 2**25, 2**20


class RowLoader:
    """Load mini-batches of X, shifted and scaled, onto a device.

    X itself is never changed and never copied as a whole: only each mini-batch is
    copied.

    Parameters
    ----------
    X : ndarray, tensor, RowReader or SparseRows of shape (n_samples, n_features)
        float32 or float64; NaN is missing.
    device : torch.device
        Where mini-batches go.
    location : tensor of shape (n_features,) or None
        Subtracted from every row.
    scale : float
        Every entry is multiplied by it after `location` has been subtracted.
    sample_weight : array-like or tensor of shape (n_samples,), default=None
        Weights of the rows; None if all that count have the weight 1.
    counted : slice(None) or int array-like of shape (n_counted,), default=slice(None)
        Indices of the rows that statistics of X are computed from: those of positive
        weight.
    labels : array-like or tensor of shape (n_samples,), default=None
        Clusters that rows are known to belong to, -1 where it is not known; None if no
        label is known.
    needs_dense : bool, default=False
        Whether mini-batches of sparse rows are made dense. They also are where
        `location` is not 0, and on other devices than the CPU, which have fast products
        of dense matrices.
    check : callable, default=None
        Called with the rows of each batch, missing entries set to 0; it raises an
        exception to reject them. For a sparse batch it is called with its distinct
        entries as a column.
    chunk_entries : int, default=None
        Number of entries in a chunk of :meth:`chunks`; 2**20 by default.
    shuffle_window_bytes, shuffle_chunk_bytes : int, default=None
        Size of the windows in which :meth:`batches` shuffles, and of the chunks of
        consecutive rows in them; 224 MiB and 1 MiB by default.
    """

    def __init__(
        self,
        X: Rows,
        *,
        device: torch.device,
        location: torch.Tensor | None = None,
        scale: float = 1.0,
        sample_weight: npt.ArrayLike | torch.Tensor | None = None,
        counted: slice | npt.ArrayLike | torch.Tensor = _ALL,
        labels: npt.ArrayLike | torch.Tensor | None = None,
        needs_dense: bool = False,
        check: Callable[[torch.Tensor], object] | None = None,
        chunk_entries: int | None = None,
        shuffle_window_bytes: int | None = None,
        shuffle_chunk_bytes: int | None = None,
    ) -> None:
        self.X = X
        self.device = device
        self.location = location
        self.scale = scale
        self.sample_weight = _on_host(sample_weight, torch.float64)
        self.labels = _on_host(labels, torch.int64)
        self.counted: slice | torch.Tensor = (
            counted if isinstance(counted, slice) else torch.as_tensor(counted)
        )
        self.needs_dense = needs_dense
        self.check = check
        self.chunk_entries = chunk_entries or _CHUNK_ENTRIES
        self.shuffle_window_bytes = shuffle_window_bytes or _SHUFFLE_WINDOW_BYTES
        self.shuffle_chunk_bytes = shuffle_chunk_bytes or _SHUFFLE_CHUNK_BYTES

    def __len__(self) -> int:
        return len(self.X)

    def shifted(self, location: torch.Tensor | None, scale: float = 1.0) -> "RowLoader":
        """Return a loader of the same rows, shifted and scaled otherwise.

        Parameters
        ----------
        location : tensor of shape (n_features,) or None
        scale : float, default=1.0

        Returns
        -------
        loader : RowLoader
            Without a `check`.
        """
        loader = copy.copy(self)
        loader.location, loader.scale, loader.check = location, scale, None
        return loader

    @property
    def is_sparse(self) -> bool:
        """Whether mini-batches are sparse."""
        on_host = self.device.type == "cpu"
        if not isinstance(self.X, SparseRows) or self.needs_dense or not on_host:
            return False
        return self.location is None or not self.location.any()

    def count_rows(self, indices: slice | torch.Tensor) -> int:
        """Return the number of rows that an index selects.

        Parameters
        ----------
        indices : slice(None) or int tensor of shape (n_indices,)

        Returns
        -------
        n_rows : int
        """
        return len(self) if isinstance(indices, slice) else len(indices)

    def load(self, index: slice | torch.Tensor) -> Batch:
        """Load rows by index.

        Parameters
        ----------
        index : slice or int tensor of shape (n_index,)

        Returns
        -------
        batch : Batch
        """
        raw = self._read_batch(index)
        if isinstance(raw, SparseBatch):
            return self._standardize_sparse(raw)
        raw = raw.map(lambda field: field.to(self.device))
        return self._standardize(raw, is_complete=not has_missing(raw.rows))

    def batches(
        self, indices: slice | torch.Tensor, size: int, generator: torch.Generator
    ) -> Iterator[Batch]:
        """Yield mini-batches of rows in random order.

        X is shuffled in windows of up to 224 MiB; each window consists of chunks of
        consecutive rows from all over X. If X is a memory map or a RowReader, or the
        device is a GPU, a window is read once, chunk by chunk, and its mini-batches
        need no synchronization with the host. The order of the rows depends neither
        on the type of X nor on the device.

        Parameters
        ----------
        indices : slice(None) or int tensor of shape (n_indices,)
            The rows to draw from, in ascending order. A slice avoids storing one
            index for each row.
        size : int
            Number of rows in a mini-batch. Rows of a window that do not fill a
            mini-batch are left out.
        generator : torch.Generator

        Yields
        ------
        batch : Batch
        """
        on_host = self.device.type == "cpu"
        in_memory = on_host and not is_lazy(self.X) and not self._is_on_device()
        chunk_rows, window_rows = self._shuffle_sizes(size)
        n_rows = self.count_rows(indices)
        for window in shuffle_windows(n_rows, chunk_rows, window_rows, generator):
            order = torch.randperm(len(window), generator=generator)
            order = order[: len(order) // size * size]
            if len(order) == 0:  # possible in the last window
                continue
            if isinstance(indices, torch.Tensor):
                window = indices[window]
            if in_memory:
                for batch in torch.split(order, size):
                    yield self.load(window[batch])
                continue
            raw = self._load_window(window)
            if isinstance(raw, SparseBatch):
                for batch in torch.split(order, size):
                    yield self._standardize_sparse(raw.select(batch))
                continue
            is_complete = not has_missing(raw.rows)
            for batch in torch.split(order.to(self.device), size):
                yield self._standardize(raw.select(batch), is_complete)
            del raw  # frees the memory before the next window is read

    def _shuffle_sizes(self, batch_size: int) -> tuple[int, int]:
        """Return the number of rows in a chunk and in a window of the shuffle."""
        n_bytes = self.X.shape[1] * self.X.dtype.itemsize
        chunk_rows = batch_size * max(
            1, self.shuffle_chunk_bytes // (n_bytes * batch_size)
        )
        window_rows = chunk_rows * max(
            1, self.shuffle_window_bytes // (n_bytes * chunk_rows)
        )
        return chunk_rows, window_rows

    def _load_window(self, window: torch.Tensor) -> Batch:
        """Copy the rows of a shuffle window to the device, neither shifted nor scaled.

        Parameters
        ----------
        window : int tensor of shape (n_window,)

        Returns
        -------
        raw : Batch
        """
        # With slice(None) a tensor that is already on the device is not copied.
        is_whole = len(window) == len(self)
        raw = self._read_batch(slice(None) if is_whole else window)
        if isinstance(raw, SparseBatch):
            return raw

        def to_device(field: torch.Tensor) -> torch.Tensor:
            if self.device.type == "cuda" and not field.is_cuda:
                field = field.pin_memory()
            # A non-blocking copy to the host could be read before it has finished.
            return field.to(self.device, non_blocking=self.device.type != "cpu")

        return raw.map(to_device)

    def _is_on_device(self) -> bool:
        return isinstance(self.X, torch.Tensor) and self.X.device.type != "cpu"

    def _standardize(self, raw: Batch, is_complete: bool) -> Batch:
        rows, _, weights, labels = raw
        if self.location is not None:
            rows = rows - self.location
        # The first operation is out of place, so that X is never modified.
        rows = rows * self.scale
        observed = None
        if not is_complete:
            # Only NaN differs from itself. This takes a third of the time of isnan.
            observed = rows == rows
            rows.nan_to_num_(nan=0.0, posinf=math.inf, neginf=-math.inf)
        if self.check is not None:
            self.check(rows)
        weights = None if weights is None else weights.to(rows.dtype)
        return Batch(rows, observed, weights, labels)

    def _standardize_sparse(self, raw: SparseBatch) -> Batch:
        rows = scaled(raw.sparse_rows, self.scale)
        if self.check is not None:
            self.check(entries_with_zero(rows))
        weights = None if raw.weights is None else raw.weights.to(raw.dtype)
        return SparseBatch.from_rows(rows, weights, raw.labels)

    def _read_batch(self, index: slice | torch.Tensor) -> Batch:
        """Read rows, neither shifted nor scaled, with their weights and labels."""
        weights, labels = (
            None if field is None else field[index]
            for field in (self.sample_weight, self.labels)
        )
        if self.is_sparse and isinstance(self.X, SparseRows):
            return SparseBatch.from_rows(self.X[index], weights, labels)
        return Batch(self._read(index), None, weights, labels)

    def _read(self, index: slice | torch.Tensor) -> torch.Tensor:
        if isinstance(self.X, torch.Tensor):
            # Row-major as rows of an array are: the rounding of a sum depends on it.
            return self.X[index].contiguous()
        if isinstance(self.X, SparseRows):
            return torch.from_numpy(self.X[index].toarray())
        readable = torch.from_numpy(self.X) if _torch_readable(self.X) else None
        if isinstance(index, torch.Tensor):
            if readable is not None:
                return readable.index_select(0, index)
            return as_tensor(self.X[index.numpy()])
        if readable is not None:
            return readable[index]
        # A copy, because torch warns if the array is read-only.
        return torch.from_numpy(np.array(self.X[index], order="C"))

    def to_data_units(self, rows: torch.Tensor) -> torch.Tensor:
        """Undo the shift and the scaling.

        Parameters
        ----------
        rows : tensor of shape (n_rows, n_features)

        Returns
        -------
        rows : tensor of shape (n_rows, n_features)
            In the units of X.
        """
        rows = rows / self.scale
        return rows if self.location is None else rows + self.location

    def index_chunks(
        self, indices: slice | torch.Tensor
    ) -> Iterator[slice | torch.Tensor]:
        """Yield chunks of an index.

        Parameters
        ----------
        indices : slice(None) or int tensor of shape (n_indices,)

        Yields
        ------
        chunk : slice or int tensor
            Of as many rows as a chunk of :meth:`chunks` has.
        """
        if isinstance(indices, slice):
            return self.chunks()
        return iter(torch.split(indices, self._chunk_rows()))

    def _chunk_rows(self) -> int:
        return max(1, self.chunk_entries // self.row_entries)

    @property
    def row_entries(self) -> int:
        """Number of entries of a row that are stored, the mean for sparse rows."""
        if self.is_sparse and isinstance(self.X, SparseRows):
            return self.X.row_entries
        return self.X.shape[1]

    def chunks(self, size: int | None = None) -> Iterator[slice]:
        """Yield slices that cover all rows in order.

        Parameters
        ----------
        size : int, default=None
            Number of rows in each slice except the last. By default as many as have
            `chunk_entries` entries.

        Yields
        ------
        chunk : slice
        """
        size = size or self._chunk_rows()
        for start in range(0, len(self), size):
            yield slice(start, min(start + size, len(self)))


def _on_host(
    values: npt.ArrayLike | torch.Tensor | None, dtype: torch.dtype
) -> torch.Tensor | None:
    """Convert a value for each row to a tensor on the host, where rows are indexed."""
    if values is None:
        return None
    if not isinstance(values, torch.Tensor):
        values = as_tensor(np.asarray(values))
    return values.to(device="cpu", dtype=dtype)


def shuffle_windows(
    n_rows: int, chunk_rows: int, window_rows: int, generator: torch.Generator
) -> Iterator[torch.Tensor]:
    """Divide rows into windows, each of randomly drawn chunks of consecutive rows.

    Parameters
    ----------
    n_rows : int
    chunk_rows : int
        Number of rows in a chunk.
    window_rows : int
        Number of rows in a window, a multiple of `chunk_rows`.
    generator : torch.Generator

    Yields
    ------
    window : int tensor of shape (n_window,)
        At most `window_rows` indices, in ascending order for faster reading from
        disk.
    """
    if n_rows <= window_rows:
        yield torch.arange(n_rows)
        return
    chunks = torch.randperm(-(-n_rows // chunk_rows), generator=generator)
    for drawn_chunks in torch.split(chunks, window_rows // chunk_rows):
        starts = chunk_rows * drawn_chunks.sort().values[:, None]
        window = (starts + torch.arange(chunk_rows)).flatten()
        yield window[window < n_rows]


def has_missing(rows: torch.Tensor) -> bool:
    """Return whether any entry is NaN.

    The sum of the entries is faster to compute than a mask.

    Parameters
    ----------
    rows : tensor
        Without infinite entries.

    Returns
    -------
    has_missing : bool
    """
    return bool(rows.sum().isnan())


def concat_rows(
    buffer: torch.Tensor | SparseRows, X: Rows, indices: npt.NDArray[np.intp]
) -> torch.Tensor | SparseRows:
    """Append rows of X to a buffer.

    Parameters
    ----------
    buffer : tensor or SparseRows of shape (n_buffered, n_features)
    X : ndarray, tensor, RowReader or SparseRows of shape (n_samples, n_features)
    indices : int ndarray of shape (n_indices,)
        The rows of X to append.

    Returns
    -------
    rows : tensor or SparseRows of shape (n_buffered + n_indices, n_features)
        Sparse if X is. A copy, on the device of X and of the dtype of `buffer`.
    """
    if isinstance(X, SparseRows):
        return append_sparse(buffer, X[indices])
    if isinstance(buffer, SparseRows):
        buffer = torch.from_numpy(buffer.toarray())
    rows = X[indices]
    rows = rows if isinstance(rows, torch.Tensor) else as_tensor(rows)
    return torch.cat([buffer.to(rows.device), rows.to(buffer.dtype)])


def _torch_readable(X: Rows) -> bool:
    """Return whether torch can index an array, which unlike numpy uses all threads."""
    return isinstance(X, np.ndarray) and X.flags.c_contiguous and is_wrappable(X)


def is_lazy(X: Rows) -> bool:
    """Return whether rows are read on demand, for example from a file.

    Parameters
    ----------
    X : ndarray, tensor or RowReader

    Returns
    -------
    is_lazy : bool
    """
    if isinstance(X, SparseRows):
        return X.is_lazy
    base: Any = X
    while isinstance(base, np.ndarray) and not isinstance(base, np.memmap):
        base = base.base
    return isinstance(base, (np.memmap, RowReader))
