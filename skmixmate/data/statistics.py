"""Statistics of X, computed over all rows, and the scaling derived from them."""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from ..distributed.communicator import Communicator
from ..utils.numbers import largest_magnitude
from .batch import Batch
from .containers import as_numpy
from .loader import RowLoader
from .sparse import SparseRows, column_sums
from .sparse_batch import SparseBatch

# If a sum overflows, rows are divided by 2**_HEADROOM_EXPONENT, which leaves room for
# 2**64 of them. A float64 can be multiplied by at most 2**_MAX_EXPONENT at once.
_HEADROOM_EXPONENT, _MAX_EXPONENT = 64, 1023

# Means that are this multiple of the deviations from them are computed again, from the
# deviations.
_FAR = 1e6

# A standard deviation below this fraction of the mean is the rounding of a constant.
_ROUNDING = 1e-12

# Added to numbers that are divided by, and may be 0.
_TINY = float(np.finfo(np.float64).tiny)

# Factor between the largest float and the largest squared norm allowed, so that sums
# and products of squared norms do not overflow either.
_MARGIN = 2.0**16


class RowSummary(NamedTuple):
    """Statistics that one pass over the rows collects.

    Parameters
    ----------
    n_missing : ndarray of shape (n_samples,)
        Missing entries of each row, of the smallest unsigned dtype that holds the
        number of features; all are missing in rows that do not count.
    sums, counts : tensors of shape (n_features,), or None
        Weighted sums of the observed entries of each feature, in float64, and sums of
        their weights.
    squares : tensor of shape (n_features,), or None
        Weighted sums of their squared deviations from their mean, in float64.
    """

    n_missing: npt.NDArray[np.unsignedinteger]
    sums: torch.Tensor | None = None
    counts: torch.Tensor | None = None
    squares: torch.Tensor | None = None


def summarize(rows: RowLoader, with_sums: bool = False) -> RowSummary:
    """Count the missing entries of every row, and sum every feature in the same pass.

    Parameters
    ----------
    rows : RowLoader
    with_sums : bool, default=False
        Whether to compute the sums of the features, and of their squares.

    Returns
    -------
    summary : RowSummary
    """
    n_features = rows.X.shape[1]
    n_missing = np.full(len(rows), n_features, np.min_scalar_type(n_features))
    sums, counts, squares = torch.zeros(
        3, n_features, dtype=torch.float64, device=rows.device
    )
    if rows.is_sparse:
        return _summarize_sparse(rows, n_missing, with_sums)
    origin = None  # the mean of the first chunk, about which squares are exact
    for index in rows.index_chunks(rows.counted):
        batch = rows.load(index)
        index = index if isinstance(index, slice) else as_numpy(index)
        n_missing[index] = as_numpy(n_features - batch.n_observed(torch.int64))
        if with_sums:
            sums += _weighted_sums(batch, batch.rows)
            observed = batch.observed
            if observed is None:  # the same number for all features
                observed = batch.rows.new_ones(batch.n_rows, 1, dtype=torch.bool)
            counts += _weighted_sums(batch, observed)
            if origin is None:
                origin = (sums / counts.clamp_min(_TINY)).to(batch.rows.dtype)
            deviations = batch.rows - origin
            if batch.observed is not None:
                deviations *= batch.observed
            squares += _weighted_sums(batch, deviations.square_())
    _check_uncounted(rows)
    if not with_sums:
        return RowSummary(n_missing)
    if origin is not None:
        squares -= counts * (sums / counts.clamp_min(_TINY) - origin).square()
    return RowSummary(n_missing, sums, counts, squares.clamp_min(0))


def _weighted_sums(batch: Batch, values: torch.Tensor) -> torch.Tensor:
    """Sum values over the rows of a batch, weighted, in float64.

    Parameters
    ----------
    batch : Batch
    values : tensor of shape (n_rows, n_columns)

    Returns
    -------
    sums : float64 tensor of shape (n_columns,)
    """
    if batch.weights is None:
        return values.sum(dim=0, dtype=torch.float64)
    return batch.weights.double() @ values.double()


def _check_uncounted(rows: RowLoader) -> None:
    """Load the rows that do not count: there will be predictions for them."""
    if isinstance(rows.counted, torch.Tensor):
        is_counted = torch.zeros(len(rows), dtype=torch.bool)
        is_counted[rows.counted] = True
        for index in rows.index_chunks((~is_counted).nonzero()[:, 0]):
            rows.load(index)


def _summarize_sparse(
    rows: RowLoader, n_missing: npt.NDArray[np.unsignedinteger], with_sums: bool
) -> RowSummary:
    """Summarize sparse rows by their stored entries; all others are 0."""
    sums, counts, squares, n_stored, means = np.zeros((5, rows.X.shape[1]))
    is_first = True
    for index in rows.index_chunks(rows.counted):
        chunk_rows, weights = _load_sparse(rows, index)
        entries = chunk_rows.entries.astype(np.float64)
        is_missing = np.isnan(entries)
        missing = chunk_rows.with_entries(is_missing.astype(np.float64))
        index = index if isinstance(index, slice) else as_numpy(index)
        n_missing[index] = np.asarray(missing.csr.sum(axis=1)).reshape(-1)
        if not with_sums:
            continue
        of_entries = np.repeat(weights, np.diff(chunk_rows.csr.indptr))
        entries[is_missing] = 0
        counts += weights.sum() - column_sums(missing, missing.entries * of_entries)
        sums += column_sums(chunk_rows, entries * of_entries)
        n_stored += column_sums(chunk_rows, ~is_missing * of_entries)
        if is_first:  # as for dense rows, squares are about a mean
            means, is_first = sums / np.maximum(counts, _TINY), False
        deviations = entries - means[chunk_rows.csr.indices]
        deviations[is_missing] = 0
        squares += column_sums(chunk_rows, np.square(deviations) * of_entries)
    _check_uncounted(rows)
    if not with_sums:
        return RowSummary(n_missing)
    squares += (counts - n_stored) * np.square(means)
    squares -= counts * np.square(sums / np.maximum(counts, _TINY) - means)
    totals = map(torch.from_numpy, (sums, counts, squares.clip(min=0)))
    return RowSummary(n_missing, *totals)


def _load_sparse(
    rows: RowLoader, index: slice | torch.Tensor
) -> tuple[SparseRows, npt.NDArray[np.float64]]:
    """Load sparse rows, scaled, with NaN for missing entries, and their weights."""
    batch = rows.load(index)
    assert isinstance(batch, SparseBatch)
    weights = np.ones(batch.n_rows)
    if batch.weights is not None:
        weights = as_numpy(batch.weights.double())
    return batch.sparse_rows, weights


def feature_means(
    rows: RowLoader, communicator: Communicator, summary: RowSummary | None = None
) -> torch.Tensor:
    """Compute the mean of the observed entries of every feature.

    Parameters
    ----------
    rows : RowLoader
    communicator : Communicator
        The mean is taken over the rows of all its processes.
    summary : RowSummary, default=None
        Of the rows, with sums; None to compute it.

    Returns
    -------
    means : float64 tensor of shape (n_features,)
        0 for a feature that is never observed.
    """
    means = _reduce_means(summary or summarize(rows, with_sums=True), communicator)
    if means.isfinite().all():
        return means
    # A sum overflowed.
    rescaled = summarize(_rescaled(rows, -_HEADROOM_EXPONENT), with_sums=True)
    return _reduce_means(rescaled, communicator) * 2.0**_HEADROOM_EXPONENT


def _reduce_means(summary: RowSummary, communicator: Communicator) -> torch.Tensor:
    sums: torch.Tensor = communicator.all_reduce(summary.sums)
    counts: torch.Tensor = communicator.all_reduce(summary.counts)
    return sums / counts.clamp_min(_TINY)


def feature_stds(summary: RowSummary, communicator: Communicator) -> torch.Tensor:
    """Compute the standard deviation of the observed entries of every feature.

    Parameters
    ----------
    summary : RowSummary
        With sums.
    communicator : Communicator
        The standard deviation is taken over the rows of all its processes.

    Returns
    -------
    stds : float64 tensor of shape (n_features,)
        0 for a feature that is constant up to rounding; not finite where squares
        overflow.
    """
    assert summary.sums is not None
    assert summary.counts is not None
    assert summary.squares is not None
    means = _reduce_means(summary, communicator)
    own_means = summary.sums / summary.counts.clamp_min(_TINY)
    squares = summary.squares + summary.counts * (own_means - means).square()
    squares = communicator.all_reduce(squares)
    counts = communicator.all_reduce(summary.counts).clamp_min(_TINY)
    stds: torch.Tensor = (squares / counts).sqrt()
    return stds.masked_fill(stds <= _ROUNDING * means.abs(), 0)


def centered_norm(
    rows: RowLoader, communicator: Communicator, summary: RowSummary | None = None
) -> float:
    """Compute the root mean squared norm of the rows' deviations from their mean.

    Parameters
    ----------
    rows : RowLoader
        Neither shifted nor scaled.
    communicator : Communicator
        The means are taken over the rows of all its processes.
    summary : RowSummary, default=None
        Of the rows, with sums; None to compute it.

    Returns
    -------
    norm : float
        0 if all rows are the same. Rescaled to compensate for missing entries.
    """
    if rows.is_sparse:
        norm = _sparse_centered_norm(rows, communicator, summary)
        if math.isfinite(norm):
            return norm
    location = feature_means(rows, communicator, summary)
    deviations = rows.shifted(location)
    norm = root_mean_square_norm(deviations, communicator)
    if float(location.abs().max()) > _FAR * norm:
        # Correct the means by their rounding error, without which a constant feature
        # would have deviations.
        location = location + feature_means(deviations, communicator)
        deviations = rows.shifted(location)
        norm = root_mean_square_norm(deviations, communicator)
    return norm


def _sparse_centered_norm(
    rows: RowLoader, communicator: Communicator, summary: RowSummary | None
) -> float:
    """Compute the norm of deviations from the squares of each feature."""
    summary = summary or summarize(rows, with_sums=True)
    stds = feature_stds(summary, communicator)
    counts = communicator.all_reduce(summary.counts)
    total = float((stds.square() * counts).sum() / counts.sum().clamp_min(_TINY))
    return math.sqrt(total * rows.X.shape[1])


def root_mean_square_norm(rows: RowLoader, communicator: Communicator) -> float:
    """Compute the root mean squared norm of the rows.

    Parameters
    ----------
    rows : RowLoader
    communicator : Communicator
        The mean is taken over the rows of all its processes.

    Returns
    -------
    norm : float
        Rescaled to compensate for missing entries. 0 if all observed entries are 0;
        infinite if it overflows float64.
    """
    norm = _root_mean_square_norm(rows, communicator)
    # Squares of larger or smaller entries may overflow or underflow.
    limit = float(np.finfo(as_numpy(rows.X[:0]).dtype).max) ** 0.25
    root = norm / rows.X.shape[1] ** 0.5
    if 1 / limit < root < limit:
        return norm
    largest = max(communicator.all_gather(largest_entry(rows)))
    exponent = max(math.frexp(largest)[1], -_MAX_EXPONENT)
    norm = _root_mean_square_norm(_rescaled(rows, -exponent), communicator)
    with np.errstate(over="ignore"):
        return float(np.ldexp(norm, exponent))


def _root_mean_square_norm(rows: RowLoader, communicator: Communicator) -> float:
    total: float | torch.Tensor = 0.0
    count: float | torch.Tensor = 0.0
    for index in rows.index_chunks(rows.counted):
        if rows.is_sparse:
            sparse_rows, weights = _load_sparse(rows, index)
            observed = ~np.isnan(sparse_rows.entries)
            squares = np.square(sparse_rows.entries, dtype=np.float64)
            of_entries = np.repeat(weights, np.diff(sparse_rows.csr.indptr))
            total = total + float(of_entries[observed] @ squares[observed])
            n_entries = weights.sum() * rows.X.shape[1]
            count = count + n_entries - of_entries[~observed].sum()
            continue
        batch = rows.load(index)
        squares = batch.rows.square()
        if batch.weights is not None:
            squares = _weighted_sums(batch, squares)
        total = total + squares.sum(dtype=torch.float64)
        count = count + batch.weigh(batch.n_observed(torch.float64)).sum()
    total, count = communicator.all_reduce(total), communicator.all_reduce(float(count))
    return float((total / max(count, _TINY) * rows.X.shape[1]) ** 0.5)


def largest_entry(rows: RowLoader) -> float:
    """Return the largest magnitude of the observed entries.

    Parameters
    ----------
    rows : RowLoader

    Returns
    -------
    largest : float
        0 if there are no entries; infinite if shifting or scaling overflows.
    """
    if rows.is_sparse:
        return max(
            (
                largest_magnitude(_load_sparse(rows, index)[0].entries)
                for index in rows.index_chunks(rows.counted)
            ),
            default=0.0,
        )
    return max(
        (
            float(rows.load(index).rows.abs().max())
            for index in rows.index_chunks(rows.counted)
        ),
        default=0.0,
    )


def _rescaled(rows: RowLoader, exponent: int) -> RowLoader:
    """Return a loader of the same rows in float64, multiplied by a power of two."""
    location = rows.location
    if rows.is_sparse:  # their statistics are computed in float64 anyway
        return rows.shifted(None, 2.0**exponent)
    if location is None:  # subtracting float64 zeros converts float32 rows
        location = torch.zeros(rows.X.shape[1], dtype=torch.float64, device=rows.device)
    return rows.shifted(location.double(), 2.0**exponent)


def scale_of_norm(norm: float, reference: float, dtype: npt.DTypeLike) -> float:
    """Compute the factor that scales rows of a given norm to a reference norm.

    Parameters
    ----------
    norm : float
        Norm of the unscaled rows, see :func:`root_mean_square_norm`.
    reference : float
        Norm of the scaled rows.
    dtype : dtype
        The dtype of the rows.

    Returns
    -------
    scale : float
        1 if the norm is 0.

    Raises
    ------
    ValueError
        If the scale, or its inverse, is not a normal number of the dtype.
    """
    if norm == 0:
        return 1.0
    scale = reference / norm
    limits = np.finfo(dtype)
    tiny = float(limits.tiny)
    if not tiny <= scale <= 1 / tiny:
        raise ValueError(
            f"X has rows of root-mean-square norm {norm:.3g}, which cannot be scaled "
            f"to {reference} in {dtype}: its normal numbers are between {tiny:.3g} "
            f"and {limits.max:.3g}. Multiply X by a constant so that its entries are "
            "closer to 1."
        )
    return scale


def rows_beyond_squares(batch: Batch) -> torch.Tensor:
    """Find the rows whose squared norm overflows, or nearly so.

    Parameters
    ----------
    batch : Batch
        Shifted and scaled as for the model.

    Returns
    -------
    index : int tensor of shape (n_far,)
    """
    if isinstance(batch, SparseBatch):
        return _sparse_rows_beyond_squares(batch)
    rows = batch.rows
    if rows.numel():
        low, high = torch.aminmax(rows)
        limit = largest_squarable(rows.dtype, rows.shape[1])
        if not (-limit <= low and high <= limit):
            return (~(rows.abs().amax(dim=1) <= limit)).nonzero()[:, 0]
    return torch.empty(0, dtype=torch.int64, device=rows.device)


def _sparse_rows_beyond_squares(batch: SparseBatch) -> torch.Tensor:
    limit = largest_squarable(batch.dtype, batch.n_features)
    rows = batch.sparse_rows
    is_far = np.abs(rows.entries) > limit
    if not is_far.any():
        return torch.empty(0, dtype=torch.int64)
    counts = rows.with_entries(is_far.astype(np.float64)).csr.sum(axis=1)
    return torch.from_numpy(np.asarray(counts).reshape(-1)).nonzero()[:, 0]


def largest_squarable(dtype: torch.dtype, n_features: int) -> float:
    """Return the largest entry for which the squared norm of a row cannot overflow.

    Parameters
    ----------
    dtype : torch.dtype
    n_features : int

    Returns
    -------
    largest : float
    """
    limit: float = (torch.finfo(dtype).max / (_MARGIN * n_features)) ** 0.5
    return limit
