import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from skmixmate.image._imputation import fit_pixel_distribution

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def digits():
    return load_digits().data[:600]


def fit(images):
    return fit_pixel_distribution(images, (8, 8), CPU)


def with_holes(images, random_state=0):
    """Remove a quarter of the pixels of one half of the images, and a block of others.

    The first image stays complete.
    """
    rng = np.random.default_rng(random_state)
    is_missing = rng.random(images.shape) < 0.25
    half = len(images) // 2
    block = np.zeros((8, 8), bool)
    block[2:5, 3:7] = True
    is_missing[half:] = block.ravel()
    is_missing[0] = False
    return np.where(is_missing, np.nan, images), is_missing


def test_missing_pixels_are_conditional_means(digits):
    incomplete, is_missing = with_holes(digits)
    distribution = fit(digits)
    imputed = distribution.impute(incomplete, CPU)
    axes, shrinkage = distribution.axes, distribution.shrinkage
    # Up to a factor: the residual variance is 1.
    precision = np.eye(64) - (axes.T * shrinkage) @ axes
    steps = np.eye(64).reshape(64, 8, 8)
    for axis in (1, 2):
        differences = np.diff(steps, axis=axis).reshape(64, -1)
        precision += distribution.smoothness * differences @ differences.T
    covariance = np.linalg.inv(precision)
    mean = digits.mean(axis=0)
    for row in (1, 2, -1):
        missing, observed = is_missing[row], ~is_missing[row]
        regression = np.linalg.solve(
            covariance[np.ix_(observed, observed)],
            (digits[row] - mean)[observed],
        )
        expected = mean[missing] + covariance[np.ix_(missing, observed)] @ regression
        error = np.linalg.norm(imputed[row, missing] - expected)
        assert error < 0.02 * np.linalg.norm(expected - mean[missing])
    np.testing.assert_array_equal(imputed[~is_missing], digits[~is_missing])


def test_complete_images_are_not_copied(digits):
    assert fit(digits).impute(digits, CPU) is digits


def test_incomplete_images_tell_nearly_as_much_as_complete_ones(digits):
    incomplete, _ = with_holes(digits)
    images = load_digits().data[600:900]
    new, is_missing = with_holes(images, random_state=1)

    def error(distribution):
        imputed = distribution.impute(new, CPU)
        return np.std((imputed - images)[is_missing])

    complete = error(fit(digits))
    assert error(fit(incomplete)) < 1.1 * complete
    assert complete < 0.6 * np.std(images[is_missing])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("exponent", [-60, 0, 60])
def test_magnitude_and_dtype_are_kept(digits, dtype, exponent):
    incomplete, _ = with_holes(digits)
    expected = fit(incomplete).impute(incomplete, CPU)
    scaled = np.ldexp(incomplete, exponent).astype(dtype)
    imputed = fit(scaled).impute(scaled, CPU)
    assert imputed.dtype == dtype
    # In float32 the iterations may end a little earlier or later.
    np.testing.assert_allclose(np.ldexp(imputed, -exponent), expected, atol=0.1)


def test_pixels_that_do_not_vary_and_that_are_never_observed(digits):
    images = np.full((5, 64), 3.0)
    images[1:3, 7] = np.nan
    images[:, 9] = np.nan
    imputed = fit(images).impute(images, CPU)
    np.testing.assert_array_equal(np.delete(imputed, 9, axis=1), 3)
    np.testing.assert_array_equal(imputed[:, 9], 0)


def test_an_image_without_observed_pixels_is_the_mean(digits):
    distribution = fit(digits)
    imputed = distribution.impute(np.full((1, 64), np.nan), CPU)
    np.testing.assert_array_equal(imputed[0], distribution.mean)


def test_another_dtype_than_that_of_the_distribution(digits):
    distribution = fit(digits.astype(np.float32))
    incomplete, _ = with_holes(digits)
    assert distribution.impute(incomplete, CPU).dtype == np.float64


def test_with_few_images_adjacent_pixels_tell_most():
    rows, columns = np.mgrid[:40, :40]
    phases = np.random.default_rng(0).uniform(0, 6, size=(12, 3, 1, 1))
    waves = np.sin(rows / 6 + phases[:, 0]) + np.sin(columns / 5 + phases[:, 1])
    colors = np.stack([waves, 1 + 2 * waves, -waves], axis=-1).reshape(12, -1)
    is_missing = np.random.default_rng(1).random(colors.shape) < 0.25
    incomplete = np.where(is_missing, np.nan, colors)
    distribution = fit_pixel_distribution(incomplete, (40, 40, 3), CPU)
    error = (distribution.impute(incomplete, CPU) - colors)[is_missing]
    assert np.std(error) < 0.1 * np.std(colors)
