"""Weights of samples: validated, and in units of rows."""

from typing import Any

import numpy as np
from sklearn.utils.validation import _check_sample_weight

from ..data.containers import as_numpy
from ..distributed.communicator import Communicator

# Up to this sum, sums of integers are exact in float64.
_MAX_COUNT = 2.0**53

# Copies to draw from, on average, of a row whose weight is not an integer.
_COPIES = 10


def check_sample_weight(
    sample_weight: Any, n_samples: int, *, allow_zeros: bool = False
) -> np.ndarray | None:
    """Validate the weights of samples.

    Parameters
    ----------
    sample_weight : array-like or tensor of shape (n_samples,), number or None
    n_samples : int
    allow_zeros : bool, default=False
        Whether all weights may be 0.

    Returns
    -------
    sample_weight : float64 ndarray of shape (n_samples,) or None
        None if it was None.

    Raises
    ------
    ValueError
        If there is not one weight for each sample, if weights are negative, NaN or
        infinite, or all are 0.
    """
    if sample_weight is None:
        return None
    weights: np.ndarray = _check_sample_weight(
        as_numpy(sample_weight),
        np.broadcast_to(0.0, n_samples),
        dtype=np.float64,
        ensure_non_negative=True,
        allow_all_zero_weights=allow_zeros,
    )
    return weights


def rows_that_count(sample_weight: np.ndarray | None) -> slice | np.ndarray:
    """Return the indices of the rows of positive weight.

    Parameters
    ----------
    sample_weight : ndarray of shape (n_samples,) or None

    Returns
    -------
    indices : slice(None) or int ndarray
        A slice if these are all rows.
    """
    if sample_weight is None or sample_weight.all():
        return slice(None)
    return np.flatnonzero(sample_weight)


def in_rows(
    sample_weight: np.ndarray | None, communicator: Communicator
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Return the number of rows that each sample counts as.

    Integer weights are such numbers. Of other weights only the proportions are known:
    they are scaled to a mean of 1 over the samples that count.

    Parameters
    ----------
    sample_weight : ndarray of shape (n_samples,) or None
    communicator : Communicator
        The weights of all its processes have the same unit.

    Returns
    -------
    sample_weight : ndarray of shape (n_samples,) or None
        None if all samples that count are one row each.
    copies : ndarray of shape (n_samples,) or None
        Copies of each sample to draw from: as many as rows if weights are integers,
        otherwise more, since copies are drawn as a whole. None if all samples that
        count have equally many.
    """
    if sample_weight is None:
        return None, None
    n_copies = 1
    if not all(communicator.all_gather(_are_counts(sample_weight))):
        sample_weight = sample_weight / mean_weight(sample_weight, communicator)
        n_copies = _COPIES
    counted = sample_weight[sample_weight > 0]
    least, most = zip(
        *communicator.all_gather((counted.min(), counted.max())), strict=True
    )
    if min(least) < max(most):
        return sample_weight, n_copies * sample_weight
    return (None if max(most) == 1 else sample_weight), None


def mean_weight(sample_weight: np.ndarray, communicator: Communicator) -> float:
    """Compute the mean of the positive weights of all processes.

    Parameters
    ----------
    sample_weight : ndarray of shape (n_samples,)
    communicator : Communicator

    Returns
    -------
    mean : float
    """
    # Without zeros, as the rounding of a sum depends on the positions of its terms.
    counted = sample_weight[sample_weight > 0]
    largest = max(communicator.all_gather(float(counted.max())))
    total = communicator.all_reduce(float((counted / largest).sum()))  # no overflow
    return largest * (total / communicator.all_reduce(len(counted)))


def _are_counts(sample_weight: np.ndarray) -> bool:
    is_integer = sample_weight == np.floor(sample_weight)
    return bool(is_integer.all() and (sample_weight / _MAX_COUNT).sum() <= 1)


def weighted_mean(
    values: np.ndarray, sample_weight: np.ndarray | None, communicator: Communicator
) -> float:
    """Compute the mean of a value of each row over the rows of all processes.

    Parameters
    ----------
    values : ndarray of shape (n_rows,)
    sample_weight : ndarray of shape (n_rows,) or None
        None if all weights are 1.
    communicator : Communicator

    Returns
    -------
    mean : float
    """
    mean, total = float(values.mean()), float(len(values))
    if sample_weight is not None:
        total = float(sample_weight.sum())
        mean = float(sample_weight @ values) / total
    gathered = communicator.all_gather((mean, total))
    total = sum(weight for _, weight in gathered)
    return float(sum(mean * (weight / total) for mean, weight in gathered))
