"""Model files: fitted estimators as arrays and JSON, without any code.

A file is a zip archive in the format of numpy's .npz files. Its member
``skmixmate.json`` holds the parameters and all attributes that are not arrays. Each
array is a member ``NAME.npy``, to which the JSON refers as ``{"array": NAME}``.
"""

import dataclasses
import json
import os
import zipfile
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted

from .._version import __version__
from ..model.likelihoods import LIKELIHOODS
from ..model.priors import PRIORS
from .archives import StoredArray, open_archive, read_member
from .atomic import atomic_write, open_regular
from .checks import FormatError, truncate
from .model_content import (
    ATTRIBUTES,
    MERGING_ATTRIBUTES,
    REPRESENTATION_PARAMETERS,
    SCHEMA_ERRORS,
    check_array_entries,
    restore_estimator,
)

_FORMAT_VERSION = 1
_DESCRIPTION = "skmixmate.json"
_ZIP_MAGIC = b"PK\x03\x04"
_NOT_A_MODEL = "is not a skmixmate model file"

# Values that can be saved, for the parameters of which some values cannot be.
_ONLY_FOR_FIT = "Only fit uses it: to save the estimator, change it by set_params"
_STORABLE = {
    "init": f"'auto', another name, or an array. {_ONLY_FOR_FIT}",
    "random_state": f"an int or None. {_ONLY_FOR_FIT}",
    "prior": "a name, or a prior of skmixmate.model.priors",
}

# Largest size of a description: bytes, lists and dictionaries, and other values. There
# is room for the names of millions of features, and parsing takes at most some hundred
# MiB.
_MAX_DESCRIPTION_SIZE, _MAX_CONTAINERS, _MAX_ITEMS = 2**25, 2**17, 2**21

# Integers of a description have 64 bits.
_INT_LIMIT = 2**63


def write_model(
    estimator: Any,
    path: str | os.PathLike[str],
    classes: Mapping[str, type[Any]],
    table: Mapping[str, Any] | None = None,
) -> None:
    """Write a fitted estimator to a file.

    Parameters
    ----------
    estimator : estimator
        Instance of one of `classes`.
    path : str or path-like
        Replaced if it exists.
    classes : mapping of str to type
        Classes of estimators by their names in the file.
    table : mapping or None, default=None
        How the features were computed from a table, as JSON: the command line writes
        and checks it.

    Raises
    ------
    NotFittedError
        If the estimator is not fitted.
    TypeError
        If a parameter cannot be stored.
    ValueError
        If :func:`read_model` would reject the file.
    OSError
        If the file cannot be written.
    """
    check_is_fitted(estimator, (*ATTRIBUTES, "representation_"))
    arrays: dict[str, np.ndarray] = {}
    description = _describe(estimator, arrays, classes)
    if table is not None:
        description["table"] = table
    text = json.dumps(description, indent=1).encode()
    _check_readable(text, arrays, classes)
    _write_archive(path, text, arrays)


def _describe(
    estimator: Any, arrays: dict[str, np.ndarray], classes: Mapping[str, type[Any]]
) -> dict[str, Any]:
    """Return the description of an estimator, and collect its arrays in `arrays`."""

    def encode(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
        return {
            name: _encode(value, prefix + name, arrays)
            for name, value in values.items()
        }

    (kind,) = (name for name, kind in classes.items() if isinstance(estimator, kind))
    description = {
        "format_version": _FORMAT_VERSION,
        "skmixmate_version": __version__,
        "estimator": kind,
        "parameters": encode(estimator.get_params(deep=False)),
        "settings": encode(estimator._fitted_params, "settings_."),
        "attributes": encode({name: getattr(estimator, name) for name in ATTRIBUTES}),
        "likelihood": _encode(estimator.likelihood_, "likelihood_", arrays),
        "image_shape": _encode(estimator.image_shape_, "image_shape_", arrays),
        "n_clusters_scores": None,
        **encode({name: getattr(estimator, name) for name in MERGING_ATTRIBUTES}),
        "representation": None,
        "feature_names": None,
    }
    scores = estimator.n_clusters_scores_
    if scores is not None:
        description["n_clusters_scores"] = encode(scores, "n_clusters_scores_.")
    representation = estimator.representation_
    if representation is not None:
        names = REPRESENTATION_PARAMETERS
        values = {name: getattr(representation, name) for name in names}
        values |= representation.state_dict()
        description["representation"] = encode(values, "representation_.")
    if hasattr(estimator, "feature_names_in_"):
        description["feature_names"] = estimator.feature_names_in_.tolist()
    return description


def _check_readable(
    text: bytes, arrays: Mapping[str, np.ndarray], classes: Mapping[str, type[Any]]
) -> None:
    """Check that `read_model` would accept the file that is to be written."""
    try:
        members = {f"{name}.npy": array for name, array in arrays.items()}
        description = _parse_description(text)
        estimator = restore_estimator(description, members, classes, device="cpu")
        check_array_entries(estimator)
    except FormatError as error:
        raise ValueError(
            f"The estimator cannot be saved, since it {error}. Fit it again, or "
            "restore the parameters and attributes that were set since the last fit."
        ) from error


def _encode(value: Any, name: str, arrays: dict[str, np.ndarray]) -> Any:
    """Convert a value to JSON; arrays are added to `arrays` under a unique name."""
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
        items = [_encode(v, f"{name}.{i}", arrays) for i, v in enumerate(value)]
        return {"tuple": items} if isinstance(value, tuple) else items
    for kind, classes in (("prior", PRIORS), ("likelihood", LIKELIHOODS)):
        for key, named_class in classes.items():
            if type(value) is named_class:
                return {kind: key, "parameters": dataclasses.asdict(value)}
    should_be = _STORABLE.get(name, "a number, a string, None or an array of numbers")
    raise TypeError(
        f"{name}={value!r} cannot be saved; should be {should_be}; or pickle the "
        "estimator, which keeps it."
    )


def _write_archive(
    path: str | os.PathLike[str], text: bytes, arrays: Mapping[str, np.ndarray]
) -> None:
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
            # A ZipFile closes itself when it is deleted: it would write to a file that
            # is removed by then, or raise because one of its members is open.
            archive.fp = None
            raise


def read_model(
    path: str | os.PathLike[str],
    classes: Mapping[str, type[Any]],
    device: str | torch.device | None = None,
) -> tuple[Any, dict[str, Any] | None]:
    """Read an estimator from a file, without running any code from it.

    Parameters
    ----------
    path : str or path-like
    classes : mapping of str to type
        Classes of estimators by their names in the file.
    device : str, torch.device or None, default=None
        Replaces the parameter `device` of the estimator, unless None.

    Returns
    -------
    estimator : estimator
        Instance of one of `classes`.
    table : dict or None
        As in :func:`write_model`, not checked.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If :func:`write_model` would not have written the file.
    """
    try:
        with open_regular(path) as file:
            try:
                description, members = _read_archive(file)
                arrays = {name: member.array for name, member in members.items()}
                estimator = restore_estimator(description, arrays, classes, device)
                for member in members.values():
                    member.fill()
            except zipfile.BadZipFile as error:
                raise FormatError(f"is truncated or damaged ({error})") from error
        check_array_entries(estimator)
    except FormatError as error:
        raise ValueError(f"{os.fspath(path)!r} {error}.") from error
    table = description.get("table")
    return estimator, table if isinstance(table, dict) else None


def _read_archive(file: BinaryIO) -> tuple[dict[str, Any], dict[str, StoredArray]]:
    """Read the description; open the arrays, without filling large ones."""
    if file.read(len(_ZIP_MAGIC)) != _ZIP_MAGIC:
        raise FormatError(_NOT_A_MODEL)
    archive = open_archive(file)
    names = archive.namelist()
    if _DESCRIPTION not in names:
        raise FormatError(_NOT_A_MODEL)
    names.remove(_DESCRIPTION)
    text = read_member(archive, _DESCRIPTION, _MAX_DESCRIPTION_SIZE)
    description = _parse_description(text)
    return description, {name: _open_array(archive, name) for name in names}


def _open_array(archive: zipfile.ZipFile, name: str) -> StoredArray:
    try:
        return StoredArray(archive, name)
    except ValueError as error:
        raise FormatError(
            f"has a member {name!r} that is not an array ({error})"
        ) from error


def _parse_description(text: bytes) -> dict[str, Any]:
    """Parse the description, and check its size and version."""
    n_containers = text.count(b"[") + text.count(b"{")
    is_small = len(text) <= _MAX_DESCRIPTION_SIZE and n_containers <= _MAX_CONTAINERS
    if not is_small or text.count(b",") > _MAX_ITEMS:
        raise FormatError(
            f"has a description of {len(text)} bytes with {n_containers} lists and "
            f"dictionaries, which should be at most {_MAX_DESCRIPTION_SIZE} bytes, "
            f"{_MAX_CONTAINERS} lists and dictionaries and {_MAX_ITEMS} other values; "
            "large parameters should be arrays"
        )
    try:
        description: dict[str, Any] = json.loads(
            text.decode("ascii"), parse_int=_parse_int, object_pairs_hook=_unique_names
        )
        version = description["format_version"]
        is_newer = version > _FORMAT_VERSION
    except SCHEMA_ERRORS as error:
        raise FormatError(_NOT_A_MODEL) from error
    if is_newer:
        raise FormatError(
            f"has version {version} of the format, written by skmixmate "
            f"{description.get('skmixmate_version')}, but skmixmate {__version__} "
            f"reads versions up to {_FORMAT_VERSION}: install a newer skmixmate"
        )
    return description


def _parse_int(text: str) -> int:
    value = int(text)
    if not -_INT_LIMIT <= value < _INT_LIMIT:
        raise ValueError(f"{truncate(text)} has more than 64 bits")
    return value


def _unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a dictionary of pairs, whose names must differ."""
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a name occurs twice")
    return values
