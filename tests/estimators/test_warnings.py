"""Warnings about the fit."""

import warnings

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning

from skmixmate import MixMateClustering

from ..helpers import data, small


def test_warning_if_max_iter_is_reached():
    with pytest.warns(ConvergenceWarning, match="still falling after max_iter=1"):
        small(tol=1e-9, max_iter=1).fit(data())


def test_warning_when_alpha_is_too_large():
    with pytest.warns(UserWarning, match="Every code is empty: alpha=1000"):
        small(alpha=1000.0).fit(data())


def test_warning_when_alpha_is_too_small():
    with pytest.warns(UserWarning, match="nearly full.*alpha=1e-09"):
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
