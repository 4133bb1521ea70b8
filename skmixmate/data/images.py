"""Arrays of images, which are rows of pixels to all other modules."""

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset

# What the data may be: images of a known shape, of any shape, or no images.
ExpectedShape: TypeAlias = Sequence[int] | str | None

# Numbers of channels that a colour image may have: grey, RGB, and RGB with opacity.
_CHANNELS = (1, 3, 4)


def has_channels_first(shape: Sequence[int]) -> bool:
    """Return whether a shape is (n_channels, height, width).

    Parameters
    ----------
    shape : sequence of int
        Of an image.
    """
    if len(shape) != 3:
        return False
    n_channels, height, width = shape
    is_first = n_channels in _CHANNELS and min(height, width) > n_channels
    return is_first and width not in _CHANNELS


def is_same_image(shape: Sequence[int], other: Sequence[int]) -> bool:
    """Return whether two shapes are of the same images; one channel may be left out."""
    return [*shape, 1][:3] == [*other, 1][:3]


def flatten_images(
    X: Any, expected: ExpectedShape
) -> tuple[Any, tuple[int, ...] | None]:
    """Flatten an array of images to rows.

    Parameters
    ----------
    X : ndarray, tensor or list
        Of shape (n_samples, height, width) or (n_samples, height, width, n_channels).
        Anything else is returned as it is.
    expected : tuple of int, "auto" or None
        The shape of images; "auto" for any, None if they are no images.

    Returns
    -------
    X : ndarray, tensor or object
        Of shape (n_samples, n_features): a view, if strides allow it.
    item_shape : tuple of int or None
        (height, width) or (height, width, n_channels); None if X has rows already.

    Raises
    ------
    ValueError
        See :func:`check_images`.
    """
    if isinstance(X, (list, tuple)) and _depth(X) in (3, 4):
        X = np.asarray(X)
    is_array = isinstance(X, (np.ndarray, torch.Tensor))
    if not is_array or X.ndim not in (3, 4):
        return X, None
    check_images(X.shape, expected, "permute" if torch.is_tensor(X) else "transpose")
    item_shape = tuple(X.shape[1:])
    return X.reshape(len(X), math.prod(item_shape)), item_shape


def check_images(
    shape: Sequence[int], expected: ExpectedShape, method: str = "transpose"
) -> None:
    """Check the shape of an array of images.

    Parameters
    ----------
    shape : sequence of int
        (n_samples, height, width) or (n_samples, height, width, n_channels).
    expected : tuple of int, "auto" or None
        The shape of images; "auto" for any, None if they are no images.
    method : str
        Of the array, that permutes its axes.

    Raises
    ------
    ValueError
        If the channels come first, an image is a single line, or it is not of the
        expected shape.
    """
    item_shape = tuple(shape[1:])
    if expected is None:
        return
    is_known = not isinstance(expected, str)
    if is_known and is_same_image(item_shape, [int(n) for n in expected]):
        return
    if has_channels_first(item_shape):
        raise ValueError(
            f"X has shape {tuple(shape)}, with the channels of each image first, but "
            "they should be the last axis: pass "
            f"X.{method}(0, 2, 3, 1), of shape {(shape[0], *shape[2:], shape[1])}."
        )
    if is_known:
        raise ValueError(
            f"X has images of shape {item_shape}, but image_shape={tuple(expected)}; "
            "both should be the same."
        )
    if min(item_shape[:2]) < 2:
        raise ValueError(
            f"X has shape {tuple(shape)}, but arrays of images should have shape "
            "(n_samples, height, width) or (n_samples, height, width, n_channels), "
            "with height and width at least 2. Reshape other data to "
            "(n_samples, n_features)."
        )


def image_shape_of_items(
    item_shape: tuple[int, ...], expected: ExpectedShape
) -> tuple[int, ...] | None:
    """Find the shape of the images that are the items of a dataset.

    Parameters
    ----------
    item_shape : tuple of int
        One channel may come first, as many datasets have it.
    expected : tuple of int, "auto" or None
        The shape of images; "auto" for any, None if they are no images.

    Returns
    -------
    image_shape : tuple of int or None
        None if items are rows, or no images.

    Raises
    ------
    ValueError
        If they are images of another shape, or with several channels first.
    """
    if len(item_shape) < 2 or expected is None:
        return None
    remedy = "Permute them to that shape, channels last."
    if not isinstance(expected, str):
        image_shape = tuple(int(size) for size in expected)
        sizes, wanted = ([n for n in s if n != 1] for s in (item_shape, image_shape))
        if sizes != wanted:
            raise ValueError(
                f"The items of X have shape {item_shape}, but image_shape="
                f"{image_shape}. {remedy}"
            )
        return image_shape
    if len(item_shape) == 3 and item_shape[0] == 1:
        item_shape = item_shape[1:]
    if has_channels_first(item_shape):
        raise ValueError(
            f"The items of X have shape {item_shape}, with the channels first, but "
            "they should be the last axis: permute(1, 2, 0) of a tensor does so."
        )
    is_image = len(item_shape) in (2, 3) and min(item_shape[:2]) > 1
    return item_shape if is_image else None


def shape_of_images(X: Any) -> tuple[int, ...] | None:
    """Return the shape of the images in an array of images.

    Parameters
    ----------
    X : object
        Valid data.

    Returns
    -------
    item_shape : tuple of int or None
        None if X is not an array of images; a Dataset is not.
    """
    if isinstance(X, (list, tuple)):
        item_shape = getattr(X[0], "shape", None) or np.shape(X[0])
    elif isinstance(X, (Dataset, DataLoader)):
        return None
    else:
        item_shape = getattr(X, "shape", ())[1:]
    return tuple(item_shape) if len(item_shape) > 1 else None


def restore_images(rows: Any, item_shape: tuple[int, ...] | None) -> Any:
    """Return rows as images, if they were images.

    Parameters
    ----------
    rows : ndarray or tensor of shape (n_rows, n_features)
    item_shape : tuple of int or None
        None to leave them as they are.

    Returns
    -------
    images : ndarray or tensor of shape (n_rows, *item_shape)
        A view.
    """
    return rows if item_shape is None else rows.reshape(len(rows), *item_shape)


def _depth(X: Any) -> int:
    """Return the number of axes of a nested list, whose last ones may be arrays."""
    depth = 0
    while isinstance(X, (list, tuple)):
        depth += 1
        if not X:
            return depth
        X = X[0]
    return depth + len(getattr(X, "shape", ()))


def flatten_slice(rows: Any) -> npt.NDArray[Any] | torch.Tensor:
    """Flatten images that were read.

    Parameters
    ----------
    rows : array-like or tensor of shape (n_rows, ...)

    Returns
    -------
    rows : ndarray or tensor of shape (n_rows, n_features)
    """
    array = rows if isinstance(rows, torch.Tensor) else np.asanyarray(rows)
    return array.reshape(len(array), math.prod(array.shape[1:]))
