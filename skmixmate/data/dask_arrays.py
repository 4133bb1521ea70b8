"""Lazy evaluation of methods on dask arrays."""

import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from .containers import check_dense


def is_dask(X: Any) -> bool:
    """Return whether X is a dask array, without importing dask.

    Parameters
    ----------
    X : object

    Returns
    -------
    is_dask : bool
        False if dask has not been imported.
    """
    array = sys.modules.get("dask.array")
    return array is not None and isinstance(X, array.Array)


def map_rows(function: Callable[[npt.NDArray[Any]], npt.NDArray[Any]], X: Any) -> Any:
    """Apply a function to each block of rows of a dask array, lazily.

    The function is called once immediately, with a row of zeros, to determine the
    shape and the dtype of its output. Thus invalid parameters raise an error before
    any work is done.

    Parameters
    ----------
    function : callable
        Takes an ndarray of shape (n_rows, n_features), or of images, with n_rows at
        least 1, and returns an ndarray of shape (n_rows, ...). It is sent to the
        workers, together with the object whose method it is.
    X : dask array of shape (n_samples, n_features)
        Or of images; with any chunks; the number of rows may be unknown.

    Returns
    -------
    result : dask array of shape (n_samples, ...)
        Its chunks have the same rows as the chunks of X.

    Raises
    ------
    ValueError
        If the number of features is unknown.
    TypeError
        If the blocks of X are sparse.
    """
    check_dense(X._meta)
    if np.isnan(X.shape[1:]).any():
        raise ValueError(
            f"X has an unknown number of features (shape={X.shape}); call "
            "X.compute_chunk_sizes() first."
        )
    empty = function(np.zeros((1, *X.shape[1:]), dtype=X.dtype))[:0]
    X = _whole_rows(X)
    return X.map_blocks(
        _apply_to_block,
        function=function,
        empty=empty,
        meta=empty,
        chunks=(X.chunks[0], *empty.shape[1:]),
        drop_axis=[*range(empty.ndim, X.ndim)] or None,
        new_axis=[*range(X.ndim, empty.ndim)] or None,
    )


def compute_blocks(X: Any) -> Iterator[npt.NDArray[Any]]:
    """Compute a dask array, one block of rows at a time.

    Parameters
    ----------
    X : dask array of shape (n_samples, n_features)

    Yields
    ------
    rows : ndarray of shape (n_rows, n_features)
        At least one row.
    """
    for block in _whole_rows(X).blocks:
        rows = block.compute()
        if len(rows):
            yield rows


def _whole_rows(X: Any) -> Any:
    """Return an array whose chunks are cut between rows only."""
    return X.rechunk(dict.fromkeys(range(1, X.ndim), -1))


def _apply_to_block(
    block: npt.NDArray[Any],
    function: Callable[[npt.NDArray[Any]], npt.NDArray[Any]],
    empty: npt.NDArray[Any],
) -> npt.NDArray[Any]:
    # Selecting rows by a mask may leave empty blocks.
    return function(block) if len(block) else empty
