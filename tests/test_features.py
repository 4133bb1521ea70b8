import numpy as np
import pytest
from sklearn.datasets import load_digits

from skmixmate.image import ScatteringTransform
from skmixmate.image._features import (
    ScatteringFeatures,
    default_scale,
    graph_features,
    principal_axes,
    principal_scores,
)


@pytest.fixture(scope="module")
def digits():
    return load_digits().data[:300]


def fit_features(X, n_components=20, max_samples=1000):
    random_state = np.random.RandomState(0)
    features = ScatteringFeatures(
        (8, 8), n_components, max_samples, "cpu", random_state
    )
    return features.fit(X)


def test_principal_axes_span_a_low_rank():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(50, 3)) @ rng.normal(size=(3, 8)) + 0
    axes = principal_axes(X, 3)
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(X @ axes @ axes.T, X)
    assert principal_axes(X, 500).shape == (8, 8)


@pytest.mark.parametrize(
    ("image_shape", "J"),
    [((28, 28), 3), ((16, 16), 2), ((8, 8), 1), ((2, 9), 1), ((64, 96, 3), 4)],
)
def test_default_scale(image_shape, J):
    assert default_scale(image_shape) == J


def test_units_do_not_change_graph_features(digits):
    features = graph_features(digits, (8, 8))
    np.testing.assert_allclose(
        np.abs(graph_features(1e3 * digits, (8, 8))), np.abs(features), atol=1e-6
    )


def test_both_views_count_the_same_in_graph_features(digits):
    # Uncentred principal axes keep all inner products, and so the norms.
    features = graph_features(digits, (8, 8), n_components=10_000)
    assert np.mean(np.linalg.norm(features, axis=1) ** 2) == pytest.approx(2)


def test_features_are_principal_components_of_roots_of_coefficients(digits):
    features = fit_features(digits, n_components=20)
    roots = np.sqrt(np.abs(ScatteringTransform((8, 8), J=1).fit_transform(digits)))
    deviations = roots - roots.mean(axis=0)
    values = np.linalg.svd(deviations, compute_uv=False)[:20]
    transformed = features.transform(digits)
    sizes = np.sort(np.linalg.norm(transformed, axis=0))[::-1]
    np.testing.assert_allclose(sizes, values, rtol=1e-6)


def test_images_come_back_from_features(digits):
    features = fit_features(digits, n_components=200)
    back = features.inverse_transform(features.transform(digits))
    error = np.linalg.norm(back - digits) / np.linalg.norm(digits - digits.mean(axis=0))
    assert error < 0.2
    few = fit_features(digits, n_components=5)
    worse = few.inverse_transform(few.transform(digits))
    assert np.linalg.norm(worse - digits) > np.linalg.norm(back - digits)


@pytest.mark.parametrize("max_samples", [100, 1000])
def test_fit_transform_gives_what_transform_gives(digits, max_samples):
    features = ScatteringFeatures(
        (8, 8), 20, max_samples, "cpu", np.random.RandomState(0)
    )
    transformed = features.fit_transform(digits)
    np.testing.assert_array_equal(transformed, features.transform(digits))
    alone = fit_features(digits, max_samples=max_samples)
    np.testing.assert_array_equal(transformed, alone.transform(digits))


def test_images_of_another_dtype_than_in_fit(digits):
    features = fit_features(digits.astype(np.float32), n_components=5)
    transformed = features.transform(digits)
    assert transformed.dtype == np.float64
    np.testing.assert_allclose(
        features.transform(digits.astype(np.float32)), transformed, atol=1e-3
    )


def test_dtype_is_kept_and_part_of_the_images_is_enough(digits):
    features = fit_features(digits.astype(np.float32), max_samples=100)
    transformed = features.transform(digits.astype(np.float32))
    assert transformed.shape == (300, 20)
    assert transformed.dtype == np.float32
    assert features.inverse_transform(transformed).dtype == np.float32


def test_features_taken_over_are_the_same(digits):
    found = fit_features(digits)
    other = ScatteringFeatures((8, 8), 20, 1000, "cpu", random_state=None)
    other.load_state_dict(found.state_dict())
    features = found.transform(digits)
    np.testing.assert_array_equal(other.transform(digits), features)
    images = found.inverse_transform(features)
    np.testing.assert_array_equal(other.inverse_transform(features), images)


@pytest.mark.parametrize("n_components", [5, 30])
def test_scores_are_coordinates_along_the_axes(n_components):
    X = np.random.default_rng(0).normal(size=(12, 20))
    scores = principal_scores(X, n_components)
    expected = X @ principal_axes(X, n_components)
    assert scores.shape[1] == min(n_components, 12)
    np.testing.assert_allclose(scores @ scores.T, expected @ expected.T)


def test_few_large_images_take_little_time():
    images = np.random.default_rng(0).normal(size=(6, 64 * 64)).astype(np.float32)
    features = graph_features(images, (64, 64))
    assert features.shape == (6, 6)
    assert features.dtype == np.float32
