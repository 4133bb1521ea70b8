"""Validation of X and of the device, with the help of scikit-learn."""

import os
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.utils import check_array, get_tags
from sklearn.utils.validation import validate_data

from .containers import as_numeric, as_numpy, check_dense, wrap_dlpack
from .dask_arrays import is_dask
from .images import ExpectedShape, flatten_images
from .loader import Rows
from .readers import RowReader, as_reader
from .sparse import DenseReader, SparseRows, is_sparse_file
from .statistics import largest_squarable


def validate_rows(estimator: BaseEstimator, X: Any, reset: bool) -> Rows:
    """Check the data given to an estimator; see :func:`validate_images`.

    Parameters
    ----------
    estimator, X, reset
        As in :func:`validate_images`.

    Returns
    -------
    X : ndarray, tensor, RowReader or SparseRows of shape (n_samples, n_features)
    """
    return validate_images(estimator, X, reset)[0]


def validate_images(
    estimator: BaseEstimator, X: Any, reset: bool
) -> tuple[Rows, tuple[int, ...] | None]:
    """Check the data given to an estimator, which may have missing entries.

    Arrays of images are flattened: all other modules know rows only.

    Parameters
    ----------
    estimator : estimator
    X : array-like, tensor, sparse matrix, dataset or array in a file, of shape \
            (n_samples, n_features)
        Or (n_samples, height, width) or (n_samples, height, width, n_channels);
        everything that :func:`~skmixmate.data.readers.as_reader` accepts. An array of
        another library that exports DLPack is treated as a tensor.
    reset : bool
        Whether to set the attributes that describe the features, as in fit, or
        to check X against them.

    Returns
    -------
    X : ndarray, tensor, RowReader or SparseRows of shape (n_samples, n_features)
        float32 or float64; not copied if it already was, nor if it is CSR. What is not
        in memory is checked when it is read. Masked entries are missing, NaN.
    item_shape : tuple of int or None
        Shape of the images that were flattened; None if X has rows already.

    Raises
    ------
    ValueError
        If X is neither rows nor images of the shape that the estimator has, has
        infinite entries, entries that are not real numbers, or different features than
        in fit.
    TypeError
        If X is sparse, and either a tensor or the estimator accepts dense data only;
        if it has no rows, or has no length.
    """
    expected = _expected_shape(estimator, reset)
    accepts_sparse = get_tags(estimator).input_tags.sparse
    if accepts_sparse and is_sparse_file(X):
        X = SparseRows(X, as_csr)
    if isinstance(X, SparseRows):
        _validate_shape(estimator, X, reset)
        return _as_images(estimator, X, reset), None
    X = as_reader(wrap_dlpack(X), expected, as_floats)
    if isinstance(X, RowReader):
        _validate_shape(estimator, X, reset)
        return X, X.item_shape
    if is_dask(X):
        check_dense(X._meta)
        X = X.compute()
    X = as_numeric(X, accept_sparse=accepts_sparse)
    if sparse.issparse(X):
        csr = sparse.csr_array(_validate_array(estimator, X, reset))
        return _as_images(estimator, SparseRows(csr), reset), None
    X, item_shape = flatten_images(X, expected)
    if not isinstance(X, torch.Tensor):
        return _validate_array(estimator, X, reset), item_shape
    _validate_shape(estimator, X, reset)
    if X.nansum().isinf() and X.isinf().any():
        raise ValueError(
            "Input X contains infinity; only NaN marks a missing entry. Replace "
            "infinite entries by NaN, or leave these rows out."
        )
    return X, item_shape


def _as_images(estimator: BaseEstimator, X: SparseRows, reset: bool) -> Any:
    """Make rows dense when they are read, if a fitted model is of images."""
    is_image = not reset and getattr(estimator, "image_shape_", None) is not None
    return read_dense(X) if is_image else X


def _expected_shape(estimator: BaseEstimator, reset: bool) -> ExpectedShape:
    """Return the shape that images should have: the fitted one, or the parameter."""
    shape: ExpectedShape = getattr(estimator, "image_shape", None)
    return shape if reset else getattr(estimator, "image_shape_", shape)


def _validate_array(estimator: BaseEstimator, X: Any, reset: bool) -> Any:
    """Check and convert an array-like, or a sparse matrix, with scikit-learn."""
    try:
        # scikit-learn first computes the sum, in which inf - inf may occur.
        with np.errstate(invalid="ignore"):
            return validate_data(
                estimator,
                X,
                reset=reset,
                accept_sparse="csr",
                dtype=[np.float64, np.float32],
                ensure_all_finite="allow-nan",
            )
    except TypeError as error:
        # scikit-learn does not detect complex numbers in lists and object arrays.
        entries = np.asarray(X, dtype=object).flat
        if any(isinstance(entry, complex) for entry in entries):
            raise ValueError(
                "Complex data not supported\nX has entries that are complex numbers."
            ) from error
        has_rows = isinstance(X, (list, tuple)) or hasattr(X, "__array__")
        if not has_rows:
            raise TypeError(
                f"X is a {type(X).__name__}, but should be an array, a tensor, a list "
                "of rows, a DataFrame, a sparse matrix, or a Dataset or DataLoader of "
                "torch."
            ) from error
        raise


def _validate_shape(
    estimator: BaseEstimator, X: torch.Tensor | RowReader | SparseRows, reset: bool
) -> None:
    """Check the shape with scikit-learn, on a placeholder that takes no memory."""
    placeholder = np.broadcast_to(np.float32(0), X.shape)
    validate_data(estimator, placeholder, reset=reset, ensure_all_finite=False)


def as_floats(
    rows: Any,
    dtype: np.dtype[Any] | None = None,
    n_features: int | None = None,
) -> npt.NDArray[Any]:
    """Check rows, and convert them to floats as scikit-learn converts X.

    Parameters
    ----------
    rows : array-like or tensor of shape (n_rows, n_features)
    dtype : dtype, default=None
        float32 or float64. By default the dtype of the rows if it is one of these,
        otherwise float64.
    n_features : int, default=None
        The expected number of features; None or 0 if it is not known.

    Returns
    -------
    rows : ndarray of shape (n_rows, n_features)

    Raises
    ------
    ValueError
        If entries are infinite or not real numbers, or the number of features is not
        the expected one.
    TypeError
        If rows are sparse.
    """
    array: npt.NDArray[Any] = check_array(
        as_numpy(as_numeric(rows)),
        dtype=dtype or [np.float64, np.float32],
        ensure_all_finite="allow-nan",
        ensure_min_samples=0,
        input_name="X",
    )
    if n_features and array.shape[1] != n_features:
        raise ValueError(
            f"X has rows of {array.shape[1]} features after rows of {n_features} "
            "features; all rows should have the same number of features."
        )
    return array


def as_csr(rows: Any, dtype: np.dtype[Any]) -> sparse.csr_array:
    """Check sparse rows that were read, and convert them to CSR of floats.

    Parameters
    ----------
    rows : scipy.sparse matrix or array of shape (n_rows, n_features)
    dtype : dtype
        float32 or float64.

    Returns
    -------
    rows : CSR array of shape (n_rows, n_features)

    Raises
    ------
    ValueError
        If entries are infinite or not real numbers.
    TypeError
        If rows are not sparse.
    """
    if not sparse.issparse(rows):
        raise TypeError(
            f"X has slices of type {type(rows).__name__}, but a sparse X should have "
            "slices that are scipy.sparse matrices or arrays."
        )
    csr = check_array(
        rows,
        accept_sparse="csr",
        dtype=dtype,
        ensure_all_finite="allow-nan",
        ensure_min_samples=0,
        input_name="X",
    )
    return sparse.csr_array(csr)


def read_dense(X: Any) -> Any:
    """Return a reader of dense rows in place of sparse ones, as images need them.

    Parameters
    ----------
    X : ndarray, tensor, RowReader or SparseRows

    Returns
    -------
    X : ndarray, tensor or RowReader
    """
    return DenseReader(X, as_floats) if isinstance(X, SparseRows) else X


def resolve_device(device: str | torch.device, X: Rows | None) -> torch.device:
    """Return the torch.device that a `device` parameter means.

    Parameters
    ----------
    device : str or torch.device
        "auto" is the device of X if X is a tensor, otherwise a GPU if there is one.
    X : ndarray, tensor, RowReader or None

    Returns
    -------
    device : torch.device

    Raises
    ------
    ValueError
        If the device is not available on this machine, or holds no data ("meta").
    """
    if isinstance(device, str) and device == "auto":
        if isinstance(X, torch.Tensor):
            return X.device
        if not torch.cuda.is_available():
            return torch.device("cpu")
        # torchrun numbers the processes on each machine.
        rank = int(os.environ.get("LOCAL_RANK", 0))
        return torch.device("cuda", rank % torch.cuda.device_count())
    try:
        resolved = torch.device(device)
        if torch.empty(0, device=resolved).is_meta:
            raise NotImplementedError("tensors on it hold no data")
    # For an out-of-tree device torch imports a module, which may be missing.
    except (RuntimeError, AssertionError, ImportError, NotImplementedError) as error:
        raise ValueError(
            f"device={device!r} is not available on this machine; it should be "
            f"'auto', 'cpu' or another device that torch supports. torch says: {error}"
        ) from error
    return resolved


def check_squares(
    largest: float, scale: float, dtype: torch.dtype, n_features: int
) -> None:
    """Check that the squared norms of rows do not overflow.

    Parameters
    ----------
    largest : float
        Largest entry of the rows, shifted but not scaled.
    scale : float
        Factor that the rows are multiplied by.
    dtype : torch.dtype
    n_features : int

    Raises
    ------
    ValueError
        If the entry exceeds :func:`~skmixmate.data.statistics.largest_squarable`.
    """
    limit = largest_squarable(dtype, n_features)
    if not largest * scale <= limit:
        raise ValueError(
            f"X has an entry at a distance of {largest:.3g} from the clusters, whose "
            f"square, with scale_={scale:.3g}, overflows "
            f"{str(dtype).removeprefix('torch.')}: distances should be at most "
            f"{limit / scale:.3g}. Leave such rows out, or choose another scale."
        )
