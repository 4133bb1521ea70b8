"""Data that are read when they are asked for, and not held in memory.

Files behind row slices, and data sets of torch, get one face here, that of an array of
floats, so that nothing else has to know them.
"""

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np
import torch
from scipy.sparse import issparse
from sklearn.utils import check_array
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    default_collate,
)

from .containers import as_numeric, as_numpy, as_tensor, check_dense
from .dask_arrays import is_dask

# Entries read at a time, and entries that are read and left to spare a reading: a few
# times, and about, a chunk of a compressed file.
_CHUNK_ENTRIES, _MAX_GAP = 2**22, 2**18

# Items of a data set, without a loader of its own, that are stacked at a time.
_ITEMS_PER_BATCH = 256


class RowReader(ABC):
    """Rows of floats, read by slices that follow each other or by index.

    Rows are checked when they are read.

    Parameters
    ----------
    n_rows : int

    Attributes
    ----------
    shape : tuple of int
        (n_rows, n_features).
    dtype : dtype
        float32 or float64.
    """

    def __init__(self, n_rows):
        self.shape, self.dtype = (n_rows, 0), None
        self._seek(0)
        if n_rows:
            # Kept for the slice that is asked for first.
            self._lookahead = next(self._pieces)
            self.shape, self.dtype = (
                (n_rows, self._lookahead.shape[1]),
                self._lookahead.dtype,
            )

    def __len__(self):
        return self.shape[0]

    def __getstate__(self):
        return {**self.__dict__, "_lookahead": None, "_pieces": None, "_position": None}

    def __getitem__(self, index):
        """Rows, as an array of shape (n_index, n_features).

        Parameters
        ----------
        index : slice or int ndarray of shape (n_index,)
        """
        if isinstance(index, slice):
            start, stop, _ = index.indices(len(self))
            return self._read_ahead(start, max(start, stop))
        if len(index) == 0:
            return self._empty()
        order = np.argsort(index, kind="stable")
        rows = np.empty((len(index), self.shape[1]), self.dtype)
        n_read = 0
        for piece in self._read(index[order]):
            rows[order[n_read : n_read + len(piece)]] = piece
            n_read += len(piece)
        return rows

    def _empty(self):
        return np.empty((0, self.shape[1]), self.dtype)

    def _seek(self, start):
        self._position, self._lookahead = start, None
        self._pieces = self._read(range(start, len(self)))

    def _read_ahead(self, start, stop):
        """Rows of a slice, which mostly starts where the last one ended."""
        if start == stop:
            return self._empty()
        if start != self._position:
            self._seek(start)
        parts = [] if self._lookahead is None else [self._lookahead]
        n_left = stop - start - sum(map(len, parts))
        while n_left > 0:
            parts.append(next(self._pieces))
            n_left -= len(parts[-1])
        rows = parts[0] if len(parts) == 1 else np.concatenate(parts)
        self._position, self._lookahead = stop, rows[stop - start :]
        if stop == len(self):
            self._pieces = self._lookahead = self._position = None  # lets go of them
        return rows[: stop - start]

    def _read(self, index):
        n_left = len(index)
        for piece in self._read_pieces(index):
            rows = as_floats(piece, self.dtype, self.shape[1])
            n_left -= len(rows)
            if n_left < 0:
                break
            yield rows
        if n_left:
            raise ValueError(
                f"X gave {len(index) - n_left} rows where {len(index)} were asked for; "
                "should give one for each item, also where it makes batches of them."
            )

    @abstractmethod
    def _read_pieces(self, index):
        """Read rows, some at a time.

        Parameters
        ----------
        index : range or int ndarray
            In ascending order.

        Yields
        ------
        rows : array-like or tensor of shape (n_some, n_features)
        """


class ArrayReader(RowReader):
    """Rows of an object that gives slices of them, such as an array in a file.

    Parameters
    ----------
    X : object
        Has a shape, a dtype and slices that can be made arrays.

    Raises
    ------
    ValueError
        If X is not two-dimensional, or a slice is nothing that an estimator takes.
    """

    def __init__(self, X):
        if len(X.shape) != 2:
            raise ValueError(
                f"Expected 2D array, got X of shape {tuple(X.shape)} instead. Give one "
                "row a sample."
            )
        self.X = X
        super().__init__(int(X.shape[0]))

    def _read_pieces(self, index):
        n_features = max(1, self.X.shape[1])
        n_rows, n_gap = (
            max(1, _CHUNK_ENTRIES // n_features),
            max(1, _MAX_GAP // n_features),
        )
        if isinstance(index, range):
            for start in index[::n_rows]:
                yield self.X[start : min(start + n_rows, index.stop)]
            return
        is_far = (np.diff(index) > n_gap) | (np.diff(index // n_rows) > 0)
        for some in np.split(index, np.flatnonzero(is_far) + 1):
            first, last = int(some[0]), int(some[-1])
            rows = as_numeric(self.X[first : last + 1])
            rows = rows if isinstance(rows, torch.Tensor) else np.asarray(rows)
            # Rows too few or too many are counted, and refused, by who reads.
            fits = rows.shape[:1] == (last + 1 - first,)
            yield rows[some - first] if fits else rows


class DatasetReader(RowReader):
    """Rows that are the items of a data set of torch, in its order.

    Parameters
    ----------
    X : Dataset or DataLoader
        Of a loader its data set, how it makes batches of items, and its workers are
        used, but not the order in which it draws them. An item is a row, or a tuple,
        list or dictionary whose first entry is one. It may be of any shape.
    image_shape : tuple of int or None
        That the items have, if they are more than rows.

    Raises
    ------
    ValueError
        If a loader makes no batches, or if items are no rows of the same shape.
    TypeError
        If the data set has no length.
    """

    def __init__(self, X, image_shape):
        self.image_shape = image_shape
        self._settings = {"batch_size": _ITEMS_PER_BATCH, "collate_fn": stack_rows}
        self.items = X
        if isinstance(X, DataLoader):
            if X.batch_sampler is None:
                raise ValueError(
                    "X is a DataLoader with batch_size=None; should make batches, or "
                    "be a Dataset."
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
            self._settings = {name: getattr(X, name) for name in names}
            self.items = X.dataset
            if X.collate_fn is default_collate:
                self._settings["collate_fn"] = collate_rows
        if not hasattr(self.items, "__len__"):
            raise TypeError(
                f"{type(self.items).__name__}, a Dataset that was given as X, has no "
                "__len__; should have one, or be an IterableDataset."
            )
        super().__init__(len(self.items))

    def _read_pieces(self, index):
        settings = dict(self._settings)
        index = index if isinstance(index, range) else index.tolist()
        batches = BatchSampler(
            index, settings.pop("batch_size") or _ITEMS_PER_BATCH, False
        )
        # A generator of its own, as otherwise the global one would be drawn from.
        loader = DataLoader(
            self.items, batch_sampler=batches, generator=torch.Generator(), **settings
        )
        for batch in loader:
            yield _flat_rows(batch, self.image_shape)


class MapReader(RowReader):
    """Rows that are made of the rows of another array, a block at a time.

    Parameters
    ----------
    X : ndarray or Source
    transform : callable
        Gives as many rows as it is given.
    size : int
        Rows in a block.
    """

    def __init__(self, X, transform, size):
        self.X, self.transform, self.size = X, transform, size
        super().__init__(len(X))

    def _read_pieces(self, index):
        for start in index[:: self.size]:
            rows = self.X[start : start + self.size]
            yield self.transform(rows)


def as_reader(X, image_shape):
    """Give data that can be read in any order, but are not in memory, as a `RowReader`.

    Parameters
    ----------
    X : object
    image_shape : tuple of int or None
        That items of a data set have, if they are more than rows.

    Returns
    -------
    X : Source or object
        Anything else as it is.

    Raises
    ------
    TypeError
        If X has no order and no length.
    """
    if isinstance(X, RowReader):
        return X
    if is_stream(X):
        raise TypeError(
            f"X is a {type(X).__name__} without length or order, which cannot be gone "
            "through at random, nor twice; should be a Dataset with a length. "
            "partial_fit takes a stream, and so do predict and all like it."
        )
    if isinstance(X, (Dataset, DataLoader)):
        return DatasetReader(X, image_shape)
    is_known = isinstance(X, (np.ndarray, np.generic, torch.Tensor)) or issparse(X)
    is_known = is_known or is_dask(X)  # computed at once, and not anew for each part
    is_table = hasattr(X, "columns")
    names = ("shape", "dtype", "__getitem__")
    if is_known or is_table or not all(hasattr(X, name) for name in names):
        return X
    return ArrayReader(X)


def is_stream(X):
    """Tell whether data come in an order of their own, for as long as they come.

    Parameters
    ----------
    X : object

    Returns
    -------
    is_stream : bool
    """
    items = X.dataset if isinstance(X, DataLoader) else X
    return isinstance(items, IterableDataset)


def stream_chunks(X, image_shape):
    """Rows of a stream, as they come.

    Parameters
    ----------
    X : IterableDataset or DataLoader
    image_shape : tuple of int or None
        That items have, if they are more than rows.

    Yields
    ------
    rows : ndarray of shape (n_some, n_features)
        Of about four million entries each.

    Raises
    ------
    ValueError
        If nothing comes, or not rows.
    """
    if isinstance(X, IterableDataset):
        X = DataLoader(
            X,
            batch_size=_ITEMS_PER_BATCH,
            collate_fn=stack_rows,
            generator=torch.Generator(),
        )
    elif X.collate_fn is default_collate and not X.persistent_workers:
        X = copy.copy(X)
        X.collate_fn = collate_rows
    waiting, n_rows = [], 0
    for batch in X:
        waiting.append(as_floats(_flat_rows(batch, image_shape)))
        n_rows += len(waiting[-1])
        if sum(rows.size for rows in waiting) >= _CHUNK_ENTRIES:
            yield np.concatenate(waiting)
            waiting = []
    if waiting:
        yield np.concatenate(waiting)
    if n_rows == 0:
        raise ValueError("X yielded no rows, but at least one is needed.")


def as_floats(rows, dtype=None, n_features=None):
    """Check rows, and convert them to floats as an estimator converts its data.

    Parameters
    ----------
    rows : array-like or tensor of shape (n_rows, n_features)
    dtype : dtype, default=None
        float32 or float64; by default as it is, where it is one of them.
    n_features : int, default=None
        What there should be.

    Returns
    -------
    rows : ndarray of shape (n_rows, n_features)

    Raises
    ------
    ValueError
        If entries are infinite or no real numbers, or rows too long or too short.
    TypeError
        If rows are sparse.
    """
    rows = check_array(
        as_numpy(as_numeric(rows)),
        dtype=dtype or [np.float64, np.float32],
        ensure_all_finite="allow-nan",
        ensure_min_samples=0,
        input_name="X",
    )
    if n_features and rows.shape[1] != n_features:
        raise ValueError(
            f"X has rows of {rows.shape[1]} features after rows of {n_features}; all "
            "should be of the same length."
        )
    return rows


def stack_rows(items):
    """Stack the rows in items of a data set.

    Parameters
    ----------
    items : list

    Returns
    -------
    rows : ndarray or tensor of shape (n_items, ...)
        A masked array if any row is one.

    Raises
    ------
    ValueError
        If they are not of the same shape.
    TypeError
        If they are sparse.
    """
    return _stacked(_rows_in(items))


def collate_rows(items):
    """Collate the rows in items of a data set as torch does by default.

    Unlike torch it takes rows that are masked, read-only or of negative strides, and
    does not look at what else is in the items.

    Parameters
    ----------
    items : list

    Returns
    -------
    rows : ndarray or tensor of shape (n_items, ...)
        A tensor, as by torch, unless rows are masked or of a dtype that torch has not.

    Raises
    ------
    ValueError, TypeError
        As by :func:`stack_rows`.
    """
    rows = _rows_in(items)
    if all(map(_has_tensor, rows)):
        return default_collate(
            [row if isinstance(row, torch.Tensor) else as_tensor(row) for row in rows]
        )
    return _stacked(rows)


def _has_tensor(row):
    """Check whether a row is a tensor, or an array that can become one."""
    if isinstance(row, torch.Tensor):
        return True
    is_masked = isinstance(row, np.ma.MaskedArray)
    return not is_masked and row.dtype.kind in "biufc" and row.dtype.itemsize <= 8


def _rows_in(items):
    """Find the rows in items, and check that they have one shape."""
    rows = [_first(item) for item in items]
    shapes = sorted({tuple(row.shape) for row in rows})
    if len(shapes) > 1:
        raise ValueError(f"The items of X should have one shape, but have {shapes}.")
    return rows


def _stacked(rows):
    if all(isinstance(row, torch.Tensor) for row in rows):
        return torch.stack(rows)
    rows = [as_numpy(row) for row in rows]
    is_masked = any(isinstance(row, np.ma.MaskedArray) for row in rows)
    return np.ma.stack(rows) if is_masked else np.stack(rows)


def _first(entry):
    """Find what is first in tuples, lists and dictionaries, as an array or tensor."""
    while isinstance(entry, (tuple, list, Mapping)):
        entries = entry.values() if isinstance(entry, Mapping) else entry
        entry = next(iter(entries), None)
    check_dense(entry)
    if isinstance(entry, (torch.Tensor, np.ma.MaskedArray)):
        return entry
    return np.asarray(entry)


def _flat_rows(batch, image_shape):
    """Rows of shape (n_rows, n_features), out of a batch of items of any shape."""
    rows = _first(batch)
    item_shape = tuple(rows.shape[1:])
    if not item_shape:
        raise ValueError(
            "The items of X should be rows, or have a row as their first entry, each "
            f"an array or tensor; a batch of them has shape {tuple(rows.shape)}."
        )
    if len(item_shape) > 1 and image_shape is not None:
        _check_item_shape(item_shape, tuple(image_shape))
    return rows.reshape(len(rows), math.prod(item_shape))


def _check_item_shape(item_shape, image_shape):
    """Refuse images that would be flattened in another order, as channels first."""
    given, expected = ([n for n in s if n != 1] for s in (item_shape, image_shape))
    if given != expected:
        raise ValueError(
            f"The items of X have shape {item_shape}, but image_shape={image_shape}. "
            "Permute them to that shape, channels last."
        )
