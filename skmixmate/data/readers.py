"""Readers of data that are not in memory.

Arrays in files, and datasets of torch, are given the interface of an array of floats,
which is all that the other modules have to know.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import issparse
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    default_collate,
)

from .collate import collate_rows, flatten_items, stack_rows
from .containers import as_numeric
from .dask_arrays import is_dask
from .images import ExpectedShape, check_images, flatten_slice

# Checks rows, and converts them to floats: `as_floats(rows, dtype, n_features)`.
Converter: TypeAlias = Callable[
    [Any, np.dtype[Any] | None, int | None], npt.NDArray[Any]
]

# Entries read at a time, and the largest gap, in entries, that is read through instead
# of seeking: a few times, and about, the size of a chunk of a compressed file.
_CHUNK_ENTRIES, _MAX_GAP = 2**22, 2**18

# Items stacked at a time, for a dataset without a DataLoader.
ITEMS_PER_BATCH = 256


class RowReader(ABC):
    """Read rows of floats, by consecutive slices or by index.

    Rows are checked when they are read.

    Parameters
    ----------
    n_rows : int
    as_floats : callable
        Checks rows and converts them to floats, see
        :func:`~skmixmate.data.validation.as_floats`.

    Attributes
    ----------
    shape : tuple of int
        (n_rows, n_features).
    dtype : dtype
        float32 or float64.
    item_shape : tuple of int or None
        Shape of the images that were flattened to rows.
    """

    item_shape: tuple[int, ...] | None = None

    def __init__(self, n_rows: int, as_floats: Converter) -> None:
        self.as_floats = as_floats
        self.shape: tuple[int, int] = (n_rows, 0)
        self.dtype: np.dtype[Any] = np.dtype(np.float64)
        self._position: int | None = None
        self._lookahead: npt.NDArray[Any] | None = None
        self._chunks: Iterator[npt.NDArray[Any]] | None = None
        if n_rows:
            # Kept for the first slice that is requested.
            rows = next(self._seek(0))
            self._lookahead = rows
            self.shape, self.dtype = (n_rows, rows.shape[1]), rows.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_lookahead": None, "_chunks": None, "_position": None}

    def __getitem__(self, index: Any) -> npt.NDArray[Any]:
        """Read rows, as an array of shape (n_index, n_features).

        Parameters
        ----------
        index : slice or int ndarray of shape (n_index,)
        """
        if isinstance(index, slice):
            start, stop, _ = index.indices(len(self))
            return self._read_slice(start, max(start, stop))
        if len(index) == 0:
            return self._empty()
        order = np.argsort(index, kind="stable")
        rows = np.empty((len(index), self.shape[1]), self.dtype)
        n_read = 0
        for chunk in self._read(index[order]):
            rows[order[n_read : n_read + len(chunk)]] = chunk
            n_read += len(chunk)
        return rows

    def _empty(self) -> npt.NDArray[Any]:
        return np.empty((0, self.shape[1]), self.dtype)

    def _seek(self, start: int) -> Iterator[npt.NDArray[Any]]:
        """Continue to read at a row."""
        self._position, self._lookahead = start, None
        self._chunks = self._read(range(start, len(self)))
        return self._chunks

    def _read_slice(self, start: int, stop: int) -> npt.NDArray[Any]:
        """Read a slice, which usually starts where the last one ended."""
        if start == stop:
            return self._empty()
        chunks = self._chunks
        if start != self._position or chunks is None:
            chunks = self._seek(start)
        parts = [] if self._lookahead is None else [self._lookahead]
        n_left = stop - start - sum(map(len, parts))
        while n_left > 0:
            parts.append(next(chunks))
            n_left -= len(parts[-1])
        rows = parts[0] if len(parts) == 1 else np.concatenate(parts)
        self._position, self._lookahead = stop, rows[stop - start :]
        if stop == len(self):  # frees the memory and the workers
            self._chunks = self._lookahead = self._position = None
        return rows[: stop - start]

    def _read(self, index: range | npt.NDArray[np.intp]) -> Iterator[npt.NDArray[Any]]:
        """Read rows in chunks, check them and convert them to floats."""
        n_left = len(index)
        for chunk in self._read_chunks(index):
            n_features = self.shape[1]
            dtype = self.dtype if n_features else None
            rows = self.as_floats(chunk, dtype, n_features)
            n_left -= len(rows)
            if n_left < 0:
                break
            yield rows
        if n_left:
            raise ValueError(
                f"X returned {len(index) - n_left} rows where {len(index)} were "
                "requested; it should return one row for each item, also if it makes "
                "batches of them."
            )

    @abstractmethod
    def _read_chunks(self, index: range | npt.NDArray[np.intp]) -> Iterator[Any]:
        """Read rows in chunks.

        Parameters
        ----------
        index : range or int ndarray
            In ascending order.

        Yields
        ------
        rows : array-like or tensor of shape (n_chunk, n_features)
        """


class ArrayReader(RowReader):
    """Read rows of an object that returns slices of rows, such as an array in a file.

    Parameters
    ----------
    X : object
        Has a shape, a dtype, and slices that can be converted to arrays.
    expected : tuple of int, "auto" or None
        The shape of images; "auto" for any, None if they are no images.
    as_floats : callable
        See :class:`RowReader`.
    chunk_entries : int, default=None
        Number of entries read at a time; 2**22 by default.
    max_gap : int, default=None
        Largest gap between two rows, in entries, that is read through instead of
        seeking; 2**18 by default.

    Raises
    ------
    ValueError
        If X is neither rows nor images, or a slice is not valid data.
    """

    def __init__(
        self,
        X: Any,
        expected: ExpectedShape,
        as_floats: Converter,
        *,
        chunk_entries: int | None = None,
        max_gap: int | None = None,
    ) -> None:
        if len(X.shape) in (3, 4):
            check_images(X.shape, expected)
            self.item_shape = tuple(int(size) for size in X.shape[1:])
        elif len(X.shape) != 2:
            raise ValueError(
                f"Expected 2D array, got X of shape {tuple(X.shape)} instead. Reshape "
                "X to one row for each sample."
            )
        self.X = X
        self.chunk_entries = chunk_entries or _CHUNK_ENTRIES
        self.max_gap = max_gap or _MAX_GAP
        super().__init__(int(X.shape[0]), as_floats)

    def _read_chunks(self, index: range | npt.NDArray[np.intp]) -> Iterator[Any]:
        n_features = max(1, math.prod(self.X.shape[1:]))
        n_rows = max(1, self.chunk_entries // n_features)
        n_gap = max(1, self.max_gap // n_features)
        if isinstance(index, range):
            for start in index[::n_rows]:
                yield self._rows(start, min(start + n_rows, index.stop))
            return
        is_far = (np.diff(index) > n_gap) | (np.diff(index // n_rows) > 0)
        for indices in np.split(index, np.flatnonzero(is_far) + 1):
            first, last = int(indices[0]), int(indices[-1])
            rows = as_numeric(self._rows(first, last + 1))
            rows = rows if isinstance(rows, torch.Tensor) else np.asarray(rows)
            # A wrong number of rows is passed on, for `_read` to raise the error.
            is_valid = rows.shape[:1] == (last + 1 - first,)
            yield rows[indices - first] if is_valid else rows

    def _rows(self, start: int, stop: int) -> Any:
        rows = self.X[start:stop]
        return rows if self.item_shape is None else flatten_slice(rows)


class DatasetReader(RowReader):
    """Read rows that are the items of a dataset of torch, in its order.

    Parameters
    ----------
    X : Dataset or DataLoader
        The dataset, `collate_fn` and the workers of a DataLoader are used, its sampler
        is not. An item is a row, or a tuple, list or dictionary whose first entry is
        one. A row may have any shape.
    expected : tuple of int, "auto" or None
        The shape of items that are not one-dimensional; "auto" for images of any
        shape, None if they are no images.
    as_floats : callable
        See :class:`RowReader`.

    Raises
    ------
    ValueError
        If a DataLoader makes no batches, or items are not rows of the same shape.
    TypeError
        If the dataset has no length.
    """

    def __init__(self, X: Any, expected: ExpectedShape, as_floats: Converter) -> None:
        self.expected = expected
        self._loader_params: dict[str, Any] = {
            "batch_size": ITEMS_PER_BATCH,
            "collate_fn": stack_rows,
        }
        self.items = X
        if isinstance(X, DataLoader):
            if X.batch_sampler is None:
                raise ValueError(
                    "X is a DataLoader with batch_size=None, which makes no batches; "
                    "set a batch_size, or pass its Dataset."
                )
            names = [
                "batch_size",
                "collate_fn",
                "num_workers",
                "prefetch_factor",
                "timeout",
                "worker_init_fn",
                "multiprocessing_context",
            ]
            self._loader_params = {name: getattr(X, name) for name in names}
            self.items = X.dataset
            if X.collate_fn is default_collate:
                self._loader_params["collate_fn"] = collate_rows
        if not hasattr(self.items, "__len__"):
            raise TypeError(
                f"X is a {type(self.items).__name__}, a Dataset that has no __len__; "
                "implement __len__, or make it an IterableDataset."
            )
        super().__init__(len(self.items), as_floats)

    def _read_chunks(self, index: range | npt.NDArray[np.intp]) -> Iterator[Any]:
        params = dict(self._loader_params)
        sampler = index if isinstance(index, range) else index.tolist()
        batch_size = params.pop("batch_size") or ITEMS_PER_BATCH
        batches = BatchSampler(sampler, batch_size, False)
        # With a separate generator the global one is not drawn from.
        loader: DataLoader[Any] = DataLoader(
            self.items, batch_sampler=batches, generator=torch.Generator(), **params
        )
        for batch in loader:
            rows, self.item_shape = flatten_items(batch, self.expected)
            yield rows


class MapReader(RowReader):
    """Apply a function to the rows of another array, block by block.

    Parameters
    ----------
    X : ndarray or RowReader
    transform : callable
        Returns as many rows as it is called with.
    size : int
        Number of rows that it is called with.
    as_floats : callable
        See :class:`RowReader`.
    """

    def __init__(
        self,
        X: npt.NDArray[Any] | RowReader,
        transform: Callable[[npt.NDArray[Any]], npt.NDArray[Any]],
        size: int,
        as_floats: Converter,
    ) -> None:
        self.X, self.transform, self.size = X, transform, size
        super().__init__(len(X), as_floats)

    def _read_chunks(self, index: range | npt.NDArray[np.intp]) -> Iterator[Any]:
        for start in index[:: self.size]:
            rows = self.X[start : start + self.size]
            yield self.transform(rows)


def as_reader(
    X: Any,
    expected: ExpectedShape,
    as_floats: Converter,
    *,
    chunk_entries: int | None = None,
    max_gap: int | None = None,
) -> Any:
    """Wrap data that are not in memory, but can be read in any order, in a RowReader.

    Parameters
    ----------
    X : object
    expected : tuple of int, "auto" or None
        The shape of images, or of items of a dataset that are not one-dimensional;
        "auto" for images of any shape, None if they are no images.
    as_floats : callable
        See :class:`RowReader`.
    chunk_entries, max_gap : int, default=None
        See :class:`ArrayReader`.

    Returns
    -------
    X : RowReader or object
        Data in memory are returned unchanged.

    Raises
    ------
    TypeError
        If X has neither an order nor a length.
    """
    if isinstance(X, RowReader):
        return X
    if is_stream(X):
        raise TypeError(
            f"X is a {type(X).__name__} without length or order, which cannot be "
            "shuffled or iterated twice; pass a Dataset with a length. partial_fit, "
            "predict and the other inference methods accept a stream."
        )
    if isinstance(X, (Dataset, DataLoader)):
        return DatasetReader(X, expected, as_floats)
    is_known = isinstance(X, (np.ndarray, np.generic, torch.Tensor)) or issparse(X)
    # A dask array is computed as a whole, not once for each chunk.
    is_known = is_known or is_dask(X)
    is_table = hasattr(X, "columns")
    names = ("shape", "dtype", "__getitem__")
    if is_known or is_table or not all(hasattr(X, name) for name in names):
        return X
    return ArrayReader(
        X, expected, as_floats, chunk_entries=chunk_entries, max_gap=max_gap
    )


def is_stream(X: Any) -> bool:
    """Return whether data have no random access and possibly no end.

    Parameters
    ----------
    X : object

    Returns
    -------
    is_stream : bool
        True for an IterableDataset, and for a DataLoader of one.
    """
    items = X.dataset if isinstance(X, DataLoader) else X
    return isinstance(items, IterableDataset)
