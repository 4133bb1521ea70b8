"""Checks of fitted attributes that come from files.

A file may hold anything. What a model needs to answer, and nothing else, is checked
here: types and shapes first, by which the attributes fit together, and then values.
"""

import math
from numbers import Integral

import numpy as np

from ..image._features import default_scale
from ..image._scattering import ScatteringTransform, is_image_shape

# Deviations of norms, and of the sum of weights, from 1 that rounding may leave.
_NORM_TOLERANCE = 1e-2
_WEIGHTS_TOLERANCE = 1e-3

# A fit has rates up to 10. Squares of much larger ones overflow.
_LARGEST_RATE = 1e6

_FLOATS = ("float32", "float64")
INTEGERS = tuple(f"{sign}int{size}" for sign in ("", "u") for size in (8, 16, 32, 64))


class Unreadable(Exception):
    """Content of a file that no fit wrote; the message is a predicate of the file."""


def check_is(name, value, is_valid, expected):
    """Check one value.

    Parameters
    ----------
    name : str
    value : object
    is_valid : bool
    expected : str
        Description of the values that are valid.

    Raises
    ------
    Unreadable
        If the value is not valid.
    """
    if not is_valid:
        if isinstance(value, np.ndarray):
            value = f"an array of shape {value.shape} and type {value.dtype}"
        else:
            value = shortened(repr(value))
        raise Unreadable(f"has as {name} {value}, which should be {expected}")


def shortened(text, length=100):
    """Cut a text that may be long.

    Parameters
    ----------
    text : str
    length : int, default=100

    Returns
    -------
    text : str
        At most so many characters, and dots.
    """
    return text if len(text) <= length else f"{text[:length]}..."


def is_int(value, least=0):
    """Return whether a value is an integer, not a bool, and large enough.

    Parameters
    ----------
    value : object
    least : int, default=0

    Returns
    -------
    is_int : bool
    """
    is_integral = isinstance(value, Integral) and not isinstance(value, bool)
    return is_integral and value >= least


def is_scale(value, dtype="float64"):
    """Return whether a value is a float that is a positive normal number of a type.

    Parameters
    ----------
    value : object
    dtype : dtype, default="float64"

    Returns
    -------
    is_scale : bool
    """
    limits = np.finfo(dtype)
    return isinstance(value, float) and limits.tiny <= value <= limits.max


def check_array(name, value, shape, types=_FLOATS):
    """Check type and shape of an array, without a look at its entries.

    Parameters
    ----------
    name : str
    value : object
    shape : tuple of int
    types : sequence of str, default=("float32", "float64")
        Names of the types that its entries may have.

    Raises
    ------
    Unreadable
        If the value is no such array.
    """
    if not isinstance(value, np.ndarray):
        check_is(name, value, False, f"an array of shape {shape}")
    if value.shape != shape:
        raise Unreadable(f"has {name} of shape {value.shape}, which should be {shape}")
    if value.dtype.name not in types:
        raise Unreadable(
            f"has {name} of type {value.dtype}, which should be {' or '.join(types)}"
        )


def leading_sizes(value, n_axes):
    """First sizes of what should be an array.

    Parameters
    ----------
    value : object
    n_axes : int

    Returns
    -------
    sizes : tuple of int
        As many as there should be, at least 1 the first; 1 where there are fewer axes.
    """
    shape = value.shape if isinstance(value, np.ndarray) else ()
    n_first, *others = (*shape[:n_axes], *(1,) * n_axes)[:n_axes]
    return max(1, n_first), *others


def check_dictionaries(values, n_features, n_components=None):
    """Check that dictionaries, and what goes with them, fit together.

    Parameters
    ----------
    values : dict
        `dictionaries_`, `intercepts_`, `weights_`, `rates_`, `noise_variance_` and
        `scale_`, as of a fitted estimator.
    n_features : int
        Of the data.
    n_components : int or None
        Of the representation, if there is one.

    Raises
    ------
    Unreadable
        If they do not.
    """
    (n_clusters,) = leading_sizes(values["weights_"], 1)
    check_array("weights_", values["weights_"], (n_clusters,))
    _, n_atoms = leading_sizes(values["dictionaries_"], 2)
    n_modelled = n_features if n_components is None else n_components
    shape = (n_clusters, n_atoms, n_modelled)
    check_array("dictionaries_", values["dictionaries_"], shape)
    check_array("intercepts_", values["intercepts_"], (n_clusters, n_modelled))
    if values["rates_"] is not None:
        check_array("rates_", values["rates_"], (n_clusters, n_atoms))
    dtype = values["dictionaries_"].dtype
    for name in ("noise_variance_", "scale_"):
        is_valid = is_scale(values[name], dtype)
        check_is(name, values[name], is_valid, f"a positive number of type {dtype}")


def check_representation(state, image_shape, n_features):
    """Check that the axes of scattering coefficients fit images.

    Parameters
    ----------
    state : dict
        As :meth:`ScatteringFeatures.state_dict` returns it.
    image_shape : object
    n_features : int
        Of the data.

    Returns
    -------
    n_components : int

    Raises
    ------
    Unreadable
        If they do not.
    """
    check_image_shape("image_shape of the representation", image_shape, n_features)
    (n_components,) = leading_sizes(state["components_"], 1)
    check_array("decoder_", state["decoder_"], (n_components + 1, n_features))
    scattering = ScatteringTransform(image_shape, J=default_scale(image_shape))
    for name in ("J", "L", "order"):
        # The cost of a transform grows with them; no others have ever been written.
        expected = getattr(scattering, name)
        is_valid = is_int(state[name]) and state[name] == expected
        check_is(f"{name} of the scattering", state[name], is_valid, f"{expected}")
    scattering.fit(np.zeros((1, n_features), np.float32))
    n_coefficients = math.prod(scattering.output_shape_)
    check_array("mean_", state["mean_"], (n_coefficients,))
    check_array("components_", state["components_"], (n_components, n_coefficients))
    return n_components


def check_image_shape(name, value, n_features=None):
    """Check the shape of images.

    Parameters
    ----------
    name : str
    value : object
    n_features : int, default=None
        Product of the sizes, if that is known.

    Raises
    ------
    Unreadable
        If the value is not the shape of images, or not of images of so many features.
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
    check_is(name, value, is_valid, expected)


def check_finite(values):
    """Check that arrays have neither NaN nor infinite entries.

    Parameters
    ----------
    values : dict of str to object
        Only arrays of floats are looked at.

    Raises
    ------
    Unreadable
        If one has.
    """
    for name, value in values.items():
        if isinstance(value, np.ndarray) and value.dtype.kind == "f":
            # A sum that is finite takes less time and memory than a look at each.
            with np.errstate(over="ignore", invalid="ignore"):
                is_finite = np.isfinite(value.sum()) or np.isfinite(value).all()
            if not is_finite:
                raise Unreadable(f"has {name} with entries that are not finite")


def check_norms(values, axis=-1):
    """Check that vectors have norm 1, or are 0.

    Parameters
    ----------
    values : dict of str to ndarray
    axis : int or tuple of int, default=-1
        Axes of one vector, counted without the first axis of the array.

    Raises
    ------
    Unreadable
        If one has another norm.
    """
    for name, value in values.items():
        for part in value:
            with np.errstate(over="ignore"):
                norms = np.sqrt(np.square(part).sum(axis=axis))
            is_valid = (abs(norms - 1) <= _NORM_TOLERANCE) | ~part.any(axis=axis)
            if not is_valid.all():
                worst = norms[~is_valid].flat[0]
                raise Unreadable(f"has {name} of norm {worst:.6g}, which should be 1")


def check_weights(weights):
    """Check that weights are probabilities.

    Parameters
    ----------
    weights : ndarray of shape (n_clusters,)

    Raises
    ------
    Unreadable
        If they are not.
    """
    is_near = abs(weights.sum(dtype=np.float64) - 1) <= _WEIGHTS_TOLERANCE
    if not (is_near and (weights >= 0).all()):
        raise Unreadable(
            f"has weights_ that sum to {weights.sum():.6g}, the smallest "
            f"{weights.min():.6g}, which should be probabilities"
        )


def check_entries(values):
    """Check the entries of dictionaries and what goes with them.

    Parameters
    ----------
    values : dict
        That has passed :func:`check_dictionaries`.

    Raises
    ------
    Unreadable
        If an entry is out of its range.
    """
    check_finite(values)
    check_weights(values["weights_"])
    check_norms({"dictionaries_": values["dictionaries_"]})
    rates = values["rates_"]
    if rates is not None and rates.size:
        smallest, largest = float(rates.min()), float(rates.max())
        if not (is_scale(smallest, rates.dtype) and largest <= _LARGEST_RATE):
            raise Unreadable(
                f"has rates_ from {smallest:.6g} to {largest:.6g}, which should be "
                f"positive and at most {_LARGEST_RATE:.6g}"
            )


def check_representation_entries(state):
    """Check the entries of the axes of scattering coefficients.

    Parameters
    ----------
    state : dict
        That has passed :func:`check_representation`.

    Raises
    ------
    Unreadable
        If an entry is out of its range.
    """
    check_finite(state)
    check_norms({"components_": state["components_"][None]})
    mean = state["mean_"]
    # It is a mean of square roots, whose squares were numbers.
    largest = float(abs(mean).max())
    if largest > np.sqrt(np.finfo(mean.dtype).max):
        raise Unreadable(f"has mean_ with an entry of size {largest:.6g}, too large")
