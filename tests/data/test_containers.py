import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

from skmixmate.data.containers import as_numeric, as_tensor, is_wrappable

X = np.arange(12.0).reshape(4, 3)


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def unaligned(array):
    buffer = bytearray(array.nbytes + 1)
    result = np.frombuffer(buffer, array.dtype, array.size, offset=1)
    result = result.reshape(array.shape)
    result[:] = array
    return result


def record_field(array):
    """Return the array as a field of records of 25 bytes."""
    records = np.zeros(len(array), dtype=[("row", "f8", 3), ("flag", "u1")])
    records["row"] = array
    return records["row"]


UNWRAPPABLE = {
    "rows reversed": X[::-1],
    "columns reversed": X[:, ::-1],
    "one column reversed": X[:, :1][:, ::-1],
    "one row reversed": X[:1][::-1],
    "no row reversed": X[:0, ::-1],
    "read-only": read_only(X),
    "broadcast": np.broadcast_to(X[0], (4, 3)),
    "other byte order": X.astype(X.dtype.newbyteorder()),
    "not aligned": unaligned(X),
    "in records": record_field(X),
}


@pytest.mark.parametrize("kind", UNWRAPPABLE)
def test_arrays_that_torch_cannot_wrap_are_copied(kind):
    array = UNWRAPPABLE[kind]
    assert not is_wrappable(array)
    tensor = as_tensor(array)
    np.testing.assert_array_equal(tensor, array)
    assert tensor.dtype == torch.float64


@pytest.mark.parametrize("array", [X, X.T, X[::2, 1:], np.asfortranarray(X)])
def test_other_arrays_share_their_memory_with_the_tensor(array):
    assert is_wrappable(array)
    assert as_tensor(array).data_ptr() == array.ctypes.data


# --- masks ---------------------------------------------------------------------------

MASK = np.array([[0, 1, 0], [0, 0, 0], [1, 0, 0], [0, 0, 1]], dtype=bool)
INCOMPLETE = np.where(MASK, np.nan, X)


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [("f4", "f4"), ("f8", "f8"), ("i4", "f8"), ("u1", "f8"), ("?", "f8")],
)
def test_masked_entries_are_missing(dtype, expected):
    rows = as_numeric(np.ma.array(X.astype(dtype), mask=MASK))
    assert type(rows) is np.ndarray
    assert rows.dtype == expected
    np.testing.assert_array_equal(rows, np.where(MASK, np.nan, X.astype(dtype)))


@pytest.mark.parametrize("mask", [np.ma.nomask, np.zeros_like(MASK)])
def test_arrays_without_masked_entries_are_not_copied(mask):
    assert np.shares_memory(as_numeric(np.ma.array(X, mask=mask)), X)


def test_masked_entries_need_not_be_numbers():
    hidden = np.ma.array(np.where(MASK, "?", X.astype(object)), mask=MASK)
    np.testing.assert_array_equal(as_numeric(hidden).astype(float), INCOMPLETE)


def test_masked_entries_of_rows_in_a_list_are_missing():
    rows = [np.ma.array(row, mask=mask) for row, mask in zip(X, MASK, strict=True)]
    np.testing.assert_array_equal(as_numeric(rows), INCOMPLETE)
    rows[1] = torch.from_numpy(X[1])
    np.testing.assert_array_equal(as_numeric(rows), INCOMPLETE)


# --- other containers ----------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_rows_in_a_list_may_be_tensors_with_a_gradient(dtype):
    rows = [torch.tensor(row, dtype=dtype, requires_grad=True) for row in X]
    np.testing.assert_array_equal(np.asarray(as_numeric(rows)), X)


@pytest.mark.parametrize("default", [torch.float32, torch.float64, torch.bfloat16])
def test_integer_tensors_are_converted_to_float32_or_float64(default):
    before = torch.get_default_dtype()
    torch.set_default_dtype(default)
    try:
        rows = as_numeric(torch.arange(6).reshape(2, 3))
    finally:
        torch.set_default_dtype(before)
    expected = torch.float64 if default == torch.float64 else torch.float32
    assert rows.dtype == expected


@pytest.mark.parametrize("fill", [0.0, np.nan])
def test_sparse_columns_are_converted_without_a_warning(fill):
    frame = pd.DataFrame(INCOMPLETE, columns=list("abc"))
    frame = frame.astype({"a": pd.SparseDtype(float, fill)})
    dense = as_numeric(frame)
    np.testing.assert_array_equal(dense, INCOMPLETE)
    assert list(dense.columns) == ["a", "b", "c"]
    assert dense.dtypes.tolist() == [np.float64] * 3


def test_a_frame_without_columns_is_empty():
    assert as_numeric(pd.DataFrame(index=range(3))).shape == (3, 0)


# --- errors --------------------------------------------------------------------------


class ForeignSparseArray:
    """Has the interface of the arrays of the library sparse."""

    shape, dtype = (4, 3), np.dtype(float)

    def todense(self):
        return X


@pytest.mark.parametrize(
    "data",
    [
        sparse.csr_array(X),
        sparse.coo_matrix(X),
        [sparse.csr_array(row[None]) for row in X],
        torch.from_numpy(X).to_sparse(),
        [torch.from_numpy(row).to_sparse() for row in X],
        ForeignSparseArray(),
    ],
)
def test_sparse_data_are_rejected(data):
    with pytest.raises(
        TypeError, match="Sparse data was passed for X, but dense data is required"
    ):
        as_numeric(data)


def without_warnings(make):
    """Create a tensor of a type for which torch warns that it may change."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (torch.ones(2, 3, dtype=torch.complex64), "Complex data not supported"),
        ([torch.ones(3) * 1j], "Complex data not supported"),
        (torch.ones(2, 3, device="meta"), "device 'meta'"),
        (torch.empty(2, 3, dtype=torch.bits8), "dtype torch.bits8"),
        (
            without_warnings(
                lambda: torch.quantize_per_tensor(
                    torch.ones(2, 3), 0.1, 0, torch.quint8
                )
            ),
            "quantized tensor.*dequantize",
        ),
        (
            without_warnings(
                lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])
            ),
            "nested tensor",
        ),
        (
            without_warnings(
                lambda: torch.nested.nested_tensor(
                    [torch.ones(2), torch.ones(3)], layout=torch.jagged
                )
            ),
            "nested tensor",
        ),
        (np.ma.zeros((2, 3), "M8[D]"), "dates"),
        (list(np.zeros((2, 3), "M8[D]")), "dates"),
        (list(np.array([["red"], ["blue"]])), "categories"),
        (np.zeros((2, 3), dtype=[("a", "f8")]), "records"),
    ],
)
def test_data_that_are_not_real_numbers_are_rejected(data, message):
    with pytest.raises(ValueError, match=message):
        as_numeric(data)
