"""Checkpoints: files from which an interrupted fit is resumed.

A file is a line with the name of the format, a checksum of the rest, and the rest as
torch.save writes it: tensors, numbers and strings, which are loaded without running
any code.
"""

import contextlib
import hashlib
import io
import os
import pickle
import time
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from joblib.hashing import NumpyHasher

from ..data.containers import as_numpy, as_tensor
from ..data.sparse import SparseRows
from ..training.loop import History
from .atomic import atomic_write, check_writable, open_regular, sync_folder
from .checkpoint_content import ExpectedFit, check_content, read_content
from .checks import FormatError, truncate

# Shortest time in seconds between two checkpoints of a run.
_INTERVAL = 60

_FORMAT = b"skmixmate checkpoint 2\n"
_DIGEST_SIZE = hashlib.sha256().digest_size

# Largest number of rows that the fingerprint of data depends on.
_FINGERPRINT_ROWS = 1000


class Checkpoint:
    """The checkpoint file of one fit, and its content when the fit began.

    Parameters
    ----------
    path : str or path-like
    identity : mapping of str to str, number or None
        Identifies the fit: its data, see :func:`data_fingerprint`, and parameters, see
        :func:`hash_param`.
    expected : ExpectedFit
        Properties of the fit that the content of the file has to agree with.

    Attributes
    ----------
    start : dict or None
        The state when training started: arrays, numbers, strings, and dictionaries of
        these. None if there was no file; then it must be set before one is written.
    state : dict or None
        State of the training in the file.
    history : History
        History of the epochs that have been run.
    is_writer : bool
        Whether this process writes and removes the file.

    Raises
    ------
    OSError
        If the file cannot be read, or could not be written.
    ValueError
        If the file is not a checkpoint, is truncated or damaged, belongs to another
        fit, or the fit cannot be resumed from its content.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        identity: Mapping[str, Any],
        expected: ExpectedFit,
    ) -> None:
        check_writable(path)
        self.path = os.fspath(path)
        self.identity = identity
        self.start: dict[str, Any] | None = None
        self.state: dict[str, Any] | None = None
        self.history = History()
        self.is_writer = True
        self._written_at = -float("inf")
        if os.path.exists(self.path):
            self._read(expected)

    def _read(self, expected: ExpectedFit) -> None:
        payload = self._read_payload()
        try:
            content = self._read_content(payload)
            self._check_identity(content["identity"])
            check_content(content, expected)
        except FormatError as error:
            raise self._error(f"damaged: it {error}") from error
        self.start, self.state = content["start"], content["state"]
        self.history = History(content["losses"], stopped=content["stopped"])

    def _read_payload(self) -> io.BytesIO:
        """Check the format and the checksum, and return the rest of the file."""
        with open_regular(self.path) as file:
            if file.read(len(_FORMAT)) != _FORMAT:
                raise self._error("not a checkpoint of this version of skmixmate")
            digest = file.read(_DIGEST_SIZE)
            start = file.tell()
            # The checksum is computed without loading the file into memory.
            if digest != hashlib.file_digest(file, "sha256").digest():
                raise self._error("truncated or damaged")
            file.seek(start)
            return io.BytesIO(file.read())

    def _read_content(self, payload: io.BytesIO) -> dict[str, Any]:
        try:
            return read_content(payload)
        except FormatError:
            raise
        except Exception as error:
            # The parser of torch raises errors of any class for invalid files.
            raise self._error("not a checkpoint of skmixmate") from error

    def _check_identity(self, stored: Mapping[str, Any]) -> None:
        for name in {**self.identity, **stored}:
            before, current = stored.get(name), self.identity.get(name)
            if before != current:
                shown = truncate(repr(before))
                raise self._error(f"from a fit with {name}={shown}, not {current!r}")

    def _error(self, problem: str) -> ValueError:
        return ValueError(
            f"checkpoint={self.path!r} is {problem}. Delete the file to start the fit "
            "from the beginning, or set another path."
        )

    def write(self, state: Mapping[str, Any], history: History) -> None:
        """Replace the file atomically, if this process is the writer.

        Parameters
        ----------
        state : mapping
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
        self._written_at = time.monotonic()

    def is_due(self) -> bool:
        """Return whether this process should write a checkpoint now."""
        return self.is_writer and time.monotonic() - self._written_at >= _INTERVAL

    def remove(self) -> None:
        """Remove the file if it exists and this process is the writer."""
        if not self.is_writer:
            return
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.realpath(self.path))
        sync_folder(self.path)


def _as_tensors(value: Any) -> Any:
    """Convert arrays to tensors, also in nested dictionaries."""
    if isinstance(value, dict):
        return {name: _as_tensors(v) for name, v in value.items()}
    return as_tensor(value) if isinstance(value, np.ndarray) else value


def data_fingerprint(X: Any) -> str:
    """Return a short text that identifies data, computed from at most 1000 rows.

    Parameters
    ----------
    X : ndarray, tensor, RowReader or SparseRows of shape (n_samples, n_features)

    Returns
    -------
    text : str
        Type, shape and a checksum of rows that are evenly spread over X.
    """
    n_rows = min(len(X), _FINGERPRINT_ROWS)
    indices = np.linspace(0, len(X) - 1, n_rows, dtype=int)
    sample = as_numpy(X[indices])
    if isinstance(sample, SparseRows):
        kind, csr = f"sparse {sample.dtype}", sample.csr
        # The type of indices depends on how the matrix was made.
        data = b"".join(
            array.tobytes()
            for array in (
                csr.data,
                csr.indices.astype(np.int64),
                csr.indptr.astype(np.int64),
            )
        )
    else:
        kind, data = str(sample.dtype), sample.tobytes()
    checksum = hashlib.sha256(data).hexdigest()[:16]
    return f"{kind} of shape {tuple(X.shape)} with checksum {checksum}"


def hash_param(name: str, value: object) -> str | float | None:
    """Return a value that identifies a parameter, the same in all processes.

    Parameters
    ----------
    name : str
    value : object

    Returns
    -------
    description : str, number or None
        The value itself if it is one of these, otherwise its type and a checksum.

    Raises
    ------
    ValueError
        If the value cannot be pickled, which the checksum needs.
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
            f"{name}={value!r} cannot be compared between fits or processes, since it "
            "cannot be pickled. Make it of classes and functions that can be imported, "
            "or set checkpoint=None and distributed=False."
        ) from error
    return f"{type(value).__name__} with checksum {checksum}"


class _Hasher(NumpyHasher):  # type: ignore[misc]
    """Hashes values as joblib.hash does, but tensors and arrays by their entries alone.

    joblib.hash of a tensor differs from process to process, and the hash of an array
    depends on its memory layout.
    """

    def save(self, obj: object) -> None:
        """Hash an object, which may be nested in another one."""
        if isinstance(obj, torch.Tensor):
            obj = (str(obj.dtype), np.asarray(obj.detach().cpu(), order="C"))
        elif isinstance(obj, np.ndarray) and not obj.dtype.hasobject:
            obj = np.asarray(obj, order="C")
        super().save(obj)


def format_param(value: object, description: object) -> str:
    """Format a parameter for an error message, on one line.

    Parameters
    ----------
    value : object
    description : str, number or None
        Returned by :func:`hash_param`; shown in place of a value whose representation
        contains an address in memory.

    Returns
    -------
    text : str
    """
    text = " ".join(repr(value).split())
    return str(description) if " at 0x" in text else truncate(text)
