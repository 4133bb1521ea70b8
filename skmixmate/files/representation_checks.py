"""Checks of the representation of images that comes from untrusted files."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..image._features import IMPUTATION, default_scale
from ..image._scattering import ScatteringTransform, is_image_shape
from .checks import (
    FormatError,
    check_arrays,
    check_finite,
    check_norms,
    check_value,
    is_int,
    leading_sizes,
)


def check_representation(
    state: Mapping[str, Any], image_shape: Any, n_features: int
) -> int:
    """Check that the components of scattering coefficients fit the images.

    Parameters
    ----------
    state : mapping
        Returned by :meth:`ScatteringFeatures.state_dict`.
    image_shape : object
    n_features : int
        Number of features of the data.

    Returns
    -------
    n_components : int

    Raises
    ------
    FormatError
        If they do not.
    """
    check_image_shape("image_shape of the representation", image_shape, n_features)
    (n_components,) = leading_sizes(state["components_"], 1)
    check_arrays(state, {"decoder_": (n_components + 1, n_features)})
    scattering = ScatteringTransform(image_shape, J=default_scale(image_shape))
    for name in ("J", "L", "order"):
        # The cost of a transform grows with these, and all versions have written the
        # same values.
        expected = getattr(scattering, name)
        is_valid = is_int(state[name]) and state[name] == expected
        check_value(f"{name} of the scattering", state[name], is_valid, f"{expected}")
    scattering.fit(np.zeros((1, n_features), np.float32))
    n_coefficients = math.prod(scattering.output_shape_)
    check_arrays(
        state,
        {
            "mean_": (n_coefficients,),
            "components_": (n_components, n_coefficients),
        },
    )
    if any(state.get(name) is not None for name in IMPUTATION):
        _check_imputation(state, n_features)
    return n_components


def _check_imputation(state: Mapping[str, Any], n_features: int) -> None:
    """Check the arrays that missing pixels are imputed by."""
    (n_axes,) = leading_sizes(state["pixel_axes_"], 1)
    check_value("number of axes", n_axes, n_axes <= n_features, f"at most {n_features}")
    check_arrays(
        state,
        {
            "pixel_mean_": (n_features,),
            "pixel_axes_": (n_axes, n_features),
            "pixel_shrinkage_": (n_axes,),
        },
    )
    smoothness = state["pixel_smoothness_"]
    is_valid = isinstance(smoothness, float) and 0 <= smoothness <= n_features
    check_value("pixel_smoothness_", smoothness, is_valid, "a float, not negative")


def check_image_shape(name: str, value: Any, n_features: int | None = None) -> None:
    """Check the shape of images.

    Parameters
    ----------
    name : str
    value : object
    n_features : int or None, default=None
        Product of the sizes, if it is known.

    Raises
    ------
    FormatError
        If the value is not the shape of images with `n_features` features.
    """
    if isinstance(value, np.ndarray):
        value = value.tolist()
    is_valid = isinstance(value, (tuple, list)) and is_image_shape(value)
    is_valid = is_valid and not any(isinstance(size, bool) for size in value)
    is_valid = is_valid and min(value[:2]) >= 2
    expected = "(height, width) or (height, width, n_channels)"
    if n_features is not None:
        is_valid = is_valid and math.prod(value) == n_features
        expected += f" of {n_features} features"
    check_value(name, value, is_valid, expected)


def check_representation_entries(state: Mapping[str, Any]) -> None:
    """Check the entries of the components of scattering coefficients.

    Parameters
    ----------
    state : mapping
        That has passed :func:`check_representation`.

    Raises
    ------
    FormatError
        If an entry is out of range.
    """
    check_finite(state)
    # Directions that count less are shorter.
    check_norms("components_", state["components_"][None], may_be_less=True)
    if state.get("pixel_mean_") is not None:
        check_norms("pixel_axes_", state["pixel_axes_"][None])
        shrinkage = state["pixel_shrinkage_"]
        if not 0 <= shrinkage.min() <= shrinkage.max() < 1:
            raise FormatError(
                f"has pixel_shrinkage_ from {shrinkage.min():.6g} to "
                f"{shrinkage.max():.6g}, which should be at least 0 and less than 1"
            )
    mean = state["mean_"]
    # It is a mean of square roots, whose squares are finite.
    largest = float(abs(mean).max())
    if largest > np.sqrt(np.finfo(mean.dtype).max):
        raise FormatError(f"has mean_ with an entry of size {largest:.6g}, too large")
