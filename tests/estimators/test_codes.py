"""Results without atoms, and results at the limits of float32."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch

from skmixmate import load

from .. import helpers

pytestmark = pytest.mark.usefixtures("small_blocks")
small = partial(helpers.small, max_iter=2, batch_size=256)


def data(n_samples=500, **params):
    return helpers.data(n_samples, **params)


@pytest.fixture(scope="module")
def fitted():
    return small().fit(data())


@pytest.mark.parametrize("likelihood", ["gaussian", "poisson"])
def test_all_methods_work_without_atoms(likelihood, tmp_path):
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
        # Empty codes identify no cluster, so that the result is the mean intercept.
        natural = np.tile(same.weights_ @ same.intercepts_, (50, 1))
        expected = np.exp(natural) if likelihood == "poisson" else natural
        for given_codes in (codes, torch.from_numpy(codes), pd.DataFrame(codes)):
            np.testing.assert_allclose(same.inverse_transform(given_codes), expected)
    mixmate.set_output(transform="pandas")
    frame = mixmate.transform(X)
    assert frame.shape == (50, 0)
    np.testing.assert_allclose(mixmate.inverse_transform(frame), expected)


@pytest.mark.parametrize(
    ("codes", "error", "message"),
    [
        (torch.zeros(2, 18).to_sparse(), TypeError, "Sparse data was passed for codes"),
        (torch.zeros(2, 18) * 1j, ValueError, "Complex data not supported"),
        (np.ma.array(np.zeros((2, 18)), mask=True), ValueError, "codes contains NaN"),
        (np.zeros((2, 17)), ValueError, "X has 17 columns, but 18 codes"),
    ],
)
def test_inverse_transform_checks_codes(fitted, codes, error, message):
    with pytest.raises(error, match=message):
        fitted.inverse_transform(codes)


@pytest.mark.parametrize("far", [1e18, 1e20, 3e38])
@pytest.mark.parametrize("is_alone", [False, True])
def test_rows_whose_squares_overflow_float32_are_computed_in_float64(
    fitted, far, is_alone
):
    X = data(70).astype(np.float32)
    X[3, 2] = far
    X[5, 1] = np.nan
    X = X[3:4] if is_alone else X
    for method in ("predict", "predict_proba", "transform", "encode", "reconstruct"):
        results = getattr(fitted, method)(X)
        expected = getattr(fitted, method)(X.astype(np.float64))
        assert results.dtype == (np.int64 if method == "predict" else np.float32)
        np.testing.assert_allclose(results, expected, rtol=1e-3, atol=1e-3)


def test_results_that_overflow_float32_raise(fitted):
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
