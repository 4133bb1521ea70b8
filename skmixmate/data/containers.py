"""Arrays and tensors as users have them, brought to what numpy and torch can read."""

import sys

import numpy as np
import torch
from scipy.sparse import issparse

# Kinds of dtype that numpy casts to floats, though they are no numbers.
_DATES = ("m", "M")


def as_numpy(X):
    """Convert a tensor to an array on the host; return anything else as it is."""
    return X.numpy(force=True) if isinstance(X, torch.Tensor) else X


def as_tensor(array):
    """Convert an array to a tensor that shares its memory, where torch allows it.

    Parameters
    ----------
    array : ndarray
        Of numbers.

    Returns
    -------
    tensor : tensor
        Of a copy if torch cannot wrap the array, or would warn: see
        :func:`is_wrappable`.
    """
    if not is_wrappable(array):
        array = np.array(array, dtype=array.dtype.newbyteorder("="))
    return torch.from_numpy(array)


def is_wrappable(array):
    """Check whether torch can wrap an array without a copy and without a warning.

    Parameters
    ----------
    array : ndarray

    Returns
    -------
    is_wrappable : bool
        False if the array is read-only, not aligned, of another byte order, or has a
        stride that is negative or no multiple of the size of an entry. numpy calls an
        array contiguous whatever the stride along an axis of length 1; torch does not.
    """
    size = array.dtype.itemsize
    return (
        array.flags.writeable
        and array.flags.aligned
        and array.dtype.isnative
        and all(stride >= 0 and stride % size == 0 for stride in array.strides)
    )


def as_numeric(X, name="X"):
    """Check that data are dense numbers, and mark masked entries as missing.

    What scikit-learn checks in every container is left to it.

    Parameters
    ----------
    X : object
        An array, a tensor, a list of rows, a DataFrame or anything else.
    name : str, default="X"
        The parameter, for messages.

    Returns
    -------
    X : tensor, array or object
        A tensor is float32 or float64 and has no gradient; of a masked array a copy in
        floats with NaN for what is masked, if anything is; sparse columns of a
        DataFrame are made dense. Anything else as it is.

    Raises
    ------
    TypeError
        If X is sparse.
    ValueError
        If a dtype is not one of numbers, or a tensor has no entries of its own to read.
    """
    check_dense(X, name)
    if isinstance(X, torch.Tensor):
        return _as_float_tensor(X, name)
    if isinstance(X, (list, tuple)):
        X = _as_numeric_rows(X, name)
    elif _is_frame(X):
        for dtype in X.dtypes:
            _check_dtype(dtype, name)
        if len(X.columns) == 0:  # scikit-learn finds no dtype there
            return np.empty(X.shape)
        X = _with_dense_columns(X)
    _check_dtype(getattr(X, "dtype", None), name)
    return filled(X)


def check_dense(X, name="X"):
    """Check that data are not sparse.

    Parameters
    ----------
    X : object
    name : str, default="X"
        The parameter, for the message.

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
                f"{name} is a nested tensor, whose rows may differ in length; should "
                "be a tensor of shape (n_samples, n_features)."
            )
        is_sparse, remedy = X.layout is not torch.strided, "'.to_dense()'"
    else:
        # Those of other libraries than scipy are known by their method.
        is_sparse = issparse(X) or hasattr(X, "todense")
        remedy = "'.toarray()'" if hasattr(X, "toarray") else "'.todense()'"
    if is_sparse:
        raise TypeError(
            f"Sparse data was passed for {name}, but dense data is required. "
            f"Use {remedy} to convert to a dense "
            f"{'tensor' if isinstance(X, torch.Tensor) else 'numpy array'}."
        )


def filled(X):
    """Convert a masked array to one with NaN where it is masked.

    Parameters
    ----------
    X : object

    Returns
    -------
    X : ndarray or object
        Without a copy if nothing is masked, or X is no masked array. Integers become
        float64.
    """
    if not isinstance(X, np.ma.MaskedArray):
        return X
    if not np.ma.is_masked(X):
        return X.data
    if X.dtype.kind in "biu":
        X = X.astype(np.float64)
    return X.filled(np.nan)


def _as_float_tensor(X, name):
    if X.is_complex():
        # In the words of scikit-learn, which says so of arrays.
        raise ValueError(f"Complex data not supported\n{name} has dtype {X.dtype}.")
    if X.is_quantized:
        raise ValueError(
            f"{name} is a quantized tensor (dtype={X.dtype}); use '.dequantize()' to "
            "convert it to floats."
        )
    if X.is_meta:
        raise ValueError(
            f"{name} is a tensor on the device 'meta', which holds no entries; should "
            "be on a device that does."
        )
    if X.dtype not in (torch.float32, torch.float64):
        try:
            X = X.to(torch.promote_types(torch.get_default_dtype(), torch.float32))
        except NotImplementedError as error:
            raise ValueError(
                f"{name} has dtype {X.dtype}, which torch cannot convert to floats."
            ) from error
    return X.detach()


def _as_numeric_rows(rows, name):
    """Check the rows in a list, and convert those that numpy would misread."""
    if {type(row) for row in rows} <= {list, tuple}:
        for entry in rows[0] if rows else ():  # of which the others have the type
            _check_dtype(getattr(entry, "dtype", None), name)
        return rows
    for row in rows:
        check_dense(row, name)
        _check_dtype(getattr(row, "dtype", None), name)
    if any(isinstance(row, torch.Tensor) for row in rows):
        rows = [_as_array(row, name) for row in rows]
    if not any(isinstance(row, np.ma.MaskedArray) for row in rows):
        return rows
    masked = np.ma.array(rows)
    # scikit-learn makes float64 of any list.
    return masked.astype(np.float64) if masked.dtype.kind in "biuf" else masked


def _as_array(row, name):
    """Convert a row that is a tensor; numpy does not have all of its dtypes."""
    if not isinstance(row, torch.Tensor):
        return row
    is_exact = not (row.is_floating_point() or row.is_complex() or row.is_quantized)
    return as_numpy(row if is_exact else _as_float_tensor(row, name))


def _is_frame(X):
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(X, pandas.DataFrame)


def _with_dense_columns(frame):
    """Convert columns that are sparse, which scikit-learn warns of or refuses."""
    sparse = sys.modules["pandas"].SparseDtype
    dense = {
        name: dtype.subtype
        for name, dtype in frame.dtypes.items()
        if isinstance(dtype, sparse)
    }
    return frame.astype(dense) if dense else frame


def _check_dtype(dtype, name):
    """Check that a dtype is not one that numpy casts to floats without a meaning."""
    if getattr(dtype, "kind", "") in _DATES or getattr(dtype, "names", None):
        raise ValueError(
            f"{name} has dtype {dtype}, but should be numeric; convert dates, "
            "durations and fields of records to numbers first."
        )
