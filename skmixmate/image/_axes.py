"""Principal axes of many rows or of many columns."""

from collections.abc import Iterator

import numpy as np
from scipy.linalg import eigh

# Images larger than 28 x 28 have more coefficients than this, too many to compute
# principal axes from inner products of columns.
MANY_COLUMNS = 4096

# Bytes of a matrix that are converted to float64 at a time.
_CHUNK_BYTES = 2**25


def _has_few_rows(n_rows: int, n_columns: int) -> bool:
    """Return whether to compute principal axes from inner products of rows.

    Parameters
    ----------
    n_rows, n_columns : int

    Returns
    -------
    has_few_rows : bool
        True if there are less than half as many rows as columns, or too many columns.
    """
    return 2 * n_rows < n_columns or n_columns > max(n_rows, MANY_COLUMNS)


def principal_axes(X: np.ndarray, n_components: int) -> np.ndarray:
    """Compute the directions of largest second moment about the origin.

    The eigenproblem has the size of the number of columns or, if there are many more
    columns than rows, of the number of rows.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
    n_components : int
        At most n_features are returned; with few rows, at most as many as the rank of
        X, but at least one.

    Returns
    -------
    axes : ndarray of shape (n_features, n_components)
        Orthonormal columns, in ascending order of the second moment.
    """
    n_rows, n_features = X.shape
    if not _has_few_rows(n_rows, n_features):
        first = max(0, n_features - n_components)
        return eigh(X.T @ X, subset_by_index=[first, n_features - 1])[1]
    first = max(0, n_rows - n_components)
    squares, directions = eigh(_row_products(X), subset_by_index=[first, n_rows - 1])
    # Smaller eigenvalues are rounding errors of X and of the products.
    noise = (100 * np.finfo(X.dtype).eps) ** 2 + n_rows * np.finfo(np.float64).eps
    is_large = squares > noise * squares[-1]
    is_large[-1] = True
    directions = directions[:, is_large][:, ::-1]
    axes = np.empty((n_features, directions.shape[1]))
    for chunk in _column_chunks(X):
        axes[chunk] = X[:, chunk].T.astype(np.float64) @ directions
    # Directions of small moments are inexact: those of large moments come first.
    return np.linalg.qr(axes)[0][:, ::-1].astype(X.dtype)


def _row_products(X: np.ndarray) -> np.ndarray:
    """Compute the inner products of all rows, in float64."""
    products = np.zeros((len(X), len(X)))
    for chunk in _column_chunks(X):
        columns = X[:, chunk].astype(np.float64)
        products += columns @ columns.T
    return products


def _column_chunks(X: np.ndarray) -> Iterator[slice]:
    size = max(1, _CHUNK_BYTES // (8 * len(X)))
    for start in range(0, X.shape[1], size):
        yield slice(start, start + size)
