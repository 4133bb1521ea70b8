import time
import tracemalloc

import numpy as np
import pytest
from sklearn.datasets import load_digits

from skmixmate.image import ScatteringTransform, _features
from skmixmate.image._axes import principal_axes
from skmixmate.image._features import ScatteringFeatures, default_scale
from skmixmate.image._turning import turn_images


@pytest.fixture(scope="module")
def digits():
    return load_digits().data[:300]


def fit_features(X, n_components=20, max_samples=1000):
    random_state = np.random.RandomState(0)
    features = ScatteringFeatures(
        (8, 8), n_components, max_samples, "cpu", random_state
    )
    return features.fit(X)


def test_principal_axes_span_low_rank_data():
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


def test_features_are_principal_components_of_sqrt_coefficients(digits):
    features = fit_features(digits, n_components=20)
    roots = np.sqrt(np.abs(ScatteringTransform((8, 8), J=1).fit_transform(digits)))
    deviations = roots - roots.mean(axis=0)
    values = np.linalg.svd(deviations, compute_uv=False)[:20]
    transformed = features.transform(digits)
    sizes = np.sort(np.linalg.norm(transformed, axis=0))[::-1]
    np.testing.assert_allclose(sizes, values, rtol=1e-6)


def test_features_of_turned_images(digits):
    features = fit_features(digits)
    turned = turn_images(digits, (8, 8), 10)
    found = features.transform_turned(digits, 10)
    np.testing.assert_allclose(found, features.transform(turned))
    assert not np.allclose(found, features.transform(digits), atol=0.1)
    incomplete = digits.copy()
    incomplete[:, 30] = np.nan
    expected = features.transform_turned(features.impute(incomplete), 10)
    np.testing.assert_allclose(features.transform_turned(incomplete, 10), expected)


def test_inverse_transform_approximates_the_images(digits):
    features = fit_features(digits, n_components=200)
    images = features.inverse_transform(features.transform(digits))
    error = np.linalg.norm(images - digits) / np.linalg.norm(
        digits - digits.mean(axis=0)
    )
    assert error < 0.2
    coarse = fit_features(digits, n_components=5)
    coarse_images = coarse.inverse_transform(coarse.transform(digits))
    assert np.linalg.norm(coarse_images - digits) > np.linalg.norm(images - digits)


def test_mapped_features_represent_the_same_images(digits):
    features, mapped = fit_features(digits), fit_features(digits)
    half = np.diag(np.linspace(0.1, 1, 20))
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(20, 20)))[0]
    matrix = rotation @ half @ rotation.T
    mapped.map_features(matrix)
    before, after = features.transform(digits), mapped.transform(digits)
    np.testing.assert_allclose(after, before @ matrix, atol=1e-9)
    np.testing.assert_allclose(
        mapped.inverse_transform(after), features.inverse_transform(before), atol=1e-9
    )


@pytest.mark.parametrize("max_samples", [100, 1000])
def test_fit_transform_equals_transform(digits, max_samples):
    features = ScatteringFeatures(
        (8, 8), 20, max_samples, "cpu", np.random.RandomState(0)
    )
    transformed = features.fit_transform(digits)
    np.testing.assert_array_equal(transformed, features.transform(digits))
    refitted = fit_features(digits, max_samples=max_samples)
    np.testing.assert_array_equal(transformed, refitted.transform(digits))


def test_transform_accepts_another_dtype_than_fit(digits):
    features = fit_features(digits.astype(np.float32), n_components=5)
    transformed = features.transform(digits)
    assert transformed.dtype == np.float64
    np.testing.assert_allclose(
        features.transform(digits.astype(np.float32)), transformed, atol=1e-3
    )


def test_dtype_is_preserved_if_fitted_to_a_subsample(digits):
    features = fit_features(digits.astype(np.float32), max_samples=100)
    transformed = features.transform(digits.astype(np.float32))
    assert transformed.shape == (300, 20)
    assert transformed.dtype == np.float32
    assert features.inverse_transform(transformed).dtype == np.float32


def test_load_state_dict_restores_the_features(digits):
    fitted = fit_features(digits)
    other = ScatteringFeatures((8, 8), 20, 1000, "cpu", random_state=None)
    other.load_state_dict(fitted.state_dict())
    features = fitted.transform(digits)
    np.testing.assert_array_equal(other.transform(digits), features)
    images = fitted.inverse_transform(features)
    np.testing.assert_array_equal(other.inverse_transform(features), images)


def test_missing_pixels_of_one_image_do_not_change_the_features_of_others(digits):
    features = fit_features(digits)
    incomplete = digits.copy()
    incomplete[3, 20:30] = np.nan
    incomplete[5] = np.nan
    complete, transformed = features.transform(digits), features.transform(incomplete)
    others = np.delete(np.arange(len(digits)), [3, 5])
    np.testing.assert_array_equal(transformed[others], complete[others])
    size = np.linalg.norm(complete[3])
    assert 0 < np.linalg.norm(transformed[3] - complete[3]) < 0.5 * size
    assert np.isnan(transformed[5]).all()


def test_incomplete_images_have_features_by_fit_transform_and_by_transform(digits):
    incomplete = digits.copy()
    incomplete[np.random.default_rng(0).random(digits.shape) < 0.2] = np.nan
    features = ScatteringFeatures((8, 8), 20, 1000, "cpu", np.random.RandomState(0))
    transformed = features.fit_transform(incomplete)
    np.testing.assert_array_equal(transformed, features.transform(incomplete))
    assert np.isnan(incomplete).any()  # not imputed in place


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_principal_axes_of_few_rows_are_singular_vectors(dtype):
    rng = np.random.default_rng(0)
    X = (rng.normal(size=(12, 100)) * 10.0 ** -np.arange(12)[:, None]).astype(dtype)
    axes = principal_axes(X, 5)
    assert axes.dtype == dtype
    np.testing.assert_allclose(axes.T @ axes, np.eye(5), atol=1e-6)
    expected = np.linalg.svd(X)[2][4::-1].T
    np.testing.assert_allclose(np.abs((axes * expected).sum(axis=0)), 1, rtol=1e-4)


@pytest.mark.parametrize("n_distinct", [1, 3])
def test_few_rows_have_at_most_as_many_axes_as_their_rank(n_distinct):
    X = np.repeat(np.random.default_rng(0).normal(size=(n_distinct, 60)), 4, axis=0)
    axes = principal_axes(X, 10)
    assert axes.shape == (60, n_distinct)
    np.testing.assert_allclose(X @ axes @ axes.T, X, atol=1e-9)
    axes = principal_axes(0 * X, 10)
    assert axes.shape == (60, 1)
    assert np.isfinite(axes).all()


@pytest.mark.parametrize("n_images", [2, 20])
def test_few_large_images_need_little_time_and_memory(n_images):
    # An eigenproblem of their 6,672 coefficients took a minute and 1.2 GB.
    images = np.random.default_rng(0).random((n_images, 64 * 64)).astype(np.float32)
    features = ScatteringFeatures((64, 64), 300, 1000, "cpu", np.random.RandomState(0))
    tracemalloc.start()
    start = time.process_time()
    transformed = features.fit_transform(images)
    assert time.process_time() - start < 15
    assert tracemalloc.get_traced_memory()[1] < 100 * 2**20
    tracemalloc.stop()
    assert transformed.shape == (n_images, n_images - 1)
    np.testing.assert_array_equal(features.transform(images), transformed)
    restored = features.inverse_transform(transformed)
    np.testing.assert_allclose(restored, images, atol=1e-3)
    other = ScatteringFeatures((64, 64), 300, 1000, "cpu", None)
    other.load_state_dict(features.state_dict())
    np.testing.assert_array_equal(other.transform(images), transformed)


def test_many_large_images_are_subsampled(monkeypatch):
    monkeypatch.setattr(_features, "MANY_COLUMNS", 100)
    monkeypatch.setattr(_features, "_MAX_IMAGES", 200)
    digits = load_digits().data[:1000]
    features = fit_features(digits, n_components=50)
    transformed = features.transform(digits)
    images = features.inverse_transform(transformed)
    error = np.linalg.norm(images - digits) / np.linalg.norm(
        digits - digits.mean(axis=0)
    )
    assert error < 0.6


@pytest.mark.parametrize(
    ("dtype", "factor"),
    [
        (np.float64, 1e300),
        (np.float64, 1e-30),
        (np.float32, 1e-35),
        (np.float32, 1e-3),
        (np.float32, 1e36),
    ],
)
def test_features_scale_with_the_square_root_of_images(digits, dtype, factor):
    digits = digits.astype(dtype)
    scaled = digits * dtype(factor)
    plain, extreme = fit_features(digits), fit_features(scaled)
    np.testing.assert_allclose(
        extreme.transform(scaled) / np.sqrt(factor), plain.transform(digits), atol=2e-3
    )
    images = extreme.inverse_transform(extreme.transform(scaled)) / dtype(factor)
    expected = plain.inverse_transform(plain.transform(digits))
    np.testing.assert_allclose(images, expected, atol=2e-3)


def test_images_of_denormal_numbers_are_rejected(digits):
    with pytest.raises(ValueError, match="X has rows of root-mean-square norm"):
        fit_features((digits * 1e-43).astype(np.float32))
