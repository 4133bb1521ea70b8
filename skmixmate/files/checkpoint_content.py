"""Content of a checkpoint, which is checked before it is used.

The content is a dictionary of

- "identity": identifies the fit, a dictionary of strings and numbers;
- "start": the state when training started, a dictionary of "attributes", the fitted
  attributes by name; "representation", returned by
  :meth:`ScatteringFeatures.state_dict`, or None; "random_state", returned by
  :func:`~skmixmate.utils.random_state.dump_random_state`; "n_clusters_scores", if the
  number of clusters was estimated; and "labels", the clusters in which training keeps
  rows, if it does;
- "state": returned by :meth:`ExpectationMaximization.state_dict`;
- "losses", a list of floats, and "stopped", a bool: the history of the training.
"""

import copy
import json
import pickletools
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, BinaryIO

import numpy as np
import torch

from ..image._features import IMPUTATION
from ..model.likelihood import Likelihood
from ..model.likelihoods import as_likelihood
from .archives import open_archive, read_member
from .checks import (
    FormatError,
    check_arrays,
    check_bool,
    check_dictionaries,
    check_entries,
    check_finite,
    check_floats,
    check_keys,
    check_n_clusters_scores,
    check_norms,
    check_scale,
    check_value,
    check_weights,
)
from .representation_checks import check_representation, check_representation_entries

# Member with the pickle in the files of torch.save, and its allowed operations. Others
# could allocate any amount of memory.
_PICKLE, _MAX_PICKLE_SIZE = "archive/data.pkl", 2**24
_OPERATIONS = re.compile(
    "PROTO|STOP|MARK|NONE|NEWTRUE|NEWFALSE|BININT[12]?|LONG1|BINFLOAT|BINUNICODE|"
    "EMPTY_TUPLE|TUPLE[123]?|EMPTY_LIST|APPENDS?|EMPTY_DICT|SETITEMS?|"
    "(LONG_)?BIN(PUT|GET)|GLOBAL|REDUCE|BINPERSID"
)
_GLOBALS = {
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
    "torch ByteStorage",
    "torch DoubleStorage",
    "torch FloatStorage",
    "torch LongStorage",
}

# Largest number of operations, not counting the floats of the losses.
_MAX_OPERATIONS = 2**16

_CONTENT = {"identity", "start", "state", "losses", "stopped"}
_START_KEYS = {"attributes", "representation", "random_state"}
_REPRESENTATION = {"mean_", "components_", "decoder_", "J", "L", "order"}
_STATE = {
    "dictionaries",
    "intercepts",
    "weights",
    "location",
    "sums",
    "counts",
    "noise_variance",
    "squares",
    "moments",
    "generator",
}
_LIKELIHOOD = {"likelihood", "likelihood_statistics"}
_MOMENTS = {"step", "exp_avg", "exp_avg_sq"}

# Length of the state of the Mersenne Twister; numpy does not check the position in it.
_TWISTER_SIZE = 624


@dataclass(frozen=True)
class ExpectedFit:
    """Properties of a fit that the content of its checkpoint has to agree with.

    Parameters
    ----------
    attributes : collection of str
        Names of the fitted attributes that training starts from.
    n_clusters : int or None
        None if it is estimated.
    n_features : int
    n_atoms : int or "auto"
    dtype : str
        Name of the dtype of the data.
    image_shape : sequence of int or None
    likelihood : str or Likelihood
    has_intercepts : callable
        Returns whether the model has intercepts; called with True if it is fitted to
        the pixels of images, else False.
    max_iter : int
    random_state : RandomState
        Not changed.
    n_rows : int
        Of all processes.
    has_known_labels : bool, default=False
        Whether training keeps rows in known clusters.
    """

    attributes: Collection[str]
    n_clusters: int | None
    n_features: int
    n_atoms: Any
    dtype: str
    image_shape: Sequence[int] | None
    likelihood: str | Likelihood
    has_intercepts: Callable[[bool], bool]
    max_iter: int
    random_state: np.random.RandomState
    n_rows: int
    has_known_labels: bool = False


def read_content(file: BinaryIO) -> dict[str, Any]:
    """Read the content of a checkpoint, and check the identity in it.

    Parameters
    ----------
    file : seekable binary file
        Written by torch.save.

    Returns
    -------
    content : dict

    Raises
    ------
    FormatError
        If the content has no identity.
    Exception
        Of any class, raised by the parser of torch, if torch.save has not written the
        file.
    """
    _check_pickle(read_member(open_archive(file), _PICKLE, _MAX_PICKLE_SIZE))
    file.seek(0)
    content: dict[str, Any] = torch.load(file, weights_only=True, map_location="cpu")
    check_keys("content", content, _CONTENT)
    identity = content["identity"]
    is_valid = isinstance(identity, dict) and all(
        isinstance(name, str) and isinstance(value, (str, int, float, type(None)))
        for name, value in identity.items()
    )
    check_value("identity", identity, is_valid, "a dictionary of strings and numbers")
    return content


def _check_pickle(text: bytes) -> None:
    """Check that a pickle has only the operations that are needed, and few of them."""
    n_operations = 0
    for operation, argument, _ in pickletools.genops(text):
        name = operation.name
        is_needed = name != "GLOBAL" or argument in _GLOBALS
        if not (is_needed and _OPERATIONS.fullmatch(name)):
            raise ValueError(f"{name} {argument!r} is not needed for a checkpoint")
        n_operations += name != "BINFLOAT"
        if n_operations > _MAX_OPERATIONS:
            raise ValueError(f"more than {_MAX_OPERATIONS} operations")


def check_content(content: dict[str, Any], expected: ExpectedFit) -> None:
    """Check that a fit can be resumed from the content of a checkpoint.

    Parameters
    ----------
    content : dict
        Returned by :func:`read_content`. The tensors of "start" are replaced by arrays.
    expected : ExpectedFit

    Raises
    ------
    FormatError
        If it cannot.
    """
    check_floats("losses", content["losses"], expected.max_iter)
    check_bool("stopped", content["stopped"])
    content["start"] = start = _start_as_arrays(content["start"], expected)
    _check_start(start, expected)
    _check_state(content["state"], start, expected)


def _start_as_arrays(start: Any, expected: ExpectedFit) -> dict[str, Any]:
    """Convert tensors to arrays that share their memory."""
    likelihood = as_likelihood(expected.likelihood)
    keys = _START_KEYS | {"likelihood"} if likelihood.is_learned else _START_KEYS
    scores: dict[str, Any] = {}
    has_scores = isinstance(start, dict) and "n_clusters_scores" in start
    if has_scores:  # the number of clusters was estimated
        keys = keys | {"n_clusters_scores"}
        scores["n_clusters_scores"] = _as_arrays(start["n_clusters_scores"])
        check_n_clusters_scores(scores["n_clusters_scores"])
    # Training may also keep rows in clusters of the start.
    has_labels = isinstance(start, dict) and "labels" in start
    if has_labels or expected.has_known_labels:
        keys = keys | {"labels"}
    check_keys("start", start, keys)
    labels = _as_arrays({"labels": start["labels"]}) if has_labels else {}
    if likelihood.is_learned:
        _check_likelihood(start["likelihood"], likelihood)
    check_keys("attributes", start["attributes"], set(expected.attributes))
    attributes = _as_arrays(start["attributes"])
    representation = start["representation"]
    if representation is not None:
        # Checkpoints of earlier versions have nothing to impute missing pixels by.
        is_new = isinstance(representation, dict) and IMPUTATION[0] in representation
        keys = _REPRESENTATION.union(IMPUTATION) if is_new else _REPRESENTATION
        check_keys("representation", representation, keys)
        representation = _as_arrays(representation)
    return {
        **start,
        "attributes": attributes,
        "representation": representation,
        **scores,
        **labels,
    }


def _as_arrays(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: _as_array(name, value) if isinstance(value, torch.Tensor) else value
        for name, value in values.items()
    }


def _as_array(name: str, tensor: torch.Tensor) -> np.ndarray:
    """View a tensor as an array, if it is an ordinary tensor."""
    is_plain = type(tensor) is torch.Tensor and tensor.layout is torch.strided
    is_plain = is_plain and tensor.device.type == "cpu" and not tensor.requires_grad
    is_plain = is_plain and not (tensor.is_quantized or tensor.is_neg())
    # An expanded tensor has more entries than the file.
    is_plain = is_plain and tensor.nbytes <= tensor.untyped_storage().nbytes()
    if not is_plain or tensor.is_conj():
        raise FormatError(f"has {name} that is not a plain tensor")
    return tensor.numpy()


def _check_start(start: Mapping[str, Any], expected: ExpectedFit) -> None:
    attributes, representation = start["attributes"], start["representation"]
    n_components = None
    if representation is not None:
        n_components = check_representation(
            representation, expected.image_shape, expected.n_features
        )
        check_representation_entries(representation)
    check_dictionaries(attributes, expected.n_features, n_components)
    n_clusters, n_atoms = attributes["dictionaries_"].shape[:2]
    is_auto = expected.n_atoms == "auto"
    shape = (
        n_clusters if expected.n_clusters is None else expected.n_clusters,
        n_atoms if is_auto else expected.n_atoms,
    )
    if (n_clusters, n_atoms) != shape:
        raise FormatError(
            f"has {n_clusters} dictionaries of {n_atoms} atoms, which should be "
            f"{shape[0]} of {shape[1]}"
        )
    check_entries(attributes)
    if "labels" in start:
        labels = start["labels"]
        check_arrays({"labels": labels}, {"labels": (expected.n_rows,)}, ("int64",))
        is_valid = labels.min() >= -1 and labels.max() < n_clusters
        check_value("labels", labels, is_valid, "numbers of clusters, or -1")
    _check_random_state(start["random_state"], expected.random_state)


def _check_random_state(text: Any, random_state: np.random.RandomState) -> None:
    """Check that a text is a state of a random state of the same kind."""
    random_state = copy.deepcopy(random_state)
    try:
        state = json.loads(text)
        if state["bit_generator"] == "MT19937":
            is_valid = 0 <= state["state"]["pos"] <= _TWISTER_SIZE
            check_value("random_state", text, is_valid, "the state of a RandomState")
        random_state.set_state(state)
    except (
        AttributeError,
        LookupError,
        OverflowError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        raise FormatError(
            f"has a random_state that cannot be restored ({error})"
        ) from error


def _check_state(state: Any, start: Mapping[str, Any], expected: ExpectedFit) -> None:
    """Check the state of a training against the model that it started from."""
    likelihood = as_likelihood(expected.likelihood)
    keys = _STATE | _LIKELIHOOD if likelihood.is_learned else _STATE
    check_keys("state", state, keys)
    check_keys("moments", state["moments"], _MOMENTS)
    state = _as_arrays({**state, **state["moments"]})
    shape = start["attributes"]["dictionaries_"].shape
    n_clusters, _, n_modelled = shape
    is_on_pixels = expected.image_shape is not None and start["representation"] is None
    has_intercepts = expected.has_intercepts(is_on_pixels)
    intercepts_shape = (n_clusters, n_modelled) if has_intercepts else None
    is_centered = has_intercepts and likelihood.has_noise_variance
    shapes = {
        "dictionaries": shape,
        "weights": (n_clusters,),
        "intercepts": intercepts_shape,
        "sums": intercepts_shape,
        "counts": intercepts_shape,
        "location": (n_modelled,) if is_centered else None,
        "squares": None if state["squares"] is None else (2,),
        "exp_avg": shape,
        "exp_avg_sq": shape,
    }
    if likelihood.is_learned:
        _check_likelihood(state["likelihood"], likelihood)
        shapes["likelihood_statistics"] = (likelihood.n_statistics,)
    check_arrays(state, shapes, (expected.dtype,))
    check_arrays(state, {"step": ()})
    check_scale("noise_variance", state["noise_variance"], expected.dtype)
    check_finite(state)
    check_weights(state["weights"])
    check_norms("dictionaries", state["dictionaries"])
    for name in ("counts", "squares", "exp_avg_sq", "step"):
        if state[name] is not None and state[name].min(initial=0) < 0:
            raise FormatError(f"has {name} below 0")
    _check_generator(state["generator"])


def _check_likelihood(values: Any, likelihood: Likelihood) -> None:
    """Check the learned parameters of a likelihood."""
    check_keys("likelihood", values, set(asdict(likelihood)))
    for name, value in values.items():
        check_value(name, value, isinstance(value, float), "a float")
    try:
        replace(likelihood, **values)
    except ValueError as error:
        raise FormatError(f"has an invalid likelihood ({error})") from error


def _check_generator(state: Any) -> None:
    """Check the state of a torch.Generator."""
    is_valid = isinstance(state, np.ndarray) and state.dtype == np.uint8
    check_value("generator", state, is_valid, "bytes")
    try:
        torch.Generator().set_state(torch.tensor(state))
    except (RuntimeError, TypeError) as error:
        raise FormatError(f"has an invalid state of the generator ({error})") from error
