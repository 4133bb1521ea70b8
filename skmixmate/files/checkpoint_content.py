"""What a checkpoint holds, read from a file that anybody may have made.

The content is a dictionary of

- "identity": what tells a fit from others, a dictionary of strings and numbers;
- "start": what the training started from. "attributes" are the fitted attributes by
  name, "representation" is what :meth:`ScatteringFeatures.state_dict` returns, or None,
  "random_state" is what
  :func:`~skmixmate.utils.random_state.dump_random_state` returns;
- "state": what :meth:`ExpectationMaximization.state_dict` returns;
- "losses", a list of floats, and "stopped", a bool: the history of the training.

All of it is checked here, before anything is done with it.
"""

import copy
import json
import pickletools
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from .archives import open_archive, read_member
from .checks import (
    Unreadable,
    check_array,
    check_dictionaries,
    check_entries,
    check_finite,
    check_is,
    check_norms,
    check_representation,
    check_representation_entries,
    check_weights,
    is_scale,
)

# The pickle in what torch.save writes, and the operations that it has. Others could ask
# for any amount of memory.
_PICKLE, _PICKLE_SIZE = "archive/data.pkl", 2**24
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
}

# Operations, at most, that are not the floats of the losses.
_N_OPERATIONS = 2**16

_CONTENT = {"identity", "start", "state", "losses", "stopped"}
_START = {"attributes", "representation", "random_state"}
_ATTRIBUTES = {
    "dictionaries_",
    "intercepts_",
    "weights_",
    "rates_",
    "noise_variance_",
    "scale_",
}
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
_MOMENTS = {"step", "exp_avg", "exp_avg_sq"}

# Of the Mersenne Twister, whose position numpy does not check: numbers in its state.
_TWISTER_SIZE = 624


@dataclass(frozen=True)
class Fit:
    """What a fit knows of the content of its checkpoint, before it reads that.

    Parameters
    ----------
    n_clusters, n_features : int
    n_atoms : int or "auto"
    dtype : str
        Of the data.
    image_shape : sequence of int or None
    likelihood : str
    fit_intercept : bool or "auto"
    max_iter : int
    random_state : RandomState
        Not changed.
    """

    n_clusters: int
    n_features: int
    n_atoms: Any
    dtype: str
    image_shape: Any
    likelihood: str
    fit_intercept: Any
    max_iter: int
    random_state: np.random.RandomState

    def has_intercepts(self, is_on_pixels):
        """Return whether the model has intercepts, as the estimator decides it."""
        if self.fit_intercept != "auto":
            return bool(self.fit_intercept)
        is_other = self.likelihood != "gaussian"
        return is_other or self.n_atoms == 0 or not is_on_pixels


def read_content(file):
    """Read the content of a checkpoint, of which only the identity is checked.

    Parameters
    ----------
    file : seekable binary file
        As torch.save wrote it.

    Returns
    -------
    content : dict

    Raises
    ------
    Unreadable
        If the content has no identity.
    Exception
        If torch.save has not written the file; of any class, as the parser of torch
        raises them.
    """
    _check_pickle(read_member(open_archive(file), _PICKLE, _PICKLE_SIZE))
    file.seek(0)
    content = torch.load(file, weights_only=True, map_location="cpu")
    _check_names("content", content, _CONTENT)
    identity = content["identity"]
    is_valid = isinstance(identity, dict) and all(
        isinstance(name, str) and isinstance(value, (str, int, float, type(None)))
        for name, value in identity.items()
    )
    check_is("identity", identity, is_valid, "a dictionary of strings and numbers")
    return content


def _check_pickle(text):
    """Check that a pickle has only the operations that are needed, and few of them."""
    n_operations = 0
    for operation, argument, _ in pickletools.genops(text):
        name = operation.name
        is_needed = name != "GLOBAL" or argument in _GLOBALS
        if not (is_needed and _OPERATIONS.fullmatch(name)):
            raise ValueError(f"{name} {argument!r} is not needed for a checkpoint")
        n_operations += name != "BINFLOAT"
        if n_operations > _N_OPERATIONS:
            raise ValueError(f"more than {_N_OPERATIONS} operations")


def check_content(content, fit):
    """Check that a fit can go on from the content of a checkpoint.

    Parameters
    ----------
    content : dict
        As :func:`read_content` returns it. The tensors of "start" are replaced by
        arrays.
    fit : Fit

    Raises
    ------
    Unreadable
        If it cannot.
    """
    losses = content["losses"]
    is_valid = isinstance(losses, list) and all(isinstance(v, float) for v in losses)
    is_valid = is_valid and len(losses) <= fit.max_iter
    check_is("losses", losses, is_valid, f"a list of at most {fit.max_iter} floats")
    is_valid = isinstance(content["stopped"], bool)
    check_is("stopped", content["stopped"], is_valid, "True or False")
    content["start"] = start = _start_as_arrays(content["start"])
    _check_start(start, fit)
    _check_state(content["state"], start, fit)


def _start_as_arrays(start):
    """Convert tensors to arrays; the values share memory."""
    _check_names("start", start, _START)
    _check_names("attributes", start["attributes"], _ATTRIBUTES)
    attributes = _as_arrays(start["attributes"])
    representation = start["representation"]
    if representation is not None:
        _check_names("representation", representation, _REPRESENTATION)
        representation = _as_arrays(representation)
    return {**start, "attributes": attributes, "representation": representation}


def _as_arrays(values):
    return {
        name: _as_array(name, value) if isinstance(value, torch.Tensor) else value
        for name, value in values.items()
    }


def _as_array(name, tensor):
    """View a tensor as an array, if it is one of the plain kind."""
    is_plain = type(tensor) is torch.Tensor and tensor.layout is torch.strided
    is_plain = is_plain and tensor.device.type == "cpu" and not tensor.requires_grad
    is_plain = is_plain and not (tensor.is_quantized or tensor.is_neg())
    # One that is expanded has more entries than the file.
    is_plain = is_plain and tensor.nbytes <= tensor.untyped_storage().nbytes()
    if not is_plain or tensor.is_conj():
        raise Unreadable(f"has {name} that is no plain tensor")
    return tensor.numpy()


def _check_start(start, fit):
    attributes, representation = start["attributes"], start["representation"]
    n_components = None
    if representation is not None:
        n_components = check_representation(
            representation, fit.image_shape, fit.n_features
        )
        check_representation_entries(representation)
    check_dictionaries(attributes, fit.n_features, n_components)
    n_clusters, n_atoms = attributes["dictionaries_"].shape[:2]
    shape = (fit.n_clusters, n_atoms if fit.n_atoms == "auto" else fit.n_atoms)
    if (n_clusters, n_atoms) != shape:
        raise Unreadable(
            f"has {n_clusters} dictionaries of {n_atoms} atoms, which should be "
            f"{shape[0]} of {shape[1]}"
        )
    check_entries(attributes)
    _check_random_state(start["random_state"], fit.random_state)


def _check_random_state(text, random_state):
    """Check that a random state can be taken to where a text says."""
    random_state = copy.deepcopy(random_state)
    try:
        state = json.loads(text)
        if state["bit_generator"] == "MT19937":
            is_valid = 0 <= state["state"]["pos"] <= _TWISTER_SIZE
            check_is("random_state", text, is_valid, "the state of a RandomState")
        random_state.set_state(state)
    except (
        AttributeError,
        LookupError,
        OverflowError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        raise Unreadable(
            f"has a random_state that cannot be taken over ({error})"
        ) from error


def _check_state(state, start, fit):
    """Check the state of a training against the model that it started from."""
    _check_names("state", state, _STATE)
    _check_names("moments", state["moments"], _MOMENTS)
    state = _as_arrays({**state, **state["moments"]})
    shape = start["attributes"]["dictionaries_"].shape
    n_clusters, _, n_modelled = shape
    is_on_pixels = fit.image_shape is not None and start["representation"] is None
    has_intercepts = fit.has_intercepts(is_on_pixels)
    of_intercepts = (n_clusters, n_modelled) if has_intercepts else None
    is_shifted = has_intercepts and fit.likelihood == "gaussian"
    shapes = {
        "dictionaries": shape,
        "weights": (n_clusters,),
        "intercepts": of_intercepts,
        "sums": of_intercepts,
        "counts": of_intercepts,
        "location": (n_modelled,) if is_shifted else None,
        "squares": None if state["squares"] is None else (2,),
        "exp_avg": shape,
        "exp_avg_sq": shape,
    }
    for name, expected in shapes.items():
        if expected is None:
            check_is(name, state[name], state[name] is None, "None")
        else:
            check_array(name, state[name], expected, (fit.dtype,))
    check_array("step", state["step"], ())
    noise = state["noise_variance"]
    is_valid = is_scale(noise, fit.dtype)
    check_is(
        "noise_variance", noise, is_valid, f"a positive number of type {fit.dtype}"
    )
    check_finite(state)
    check_weights(state["weights"])
    check_norms({"dictionaries": state["dictionaries"]})
    for name in ("counts", "squares", "exp_avg_sq", "step"):
        if state[name] is not None and state[name].min(initial=0) < 0:
            raise Unreadable(f"has {name} below 0")
    _check_generator(state["generator"])


def _check_generator(state):
    """Check the state of a generator of torch."""
    is_valid = isinstance(state, np.ndarray) and state.dtype == np.uint8
    check_is("generator", state, is_valid, "bytes")
    try:
        torch.Generator().set_state(torch.tensor(state))
    except (RuntimeError, TypeError) as error:
        raise Unreadable(f"has a generator in no possible state ({error})") from error


def _check_names(name, value, names):
    """Check that a value is a dictionary with all of these names, and no others."""
    is_valid = isinstance(value, dict) and value.keys() == names
    check_is(name, value, is_valid, f"a dictionary with the names {sorted(names)}")
