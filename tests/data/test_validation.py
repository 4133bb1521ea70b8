import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import BaseEstimator
from torch.utils.data import TensorDataset

from skmixmate.data.validation import (
    as_floats,
    check_squares,
    resolve_device,
    validate_rows,
)

from .test_loader import random_data

# --- containers ----------------------------------------------------------------------


def test_masked_entries_are_missing():
    X = random_data(dtype=np.float32)
    masked = np.ma.array(np.nan_to_num(X, nan=1e6), mask=np.isnan(X))
    rows = validate_rows(BaseEstimator(), masked, reset=True)
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows, X)


@pytest.mark.parametrize("missing", [pd.NA, None, np.nan])
@pytest.mark.parametrize("dtype", ["Int64", "Float32", "double[pyarrow]"])
def test_null_entries_of_nullable_columns_are_missing(missing, dtype):
    if "pyarrow" in dtype:
        pytest.importorskip("pyarrow")
    frame = pd.DataFrame({"a": [1, missing, 3], "b": [4, 5, missing]}, dtype=dtype)
    rows = validate_rows(BaseEstimator(), frame, reset=True)
    np.testing.assert_array_equal(rows, [[1, 4], [np.nan, 5], [3, np.nan]])


def test_tensors_whose_sum_overflows_are_accepted():
    X = torch.full((4, 3), 3e38) * torch.tensor([[1.0], [0.1], [0.01], [0.001]])
    assert X.nansum().isinf()
    assert validate_rows(BaseEstimator(), X, reset=True).shape == (4, 3)


def test_infinite_entries_of_tensors_are_rejected():
    X = torch.ones(4, 3)
    X[1, 2] = -torch.inf
    with pytest.raises(ValueError, match=r"X contains infinity; only NaN .*Replace"):
        validate_rows(BaseEstimator(), X, reset=True)


@pytest.mark.parametrize(
    "X",
    [
        np.ones((3, 2)) * 1j,
        (np.ones((3, 2)) * 1j).astype(object),
        [[1j, 2.0], [3.0, 4.0]],
        [np.ones(2) * 1j],
        torch.ones(3, 2) * 1j,
        pd.DataFrame(np.ones((3, 2)) * 1j),
        np.ma.array(np.ones((3, 2)) * 1j, mask=np.eye(3, 2)),
    ],
)
def test_complex_data_are_rejected_in_any_container(X):
    with pytest.raises(ValueError, match="Complex data not supported"):
        validate_rows(BaseEstimator(), X, reset=True)


@pytest.mark.parametrize("X", [(row for row in []), {"a": [1.0]}, {1.0}, len])
def test_the_message_names_the_type_of_objects_without_rows(X):
    name = type(X).__name__
    with pytest.raises(TypeError, match=f"X is a {name}, but should be an array"):
        validate_rows(BaseEstimator(), X, reset=True)


def test_images_with_channels_first_are_rejected():
    estimator = BaseEstimator()
    estimator.image_shape = (4, 2, 3)
    images = torch.arange(48.0).reshape(2, 4, 2, 3)
    rows = validate_rows(estimator, TensorDataset(images), reset=True)
    np.testing.assert_array_equal(rows[:], images.flatten(1))
    channels_first = TensorDataset(images.permute(0, 3, 1, 2))
    with pytest.raises(ValueError, match=r"\(3, 4, 2\).*\(4, 2, 3\).*channels last"):
        validate_rows(estimator, channels_first, reset=True)
    estimator.image_shape = (4, 6)
    one_channel = TensorDataset(images.reshape(2, 1, 4, 6))
    np.testing.assert_array_equal(
        validate_rows(estimator, one_channel, reset=True)[:], images.flatten(1)
    )


# --- conversion to floats ------------------------------------------------------------


def test_as_floats_converts_to_the_dtype_of_earlier_rows():
    rows = np.ones((2, 3), np.int64)
    assert as_floats(rows).dtype == np.float64
    assert as_floats(rows.astype(np.float32)).dtype == np.float32
    assert as_floats(rows, np.dtype(np.float32), 3).dtype == np.float32
    with pytest.raises(ValueError, match="rows of 3 features after rows of 4"):
        as_floats(rows, None, 4)


# --- device --------------------------------------------------------------------------


def test_auto_is_the_device_of_a_tensor():
    assert resolve_device("auto", torch.empty(1, 1, device="meta")).type == "meta"
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert resolve_device("auto", np.empty((1, 1))).type == expected
    assert resolve_device("cpu", None) == torch.device("cpu")


@pytest.mark.parametrize("device", ["nowhere", "meta", "hpu"])
def test_unavailable_devices_are_rejected(device):
    message = f"device='{device}' is not available on this machine; it should be"
    with pytest.raises(ValueError, match=message):
        resolve_device(device, None)


# --- squares -------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_check_squares_rejects_entries_whose_square_overflows(dtype):
    largest = torch.finfo(dtype).max ** 0.5
    with pytest.raises(ValueError, match=r"X has an entry .*scale_=0\.5, overflows"):
        check_squares(largest, 0.5, dtype, 3)
    check_squares(largest, 1e-3, dtype, 3)
