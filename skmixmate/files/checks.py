"""Checks of fitted attributes that come from untrusted files.

Types and shapes are checked first, by which the attributes fit together, then values.
Everything that prediction relies on is checked, and nothing else.
"""

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any

import numpy as np
import numpy.typing as npt

# Largest rounding error of a norm, and of the sum of the weights, that should be 1.
_NORM_TOLERANCE = 1e-2
_WEIGHTS_TOLERANCE = 1e-3

# Fitted rates are at most 10. The squares of much larger ones overflow.
_MAX_RATE = 1e6

_FLOATS = ("float32", "float64")
INTEGERS = tuple(f"{sign}int{size}" for sign in ("", "u") for size in (8, 16, 32, 64))

# Evidence for each number of clusters.
_SCORES = ("neighbors_gap", "directions_gap", "mixture_loss", "score")

# Shape of an array; None stands for the value None in place of an array.
Shape = tuple[int, ...] | None


class FormatError(Exception):
    """Invalid content of a file; the message continues a sentence about the file."""


def check_value(name: str, value: object, is_valid: object, expected: str) -> None:
    """Raise FormatError unless a value is valid.

    Parameters
    ----------
    name : str
    value : object
    is_valid : bool
    expected : str
        Description of the valid values.

    Raises
    ------
    FormatError
        If the value is not valid.
    """
    if not is_valid:
        if isinstance(value, np.ndarray):
            shown = f"an array of shape {value.shape} and type {value.dtype}"
        else:
            shown = truncate(repr(value))
        raise FormatError(f"has as {name} {shown}, which should be {expected}")


def check_scale(name: str, value: object, dtype: npt.DTypeLike) -> None:
    """Check that a value is a float that is a positive normal number of a type.

    Parameters
    ----------
    name : str
    value : object
    dtype : dtype

    Raises
    ------
    FormatError
        If it is not.
    """
    check_value(
        name, value, _is_scale(value, dtype), f"a positive number of type {dtype}"
    )


def check_floats(name: str, value: object, max_length: int | None = None) -> None:
    """Check that a value is a list of floats.

    Parameters
    ----------
    name : str
    value : object
    max_length : int or None, default=None

    Raises
    ------
    FormatError
        If it is not, or longer than `max_length`.
    """
    is_valid = isinstance(value, list) and all(isinstance(v, float) for v in value)
    expected = "a list of floats"
    if max_length is not None:
        is_valid = is_valid and len(value) <= max_length  # type: ignore[arg-type]
        expected = f"a list of at most {max_length} floats"
    check_value(name, value, is_valid, expected)


def check_bool(name: str, value: object) -> None:
    """Check that a value is True or False.

    Parameters
    ----------
    name : str
    value : object

    Raises
    ------
    FormatError
        If it is not.
    """
    check_value(name, value, isinstance(value, bool), "True or False")


def check_keys(name: str, value: object, keys: set[str]) -> None:
    """Check that a value is a dictionary with exactly these keys.

    Parameters
    ----------
    name : str
    value : object
    keys : set of str

    Raises
    ------
    FormatError
        If it is not.
    """
    is_valid = isinstance(value, dict) and value.keys() == keys
    check_value(name, value, is_valid, f"a dictionary with the names {sorted(keys)}")


def check_n_clusters_scores(scores: Any) -> None:
    """Check the evidence for the number of clusters.

    Parameters
    ----------
    scores : object
        Should be returned by :func:`~skmixmate.cluster.estimate_n_clusters`.

    Raises
    ------
    FormatError
        If it is not.
    """
    check_keys("n_clusters_scores", scores, {"n_clusters", *_SCORES})
    shape = leading_sizes(scores["n_clusters"], 1)
    check_arrays(scores, {"n_clusters": shape}, INTEGERS)
    check_arrays(scores, dict.fromkeys(_SCORES, shape), ("float64",))


def check_merging(values: Mapping[str, Any]) -> None:
    """Check the clusters of the components, and how far these are apart.

    Parameters
    ----------
    values : mapping
        `weights_`, `component_labels_` and `overlaps_` of a fitted estimator;
        the latter may be None.

    Raises
    ------
    FormatError
        If they do not fit together.
    """
    n_components = len(values["weights_"])
    labels, overlaps = values["component_labels_"], values["overlaps_"]
    if labels is not None:
        check_arrays(values, {"component_labels_": (n_components,)}, ("int64",))
    if overlaps is not None:
        shape = (n_components, n_components)
        check_arrays(values, {"overlaps_": shape}, ("float64",))


def check_merging_entries(values: Mapping[str, Any]) -> None:
    """Check the entries of the arrays of :func:`check_merging`.

    Parameters
    ----------
    values : mapping
        That has passed :func:`check_merging`.

    Raises
    ------
    FormatError
        If an entry is out of range.
    """
    labels, overlaps = values["component_labels_"], values["overlaps_"]
    if labels is not None:
        numbers = np.unique(labels)
        is_valid = np.array_equal(numbers, np.arange(len(numbers)))
        expected = "the integers from 0 without gaps"
        check_value("component_labels_", labels.tolist(), is_valid, expected)
    if overlaps is not None:
        total = overlaps.sum()
        is_valid = overlaps.min() >= 0 and abs(total - 1) <= _WEIGHTS_TOLERANCE
        check_value("overlaps_", overlaps, is_valid, "at least 0, with a sum of 1")


def truncate(text: str, length: int = 100) -> str:
    """Cut off the end of a long text.

    Parameters
    ----------
    text : str
    length : int, default=100

    Returns
    -------
    text : str
        At most `length` characters, followed by dots if some were cut off.
    """
    return text if len(text) <= length else f"{text[:length]}..."


def is_int(value: object, least: int = 0) -> bool:
    """Return whether a value is an integer, not a bool, and at least `least`.

    Parameters
    ----------
    value : object
    least : int, default=0

    Returns
    -------
    is_int : bool
    """
    is_integral = isinstance(value, Integral) and not isinstance(value, bool)
    return is_integral and value >= least  # type: ignore[operator]


def _is_scale(value: object, dtype: npt.DTypeLike) -> bool:
    limits = np.finfo(np.dtype(dtype))
    return isinstance(value, float) and bool(limits.tiny <= value <= limits.max)


def check_shape(name: str, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    """Check the shape of an array.

    Parameters
    ----------
    name : str
    shape, expected : tuple of int

    Raises
    ------
    FormatError
        If the shapes differ.
    """
    if shape != expected:
        raise FormatError(f"has {name} of shape {shape}, which should be {expected}")


def check_arrays(
    values: Mapping[str, Any],
    shapes: Mapping[str, Shape],
    dtypes: Sequence[str] = _FLOATS,
) -> None:
    """Check dtypes and shapes of arrays without reading their entries.

    Parameters
    ----------
    values : mapping of str to object
    shapes : mapping of str to tuple of int or None
        The expected shape of each array; None if the value should be None.
    dtypes : sequence of str, default=("float32", "float64")
        Names of the allowed dtypes.

    Raises
    ------
    FormatError
        If a value is not such an array.
    """
    for name, shape in shapes.items():
        value = values[name]
        if shape is None:
            check_value(name, value, value is None, "None")
            continue
        if not isinstance(value, np.ndarray):
            check_value(name, value, False, f"an array of shape {shape}")
        check_shape(name, value.shape, shape)
        if value.dtype.name not in dtypes:
            raise FormatError(
                f"has {name} of type {value.dtype}, which should be "
                f"{' or '.join(dtypes)}"
            )


def leading_sizes(value: object, n_axes: int) -> tuple[int, ...]:
    """Return the sizes of the first axes of a value that should be an array.

    Parameters
    ----------
    value : object
    n_axes : int

    Returns
    -------
    sizes : tuple of int, of length n_axes
        The first is at least 1; axes that the value does not have count as 1.
    """
    shape = value.shape if isinstance(value, np.ndarray) else ()
    n_first, *others = (*shape[:n_axes], *(1,) * n_axes)[:n_axes]
    return max(1, n_first), *others


def check_dictionaries(
    values: Mapping[str, Any], n_features: int, n_components: int | None = None
) -> None:
    """Check that the arrays of the model have types and shapes that fit together.

    Parameters
    ----------
    values : mapping
        `dictionaries_`, `intercepts_`, `weights_`, `rates_`, `noise_variance_` and
        `scale_` of a fitted estimator.
    n_features : int
        Number of features of the data.
    n_components : int or None, default=None
        Number of components of the representation, if there is one.

    Raises
    ------
    FormatError
        If they do not.
    """
    (n_clusters,) = leading_sizes(values["weights_"], 1)
    _, n_atoms = leading_sizes(values["dictionaries_"], 2)
    n_modelled = n_features if n_components is None else n_components
    has_rates = values["rates_"] is not None
    check_arrays(
        values,
        {
            "weights_": (n_clusters,),
            "dictionaries_": (n_clusters, n_atoms, n_modelled),
            "intercepts_": (n_clusters, n_modelled),
            "rates_": (n_clusters, n_atoms) if has_rates else None,
        },
    )
    for name in ("noise_variance_", "scale_"):
        check_scale(name, values[name], values["dictionaries_"].dtype)


def check_finite(values: Mapping[str, Any]) -> None:
    """Check that arrays have neither NaN nor infinite entries.

    Parameters
    ----------
    values : mapping of str to object
        Anything but arrays of floats is skipped.

    Raises
    ------
    FormatError
        If an array has such an entry.
    """
    for name, value in values.items():
        if isinstance(value, np.ndarray) and value.dtype.kind == "f":
            # A finite sum proves it in less time and memory than testing each entry.
            with np.errstate(over="ignore", invalid="ignore"):
                is_finite = np.isfinite(value.sum()) or np.isfinite(value).all()
            if not is_finite:
                raise FormatError(f"has {name} with entries that are not finite")


def check_norms(name: str, value: np.ndarray, may_be_less: bool = False) -> None:
    """Check that the vectors along the last axis have norm 1, or are 0.

    Parameters
    ----------
    name : str
    value : ndarray of shape (..., n_features)
        The first axis is gone through, so that copies are small.
    may_be_less : bool, default=False
        Whether a norm below 1 is valid too.

    Raises
    ------
    FormatError
        If a vector has another norm.
    """
    for vectors in value:
        with np.errstate(over="ignore"):
            norms = np.sqrt(np.square(vectors).sum(axis=-1))
        is_valid = (abs(norms - 1) <= _NORM_TOLERANCE) | ~vectors.any(axis=-1)
        if may_be_less:
            is_valid |= norms < 1
        if not is_valid.all():
            worst = norms[~is_valid].flat[0]
            expected = "at most 1" if may_be_less else "1"
            raise FormatError(
                f"has {name} of norm {worst:.6g}, which should be {expected}"
            )


def check_weights(weights: np.ndarray) -> None:
    """Check that weights are probabilities.

    Parameters
    ----------
    weights : ndarray of shape (n_clusters,)

    Raises
    ------
    FormatError
        If they are not.
    """
    is_one = abs(weights.sum(dtype=np.float64) - 1) <= _WEIGHTS_TOLERANCE
    if not (is_one and (weights >= 0).all()):
        raise FormatError(
            f"has weights_ that sum to {weights.sum():.6g}, the smallest "
            f"{weights.min():.6g}, which should be probabilities"
        )


def check_entries(values: Mapping[str, Any]) -> None:
    """Check the entries of the arrays of the model.

    Parameters
    ----------
    values : mapping
        That has passed :func:`check_dictionaries`.

    Raises
    ------
    FormatError
        If an entry is out of range.
    """
    check_finite(values)
    check_weights(values["weights_"])
    check_norms("dictionaries_", values["dictionaries_"])
    rates = values["rates_"]
    if rates is not None and rates.size:
        smallest, largest = float(rates.min()), float(rates.max())
        if not (_is_scale(smallest, rates.dtype) and largest <= _MAX_RATE):
            raise FormatError(
                f"has rates_ from {smallest:.6g} to {largest:.6g}, which should be "
                f"positive and at most {_MAX_RATE:.6g}"
            )
