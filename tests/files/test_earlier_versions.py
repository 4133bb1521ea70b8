"""Models, pickles and a stream that earlier versions wrote, and what they computed."""

import pickle
from pathlib import Path

import numpy as np
import pytest

import skmixmate
from skmixmate import MixMateClustering
from skmixmate.estimators import _settings
from skmixmate.model.priors import Laplace

FOLDER = Path(__file__).parents[1] / "resources" / "earlier"
NAMES = ["plain", "group", "poisson", "images", "stream"]


@pytest.fixture(scope="module")
def expected():
    """Return X, energies and labels of each model, computed by the earlier version."""
    with np.load(FOLDER / "expected.npz") as arrays:
        return dict(arrays)


def unpickle(name):
    return pickle.loads((FOLDER / f"{name}.pickle").read_bytes())


def assert_computes_the_same(mixmate, name, expected):
    X = expected[f"{name}_X"]
    np.testing.assert_allclose(
        mixmate.energies(X), expected[f"{name}_energies"], rtol=1e-6
    )
    np.testing.assert_array_equal(mixmate.predict(X), expected[f"{name}_labels"])


@pytest.mark.parametrize("name", [name for name in NAMES if name != "images"])
def test_model_files_compute_the_same(name, expected):
    mixmate = skmixmate.load(FOLDER / f"{name}.model")
    assert_computes_the_same(mixmate, name, expected)


@pytest.mark.parametrize("name", NAMES)
def test_pickles_compute_the_same(name, expected):
    assert_computes_the_same(unpickle(name), name, expected)


@pytest.mark.parametrize("name", NAMES)
def test_the_shape_of_images_is_that_of_the_parameter(name):
    assert unpickle(name).image_shape_ == ((8, 8) if name == "images" else None)


@pytest.mark.parametrize("name", NAMES)
def test_unpickled_estimators_can_be_saved_and_loaded(name, expected, tmp_path):
    unpickle(name).save(tmp_path / "model")
    assert_computes_the_same(skmixmate.load(tmp_path / "model"), name, expected)


def test_files_of_images_with_a_default_rate_have_that_of_their_version(
    expected, tmp_path
):
    mixmate = unpickle("images")
    mixmate._fitted_params["alpha"] = "auto"  # as earlier versions wrote it
    mixmate.save(tmp_path / "model")
    assert_computes_the_same(skmixmate.load(tmp_path / "model"), "images", expected)


def test_a_fitted_model_does_not_depend_on_the_default_rate(
    expected, tmp_path, monkeypatch
):
    X = expected["images_X"]
    mixmate = MixMateClustering(2, image_shape=(8, 8), random_state=0).fit(X)
    mixmate.save(tmp_path / "model")
    energies = mixmate.energies(X)
    monkeypatch.setattr(_settings, "_SCATTERING_ALPHA", 5.0)
    for same in (
        mixmate,
        pickle.loads(pickle.dumps(mixmate)),
        skmixmate.load(tmp_path / "model"),
    ):
        np.testing.assert_array_equal(same.energies(X), energies)


def test_a_prior_with_its_own_rate_needs_no_earlier_one(expected):
    X = expected["images_X"]
    params = {"prior": Laplace(0.5), "image_shape": (8, 8), "random_state": 0}
    mixmate = pickle.loads(pickle.dumps(MixMateClustering(2, **params).fit(X)))
    assert mixmate._fitted_params["alpha"] == "auto"


def test_a_model_that_cannot_impute_missing_pixels_says_so(expected):
    mixmate = unpickle("images")
    X = expected["images_X"].copy()
    X[0, 0] = np.nan
    with pytest.raises(ValueError, match=r"NaN.*earlier version.*Fit it again"):
        mixmate.predict(X)


def test_a_pickled_stream_continues(expected):
    mixmate = unpickle("stream").partial_fit(expected["stream_X"][25:])
    np.testing.assert_allclose(
        mixmate.dictionaries_, expected["stream_dictionaries"], rtol=1e-6, atol=1e-12
    )


def test_a_model_file_of_a_removed_estimator_names_its_version():
    with pytest.raises(
        ValueError,
        match=r"filters\.model' holds a ConvolutionalMixMate, written by "
        r"skmixmate 0\.1\.0, which was removed",
    ):
        skmixmate.load(FOLDER / "filters.model")


def test_a_pickle_of_a_removed_estimator_says_that_it_was_removed():
    with pytest.raises(ImportError, match=r"ConvolutionalMixMate.* was removed"):
        unpickle("filters")
