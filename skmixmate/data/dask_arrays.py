"""Dask at the edge: what is asked of a dask array is answered when it is wanted."""

import sys

import numpy as np

from .containers import check_dense


def is_dask(X):
    """Tell whether X is a dask array, which is not so if nobody imported dask.

    Parameters
    ----------
    X : object

    Returns
    -------
    is_dask : bool
    """
    array = sys.modules.get("dask.array")
    return array is not None and isinstance(X, array.Array)


def map_rows(function, X):
    """Apply a function of rows to each block of rows of a dask array, lazily.

    The function is called once at once, with a row of zeros, to learn the shape and
    the type of what it gives. Thus it refuses what it does not take before any work
    is done.

    Parameters
    ----------
    function : callable
        Takes an ndarray of shape (n_rows, n_features), with n_rows at least 1, and
        gives an ndarray of shape (n_rows, ...). It goes to the workers, and what it
        is a method of with it.
    X : dask array of shape (n_samples, n_features)
        In any chunks; the number of rows may be unknown.

    Returns
    -------
    answers : dask array of shape (n_samples, ...)
        In chunks of the rows of X.

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
    X = X.rechunk({1: -1})
    return X.map_blocks(
        _answer,
        function=function,
        empty=empty,
        meta=empty,
        chunks=(X.chunks[0], *empty.shape[1:]),
        drop_axis=[1] if empty.ndim == 1 else None,
        new_axis=[2] if empty.ndim == 3 else None,
    )


def compute_blocks(X):
    """Compute a dask array block by block of its rows.

    Parameters
    ----------
    X : dask array of shape (n_samples, n_features)

    Yields
    ------
    block : ndarray of shape (n_rows, n_features)
        Of at least one row.
    """
    for block in X.rechunk({1: -1}).blocks:
        rows = block.compute()
        if len(rows):
            yield rows


def _answer(block, function, empty):
    # Rows chosen by a mask may leave blocks of none.
    return function(block) if len(block) else empty
