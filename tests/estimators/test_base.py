import gc

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from torch.utils.data import DataLoader, TensorDataset

from skmixmate import MixMateClustering, load
from skmixmate.data import readers as _sources
from skmixmate.datasets import make_sparse_mixture
from skmixmate.estimators import _base as _inference
from skmixmate.estimators._base import rechunk

from ..sources import File, Pairs, Stream

METHODS = [
    "predict",
    "predict_proba",
    "transform",
    "encode",
    "energies",
    "reconstruct",
    "score_samples",
]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """64 rows are worked on, and 80 of 16 features are read, at a time."""
    monkeypatch.setattr(_inference, "_BLOCK_ENTRIES", 1)
    monkeypatch.setattr(_inference, "_BATCH_BLOCKS", 2)
    monkeypatch.setattr(_sources, "_CHUNK_ENTRIES", 80 * 16)
    monkeypatch.setattr("skmixmate.data.streams._CHUNK_ENTRIES", 80 * 16)


def data(n_samples=500, **params):
    return make_sparse_mixture(n_samples, 16, n_atoms=4, random_state=0, **params).data


def small(**params):
    defaults = {"n_atoms": 6, "max_iter": 2, "tol": 0, "random_state": 0}
    return MixMateClustering(3, **{**defaults, **params})


@pytest.fixture(scope="module")
def fitted():
    return small().fit(data())


@pytest.fixture(scope="module")
def fitted_to_images():
    mixmate = small(image_shape=(8, 8), init="kmeans", n_layers=3)
    return mixmate.fit(load_digits().data)


def kinds(X):
    """X in the forms in which it may be given."""
    loader = DataLoader(TensorDataset(torch.from_numpy(X)), 50, shuffle=True)
    return [X, torch.from_numpy(X), File(X, 80), Pairs(X), loader]


# --- in batches ----------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("missing", [0.0, 0.2])
def test_batches_are_parts_of_the_answer_to_the_last_bit(fitted, method, missing):
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


def test_labels_are_given_if_no_method_is_named(fitted):
    X = data()
    batches = fitted.predict_batches(X)
    np.testing.assert_array_equal(np.concatenate(list(batches)), fitted.predict(X))


@pytest.mark.parametrize("method", METHODS)
def test_images_are_taken_in_batches(fitted_to_images, method):
    X = load_digits().data
    expected = getattr(fitted_to_images, method)(X)
    batches = fitted_to_images.predict_batches(X, method, batch_size=300)
    np.testing.assert_array_equal(np.concatenate(list(batches)), expected)
    images = TensorDataset(torch.from_numpy(X).reshape(-1, 1, 8, 8))
    np.testing.assert_array_equal(getattr(fitted_to_images, method)(images), expected)
    out = getattr(fitted_to_images, method)(images, out=np.empty_like(expected))
    np.testing.assert_array_equal(out, expected)


def test_names_of_features_are_checked_and_nothing_is_warned_of():
    frame = pd.DataFrame(data(), columns=[f"pixel{i}" for i in range(16)])
    mixmate = small().fit(frame)
    out = np.empty(500, int)
    mixmate.predict(frame, out=out)
    np.testing.assert_array_equal(out, mixmate.labels_)
    np.testing.assert_array_equal(
        np.concatenate(list(mixmate.predict_batches(frame))), mixmate.labels_
    )


def test_gradients_stay_on_between_batches(fitted):
    next(fitted.predict_batches(data(), batch_size=10))
    batches = fitted.predict_batches(data(), batch_size=10)
    next(batches)
    assert torch.is_grad_enabled()


@settings(deadline=None)
@given(
    lengths=st.lists(st.integers(0, 20), min_size=1),
    size=st.integers(1, 50),
)
def test_reblocked(lengths, size):
    rows = np.arange(2 * sum(lengths)).reshape(-1, 2)
    parts = list(rechunk(np.split(rows, np.cumsum(lengths)[:-1]), size))
    assert all(len(part) == size for part in parts[:-1])
    if len(rows):
        assert 0 < len(parts[-1]) <= size
        np.testing.assert_array_equal(np.concatenate(parts), rows)


# --- criteria ------------------------------------------------------------------------


def containers(X):
    """X in each form that score takes and that has another length, or none."""
    tensor = torch.from_numpy(X)
    return {
        "tensor": tensor,
        "list": X.tolist(),
        "frame": pd.DataFrame(X),
        "file": File(X, 80),
        "dataset": Pairs(X),
        "loader": DataLoader(TensorDataset(tensor), 50, shuffle=True),
        "stream": Stream(list(X)),
        "loader of a stream": DataLoader(Stream(list(X)), 30),
    }


@pytest.mark.parametrize("container", containers(data(1)))
def test_criteria_count_samples_in_any_container(fitted, container):
    X = data(missing=0.1)
    given_X = containers(X)[container]
    n_free = 3 * 6 * 15 + 3 * 16 + 3 * 6  # atoms, intercepts and rates
    deviance = -2 * fitted.score_samples(X).sum()
    assert fitted.bic(given_X) == pytest.approx(deviance + n_free * np.log(500))
    assert fitted.aic(given_X) == pytest.approx(deviance + 2 * n_free)
    assert fitted.bic(X) == -2 * 500 * fitted.score(X) + n_free * np.log(500)


def test_criteria_go_through_a_stream_once(fitted):
    class Once(Stream):
        def __iter__(self):
            items, self.items = self.items, []
            return iter(items)

    X = data()
    assert fitted.bic(Once(list(X))) == pytest.approx(fitted.bic(X))


# --- evidence ------------------------------------------------------------------------


def test_evidence_without_a_density_of_codes_is_in_the_units_of_x():
    X = data(missing=0.1)
    mixmate = small(prior="nonnegative").fit(X)
    n_observed = np.count_nonzero(~np.isnan(X), axis=1)
    expected = np.logaddexp.reduce(-mixmate.energies(X), axis=1)
    expected += np.log(mixmate.scale_) * n_observed
    np.testing.assert_allclose(mixmate.score_samples(X), expected)


# --- without atoms -------------------------------------------------------------------


@pytest.mark.parametrize("likelihood", ["gaussian", "poisson"])
def test_without_atoms_all_methods_answer(likelihood, tmp_path):
    X = np.random.default_rng(0).poisson(3, size=(50, 3)).astype(float)
    mixmate = small(n_atoms=0, likelihood=likelihood).fit(X)
    means = np.exp(mixmate.intercepts_) if likelihood == "poisson" else None
    means = mixmate.intercepts_ if means is None else means
    assert mixmate.encode(X).shape == (50, 3, 0)
    assert mixmate.get_feature_names_out().tolist() == []
    assert mixmate.sample(4, random_state=0)[0].shape == (4, 3)
    np.testing.assert_allclose(mixmate.reconstruct(X), means[mixmate.labels_])
    mixmate.save(tmp_path / "model")
    for same in (mixmate, load(tmp_path / "model")):
        codes = same.transform(X)
        assert codes.shape == (50, 0)
        # Codes that are not there tell no cluster: the mean of the intercepts.
        natural = np.tile(same.weights_ @ same.intercepts_, (50, 1))
        expected = np.exp(natural) if likelihood == "poisson" else natural
        for given_codes in (codes, torch.from_numpy(codes), pd.DataFrame(codes)):
            np.testing.assert_allclose(same.inverse_transform(given_codes), expected)
    mixmate.set_output(transform="pandas")
    frame = mixmate.transform(X)
    assert frame.shape == (50, 0)
    np.testing.assert_allclose(mixmate.inverse_transform(frame), expected)


# --- memory-mapped models ------------------------------------------------------------


@pytest.mark.parametrize("params", [{}, {"image_shape": (8, 8), "n_atoms": 3}])
def test_a_model_that_is_mapped_answers_as_it_did(params, tmp_path):
    X = load_digits().data[:200]
    mixmate = small(init="kmeans", **params).fit(X)
    joblib.dump(mixmate, tmp_path / "model")
    mapped = joblib.load(tmp_path / "model", mmap_mode="r")
    assert isinstance(mapped.dictionaries_, np.memmap)
    for method in METHODS:
        np.testing.assert_array_equal(
            getattr(mapped, method)(X), getattr(mixmate, method)(X)
        )
    codes = mixmate.transform(X)
    np.testing.assert_array_equal(
        mapped.inverse_transform(codes), mixmate.inverse_transform(codes)
    )
    warm = {"warm_start": True, "max_iter": 1}
    np.testing.assert_array_equal(
        mapped.set_params(**warm).fit(X).dictionaries_,
        mixmate.set_params(**warm).fit(X).dictionaries_,
    )


def test_a_mapped_model_on_pixels_is_fitted_further(tmp_path):
    X = load_digits().data[:200]
    params = {"image_shape": (8, 8), "representation": "pixels", "init": "kmeans"}
    mixmate = small(**params, dictionary_penalty=0.1, warm_start=True).fit(X)
    joblib.dump(mixmate, tmp_path / "model")
    mapped = joblib.load(tmp_path / "model", mmap_mode="r")
    assert mapped.fit(X).loss_ == mixmate.fit(X).loss_


# --- into an array -------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_answers_are_written_where_they_are_wanted(fitted, method, tmp_path):
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


def test_answers_may_be_written_with_fewer_digits(fitted):
    X = data()
    energies = fitted.energies(X, out=np.empty((500, 3), np.float32))
    np.testing.assert_array_equal(energies, fitted.energies(X).astype(np.float32))
    labels = fitted.predict(X, out=np.empty(500, np.int16))
    np.testing.assert_array_equal(labels, fitted.labels_)


def test_set_output_wraps_what_was_written():
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


@pytest.mark.parametrize("method", METHODS)
def test_neither_data_nor_answers_are_held(fitted, method):
    X = data(5000)
    file, out = File(X, 80), Written(getattr(fitted, method)(X))
    getattr(fitted, method)(file, out=out)
    assert out.n_written == 5000
    for _ in fitted.predict_batches(file, method):
        pass
    gc.collect()
    assert file.n_alive == 0
    assert file.most_alive <= 2 * 80  # what is read next, and what was before
    assert out.longest <= 2 * 64


class Written:
    """Takes slices of what it expects, and holds nothing."""

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


# --- streams -------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_streams_are_answered_as_they_come(fitted, method):
    X = data()
    expected = getattr(fitted, method)(X)
    for stream in (Stream(list(X)), DataLoader(Stream(list(X)), 30)):
        np.testing.assert_allclose(getattr(fitted, method)(stream), expected)
        batches = list(fitted.predict_batches(stream, method, batch_size=90))
        assert list(map(len, batches)) == [90] * 5 + [50]
        np.testing.assert_allclose(np.concatenate(batches), expected)


def test_what_a_stream_cannot_have(fitted):
    with pytest.raises(ValueError, match=r"out should be None.*predict_batches"):
        fitted.predict(Stream(list(data())), out=np.empty(500, int))
    with pytest.raises(ValueError, match="X has 15 features"):
        fitted.predict(Stream(list(data()[:, :15])))
    with pytest.raises(ValueError, match="yielded no rows"):
        fitted.predict(Stream([]))


# --- mistakes ------------------------------------------------------------------------


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
    assert file.n_read <= 80  # to know what they are


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"method": "fit"}, ValueError, r"method='fit' should be one of \['predict',"),
        ({"batch_size": 0}, ValueError, "batch_size == 0, must be >= 1"),
        ({"batch_size": 2.5}, TypeError, "batch_size must be an instance of int"),
        ({"X": np.ones((5, 3))}, ValueError, "X has 3 features"),
    ],
)
def test_batches_are_checked_when_they_are_asked_for(fitted, params, error, message):
    with pytest.raises(error, match=message):
        fitted.predict_batches(**{"X": data(), **params})


def test_batches_before_fit():
    with pytest.raises(NotFittedError):
        small().predict_batches(data())


@pytest.mark.parametrize(
    ("codes", "error", "message"),
    [
        (torch.zeros(2, 18).to_sparse(), TypeError, "Sparse data was passed for codes"),
        (torch.zeros(2, 18) * 1j, ValueError, "Complex data not supported"),
        (np.ma.array(np.zeros((2, 18)), mask=True), ValueError, "codes contains NaN"),
        (np.zeros((2, 17)), ValueError, "X has 17 columns, but 18 codes"),
    ],
)
def test_codes_are_checked_as_data_are(fitted, codes, error, message):
    with pytest.raises(error, match=message):
        fitted.inverse_transform(codes)


@pytest.mark.parametrize("far", [1e18, 1e20, 3e38])
@pytest.mark.parametrize("is_alone", [False, True])
def test_a_row_that_float32_cannot_square_is_answered_as_in_float64(
    fitted, far, is_alone
):
    X = data(70).astype(np.float32)
    X[3, 2] = far
    X[5, 1] = np.nan
    X = X[3:4] if is_alone else X
    for method in ("predict", "predict_proba", "transform", "encode", "reconstruct"):
        answers = getattr(fitted, method)(X)
        expected = getattr(fitted, method)(X.astype(np.float64))
        assert answers.dtype == (np.int64 if method == "predict" else np.float32)
        np.testing.assert_allclose(answers, expected, rtol=1e-3, atol=1e-3)


def test_an_answer_that_float32_cannot_hold_is_refused(fitted):
    X = data(70)
    X[3, 2] = 1e20
    np.testing.assert_array_less(1e37, fitted.energies(X)[3])
    for method in ("energies", "score_samples"):
        with pytest.raises(ValueError, match=r"X has a row so far.*more than float32"):
            getattr(fitted, method)(X.astype(np.float32))
    X[3, 2] = 1e160
    with pytest.raises(
        ValueError, match=r"X has an entry .*1e\+160.*overflows float64"
    ):
        fitted.predict(X)
