"""Content of a model file: estimators are restored from it, and checked.

A file may have been made by anyone, so everything that prediction relies on is checked
before it is used.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from sklearn.utils._param_validation import (
    InvalidParameterError,
    validate_parameter_constraints,
)

from .._version import __version__
from ..image._features import ScatteringFeatures
from ..model.likelihood import Likelihood
from ..model.likelihoods import LIKELIHOODS, as_likelihood
from ..model.priors import PRIORS
from .checks import (
    INTEGERS,
    FormatError,
    check_arrays,
    check_bool,
    check_dictionaries,
    check_entries,
    check_floats,
    check_merging,
    check_merging_entries,
    check_n_clusters_scores,
    check_shape,
    check_value,
    is_int,
    leading_sizes,
    truncate,
)
from .representation_checks import (
    check_image_shape,
    check_representation,
    check_representation_entries,
)

# Fitted attributes that a file holds, besides `representation_` and names of features.
ATTRIBUTES = (
    "dictionaries_",
    "intercepts_",
    "rates_",
    "noise_variance_",
    "weights_",
    "labels_",
    "loss_",
    "loss_curve_",
    "n_iter_",
    "converged_",
    "scale_",
    "n_features_in_",
)

# What alpha="auto" was on scattering coefficients in earlier versions.
_EARLIER_SCATTERING_ALPHA = 0.2

# Fitted attributes that files of earlier versions do not have.
MERGING_ATTRIBUTES = ("component_labels_", "overlaps_")

# Parameters of ScatteringFeatures that a file holds. The others are parameters of the
# estimator, or used by fit only.
REPRESENTATION_PARAMETERS = ("image_shape", "n_components", "max_samples")

# Errors raised by a description that is JSON, but not as `write_model` writes it.
SCHEMA_ERRORS = (
    AttributeError,
    KeyError,
    OverflowError,
    RecursionError,
    TypeError,
    ValueError,
)

# Estimators of earlier versions, and why they were removed.
_REMOVED = {
    "ConvolutionalMixMate": "training made its clusters worse than they started; see "
    "the page on images for textures"
}

# Largest number of layers: after so many, codes have converged in float32, and each
# layer makes all predictions slower.
_MAX_LAYERS = 5000

# Numeric parameters that prediction uses, and their largest value: a float32, with room
# for products.
_BOUNDED_PARAMS, _MAX_PARAM = ("alpha", "step_size"), 1e30


def restore_estimator(
    description: Mapping[str, Any],
    arrays: dict[str, np.ndarray],
    classes: Mapping[str, type[Any]],
    device: str | torch.device | None,
) -> Any:
    """Restore an estimator, and check everything but the entries of large arrays.

    Parameters
    ----------
    description : mapping
        Content of ``skmixmate.json``.
    arrays : dict of str to ndarray
        Arrays by the names of their members; all are removed. Their entries may be
        filled in later, see :func:`check_array_entries`.
    classes : mapping of str to type
        Classes of estimators by their names in the description.
    device : str, torch.device or None
        Replaces the parameter `device`, unless None.

    Returns
    -------
    estimator : estimator

    Raises
    ------
    FormatError
        If :func:`~skmixmate.files.model_file.write_model` does not write such content.
    """

    def decode(values: Mapping[str, Any]) -> dict[str, Any]:
        return {name: _decode(value, arrays) for name, value in values.items()}

    try:
        estimator_class = _find_class(description, classes)
        parameters = decode(description["parameters"])
        estimator = estimator_class(**parameters)
        _check_parameters(estimator, check_device=device is None)
        if device is not None:
            estimator.device = device
        fitted_parameters = decode(description.get("settings", {}))
        estimator._fitted_params = _restore_settings(
            estimator_class, parameters, fitted_parameters
        )
        attributes = decode(description["attributes"])
        for name in ATTRIBUTES:
            setattr(estimator, name, attributes[name])
        estimator.likelihood_ = _restore_likelihood(
            estimator._fitted_params["likelihood"],
            description.get("likelihood"),
            arrays,
        )
        _check_attributes(estimator)
        estimator.image_shape_ = _restore_image_shape(description, estimator)
        if description["feature_names"] is not None:
            estimator.feature_names_in_ = _restore_feature_names(
                description["feature_names"], estimator.n_features_in_
            )
        estimator.representation_ = _restore_representation(
            decode(description["representation"] or {}), estimator
        )
        set_earlier_alpha(estimator)
        _check_dictionaries(estimator)
        # Files of earlier versions have none.
        scores = description.get("n_clusters_scores")
        estimator.n_clusters_scores_ = None if scores is None else decode(scores)
        if scores is not None:
            check_n_clusters_scores(estimator.n_clusters_scores_)
        later = {name: description.get(name) for name in MERGING_ATTRIBUTES}
        vars(estimator).update(decode(later))
        check_merging(vars(estimator))
    except SCHEMA_ERRORS as error:
        reason = truncate(repr(error))
        raise FormatError(
            f"does not describe an estimator as save writes it ({reason})"
        ) from error
    if arrays:
        raise FormatError(f"has members that no estimator uses: {sorted(arrays)}")
    return estimator


def set_earlier_alpha(estimator: Any) -> None:
    """Set the rate of a model of images that was fitted by an earlier version.

    Parameters
    ----------
    estimator : MixMateClustering
        Fitted. If its rate is "auto", it is of an earlier version: later ones keep the
        rate itself.
    """
    params = estimator._fitted_params
    has_own_rate = not isinstance(params["prior"], str)
    if estimator.representation_ is None or has_own_rate:
        return
    if params["alpha"] == "auto":
        params["alpha"] = _EARLIER_SCATTERING_ALPHA


def _find_class(
    description: Mapping[str, Any], classes: Mapping[str, type[Any]]
) -> type[Any]:
    """Return the class of the estimator in the file."""
    kind = description["estimator"]
    if kind in _REMOVED:
        raise FormatError(
            f"holds a {kind}, written by skmixmate {description['skmixmate_version']}, "
            f"which was removed before skmixmate {__version__}: {_REMOVED[kind]}"
        )
    if kind not in classes:
        raise ValueError(f"an estimator with the name {kind!r}")
    return classes[kind]


def _decode(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    """Convert a value from JSON; arrays are removed from `arrays`."""
    if isinstance(value, list):
        return [_decode(item, arrays) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"array"}:
        name = f"{value['array']}.npy"
        if name not in arrays:
            raise FormatError(f"has no member {name!r}")
        return arrays.pop(name)
    if value.keys() == {"tuple"}:
        return tuple(_decode(list(value["tuple"]), arrays))
    if value.keys() == {"prior", "parameters"}:
        return PRIORS[value["prior"]](**value["parameters"])
    if value.keys() == {"likelihood", "parameters"}:
        return LIKELIHOODS[value["likelihood"]](**value["parameters"])
    raise ValueError(f"a dictionary with the names {sorted(value)}")


def _check_parameters(estimator: Any, check_device: bool) -> None:
    """Check each parameter; conditions on several parameters matter to fit only."""
    name = type(estimator).__name__
    constraints, values = estimator._parameter_constraints, estimator.get_params(False)
    try:
        validate_parameter_constraints(constraints, values, caller_name=name)
    except InvalidParameterError as error:
        reason = truncate(str(error), 500)
        raise FormatError(f"has a parameter out of its range ({reason})") from error
    for name, value in values.items():
        is_finite = not isinstance(value, float) or math.isfinite(value)
        check_value(name, value, is_finite, "finite")
    numbers = {name: values[name] for name in _BOUNDED_PARAMS if name in values}
    prior = values.get("prior")
    if dataclasses.is_dataclass(prior) and not isinstance(prior, type):
        numbers |= dataclasses.asdict(prior)
    for name, value in numbers.items():
        is_valid = isinstance(value, str) or value <= _MAX_PARAM
        check_value(name, value, is_valid, f"at most {_MAX_PARAM:g}")
    is_valid = estimator.n_layers <= _MAX_LAYERS
    check_value("n_layers", estimator.n_layers, is_valid, f"at most {_MAX_LAYERS}")
    if estimator.image_shape is not None and not isinstance(estimator.image_shape, str):
        check_image_shape("image_shape", estimator.image_shape)
    if check_device and estimator.device != "auto":
        _check_device(estimator.device)


def _check_device(device: Any) -> None:
    """Check the name of a device, which this machine need not have."""
    try:
        # Tensors on "meta" have no entries.
        is_valid = torch.device(device).type != "meta"
    except RuntimeError:
        is_valid = False
    check_value("device", device, is_valid, "the name of a device that torch knows")


def _restore_settings(
    estimator_class: type[Any],
    parameters: Mapping[str, Any],
    fitted_parameters: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the parameters that prediction uses, with their values during fit.

    Files of earlier versions have no `fitted_parameters`.
    """
    names = estimator_class._FITTED_PARAMS
    settings = {name: parameters[name] for name in names} | {**fitted_parameters}
    if settings.keys() != set(names):
        raise ValueError(f"settings with the names {sorted(settings)}")
    as_fitted = estimator_class(**{**parameters, **settings})
    _check_parameters(as_fitted, check_device=False)
    return settings


def _restore_likelihood(
    parameter: Any, fitted: Any, arrays: dict[str, np.ndarray]
) -> Likelihood:
    """Return the likelihood with its learned parameters.

    Files of earlier versions have none, nor likelihoods with parameters.
    """
    likelihood = as_likelihood(parameter)
    if fitted is not None:
        fitted = _decode(fitted, arrays)
        is_valid = type(fitted) is type(likelihood) and not fitted.is_learned
        check_value("likelihood_", fitted, is_valid, f"a {type(likelihood).__name__}")
        likelihood = fitted
    return likelihood


def _restore_image_shape(
    description: Mapping[str, Any], estimator: Any
) -> tuple[int, ...] | None:
    """Return the shape of images; files of earlier versions have the parameter only."""
    image_shape = estimator._fitted_params["image_shape"]
    if "image_shape" in description:
        image_shape = _decode(description["image_shape"], {})
    if image_shape is None:
        return None
    check_image_shape("image_shape_", image_shape, estimator.n_features_in_)
    return tuple(int(size) for size in image_shape)


def _check_attributes(estimator: Any) -> None:
    """Check the fitted attributes that do not depend on the representation."""
    curve, n_epochs = estimator.loss_curve_, estimator.n_iter_
    check_value("n_iter_", n_epochs, is_int(n_epochs), "an integer")
    check_floats("loss_curve_", curve)
    check_shape("loss_curve_", (len(curve),), (n_epochs,))
    loss, n_features = estimator.loss_, estimator.n_features_in_
    check_value("loss_", loss, isinstance(loss, float), "a float")
    check_bool("converged_", estimator.converged_)
    check_value(
        "n_features_in_", n_features, is_int(n_features, 1), "a positive integer"
    )
    labels = estimator.labels_
    check_arrays(vars(estimator), {"weights_": leading_sizes(estimator.weights_, 1)})
    # After partial_fit there may be no labels.
    is_empty = isinstance(labels, np.ndarray) and labels.shape == (0,)
    n_samples = (0,) if is_empty else leading_sizes(labels, 1)
    check_arrays(vars(estimator), {"labels_": n_samples}, INTEGERS)


def _restore_feature_names(names: Any, n_features: int) -> Any:
    is_valid = isinstance(names, list) and all(isinstance(name, str) for name in names)
    check_value("feature names", names, is_valid, "a list of strings")
    names = np.array(names, dtype=object)
    check_shape("feature_names_in_", names.shape, (n_features,))
    return names


def _restore_representation(
    values: Mapping[str, Any], estimator: Any
) -> ScatteringFeatures | None:
    """Restore the representation after checking that its arrays fit together."""
    if not values:
        return None
    for name in ("n_components", "max_samples"):
        is_valid = is_int(values[name], 1)
        check_value(name, values[name], is_valid, "a positive integer")
    check_representation(values, values["image_shape"], estimator.n_features_in_)
    parameters = {name: values[name] for name in REPRESENTATION_PARAMETERS}
    representation = ScatteringFeatures(
        **parameters,
        device=estimator.device,
        random_state=None,  # only fit uses it
    )
    return representation.load_state_dict(dict(values))


def _check_dictionaries(estimator: Any) -> None:
    """Check that dictionaries fit the data and the representation."""
    representation, n_components = estimator.representation_, None
    if representation is not None:
        n_components = len(representation.components_)
    check_dictionaries(vars(estimator), estimator.n_features_in_, n_components)


def check_array_entries(estimator: Any) -> None:
    """Check the entries of the arrays of a restored estimator.

    Parameters
    ----------
    estimator : estimator
        Returned by :func:`restore_estimator`; all its arrays are filled.

    Raises
    ------
    FormatError
        If an entry is out of its range.
    """
    check_merging_entries(vars(estimator))
    labels, n_clusters = estimator.labels_, estimator.n_clusters_
    is_valid = labels.min(initial=0) >= 0 and labels.max(initial=0) < n_clusters
    if not is_valid:
        raise FormatError(
            f"has labels_ from {labels.min()} to {labels.max()}, which should be from "
            f"0 to {n_clusters - 1}"
        )
    check_entries(vars(estimator))
    if estimator.representation_ is not None:
        check_representation_entries(vars(estimator.representation_))
