"""Noise variance, density of samples, sampling and information criteria."""

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment
from sklearn.datasets import load_digits
from sklearn.metrics import adjusted_rand_score
from sklearn.metrics import normalized_mutual_info_score as nmi

from skmixmate.datasets import make_sparse_mixture

from ..helpers import assert_fitted_like, data, small


def draw_samples(n_samples, n_features=16, **params):
    """Draw samples of the model with a scale of one."""
    settings = {"n_clusters": 4, "n_atoms": 3, "alpha": 0.4, "noise": 0.3}
    settings |= {"random_state": 0, **params}
    return make_sparse_mixture(n_samples, n_features, **settings)


def fit_unscaled(X, **params):
    settings = {"n_clusters": 4, "n_atoms": 3, "alpha": 0.4, "scale": 1.0}
    settings |= {"fit_intercept": False, "noise_variance": "auto", "max_iter": 15}
    settings |= {"learning_rate": 1e-2, "batch_size": 64, **params}
    return small(**settings).fit(X)


def calibration_error(probabilities, y, n_bins=10):
    """Return the expected calibration error of the most probable cluster."""
    n_clusters = probabilities.shape[1]
    labels = probabilities.argmax(axis=1)
    table = np.zeros((n_clusters, n_clusters))
    np.add.at(table, (labels, y), 1)
    _, classes = linear_sum_assignment(-table)
    is_right = classes[labels] == y
    confidence = probabilities.max(axis=1)
    bins = (confidence * n_bins).astype(int).clip(max=n_bins - 1)
    return sum(
        np.mean(bins == b)
        * abs(confidence[bins == b].mean() - is_right[bins == b].mean())
        for b in np.unique(bins)
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The codes are nearly full")
def test_learned_noise_calibrates_probabilities():
    bunch = draw_samples(3000, n_features=8, n_atoms=2, n_clusters=3)
    X, new, y = bunch.data[:1500], bunch.data[1500:], bunch.target[1500:]

    def error(noise_variance):
        mixmate = fit_unscaled(
            X, n_atoms=2, n_clusters=3, noise_variance=noise_variance
        )
        return calibration_error(mixmate.predict_proba(new), y)

    assert error("auto") < 0.02  # the true variance is 0.09
    assert error(0.5) > 0.03  # too soft
    assert error(0.01) > 0.03  # too hard


def test_noise_variance_auto_estimates_the_noise_of_the_data():
    mixmate = fit_unscaled(draw_samples(1000).data)
    assert mixmate.noise_variance_ == pytest.approx(0.3**2, rel=0.1)
    assert mixmate.scale_ == 1


@pytest.mark.exhaustive
@pytest.mark.slow
def test_held_out_score_selects_the_true_number_of_clusters():
    scores = np.empty((2, 4))
    for seed, row in enumerate(scores):
        X = draw_samples(1200, random_state=seed).data
        for i, n_clusters in enumerate((2, 3, 4, 5)):
            row[i] = fit_unscaled(X[:600], n_clusters=n_clusters).score(X[600:])
    assert scores.mean(axis=0).argmax() == 2


@pytest.mark.slow
def test_held_out_score_selects_the_true_number_of_atoms():
    X = draw_samples(1200).data
    scores = [
        fit_unscaled(X[:600], n_atoms=n_atoms).score(X[600:]) for n_atoms in (1, 3, 6)
    ]
    assert np.argmax(scores) == 1


@pytest.mark.parametrize("missing", [0.0, 0.2])
@pytest.mark.parametrize("noise_variance", [0.5, "auto"])
def test_density_has_the_units_of_the_data(noise_variance, missing):
    X = data(n_nonzero=2, missing=missing)
    params = {"noise_variance": noise_variance}
    densities = small(**params).fit(X).score_samples(X)
    in_other_units = small(**params).fit(100 * X).score_samples(100 * X)
    n_observed = np.isfinite(X).sum(axis=1)
    expected = densities - n_observed * np.log(100)
    np.testing.assert_allclose(in_other_units, expected, rtol=1e-6)


@pytest.mark.slow
def test_density_integrates_to_nearly_one():
    X = data()[:, :2]
    mixmate = small(n_atoms=2, noise_variance="auto").fit(X)
    axis = np.linspace(-30, 30, 301)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    total = np.exp(mixmate.score_samples(grid)).sum() * (axis[1] - axis[0]) ** 2
    assert 0.85 < total < 1


def test_default_noise_variance_is_one_half():
    X = data(missing=0.1)
    default, given = small().fit(X), small(noise_variance=0.5).fit(X)
    assert_fitted_like(given, default)
    assert default.noise_variance_ == 0.5


def test_noise_variance_is_equivalent_to_a_change_of_scale_and_alpha():
    # y / s with noise 1 / 2 is y with noise s^2 / 2 and codes s times as long.
    X = data(missing=0.1)
    init = X[:18].reshape(3, 6, 16).copy()
    init[np.isnan(init)] = 0
    params = {"init": init, "batch_size": 120}
    mixmate = small(scale=1.0, noise_variance=2.0, alpha=0.5, **params).fit(X)
    expected = small(scale=0.5, noise_variance=0.5, alpha=1.0, **params).fit(X)
    np.testing.assert_allclose(mixmate.dictionaries_, expected.dictionaries_, atol=1e-8)
    np.testing.assert_allclose(mixmate.predict_proba(X), expected.predict_proba(X))
    np.testing.assert_allclose(mixmate.score_samples(X), expected.score_samples(X))


def test_a_further_fit_starts_from_the_learned_noise():
    X = data()
    params = {"noise_variance": "auto", "alpha": 0.2, "learning_rate": 1e-2}
    mixmate = small(warm_start=True, max_iter=20, **params).fit(X)
    before = mixmate.noise_variance_
    assert before < 0.3
    assert mixmate.set_params(max_iter=1).fit(X).noise_variance_ < 1.2 * before
    mixmate.partial_fit(X)
    assert mixmate.noise_variance_ < 1.2 * before
    assert mixmate.set_params(noise_variance=0.7).fit(X).noise_variance_ == 0.7


@pytest.mark.slow
@pytest.mark.parametrize("fit_intercept", [False, True])
def test_predict_recovers_the_clusters_of_drawn_samples(fit_intercept):
    X = draw_samples(2000).data + 5 * fit_intercept
    params = {"fit_intercept": fit_intercept, "weights": [0.4, 0.3, 0.2, 0.1]}
    mixmate = fit_unscaled(X, **params)
    again, labels = mixmate.sample(2000, random_state=0)
    assert again.shape == X.shape
    assert adjusted_rand_score(labels, mixmate.predict(again)) > 0.95
    np.testing.assert_allclose(
        np.bincount(labels) / len(labels), mixmate.weights_, atol=0.03
    )
    # As likely as the data of the fit.
    assert mixmate.score(again) == pytest.approx(mixmate.score(X), abs=0.5)
    same, _ = mixmate.sample(2000, random_state=0)
    np.testing.assert_array_equal(same, again)
    assert not np.array_equal(mixmate.sample(2000)[0], again)


def test_samples_have_the_units_of_the_data():
    X = data()
    first, _ = small().fit(X).sample(3, random_state=0)
    second, _ = small().fit(1000 * X).sample(3, random_state=0)
    np.testing.assert_allclose(second, 1000 * first)
    assert small().fit(X.astype(np.float32)).sample()[0].dtype == np.float32


@pytest.mark.slow
def test_images_can_be_drawn_from_a_model_of_pixels_only():
    X = load_digits().data
    params = {"n_clusters": 10, "image_shape": (8, 8), "init": "kmeans", "max_iter": 1}
    on_pixels = small(representation="pixels", **params).fit(X)
    images, labels = on_pixels.sample(500, random_state=0)
    assert images.shape == (500, 64)
    assert nmi(labels, on_pixels.predict(images)) > 0.5
    with pytest.raises(ValueError, match=r"sample needs representation='pixels'"):
        small(**params).fit(X).sample(3)


@pytest.mark.parametrize("n_samples", [0, 2.5])
def test_an_invalid_number_of_samples_raises(n_samples, fitted):
    with pytest.raises(ValueError, match=rf"n_samples={n_samples} should be an int"):
        fitted.sample(n_samples)


@pytest.mark.slow
def test_information_criteria_select_the_true_number_of_clusters():
    X = draw_samples(1200).data
    fits = [fit_unscaled(X, n_clusters=n) for n in (3, 4, 5)]
    assert np.argmin([fit.bic(X) for fit in fits]) == 1
    assert np.argmin([fit.aic(X) for fit in fits]) == 1
    n_free = (fits[1].bic(X) - fits[1].aic(X)) / (np.log(1200) - 2)
    assert n_free == pytest.approx(4 * 3 * 15 + 1)  # angles of atoms, and the noise
    params = {"fit_intercept": True, "weights": "learned", "noise_variance": 0.5}
    other = fit_unscaled(X, max_iter=1, **params)
    n_free = (other.bic(X) - other.aic(X)) / (np.log(1200) - 2)
    assert n_free == pytest.approx(4 * 3 * 15 + 4 * 16 + 3)
