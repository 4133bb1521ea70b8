"""Codes as features: the entries that mark the cluster of an empty code."""

import numpy as np
import pytest
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from skmixmate import MixMateClustering


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
def test_empty_codes_keep_their_cluster_after_scaling(points, scaler):
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
