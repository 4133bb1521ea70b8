"""Data at the limits of floating-point numbers."""

import numpy as np
import pytest

from skmixmate import MixMateClustering

from ..helpers import far_blobs


@pytest.mark.parametrize(
    ("factor", "dtype"), [(1e-41, np.float32), (1e-312, np.float64)]
)
def test_denormal_numbers_raise(factor, dtype):
    X = (far_blobs()[0] * factor).astype(dtype)
    X[3, 2] = np.nan
    with pytest.raises(ValueError, match="X has rows of root-mean-square norm"):
        MixMateClustering(3, random_state=0).fit(X)


def test_a_scale_whose_squares_overflow_raises():
    X = far_blobs()[0].astype(np.float32)
    with pytest.raises(ValueError, match=r"X has an entry at .*scale_=1e\+30"):
        MixMateClustering(3, scale=1e30, random_state=0).fit(X)
    # An offset is subtracted first.
    far = MixMateClustering(3, scale=1.0, max_iter=1, tol=0, random_state=0)
    X[:, 0] = 1e30
    assert np.isfinite(far.fit(X).energies(X)).all()


@pytest.mark.filterwarnings("ignore:The codes are nearly full")
def test_sample_raises_if_alpha_is_too_small_to_draw_codes():
    rng = np.random.default_rng(0)
    rates = np.exp(rng.normal(size=(3, 8)))[rng.integers(3, size=400)]
    poisson = MixMateClustering(
        3, n_atoms=4, likelihood="poisson", alpha=0.1, max_iter=1, tol=0, random_state=0
    ).fit(rng.poisson(rates))
    with pytest.raises(ValueError, match=r"alpha=0\.1 is too small to draw.*Poisson"):
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
