"""Reading of sparse matrices, for the command line."""

import warnings
from collections.abc import Callable, Collection

import numpy as np
from scipy import io, sparse

# Names of the arrays in the archive of `scipy.sparse.save_npz`, for each format of a
# matrix.
_INDEX_NAMES = {
    "csr": ("indices", "indptr"),
    "csc": ("indices", "indptr"),
    "coo": ("row", "col"),
}


def is_sparse_archive(names: Collection[str]) -> bool:
    """Return whether an archive holds one sparse matrix, and not several tables.

    Parameters
    ----------
    names : collection of str
        Names of its arrays.
    """
    return {"format", "shape", "data"} <= set(names)


def matrix_of(path: str, read: Callable[[str], np.ndarray]) -> sparse.csr_array:
    """Make the matrix that `scipy.sparse.save_npz` wrote.

    Parameters
    ----------
    path : str
        For error messages.
    read : callable
        Returns an array of the archive by name.

    Returns
    -------
    matrix : CSR array of shape (n_samples, n_features)

    Raises
    ------
    ValueError
        If the format is another one, or the arrays are not those of a matrix.
    """
    format_ = read("format").item()
    name = format_.decode() if isinstance(format_, bytes) else str(format_)
    if name not in _INDEX_NAMES:
        raise ValueError(
            f"{path} has a sparse matrix of format {name!r}, which should be one of "
            f"{', '.join(_INDEX_NAMES)}; convert it with .tocsr() first."
        )
    shape = tuple(int(size) for size in read("shape"))
    data, index = read("data"), [read(key) for key in _INDEX_NAMES[name]]
    if data.dtype.kind not in "biuf":
        raise ValueError(f"{path} is not a numeric matrix: it has dtype {data.dtype}.")
    try:
        if name == "coo":
            return sparse.csr_array(sparse.coo_array((data, tuple(index)), shape=shape))
        kind = sparse.csr_array if name == "csr" else sparse.csc_array
        matrix = kind((data, *index), shape=shape)
        matrix.check_format(full_check=True)  # indices out of range would be read
        return sparse.csr_array(matrix)
    except (ValueError, TypeError, IndexError) as error:
        raise ValueError(f"{path} is not a sparse matrix: {error}") from error


def read_matrix_market(path: str) -> sparse.csr_array:
    """Read a Matrix Market file.

    Parameters
    ----------
    path : str

    Returns
    -------
    matrix : CSR array of shape (n_samples, n_features)

    Raises
    ------
    ValueError
        If it is damaged, or does not hold real numbers.
    """
    try:
        with warnings.catch_warnings():
            # From scipy 1.18 on, of a default value that does not matter here.
            warnings.simplefilter("ignore", DeprecationWarning)
            matrix = sparse.csr_array(io.mmread(path))
    except (ValueError, TypeError, IndexError, OverflowError, MemoryError) as error:
        raise ValueError(f"{path} is not a Matrix Market file: {error}") from error
    if matrix.dtype.kind not in "biuf":
        raise ValueError(
            f"{path} is not a numeric matrix: it has dtype {matrix.dtype}."
        )
    return matrix
