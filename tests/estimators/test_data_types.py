"""Arrays, tensors and data frames, their dtypes, and invalid data."""

import pickle
import warnings

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone

from skmixmate import MixMateClustering

from ..helpers import METHODS, data, small


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
        result = getattr(mixmate, method)(X)
        assert result.shape == shape
        assert result.dtype == (np.int64 if method == "predict" else dtype)
        assert np.isfinite(result).all()
    assert mixmate.dictionaries_.dtype == mixmate.intercepts_.dtype == dtype
    np.testing.assert_array_equal(X, untouched)


def test_integers_are_converted_to_float64():
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
        result = getattr(mixmate, method)(X)
        assert result.device == X.device
        np.testing.assert_array_equal(result.numpy(), getattr(same, method)(X.numpy()))
    assert mixmate.inverse_transform(mixmate.transform(X)).dtype == dtype
    assert small().fit(X.requires_grad_()).labels_.shape == (120,)


def test_integer_tensors_are_converted_to_float32():
    X = torch.randint(0, 17, (60, 8), generator=torch.Generator().manual_seed(0))
    assert small().fit(X).transform(X).dtype == torch.float32


def test_data_frames_in_and_out():
    frame = pd.DataFrame(data(), columns=[f"pixel{i}" for i in range(16)])
    mixmate = small().set_output(transform="pandas").fit(frame)
    codes = mixmate.transform(frame)
    assert list(codes.columns) == list(mixmate.get_feature_names_out())
    assert codes.columns[7] == "cluster1_atom1"
    assert list(mixmate.feature_names_in_) == list(frame.columns)
    with pytest.raises(ValueError, match="feature names"):
        mixmate.predict(frame.rename(columns={"pixel0": "other"}))


def test_fortran_order_and_slices_give_the_same_result(fitted):
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


def test_models_pickled_by_an_earlier_version_can_be_used():
    mixmate = small(n_layers=4).fit(data())
    state = dict(mixmate.__getstate__())
    del state["_fitted_params"]  # earlier versions did not have it
    earlier = MixMateClustering()
    earlier.__setstate__(state)
    np.testing.assert_array_equal(earlier.energies(data()), mixmate.energies(data()))


@pytest.mark.parametrize("as_tensor", [False, True])
def test_invalid_data_raise(as_tensor, fitted):
    def as_input(X):
        return torch.from_numpy(X) if as_tensor else X

    infinite = data()
    infinite[3, 4] = np.inf
    with pytest.raises(ValueError, match="infinity"):
        small().fit(as_input(infinite))
    with pytest.raises(ValueError, match="infinity"):
        fitted.predict(as_input(infinite))
    with pytest.raises(ValueError, match=r"n_samples=2 should be >= n_clusters=3"):
        small().fit(as_input(data()[:2]))
    nothing = data()
    nothing[2:] = np.nan
    with pytest.raises(ValueError, match=r"n_samples=2 rows of X have an observed"):
        small().fit(as_input(nothing))
    with pytest.raises(ValueError, match=r"X has 15 features.*expecting 16"):
        fitted.predict(as_input(data()[:, :15]))
    with pytest.raises(ValueError, match="18 codes are expected"):
        fitted.inverse_transform(as_input(data()))
    with pytest.raises(ValueError, match="2D array"):
        small().fit(as_input(data()[0]))


def test_sparse_tensors_raise():
    with pytest.raises(TypeError, match=r"dense data is required.*to_dense"):
        small().fit(torch.from_numpy(data()).to_sparse())
