import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from skmixmate.image._turning import turn_images


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("image_shape", [(6, 6), (5, 5, 3)])
def test_a_quarter_turn_moves_every_pixel(image_shape, dtype):
    images = np.random.default_rng(0).normal(size=(4, *image_shape)).astype(dtype)
    turned = turn_images(images.reshape(4, -1), image_shape, 90)
    assert turned.dtype == dtype
    expected = np.rot90(images, axes=(1, 2)).reshape(4, -1)
    np.testing.assert_allclose(turned, expected, atol=1e-5)


@pytest.mark.parametrize("image_shape", [(9, 14), (14, 9, 2)])
def test_half_a_turn_of_images_that_are_not_square(image_shape):
    images = np.random.default_rng(0).normal(size=(4, *image_shape))
    turned = turn_images(images.reshape(4, -1), image_shape, 180)
    expected = images[:, ::-1, ::-1].reshape(4, -1)
    np.testing.assert_allclose(turned, expected, atol=1e-12)


def test_turning_back_restores_smooth_images():
    noise = np.random.default_rng(0).normal(size=(4, 20, 32))
    images = gaussian_filter(noise, (0, 4, 4)).reshape(4, -1)
    turned = turn_images(images, (20, 32), 10)
    restored = turn_images(turned, (20, 32), -10)
    middle = np.s_[:, 5:-5, 5:-5]
    there, back, before = (
        stack.reshape(4, 20, 32)[middle] for stack in (turned, restored, images)
    )
    assert np.abs(back - before).max() < 0.05 * np.abs(before).max()
    assert np.abs(there - before).max() > 0.2 * np.abs(before).max()


def test_what_is_outside_continues_the_edge():
    turned = turn_images(np.full((1, 64), 3.0), (8, 8), 30)
    np.testing.assert_allclose(turned, 3)
