"""The subsample of rows that an initialisation clusters."""

from collections.abc import Callable

import numpy as np
import torch

from ..data.containers import as_numpy
from ..data.readers import RowReader
from ..data.sparse import SparseRows, concatenate
from ..distributed.communicator import Communicator, apportion
from ..utils.numbers import far_means, safe_exponent
from .sparse import impute_sparse_means, is_small


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
    X: np.ndarray | torch.Tensor | RowReader | SparseRows,
    n_missing: np.ndarray,
    init_size: int,
    n_wanted: int,
    random_state: np.random.RandomState,
    impute: Callable[[np.ndarray], np.ndarray] = impute_means,
) -> tuple[np.ndarray, np.ndarray | SparseRows]:
    """Draw rows to cluster, complete ones where there are enough of them.

    Parameters
    ----------
    X : ndarray, tensor, RowReader or SparseRows of shape (n_samples, n_features)
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

    Returns
    -------
    indices : ndarray of shape (n_drawn,)
        Of the rows drawn.
    sample : ndarray or SparseRows of shape (n_drawn, n_features)
        These rows, without missing entries. Sparse if X is, and they would take much
        memory as a dense array.
    """
    candidates = np.flatnonzero(n_missing == 0)
    if len(candidates) < min(init_size, n_wanted):
        candidates = np.flatnonzero(n_missing < X.shape[1])
    random_state.shuffle(candidates)
    indices = candidates[:init_size].copy()  # frees the others
    sample = as_numpy(X[indices])  # a copy
    if isinstance(sample, SparseRows):
        if not is_small(sample):
            return indices, impute_sparse_means(sample)
        sample = sample.toarray()
    return indices, impute(sample)


def gather_rows(
    X: np.ndarray | torch.Tensor | RowReader | SparseRows,
    n_missing: np.ndarray,
    n_rows: int,
    random_state: np.random.RandomState,
    communicator: Communicator,
) -> np.ndarray | SparseRows | None:
    """Bring rows of all processes to the first, which draws a subsample of them.

    Parameters
    ----------
    X : ndarray, tensor, RowReader or SparseRows of shape (n_samples, n_features)
        The rows of this process.
    n_missing, random_state
        As in :func:`draw_subsample`.
    n_rows : int
        Rows to bring, if there are as many; all complete if there are enough of these.
    communicator : Communicator

    Returns
    -------
    rows : ndarray or SparseRows of shape (at most n_rows, n_features) or None
        None in all processes except the first.
    """
    candidates = np.flatnonzero(n_missing == 0)
    if communicator.all_reduce(len(candidates)) < n_rows:
        candidates = np.flatnonzero(n_missing < X.shape[1])
    counts = communicator.all_gather(len(candidates))
    share = apportion(min(n_rows, sum(counts)), counts)[communicator.rank]
    indices = np.sort(random_state.permutation(candidates)[:share])
    gathered = communicator.all_gather(as_numpy(X[indices]))
    return concatenate(gathered) if communicator.rank == 0 else None
