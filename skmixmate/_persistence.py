"""Fitted estimators in files that hold arrays and JSON, and no code.

A file is a zip archive, as numpy writes them (.npz): ``skmixmate.json`` has
the parameters and all attributes that are no arrays, and each array is a member
``NAME.npy``, to which the JSON refers as ``{"array": NAME}``.
"""

import dataclasses
import io
import json
import math
import os
import struct
import tokenize
import zipfile

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted

from . import __version__
from ._convolutional import ConvolutionalMixMate
from ._files import written_whole
from ._mixmate import MixMateClustering
from .image._features import ScatteringFeatures
from .model.priors import PRIORS

_FORMAT_VERSION = 1
_DESCRIPTION = "skmixmate.json"
_ZIP_START = b"PK\x03\x04"

_ATTRIBUTES = (
    "weights_",
    "labels_",
    "loss_",
    "loss_curve_",
    "n_iter_",
    "converged_",
    "scale_",
    "n_features_in_",
)
_OWN_ATTRIBUTES = {
    MixMateClustering: ("dictionaries_", "intercepts_", "rates_", "noise_variance_"),
    ConvolutionalMixMate: ("filters_",),
}
_ESTIMATORS = {kind.__name__: kind for kind in _OWN_ATTRIBUTES}

# Parameters of ScatteringFeatures; the others the estimator has, or only fit uses.
_REPRESENTATION = ("image_shape", "n_components", "max_samples")

# What can stand in place of a parameter that cannot be stored.
_ONLY_FOR_FIT = "Only a further fit would use it, so that set_params before is no loss"
_STORABLE = {
    "init": f"'auto', another name, or an array. {_ONLY_FOR_FIT}",
    "random_state": f"an int or None. {_ONLY_FOR_FIT}",
    "prior": "a name, or a prior of skmixmate.model.priors",
}


# What zipfile raises of an archive that is not as it was written.
_DAMAGES = (
    zipfile.BadZipFile,
    EOFError,
    OSError,
    RuntimeError,
    ValueError,
    struct.error,
)

# What numpy raises of a header of an array that it cannot read.
_NOT_HEADERS = (SyntaxError, TypeError, ValueError, tokenize.TokenError)

# What a description raises that is JSON, but not as `save` writes it.
_MALFORMED = (AttributeError, KeyError, RecursionError, TypeError, ValueError)


class _Unreadable(Exception):
    """A file that cannot be loaded; says why, as a sentence about the file."""


def save(estimator, path):
    """Write a fitted estimator to a file; see its method of this name."""
    kind = next(kind for kind in _OWN_ATTRIBUTES if isinstance(estimator, kind))
    names = _OWN_ATTRIBUTES[kind] + _ATTRIBUTES
    check_is_fitted(estimator, names)
    representation = None
    if kind is MixMateClustering:
        check_is_fitted(estimator, "representation_")
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
        "estimator": kind.__name__,
        "parameters": stored(estimator.get_params(deep=False)),
        "settings": stored(estimator._settings, "settings_."),
        "attributes": stored({name: getattr(estimator, name) for name in names}),
        "representation": None,
        "feature_names": None,
    }
    if representation is not None:
        values = {name: getattr(representation, name) for name in _REPRESENTATION}
        values |= representation.state_dict()
        description["representation"] = stored(values, "representation_.")
    if hasattr(estimator, "feature_names_in_"):
        description["feature_names"] = estimator.feature_names_in_.tolist()
    _write(path, description, arrays)


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


def _write(path, description, arrays):
    with written_whole(path) as file, zipfile.ZipFile(file, "w") as archive:
        # ZipInfo has a fixed date: equal models make equal files.
        text = json.dumps(description, indent=1)
        archive.writestr(zipfile.ZipInfo(_DESCRIPTION), text)
        for name, array in arrays.items():
            info = zipfile.ZipInfo(f"{name}.npy")
            with archive.open(info, "w", force_zip64=True) as member:
                np.lib.format.write_array(
                    member, array, version=(1, 0), allow_pickle=False
                )


def load(
    path: str | os.PathLike, *, device: str | torch.device | None = None
) -> MixMateClustering | ConvolutionalMixMate:
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
    estimator : MixMateClustering or ConvolutionalMixMate
        Predicts what the saved one did.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is something else, truncated or damaged, of a newer version of
        the format, or its parts do not agree.

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
        with open(path, "rb") as file:
            description, arrays = _read(file)
        return _restored(description, arrays, device)
    except _Unreadable as error:
        raise ValueError(f"{os.fspath(path)!r} {error}.") from error


def _read(file):
    """Take a file apart into its description and its arrays."""
    if file.read(len(_ZIP_START)) != _ZIP_START:
        raise _Unreadable("is not a file that an estimator's save wrote")
    try:
        with zipfile.ZipFile(file) as archive:
            # Stored as they are, members cannot be larger than the file.
            if any(info.compress_type for info in archive.infolist()):
                raise ValueError("it was compressed")
            members = {name: archive.read(name) for name in archive.namelist()}
            if len(members) < len(archive.namelist()):
                raise ValueError("it has members of the same name")
    except _DAMAGES as error:
        raise _Unreadable(f"is truncated or damaged ({error})") from error
    description = _description(members.pop(_DESCRIPTION, b""))
    return description, {name: _array(name, data) for name, data in members.items()}


def _description(text):
    try:
        description = json.loads(text)
        version = description["format_version"]
        is_newer = version > _FORMAT_VERSION
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise _Unreadable("is not a file that an estimator's save wrote") from error
    if is_newer:
        raise _Unreadable(
            f"has version {version} of the format, written by skmixmate "
            f"{description.get('skmixmate_version')}, but skmixmate {__version__} "
            f"reads versions up to {_FORMAT_VERSION}: a newer skmixmate is needed"
        )
    return description


def _array(name, data):
    """Array of a member; its header is believed only if the size agrees."""
    file = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(file)
        if version != (1, 0):
            raise ValueError(f"version {version} of the .npy format")
        shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(file)
        if dtype.kind not in "biuf":
            raise ValueError(f"dtype {dtype}")
        array = np.frombuffer(data, dtype, offset=file.tell())
        # A copy, as what is made of bytes cannot be written to.
        return array.reshape(shape, order="F" if is_fortran else "C").copy(order="K")
    except _NOT_HEADERS as error:
        raise _Unreadable(
            f"has a member {name!r} that is no array ({error})"
        ) from error


def _restored(description, arrays, device):
    """Put an estimator together; fit is never run."""

    def restored(values):
        return {name: _value(value, arrays) for name, value in values.items()}

    try:
        kind = _ESTIMATORS[description["estimator"]]
        parameters = restored(description["parameters"])
        if device is not None:
            parameters["device"] = device
        estimator = kind(**parameters)
        if "settings" in description:
            estimator._settings = restored(description["settings"])
        else:  # saved by an earlier version
            estimator._keep_settings()
        attributes = restored(description["attributes"])
        for name in _OWN_ATTRIBUTES[kind] + _ATTRIBUTES:
            setattr(estimator, name, attributes[name])
        if kind is MixMateClustering:
            estimator.representation_ = _representation(
                restored(description["representation"] or {}), estimator
            )
        if description["feature_names"] is not None:
            names = np.array(description["feature_names"], dtype=object)
            estimator.feature_names_in_ = names
        _check_shapes(estimator)
    except _MALFORMED as error:
        raise _Unreadable(f"describes no saved estimator ({error!r})") from error
    if arrays:
        raise _Unreadable(f"has members that are not of an estimator: {sorted(arrays)}")
    return estimator


def _value(value, arrays):
    """Undo `_stored`; takes arrays out of `arrays`."""
    if isinstance(value, list):
        return [_value(item, arrays) for item in value]
    if not isinstance(value, dict):
        return value
    if "array" in value:
        name = f"{value['array']}.npy"
        if name not in arrays:
            raise _Unreadable(f"has no member {name!r}")
        return arrays.pop(name)
    if "tuple" in value:
        return tuple(_value(value["tuple"], arrays))
    if "prior" in value:
        return PRIORS[value["prior"]](**value["parameters"])
    return {name: _value(item, arrays) for name, item in value.items()}


def _representation(values, estimator):
    if not values:
        return None
    parameters = {name: values[name] for name in _REPRESENTATION}
    representation = ScatteringFeatures(
        **parameters,
        device=estimator.device,
        random_state=None,  # only fit uses it
    )
    return representation.load_state_dict(values)


def _check_shapes(estimator):
    n_clusters = len(estimator.weights_)
    expected = [
        (estimator, "weights_", (n_clusters,)),
        (estimator, "labels_", (len(estimator.labels_),)),
        (estimator, "loss_curve_", (estimator.n_iter_,)),
    ]
    if hasattr(estimator, "feature_names_in_"):
        expected.append((estimator, "feature_names_in_", (estimator.n_features_in_,)))
    if isinstance(estimator, ConvolutionalMixMate):
        expected += _shapes_of_filters(estimator, n_clusters)
    else:
        expected += _shapes_of_dictionaries(estimator, n_clusters)
    for owner, name, shape in expected:
        found = np.shape(getattr(owner, name))
        if found != shape:
            raise _Unreadable(f"has {name} of shape {found}, which should be {shape}")


def _shapes_of_filters(estimator, n_clusters):
    size = estimator._settings["filter_size"]
    n_channels = tuple(estimator._settings["image_shape"])[2:]
    n_filters = estimator.filters_.shape[1]
    shape = (n_clusters, n_filters, size, size, *n_channels)
    yield estimator, "filters_", shape


def _shapes_of_dictionaries(estimator, n_clusters):
    n_features, representation = estimator.n_features_in_, estimator.representation_
    _, n_atoms, n_components = estimator.dictionaries_.shape
    if representation is None:
        n_components = n_features
    yield estimator, "dictionaries_", (n_clusters, n_atoms, n_components)
    yield estimator, "intercepts_", (n_clusters, n_components)
    if estimator.rates_ is not None:
        yield estimator, "rates_", (n_clusters, n_atoms)
    if representation is not None:
        n_coefficients = math.prod(representation.scattering_.output_shape_)
        yield representation, "mean_", (n_coefficients,)
        yield representation, "components_", (n_components, n_coefficients)
        yield representation, "decoder_", (n_components + 1, n_features)
