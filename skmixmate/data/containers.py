"""Conversion of users' arrays, tensors and tables to plain arrays and tensors."""

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import issparse

from .columns import check_columns


def as_numpy(X: Any) -> Any:
    """Convert a tensor to an array on the host; return anything else as it is."""
    return X.numpy(force=True) if isinstance(X, torch.Tensor) else X


def wrap_dlpack(X: Any) -> Any:
    """Wrap an array of another library as a tensor on its device, without a copy.

    Parameters
    ----------
    X : object

    Returns
    -------
    X : tensor or object
        A tensor that shares the memory of X, if X is an array of cupy, jax or another
        library that exports DLPack. Anything else is returned unchanged.
    """
    if not is_dlpack(X):
        return X
    try:
        return torch.utils.dlpack.from_dlpack(X)
    # Such as a read-only array, which numpy may still convert.
    except (BufferError, RuntimeError, TypeError):
        return X


def is_dlpack(X: Any) -> bool:
    """Return whether X is an array of another library that exports DLPack.

    Parameters
    ----------
    X : object
    """
    is_known = isinstance(X, (np.ndarray, np.generic, torch.Tensor))
    return not is_known and hasattr(X, "__dlpack__") and hasattr(X, "shape")


def as_tensor(array: npt.NDArray[Any]) -> torch.Tensor:
    """Convert an array to a tensor, sharing its memory if torch allows it.

    Parameters
    ----------
    array : ndarray
        With a numeric dtype.

    Returns
    -------
    tensor : tensor
        A copy if torch cannot wrap the array, or would warn: see
        :func:`is_wrappable`.
    """
    if not is_wrappable(array):
        array = np.array(array, dtype=array.dtype.newbyteorder("="))
    return torch.from_numpy(array)


def multiply(
    rows: np.ndarray, matrix: np.ndarray, out: np.ndarray | None = None
) -> np.ndarray:
    """Multiply rows by a matrix, on the threads of torch.

    The threads of numpy's BLAS and those of torch keep their cores busy for a while
    after a product: where products of both alternate, they slow each other down.

    Parameters
    ----------
    rows : ndarray of shape (n_rows, n_inner)
    matrix : ndarray of shape (n_inner, n_columns)
    out : ndarray of shape (n_rows, n_columns), default=None
        Receives the products; of the dtype of `matrix`.

    Returns
    -------
    products : ndarray of shape (n_rows, n_columns)
        Of the dtype of `matrix`.
    """
    products = None if out is None else torch.from_numpy(out)
    left, right = as_tensor(rows.astype(matrix.dtype, copy=False)), as_tensor(matrix)
    return torch.mm(left, right, out=products).numpy()


def is_wrappable(array: npt.NDArray[Any]) -> bool:
    """Return whether torch can wrap an array without a copy and without a warning.

    Parameters
    ----------
    array : ndarray

    Returns
    -------
    is_wrappable : bool
        False if the array is read-only, not aligned, of another byte order, or has a
        stride that is negative or not a multiple of the size of an entry. Unlike torch,
        numpy ignores the stride of an axis of length 1 when it checks contiguity.
    """
    size = array.dtype.itemsize
    return (
        array.flags.writeable
        and array.flags.aligned
        and array.dtype.isnative
        and all(stride >= 0 and stride % size == 0 for stride in array.strides)
    )


def as_numeric(X: Any, name: str = "X", accept_sparse: bool = False) -> Any:
    """Check that data are numeric and dense, and set masked entries to NaN.

    Everything that scikit-learn checks in any container is left to scikit-learn.

    Parameters
    ----------
    X : object
        An array, a tensor, a list of rows, a DataFrame or anything else.
    name : str, default="X"
        Name of the parameter, for error messages.
    accept_sparse : bool, default=False
        Whether scipy.sparse matrices and arrays are returned unchanged.

    Returns
    -------
    X : tensor, array or object
        A tensor is converted to float32 or float64 and detached. A masked array with
        masked entries is copied to floats, with NaN in place of them. Sparse columns
        of a DataFrame are made dense. Anything else is returned unchanged.

    Raises
    ------
    TypeError
        If X is sparse.
    ValueError
        If columns or a dtype are not numeric, or a tensor is quantized or holds no
        data.
    """
    if accept_sparse and issparse(X):
        return X
    check_dense(X, name)
    if isinstance(X, torch.Tensor):
        return _as_float_tensor(X, name)
    if isinstance(X, (list, tuple)):
        X = _as_numeric_rows(X, name)
    elif _is_frame(X):
        if len(X.columns) == 0:  # scikit-learn fails, as there is no dtype
            return np.empty(X.shape)
        X = _with_dense_columns(X)
    _check_records(getattr(X, "dtype", None), name)
    X = fill_masked(X)
    check_columns(X, name)
    return X


def check_dense(X: Any, name: str = "X") -> None:
    """Check that data are not sparse.

    Parameters
    ----------
    X : object
    name : str, default="X"
        Name of the parameter, for the error message.

    Raises
    ------
    TypeError
        If X is a sparse tensor, array or matrix.
    ValueError
        If X is a nested tensor.
    """
    if isinstance(X, torch.Tensor):
        if X.is_nested:
            raise ValueError(
                f"{name} is a nested tensor, whose rows may differ in length; it "
                "should be a tensor of shape (n_samples, n_features)."
            )
        is_sparse, remedy = X.layout is not torch.strided, "'.to_dense()'"
    else:
        # Sparse arrays of other libraries are recognized by their method.
        is_sparse = issparse(X) or hasattr(X, "todense")
        remedy = "'.toarray()'" if hasattr(X, "toarray") else "'.todense()'"
    if is_sparse:
        raise TypeError(
            f"Sparse data was passed for {name}, but dense data is required. "
            f"Use {remedy} to convert to a dense "
            f"{'tensor' if isinstance(X, torch.Tensor) else 'numpy array'}."
        )


def fill_masked(X: Any) -> Any:
    """Replace the masked entries of a masked array by NaN.

    Parameters
    ----------
    X : object

    Returns
    -------
    X : ndarray or object
        Not a copy if nothing is masked, or X is not a masked array. Integers are
        converted to float64.
    """
    if not isinstance(X, np.ma.MaskedArray):
        return X
    if not np.ma.is_masked(X):
        return X.data
    if X.dtype.kind in "biu":
        X = X.astype(np.float64)
    return X.filled(np.nan)


def _as_float_tensor(X: torch.Tensor, name: str) -> torch.Tensor:
    if X.is_complex():
        # The message that scikit-learn raises for arrays.
        raise ValueError(f"Complex data not supported\n{name} has dtype {X.dtype}.")
    if X.is_quantized:
        raise ValueError(
            f"{name} is a quantized tensor (dtype={X.dtype}); convert it to floats "
            "with '.dequantize()'."
        )
    if X.is_meta:
        raise ValueError(
            f"{name} is a tensor on the device 'meta', which holds no data; move it to "
            "another device."
        )
    if X.dtype not in (torch.float32, torch.float64):
        try:
            X = X.to(torch.promote_types(torch.get_default_dtype(), torch.float32))
        except RuntimeError as error:  # NotImplementedError from torch 2.5 on
            raise ValueError(
                f"{name} has dtype {X.dtype}, which torch cannot convert to floats; "
                "convert it to float32 or float64 first."
            ) from error
    return X.detach()


def _as_numeric_rows(rows: Sequence[Any], name: str) -> Any:
    """Check the rows in a list, and convert those that numpy would misread."""
    if {type(row) for row in rows} <= {list, tuple}:
        return rows
    for row in rows:
        check_dense(row, name)
    if any(isinstance(row, torch.Tensor) for row in rows):
        rows = [_as_array(row, name) for row in rows]
    if not any(isinstance(row, np.ma.MaskedArray) for row in rows):
        return rows
    masked = np.ma.array(rows)
    # scikit-learn converts any list to float64.
    return masked.astype(np.float64) if masked.dtype.kind in "biuf" else masked


def _as_array(row: Any, name: str) -> Any:
    """Convert a row to an array if it is a tensor, also of a dtype numpy lacks."""
    if not isinstance(row, torch.Tensor):
        return row
    is_exact = not (row.is_floating_point() or row.is_complex() or row.is_quantized)
    return as_numpy(row if is_exact else _as_float_tensor(row, name))


def _is_frame(X: Any) -> bool:
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(X, pandas.DataFrame)


def _with_dense_columns(frame: Any) -> Any:
    """Convert sparse columns, for which scikit-learn warns or raises an error."""
    sparse = sys.modules["pandas"].SparseDtype
    dense = {
        name: dtype.subtype
        for name, dtype in frame.dtypes.items()
        if isinstance(dtype, sparse)
    }
    return frame.astype(dense) if dense else frame


def _check_records(dtype: Any, name: str) -> None:
    """Reject records, which numpy would cast to meaningless floats."""
    if getattr(dtype, "names", None):
        raise ValueError(
            f"{name} has dtype {dtype}, but should be numeric; convert the fields of "
            "records to columns first."
        )
