"""Checkpoints: files from which a fit that was cut short goes on.

A file is a line that names the format, a checksum of the rest, and the rest as
torch.save writes it: tensors, numbers and strings, which are loaded without running
any code.
"""

import contextlib
import hashlib
import io
import os
import pickle
import time
from numbers import Integral, Real

import joblib
import numpy as np
import torch

from ._files import check_destination, sync_folder, written_whole
from ._rows import as_numpy
from ._training import History

# Seconds that pass, at least, between two checkpoints of a run.
_INTERVAL = 60

_FORMAT = b"skmixmate checkpoint 2\n"
_DIGEST_SIZE = hashlib.sha256().digest_size

# Rows, at most, by which data are told from others.
_FINGERPRINT_ROWS = 1000


class Checkpoint:
    """The file of one fit, and what it held when the fit began.

    Parameters
    ----------
    path : str or path-like
    identity : dict of str to str, number or None
        What tells this fit from others: its data and its parameters.

    Attributes
    ----------
    start : dict or None
        What training started from: arrays, numbers, strings, and dictionaries of
        these. None if there was no file; then to be set before one is written.
    state : dict or None
        State of the training, as it was written.
    history : History
        Of the epochs run.
    is_ours : bool
        Whether it is for this process to write and to remove.

    Raises
    ------
    OSError
        If the file cannot be read, or could not be written.
    ValueError
        If the file is something else, truncated or damaged, or of another fit.
    """

    def __init__(self, path, identity):
        check_destination(path)
        self.path = os.fspath(path)
        self.identity = identity
        self.start = self.state = None
        self.history = History()
        self.is_ours = True
        if os.path.exists(self.path):
            self._read()

    def _read(self):
        content = self._content()
        theirs = content["identity"]
        for name in {**self.identity, **theirs}:
            there, here = theirs.get(name), self.identity.get(name)
            if there != here:
                raise self._refusal(f"of a fit with {name}={there!r}, not {here!r}")
        self.start = _converted(content["start"], torch.Tensor, torch.Tensor.numpy)
        self.state = content["state"]
        self.history = History(content["losses"], stopped=content["stopped"])

    def _content(self):
        with open(self.path, "rb") as file:
            data = file.read()
        if not data.startswith(_FORMAT):
            raise self._refusal("not one that this version of skmixmate wrote")
        rest = memoryview(data)[len(_FORMAT) :]
        digest, payload = rest[:_DIGEST_SIZE], rest[_DIGEST_SIZE:]
        if digest != hashlib.sha256(payload).digest():
            raise self._refusal("truncated or damaged")
        try:
            return torch.load(io.BytesIO(payload), weights_only=True)
        except (pickle.UnpicklingError, RuntimeError) as error:
            raise self._refusal("not one that skmixmate wrote") from error

    def _refusal(self, what):
        return ValueError(
            f"checkpoint={self.path!r} is {what}. Delete the file to start anew, or "
            "give another path."
        )

    def write(self, state, history):
        """Write the file, whole or not at all, if that is for this process.

        Parameters
        ----------
        state : dict
            Of tensors, numbers, strings, None, and dictionaries of these.
        history : History
        """
        if not self.is_ours:
            return
        content = {
            "identity": self.identity,
            "start": _converted(self.start, np.ndarray, torch.from_numpy),
            "state": state,
            "losses": history.losses,
            "stopped": history.stopped,
        }
        payload = io.BytesIO()
        torch.save(content, payload)
        with written_whole(self.path) as file:
            file.write(_FORMAT)
            file.write(hashlib.sha256(payload.getbuffer()).digest())
            file.write(payload.getbuffer())
        self._written = time.monotonic()

    def is_due(self):
        """Tell whether the last was written long enough ago."""
        return self.is_ours and time.monotonic() - self._written >= _INTERVAL

    def remove(self):
        """Remove the file, if that is for this process and nobody else has."""
        if not self.is_ours:
            return
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.realpath(self.path))
        sync_folder(self.path)


def _converted(value, kind, convert):
    """Convert all of a kind, in dictionaries or not."""
    if isinstance(value, dict):
        return {name: _converted(v, kind, convert) for name, v in value.items()}
    return convert(value) if isinstance(value, kind) else value


def fingerprint(X):
    """Describe data so that they can be told from others, in little time.

    Parameters
    ----------
    X : ndarray or tensor of shape (n_samples, n_features)

    Returns
    -------
    text : str
        Type, shape and a checksum of up to a thousand rows from all over X.
    """
    drawn = np.linspace(0, len(X) - 1, min(len(X), _FINGERPRINT_ROWS), dtype=int)
    sample = as_numpy(X[drawn])
    checksum = hashlib.sha256(np.ascontiguousarray(sample)).hexdigest()[:16]
    return f"{sample.dtype} of shape {tuple(X.shape)} with checksum {checksum}"


def described(name, value):
    """Describe a parameter so that it can be told from others, in any process.

    Parameters
    ----------
    name : str
    value : object

    Returns
    -------
    description : str, number or None
        The value itself where it is one of these, else its type and a checksum.

    Raises
    ------
    ValueError
        If the value cannot be pickled, as the checksum needs.
    """
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    if isinstance(value, (list, tuple)):
        value = np.array(value)
    try:
        checksum = joblib.hash(value)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ValueError(
            f"{name}={value!r} cannot be told from others, as a checkpoint has to, "
            "since it cannot be pickled; should be made of classes and functions "
            "that can be imported, or checkpoint be None."
        ) from error
    return f"{type(value).__name__} with checksum {checksum}"
