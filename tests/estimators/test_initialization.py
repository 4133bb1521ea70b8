"""Initialization, several initializations and warm starts."""

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skmixmate import MixMateClustering

from ..helpers import data, small


@pytest.mark.parametrize("init", ["auto", "spectral", "ssc", "kmeans", "random"])
def test_init_accepts_names(init):
    assert small(init=init, init_size=60).fit(data()).labels_.shape == (120,)


def test_init_accepts_a_clusterer():
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


@pytest.mark.combinations(2)
@pytest.mark.slow
@pytest.mark.parametrize("fit_intercept", [False, True])
def test_the_best_of_several_initializations_is_kept(fit_intercept):
    X = data(1000, n_nonzero=2)
    params = {"fit_intercept": fit_intercept, "init": "random", "max_iter": 20}
    losses = [small(random_state=s, **params).fit(X).loss_ for s in range(6)]
    best = small(n_init=6, **params).fit(X)
    assert best.loss_ < np.median(losses)
    parallel = small(n_init=6, n_jobs=2, **params).fit(X)
    np.testing.assert_array_equal(parallel.labels_, best.labels_)
    np.testing.assert_allclose(parallel.dictionaries_, best.dictionaries_)


def test_the_best_initialization_is_trained_from_its_initial_state():
    X = data()
    params = {"n_init": 3, "init": "random", "fit_intercept": False, "n_atoms": 4}
    untrained = small(max_iter=0, **params).fit(X)
    rows = X / np.linalg.norm(X, axis=1, keepdims=True)
    cosines = untrained.dictionaries_ @ rows.T
    np.testing.assert_allclose(cosines.max(axis=2), 1)  # each atom is a sample
    trained = small(max_iter=1, **params).fit(X)
    assert not np.allclose(trained.dictionaries_, untrained.dictionaries_)
    assert trained.loss_ < untrained.loss_


def test_an_init_array_is_a_single_initialization():
    init = data()[:18].reshape(3, 6, 16)
    once, thrice = (small(init=init, n_init=n).fit(data()) for n in (1, 3))
    np.testing.assert_array_equal(once.dictionaries_, thrice.dictionaries_)


def test_warm_start_continues_the_training():
    X = data()
    mixmate = small(warm_start=True, batch_size=1000).fit(X)
    before = mixmate.loss_curve_[-1]
    mixmate.fit(X)
    assert mixmate.loss_curve_[0] < before
    cold = small().fit(X).fit(X)
    np.testing.assert_array_equal(cold.dictionaries_, small().fit(X).dictionaries_)


def test_warm_start_raises_if_the_shape_changed():
    mixmate = small(warm_start=True).fit(data())
    message = r"warm_start=True.*\(3, 6, 16\).*\(3, 9, 16\)"
    with pytest.raises(ValueError, match=message):
        mixmate.set_params(n_atoms=9).fit(data())


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_identical_samples(value):
    X = np.full((20, 3), value)
    with pytest.warns(UserWarning, match="have no sample left"):
        mixmate = MixMateClustering(2, random_state=0).fit(X)
    np.testing.assert_allclose(mixmate.reconstruct(X), X, atol=1e-12)
