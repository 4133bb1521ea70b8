"""Arrays of images are rows of pixels."""

import numpy as np
import pytest
import torch

from skmixmate.data.images import (
    check_images,
    flatten_images,
    image_shape_of_items,
    restore_images,
    shape_of_images,
)


@pytest.mark.parametrize("shape", [(5, 4, 6), (5, 4, 6, 3)])
@pytest.mark.parametrize("expected", ["auto", None, "same"])
def test_images_are_flattened_without_a_copy(shape, expected):
    images = np.arange(np.prod(shape), dtype=float).reshape(shape)
    expected = shape[1:] if expected == "same" else expected
    for X in (images, torch.from_numpy(images)):
        rows, item_shape = flatten_images(X, expected)
        assert item_shape == shape_of_images(X) == shape[1:]
        assert np.shares_memory(np.asarray(rows), images)
        np.testing.assert_array_equal(rows, images.reshape(5, -1))
        assert restore_images(rows, item_shape).shape == shape


@pytest.mark.parametrize("convert", [np.ndarray.tolist, list, tuple])
def test_lists_of_images_are_flattened(convert):
    images = np.arange(120.0).reshape(5, 4, 6)
    rows, item_shape = flatten_images(convert(images), "auto")
    assert item_shape == shape_of_images(convert(images)) == (4, 6)
    np.testing.assert_array_equal(rows, images.reshape(5, -1))


@pytest.mark.parametrize(
    "X", [np.ones((5, 24)), torch.ones(5, 24), np.ones(5), [[1.0, 2.0]], [], "text"]
)
def test_anything_else_is_returned_as_it_is(X):
    rows, item_shape = flatten_images(X, (4, 6))
    assert rows is X
    assert item_shape is None


def test_one_channel_may_be_left_out():
    check_images((5, 4, 6, 1), (4, 6))
    check_images((5, 4, 6), (4, 6, 1))


@pytest.mark.parametrize("n_channels", [1, 3, 4])
def test_channels_first_are_rejected_with_a_remedy(n_channels):
    X = np.ones((5, n_channels, 8, 6))
    message = r"X.transpose\(0, 2, 3, 1\), of shape \(5, 8, 6, "
    with pytest.raises(ValueError, match=message):
        flatten_images(X, "auto")
    with pytest.raises(ValueError, match=r"X.permute\(0, 2, 3, 1\)"):
        flatten_images(torch.from_numpy(X), (8, 6, n_channels))
    assert flatten_images(X, None)[0].shape == (5, 48 * n_channels)
    assert flatten_images(X.transpose(0, 2, 3, 1), "auto")[1] == (8, 6, n_channels)


@pytest.mark.parametrize("shape", [(5, 3, 4, 3), (5, 4, 4, 4), (5, 3, 3, 8)])
def test_small_images_with_channels_last_are_accepted(shape):
    assert flatten_images(np.ones(shape), "auto")[1] == shape[1:]


@pytest.mark.parametrize(
    ("shape", "expected", "message"),
    [
        ((5, 4, 6), (6, 4), r"images of shape \(4, 6\), but image_shape=\(6, 4\)"),
        ((5, 4, 6, 3), (4, 6), r"\(4, 6, 3\), but image_shape=\(4, 6\)"),
        ((5, 1, 6), "auto", r"\(5, 1, 6\), but arrays of images .* at least 2"),
    ],
)
def test_other_shapes_are_rejected(shape, expected, message):
    with pytest.raises(ValueError, match=message):
        check_images(shape, expected)


@pytest.mark.parametrize(
    ("item_shape", "expected", "image_shape"),
    [
        ((24,), "auto", None),
        ((4, 6), "auto", (4, 6)),
        ((1, 4, 6), "auto", (4, 6)),
        ((4, 6, 3), "auto", (4, 6, 3)),
        ((1, 24), "auto", None),
        ((2, 3, 2, 2), "auto", None),
        ((1, 4, 6), (4, 6), (4, 6)),
        ((3, 8, 8), None, None),
    ],
)
def test_items_of_datasets_may_be_images(item_shape, expected, image_shape):
    assert image_shape_of_items(item_shape, expected) == image_shape


@pytest.mark.parametrize("expected", ["auto", (8, 6, 3)])
def test_items_with_channels_first_are_rejected(expected):
    with pytest.raises(ValueError, match=r"\(3, 8, 6\).*[Pp]ermute"):
        image_shape_of_items((3, 8, 6), expected)
