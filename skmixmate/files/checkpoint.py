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
import re
import time
from numbers import Integral, Real

import numpy as np
import torch
from joblib.hashing import NumpyHasher

from ..data.containers import as_numpy, as_tensor
from ..training.em import History
from ..utils.random_state import private_random_state
from .atomic import atomic_write, check_writable, open_ordinary, sync_folder
from .checkpoint_content import Fit, check_content, read_content
from .checks import Unreadable, shortened

# Seconds that pass, at least, between two checkpoints of a run.
_INTERVAL = 60

_FORMAT = b"skmixmate checkpoint 2\n"
_DIGEST_SIZE = hashlib.sha256().digest_size

# Rows, at most, by which data are told from others, and how what tells them begins.
_FINGERPRINT_ROWS = 1000
_FINGERPRINT = re.compile(r"(float\d+) of shape \(\d+, (\d+)\)")


class Checkpoint:
    """The file of one fit, and what it held when the fit began.

    Parameters
    ----------
    path : str or path-like
    identity : dict of str to str, number or None
        What tells this fit from others: its data, as :func:`data_fingerprint` describes
        them, and its parameters.
    image_shape : sequence of int or None, default=None
        Of the fit.
    random_state : int, RandomState or None, default=None
        Of the fit; not changed.

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
        If the file is something else, truncated or damaged, or of another fit, or its
        content is not such that the fit can go on from there.
    """

    def __init__(self, path, identity, image_shape=None, random_state=None):
        check_writable(path)
        self.path = os.fspath(path)
        self.identity = identity
        self.start = self.state = None
        self.history = History()
        self.is_writer = True
        if os.path.exists(self.path):
            self._read(image_shape, private_random_state(random_state))

    def _read(self, image_shape, random_state):
        payload = self._payload()
        try:
            content = self._content(payload)
            self._check_identity(content["identity"])
            check_content(content, _fit(self.identity, image_shape, random_state))
        except Unreadable as error:
            raise self._refusal(f"damaged: it {error}") from error
        self.start, self.state = content["start"], content["state"]
        self.history = History(content["losses"], stopped=content["stopped"])

    def _payload(self):
        """Return what follows the checksum, as a file, if that is right."""
        with open_ordinary(self.path) as file:
            if file.read(len(_FORMAT)) != _FORMAT:
                raise self._refusal("not one that this version of skmixmate wrote")
            digest = file.read(_DIGEST_SIZE)
            start = file.tell()
            # What is damaged is not taken into memory.
            if digest != hashlib.file_digest(file, "sha256").digest():
                raise self._refusal("truncated or damaged")
            file.seek(start)
            return io.BytesIO(file.read())

    def _content(self, payload):
        try:
            return read_content(payload)
        except Unreadable:
            raise
        except Exception as error:
            # Of a file that is none of torch, its parser raises anything.
            raise self._refusal("not one that skmixmate wrote") from error

    def _check_identity(self, theirs):
        for name in {**self.identity, **theirs}:
            there, here = theirs.get(name), self.identity.get(name)
            if there != here:
                there = shortened(repr(there))
                raise self._refusal(f"of a fit with {name}={there}, not {here!r}")

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
        if not self.is_writer:
            return
        content = {
            "identity": self.identity,
            "start": _as_tensors(self.start),
            "state": state,
            "losses": history.losses,
            "stopped": history.stopped,
        }
        payload = io.BytesIO()
        torch.save(content, payload)
        with atomic_write(self.path) as file:
            file.write(_FORMAT)
            file.write(hashlib.sha256(payload.getbuffer()).digest())
            file.write(payload.getbuffer())
        self._written = time.monotonic()

    def is_due(self):
        """Tell whether the last was written long enough ago."""
        return self.is_writer and time.monotonic() - self._written >= _INTERVAL

    def remove(self):
        """Remove the file, if that is for this process and nobody else has."""
        if not self.is_writer:
            return
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.realpath(self.path))
        sync_folder(self.path)


def _as_tensors(value):
    """Convert all arrays to tensors, in dictionaries or not."""
    if isinstance(value, dict):
        return {name: _as_tensors(v) for name, v in value.items()}
    return as_tensor(value) if isinstance(value, np.ndarray) else value


def _fit(identity, image_shape, random_state):
    """Describe a fit as its checkpoint has to know it."""
    dtype, n_features = _FINGERPRINT.match(identity["X"]).groups()
    names = ("n_clusters", "n_atoms", "likelihood", "fit_intercept", "max_iter")
    return Fit(
        **{name: identity[name] for name in names},
        n_features=int(n_features),
        dtype=dtype,
        image_shape=image_shape,
        random_state=random_state,
    )


def data_fingerprint(X):
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


def hash_param(name, value):
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
        checksum = _Hasher("md5").hash(value)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ValueError(
            f"{name}={value!r} cannot be told from others, as a checkpoint and a fit "
            "in several processes have to, since it cannot be pickled; should be made "
            "of classes and functions that can be imported, or checkpoint be None and "
            "distributed False."
        ) from error
    return f"{type(value).__name__} with checksum {checksum}"


class _Hasher(NumpyHasher):
    """Hashes values as joblib.hash does, but tensors and arrays by their values alone.

    joblib.hash of a tensor differs from process to process, and that of an array
    depends on the order of its entries in memory.
    """

    def save(self, obj):
        """Hash an object, whatever it is a part of."""
        if isinstance(obj, torch.Tensor):
            obj = (str(obj.dtype), np.asarray(obj.detach().cpu(), order="C"))
        elif isinstance(obj, np.ndarray) and not obj.dtype.hasobject:
            obj = np.asarray(obj, order="C")
        super().save(obj)


def in_words(value, description):
    """Write a value on a part of a line.

    Parameters
    ----------
    value : object
    description : str, number or None
        From :func:`hash_param`; for a value that Python writes as an address in memory.

    Returns
    -------
    text : str
    """
    text = " ".join(repr(value).split())
    return str(description) if " at 0x" in text else shortened(text)
