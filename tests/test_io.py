import os
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.callback import ScoringMonitor

import skmixmate
from skmixmate import MixMateClustering
from skmixmate.model.priors import ElasticNet

from .files.models import IMAGES, X, small


@pytest.fixture(scope="module")
def fitted():
    return small().fit(X)


@pytest.fixture(scope="module")
def fitted_on_images():
    return small(image_shape=(8, 8)).fit(IMAGES)


def save_and_load(mixmate, folder):
    mixmate.save(folder / "model")
    return skmixmate.load(folder / "model")


# --- saving and loading --------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("params", "data"),
    [
        ({}, X),
        ({"weights": "learned", "n_atoms": 0}, X),
        ({"prior": "group"}, X),
        ({"prior": ElasticNet(0.5, ridge=0.2)}, X),
        ({"image_shape": (4, 4), "representation": "pixels"}, X),
        (
            {
                "image_shape": (4, 4),
                "representation": "pixels",
                "dictionary_penalty": 2.0,
            },
            X,
        ),
        ({"image_shape": (8, 8)}, IMAGES),
        ({}, IMAGES),  # recognised
        ({"image_shape": None}, IMAGES),
        ({"image_shape": [8, 4, 2]}, IMAGES),
    ],
)
def test_a_loaded_estimator_predicts_the_same(params, data, dtype, tmp_path):
    data = data.astype(dtype)
    mixmate = small(**params).fit(data)
    loaded = save_and_load(mixmate, tmp_path)
    for method in ("predict", "predict_proba", "energies", "encode", "reconstruct"):
        expected, actual = getattr(mixmate, method)(data), getattr(loaded, method)(data)
        assert actual.dtype == expected.dtype
        np.testing.assert_array_equal(actual, expected)
    assert loaded.get_params() == mixmate.get_params()
    assert vars(loaded).keys() == vars(mixmate).keys()
    for name in ("loss_", "loss_curve_", "n_iter_", "converged_", "scale_"):
        assert getattr(loaded, name) == getattr(mixmate, name)


def test_a_path_is_loaded_as_a_string(tmp_path):
    mixmate = small(checkpoint=tmp_path / "checkpoint").fit(X)
    loaded = save_and_load(mixmate, tmp_path)
    assert loaded.checkpoint == str(tmp_path / "checkpoint")


def test_the_state_of_partial_fit_is_not_saved(tmp_path):
    mixmate = small(init_size=60)
    for chunk in np.array_split(X, 4):
        mixmate.partial_fit(chunk)
    loaded = save_and_load(mixmate, tmp_path)
    np.testing.assert_array_equal(loaded.predict(X), mixmate.predict(X))
    loaded.partial_fit(X)  # from the dictionaries, with a new optimizer


def test_a_loaded_estimator_can_be_warm_started(tmp_path):
    mixmate = small(warm_start=True, image_shape=(8, 8)).fit(IMAGES)
    loaded = save_and_load(mixmate, tmp_path)
    assert loaded.fit(IMAGES).loss_ == mixmate.fit(IMAGES).loss_


@pytest.mark.parametrize(
    ("name", "value", "stored"),
    [
        ("weights", np.full(3, 1 / 3), np.full(3, 1 / 3)),
        ("weights", (0.25, 0.25, 0.5), (0.25, 0.25, 0.5)),
        ("init", X[:18].reshape(3, 6, 16), X[:18].reshape(3, 6, 16)),
        ("init", [list(X[:6]), list(X[6:12]), list(X[12:18])], X[:18]),
        ("image_shape", (np.int64(4), 4), (4, 4)),
        ("image_shape", np.array([4, 4]), np.array([4, 4])),
        ("device", torch.device("cpu"), "cpu"),
        ("random_state", np.int64(5), 5),
        ("tol", np.float32(0.5), 0.5),
        ("fit_intercept", np.bool_(True), True),
    ],
)
def test_parameters_that_are_not_json_are_converted(name, value, stored, tmp_path):
    loaded = save_and_load(small(**{name: value}).fit(X), tmp_path)
    actual = getattr(loaded, name)
    np.testing.assert_array_equal(np.reshape(actual, np.shape(stored)), stored)
    is_list = isinstance(value, list)
    assert type(actual) is (list if is_list else type(stored))


def test_feature_names_are_saved(tmp_path):
    frame = pd.DataFrame(X, columns=[f"column {i}" for i in range(16)])
    mixmate = small().fit(frame)
    loaded = save_and_load(mixmate, tmp_path)
    np.testing.assert_array_equal(loaded.feature_names_in_, frame.columns)
    np.testing.assert_array_equal(loaded.predict(frame), mixmate.labels_)
    with pytest.raises(ValueError, match="feature names should match"):
        loaded.predict(frame[frame.columns[::-1]])


def test_load_on_another_device(fitted_on_images, tmp_path):
    mixmate = pickle.loads(pickle.dumps(fitted_on_images))
    mixmate.set_params(device="meta").save(tmp_path / "model")
    loaded = skmixmate.load(tmp_path / "model", device="cpu")
    np.testing.assert_array_equal(loaded.predict(IMAGES), mixmate.labels_)


def test_callbacks_are_not_saved(tmp_path):
    mixmate = small().set_callbacks(ScoringMonitor(scoring=None)).fit(X)
    loaded = save_and_load(mixmate, tmp_path)
    assert vars(mixmate).keys() - vars(loaded).keys() == {"_skl_callbacks"}


def test_any_path_and_suffix(fitted, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in ("model", tmp_path / "model.any"):
        fitted.save(path)
        np.testing.assert_array_equal(skmixmate.load(path).predict(X), fitted.labels_)
    assert sorted(os.listdir(tmp_path)) == ["model", "model.any"]


def test_equal_models_make_equal_files(fitted, tmp_path):
    fitted.save(tmp_path / "a")
    skmixmate.load(tmp_path / "a").save(tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_numpy_reads_the_arrays(fitted, tmp_path):
    fitted.save(tmp_path / "model")
    with np.load(tmp_path / "model", allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["dictionaries_"], fitted.dictionaries_)


# --- pickle and skops ----------------------------------------------------------------


def test_pickles_predict_the_same(fitted, fitted_on_images):
    for mixmate, data in ((fitted, X), (fitted_on_images, IMAGES)):
        copied = pickle.loads(pickle.dumps(mixmate))
        np.testing.assert_array_equal(
            copied.predict_proba(data), mixmate.predict_proba(data)
        )


def test_skops_files_predict_the_same(fitted, fitted_on_images):
    sio = pytest.importorskip("skops.io")
    own = [
        "skmixmate.estimators._mixmate.MixMateClustering",
        "skmixmate.model.likelihoods.Gaussian",
    ]
    features = [
        "skmixmate.image._features.ScatteringFeatures",
        "skmixmate.image._scattering.ScatteringTransform",
    ]
    for mixmate, data, types in (
        (fitted, X, own),
        (fitted_on_images, IMAGES, sorted(own + features)),
    ):
        dumped = sio.dumps(mixmate)
        assert sio.get_untrusted_types(data=dumped) == types
        copied = sio.loads(dumped, trusted=types)
        np.testing.assert_array_equal(
            copied.predict_proba(data), mixmate.predict_proba(data)
        )


def test_a_model_of_few_large_images_can_be_loaded(tmp_path):
    images = np.random.default_rng(0).random((5, 32 * 32)).astype(np.float32)
    mixmate = MixMateClustering(
        2, image_shape=(32, 32), n_atoms=3, max_iter=1, tol=0, random_state=0
    ).fit(images)
    assert mixmate.representation_.components_.shape[0] == 4
    mixmate.save(tmp_path / "model.zip")
    again = skmixmate.load(tmp_path / "model.zip")
    np.testing.assert_array_equal(again.energies(images), mixmate.energies(images))
    codes = mixmate.transform(images)
    np.testing.assert_array_equal(
        again.inverse_transform(codes), mixmate.inverse_transform(codes)
    )
