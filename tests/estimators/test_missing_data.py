"""Data with missing values."""

import warnings

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.metrics import normalized_mutual_info_score as nmi

from skmixmate import MixMateClustering, clustering_accuracy_score
from skmixmate.datasets import make_sparse_mixture
from skmixmate.model.incomplete import encode_incomplete

from ..helpers import data, load_standardized, small


def test_a_row_without_observed_values_has_the_prior_and_no_influence():
    X = data()
    weights = [0.5, 0.3, 0.2]
    with_empty = np.insert(X, [0, 5, 50], np.nan, axis=0)
    mixmate = small(weights=weights).fit(X)
    same = small(weights=weights).fit(with_empty)
    np.testing.assert_array_equal(mixmate.dictionaries_, same.dictionaries_)
    assert mixmate.loss_ == pytest.approx(same.loss_)
    np.testing.assert_allclose(same.predict_proba(with_empty[:1]), [weights])
    np.testing.assert_allclose(same.transform(with_empty[:1]), 0, atol=1e-4)


def test_only_incomplete_rows_use_the_slower_encoder(monkeypatch, fitted):
    n_rows = []

    def spy(targets, *args):
        n_rows.append(targets.shape[-1])
        return encode_incomplete(targets, *args)

    monkeypatch.setattr("skmixmate.model.spherical.encode_incomplete", spy)
    X = data()
    complete = fitted.energies(X)
    X[[3, 50, 51], 2] = np.nan
    mixed = fitted.energies(X)
    assert n_rows == [3]
    unchanged = np.isfinite(X).all(axis=1)
    np.testing.assert_allclose(mixed[unchanged], complete[unchanged])


def test_reconstruct_imputes_missing_values():
    bunch = make_sparse_mixture(
        3000, 30, n_atoms=3, missing=0.2, noise=0.02, random_state=0
    )
    complete = np.einsum("nd,ndm->nm", bunch.codes, bunch.dictionaries[bunch.target])
    mixmate = MixMateClustering(
        3, n_atoms=6, max_iter=20, tol=0, learning_rate=5e-3, random_state=0
    )
    filled = mixmate.fit(bunch.data).reconstruct(bunch.data)
    missing = np.isnan(bunch.data)
    error = np.std((filled - complete)[missing]) / np.std(complete[missing])
    assert error < 0.25


def test_clusters_are_found_when_hardly_any_row_is_complete():
    X, y = load_standardized(load_breast_cancer)
    X[np.random.default_rng(0).random(X.shape) < 0.1] = np.nan  # few rows are complete
    labels = MixMateClustering(2, random_state=0).fit_predict(X)
    assert clustering_accuracy_score(y, labels) > 0.9


def test_a_feature_that_is_never_observed():
    X = data()
    X[:, 3] = np.nan
    mixmate = small().fit(X)
    assert np.isfinite(mixmate.reconstruct(X)).all()


def digits_with_holes(n_images=1797, fraction=0.9):
    """Digits, some of them without a quarter of their pixels; also complete."""
    X, y = load_digits(return_X_y=True)
    X, y = X[:n_images], y[:n_images]
    rng = np.random.default_rng(0)
    is_incomplete = rng.random((len(X), 1)) < fraction
    is_missing = is_incomplete & (rng.random(X.shape) < 0.25)
    return np.where(is_missing, np.nan, X), X, y


@pytest.mark.combinations(2)
@pytest.mark.slow
@pytest.mark.parametrize("fraction", [0.5, 1.0])
def test_incomplete_images_are_clustered_nearly_as_complete_ones(fraction):
    incomplete, X, y = digits_with_holes(fraction=fraction)
    mixmate = MixMateClustering(10, image_shape=(8, 8), random_state=0)
    assert nmi(y, mixmate.fit_predict(X)) > 0.92
    found = nmi(y, mixmate.fit_predict(incomplete))
    assert mixmate.representation_ is not None
    assert found > 0.85
    on_pixels = mixmate.set_params(representation="pixels").fit_predict(incomplete)
    assert found > nmi(y, on_pixels)


def images_model(**params):
    return small(n_clusters=3, n_atoms=5, image_shape=(8, 8), **params)


def test_a_model_of_complete_images_predicts_incomplete_ones():
    incomplete, X, _ = digits_with_holes(300)
    mixmate = images_model().fit(X)
    labels, complete_labels = mixmate.predict(incomplete), mixmate.labels_
    is_complete = np.isfinite(incomplete).all(axis=1)
    np.testing.assert_array_equal(labels[is_complete], complete_labels[is_complete])
    assert np.mean(labels == complete_labels) > 0.9
    for method in ("energies", "transform", "score_samples"):
        assert np.isfinite(getattr(mixmate, method)(incomplete)).all()


def test_reconstruct_imputes_missing_pixels():
    incomplete, X, _ = digits_with_holes()
    is_missing = np.isnan(incomplete)

    def error(mixmate):
        return np.std((mixmate.fit(incomplete).reconstruct(incomplete) - X)[is_missing])

    assert error(images_model()) < 0.8 * error(images_model(representation="pixels"))


def test_reconstruct_is_the_same_in_batches_and_into_an_array():
    incomplete, *_ = digits_with_holes(300)
    mixmate = images_model().fit(incomplete)
    expected = mixmate.reconstruct(incomplete)
    out = np.empty_like(incomplete)
    mixmate.reconstruct(incomplete, out=out)
    np.testing.assert_array_equal(out, expected)
    batches = mixmate.predict_batches(incomplete, "reconstruct", batch_size=70)
    np.testing.assert_array_equal(np.concatenate(list(batches)), expected)


def test_images_without_observed_pixels_have_the_prior_and_no_influence():
    incomplete, *_ = digits_with_holes(300)
    weights = [0.5, 0.3, 0.2]
    with_empty = np.insert(incomplete, [0, 5, 50], np.nan, axis=0)
    mixmate = images_model(weights=weights).fit(with_empty)
    np.testing.assert_allclose(mixmate.predict_proba(with_empty[:1]), [weights])
    assert np.isfinite(mixmate.loss_)
    assert np.isfinite(mixmate.reconstruct(with_empty)).all()


def test_a_warm_start_continues_with_incomplete_images():
    incomplete, X, _ = digits_with_holes(300)
    mixmate = images_model(warm_start=True).fit(X)
    representation = mixmate.representation_
    mixmate.fit(incomplete)
    assert mixmate.representation_ is representation
    np.testing.assert_array_equal(mixmate.labels_, mixmate.predict(incomplete))


@pytest.mark.parametrize("alpha", [0.0, 1e-12, 1e-9])
@pytest.mark.parametrize("noise_variance", [0.5, "auto"])
def test_a_zero_penalty_gives_finite_energies_with_missing_values(
    alpha, noise_variance
):
    X = np.random.default_rng(4).normal(size=(20, 32))
    X[:, 3] = np.nan
    X[5, ::2] = np.nan
    mixmate = MixMateClustering(
        4,
        n_atoms=40,
        alpha=alpha,
        noise_variance=noise_variance,
        max_iter=1,
        tol=0,
        random_state=0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        mixmate.fit(X)
    assert np.isfinite(mixmate.energies(X)).all()
    scores = mixmate.score_samples(X)
    assert (scores == -np.inf).all() if alpha == 0 else np.isfinite(scores).all()
