"""Predictions: energies, posteriors, codes and reconstructions of a fitted model."""

import numpy as np
import pytest
from scipy.special import erf, softmax
from sklearn.exceptions import NotFittedError

from ..helpers import METHODS, data, small


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
def test_energies_match_equation_5(missing):
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


def test_energies_with_atom_rates_include_the_log_normalizer():
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


def test_fitted_attributes(fitted):
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


def test_inverse_transform_of_zeros_is_the_weighted_mean_of_the_intercepts(fitted):
    nothing = fitted.inverse_transform(np.zeros((1, 18)))
    np.testing.assert_allclose(nothing[0], fitted.weights_ @ fitted.intercepts_)


def test_methods_before_fit_raise_not_fitted_error():
    for method in [*METHODS, "inverse_transform"]:
        with pytest.raises(NotFittedError):
            getattr(small(), method)(data())
