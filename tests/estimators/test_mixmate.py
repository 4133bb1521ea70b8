import gc
import os
import pickle
import subprocess
import sys
import tracemalloc
import warnings
from collections import Counter

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.optimize import linear_sum_assignment
from scipy.special import erf, softmax
from sklearn.base import clone
from sklearn.callback import ProgressBar, ScoringMonitor
from sklearn.cluster import KMeans
from sklearn.datasets import (
    load_breast_cancer,
    load_digits,
    load_iris,
    load_wine,
    make_blobs,
)
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.metrics import adjusted_rand_score
from sklearn.metrics import normalized_mutual_info_score as nmi
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from torch.utils.data import DataLoader, TensorDataset

from skmixmate import (
    MixMateClustering,
    SpectralGraphClustering,
    clustering_accuracy_score,
    load,
)
from skmixmate.data import loader as _rows
from skmixmate.data import readers as _sources
from skmixmate.datasets import make_sparse_mixture
from skmixmate.estimators import _base as _inference
from skmixmate.estimators import _mixmate
from skmixmate.model.fista import encode_incomplete
from skmixmate.model.priors import Laplace

from ..sources import File, Pairs, Stream


def small(**params):
    """Return an estimator that fits the data below in a moment."""
    defaults = {
        "n_clusters": 3,
        "n_atoms": 6,
        "max_iter": 3,
        "tol": 0,
        "batch_size": 32,
        "random_state": 0,
    }
    return MixMateClustering(**{**defaults, **params})


def data(n_samples=120, **params):
    return make_sparse_mixture(n_samples, 16, n_atoms=4, random_state=0, **params).data


@pytest.fixture(scope="module")
def fitted():
    return small().fit(data())


# --- what the methods answer ---------------------------------------------------------


@pytest.mark.parametrize("missing", [0.0, 0.2])
@pytest.mark.parametrize("fit_intercept", [False, True])
def test_methods_agree_with_one_another(missing, fit_intercept):
    X = data(missing=missing)
    mixmate = small(fit_intercept=fit_intercept).fit(X)
    labels, energies = mixmate.predict(X), mixmate.energies(X)
    codes, blocks = mixmate.encode(X), mixmate.transform(X)

    np.testing.assert_array_equal(mixmate.labels_, labels)
    np.testing.assert_array_equal(labels, energies.argmin(axis=1))
    np.testing.assert_allclose(mixmate.predict_proba(X).sum(axis=1), 1)
    np.testing.assert_allclose(mixmate.predict_proba(X), softmax(-energies, axis=1))
    assert mixmate.score(X) == pytest.approx(mixmate.score_samples(X).mean())
    expected_loss = (energies * softmax(-energies, axis=1)).sum(axis=1).mean()
    assert mixmate.loss_ == pytest.approx(expected_loss)

    blocks = blocks.reshape(len(X), 3, 6)
    rows = np.arange(len(X))
    np.testing.assert_allclose(blocks[rows, labels], codes[rows, labels], atol=1e-300)
    blocks[rows, labels] = 0
    assert not blocks.any()
    reconstructed = mixmate.reconstruct(X)
    own = codes[rows, labels][:, None] @ mixmate.dictionaries_[labels]
    np.testing.assert_allclose(
        reconstructed, own[:, 0] + mixmate.intercepts_[labels], atol=1e-10
    )
    np.testing.assert_allclose(
        mixmate.inverse_transform(mixmate.transform(X)), reconstructed, atol=1e-10
    )


@pytest.mark.parametrize("missing", [0.0, 0.2])
def test_energies_are_those_of_eq_5(missing):
    X = data(missing=missing)
    mixmate = small(fit_intercept=True, weights=[0.5, 0.3, 0.2], alpha=0.4).fit(X)
    codes = mixmate.encode(X)
    decoded = np.einsum("nkd,kdm->nkm", codes, mixmate.dictionaries_)
    residual = np.nan_to_num(X[:, None] - decoded - mixmate.intercepts_)
    expected = (
        (mixmate.scale_**2 * residual**2).sum(axis=2)
        + 0.4 * mixmate.scale_ * abs(codes).sum(axis=2)
        - np.log(mixmate.weights_)
    )
    np.testing.assert_allclose(mixmate.energies(X), expected)


def test_energies_of_atoms_with_rates_have_the_volume():
    X = data()
    mixmate = small().fit(X)
    rates = mixmate.rates_
    assert rates.shape == (3, 6)
    codes = mixmate.encode(X)
    decoded = np.einsum("nkd,kdm->nkm", codes, mixmate.dictionaries_)
    squares = ((X[:, None] - decoded - mixmate.intercepts_) ** 2).sum(axis=2)
    penalties = (rates * abs(codes)).sum(axis=2)
    integrals = 2 / rates * np.exp(-(rates**2)) / np.sqrt(np.pi) + erf(rates)
    expected = mixmate.scale_**2 * squares + mixmate.scale_ * penalties
    expected += np.log(integrals).sum(axis=1) - np.log(1 / 3)
    np.testing.assert_allclose(mixmate.energies(X), expected)


@pytest.mark.parametrize(
    "params",
    [
        {"alpha": 0.75},
        {"prior": "group"},
        {"fit_intercept": False},
        {"init": np.random.default_rng(0).normal(size=(3, 6, 16))},
        {"image_shape": (4, 4)},
        {"image_shape": (4, 4), "representation": "pixels"},
    ],
)
def test_one_rate_for_all_atoms(params):
    assert small(**params).fit(data()).rates_ is None


def test_rates_are_those_of_the_start():
    X = np.random.default_rng(0).laplace(size=(4000, 2)) * [3, 0.5]
    mixmate = MixMateClustering(1, max_iter=0, random_state=0).fit(X)
    np.testing.assert_allclose(abs(mixmate.dictionaries_[0]), np.eye(2), atol=0.05)
    np.testing.assert_allclose(
        mixmate.rates_, [[1 / 3 / mixmate.scale_, 2 / mixmate.scale_]], rtol=0.1
    )
    # Of a row that needs no code: a volume, and nothing once there is one rate.
    assert mixmate.energies(mixmate.intercepts_) > 0
    mixmate.set_params(alpha=0.75).fit(X)
    np.testing.assert_allclose(mixmate.energies(mixmate.intercepts_), 0, atol=1e-10)


def test_clusters_that_are_points_are_no_fault_of_the_rates():
    X = np.repeat(10 * np.eye(3), 20, axis=0)
    X += np.random.default_rng(0).normal(scale=0.01, size=X.shape)
    mixmate = MixMateClustering(3, random_state=0).fit(X)
    assert adjusted_rand_score(np.repeat(range(3), 20), mixmate.labels_) == 1


def test_attributes(fitted):
    assert fitted.dictionaries_.shape == (3, 6, 16)
    np.testing.assert_allclose(np.linalg.norm(fitted.dictionaries_, axis=2), 1)
    assert fitted.intercepts_.shape == (3, 16)
    np.testing.assert_allclose(fitted.weights_, 1 / 3)
    assert fitted.labels_.shape == (120,)
    assert fitted.n_iter_ == len(fitted.loss_curve_) == 3
    assert fitted.converged_ is False
    assert fitted.n_features_in_ == 16
    deviations = data() - data().mean(axis=0)
    norm = np.sqrt((deviations**2).sum(axis=1).mean())
    assert fitted.scale_ * norm == pytest.approx(9.2)


def test_code_of_zeros_is_the_mean_of_the_intercepts(fitted):
    nothing = fitted.inverse_transform(np.zeros((1, 18)))
    np.testing.assert_allclose(nothing[0], fitted.weights_ @ fitted.intercepts_)


# --- invariances ---------------------------------------------------------------------


@pytest.mark.parametrize("fit_intercept", [False, True])
@pytest.mark.parametrize("factor", [1e-3, 7.3, 1e3])
def test_units_do_not_matter(factor, fit_intercept):
    X = data(n_nonzero=2)
    expected = small(fit_intercept=fit_intercept).fit_predict(X)
    mixmate = small(fit_intercept=fit_intercept).fit(factor * X)
    np.testing.assert_array_equal(mixmate.labels_, expected)
    reconstructed = small(fit_intercept=fit_intercept).fit(X).reconstruct(X)
    np.testing.assert_allclose(mixmate.reconstruct(factor * X), factor * reconstructed)


@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_units_do_not_matter_where_distances_tie(factor):
    X = load_digits().data  # integers
    expected = small(n_clusters=10).fit_predict(X)
    np.testing.assert_array_equal(
        small(n_clusters=10).fit_predict(factor * X), expected
    )


def test_with_intercepts_the_origin_does_not_matter():
    X = data(n_nonzero=2)
    shifted = small(fit_intercept=True).fit_predict(X + 1e5)
    np.testing.assert_array_equal(small(fit_intercept=True).fit_predict(X), shifted)


def test_row_order_does_not_matter_in_one_batch():
    X = data()
    order = np.random.default_rng(0).permutation(len(X))
    params = {"init": X[:18].reshape(3, 6, 16), "batch_size": 1000, "max_iter": 10}
    mixmate, shuffled = small(**params).fit(X), small(**params).fit(X[order])
    np.testing.assert_array_equal(mixmate.labels_[order], shuffled.labels_)
    np.testing.assert_allclose(mixmate.loss_curve_, shuffled.loss_curve_)


def test_random_state_decides_and_global_states_stay():
    X = data(missing=0.1)
    np.random.seed(3)  # noqa: NPY002
    torch.manual_seed(3)
    numpy_before = np.random.get_state()[1].copy()  # noqa: NPY002
    torch_before = torch.get_rng_state()
    first, second = small(random_state=5).fit(X), small(random_state=5).fit(X)
    small(random_state=None).fit(X)
    np.testing.assert_array_equal(first.dictionaries_, second.dictionaries_)
    assert first.loss_curve_ == second.loss_curve_
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_before)  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), torch_before)
    generator = np.random.RandomState(5)
    third = small(random_state=generator).fit(X)
    np.testing.assert_array_equal(first.dictionaries_, third.dictionaries_)


# --- containers ----------------------------------------------------------------------


METHODS = [
    "predict",
    "predict_proba",
    "energies",
    "score_samples",
    "encode",
    "transform",
    "reconstruct",
]


@settings(deadline=None, max_examples=20)
@given(
    n_samples=st.integers(8, 40),
    n_features=st.integers(1, 9),
    n_atoms=st.integers(0, 4),
    dtype=st.sampled_from([np.float32, np.float64]),
    missing=st.sampled_from([0.0, 0.3]),
    seed=st.integers(0, 9),
)
def test_shapes_and_dtypes(n_samples, n_features, n_atoms, dtype, missing, seed):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_samples, n_features)).astype(dtype)
    X[rng.uniform(size=X.shape) < missing] = np.nan
    X[:2] = rng.normal(size=(2, n_features))
    untouched = X.copy()
    mixmate = MixMateClustering(
        2, n_atoms=n_atoms, max_iter=1, tol=0, init="random", random_state=0
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Clusters|Every code|The codes")
        assert mixmate.fit_predict(X).shape == (n_samples,)
    shapes = {
        "predict": (n_samples,),
        "predict_proba": (n_samples, 2),
        "energies": (n_samples, 2),
        "score_samples": (n_samples,),
        "encode": (n_samples, 2, n_atoms),
        "transform": (n_samples, 2 * n_atoms),
        "reconstruct": (n_samples, n_features),
    }
    for method, shape in shapes.items():
        answer = getattr(mixmate, method)(X)
        assert answer.shape == shape
        assert answer.dtype == (np.int64 if method == "predict" else dtype)
        assert np.isfinite(answer).all()
    assert mixmate.dictionaries_.dtype == mixmate.intercepts_.dtype == dtype
    np.testing.assert_array_equal(X, untouched)


def test_integers_are_taken_as_float64():
    X = np.random.default_rng(0).integers(0, 17, size=(60, 8))
    assert small().fit(X).transform(X).dtype == np.float64


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tensors_in_and_out(dtype):
    X = torch.from_numpy(data()).to(dtype)
    mixmate = small()
    labels = mixmate.fit_predict(X)
    assert isinstance(labels, torch.Tensor)
    same = small().fit(X.numpy())
    np.testing.assert_array_equal(same.dictionaries_, mixmate.dictionaries_)
    for method in METHODS:
        answer = getattr(mixmate, method)(X)
        assert answer.device == X.device
        np.testing.assert_array_equal(answer.numpy(), getattr(same, method)(X.numpy()))
    assert mixmate.inverse_transform(mixmate.transform(X)).dtype == dtype
    assert small().fit(X.requires_grad_()).labels_.shape == (120,)


def test_integer_tensors_are_taken_as_float32():
    X = torch.randint(0, 17, (60, 8), generator=torch.Generator().manual_seed(0))
    assert small().fit(X).transform(X).dtype == torch.float32


def test_frames_in_and_out():
    frame = pd.DataFrame(data(), columns=[f"pixel{i}" for i in range(16)])
    mixmate = small().set_output(transform="pandas").fit(frame)
    codes = mixmate.transform(frame)
    assert list(codes.columns) == list(mixmate.get_feature_names_out())
    assert codes.columns[7] == "cluster1_atom1"
    assert list(mixmate.feature_names_in_) == list(frame.columns)
    with pytest.raises(ValueError, match="feature names"):
        mixmate.predict(frame.rename(columns={"pixel0": "other"}))


def test_fortran_order_and_slices_give_the_same(fitted):
    X = data()
    energies = fitted.energies(X)
    np.testing.assert_array_equal(fitted.energies(np.asfortranarray(X)), energies)
    np.testing.assert_allclose(fitted.energies(X[::-1])[::-1], energies)


@pytest.mark.parametrize(
    "copy",
    [
        lambda estimator: pickle.loads(pickle.dumps(estimator)),
        lambda estimator: joblib.Parallel(n_jobs=2)([joblib.delayed(clone)(estimator)])[
            0
        ].fit(data()),
        lambda estimator: clone(estimator).fit(data()),
    ],
    ids=["pickle", "joblib", "clone"],
)
def test_copies_are_equal(fitted, copy):
    copied = copy(fitted)
    np.testing.assert_array_equal(copied.energies(data()), fitted.energies(data()))


# --- missing data --------------------------------------------------------------------


def test_row_with_nothing_observed_has_the_prior_and_no_influence():
    X = data()
    weights = [0.5, 0.3, 0.2]
    with_empty = np.insert(X, [0, 5, 50], np.nan, axis=0)
    mixmate = small(weights=weights).fit(X)
    same = small(weights=weights).fit(with_empty)
    np.testing.assert_array_equal(mixmate.dictionaries_, same.dictionaries_)
    assert mixmate.loss_ == pytest.approx(same.loss_)
    np.testing.assert_allclose(same.predict_proba(with_empty[:1]), [weights])
    np.testing.assert_allclose(same.transform(with_empty[:1]), 0, atol=1e-4)


def test_only_incomplete_rows_take_the_longer_way(monkeypatch, fitted):
    n_rows = []

    def spy(targets, *args):
        n_rows.append(targets.shape[-1])
        return encode_incomplete(targets, *args)

    monkeypatch.setattr("skmixmate.model.gaussian.encode_incomplete", spy)
    X = data()
    complete = fitted.energies(X)
    X[[3, 50, 51], 2] = np.nan
    mixed = fitted.energies(X)
    assert n_rows == [3]
    unchanged = np.isfinite(X).all(axis=1)
    np.testing.assert_allclose(mixed[unchanged], complete[unchanged])


def test_missing_entries_are_filled():
    bunch = make_sparse_mixture(
        3000, 30, n_atoms=3, missing=0.2, noise=0.02, random_state=0
    )
    complete = np.einsum("nd,ndm->nm", bunch.codes, bunch.dictionaries[bunch.target])
    mixmate = MixMateClustering(
        3, n_atoms=6, max_iter=20, tol=0, learning_rate=5e-3, random_state=0
    )
    filled = mixmate.fit(bunch.data).reconstruct(bunch.data)
    missing = np.isnan(bunch.data)
    error = np.std((filled - complete)[missing]) / np.std(complete[missing])
    assert error < 0.25


def test_means_of_features_are_not_taken_for_the_shape_of_clusters():
    X, y = standardized(load_breast_cancer)
    X[np.random.default_rng(0).random(X.shape) < 0.1] = np.nan  # hardly a row is whole
    labels = MixMateClustering(2, random_state=0).fit_predict(X)
    assert clustering_accuracy_score(y, labels) > 0.9


def test_feature_never_observed():
    X = data()
    X[:, 3] = np.nan
    mixmate = small().fit(X)
    assert np.isfinite(mixmate.reconstruct(X)).all()


# --- data larger than memory ---------------------------------------------------------

WATCHED_FIT = """
import sys, threading
import numpy as np
from skmixmate import MixMateClustering
from skmixmate.data import loader as _rows

_rows._SHUFFLE_WINDOW_BYTES, watched = 2**24, threading.Event()

def own_memory():  # what is resident, less what are pages of files, in MiB
    with open("/proc/self/statm") as statm:
        _, resident, shared, *_ = map(int, statm.read().split())
    return (resident - shared) * 4 / 1024

def watch():
    global peak
    while not watched.wait(0.002):
        peak = max(peak, own_memory())

X = np.load(sys.argv[1], mmap_mode="r")
mixmate = MixMateClustering(
    2, n_atoms=4, init="random", init_size=1000, max_iter=1, tol=0
)
mixmate.fit(X[:1000])
before = peak = own_memory()
thread = threading.Thread(target=watch)
thread.start()
mixmate.fit(X)
watched.set()
thread.join()
print(X.nbytes / 2**20, peak - before)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs /proc")
def test_a_memory_map_is_not_read_into_memory(tmp_path):
    path = tmp_path / "X.npy"
    X = np.lib.format.open_memmap(path, "w+", np.float32, (60_000, 1024))
    rng = np.random.default_rng(0)
    for block in range(0, len(X), 10_000):
        X[block : block + 10_000] = rng.random((10_000, 1024), dtype=np.float32)
    command = [sys.executable, "-c", WATCHED_FIT, str(path)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    data, own = map(float, answer.stdout.split())
    assert data > 230
    assert own < 100, answer.stdout


# --- data that are not in memory -----------------------------------------------------


@pytest.fixture
def small_readings(monkeypatch):
    """Let 50 rows of 16 features be read at a time, and windows be of 64 rows."""
    monkeypatch.setattr(_inference, "_BLOCK_ENTRIES", 1)
    monkeypatch.setattr(_sources, "_CHUNK_ENTRIES", 50 * 16)
    monkeypatch.setattr("skmixmate.data.streams._CHUNK_ENTRIES", 50 * 16)
    monkeypatch.setattr(_sources, "_MAX_GAP", 5 * 16)
    monkeypatch.setattr(_rows, "_CHUNK_ENTRIES", 40 * 16)
    monkeypatch.setattr(_rows, "_SHUFFLE_WINDOW_BYTES", 64 * 16 * 8)
    monkeypatch.setattr(_rows, "_SHUFFLE_CHUNK_BYTES", 1)


def as_loader(X):
    return DataLoader(TensorDataset(torch.from_numpy(X)), 30, shuffle=True)


@pytest.mark.parametrize("kind", [lambda X: File(X, 50), Pairs, as_loader])
@pytest.mark.parametrize(
    ("params", "missing"),
    [
        ({"init": "kmeans"}, 0.0),
        ({"init": "kmeans", "init_size": 40, "weights": "learned"}, 0.2),
        ({"init": "random", "n_init": 3}, 0.1),
        ({"init": "kmeans", "image_shape": (4, 4)}, 0.0),
        ({"init": "kmeans", "image_shape": (4, 4), "n_init": 2}, 0.1),
    ],
)
@pytest.mark.usefixtures("small_readings")
def test_a_fit_does_not_depend_on_where_the_data_lie(kind, params, missing):
    X = data(200, missing=missing)
    X[3] = np.where(missing, np.nan, X[3])
    expected = small(**params).fit(X)
    mixmate = small(**params).fit(kind(X))
    assert_fitted_like(mixmate, expected)
    assert mixmate.loss_ == expected.loss_
    np.testing.assert_array_equal(mixmate.intercepts_, expected.intercepts_)
    np.testing.assert_array_equal(mixmate.predict(kind(X)), expected.labels_)


@pytest.mark.usefixtures("small_readings")
def test_a_fit_holds_no_more_than_a_window_and_a_reading():
    X = data(2000)
    file = File(X, 50)
    small(init="random", init_size=60, n_init=2).fit(file)
    # A window is a copy, and is not counted.
    assert file.most_alive <= 2 * 50
    gc.collect()
    assert file.n_alive == 0


@pytest.mark.usefixtures("small_readings")
@pytest.mark.parametrize("missing", [0.0, 0.1])
@pytest.mark.parametrize("kind", [lambda X: File(X, 50), Pairs, as_loader])
def test_a_stream_may_lie_anywhere(kind, missing, monkeypatch):
    monkeypatch.setattr(_mixmate, "_STREAM_ENTRIES", 45 * 16)
    X = data(300, missing=missing)
    expected = streamed(X, [40, 160, 100])
    mixmate = small(init_size=60)
    for part in np.split(X, [40, 200]):
        mixmate.partial_fit(kind(part))
        if len(part) > 40:
            np.testing.assert_array_equal(mixmate.labels_, mixmate.predict(part))
    assert_same_model(mixmate, expected)
    np.testing.assert_array_equal(mixmate.labels_, expected.labels_)
    np.testing.assert_allclose(mixmate.loss_curve_, expected.loss_curve_)
    assert mixmate.loss_ == expected.loss_


@pytest.mark.usefixtures("small_readings")
def test_a_stream_may_have_an_order_of_its_own():
    X = data(300)
    expected = streamed(X, [300])
    mixmate = small(init_size=60).partial_fit(Stream(list(X)))
    assert_same_model(mixmate, expected)
    assert mixmate.n_samples_seen_ == 300
    assert len(mixmate.labels_) < 300  # of the part that came last


def test_random_access_is_what_a_fit_needs():
    with pytest.raises(TypeError, match=r"Stream without length.*partial_fit"):
        small().fit(Stream(list(data())))


def test_images_in_a_data_set():
    images = torch.from_numpy(load_digits().data[:300]).reshape(-1, 1, 8, 8)
    labels = torch.zeros(300)
    params = {"image_shape": (8, 8), "init": "kmeans", "n_clusters": 5}
    expected = small(**params).fit(images.flatten(1))
    assert expected.representation_ is not None
    assert_fitted_like(small(**params).fit(TensorDataset(images, labels)), expected)


def test_callbacks_and_checkpoints_of_data_that_are_not_in_memory(tmp_path):
    X = data()
    monitor = ScoringMonitor(scoring=lambda mixmate, X, y: mixmate.score(X))
    path = tmp_path / "checkpoint"
    mixmate = small(checkpoint=path).set_callbacks(monitor)
    mixmate.fit(Pairs(X))
    assert_fitted_like(mixmate, small().fit(X))
    assert len(monitor.get_logs().data_as_pandas) == 3 + 1


def test_starts_are_tried_at_the_same_time_on_data_that_are_not_in_memory():
    X = data()
    params = {"n_init": 2, "init": "random"}
    with joblib.parallel_config("threading"):
        mixmate = small(n_jobs=2, **params).fit(Pairs(X))
    assert_fitted_like(mixmate, small(**params).fit(X))


def zarr_array(X, folder):
    zarr = pytest.importorskip("zarr")
    array = zarr.create_array(
        store=folder / "X.zarr", shape=X.shape, dtype=X.dtype, chunks=(70, 9)
    )
    array[:] = X
    return array


def h5py_dataset(X, folder):
    h5py = pytest.importorskip("h5py")
    folder.mkdir(exist_ok=True)
    file = h5py.File(folder / "X.h5", "w")
    return file.create_dataset("X", data=X, chunks=(70, 9), compression="gzip")


@pytest.mark.parametrize("kind", [zarr_array, h5py_dataset])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16])
@pytest.mark.usefixtures("small_readings")
def test_arrays_in_files(kind, dtype, tmp_path):
    X = (100 * data(200)).astype(dtype)
    stored = kind(X, tmp_path)
    expected = small(n_init=2, init="random").fit(X)
    mixmate = small(n_init=2, init="random").fit(stored)
    assert_fitted_like(mixmate, expected)
    out = kind(np.zeros_like(expected.transform(X)), tmp_path / "out")
    assert mixmate.transform(stored, out=out) is out
    np.testing.assert_array_equal(out[:], expected.transform(X))


def test_few_numbers_are_kept_for_each_row():
    X = np.random.default_rng(0).random((60_000, 64), dtype=np.float32)
    mixmate = small(init="random", n_atoms=2, n_layers=2, max_iter=1, batch_size=4096)
    peaks = []
    for n_rows in (20_000, 60_000):
        tracemalloc.start()
        mixmate.fit(X[:n_rows])
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    label, loss, code_density, n_missing = 8, 4, 4, 1
    assert (peaks[1] - peaks[0]) / 40_000 < 1.2 * (
        label + loss + code_density + n_missing
    )


# --- recovery ------------------------------------------------------------------------


def recovered_atoms(mixmate, bunch):
    """Cosine of every true atom with the learned one it is matched with."""
    pairs = np.abs(
        np.einsum("kdm,lem->klde", mixmate.dictionaries_, bunch.dictionaries)
    )
    matched = np.zeros(pairs.shape[:2])
    for k, row in enumerate(pairs):
        for j, cosines in enumerate(row):
            matched[k, j] = cosines[linear_sum_assignment(-cosines)].mean()
    return np.concatenate(
        [
            pairs[k, j][linear_sum_assignment(-pairs[k, j])]
            for k, j in zip(*linear_sum_assignment(-matched), strict=True)
        ]
    )


@pytest.mark.parametrize("missing", [0.0, 0.2])
def test_clusters_and_atoms_of_the_model_are_recovered(missing):
    bunch = make_sparse_mixture(
        3000, n_atoms=6, n_nonzero=3, alpha=0.4, missing=missing, random_state=1
    )
    mixmate = MixMateClustering(
        3, n_atoms=6, learning_rate=5e-3, fit_intercept=False, tol=0, random_state=0
    ).fit(bunch.data)
    assert adjusted_rand_score(bunch.target, mixmate.labels_) > 0.95
    assert recovered_atoms(mixmate, bunch).min() > 0.97


def test_learned_weights_are_the_sizes_of_the_clusters():
    sizes = [0.7, 0.2, 0.1]
    bunch = make_sparse_mixture(3000, weights=sizes, random_state=0)
    mixmate = MixMateClustering(
        3, n_atoms=8, weights="learned", max_iter=10, tol=0, random_state=0
    ).fit(bunch.data)
    assert adjusted_rand_score(bunch.target, mixmate.labels_) > 0.95
    np.testing.assert_allclose(np.sort(mixmate.weights_)[::-1], sizes, atol=0.02)
    assert mixmate.weights_.sum() == pytest.approx(1)


def test_without_atoms_it_is_kmeans():
    X = load_digits().data
    start = KMeans(10, init=X[:10], n_init=1, max_iter=2)
    labels = clone(start).fit_predict(X)
    centers = np.stack([X[labels == k].mean(axis=0) for k in range(10)])
    kmeans = KMeans(10, init=centers, n_init=1, tol=0).fit(X)
    assert kmeans.n_iter_ > 3
    # A large scale makes the posterior one-hot, as that of k-means is.
    mixmate = MixMateClustering(
        10, n_atoms=0, scale=1e3, batch_size=5000, max_iter=100, tol=0, init=start
    ).fit(X)
    np.testing.assert_array_equal(mixmate.labels_, kmeans.labels_)
    np.testing.assert_allclose(mixmate.intercepts_, kmeans.cluster_centers_, atol=1e-10)


@pytest.mark.parametrize(
    ("load", "n_clusters"),
    [(load_wine, 3), (load_breast_cancer, 2), (load_iris, 3), (load_digits, 10)],
)
@pytest.mark.filterwarnings("ignore:The loss was still falling")
def test_training_keeps_what_the_initial_clustering_found(load, n_clusters):
    X, y = load(return_X_y=True)
    if load is not load_digits:
        X = StandardScaler().fit_transform(X)
    scores = []
    for seed in range(3):
        initial = SpectralGraphClustering(n_clusters, random_state=seed)
        mixmate = MixMateClustering(n_clusters, random_state=seed)
        kmeans = KMeans(n_clusters, n_init=10, random_state=seed)
        scores.append([nmi(y, e.fit_predict(X)) for e in (initial, mixmate, kmeans)])
    initial, trained, kmeans = np.mean(scores, axis=0)
    assert trained > initial - 0.03
    if load is load_digits:
        assert trained > kmeans + 0.1


def stretched(seed):
    """Draw blobs, all stretched and turned in the same way."""
    X, y = make_blobs(600, 2, centers=3, random_state=seed)
    return X @ np.array([[0.6, -0.6], [-0.4, 0.8]]), y


def standardized(load):
    X, y = load(return_X_y=True)
    return StandardScaler().fit_transform(X), y


@pytest.mark.parametrize(
    ("drawn", "n_clusters", "floor"),
    [
        (standardized(load_iris), 3, 0.95),  # with one rate for all atoms .82
        (standardized(load_wine), 3, 0.96),  # .95
        (stretched(170), 3, 0.99),  # .93
        (make_blobs(600, cluster_std=[1, 2.5, 0.5], random_state=170), 3, 0.97),  # .94
    ],
    ids=["iris", "wine", "stretched", "sizes"],
)
def test_clusters_of_any_shape_and_size(drawn, n_clusters, floor):
    X, y = drawn
    mixmate = MixMateClustering(n_clusters, random_state=0).fit(X)
    assert clustering_accuracy_score(y, mixmate.labels_) > floor
    with_holes = np.where(np.random.default_rng(0).random(X.shape) < 0.1, np.nan, X)
    assert clustering_accuracy_score(y, mixmate.predict(with_holes)) > floor - 0.1


# --- noise and density ---------------------------------------------------------------


def drawn(n_samples, n_features=16, **params):
    """Samples of the model, in its own units."""
    settings = {"n_clusters": 4, "n_atoms": 3, "alpha": 0.4, "noise": 0.3}
    settings |= {"random_state": 0, **params}
    return make_sparse_mixture(n_samples, n_features, **settings)


def fit_in_own_units(X, **params):
    settings = {"n_clusters": 4, "n_atoms": 3, "alpha": 0.4, "scale": 1.0}
    settings |= {"fit_intercept": False, "noise_variance": "auto", "max_iter": 15}
    settings |= {"learning_rate": 1e-2, "batch_size": 64, **params}
    return small(**settings).fit(X)


def calibration_error(probabilities, y, n_bins=10):
    """Expected difference between how likely a cluster is said to be, and how often
    it is the right one."""
    n_clusters = probabilities.shape[1]
    found = probabilities.argmax(axis=1)
    table = np.zeros((n_clusters, n_clusters))
    np.add.at(table, (found, y), 1)
    _, classes = linear_sum_assignment(-table)
    is_right = classes[found] == y
    confidence = probabilities.max(axis=1)
    bins = (confidence * n_bins).astype(int).clip(max=n_bins - 1)
    return sum(
        np.mean(bins == b)
        * abs(confidence[bins == b].mean() - is_right[bins == b].mean())
        for b in np.unique(bins)
    )


@pytest.mark.filterwarnings("ignore:The codes are nearly full")
def test_noise_that_is_learned_makes_probabilities_calibrated():
    bunch = drawn(3000, n_features=8, n_atoms=2, n_clusters=3)
    X, new, y = bunch.data[:1500], bunch.data[1500:], bunch.target[1500:]

    def error(noise_variance):
        mixmate = fit_in_own_units(
            X, n_atoms=2, n_clusters=3, noise_variance=noise_variance
        )
        return calibration_error(mixmate.predict_proba(new), y)

    assert error("auto") < 0.02  # 0.09 is right
    assert error(0.5) > 0.03  # too soft
    assert error(0.01) > 0.03  # too hard


def test_noise_of_the_data_is_learned():
    mixmate = fit_in_own_units(drawn(1000).data)
    assert mixmate.noise_variance_ == pytest.approx(0.3**2, rel=0.1)
    assert mixmate.scale_ == 1


def test_density_of_new_samples_prefers_the_number_of_clusters_they_were_drawn_from():
    scores = np.empty((2, 4))
    for seed, row in enumerate(scores):
        X = drawn(1200, random_state=seed).data
        for i, n_clusters in enumerate((2, 3, 4, 5)):
            row[i] = fit_in_own_units(X[:600], n_clusters=n_clusters).score(X[600:])
    assert scores.mean(axis=0).argmax() == 2


def test_density_of_new_samples_prefers_the_number_of_atoms_they_were_drawn_from():
    X = drawn(1200).data
    scores = [
        fit_in_own_units(X[:600], n_atoms=n_atoms).score(X[600:])
        for n_atoms in (1, 3, 6)
    ]
    assert np.argmax(scores) == 1


@pytest.mark.parametrize("missing", [0.0, 0.2])
@pytest.mark.parametrize("noise_variance", [0.5, "auto"])
def test_density_has_the_units_of_the_data(noise_variance, missing):
    X = data(n_nonzero=2, missing=missing)
    params = {"noise_variance": noise_variance}
    densities = small(**params).fit(X).score_samples(X)
    in_other_units = small(**params).fit(100 * X).score_samples(100 * X)
    n_observed = np.isfinite(X).sum(axis=1)
    expected = densities - n_observed * np.log(100)
    np.testing.assert_allclose(in_other_units, expected, rtol=1e-6)


def test_density_integrates_to_nearly_one():
    X = data()[:, :2]
    mixmate = small(n_atoms=2, noise_variance="auto").fit(X)
    axis = np.linspace(-30, 30, 301)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    total = np.exp(mixmate.score_samples(grid)).sum() * (axis[1] - axis[0]) ** 2
    assert 0.85 < total < 1


def test_default_noise_is_that_of_the_paper():
    X = data(missing=0.1)
    default, given = small().fit(X), small(noise_variance=0.5).fit(X)
    assert_fitted_like(given, default)
    assert default.noise_variance_ == 0.5


def test_noise_is_a_matter_of_scale_and_rate():
    # y / s with the noise 1 / 2 is y with s^2 / 2, where codes are s times as long.
    X = data(missing=0.1)
    init = X[:18].reshape(3, 6, 16).copy()
    init[np.isnan(init)] = 0
    params = {"init": init, "batch_size": 120}
    mixmate = small(scale=1.0, noise_variance=2.0, alpha=0.5, **params).fit(X)
    expected = small(scale=0.5, noise_variance=0.5, alpha=1.0, **params).fit(X)
    np.testing.assert_allclose(mixmate.dictionaries_, expected.dictionaries_, atol=1e-8)
    np.testing.assert_allclose(mixmate.predict_proba(X), expected.predict_proba(X))
    np.testing.assert_allclose(mixmate.score_samples(X), expected.score_samples(X))


def test_noise_that_was_learned_is_where_a_further_fit_starts():
    X = data()
    params = {"noise_variance": "auto", "alpha": 0.2, "learning_rate": 1e-2}
    mixmate = small(warm_start=True, max_iter=20, **params).fit(X)
    before = mixmate.noise_variance_
    assert before < 0.3
    assert mixmate.set_params(max_iter=1).fit(X).noise_variance_ < 1.2 * before
    mixmate.partial_fit(X)
    assert mixmate.noise_variance_ < 1.2 * before
    assert mixmate.set_params(noise_variance=0.7).fit(X).noise_variance_ == 0.7


@pytest.mark.parametrize("fit_intercept", [False, True])
def test_samples_of_the_model_are_clustered_as_they_were_drawn(fit_intercept):
    X = drawn(2000).data + 5 * fit_intercept
    params = {"fit_intercept": fit_intercept, "weights": [0.4, 0.3, 0.2, 0.1]}
    mixmate = fit_in_own_units(X, **params)
    again, labels = mixmate.sample(2000, random_state=0)
    assert again.shape == X.shape
    assert adjusted_rand_score(labels, mixmate.predict(again)) > 0.95
    np.testing.assert_allclose(
        np.bincount(labels) / len(labels), mixmate.weights_, atol=0.03
    )
    # As likely as what it was fitted to.
    assert mixmate.score(again) == pytest.approx(mixmate.score(X), abs=0.5)
    same, _ = mixmate.sample(2000, random_state=0)
    np.testing.assert_array_equal(same, again)
    assert not np.array_equal(mixmate.sample(2000)[0], again)


def test_samples_have_the_units_of_the_data():
    X = data()
    first, _ = small().fit(X).sample(3, random_state=0)
    second, _ = small().fit(1000 * X).sample(3, random_state=0)
    np.testing.assert_allclose(second, 1000 * first)
    assert small().fit(X.astype(np.float32)).sample()[0].dtype == np.float32


def test_images_are_drawn_where_pixels_are_modelled():
    X = load_digits().data
    params = {"n_clusters": 10, "image_shape": (8, 8), "init": "kmeans", "max_iter": 1}
    on_pixels = small(representation="pixels", **params).fit(X)
    images, labels = on_pixels.sample(500, random_state=0)
    assert images.shape == (500, 64)
    assert nmi(labels, on_pixels.predict(images)) > 0.5
    with pytest.raises(ValueError, match=r"representation='auto'.*should be 'pixels'"):
        small(**params).fit(X).sample(3)


@pytest.mark.parametrize("n_samples", [0, 2.5])
def test_bad_number_of_samples(n_samples, fitted):
    with pytest.raises(ValueError, match=rf"n_samples={n_samples} should be an int"):
        fitted.sample(n_samples)


def test_information_criteria_find_the_number_of_clusters():
    X = drawn(1200).data
    fits = [fit_in_own_units(X, n_clusters=n) for n in (3, 4, 5)]
    assert np.argmin([fit.bic(X) for fit in fits]) == 1
    assert np.argmin([fit.aic(X) for fit in fits]) == 1
    n_free = (fits[1].bic(X) - fits[1].aic(X)) / (np.log(1200) - 2)
    assert n_free == pytest.approx(4 * 3 * 15 + 1)  # angles of atoms, and the noise
    params = {"fit_intercept": True, "weights": "learned", "noise_variance": 0.5}
    other = fit_in_own_units(X, max_iter=1, **params)
    n_free = (other.bic(X) - other.aic(X)) / (np.log(1200) - 2)
    assert n_free == pytest.approx(4 * 3 * 15 + 4 * 16 + 3)


# --- starts --------------------------------------------------------------------------


@pytest.mark.parametrize("init", ["auto", "spectral", "ssc", "kmeans", "random"])
def test_named_starts(init):
    assert small(init=init, init_size=60).fit(data()).labels_.shape == (120,)


def test_clusterer_as_a_start():
    init = make_pipeline(StandardScaler(), KMeans(3, n_init=2))
    first, second = (small(init=init).fit(data()) for _ in range(2))
    np.testing.assert_array_equal(first.dictionaries_, second.dictionaries_)


def test_max_iter_0_leaves_the_model_as_initialised():
    init = np.random.default_rng(0).normal(size=(3, 6, 16))
    mixmate = small(init=init, max_iter=0, fit_intercept=False).fit(data())
    cosines = np.einsum("kdm,kem->kde", mixmate.dictionaries_, init)
    cosines /= np.linalg.norm(init, axis=2)[:, None]
    np.testing.assert_allclose(np.sort(cosines.max(axis=2)), 1)
    assert mixmate.n_iter_ == 0
    assert mixmate.loss_curve_ == []
    assert not mixmate.intercepts_.any()


@pytest.mark.parametrize("fit_intercept", [False, True])
def test_best_of_several_starts_goes_on(fit_intercept):
    X = data(1000, n_nonzero=2)
    params = {"fit_intercept": fit_intercept, "init": "random", "max_iter": 20}
    losses = [small(random_state=s, **params).fit(X).loss_ for s in range(6)]
    best = small(n_init=6, **params).fit(X)
    assert best.loss_ < np.median(losses)
    parallel = small(n_init=6, n_jobs=2, **params).fit(X)
    np.testing.assert_array_equal(parallel.labels_, best.labels_)
    np.testing.assert_allclose(parallel.dictionaries_, best.dictionaries_)


def test_the_best_start_is_trained_from_its_beginning():
    X = data()
    params = {"n_init": 3, "init": "random", "fit_intercept": False, "n_atoms": 4}
    untrained = small(max_iter=0, **params).fit(X)
    rows = X / np.linalg.norm(X, axis=1, keepdims=True)
    cosines = untrained.dictionaries_ @ rows.T
    np.testing.assert_allclose(cosines.max(axis=2), 1)  # each atom is a sample
    trained = small(max_iter=1, **params).fit(X)
    assert not np.allclose(trained.dictionaries_, untrained.dictionaries_)
    assert trained.loss_ < untrained.loss_


def test_array_is_one_start():
    init = data()[:18].reshape(3, 6, 16)
    once, thrice = (small(init=init, n_init=n).fit(data()) for n in (1, 3))
    np.testing.assert_array_equal(once.dictionaries_, thrice.dictionaries_)


def test_warm_start_goes_on():
    X = data()
    mixmate = small(warm_start=True, batch_size=1000).fit(X)
    before = mixmate.loss_curve_[-1]
    mixmate.fit(X)
    assert mixmate.loss_curve_[0] < before
    cold = small().fit(X).fit(X)
    np.testing.assert_array_equal(cold.dictionaries_, small().fit(X).dictionaries_)


# --- streams -------------------------------------------------------------------------


def streamed(X, sizes, **params):
    """Fit to parts of these sizes, one after the other."""
    mixmate = small(**{"init_size": 60, **params})
    for part in np.split(X, np.cumsum(sizes)[:-1]):
        mixmate.partial_fit(part)
    return mixmate


def assert_same_model(mixmate, expected):
    parts = ("dictionaries_", "intercepts_", "weights_", "noise_variance_")
    for name in (*parts, "scale_", "n_steps_"):
        np.testing.assert_array_equal(getattr(mixmate, name), getattr(expected, name))


@settings(deadline=None, max_examples=20)
@given(
    sizes=st.lists(st.integers(1, 90), min_size=1, max_size=9).filter(
        lambda sizes: sum(sizes) >= 60
    ),
    init_size=st.integers(20, 60),
    missing=st.sampled_from([0.0, 0.1]),
    weights=st.sampled_from(["uniform", "learned"]),
    noise_variance=st.sampled_from([0.5, "auto"]),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_it_does_not_matter_how_a_stream_is_parted(
    sizes, init_size, missing, weights, noise_variance, dtype
):
    X = data(sum(sizes), missing=missing).astype(dtype)
    params = {"init": "random", "init_size": init_size, "weights": weights}
    params["noise_variance"] = noise_variance
    whole = streamed(X, [len(X)], **params)
    parted = streamed(X, sizes, **params)
    assert_same_model(parted, whole)
    assert parted.n_samples_seen_ == len(X)
    assert parted.n_steps_ == len(X) // 32
    assert parted.dictionaries_.dtype == dtype


def test_it_does_not_matter_how_a_stream_of_images_is_parted():
    X = load_digits().data[:200]
    params = {"image_shape": (8, 8), "init": "kmeans"}
    whole = streamed(X, [200], **params)
    assert_same_model(streamed(X, [50, 70, 1, 79], **params), whole)
    assert whole.representation_ is not None
    assert whole.reconstruct(X).shape == X.shape


def test_a_stream_learns_what_a_fit_learns():
    X, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(X))
    X, y = X[order], y[order]
    fitted = small(n_clusters=10, init_size=900).fit(X)
    mixmate = small(n_clusters=10, init_size=900).partial_fit(X[:900])
    scores = []
    for _ in range(3):
        for part in np.array_split(X, 9):
            labels = mixmate.partial_fit(part).labels_
            np.testing.assert_array_equal(labels, mixmate.predict(part))
        scores.append(mixmate.score(X))
    assert scores[0] < scores[1] < scores[2]
    assert nmi(y, mixmate.predict(X)) > nmi(y, fitted.labels_) - 0.05
    assert len(mixmate.loss_curve_) == mixmate.n_iter_ == 1 + 27


def test_rows_are_waited_for():
    X = data()
    mixmate = small(init_size=100).partial_fit(X[:40]).partial_fit(X[40:70])
    message = r"seen 70 rows.*init_size=100.*smaller init_size"
    for method in [*METHODS, "inverse_transform"]:
        with pytest.raises(NotFittedError, match=message):
            getattr(mixmate, method)(X)
    assert mixmate.n_samples_seen_ == 70
    assert mixmate.n_steps_ == 0
    mixmate.set_params(init_size=64).partial_fit(X[70:71])
    assert mixmate.n_steps_ == 2  # of 32 rows each
    assert mixmate.labels_.shape == (1,)
    mixmate.partial_fit(X[71:72])
    assert mixmate.n_steps_ == 2
    assert mixmate.n_samples_seen_ == 72


def test_fit_starts_anew_after_a_stream_and_a_stream_goes_on_after_fit():
    X = data()
    mixmate = streamed(X, [70, 50]).fit(X)
    assert_fitted_like(mixmate, small(init_size=60).fit(X))
    assert not hasattr(mixmate, "n_samples_seen_")
    before = mixmate.score(X)
    mixmate.partial_fit(X)
    assert mixmate.score(X) > before
    assert mixmate.n_steps_ == 3
    assert mixmate.n_iter_ == 3 + 1
    waiting = small(init_size=200).partial_fit(X).fit(X)
    assert_fitted_like(waiting, small(init_size=200).fit(X))


def assert_fitted_like(mixmate, expected):
    np.testing.assert_array_equal(mixmate.dictionaries_, expected.dictionaries_)
    np.testing.assert_array_equal(mixmate.labels_, expected.labels_)
    assert mixmate.loss_curve_ == expected.loss_curve_


def test_a_warm_start_goes_on_from_a_stream():
    X = data()
    mixmate = streamed(X, [120], warm_start=True, fit_intercept=False, batch_size=120)
    before = mixmate.loss_curve_[-1]
    assert mixmate.fit(X).loss_curve_[0] < before


@pytest.mark.parametrize("n_rows", [40, 70])  # some wait; some were trained on
def test_a_pickled_stream_goes_on(n_rows):
    X = data()
    mixmate = streamed(X[:n_rows], [n_rows])
    copied = pickle.loads(pickle.dumps(mixmate))
    for _ in range(2):
        assert_same_model(copied.partial_fit(X), mixmate.partial_fit(X))
    with pytest.raises(NotFittedError):
        clone(mixmate).predict(X)


def test_a_stream_of_tensors_and_of_other_dtypes():
    X = data()
    expected = streamed(X, [70, 50])
    mixmate = small(init_size=60).partial_fit(torch.from_numpy(X[:70]))
    assert_same_model(mixmate.partial_fit(X[70:]), expected)
    single = X.astype(np.float32)
    mixmate = small(init_size=60).partial_fit(single[:70]).partial_fit(X[70:])
    assert mixmate.dictionaries_.dtype == np.float32
    assert_same_model(mixmate, streamed(single, [70, 50]))


def test_rows_of_a_stream_may_be_overwritten():
    X = data()
    mixmate, part = small(init_size=60), np.empty((40, 16))
    for start in (0, 40, 80):
        part[:] = X[start : start + 40]
        mixmate.partial_fit(part)
    assert_same_model(mixmate, streamed(X, [120]))


def test_rows_with_nothing_observed_are_no_part_of_a_stream():
    X = data()
    with_empty = np.insert(X, [0, 5, 50], np.nan, axis=0)
    mixmate = streamed(with_empty, [40, 83])
    assert_same_model(mixmate, streamed(X, [120]))
    assert mixmate.n_samples_seen_ == 123
    assert np.isnan(mixmate.partial_fit(with_empty[:1]).loss_)


def test_what_a_stream_cannot_go_on_with():
    X = data()
    mixmate = streamed(X, [120])
    with pytest.raises(ValueError, match=r"X has 15 features.*expecting 16"):
        mixmate.partial_fit(X[:, :15])
    with pytest.raises(ValueError, match=r"partial_fit.*\(3, 6, 16\).*\(3, 9, 16\)"):
        mixmate.set_params(n_atoms=9).partial_fit(X)
    with pytest.raises(ValueError, match=r"fit_intercept=False should be True"):
        mixmate.set_params(n_atoms=6, fit_intercept=False).partial_fit(X)
    with pytest.raises(ValueError, match=r"init_size=2 should be >= n_clusters=3"):
        small(init_size=2).partial_fit(X)
    with pytest.raises(ValueError, match=r"X has 15 features.*expecting 16"):
        small(init_size=200).partial_fit(X).partial_fit(X[:, :15])


@pytest.mark.parametrize("representation", ["auto", "scattering"])
def test_missing_pixels_in_a_stream_of_scattering_coefficients(representation):
    X = load_digits().data[:100]
    mixmate = streamed(X, [100], image_shape=(8, 8), representation=representation)
    X[0, 0] = np.nan
    with pytest.raises(ValueError, match=r"NaN.*'scattering'"):
        mixmate.partial_fit(X)


def test_names_of_features_in_a_stream():
    frame = pd.DataFrame(data(), columns=[f"pixel{i}" for i in range(16)])
    mixmate = small(init_size=200).partial_fit(frame)
    with pytest.raises(ValueError, match="feature names"):
        mixmate.partial_fit(frame.rename(columns={"pixel0": "other"}))


def test_callbacks_see_the_parts_of_a_stream(capsys):
    bunch = make_sparse_mixture(120, 16, n_atoms=4, random_state=0)
    monitor = ScoringMonitor(scoring="adjusted_rand_score")
    mixmate = small(init_size=60).set_callbacks(monitor, ProgressBar())
    for part in (slice(0, 50), slice(50, 100), slice(100, 120)):
        mixmate.partial_fit(bunch.data[part], bunch.target[part])
    assert "MixMateClustering - partial_fit" in capsys.readouterr().out
    log = monitor.get_logs().data_as_pandas
    expected = adjusted_rand_score(bunch.target[part], mixmate.labels_)
    assert log.adjusted_rand_score.iloc[-1] == pytest.approx(expected)


# --- images --------------------------------------------------------------------------


def fit_digits(**params):
    X, y = load_digits(return_X_y=True)
    mixmate = small(n_clusters=10, image_shape=(8, 8), **params).fit(X)
    return X, y, mixmate


def test_images_on_pixels():
    X, y, mixmate = fit_digits(n_atoms=20, representation="pixels")
    assert nmi(y, mixmate.labels_) > 0.8
    assert not mixmate.intercepts_.any()
    assert mixmate.representation_ is None
    assert mixmate.reconstruct(X).shape == X.shape


def blobs_with_noise(n_samples, random_state):
    """Sums of two of six round blobs, with noise; and without."""
    places = np.random.default_rng(0).uniform(2, 10, size=(6, 2))
    rows, columns = np.mgrid[:12, :12]
    atoms = [
        np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 8)
        for row, column in places
    ]
    atoms = np.stack(atoms).reshape(6, 144)
    atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
    rng = np.random.default_rng(random_state)
    codes = 3 * rng.laplace(size=(n_samples, 6))
    codes[rng.uniform(size=codes.shape).argsort(axis=1) >= 2] = 0
    clean = codes @ atoms
    return clean + 0.5 * rng.standard_normal(clean.shape), clean, atoms


def fit_blobs(X, dictionary_penalty):
    return MixMateClustering(
        1,
        n_atoms=6,
        image_shape=(12, 12),
        representation="pixels",
        dictionary_penalty=dictionary_penalty,
        learning_rate=1e-2,
        batch_size=64,
        tol=0,
        random_state=0,
    ).fit(X)


@pytest.mark.parametrize("missing", [0.0, 0.2])
def test_smooth_atoms_of_noisy_images(missing):
    X, _, atoms = blobs_with_noise(200, random_state=1)
    noisy, clean, _ = blobs_with_noise(400, random_state=2)
    for images, seed in ((X, 3), (noisy, 4)):
        rng = np.random.default_rng(seed)
        images[rng.uniform(size=images.shape) < missing] = np.nan
    rough, smooth = fit_blobs(X, 0.0), fit_blobs(X, 3.0)

    def roughness(mixmate):
        images = mixmate.dictionaries_.reshape(6, 12, 12)
        return sum((np.diff(images, axis=axis) ** 2).sum() for axis in (1, 2)) / 6

    def error(mixmate):
        return np.mean((mixmate.reconstruct(noisy) - clean) ** 2)

    def recovered(mixmate):
        cosines = abs(mixmate.dictionaries_[0] @ atoms.T)
        return cosines[linear_sum_assignment(-cosines)]

    assert roughness(smooth) < 0.8 * roughness(rough)
    assert error(smooth) < 0.8 * error(rough)
    assert recovered(smooth).min() > 0.9 > recovered(rough).min()
    losses = smooth.energies(X).mean()  # of one cluster
    assert smooth.loss_ == pytest.approx(losses + 3 * roughness(smooth))


def test_penalty_of_atoms_in_a_stream_and_a_clone():
    X, _, _ = blobs_with_noise(200, random_state=1)
    params = {
        "image_shape": (12, 12),
        "representation": "pixels",
        "dictionary_penalty": 5.0,
        "init": "random",
    }
    whole = streamed(X, [200], **params)
    assert_same_model(streamed(X, [70, 130], **params), whole)
    without = streamed(X, [200], **{**params, "dictionary_penalty": 0.0})
    assert abs(whole.dictionaries_ - without.dictionaries_).max() > 1e-4
    assert whole.loss_ > without.loss_
    assert clone(whole).dictionary_penalty == 5.0


def test_penalty_of_atoms_is_not_for_scattering_coefficients():
    X = load_digits().data[:100]
    mixmate = small(image_shape=(8, 8), dictionary_penalty=1.0)
    with pytest.raises(ValueError, match=r"dictionary_penalty=1.0.*should be 'pixels'"):
        mixmate.fit(X)
    mixmate = small(image_shape=(8, 8), warm_start=True, init="kmeans").fit(X)
    mixmate.set_params(dictionary_penalty=1.0, representation="pixels")
    with pytest.raises(ValueError, match="should be 'pixels' from the first"):
        mixmate.fit(X)


@pytest.mark.parametrize(
    ("params", "n_atoms"),
    [
        ({}, 50),
        ({"image_shape": (8, 8)}, 50),
        ({"image_shape": (8, 8), "representation": "pixels"}, 7),  # 64 // 9
    ],
)
def test_default_number_of_atoms(params, n_atoms):
    mixmate = small(n_atoms="auto", max_iter=0, **params)
    assert mixmate.fit(load_digits().data[:400]).dictionaries_.shape[1] == n_atoms


def test_no_more_atoms_than_plain_features():
    mixmate = small(n_atoms="auto", max_iter=0).fit(data())
    assert mixmate.dictionaries_.shape == (3, 16, 16)


def test_number_of_atoms_follows_what_is_given():
    X = load_digits().data[:400]
    mixmate = small(n_atoms="auto", init=X[:12].reshape(3, 4, 64), warm_start=True)
    for _ in range(2):  # of the array, and of the fit before
        assert mixmate.fit(X).dictionaries_.shape == (3, 4, 64)


def test_images_without_atoms_have_intercepts():
    _, y, mixmate = fit_digits(n_atoms=0, representation="pixels")
    assert nmi(y, mixmate.labels_) > 0.7
    assert mixmate.intercepts_.any()


def test_images_on_scattering_coefficients():
    X, y, mixmate = fit_digits(n_atoms=20)  # what complete images get by default
    assert nmi(y, mixmate.labels_) > 0.85
    np.testing.assert_array_equal(mixmate.predict(X), mixmate.labels_)
    n_components = mixmate.representation_.components_.shape[0]
    assert mixmate.dictionaries_.shape == (10, 20, n_components)
    assert mixmate.intercepts_.any()
    reconstructed = mixmate.reconstruct(X)
    error = np.std(reconstructed - X) / np.std(X - X.mean(axis=0))
    assert error < 0.5
    codes = mixmate.transform(X)
    np.testing.assert_allclose(mixmate.inverse_transform(codes), reconstructed)
    copied = pickle.loads(pickle.dumps(mixmate))
    np.testing.assert_array_equal(copied.predict(X), mixmate.labels_)


def test_images_on_scattering_coefficients_as_tensors():
    X = torch.from_numpy(load_digits().data[:200]).float()
    mixmate = small(image_shape=(8, 8), representation="scattering")
    labels = mixmate.fit_predict(X)
    assert torch.equal(labels, mixmate.predict(X))
    assert mixmate.reconstruct(X).dtype == torch.float32


@pytest.mark.parametrize("representation", ["pixels", "scattering"])
def test_warm_start_and_array_start_on_images(representation):
    X = load_digits().data[:200]
    params = {"image_shape": (8, 8), "representation": representation}
    mixmate = small(init=X[:18].reshape(3, 6, 64), warm_start=True, **params).fit(X)
    before = mixmate.loss_
    assert mixmate.fit(X).loss_ < before
    with pytest.raises(ValueError, match=r"\(3, 6, 64\).*\(3, 6, 16\)"):
        mixmate.set_params(image_shape=(4, 4)).fit(data())


def test_missing_pixels_on_scattering_coefficients():
    X = load_digits().data[:200]
    X[0, 0] = np.nan
    mixmate = small(image_shape=(8, 8), representation="scattering")
    with pytest.raises(ValueError, match=r"(?s)NaN.*'scattering'.*Fill missing pixels"):
        mixmate.fit(X)
    mixmate.fit(X[1:])
    with pytest.raises(ValueError, match=r"NaN"):
        mixmate.predict(X)
    # By default too, where a fit goes on from one without missing pixels.
    mixmate = small(image_shape=(8, 8), warm_start=True).fit(X[1:])
    with pytest.raises(ValueError, match=r"NaN.*'scattering'"):
        mixmate.fit(X)


@pytest.mark.parametrize("share", [0.5, 1.0])  # of the images that miss pixels
def test_missing_pixels_at_the_start(share):
    X, y = load_digits(return_X_y=True)
    rng = np.random.default_rng(0)
    incomplete = rng.uniform(size=(len(X), 1)) < share
    X[incomplete & (rng.uniform(size=X.shape) < 0.1)] = np.nan
    mixmate = small(n_clusters=10, n_atoms=20, image_shape=(8, 8)).fit(X)
    assert mixmate.representation_ is None
    assert nmi(y, mixmate.labels_) > 0.75


# --- Pipelines, searches, callbacks --------------------------------------------------


def test_pipeline_and_grid_search():
    X, y = load_digits(return_X_y=True)
    X, y = X[:300], y[:300]
    pipeline = make_pipeline(StandardScaler(), small(n_clusters=10, max_iter=1))
    grid = {
        "mixmateclustering__alpha": [0.5, 1.0],
        "mixmateclustering__n_atoms": [4, 8],
    }
    search = GridSearchCV(
        pipeline,
        grid,
        cv=2,
        scoring="normalized_mutual_info_score",
        error_score="raise",
    ).fit(X, y)
    assert search.best_score_ > 0.5
    search = GridSearchCV(small(), {"alpha": [0.5, 1.0]}).fit(data())
    assert np.isfinite(search.best_score_)


def test_scoring_monitor_follows_the_epochs():
    bunch = make_sparse_mixture(120, 16, n_atoms=4, random_state=0)
    monitor = ScoringMonitor(scoring="adjusted_rand_score")
    mixmate = small().set_callbacks(monitor).fit(bunch.data, bunch.target)
    log = monitor.get_logs().data_as_pandas
    epochs = log[log.task_name == "epoch"].adjusted_rand_score.tolist()
    assert len(epochs) == 3
    expected = adjusted_rand_score(bunch.target, mixmate.labels_)
    assert epochs[-1] == pytest.approx(expected)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_progress_bar(capsys, n_jobs):
    mixmate = small(n_init=3, n_jobs=n_jobs, init="kmeans")
    mixmate.set_callbacks(ProgressBar()).fit(data())
    lines = capsys.readouterr().out
    assert "MixMateClustering - fit" in lines
    # Tasks without subtasks have no bar: this one has the three starts.
    assert "MixMateClustering - initialization" in lines
    assert lines.count("100%") == 3


def test_callbacks_see_starts_and_epochs():
    class Recorder(ProgressBar):
        tasks = Counter()

        def on_fit_task_end(self, estimator, context):
            super().on_fit_task_end(estimator, context)
            self.tasks[context.task_name] += 1

    small(n_init=3, init="kmeans").set_callbacks(Recorder()).fit(data())
    assert Recorder.tasks["start"] == 3
    assert Recorder.tasks["epoch"] == 3


def test_progress_bar_in_a_pipeline_and_a_search(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    pipeline = make_pipeline(StandardScaler(), small())
    search = GridSearchCV(pipeline, {"mixmateclustering__alpha": [0.5, 1.0]}, cv=2)
    search.set_callbacks(ProgressBar(max_propagation_depth=None)).fit(data())
    lines = capsys.readouterr().out
    # Two values on two folds, and the best once more.
    assert lines.count("MixMateClustering - training") == 5


def test_scoring_monitor_in_a_pipeline():
    bunch = make_sparse_mixture(120, 16, n_atoms=4, random_state=0)
    monitor = ScoringMonitor(scoring="adjusted_rand_score")
    pipeline = make_pipeline(StandardScaler(), small().set_callbacks(monitor))
    pipeline.fit(bunch.data, bunch.target)
    assert (monitor.get_logs().data_as_pandas.task_name == "epoch").sum() == 3


def test_verbose_prints_a_line_an_epoch(caplog, capsys):
    small(verbose=1).fit(data())
    assert len(caplog.messages) == 3
    assert caplog.messages[-1].startswith("epoch 3 of 3: loss ")
    caplog.clear()
    small().fit(data())
    assert not caplog.messages
    assert not capsys.readouterr().out


def test_verbose_prints_where_no_handler_is(monkeypatch, capsys):
    monkeypatch.setattr("logging.root.handlers", [])
    small(verbose=1).fit(data())
    assert capsys.readouterr().out.count("epoch") == 3


# --- bad input -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"n_clusters": 0}, r"'n_clusters'.*\[1, inf\).*Got 0"),
        ({"n_clusters": 2.0}, r"'n_clusters'.*int.*Got 2.0"),
        ({"n_atoms": -1}, r"'n_atoms'.*Got -1"),
        ({"alpha": -0.1}, r"'alpha'.*Got -0.1"),
        ({"alpha": "much"}, r"'alpha'.*Got 'much'"),
        ({"n_layers": 0}, r"'n_layers'.*Got 0"),
        ({"step_size": 0.0}, r"'step_size'.*Got 0.0"),
        ({"step_size": "small"}, r"'step_size'.*Got 'small'"),
        ({"weights": "fixed"}, r"'weights'.*Got 'fixed'"),
        ({"weights": [0.5, 0.5]}, r"weights has shape \(2,\).*\(3,\)"),
        ({"weights": [0.5, 0.4, 0.2]}, r"weights=.*sum to 1; they sum to 1.1"),
        ({"weights": [0.5, 0.5, 0.0]}, r"weights=.*should be positive"),
        ({"fit_intercept": "no"}, r"'fit_intercept'.*Got 'no'"),
        ({"init": "best"}, r"'init'.*Got 'best'"),
        ({"n_atoms": "many"}, r"'n_atoms'.*'auto'.*Got 'many'"),
        ({"init": np.zeros((3, 6, 15))}, r"init has shape \(3, 6, 15\).*\(3, 6, 16\)"),
        ({"init": np.full((3, 6, 16), np.inf)}, r"Input init contains infinity"),
        ({"n_init": 0}, r"'n_init'.*Got 0"),
        ({"n_jobs": 1.5}, r"'n_jobs'.*Got 1.5"),
        ({"image_shape": (4, 5)}, r"image_shape=\(4, 5\) should.*n_features=16"),
        ({"weights": ["a", "b", "c"]}, r"weights=\['a', 'b', 'c'\] should be numbers"),
        ({"image_shape": (16, 1)}, r"image_shape=\(16, 1\).*at least 2"),
        ({"image_shape": ("4", "4")}, r"image_shape=\('4', '4'\).*integers"),
        ({"image_shape": (16,)}, r"image_shape=\(16,\) should be \(height, width\)"),
        ({"image_shape": 16}, r"'image_shape'.*Got 16"),
        ({"representation": "waves"}, r"'representation'.*Got 'waves'"),
        ({"representation": "scattering"}, r"image_shape=None should be their"),
        ({"dictionary_penalty": -1.0}, r"'dictionary_penalty'.*Got -1.0"),
        ({"dictionary_penalty": 1.0}, r"dictionary_penalty=1.0.*image_shape=None"),
        ({"init_size": 0}, r"'init_size'.*Got 0"),
        ({"init_size": 2}, r"init_size=2 should be >= n_clusters=3"),
        ({"noise_variance": 0}, r"'noise_variance'.*Got 0"),
        ({"noise_variance": "less"}, r"'noise_variance'.*'auto'.*Got 'less'"),
        ({"scale": 0}, r"'scale'.*Got 0"),
        ({"scale": "large"}, r"'scale'.*Got 'large'"),
        ({"max_iter": -1}, r"'max_iter'.*Got -1"),
        ({"batch_size": 0}, r"'batch_size'.*Got 0"),
        ({"learning_rate": 0}, r"'learning_rate'.*Got 0"),
        ({"tol": -1e-3}, r"'tol'.*Got -0.001"),
        ({"n_iter_no_change": 0}, r"'n_iter_no_change'.*Got 0"),
        ({"warm_start": "yes"}, r"'warm_start'.*Got 'yes'"),
        ({"device": 3.5}, r"'device'.*Got 3.5"),
        ({"device": "nowhere"}, r"device='nowhere' is not available"),
        ({"device": "meta"}, r"device='meta' is not available"),
        ({"device": "hpu"}, r"device='hpu' is not available"),
        ({"n_init": 10**9}, r"n_init=1000000000 should be at most 10000 starts"),
        ({"n_atoms": 10**7}, r"n_atoms=10000000 is too large: .* at most 4294967296"),
        ({"verbose": -1}, r"'verbose'.*Got -1"),
        ({"checkpoint": 3}, r"'checkpoint'.*Got 3"),
        ({"distributed": "yes"}, r"'distributed'.*Got 'yes'"),
        ({"distributed": True}, r"distributed=True, but this process is alone"),
        ({"random_state": "seed"}, r"'random_state'.*Got 'seed'"),
        ({"n_atoms": 0, "fit_intercept": False}, r"n_atoms=0 with fit_intercept=False"),
    ],
)
def test_bad_parameters_are_named_before_any_work(params, message, monkeypatch):
    monkeypatch.setattr("skmixmate.estimators._mixmate.missing_counts", None)
    with pytest.raises(ValueError, match=message):
        small(**params).fit(data())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_missing_device_is_named():
    with pytest.raises(ValueError, match=r"device='cuda' is not available"):
        small(device="cuda").fit(data())


@pytest.mark.parametrize("as_tensor", [False, True])
def test_bad_data(as_tensor, fitted):
    def given(X):
        return torch.from_numpy(X) if as_tensor else X

    infinite = data()
    infinite[3, 4] = np.inf
    with pytest.raises(ValueError, match="infinity"):
        small().fit(given(infinite))
    with pytest.raises(ValueError, match="infinity"):
        fitted.predict(given(infinite))
    with pytest.raises(ValueError, match=r"n_samples=2 should be >= n_clusters=3"):
        small().fit(given(data()[:2]))
    nothing = data()
    nothing[2:] = np.nan
    with pytest.raises(ValueError, match=r"n_samples=2 with anything observed"):
        small().fit(given(nothing))
    with pytest.raises(ValueError, match=r"X has 15 features.*expecting 16"):
        fitted.predict(given(data()[:, :15]))
    with pytest.raises(ValueError, match="18 codes are expected"):
        fitted.inverse_transform(given(data()))
    with pytest.raises(ValueError, match="2D array"):
        small().fit(given(data()[0]))


def test_sparse_data_are_refused():
    with pytest.raises(TypeError, match=r"dense data is required.*toarray"):
        small().fit(sparse.csr_array(data()))


def test_sparse_tensors_are_refused():
    with pytest.raises(TypeError, match=r"dense data is required.*to_dense"):
        small().fit(torch.from_numpy(data()).to_sparse())


def test_predict_before_fit():
    for method in [*METHODS, "inverse_transform"]:
        with pytest.raises(NotFittedError):
            getattr(small(), method)(data())


def test_warm_start_of_another_shape():
    mixmate = small(warm_start=True).fit(data())
    message = r"warm_start=True.*\(3, 6, 16\).*\(3, 9, 16\)"
    with pytest.raises(ValueError, match=message):
        mixmate.set_params(n_atoms=9).fit(data())


# --- warnings ------------------------------------------------------------------------


def test_warning_when_max_iter_is_spent():
    with pytest.warns(ConvergenceWarning, match="still falling after max_iter=1"):
        small(tol=1e-9, max_iter=1).fit(data())


def test_warning_when_alpha_is_too_large():
    with pytest.warns(UserWarning, match="Every code is empty: alpha=1000"):
        small(alpha=1000.0).fit(data())


def test_warning_when_alpha_is_too_small():
    with pytest.warns(UserWarning, match="nearly full.*alpha=1e-09"):
        small(alpha=1e-9).fit(data())


def test_warning_when_a_cluster_dies():
    X = np.pad(data(), [(0, 0), (0, 4)])
    init = X[:18].reshape(3, 6, 20).copy()
    init[1] = np.eye(6, 20, k=16) + np.eye(6, 20, k=14)
    with pytest.warns(UserWarning, match=r"Clusters \[1\] have no sample left"):
        small(init=init, fit_intercept=False).fit(X)


def test_interrupted_fit_leaves_the_last_whole_epoch(monkeypatch):
    X = data()
    expected = small(max_iter=2).fit(X)

    class Interrupt(ScoringMonitor):
        def on_fit_task_begin(self, estimator, context):
            if context.task_name == "epoch" and context.task_id == 2:
                raise KeyboardInterrupt

    mixmate = small(max_iter=9).set_callbacks(Interrupt(scoring=None))
    with pytest.warns(UserWarning, match="interrupted after 2 whole epochs"):
        mixmate.fit(X)
    np.testing.assert_array_equal(mixmate.dictionaries_, expected.dictionaries_)
    np.testing.assert_array_equal(mixmate.predict(X), mixmate.labels_)


# --- what a fit leaves when it does not end, and after set_params --------------------


def cut_short(*_, **__):
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    "fails",
    [
        lambda mixmate: mixmate.set_params(init=KMeans(2)).fit(1000 * data()),
        lambda mixmate: mixmate.fit(data()[:2, :7]),
        lambda mixmate: mixmate.fit(np.full((120, 16), np.inf)),
        lambda mixmate: mixmate.set_params(n_atoms=9).partial_fit(data()),
        lambda mixmate: mixmate.set_params(weights=[1.0, 2.0, 3.0]).fit(data()),
    ],
)
def test_a_refused_refit_leaves_the_model_as_it_was(fails):
    mixmate = small().fit(data())
    before = vars(clone(mixmate).fit(data())).keys()
    expected = {m: getattr(mixmate, m)(data()) for m in METHODS}
    with pytest.raises(ValueError, match=r"should|infinity|n_clusters"):
        fails(mixmate)
    assert vars(mixmate).keys() == before
    for method, answer in expected.items():
        np.testing.assert_array_equal(getattr(mixmate, method)(data()), answer)
    np.testing.assert_array_equal(mixmate.predict(data()), mixmate.labels_)


@pytest.mark.parametrize("learn", ["fit", "partial_fit"])
@pytest.mark.parametrize(
    "moment",
    ["_find_scale", "_first_dictionaries", "_expectation_maximization", "_evaluate"],
)
def test_an_interrupted_refit_leaves_the_model_as_it_was(moment, learn, monkeypatch):
    mixmate = small(init_size=60).partial_fit(data())
    before = pickle.dumps(vars(mixmate))
    monkeypatch.setattr(MixMateClustering, moment, cut_short)
    if learn == "fit" or moment in ("_expectation_maximization", "_evaluate"):
        with pytest.raises(KeyboardInterrupt):
            getattr(mixmate, learn)(1000 * data())
        assert pickle.dumps(vars(mixmate)) == before


def test_an_interrupted_first_fit_leaves_an_estimator_that_is_not_fitted(monkeypatch):
    monkeypatch.setattr(MixMateClustering, "_first_dictionaries", cut_short)
    mixmate = small()
    with pytest.raises(KeyboardInterrupt):
        mixmate.fit(data())
    with pytest.raises(NotFittedError):
        mixmate.predict(data())
    assert not hasattr(mixmate, "n_features_in_")


def test_callbacks_are_ended_when_a_fit_is_refused():
    class Ended(ScoringMonitor):
        n_teardowns = 0

        def teardown(self, estimator, context):
            super().teardown(estimator, context)
            Ended.n_teardowns += 1

    mixmate = small(init=KMeans(2)).set_callbacks(Ended(scoring=None))
    with pytest.raises(ValueError, match="found 2 clusters"):
        mixmate.fit(data())
    assert Ended.n_teardowns == 1


@pytest.mark.parametrize(
    "params",
    [
        {"alpha": 3.0},
        {"prior": "nonnegative"},
        {"likelihood": "poisson"},
        {"n_layers": 1},
        {"step_size": 1e-3},
        {"noise_variance": "auto"},
        {"weights": "learned"},
        {"n_clusters": 5, "n_atoms": 2, "scale": 7.0, "fit_intercept": False},
    ],
)
def test_set_params_is_for_the_next_fit(params, tmp_path):
    X = data()
    mixmate = small().fit(X)
    expected = {m: getattr(mixmate, m)(X) for m in METHODS} | {"bic": mixmate.bic(X)}
    mixmate.set_params(**params)
    mixmate.save(tmp_path / "model")
    copies = [load(tmp_path / "model"), pickle.loads(pickle.dumps(mixmate)), mixmate]
    for copied in copies:
        for method, answer in expected.items():
            np.testing.assert_array_equal(getattr(copied, method)(X), answer)
        assert {**copied.get_params(), **params} == copied.get_params()


def test_a_model_that_an_earlier_version_pickled():
    mixmate = small(n_layers=4).fit(data())
    state = dict(mixmate.__getstate__())
    del state["_settings"]  # versions before did not have it
    earlier = MixMateClustering()
    earlier.__setstate__(state)
    np.testing.assert_array_equal(earlier.energies(data()), mixmate.energies(data()))


# --- steps that are too long ---------------------------------------------------------


def with_long_steps():
    """Return an estimator whose encoder diverges on digits."""
    return MixMateClustering(
        10,
        n_atoms=20,
        image_shape=(8, 8),
        representation="pixels",
        step_size=1.0,
        init_size=300,
        random_state=0,
    )


@pytest.mark.parametrize("learn", ["fit", "partial_fit"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_step_size_that_diverges_is_named(dtype, learn):
    X = load_digits().data[:300].astype(dtype)
    mixmate = with_long_steps()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        getattr(mixmate, learn)(X)
    (about_step, *_) = [str(warning.message) for warning in caught]
    assert "step_size=1.0 is larger than 0.07" in about_step
    assert "step_size='auto'" in about_step


def test_a_training_that_diverges_stops():
    X = load_digits().data[:300].astype(np.float32)
    mixmate = with_long_steps()
    with (
        pytest.warns(UserWarning, match="step_size=1"),
        pytest.warns(UserWarning, match="loss is nan after 1 epochs.*diverged"),
    ):
        mixmate.fit(X)
    assert mixmate.n_iter_ == 1


def test_step_sizes_within_the_limit_give_no_warning():
    dictionaries = small(max_iter=0).fit(data()).dictionaries_
    largest = np.linalg.eigvalsh(dictionaries @ dictionaries.mT).max()
    assert small(step_size=1.3 / largest).fit(data()).loss_ > 0
    with pytest.warns(UserWarning, match="step_size"):
        small(step_size=1.4 / largest).fit(data())


# --- codes as features ---------------------------------------------------------------


@pytest.fixture(scope="module")
def points():
    """Two points, fifty times each: no sample needs a code."""
    X = np.repeat([[0.0, 0.0], [5.0, 5.0]], 50, axis=0)
    return MixMateClustering(2, random_state=0).fit(X), X


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_empty_codes_keep_their_cluster_in_narrower_types(points, dtype):
    mixmate, X = points
    codes = mixmate.transform(X).astype(dtype)
    np.testing.assert_allclose(mixmate.inverse_transform(codes), X, atol=1e-6)
    out = np.empty(codes.shape, dtype)
    np.testing.assert_array_equal(mixmate.transform(X, out=out), codes)


@pytest.mark.parametrize("scaler", [StandardScaler(), MinMaxScaler((-3, 7))])
def test_empty_codes_keep_their_cluster_in_a_scaler(points, scaler):
    mixmate, X = points
    codes = mixmate.transform(X)
    back = scaler.inverse_transform(scaler.fit_transform(codes))
    np.testing.assert_allclose(mixmate.inverse_transform(back), X, atol=1e-6)


@pytest.mark.parametrize("units", [1e-20, 1.0, 1e20])
def test_marks_of_empty_codes_are_normal_numbers_far_below_the_noise(points, units):
    _, X = points
    mixmate = MixMateClustering(2, random_state=0).fit(units * X)
    marks = mixmate.transform(units * X).max(axis=1)
    noise = np.sqrt(mixmate.noise_variance_) / mixmate.scale_
    np.testing.assert_allclose(marks, 1e-4 * noise)


def far_blobs():
    rng = np.random.default_rng(0)
    y = rng.integers(3, size=300)
    return (rng.normal(size=(3, 6)) * 6)[y] + 0.5 * rng.normal(size=(300, 6)), y


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    ("offset", "dtype"),
    [
        (1e6, np.float32),
        (1e9, np.float64),
        (1e12, np.float64),
        (1e6 * np.arange(6), np.float32),
        (10.0 ** np.arange(7, 13), np.float64),
    ],
)
def test_data_may_be_far_from_the_origin(offset, dtype, seed):
    X, y = far_blobs()
    mixmate = MixMateClustering(3, max_iter=3, tol=0, random_state=seed)
    labels = mixmate.fit_predict((X + offset).astype(dtype))
    assert adjusted_rand_score(y, labels) == 1


@pytest.mark.parametrize(
    ("constant", "dtype"),
    [(1e7, np.float32), (1e30, np.float32), (np.pi * 1e16, float), (1e300, float)],
)
def test_a_large_constant_feature_says_nothing(constant, dtype):
    X, y = far_blobs()
    X = np.column_stack([X, np.full(300, constant)]).astype(dtype)
    X[::9, 2] = np.nan
    mixmate = MixMateClustering(3, max_iter=3, tol=0, random_state=0).fit(X)
    assert adjusted_rand_score(y, mixmate.labels_) == 1
    np.testing.assert_array_equal(mixmate.intercepts_[:, 6], X[0, 6])
    assert np.isfinite(mixmate.score(X))
    out = np.empty((300, 3), dtype)
    assert np.isfinite(mixmate.predict_proba(X, out=out)).all()


@pytest.mark.parametrize(
    ("factor", "dtype"),
    [
        (1e-36, np.float32),
        (1e-23, np.float32),
        (1e19, np.float32),
        (1e37, np.float32),
        (1e-300, np.float64),
        (1e154, np.float64),
        (1e300, np.float64),
    ],
)
@pytest.mark.parametrize("fit_intercept", [False, True])
def test_units_do_not_matter_where_squares_overflow(factor, dtype, fit_intercept):
    X, _ = far_blobs()
    X[::9, 2] = np.nan
    mixmate = MixMateClustering(
        3, max_iter=3, tol=0, fit_intercept=fit_intercept, random_state=0
    )
    labels = mixmate.fit_predict(X.astype(dtype))
    extreme = (X * factor).astype(dtype)
    assert adjusted_rand_score(labels, mixmate.fit_predict(extreme)) == 1
    assert np.isfinite(mixmate.predict_proba(extreme)).all()
    assert np.isfinite(mixmate.reconstruct(extreme)).all()


@pytest.mark.parametrize(
    ("factor", "dtype"), [(1e-41, np.float32), (1e-312, np.float64)]
)
def test_denormal_numbers_are_refused(factor, dtype):
    X = (far_blobs()[0] * factor).astype(dtype)
    X[3, 2] = np.nan
    with pytest.raises(ValueError, match="X has rows of root-mean-square norm"):
        MixMateClustering(3, random_state=0).fit(X)


@pytest.mark.parametrize(
    "params",
    [
        {"noise_variance": 1e-320},
        {"noise_variance": 1e300},
        {"alpha": 1e308},
        {"prior": Laplace(1e308)},
        {"learning_rate": 1e200},
        {"scale": 1e-320},
        {"scale": 1e308},
        {"weights": [1 - 1e-310, 1e-310]},
    ],
)
def test_parameters_beyond_the_range_of_floats_are_refused(params):
    X = np.random.default_rng(0).normal(size=(40, 3))
    (name,) = params
    name = "alpha" if name == "prior" else name
    with pytest.raises(ValueError, match=f"^{name}=.* should be "):
        MixMateClustering(2, **params).fit(X)


def test_parameters_at_the_edge_of_floats_give_finite_numbers():
    X = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    for params in (
        {"noise_variance": 2e-14},
        {"noise_variance": 7e13},
        {"alpha": 1e-30},
        {"alpha": 1e24},
        {"learning_rate": 7e13},
        {"learning_rate": 1e-300},
        {"weights": [1 - 1e-30, 1e-30]},
        {"n_layers": 300},
    ):
        mixmate = MixMateClustering(2, n_atoms=3, max_iter=2, tol=0, **params)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            mixmate.fit(X)
        assert np.isfinite(mixmate.dictionaries_).all()
        assert np.isfinite(mixmate.energies(X)).all()
        assert np.isfinite(mixmate.loss_)


def test_a_scale_that_leaves_nothing_to_square_is_refused():
    X = far_blobs()[0].astype(np.float32)
    with pytest.raises(ValueError, match=r"X has an entry at .*scale_=1e\+30"):
        MixMateClustering(3, scale=1e30, random_state=0).fit(X)
    # An offset alone is no part of it.
    far = MixMateClustering(3, scale=1.0, max_iter=1, tol=0, random_state=0)
    X[:, 0] = 1e30
    assert np.isfinite(far.fit(X).energies(X)).all()


@pytest.mark.parametrize("alpha", [0.0, 1e-12, 1e-9])
@pytest.mark.parametrize("noise_variance", [0.5, "auto"])
def test_codes_that_cost_nothing_have_a_posterior_where_entries_miss(
    alpha, noise_variance
):
    X = np.random.default_rng(4).normal(size=(20, 32))
    X[:, 3] = np.nan
    X[5, ::2] = np.nan
    mixmate = MixMateClustering(
        4,
        n_atoms=40,
        alpha=alpha,
        noise_variance=noise_variance,
        max_iter=1,
        tol=0,
        random_state=0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        mixmate.fit(X)
    assert np.isfinite(mixmate.energies(X)).all()
    scores = mixmate.score_samples(X)
    assert (scores == -np.inf).all() if alpha == 0 else np.isfinite(scores).all()


@pytest.mark.filterwarnings("ignore:The codes are nearly full")
def test_draws_out_of_range_name_alpha():
    rng = np.random.default_rng(0)
    rates = np.exp(rng.normal(size=(3, 8)))[rng.integers(3, size=400)]
    poisson = MixMateClustering(
        3, n_atoms=4, likelihood="poisson", alpha=0.1, max_iter=1, tol=0, random_state=0
    ).fit(rng.poisson(rates))
    with pytest.raises(ValueError, match=r"alpha=0\.1 is too small to draw.*poisson"):
        poisson.sample(20_000, random_state=0)
    binary = MixMateClustering(
        2, n_atoms=2, likelihood="bernoulli", alpha=1e-4, max_iter=0, random_state=0
    ).fit(rng.integers(2, size=(100, 5)))
    assert set(np.unique(binary.sample(500, random_state=0)[0])) == {0, 1}
    normal = MixMateClustering(2, n_atoms=2, alpha=1e-310, max_iter=0, random_state=0)
    with pytest.raises(ValueError, match="alpha=1e-310 is too small to draw"):
        normal.fit(rng.normal(size=(40, 3))).sample(10, random_state=0)


def test_sums_of_finite_entries_may_overflow():
    X = far_blobs()[0].astype(np.float32) * np.float32(1e36)
    X[0, 0], X[1, 0] = 3e38, -3e38
    mixmate = MixMateClustering(3, max_iter=1, tol=0, random_state=0)
    assert np.isfinite(mixmate.fit(X).predict_proba(X)).all()


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_samples_that_are_all_the_same(value):
    X = np.full((20, 3), value)
    with pytest.warns(UserWarning, match="have no sample left"):
        mixmate = MixMateClustering(2, random_state=0).fit(X)
    np.testing.assert_allclose(mixmate.reconstruct(X), X, atol=1e-12)


def test_a_batch_size_that_is_a_bool_is_one():
    X = load_digits().data[:40]
    params = {"image_shape": (8, 8), "init_size": 30, "random_state": 0}
    streams = [MixMateClustering(1, batch_size=b, **params) for b in (True, 1)]
    one, other = (stream.partial_fit(X).dictionaries_ for stream in streams)
    np.testing.assert_array_equal(one, other)
