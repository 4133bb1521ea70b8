"""Warnings about the fit."""

import warnings

import numpy as np
import pytest
from sklearn.datasets import load_digits, load_iris, load_wine, make_blobs
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning

from skmixmate import MixMateClustering

from ..helpers import data, load_standardized, small

# --- before training -----------------------------------------------------------------


@pytest.mark.parametrize("learn", ["fit", "partial_fit"])
def test_warning_of_columns_in_different_units(learn):
    X = load_wine(as_frame=True).data
    with pytest.warns(UserWarning, match="very different scales") as caught:
        getattr(small(init_size=100), learn)(X)
    (message,) = [str(warning.message) for warning in caught]
    assert "column 'proline' has a standard deviation of 3" in message
    assert "sklearn.preprocessing.StandardScaler" in message


def dollars_and_years(n_samples=200):
    rng = np.random.default_rng(0)
    return np.column_stack(
        [rng.lognormal(10, 1, n_samples), rng.uniform(18, 80, n_samples)]
    )


def test_warning_of_two_columns_by_their_numbers():
    X = dollars_and_years()
    X[::7, 1] = np.nan
    message = (
        rf"column 0 has a standard deviation of {X[:, 0].std():.3g}, and half .* "
        rf"column 1, {np.nanstd(X[:, 1]):.3g}\."
    )
    with pytest.warns(UserWarning, match=message.replace("+", r"\+")):
        small().fit(X)


def test_a_constant_column_has_no_scale():
    X = np.column_stack([dollars_and_years()[:, 0], np.full(200, np.pi)])
    small().fit(X)


def one_hot():
    shares = 1 / np.arange(1, 41)
    return np.eye(40)[np.random.default_rng(0).choice(40, 300, p=shares / shares.sum())]


def spectra():
    rng, position = np.random.default_rng(0), np.linspace(0, 1, 60)
    peaks = [np.exp(-((position - x) ** 2) / 0.002) for x in (0.2, 0.3, 0.6, 0.8)]
    return rng.lognormal(size=(200, 4)) @ np.stack(peaks)


@pytest.mark.parametrize(
    ("X", "params"),
    [
        pytest.param(load_iris().data, {}, id="iris"),
        pytest.param(load_digits().data[:200], {}, id="digits"),
        pytest.param(load_standardized(load_wine)[0], {}, id="standardised"),
        pytest.param(make_blobs(200, 5, random_state=0)[0], {}, id="blobs"),
        pytest.param(one_hot(), {}, id="one-hot"),
        pytest.param(spectra(), {}, id="spectra"),
        pytest.param(PCA().fit_transform(load_wine().data), {}, id="components"),
        pytest.param(
            np.round(dollars_and_years()),
            {"likelihood": "negative_binomial"},
            id="counts",
        ),
        pytest.param(
            load_digits().data[:200] * np.logspace(0, 3, 64),
            {"image_shape": (8, 8)},
            id="images",
        ),
    ],
)
def test_no_warning_where_columns_have_one_unit(X, params):
    small(**params).fit(X)


# --- after training ------------------------------------------------------------------


def test_warning_if_max_iter_is_reached():
    with pytest.warns(ConvergenceWarning, match="still falling after max_iter=1"):
        small(tol=1e-9, max_iter=1).fit(data())


def test_warning_when_alpha_is_too_large():
    with pytest.warns(UserWarning, match="empty: alpha=1000.* a smaller one"):
        small(alpha=1000.0).fit(data())


def test_warning_when_alpha_is_too_small():
    with pytest.warns(UserWarning, match="nearly full.*alpha=1e-09.* a larger one"):
        small(alpha=1e-9).fit(data())


def test_warning_if_a_cluster_has_no_sample_left():
    X = np.pad(data(), [(0, 0), (0, 4)])
    init = X[:18].reshape(3, 6, 20).copy()
    init[1] = np.eye(6, 20, k=16) + np.eye(6, 20, k=14)
    with pytest.warns(UserWarning, match=r"Clusters \[1\] have no sample left"):
        small(init=init, fit_intercept=False).fit(X)


def diverging_estimator():
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
def test_warning_if_step_size_diverges(dtype, learn):
    X = load_digits().data[:300].astype(dtype)
    mixmate = diverging_estimator()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        getattr(mixmate, learn)(X)
    (about_step, *_) = [str(warning.message) for warning in caught]
    assert "step_size=1.0 is larger than 0.07" in about_step
    assert "step_size='auto'" in about_step


def test_training_stops_if_the_loss_is_nan():
    X = load_digits().data[:300].astype(np.float32)
    mixmate = diverging_estimator()
    with (
        pytest.warns(UserWarning, match="step_size=1"),
        pytest.warns(UserWarning, match="loss is nan after 1 epochs.*diverged"),
    ):
        mixmate.fit(X)
    assert mixmate.n_iter_ == 1


def test_no_warning_for_step_sizes_below_the_limit():
    dictionaries = small(max_iter=0).fit(data()).dictionaries_
    largest = np.linalg.eigvalsh(dictionaries @ dictionaries.mT).max()
    assert small(step_size=1.3 / largest).fit(data()).loss_ > 0
    with pytest.warns(UserWarning, match="step_size"):
        small(step_size=1.4 / largest).fit(data())
