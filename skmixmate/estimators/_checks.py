"""Checks of parameters against each other and against X, before any work is done."""

import math
from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.utils import check_array

from ..data.images import has_channels_first
from ..image._scattering import is_image_shape
from ..model.likelihoods import as_likelihood
from ..model.priors import PRIORS, Prior, as_prior, check_prior
from ._settings import N_ATOMS, given_n_clusters, is_init_array
from ._state import Rows, numpy_dtype

# Most initialisations that are tried, and most products of two atoms of a cluster that
# a model holds: 32 GiB in float64. More are mistakes, and would take all the time or
# memory there is.
_MAX_STARTS, _MAX_PRODUCTS = 10_000, 2**32


def check_params(params: Mapping[str, Any], X: Rows) -> None:
    """Check what depends on several parameters, or on X.

    Parameters
    ----------
    params : mapping
        Parameters of the estimator; each by itself is valid.
    X : ndarray, tensor or RowReader of shape (n_samples, n_features)

    Raises
    ------
    ValueError
        If parameters exclude each other, or do not fit X.
    TypeError
        If `prior` is a class.
    """
    _check_sizes(params)
    if not isinstance(params["prior"], str):
        _check_prior_instance(params)
    likelihood = as_likelihood(params["likelihood"])
    if not likelihood.has_noise_variance:
        _check_without_noise_variance(params)
    is_density = as_prior(params["prior"], 1.0).log_normalizer(1) is not None
    if params["noise_variance"] == "auto" and not is_density:
        raise ValueError(
            f"noise_variance='auto' should be a number with prior={params['prior']!r}; "
            "it is learned with 'laplace', 'group' and 'elastic_net'."
        )
    if params["image_shape"] is None:
        check_without_images(params)
    elif not isinstance(params["image_shape"], str):
        check_image_shape(params["image_shape"], X.shape[1])
    dtype = numpy_dtype(X)
    check_magnitudes(params, dtype)
    if isinstance(params["prior"], Prior):
        prior = params["prior"]
        check_magnitudes(
            {name: getattr(prior, name) for name in prior.rate_names}, dtype
        )
    if is_init_array(params["init"]):
        _check_init_array(params, X)
    if not isinstance(params["weights"], str):
        check_weights(params["weights"], given_n_clusters(params) or 0)


def _check_sizes(params: Mapping[str, Any]) -> None:
    n_clusters, n_atoms = given_n_clusters(params), params["n_atoms"]
    if n_clusters is None:
        if not isinstance(params["init"], str):
            raise ValueError(
                f"n_clusters='auto' should be the number of clusters that "
                f"init={params['init']!r} finds; it is estimated with a name or an "
                "array as init."
            )
        n_clusters = 1  # at least
    if n_atoms == 0 and not params["fit_intercept"]:
        raise ValueError(
            "n_atoms=0 with fit_intercept=False leaves nothing to fit; n_atoms "
            "should be at least 1, or fit_intercept True."
        )
    if params["n_init"] > _MAX_STARTS:
        raise ValueError(f"n_init={params['n_init']} should be at most {_MAX_STARTS}.")
    if n_atoms != "auto" and n_clusters * n_atoms**2 > _MAX_PRODUCTS:
        raise ValueError(
            f"n_atoms={n_atoms} is too large: n_clusters * n_atoms**2 should "
            f"be at most {_MAX_PRODUCTS}, with n_clusters={n_clusters}."
        )
    if params["init_size"] != "auto" and params["init_size"] < n_clusters:
        raise ValueError(
            f"init_size={params['init_size']} should be >= n_clusters={n_clusters}."
        )


def _check_prior_instance(params: Mapping[str, Any]) -> None:
    prior, n_atoms = params["prior"], params["n_atoms"]
    if params["alpha"] != "auto":
        raise ValueError(
            f"alpha={params['alpha']!r} should be 'auto' with prior={prior!r}: an "
            "instance has its own rate."
        )
    if type(prior) not in PRIORS.values():
        check_prior(prior, N_ATOMS if n_atoms == "auto" else n_atoms)


def _check_without_noise_variance(params: Mapping[str, Any]) -> None:
    """Check the parameters that only matter where noise has a variance."""
    likelihood = params["likelihood"]
    for name, *allowed in (
        ("noise_variance", 0.5),
        ("step_size", "auto"),
        ("scale", "auto", 1),
    ):
        value = params[name]
        if value not in allowed:
            raise ValueError(
                f"{name}={value!r} should be {allowed[0]!r} with "
                f"likelihood={likelihood!r}, where it has no meaning."
            )
    if params["representation"] == "scattering":
        raise ValueError(
            "representation='scattering' should be 'auto' or 'pixels' with "
            f"likelihood={likelihood!r}: coefficients are neither counts nor binary."
        )


def check_without_images(params: Mapping[str, Any]) -> None:
    """Check that nothing was asked for that is only for images.

    Parameters
    ----------
    params : mapping
        Parameters of an estimator whose rows are no images.

    Raises
    ------
    ValueError
        If there is a penalty of atoms, or scattering coefficients are to be modelled.
    """
    is_auto = params["image_shape"] == "auto"
    found = ", and the rows were not recognised as images" if is_auto else ""
    for name, is_used in (
        ("dictionary_penalty", params["dictionary_penalty"] > 0),
        ("representation", params["representation"] == "scattering"),
    ):
        if is_used:
            raise ValueError(
                f"{name}={params[name]!r} is for images{found}: set image_shape to "
                "their (height, width) or (height, width, n_channels)."
            )


def _check_init_array(params: Mapping[str, Any], X: Rows) -> None:
    init_shape = check_array(params["init"], allow_nd=True, input_name="init").shape
    n_atoms = params["n_atoms"]
    if n_atoms == "auto" and len(init_shape) == 3:
        n_atoms = init_shape[1]
    shape = (given_n_clusters(params), n_atoms, X.shape[1])
    if init_shape != shape:
        raise ValueError(
            f"init has shape {init_shape}, but should have shape "
            f"(n_clusters, n_atoms, n_features) = {shape}."
        )


def check_representation(params: Mapping[str, Any], models_scattering: bool) -> None:
    """Check that scattering coefficients can be modelled, where they are to be.

    Parameters
    ----------
    params : mapping
    models_scattering : bool

    Raises
    ------
    ValueError
        If atoms have a penalty.
    """
    penalty = params["dictionary_penalty"]
    if models_scattering and penalty > 0:
        raise ValueError(
            f"dictionary_penalty={penalty!r} is for pixels, not for scattering "
            "coefficients; representation should be 'pixels' from the first fit on."
        )


def check_continuation(
    params: Mapping[str, Any], fitted: tuple[int, int, int], n_features: int, what: str
) -> None:
    """Check that a fit can continue from a fitted model.

    Parameters
    ----------
    params : mapping
    fitted : tuple of int
        (n_clusters, n_atoms, n_features) of the model.
    n_features : int
        Of X.
    what : str
        Name of the method or parameter that continues.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    n_atoms = fitted[1] if params["n_atoms"] == "auto" else params["n_atoms"]
    shape = (given_n_clusters(params) or fitted[0], n_atoms, n_features)
    if fitted != shape:
        raise ValueError(
            f"{what} continues from dictionaries of shape {fitted}, but "
            f"(n_clusters, n_atoms, n_features) is {shape} now; call fit with "
            "warm_start=False to start again."
        )


def check_image_shape(image_shape: Any, n_features: int) -> None:
    """Check that rows can be images of a shape.

    Parameters
    ----------
    image_shape : sequence of int
    n_features : int

    Raises
    ------
    ValueError
        If they cannot.
    """
    shape = tuple(image_shape)
    if is_image_shape(shape) and has_channels_first(shape):
        n_channels, *sides = shape
        raise ValueError(
            f"image_shape={image_shape!r} has the channels first, but they should be "
            f"last, {(*sides, n_channels)}: pass images with their channels as the "
            f"last axis, X.reshape{(-1, *shape)}.transpose(0, 2, 3, 1)."
        )
    fits = is_image_shape(shape) and math.prod(shape) == n_features
    if not fits or min(shape[:2]) < 2:
        raise ValueError(
            f"image_shape={image_shape!r} should be (height, width) or "
            "(height, width, n_channels), integers, the first two at least 2, "
            f"and multiply to n_features={n_features}."
        )


def check_weights(weights: npt.ArrayLike, n_clusters: int) -> None:
    """Check weights that are given one by one.

    Parameters
    ----------
    weights : array-like of shape (n_clusters,)
    n_clusters : int

    Raises
    ------
    ValueError
        If they are not `n_clusters` positive numbers that sum to 1.
    """
    try:
        values = check_array(weights, ensure_2d=False, input_name="weights")
    except ValueError as error:
        raise ValueError(
            f"weights={weights!r} should be numbers, one per cluster: {error}"
        ) from error
    if values.shape != (n_clusters,):
        raise ValueError(
            f"weights has shape {values.shape}, but should have shape "
            f"(n_clusters,) = {(n_clusters,)}."
        )
    if values.min() <= 0 or not np.isclose(values.sum(), 1):
        raise ValueError(
            f"weights={weights!r} should be positive and sum to 1; they "
            f"sum to {values.sum():.6g} and the smallest is {values.min():.6g}."
        )


def check_magnitudes(params: Mapping[str, Any], dtype: npt.DTypeLike) -> None:
    """Check that parameters do not lead to numbers out of the range of floats.

    Parameters
    ----------
    params : mapping
        Parameters of an estimator, or rates of a prior, by name. Those without a limit
        here, and those that are not numbers, are ignored.
    dtype : dtype
        Of the data.

    Raises
    ------
    ValueError
        If one is too large or too small.
    """
    info = np.finfo(dtype)
    eps, tiny = float(info.eps), float(info.tiny)
    # Energies are divided by the noise variance, and the scale is divided by; atoms
    # move by the learning rate before their squares are taken.
    limits = {
        "alpha": (0.0, eps**2 / tiny),
        "ridge": (0.0, eps**2 / tiny),
        "noise_variance": (eps**2, 1 / eps**2),
        "scale": (tiny, 1 / tiny),
        "learning_rate": (0.0, 1 / eps**2),
        "dictionary_penalty": (0.0, 1 / eps**2),
    }
    for name, (least, most) in limits.items():
        value: Any = params.get(name)
        if isinstance(value, np.generic):  # the limits may be more than its type holds
            value = value.item()
        is_number = isinstance(value, Real)
        if is_number and not least <= value <= most:
            raise ValueError(
                f"{name}={value!r} should be between {least:.3g} and {most:.3g} for "
                f"{np.dtype(dtype)} data, or numbers leave the range of floats."
            )


def initial_weights(
    weights: str | npt.ArrayLike, n_clusters: int, dtype: npt.DTypeLike
) -> np.ndarray:
    """Return the weights that training starts from.

    Parameters
    ----------
    weights : str or array-like of shape (n_clusters,)
        A name stands for equal weights.
    n_clusters : int
    dtype : dtype

    Returns
    -------
    weights : ndarray of shape (n_clusters,)

    Raises
    ------
    ValueError
        If the dtype cannot hold one of them.
    """
    if isinstance(weights, str):
        return np.full(n_clusters, 1 / n_clusters, dtype=dtype)
    values = np.array(weights, dtype=dtype)
    tiny = np.finfo(dtype).tiny
    if values.min() < tiny:
        raise ValueError(
            f"weights={weights!r} should be at least {tiny:.3g} each, the smallest "
            f"normal number of {np.dtype(dtype)}; one is {np.min(weights):.3g}."
        )
    return values


def check_n_observed(n_observed: int, n_clusters: int, has_weights: bool) -> None:
    """Check that there are enough rows to cluster.

    Parameters
    ----------
    n_observed : int
        Rows with an observed entry, and a positive weight.
    n_clusters : int
    has_weights : bool
        Whether rows have weights.

    Raises
    ------
    ValueError
        If there are fewer rows than clusters.
    """
    if n_observed < n_clusters:
        weight = " and a positive sample_weight" if has_weights else ""
        raise ValueError(
            f"Only n_samples={n_observed} rows of X have an observed value{weight}; at "
            f"least n_clusters={n_clusters} are needed."
        )
