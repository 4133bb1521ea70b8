"""Fitted estimators in files that hold arrays and JSON, and no code.

A file is a zip archive, as numpy writes them (.npz): ``skmixmate.json`` has
the parameters and all attributes that are no arrays, and each array is a member
``NAME.npy``, to which the JSON refers as ``{"array": NAME}``.
"""

import dataclasses
import json
import math
import os
import zipfile

import numpy as np
import torch
from sklearn.utils._param_validation import (
    InvalidParameterError,
    validate_parameter_constraints,
)
from sklearn.utils.validation import check_is_fitted

from ._version import __version__
from .estimators._mixmate import MixMateClustering
from .files.archives import StoredArray, open_archive, read_member
from .files.atomic import atomic_write, open_ordinary
from .files.checks import (
    INTEGERS,
    Unreadable,
    check_array,
    check_dictionaries,
    check_entries,
    check_image_shape,
    check_is,
    check_representation,
    check_representation_entries,
    is_int,
    leading_sizes,
    shortened,
)
from .image._features import ScatteringFeatures
from .model.priors import PRIORS

_FORMAT_VERSION = 1
_DESCRIPTION = "skmixmate.json"
_ZIP_START = b"PK\x03\x04"

_ATTRIBUTES = (
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
# Estimators that earlier versions had, and why they are gone.
_REMOVED = {
    "ConvolutionalMixMate": "training made its clusters worse than they started; see "
    "the page on images for textures"
}

# Parameters of ScatteringFeatures; the others the estimator has, or only fit uses.
_REPRESENTATION = ("image_shape", "n_components", "max_samples")

# What can stand in place of a parameter that cannot be stored.
_ONLY_FOR_FIT = "Only a further fit would use it, so that set_params before is no loss"
_STORABLE = {
    "init": f"'auto', another name, or an array. {_ONLY_FOR_FIT}",
    "random_state": f"an int or None. {_ONLY_FOR_FIT}",
    "prior": "a name, or a prior of skmixmate.model.priors",
}


# What a description may have at most: bytes, lists and dictionaries, and other values.
# Millions of features may have names; what is parsed takes some hundred MiB, no more.
_DESCRIPTION_SIZE, _N_CONTAINERS, _N_ITEMS = 2**25, 2**17, 2**21

# Whole numbers of the description have 64 bits.
_LARGEST_INT = 2**63

# Layers, at most: after so many, no code changes in what a float32 can hold, and each
# takes time in every answer.
_MOST_LAYERS = 5000

# Parameters that answers are computed with, and the largest number that they may be: a
# float32, with room for products.
_OF_ANSWERS, _LARGEST_NUMBER = ("alpha", "step_size"), 1e30

# What a description raises that is JSON, but not as `save` writes it.
_MALFORMED = (
    AttributeError,
    KeyError,
    OverflowError,
    RecursionError,
    TypeError,
    ValueError,
)


def save(estimator, path):
    """Write a fitted estimator to a file; see its method of this name."""
    check_is_fitted(estimator, (*_ATTRIBUTES, "representation_"))
    representation = estimator.representation_
    arrays = {}

    def stored(values, prefix=""):
        return {
            name: _stored(value, prefix + name, arrays)
            for name, value in values.items()
        }

    description = {
        "format_version": _FORMAT_VERSION,
        "skmixmate_version": __version__,
        "estimator": MixMateClustering.__name__,
        "parameters": stored(estimator.get_params(deep=False)),
        "settings": stored(estimator._settings, "settings_."),
        "attributes": stored({name: getattr(estimator, name) for name in _ATTRIBUTES}),
        "representation": None,
        "feature_names": None,
    }
    if representation is not None:
        values = {name: getattr(representation, name) for name in _REPRESENTATION}
        values |= representation.state_dict()
        description["representation"] = stored(values, "representation_.")
    if hasattr(estimator, "feature_names_in_"):
        description["feature_names"] = estimator.feature_names_in_.tolist()
    text = json.dumps(description, indent=1).encode()
    _check_before_saving(text, arrays)
    _write(path, text, arrays)


def _check_before_saving(text, arrays):
    """Check that `load` would take what is to be written."""
    try:
        members = {f"{name}.npy": array for name, array in arrays.items()}
        estimator = _restored(_description(text), members, device="cpu")
        _check_entries(estimator)
    except Unreadable as error:
        raise ValueError(
            f"The estimator cannot be saved, since it {error}. Fit it again, or undo "
            "what was set since the last fit."
        ) from error


def _stored(value, name, arrays):
    """Value as JSON has it; arrays go into `arrays`, under a name of their own."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (torch.device, os.PathLike)):
        return str(value)
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        arrays[name] = value
        return {"array": name}
    if isinstance(value, (list, tuple)):
        items = [_stored(v, f"{name}.{i}", arrays) for i, v in enumerate(value)]
        return {"tuple": items} if isinstance(value, tuple) else items
    for prior, prior_class in PRIORS.items():
        if type(value) is prior_class:
            return {"prior": prior, "parameters": dataclasses.asdict(value)}
    should_be = _STORABLE.get(name, "a number, a string, None or an array of numbers")
    raise TypeError(
        f"{name}={value!r} cannot be saved; should be {should_be}; pickle keeps it."
    )


def _write(path, text, arrays):
    with atomic_write(path) as file:
        archive = zipfile.ZipFile(file, "w")
        try:
            # ZipInfo has a fixed date: equal models make equal files.
            archive.writestr(zipfile.ZipInfo(_DESCRIPTION), text)
            for name, array in arrays.items():
                info = zipfile.ZipInfo(f"{name}.npy")
                with archive.open(info, "w", force_zip64=True) as member:
                    np.lib.format.write_array(
                        member, array, version=(1, 0), allow_pickle=False
                    )
            archive.close()
        except BaseException:
            # An archive that is let go of closes itself: it would write to a file that
            # is no more, or raise because one of its members is open.
            archive.fp = None
            raise


def load(
    path: str | os.PathLike, *, device: str | torch.device | None = None
) -> MixMateClustering:
    """Load an estimator from a file that its method ``save`` wrote.

    No code of the file is run, whoever made it.

    Parameters
    ----------
    path : str or path-like
        What ``save`` was given.
    device : str or torch.device, default=None
        Where to compute, if not on the `device` that was saved: a model fitted on
        a GPU can be used without one.

    Returns
    -------
    estimator : MixMateClustering
        Predicts what the saved one did.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    OSError
        If the file cannot be read.
    ValueError
        If the file is something else, truncated or damaged, of a newer version of the
        format, or holds what no fit has written: parameters that no estimator takes,
        more than 5000 layers, entries out of their range, parts that do not agree.

    Examples
    --------
    >>> import os, tempfile
    >>> import skmixmate
    >>> from skmixmate.datasets import make_sparse_mixture
    >>> X = make_sparse_mixture(random_state=0).data
    >>> mixmate = skmixmate.MixMateClustering(3, n_atoms=8, random_state=0).fit(X)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "model")
    ...     mixmate.save(path)
    ...     loaded = skmixmate.load(path)
    >>> (loaded.predict(X) == mixmate.labels_).all()
    np.True_
    """
    try:
        with open_ordinary(path) as file:
            try:
                description, members = _read(file)
                arrays = {name: member.array for name, member in members.items()}
                estimator = _restored(description, arrays, device)
                for member in members.values():
                    member.fill()
            except zipfile.BadZipFile as error:
                raise Unreadable(f"is truncated or damaged ({error})") from error
        _check_entries(estimator)
    except Unreadable as error:
        raise ValueError(f"{os.fspath(path)!r} {error}.") from error
    return estimator


def _read(file):
    """Take a file apart into its description and its arrays; large ones wait."""
    if file.read(len(_ZIP_START)) != _ZIP_START:
        raise Unreadable("is not a file that an estimator's save wrote")
    archive = open_archive(file)
    names = archive.namelist()
    if _DESCRIPTION not in names:
        raise Unreadable("is not a file that an estimator's save wrote")
    names.remove(_DESCRIPTION)
    text = read_member(archive, _DESCRIPTION, _DESCRIPTION_SIZE)
    return _description(text), {name: _stored_array(archive, name) for name in names}


def _stored_array(archive, name):
    try:
        return StoredArray(archive, name)
    except ValueError as error:
        raise Unreadable(f"has a member {name!r} that is no array ({error})") from error


def _description(text):
    """Parse the description.

    Parameters
    ----------
    text : bytes

    Returns
    -------
    description : dict

    Raises
    ------
    Unreadable
        If it is not one, or larger than any should be.
    """
    n_containers = text.count(b"[") + text.count(b"{")
    is_small = len(text) <= _DESCRIPTION_SIZE and n_containers <= _N_CONTAINERS
    if not is_small or text.count(b",") > _N_ITEMS:
        raise Unreadable(
            f"has a description of {len(text)} bytes with {n_containers} lists and "
            f"dictionaries, which should be at most {_DESCRIPTION_SIZE} bytes, "
            f"{_N_CONTAINERS} of these and {_N_ITEMS} other values; large parameters "
            "should be arrays"
        )
    try:
        description = json.loads(
            text.decode("ascii"), parse_int=_bounded_int, object_pairs_hook=_unique
        )
        version = description["format_version"]
        is_newer = version > _FORMAT_VERSION
    except _MALFORMED as error:
        raise Unreadable("is not a file that an estimator's save wrote") from error
    if is_newer:
        raise Unreadable(
            f"has version {version} of the format, written by skmixmate "
            f"{description.get('skmixmate_version')}, but skmixmate {__version__} "
            f"reads versions up to {_FORMAT_VERSION}: a newer skmixmate is needed"
        )
    return description


def _bounded_int(text):
    value = int(text)
    if not -_LARGEST_INT <= value < _LARGEST_INT:
        raise ValueError(f"{shortened(text)} has more than 64 bits")
    return value


def _unique(pairs):
    """Return a dictionary of names that are all different."""
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a name twice")
    return values


def _restored(description, arrays, device):
    """Put an estimator together, and check all but the entries of arrays.

    Parameters
    ----------
    description : dict
    arrays : dict of str to ndarray
        By the names of their members; emptied. Entries may be read later.
    device : str, torch.device or None
        None for the device of the description.

    Returns
    -------
    estimator : MixMateClustering

    Raises
    ------
    Unreadable
        If `save` would not have written that.
    """

    def restored(values):
        return {name: _value(value, arrays) for name, value in values.items()}

    try:
        _check_kind(description)
        parameters = restored(description["parameters"])
        estimator = MixMateClustering(**parameters)
        _check_parameters(estimator, check_device=device is None)
        if device is not None:
            estimator.device = device
        estimator._settings = _settings(parameters, restored, description)
        attributes = restored(description["attributes"])
        for name in _ATTRIBUTES:
            setattr(estimator, name, attributes[name])
        _check_attributes(estimator)
        if description["feature_names"] is not None:
            estimator.feature_names_in_ = _feature_names(
                description["feature_names"], estimator.n_features_in_
            )
        estimator.representation_ = _representation(
            restored(description["representation"] or {}), estimator
        )
        _check_model(estimator)
    except _MALFORMED as error:
        reason = shortened(repr(error))
        raise Unreadable(f"describes no saved estimator ({reason})") from error
    if arrays:
        raise Unreadable(f"has members that are not of an estimator: {sorted(arrays)}")
    return estimator


def _check_kind(description):
    """Check that the file holds an estimator that this version has."""
    kind = description["estimator"]
    if kind in _REMOVED:
        raise Unreadable(
            f"holds a {kind}, written by skmixmate {description['skmixmate_version']}; "
            f"skmixmate {__version__} has none any more: {_REMOVED[kind]}"
        )
    if kind != MixMateClustering.__name__:
        raise ValueError(f"an estimator with the name {kind!r}")


def _value(value, arrays):
    """Undo `_stored`; takes arrays out of `arrays`."""
    if isinstance(value, list):
        return [_value(item, arrays) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"array"}:
        name = f"{value['array']}.npy"
        if name not in arrays:
            raise Unreadable(f"has no member {name!r}")
        return arrays.pop(name)
    if value.keys() == {"tuple"}:
        return tuple(_value(list(value["tuple"]), arrays))
    if value.keys() == {"prior", "parameters"}:
        return PRIORS[value["prior"]](**value["parameters"])
    raise ValueError(f"a dictionary with the names {sorted(value)}")


def _check_parameters(estimator, check_device):
    """Check parameters one by one; how they go together, only a further fit asks."""
    name = type(estimator).__name__
    constraints, values = estimator._parameter_constraints, estimator.get_params(False)
    try:
        validate_parameter_constraints(constraints, values, caller_name=name)
    except InvalidParameterError as error:
        reason = shortened(str(error), 500)
        raise Unreadable(f"has a parameter out of its range ({reason})") from error
    for name, value in values.items():
        is_finite = not isinstance(value, float) or math.isfinite(value)
        check_is(name, value, is_finite, "finite")
    numbers = {name: values[name] for name in _OF_ANSWERS if name in values}
    if dataclasses.is_dataclass(values.get("prior")):
        numbers |= dataclasses.asdict(values["prior"])
    for name, value in numbers.items():
        is_valid = isinstance(value, str) or value <= _LARGEST_NUMBER
        check_is(name, value, is_valid, f"at most {_LARGEST_NUMBER:g}")
    is_valid = estimator.n_layers <= _MOST_LAYERS
    check_is("n_layers", estimator.n_layers, is_valid, f"at most {_MOST_LAYERS}")
    if estimator.image_shape is not None:
        check_image_shape("image_shape", estimator.image_shape)
    if check_device and estimator.device != "auto":
        _check_device(estimator.device)


def _settings(parameters, restored, description):
    """Return the parameters that the model was fitted with, where answers need them."""
    names = MixMateClustering._answering
    settings = {name: parameters[name] for name in names}
    if "settings" in description:  # an earlier version did not write them
        settings |= restored(description["settings"])
    if settings.keys() != set(names):
        raise ValueError(f"settings with the names {sorted(settings)}")
    earlier = MixMateClustering(**{**parameters, **settings})
    _check_parameters(earlier, check_device=False)
    return settings


def _check_device(device):
    """Check the name of a device, which need not be there on this machine."""
    try:
        # Tensors on "meta" have no entries.
        is_valid = torch.device(device).type != "meta"
    except RuntimeError:
        is_valid = False
    check_is("device", device, is_valid, "the name of a device that torch knows")


def _check_attributes(estimator):
    """Check the attributes that all estimators have."""
    curve, n_epochs = estimator.loss_curve_, estimator.n_iter_
    check_is("n_iter_", n_epochs, is_int(n_epochs), "an integer")
    is_valid = isinstance(curve, list) and all(isinstance(v, float) for v in curve)
    check_is("loss_curve_", curve, is_valid, "a list of floats")
    if len(curve) != n_epochs:
        raise Unreadable(
            f"has loss_curve_ of shape {(len(curve),)}, which should be {(n_epochs,)}"
        )
    for name, is_valid, expected in (
        ("loss_", isinstance(estimator.loss_, float), "a float"),
        ("converged_", isinstance(estimator.converged_, bool), "True or False"),
        ("n_features_in_", is_int(estimator.n_features_in_, 1), "a positive integer"),
    ):
        check_is(name, getattr(estimator, name), is_valid, expected)
    weights = estimator.weights_
    check_array("weights_", weights, leading_sizes(weights, 1))
    labels = estimator.labels_
    # There may be none: partial_fit takes no rows, too.
    is_empty = isinstance(labels, np.ndarray) and labels.shape == (0,)
    n_samples = (0,) if is_empty else leading_sizes(labels, 1)
    check_array("labels_", labels, n_samples, INTEGERS)


def _feature_names(names, n_features):
    is_valid = isinstance(names, list) and all(isinstance(name, str) for name in names)
    check_is("feature names", names, is_valid, "a list of strings")
    names = np.array(names, dtype=object)
    if names.shape != (n_features,):
        raise Unreadable(
            f"has feature_names_in_ of shape {names.shape}, which should be "
            f"{(n_features,)}"
        )
    return names


def _representation(values, estimator):
    """Put the representation together, once its parts are known to fit."""
    if not values:
        return None
    for name in ("n_components", "max_samples"):
        check_is(name, values[name], is_int(values[name], 1), "a positive integer")
    check_representation(values, values["image_shape"], estimator.n_features_in_)
    parameters = {name: values[name] for name in _REPRESENTATION}
    representation = ScatteringFeatures(
        **parameters,
        device=estimator.device,
        random_state=None,  # only fit uses it
    )
    return representation.load_state_dict(values)


def _check_model(estimator):
    """Check that dictionaries fit the data and the representation."""
    representation, n_components = estimator.representation_, None
    if representation is not None:
        n_components = len(representation.components_)
    check_dictionaries(vars(estimator), estimator.n_features_in_, n_components)


def _check_entries(estimator):
    """Check the entries of arrays."""
    labels, n_clusters = estimator.labels_, len(estimator.weights_)
    is_valid = labels.min(initial=0) >= 0 and labels.max(initial=0) < n_clusters
    if not is_valid:
        raise Unreadable(
            f"has labels_ from {labels.min()} to {labels.max()}, which should be from "
            f"0 to {n_clusters - 1}"
        )
    check_entries(vars(estimator))
    if estimator.representation_ is not None:
        check_representation_entries(vars(estimator.representation_))
