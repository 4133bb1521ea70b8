"""Compiled products with sparse rows, for float32 on a CPU.

`products.c` is built when the package is installed, if there is a C compiler. Without
it scipy computes the same, which takes several times as long.
"""

import ctypes
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse

from ...utils.native import LoadedLibrary, is_available, load_library, struct_fields

# Built by setup.py.
_PATH = Path(__file__).with_name("_products.so")


class _Rows(ctypes.Structure):
    """``struct rows`` of products.c, which documents the fields."""

    _fields_ = struct_fields("entries indices starts", "n_rows n_features")


class _Projection(ctypes.Structure):
    """``struct projection``."""

    _fields_ = [
        ("rows", _Rows),
        *struct_fields("atoms products", "n_atoms"),
    ]


class _Gradients(ctypes.Structure):
    """``struct gradients``."""

    _fields_ = [
        ("rows", _Rows),
        *struct_fields(
            "gradient grad_correlations cluster_ids index", "n_blocks n_atoms n_block"
        ),
    ]


def load() -> LoadedLibrary:
    """Load the library.

    Returns
    -------
    library : ctypes.CDLL or None
        None if :func:`~skmixmate.utils.native.load_library` cannot load it.
    reason : str
        Why the library is None.
    """
    return load_library(_PATH, "sparse_struct_sizes", (_Projection, _Gradients))


_library, _reason = load()


def implementation() -> str:
    """Describe the implementation of products of sparse float32 rows on a CPU.

    Returns
    -------
    implementation : str
        "compiled", or "scipy" with the reason.
    """
    return f"scipy ({_reason})" if _library is None else "compiled"


def can_run(tensor: torch.Tensor) -> bool:
    """Return whether the library supports a tensor like this, and is available.

    Parameters
    ----------
    tensor : tensor
    """
    is_supported = tensor.dtype == torch.float32 and tensor.device.type == "cpu"
    return is_supported and is_available(_library, _reason)


def project(csr: sparse.csr_array, atoms: torch.Tensor) -> torch.Tensor:
    """Compute the inner products of sparse rows with atoms.

    Parameters
    ----------
    csr : CSR array of shape (n_rows, n_features), float32
        Column indices ascend within each row.
    atoms : float32 tensor of shape (n_atoms, n_features)

    Returns
    -------
    products : tensor of shape (n_rows, n_atoms)

    Raises
    ------
    MemoryError
        If the working memory of a thread cannot be allocated.
    """
    atoms = atoms.contiguous()
    products = atoms.new_empty(csr.shape[0], len(atoms))
    arrays, rows = _rows_of(csr)
    problem = _Projection(
        rows,
        atoms.data_ptr(),
        products.data_ptr(),
        len(atoms),
    )
    _run("sparse_project", problem)
    del arrays  # which had to be kept alive
    return products


def add_gradient_products(
    csr: sparse.csr_array,
    gradient: torch.Tensor,
    grad_correlations: torch.Tensor,
    cluster_ids: torch.Tensor,
    index: torch.Tensor,
) -> None:
    """Add the products of gradients with sparse rows to a gradient.

    Parameters
    ----------
    csr : CSR array of shape (n_rows, n_features), float32
    gradient : contiguous float32 tensor of shape (n_clusters, n_atoms, n_features)
        Changed in place.
    grad_correlations : float32 tensor of shape (n_blocks, n_atoms, n_block)
    cluster_ids : int64 tensor of shape (n_blocks,)
    index : int64 tensor of shape (n_blocks, n_block)

    Raises
    ------
    MemoryError
        If the working memory of a thread cannot be allocated.
    """
    grad, clusters, rows_of_blocks = (
        tensor.contiguous() for tensor in (grad_correlations, cluster_ids, index)
    )
    arrays, rows = _rows_of(csr)
    problem = _Gradients(
        rows,
        gradient.data_ptr(),
        grad.data_ptr(),
        clusters.data_ptr(),
        rows_of_blocks.data_ptr(),
        *grad.shape,
    )
    _run("sparse_add_gradients", problem)
    del arrays  # which had to be kept alive


def _run(name: str, problem: ctypes.Structure) -> None:
    function = getattr(_library, name)
    if function(ctypes.byref(problem), torch.get_num_threads()):
        raise MemoryError("Products with sparse rows could not allocate memory.")


def _rows_of(csr: sparse.csr_array) -> tuple[list[Any], _Rows]:
    """Describe a matrix to the library; return the arrays that this refers to, too."""
    arrays: list[npt.NDArray[Any]] = [
        np.ascontiguousarray(csr.data, dtype=np.float32),
        np.ascontiguousarray(csr.indices, dtype=np.int32),
        np.ascontiguousarray(csr.indptr, dtype=np.int64),
    ]
    return arrays, _Rows(*(array.ctypes.data for array in arrays), *csr.shape)
