import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from skmixmate.image._imputation import PixelDistribution, fit_pixel_distribution

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def digits():
    return load_digits().data[:600]


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
    distribution = fit_pixel_distribution(digits, CPU)
    imputed = distribution.impute(incomplete, CPU)
    axes, shrinkage = distribution.axes, distribution.shrinkage
    # Up to a factor: the residual variance is 1.
    covariance = np.eye(64) + (axes.T * shrinkage / (1 - shrinkage)) @ axes
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
    assert fit_pixel_distribution(digits, CPU).impute(digits, CPU) is digits


def test_incomplete_images_tell_nearly_as_much_as_complete_ones(digits):
    incomplete, _ = with_holes(digits)
    images = load_digits().data[600:900]
    new, is_missing = with_holes(images, random_state=1)

    def error(distribution):
        imputed = distribution.impute(new, CPU)
        return np.std((imputed - images)[is_missing])

    complete = error(fit_pixel_distribution(digits, CPU))
    assert error(fit_pixel_distribution(incomplete, CPU)) < 1.1 * complete
    assert complete < 0.6 * np.std(images[is_missing])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("exponent", [-60, 0, 60])
def test_magnitude_and_dtype_are_kept(digits, dtype, exponent):
    incomplete, _ = with_holes(digits)
    expected = fit_pixel_distribution(incomplete, CPU).impute(incomplete, CPU)
    scaled = np.ldexp(incomplete, exponent).astype(dtype)
    imputed = fit_pixel_distribution(scaled, CPU).impute(scaled, CPU)
    assert imputed.dtype == dtype
    # In float32 the iterations may end a little earlier or later.
    np.testing.assert_allclose(np.ldexp(imputed, -exponent), expected, atol=0.1)


def test_pixels_that_do_not_vary_and_that_are_never_observed(digits):
    images = np.full((5, 64), 3.0)
    images[1:3, 7] = np.nan
    images[:, 9] = np.nan
    imputed = fit_pixel_distribution(images, CPU).impute(images, CPU)
    np.testing.assert_array_equal(np.delete(imputed, 9, axis=1), 3)
    np.testing.assert_array_equal(imputed[:, 9], 0)


def test_an_image_without_observed_pixels_is_the_mean(digits):
    distribution = fit_pixel_distribution(digits, CPU)
    imputed = distribution.impute(np.full((1, 64), np.nan), CPU)
    np.testing.assert_array_equal(imputed[0], distribution.mean)


def test_another_dtype_than_that_of_the_distribution(digits):
    fitted = fit_pixel_distribution(digits.astype(np.float32), CPU)
    distribution = PixelDistribution(fitted.mean, fitted.axes, fitted.shrinkage)
    incomplete, _ = with_holes(digits)
    assert distribution.impute(incomplete, CPU).dtype == np.float64
