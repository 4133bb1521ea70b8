"""The subsample of rows that an initialisation clusters."""

from collections.abc import Callable

import numpy as np
import torch

from ..data.containers import as_numpy
from ..data.readers import RowReader
from ..distributed.communicator import Communicator, apportion
from ..utils.numbers import far_means, safe_exponent


def impute_means(sample: np.ndarray) -> np.ndarray:
    """Impute each missing entry with the mean of its feature.

    Parameters
    ----------
    sample : ndarray of shape (n_samples, n_features)
        Changed in place. A feature that is never observed is imputed with 0.

    Returns
    -------
    sample : ndarray of shape (n_samples, n_features)
    """
    is_missing = np.isnan(sample)
    if is_missing.any():
        means = far_means(sample)
        if means is None:
            counts = np.maximum((~is_missing).sum(axis=0), 1)
            exponent = safe_exponent(sample)
            entries = np.ldexp(np.where(is_missing, 0, sample), -exponent)
            means = np.ldexp(entries.sum(axis=0) / counts, exponent)
        np.copyto(sample, means.astype(sample.dtype), where=is_missing)
    return sample


def draw_subsample(
    X: np.ndarray | torch.Tensor | RowReader,
    n_missing: np.ndarray,
    init_size: int,
    n_wanted: int,
    random_state: np.random.RandomState,
    impute: Callable[[np.ndarray], np.ndarray] = impute_means,
    is_known: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw rows to cluster, complete ones where there are enough of them.

    Parameters
    ----------
    X : ndarray, tensor or RowReader of shape (n_samples, n_features)
    n_missing : ndarray of shape (n_samples,)
        Missing entries of each row.
    init_size : int
        Rows to draw, if there are as many.
    n_wanted : int
        If fewer rows than this (and than `init_size`) are complete, rows are
        drawn from all with an observed entry, and their missing entries imputed.
    random_state : RandomState
    impute : callable, default=impute_means
        Returns rows without missing entries, and may change those it is called with.
    is_known : bool ndarray of shape (n_samples,), default=None
        Rows with a label, which are drawn first until they are half of `init_size`.

    Returns
    -------
    indices : ndarray of shape (n_drawn,)
        Of the rows drawn.
    sample : ndarray of shape (n_drawn, n_features)
        These rows, without missing entries.
    """
    candidates = np.flatnonzero(n_missing == 0)
    if len(candidates) < min(init_size, n_wanted):
        candidates = np.flatnonzero(n_missing < X.shape[1])
    random_state.shuffle(candidates)
    if is_known is not None:
        is_known = is_known & (n_missing < X.shape[1])
        candidates = _known_first(candidates, is_known, init_size, random_state)
    indices = candidates[:init_size].copy()  # frees the others
    return indices, impute(as_numpy(X[indices]))  # a copy


def gather_rows(
    X: np.ndarray | torch.Tensor | RowReader,
    n_missing: np.ndarray,
    n_rows: int,
    random_state: np.random.RandomState,
    communicator: Communicator,
    labels: np.ndarray | None = None,
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Bring rows of all processes to the first, which draws a subsample of them.

    Parameters
    ----------
    X : ndarray, tensor or RowReader of shape (n_samples, n_features)
        The rows of this process.
    n_missing, random_state
        As in :func:`draw_subsample`.
    n_rows : int
        Rows to bring, if there are as many; all complete if there are enough of these.
    communicator : Communicator
    labels : int ndarray of shape (n_samples,), default=None
        Of the rows of this process, -1 where unknown. Rows with a label are brought
        first, until they are half of `n_rows`.

    Returns
    -------
    rows : ndarray of shape (at most n_rows, n_features) or None
        None in all processes except the first.
    labels : int ndarray of shape (at most n_rows,) or None
        Of these rows; None in all processes except the first, or without labels.
    """
    candidates = np.flatnonzero(n_missing == 0)
    if communicator.all_reduce(len(candidates)) < n_rows:
        candidates = np.flatnonzero(n_missing < X.shape[1])
    counts = communicator.all_gather(len(candidates))
    share = apportion(min(n_rows, sum(counts)), counts)[communicator.rank]
    candidates = random_state.permutation(candidates)
    if labels is not None:
        is_known = (labels >= 0) & (n_missing < X.shape[1])
        candidates = _known_first(candidates, is_known, share, random_state)
    indices = np.sort(candidates[:share])
    gathered = communicator.all_gather(as_numpy(X[indices]))
    if labels is not None:
        labels = np.concatenate(communicator.all_gather(labels[indices]))
    if communicator.rank > 0:
        return None, None
    return np.concatenate(gathered), labels


def _known_first(
    candidates: np.ndarray,
    is_known: np.ndarray,
    n_rows: int,
    random_state: np.random.RandomState,
) -> np.ndarray:
    """Move rows with a label to the front, until they are half of `n_rows`."""
    known = random_state.permutation(np.flatnonzero(is_known))
    first = known[: max(1, n_rows // 2)]
    return np.concatenate([first, candidates[~np.isin(candidates, first)]])
