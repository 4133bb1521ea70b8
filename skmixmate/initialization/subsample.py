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


def draw_rows(
    candidates: np.ndarray,
    size: int,
    random_state: np.random.RandomState,
    copies: np.ndarray | None = None,
    n_distinct: int = 1,
) -> np.ndarray:
    """Draw rows at random, without replacement from the copies of each.

    A row is drawn as often as its number of copies times ``size / total``, rounded up
    or down at random (systematic sampling), and each copy at most once.

    Parameters
    ----------
    candidates : int ndarray of shape (n_candidates,)
        The rows to draw from.
    size : int
        Number of rows to draw, if they have as many copies.
    random_state : RandomState
    copies : ndarray of shape (n_samples,), default=None
        Number of copies of each row of the data, not necessarily an integer; None if
        there is one of each.
    n_distinct : int, default=1
        If a few rows have nearly all copies, those with the most copies are drawn in
        addition, until there are as many different rows.

    Returns
    -------
    indices : int ndarray of shape (n_drawn,)
        In random order.
    """
    candidates = random_state.permutation(candidates)
    if copies is None:
        return candidates[:size].copy()  # frees the others
    ends = np.cumsum(copies[candidates])
    size = min(size, count_copies(candidates, copies))
    points = (np.arange(size) + random_state.uniform()) * (ends[-1:] / max(size, 1))
    drawn = candidates[np.searchsorted(ends[:-1], points, side="right")]
    if len(np.unique(drawn)) < n_distinct:
        most_copies = candidates[np.argsort(-copies[candidates])[:n_distinct]]
        drawn = np.concatenate([drawn, np.setdiff1d(most_copies, drawn)])
    return random_state.permutation(drawn)


def count_copies(candidates: np.ndarray, copies: np.ndarray | None) -> int:
    """Return the number of copies that there are of some rows.

    Parameters
    ----------
    candidates : int ndarray of shape (n_candidates,)
    copies : ndarray of shape (n_samples,) or None
        As in :func:`draw_rows`.

    Returns
    -------
    n_copies : int
    """
    return len(candidates) if copies is None else round(copies[candidates].sum())


def find_distinct(indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the distinct rows among rows that may have been drawn several times.

    Parameters
    ----------
    indices : int ndarray of shape (n_drawn,)

    Returns
    -------
    first : int ndarray of shape (n_distinct,)
        Where each distinct row is drawn first, in ascending order.
    inverse : int ndarray of shape (n_drawn,)
        ``indices[first][inverse]`` is `indices`.
    """
    _, first, inverse = np.unique(indices, return_index=True, return_inverse=True)
    order = np.argsort(first)
    return first[order], np.argsort(order)[inverse]


def draw_subsample(
    X: np.ndarray | torch.Tensor | RowReader | SparseRows,
    n_missing: np.ndarray,
    init_size: int,
    n_wanted: int,
    random_state: np.random.RandomState,
    impute: Callable[[np.ndarray], np.ndarray] = impute_means,
    copies: np.ndarray | None = None,
    n_distinct: int = 1,
    is_known: np.ndarray | None = None,
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
    copies, n_distinct
        As in :func:`draw_rows`.
    is_known : bool ndarray of shape (n_samples,), default=None
        Rows with a label, which are drawn first until they are half of `init_size`.

    Returns
    -------
    indices : ndarray of shape (n_drawn,)
        Of the rows drawn.
    sample : ndarray or SparseRows of shape (n_drawn, n_features)
        These rows, without missing entries. Sparse if X is, and they would take much
        memory as a dense array.
    """
    candidates = np.flatnonzero(n_missing == 0)
    if count_copies(candidates, copies) < min(init_size, n_wanted):
        candidates = np.flatnonzero(n_missing < X.shape[1])
    indices = draw_rows(candidates, init_size, random_state, copies, n_distinct)
    if is_known is not None:
        is_known = is_known & (n_missing < X.shape[1])
        indices = _known_first(candidates, is_known, init_size, random_state)
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
    copies: np.ndarray | None = None,
    n_distinct: int = 1,
    labels: np.ndarray | None = None,
) -> tuple[np.ndarray | SparseRows | None, np.ndarray | None, np.ndarray | None]:
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
    copies, n_distinct
        As in :func:`draw_rows`.
    labels : int ndarray of shape (n_samples,), default=None
        Of the rows of this process, -1 where unknown. Rows with a label are brought
        first, until they are half of `n_rows`.

    Returns
    -------
    rows : ndarray or SparseRows of shape (at most n_rows, n_features) or None
        None in all processes except the first.
    copies : ndarray of shape (len(rows),) or None
        How often each row was drawn; None if once.
    labels : int ndarray of shape (at most n_rows,) or None
        Of these rows; None in all processes except the first, or without labels.
    """
    candidates = np.flatnonzero(n_missing == 0)
    if communicator.all_reduce(count_copies(candidates, copies)) < n_rows:
        candidates = np.flatnonzero(n_missing < X.shape[1])
    counts = communicator.all_gather(count_copies(candidates, copies))
    share = apportion(min(n_rows, sum(counts)), counts)[communicator.rank]
    drawn = draw_rows(candidates, share, random_state, copies, n_distinct)
    if labels is not None:
        is_known = (labels >= 0) & (n_missing < X.shape[1])
        drawn = _known_first(candidates, is_known, share, random_state)
    indices, counts_drawn = np.unique(drawn, return_counts=True)
    gathered = communicator.all_gather((as_numpy(X[indices]), counts_drawn))
    if labels is not None:
        labels = np.concatenate(communicator.all_gather(labels[indices]))
    if communicator.rank > 0:
        return None, None, None
    parts, counts_of_parts = zip(*gathered, strict=True)
    copies = None if copies is None else np.concatenate(counts_of_parts)
    return concatenate(parts), copies, labels


def _known_first(
    candidates: np.ndarray,
    is_known: np.ndarray,
    n_rows: int,
    random_state: np.random.RandomState,
) -> np.ndarray:
    """Draw rows with a label first, until they are half of `n_rows`, then others."""
    known = random_state.permutation(np.flatnonzero(is_known))[: max(1, n_rows // 2)]
    others = random_state.permutation(candidates[~np.isin(candidates, known)])
    return np.concatenate([known, others])[:n_rows]
