"""Results in batches, and results written to an array."""

import gc
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from torch.utils.data import DataLoader, TensorDataset

from skmixmate.estimators._inference import rechunk

from .. import helpers
from ..helpers import METHODS
from ..sources import File, Pairs, Stream

pytestmark = pytest.mark.usefixtures("small_blocks")
small = partial(helpers.small, max_iter=2, batch_size=256)


def data(n_samples=500, **params):
    return helpers.data(n_samples, **params)


@pytest.fixture(scope="module")
def fitted():
    return small().fit(data())


@pytest.fixture(scope="module")
def fitted_to_images():
    mixmate = small(image_shape=(8, 8), init="kmeans", n_layers=3)
    return mixmate.fit(load_digits().data)


def kinds(X):
    """Return X as an array, a tensor, a file, a dataset and a loader."""
    loader = DataLoader(TensorDataset(torch.from_numpy(X)), 50, shuffle=True)
    return [X, torch.from_numpy(X), File(X, 80), Pairs(X), loader]


@pytest.mark.combinations(3)
@pytest.mark.slow
@pytest.mark.parametrize(
    "method",
    [
        pytest.param(name, marks=pytest.mark.slow if name == "score_samples" else ())
        for name in METHODS
    ],
)
@pytest.mark.parametrize("missing", [0.0, 0.2])
def test_batches_equal_the_result_of_a_single_call(fitted, method, missing):
    X = data(missing=missing)
    expected = getattr(fitted, method)(X)
    for given_X in kinds(X):
        np.testing.assert_array_equal(getattr(fitted, method)(given_X), expected)
        for batch_size, n_batches in ((None, 4), (7, 72), (499, 2), (500, 1), (900, 1)):
            batches = list(
                fitted.predict_batches(given_X, method, batch_size=batch_size)
            )
            assert len(batches) == n_batches
            assert isinstance(batches[0], type(getattr(fitted, method)(given_X)))
            np.testing.assert_array_equal(np.concatenate(batches), expected)


def test_predict_batches_yields_labels_by_default(fitted):
    X = data()
    batches = fitted.predict_batches(X)
    np.testing.assert_array_equal(np.concatenate(list(batches)), fitted.predict(X))


@pytest.mark.parametrize("method", METHODS)
def test_images_in_batches(fitted_to_images, method):
    X = load_digits().data
    expected = getattr(fitted_to_images, method)(X)
    batches = fitted_to_images.predict_batches(X, method, batch_size=300)
    np.testing.assert_array_equal(np.concatenate(list(batches)), expected)
    images = TensorDataset(torch.from_numpy(X).reshape(-1, 1, 8, 8))
    np.testing.assert_array_equal(getattr(fitted_to_images, method)(images), expected)
    out = getattr(fitted_to_images, method)(images, out=np.empty_like(expected))
    np.testing.assert_array_equal(out, expected)


def test_data_frames_give_no_warning():
    frame = pd.DataFrame(data(), columns=[f"pixel{i}" for i in range(16)])
    mixmate = small().fit(frame)
    out = np.empty(500, int)
    mixmate.predict(frame, out=out)
    np.testing.assert_array_equal(out, mixmate.labels_)
    np.testing.assert_array_equal(
        np.concatenate(list(mixmate.predict_batches(frame))), mixmate.labels_
    )


def test_gradients_stay_enabled_between_batches(fitted):
    next(fitted.predict_batches(data(), batch_size=10))
    batches = fitted.predict_batches(data(), batch_size=10)
    next(batches)
    assert torch.is_grad_enabled()


@settings(deadline=None)
@given(
    lengths=st.lists(st.integers(0, 20), min_size=1),
    size=st.integers(1, 50),
)
def test_rechunk(lengths, size):
    rows = np.arange(2 * sum(lengths)).reshape(-1, 2)
    parts = list(rechunk(np.split(rows, np.cumsum(lengths)[:-1]), size))
    assert all(len(part) == size for part in parts[:-1])
    if len(rows):
        assert 0 < len(parts[-1]) <= size
        np.testing.assert_array_equal(np.concatenate(parts), rows)


@pytest.mark.parametrize("method", METHODS)
def test_results_are_written_to_out(fitted, method, tmp_path):
    X = data(missing=0.1)
    expected = getattr(fitted, method)(X)
    mapped = np.lib.format.open_memmap(
        tmp_path / "out.npy", "w+", expected.dtype, expected.shape
    )
    tensor = torch.empty(expected.shape, dtype=torch.from_numpy(expected).dtype)
    for given_X in kinds(X):
        for out in (np.empty_like(expected), mapped, tensor):
            out[:] = 0
            assert getattr(fitted, method)(given_X, out=out) is out
            np.testing.assert_array_equal(out, expected)


def test_out_may_have_a_narrower_dtype(fitted):
    X = data()
    energies = fitted.energies(X, out=np.empty((500, 3), np.float32))
    np.testing.assert_array_equal(energies, fitted.energies(X).astype(np.float32))
    labels = fitted.predict(X, out=np.empty(500, np.int16))
    np.testing.assert_array_equal(labels, fitted.labels_)


def test_set_output_wraps_the_result():
    X = data()
    mixmate = small().fit(X)
    expected = mixmate.transform(X)
    mixmate.set_output(transform="pandas")
    out = np.empty_like(expected)
    frame = mixmate.transform(X, out=out)
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(frame, expected)
    assert list(frame.columns) == list(mixmate.get_feature_names_out())
    batches = mixmate.predict_batches(X, "transform")
    np.testing.assert_array_equal(np.concatenate(list(batches)), expected)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_neither_data_nor_results_are_kept_in_memory(fitted, method):
    X = data(5000)
    file, out = File(X, 80), Written(getattr(fitted, method)(X))
    getattr(fitted, method)(file, out=out)
    assert out.n_written == 5000
    for _ in fitted.predict_batches(file, method):
        pass
    gc.collect()
    assert file.n_alive == 0
    assert file.most_alive <= 2 * 80  # the current chunk and the next
    assert out.longest <= 2 * 64


class Written:
    """An output that compares each slice with the expected rows and stores nothing."""

    def __init__(self, expected):
        self.expected = expected
        self.shape, self.dtype = expected.shape, expected.dtype
        self.n_written = self.longest = 0

    def __getitem__(self, index):
        assert index == slice(None, 0)
        return self.expected[index]

    def __setitem__(self, index, rows):
        np.testing.assert_array_equal(rows, self.expected[index])
        assert index.start == self.n_written
        self.n_written = index.stop
        self.longest = max(self.longest, len(rows))


@pytest.mark.parametrize("method", METHODS)
def test_iterable_datasets_are_processed_in_order(fitted, method):
    X = data()
    expected = getattr(fitted, method)(X)
    for stream in (Stream(list(X)), DataLoader(Stream(list(X)), 30)):
        np.testing.assert_allclose(getattr(fitted, method)(stream), expected)
        batches = list(fitted.predict_batches(stream, method, batch_size=90))
        assert list(map(len, batches)) == [90] * 5 + [50]
        np.testing.assert_allclose(np.concatenate(batches), expected)


def test_iterable_datasets_raise_for_unsupported_arguments(fitted):
    with pytest.raises(ValueError, match=r"out should be None.*predict_batches"):
        fitted.predict(Stream(list(data())), out=np.empty(500, int))
    with pytest.raises(ValueError, match="X has 15 features"):
        fitted.predict(Stream(list(data()[:, :15])))
    with pytest.raises(ValueError, match="yielded no rows"):
        fitted.predict(Stream([]))


@pytest.mark.parametrize(
    ("out", "error", "message"),
    [
        ([0] * 500, TypeError, r"out=\[0, .*should be an array of shape \(500, 3\)"),
        (np.empty((500, 4)), ValueError, r"shape \(500, 4\).*have \(500, 3\)"),
        (np.empty((3, 500)), ValueError, r"shape \(3, 500\).*have \(500, 3\)"),
        (torch.empty(500), ValueError, r"shape \(500,\).*have \(500, 3\)"),
        (np.empty((500, 3), int), TypeError, "dtype int64.*have float64"),
        (np.broadcast_to(0.0, (500, 3)), ValueError, "read-only"),
    ],
)
def test_out_is_checked_before_any_work(fitted, out, error, message):
    file = File(data(), 80)
    with pytest.raises(error, match=message):
        fitted.energies(file, out=out)
    assert file.n_read <= 80  # the first chunk, which determines shape and dtype


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"method": "fit"}, ValueError, r"method='fit' should be one of \['predict',"),
        ({"batch_size": 0}, ValueError, "batch_size == 0, must be >= 1"),
        ({"batch_size": 2.5}, TypeError, "batch_size must be an instance of int"),
        ({"X": np.ones((5, 3))}, ValueError, "X has 3 features"),
    ],
)
def test_predict_batches_checks_its_arguments_at_the_call(
    fitted, params, error, message
):
    with pytest.raises(error, match=message):
        fitted.predict_batches(**{"X": data(), **params})


def test_predict_batches_before_fit_raises_not_fitted_error():
    with pytest.raises(NotFittedError):
        small().predict_batches(data())
