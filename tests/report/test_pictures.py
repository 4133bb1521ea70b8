"""Pictures inside the HTML of a report."""

import base64
import io
import re

import numpy as np
import pytest

from skmixmate.report import image_tags
from skmixmate.report._pictures import color_of, map_svg

image = pytest.importorskip("matplotlib.image")


def pixels(tag):
    """Return the pixels of an HTML image, of shape (height, width, 4), in [0, 1]."""
    data = re.search('base64,([^"]*)', tag).group(1)
    return image.imread(io.BytesIO(base64.b64decode(data)), format="png")


def test_grey_images_share_a_scale():
    samples = np.array([[0.0, 1, 2, 3, 4, 5], [10, 10, 10, 10, 10, 10]])
    dark, light = (pixels(tag) for tag in image_tags(samples, (2, 3)))
    assert dark.shape == (2, 3, 4)
    np.testing.assert_allclose(dark[..., 0].ravel(), samples[0] / 10, atol=1 / 255)
    np.testing.assert_array_equal(dark[..., 0], dark[..., 2])
    assert (light == 1).all()


def test_missing_pixels_are_transparent():
    (tag,) = image_tags(np.array([[0, np.nan, 1, 0.5]]), (2, 2))
    np.testing.assert_array_equal(pixels(tag)[..., 3], [[1, 0], [1, 1]])
    (tag,) = image_tags(np.full((1, 4), np.nan), (2, 2))
    assert not pixels(tag)[..., 3].any()


def test_three_channels_are_colours():
    sample = np.linspace(0, 1, 12)[None]
    (tag,) = image_tags(sample, (2, 2, 3))
    expected = sample.reshape(2, 2, 3)
    np.testing.assert_allclose(pixels(tag)[..., :3], expected, atol=1 / 255)


def test_other_channels_are_drawn_side_by_side():
    sample = np.arange(8.0)[None]  # two channels of 2 x 2 pixels
    (tag,) = image_tags(sample, (2, 2, 2))
    expected = np.array([[0, 2, 1, 3], [4, 6, 5, 7]]) / 7
    np.testing.assert_allclose(pixels(tag)[..., 0], expected, atol=1 / 255)


def test_the_map_has_a_dot_for_each_sample_and_a_number_for_each_cluster():
    points = np.array([[0, 0], [0, 1], [5, 5], [5, 6]], dtype=float)
    svg = map_svg(points, np.array([0, 0, 2, 2]), 3)
    assert svg.count('r="2.2"') == 4
    assert re.findall(r">(\d)</text>", svg) == ["0", "2"]
    assert svg.count(color_of(2, 3)) == 2


@pytest.mark.parametrize("points", [np.zeros((3, 2)), np.eye(2)[[0, 0, 1]] * [0, 1]])
def test_a_map_without_extent_is_drawn(points):
    svg = map_svg(points, np.array([0, 0, 1]), 2)
    assert "nan" not in svg
    assert svg.count('r="2.2"') == 3


def test_a_large_map_shows_some_of_the_samples():
    points = np.random.default_rng(0).normal(size=(20_000, 2))
    svg = map_svg(points, np.zeros(20_000, dtype=int), 1)
    assert 2000 < svg.count('r="2.2"') <= 3000
