"""What makes two fits the same fit: in all processes, and in a checkpoint."""

from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.base import clone

from .._version import __version__
from ..distributed.communicator import Communicator
from ..files.checkpoint import Checkpoint, data_fingerprint, format_param, hash_param
from ..files.checkpoint_content import ExpectedFit
from ..utils.random_state import private_random_state
from ._settings import Settings, given_n_clusters, read_params
from ._state import CHECKPOINTED, Rows, numpy_dtype

# Parameters that affect how a fit runs, not its result.
_RUNTIME_PARAMS = {"checkpoint", "device", "distributed", "n_jobs", "verbose"}


def _model_params(estimator: Any) -> dict[str, Any]:
    """Return the parameters that affect the result of a fit."""
    params = estimator.get_params(deep=False)
    if hasattr(estimator.init, "fit_predict"):
        params["init"] = clone(estimator.init)  # its fitted attributes have no effect
    return {name: params[name] for name in params if name not in _RUNTIME_PARAMS}


def check_agreement(
    estimator: Any,
    X: Rows,
    item_shape: tuple[int, ...] | None,
    uses: dict[str, bool],
    communicator: Communicator,
) -> None:
    """Check that all processes fit the same model.

    Parameters
    ----------
    estimator : MixMateClustering
    X : ndarray, tensor or RowReader
    item_shape : tuple of int or None
        Shape of the images that were flattened to X.
    uses : dict of str to bool
        What a fit may or may not use, by its name in error messages.
    communicator : Communicator

    Raises
    ------
    ValueError
        If processes have different parameters or kinds of data.
    """
    if communicator.size == 1:
        return
    values = {
        "n_features": X.shape[1],
        "shape of images in X": item_shape,
        "dtype": numpy_dtype(X).name,
        "version of skmixmate": __version__,
        "use of checkpoint": estimator.checkpoint is not None,
        **uses,
    } | _model_params(estimator)
    descriptions = {}
    for name, value in values.items():
        hashed = hash_param(name, value)
        descriptions[name] = hashed, format_param(value, hashed)
    first, *others = communicator.all_gather(descriptions)
    for rank, other in enumerate(others, start=1):
        for name, (hashed, text) in first.items():
            other_hashed, other_text = other[name]
            if hashed == other_hashed:
                continue
            if text == other_text:
                text, other_text = str(hashed), str(other_hashed)
            raise ValueError(
                f"All processes should have the same {name}, but it is {text} in "
                f"process 0 and {other_text} in process {rank}."
            )


def find_checkpoint(
    estimator: Any,
    X: Rows,
    sample_weight: np.ndarray | None,
    labels: np.ndarray | None,
    image_shape: tuple[int, ...] | None,
    is_warm: bool,
    communicator: Communicator,
) -> Checkpoint | None:
    """Open the checkpoint of this fit, if the estimator has one.

    Parameters
    ----------
    estimator : MixMateClustering
    X : ndarray, tensor or RowReader
    sample_weight : ndarray of shape (n_samples,) or None
        As given to `fit`.
    labels : int ndarray of shape (n_samples,) or None
        Known clusters of the rows, -1 where unknown.
    image_shape : tuple of int or None
    is_warm : bool
        Whether the fit continues from a fitted model.
    communicator : Communicator

    Returns
    -------
    checkpoint : Checkpoint or None
    """
    if estimator.checkpoint is None:
        return None
    fingerprints = communicator.all_gather(data_fingerprint(X))
    values = _model_params(estimator)
    if isinstance(estimator.image_shape, str):
        values["image_shape"] = image_shape
    if is_warm:
        values |= {name: getattr(estimator, name) for name in CHECKPOINTED}
    if sample_weight is not None:
        values["sample_weight"] = communicator.all_gather(
            hash_param("sample_weight", sample_weight)
        )
    fit_key = {"X": "; ".join(fingerprints)} | {
        name: hash_param(name, value) for name, value in values.items()
    }
    expected = _expected_fit(estimator, X, image_shape, communicator)
    if labels is not None:
        labels = np.concatenate(communicator.all_gather(labels))
        fit_key["y"] = hash_param("y", labels)
        expected = replace(expected, has_known_labels=True)
    checkpoint = communicator.broadcast(
        lambda: Checkpoint(estimator.checkpoint, fit_key, expected)
    )
    checkpoint.is_writer = communicator.rank == 0
    return checkpoint


def _expected_fit(
    estimator: Any,
    X: Rows,
    image_shape: tuple[int, ...] | None,
    communicator: Communicator,
) -> ExpectedFit:
    """Describe the fit that the content of a checkpoint must agree with."""
    params = read_params(estimator)

    def has_intercepts(on_pixels: bool) -> bool:
        settings = Settings.resolve(params, X.shape[1], image_shape, not on_pixels)
        return settings.fit_intercept

    return ExpectedFit(
        attributes=CHECKPOINTED,
        n_clusters=given_n_clusters(params),
        n_features=X.shape[1],
        n_rows=communicator.all_reduce(len(X)),
        n_atoms=estimator.n_atoms,
        dtype=numpy_dtype(X).name,
        image_shape=image_shape,
        likelihood=estimator.likelihood,
        has_intercepts=has_intercepts,
        max_iter=estimator.max_iter,
        random_state=private_random_state(estimator.random_state),
    )
