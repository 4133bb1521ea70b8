"""Known labels, which fit takes as y, and clusters in which training keeps rows."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from ..cluster._propagation import GraphClassifier
from ..cluster._votes import NeighborClassifier
from ..data.containers import as_numpy
from ..data.loader import RowLoader
from ..data.sparse import SparseRows
from ..distributed.communicator import Communicator
from ._settings import Settings
from ._state import Rows

RowClassifier = GraphClassifier | NeighborClassifier

# Rows that are classified at a time.
_CHUNK_ROWS = 2048

# Rows whose most probable class is less probable than this are assigned in training.
_MIN_PROBABILITY = 0.3


def validate_labels(
    params: Mapping[str, Any],
    y: Any,
    n_samples: int,
    n_clusters: int | None,
    communicator: Communicator,
) -> np.ndarray | None:
    """Check known labels.

    Parameters
    ----------
    params : mapping
        Parameters of the estimator.
    y : object
        As given to `fit`.
    n_samples : int
        Rows of X.
    n_clusters : int or None
        None if it is estimated.
    communicator : Communicator

    Returns
    -------
    labels : int64 ndarray of shape (n_samples,) or None
        Cluster of each row, -1 where it is not known. None if no label is used, in any
        process.

    Raises
    ------
    ValueError
        If y does not hold a cluster, or -1, for each row.
    """
    labels = None
    if params["supervision"] == "auto" and y is not None:
        labels = np.asarray(as_numpy(y))
        _check_labels(labels, n_samples, n_clusters)
        labels = labels.astype(np.int64)
    is_any_known = labels is not None and bool((labels >= 0).any())
    if not any(communicator.all_gather(is_any_known)):
        return None
    return np.full(n_samples, -1) if labels is None else labels


def _check_labels(labels: np.ndarray, n_samples: int, n_clusters: int | None) -> None:
    if labels.shape != (n_samples,):
        raise ValueError(
            f"y has shape {labels.shape}, but with supervision='auto' it should have a "
            f"label, or -1, for each row of X: shape (n_samples,) = {(n_samples,)}."
        )
    if labels.dtype.kind not in "iu":
        raise ValueError(
            "y should hold integers with supervision='auto', classes from 0 and -1 "
            f"where the class is not known, but its dtype is {labels.dtype}. "
            "Number the classes, for example by sklearn.preprocessing.LabelEncoder, "
            "and replace missing ones by -1; or set supervision='ignore'."
        )
    if labels.min() < -1:
        raise ValueError(
            f"y contains {labels.min()}, but with supervision='auto' its entries "
            "should be classes from 0, or -1 where the class is not known."
        )
    if n_clusters is None and labels.max() >= n_samples:
        raise ValueError(
            f"y contains class {labels.max()}, but with supervision='auto' class k is "
            f"cluster k, and X has only n_samples={n_samples} rows. Number the classes "
            "from 0."
        )
    if n_clusters is not None and labels.max() >= n_clusters:
        raise ValueError(
            f"y contains class {labels.max()}, but with supervision='auto' class k is "
            f"cluster k, and n_clusters={n_clusters} are numbered from 0 to "
            f"{n_clusters - 1}. Number the classes from 0, or raise n_clusters."
        )


def check_supervised(X: Rows, sample_weight: np.ndarray | None) -> None:
    """Check that known labels are not combined with what they cannot be used with."""
    if isinstance(X, SparseRows):
        raise TypeError(
            "X is sparse, but known labels (supervision='auto') need dense rows: their "
            "graph is of principal components. Pass X.toarray(), the components of "
            "TruncatedSVD, or set supervision='ignore'."
        )
    if sample_weight is not None:
        raise ValueError(
            "sample_weight should be None where y has known labels and "
            "supervision='auto': weights and labels cannot be combined. Leave one of "
            "them out."
        )


def check_no_labels(params: Mapping[str, Any], y: Any) -> None:
    """Check that `partial_fit` is not given labels that it would have to use."""
    if params["supervision"] == "auto" and y is not None:
        raise ValueError(
            "y should be None for partial_fit with supervision='auto': only fit learns "
            "from known labels. Call fit, or set supervision='ignore'."
        )


def label_rows(
    classifier: RowClassifier, settings: Settings, X: Rows, known: np.ndarray | None
) -> np.ndarray:
    """Classify the rows that training keeps in one cluster.

    Parameters
    ----------
    classifier : GraphClassifier or NeighborClassifier
    settings : Settings
    X : ndarray, tensor or RowReader of shape (n_samples, n_features)
        Features that are modelled.
    known : int ndarray of shape (n_samples,) or None
        Known clusters, -1 where unknown; None if no label is known.

    Returns
    -------
    labels : int64 ndarray of shape (n_samples,)
        The known ones; those of the classifier for other complete rows; -1 for rows
        with missing entries, and where no class is probable.
    """
    labels = np.full(len(X), -1) if known is None else known.copy()
    for chunk in RowLoader(X, device=torch.device("cpu")).chunks(_CHUNK_ROWS):
        rows = as_numpy(X[chunk])
        is_open = (labels[chunk] < 0) & ~np.isnan(rows).any(axis=1)
        if is_open.any():
            stabilized = settings.likelihood.variance_stabilize(rows[is_open])
            probabilities = classifier.predict_proba(stabilized)
            is_sure = probabilities.max(axis=1) > _MIN_PROBABILITY
            labels[chunk][is_open] = np.where(is_sure, probabilities.argmax(axis=1), -1)
    return labels


def own_part(
    labels: np.ndarray, n_samples: int, communicator: Communicator
) -> np.ndarray:
    """Return the labels of the rows of this process, from those of all processes."""
    counts = communicator.all_gather(n_samples)
    return np.split(labels, np.cumsum(counts)[:-1])[communicator.rank]
