"""Learning from a stream of rows, chunk by chunk."""

import math
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import _fit_context
from sklearn.callback import with_callbacks

from ..data.loader import concat_rows
from ..data.readers import is_stream
from ..data.sparse import SparseRows
from ..data.streams import stream_chunks
from ..data.validation import read_dense, resolve_device, validate_images
from ..distributed.communicator import Communicator
from ..distributed.launch import find_communicator
from ..utils.guards import all_or_nothing, default_modes
from ..utils.random_state import private_random_state
from ..utils.types import Data
from ._checks import check_continuation, check_params
from ._explaining import ExplainingMixMate
from ._fit import (
    FitContext,
    check_scales,
    check_step_size,
    find_overlaps,
    make_em,
    penalty_value,
    resolve_settings,
    summarize_rows,
)
from ._images import resolve_image_shape
from ._inference import FittedModel
from ._initialize import initialize
from ._labels import check_no_labels
from ._sample_weight import (
    check_sample_weight,
    in_rows,
    mean_weight,
    rows_that_count,
    weighted_mean,
)
from ._settings import Settings, read_params, stream_init_size
from ._state import ModelState, Rows, torch_dtype

# Entries of the rows of a stream that are copied at a time.
_STREAM_ENTRIES = 2**22


class StreamingMixMate(ExplainingMixMate):
    """A mixture of dictionaries that learns from a stream."""

    distributed: bool | str

    def partial_fit(self, X: Data, y: Any = None, sample_weight: Any = None) -> Self:
        """Learn from one chunk of the data after another.

        The first `init_size` rows with an observed entry are buffered; they initialise
        the model: its dictionaries, scale and representation. After that one call
        is one pass over its rows, in their order: shuffle data that
        are sorted. Rows that do not fill a mini-batch are buffered until the next call,
        so that the result does not depend on how a sequence of rows is cut into chunks.
        Intercepts and learned weights are means over a sliding window of
        `init_size` rows. After `fit`, it continues from the fitted model.

        Parameters
        ----------
        X : array-like, sparse matrix or tensor of shape (n_samples, n_features)
            Any number of rows; NaN is missing. Data that are not in memory are read in
            chunks. A Dataset or DataLoader without length is treated as if each of its
            chunks, of about four million entries, were passed to a separate call.
        y : array-like of shape (n_samples,), default=None
            Not used in fitting; passed on to callbacks, except with a stream. With
            ``supervision="auto"`` it should be None.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows; None means that all are 1. The unit is the mean weight
            of the rows that initialise the model, or of the data of `fit`. A row of
            weight 0 is left out. Not with a Dataset or DataLoader without length.

        Returns
        -------
        self : object
            The estimator.

        Raises
        ------
        ValueError
            If a parameter is out of its range, or X has infinite entries or other
            features than before; if weights are negative or not finite; if the number
            of clusters or atoms, or whether there are intercepts, has changed.
        TypeError
            If X is a sparse tensor, or a parameter has the wrong type.

        Examples
        --------
        >>> from skmixmate import MixMateClustering
        >>> from skmixmate.datasets import make_sparse_mixture
        >>> X = make_sparse_mixture(2000, random_state=0).data
        >>> mixmate = MixMateClustering(3, n_atoms=8, init_size=500, random_state=0)
        >>> for chunk in (X[:300], X[300:900], X[900:]):
        ...     mixmate = mixmate.partial_fit(chunk)
        >>> mixmate.n_samples_seen_, mixmate.n_steps_
        (2000, 7)
        """
        if find_communicator(self.distributed).size > 1:
            raise ValueError(
                f"distributed={self.distributed!r} should be False for partial_fit, "
                "which does not learn across processes; fit does."
            )
        if is_stream(X):
            if sample_weight is not None:
                raise ValueError(
                    f"sample_weight should be None where X is a {type(X).__name__} "
                    "without length; call partial_fit with each chunk and its weights."
                )
            for chunk in stream_chunks(X, self.image_shape):
                self._partial_fit(chunk)
        else:
            self._partial_fit(X, y, sample_weight)
        return self

    @all_or_nothing
    @default_modes()
    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=False)
    def _partial_fit(self, X: Data, y: Any = None, sample_weight: Any = None) -> Self:
        _partial_fit_chunk(self, X, y, sample_weight)
        return self


def _partial_fit_chunk(estimator: Any, X: Any, y: Any, sample_weight: Any) -> None:
    """Learn from rows that are in memory, or read from a file.

    Parameters
    ----------
    estimator : MixMateClustering
    X, y, sample_weight
        As given to `partial_fit`.
    """
    is_fitted = hasattr(estimator, "dictionaries_")
    is_streaming = hasattr(estimator, "_row_buffer")
    is_new = not (is_fitted or is_streaming)
    X, item_shape = validate_images(estimator, X, reset=is_new)
    weights = check_sample_weight(sample_weight, len(X), allow_zeros=True)
    params = read_params(estimator)
    if is_fitted:
        fitted = ModelState.from_estimator(estimator).data_shape()
        check_continuation(params, fitted, X.shape[1], "partial_fit")
    check_params(params, X)
    check_no_labels(params, y)
    estimator._keep_params()
    device = resolve_device(estimator.device, X)
    image_shape = vars(estimator).get("image_shape_")
    is_auto = isinstance(params["image_shape"], str)
    if is_fitted or item_shape or not is_auto:  # otherwise when the buffer is full
        image_shape = resolve_image_shape(
            estimator, params, X, item_shape, is_fitted, Communicator()
        )
        estimator.image_shape_ = image_shape
    if image_shape is not None:
        X = read_dense(X)
    n_missing = summarize_rows(
        X, device, estimator, image_shape, counted=rows_that_count(weights)
    ).n_missing
    settings = resolve_settings(estimator, X, image_shape, is_fitted)
    indices = np.flatnonzero(n_missing < X.shape[1])
    if not is_streaming:
        dtype = torch_dtype(estimator.dictionaries_ if is_fitted else X)
        _reset_stream(estimator, dtype)
    _check_intercepts(estimator, settings)

    task = estimator._init_callback_context("partial_fit", max_subtasks=1)
    task.call_on_fit_task_begin(estimator=estimator, X=X, y=y)
    init_size = stream_init_size(estimator)
    n_buffered = len(estimator._row_buffer)
    if not is_fitted and n_buffered + len(indices) >= init_size:
        n_wanted = max(0, init_size - n_buffered)
        rows, row_weights = _append_to_buffer(estimator, X, weights, indices[:n_wanted])
        settings = _initialize_from_buffer(
            estimator, rows[:init_size], row_weights[:init_size], device, task
        )
        is_fitted = True
        if settings.image_shape is not None:
            X = read_dense(X)
    if is_fitted:
        state = ModelState.from_estimator(estimator)
        state.adopt_likelihood(settings.likelihood)
        estimator.likelihood_ = state.likelihood
        _train_chunk(estimator, settings, state, X, weights, indices, device)
        model = FittedModel(state, settings, estimator.device)
        found = model.assign(state.lazy_model_space(X))
        estimator.labels_ = found.labels
        estimator.overlaps_ = find_overlaps(found.margins, Communicator())
        estimator.loss_ = math.nan
        if len(indices):
            estimator.loss_ = weighted_mean(
                found.losses[indices],
                None if weights is None else weights[indices],
                Communicator(),
            )
            estimator.loss_ += penalty_value(settings, state)
    else:
        estimator._row_buffer, estimator._weight_buffer = _append_to_buffer(
            estimator, X, weights, indices
        )
    estimator.n_samples_seen_ += len(X)
    task.call_on_fit_task_end(
        estimator=estimator,
        X=X,
        y=y,
        reconstruction_attributes={} if is_fitted else None,
    )


def _reset_stream(estimator: Any, dtype: torch.dtype) -> None:
    estimator.n_samples_seen_ = estimator.n_steps_ = 0
    estimator.loss_curve_ = [*getattr(estimator, "loss_curve_", [])]
    estimator._row_buffer = torch.empty(0, estimator.n_features_in_, dtype=dtype)
    estimator._weight_buffer = torch.empty(0, dtype=torch.float64)
    estimator._optimizer_state = None  # until there is a mini-batch


def _append_to_buffer(
    estimator: Any, X: Rows, weights: np.ndarray | None, indices: np.ndarray
) -> tuple[torch.Tensor | SparseRows, torch.Tensor]:
    """Append rows of X, and their weights, to copies of those that are buffered."""
    rows = concat_rows(estimator._row_buffer, X, indices)
    new = np.ones(len(indices)) if weights is None else weights[indices]
    return rows, torch.cat([_buffered_weights(estimator), torch.from_numpy(new)])


def _buffered_weights(estimator: Any) -> torch.Tensor:
    """Return the weights of the buffered rows; earlier versions had none."""
    ones = torch.ones(len(estimator._row_buffer), dtype=torch.float64)
    return vars(estimator).get("_weight_buffer", ones)


def _check_intercepts(estimator: Any, settings: Settings) -> None:
    """Check that a stream continues with intercepts if it had them."""
    if estimator._optimizer_state is None:
        return
    had_intercepts = estimator._optimizer_state["intercepts"] is not None
    if settings.fit_intercept != had_intercepts:
        raise ValueError(
            f"fit_intercept={estimator.fit_intercept!r} should be {had_intercepts}, as "
            "it was before; call fit with warm_start=False to start again."
        )


def _initialize_from_buffer(
    estimator: Any,
    rows: Rows,
    weights: torch.Tensor,
    device: torch.device,
    task: Any,
) -> Settings:
    """Set the state that a stream starts from; return the settings that fit it."""
    communicator = Communicator()
    image_shape = resolve_image_shape(
        estimator,
        read_params(estimator),
        rows,
        vars(estimator).get("image_shape_"),
        False,
        communicator,
    )
    if image_shape is not None:
        rows = read_dense(rows)
    estimator._mean_weight = mean_weight(weights.numpy(), communicator)
    sample_weight, copies = in_rows(weights.numpy(), communicator)
    summary = summarize_rows(
        rows, device, estimator, image_shape, sample_weight=sample_weight
    )
    settings = resolve_settings(estimator, rows, image_shape, continues=False)
    check_scales(estimator, settings, summary, communicator)
    initialize(
        estimator,
        FitContext(
            X=rows,
            y=None,
            sample_weight=sample_weight,
            copies=copies,
            counted=slice(None),
            labels=None,
            summary=summary,
            indices=slice(None),
            settings=settings,
            is_warm=False,
            device=device,
            random_state=private_random_state(estimator.random_state),
            task=task,
            checkpoint=None,
            communicator=communicator,
        ),
    )
    return settings


def _train_chunk(
    estimator: Any,
    settings: Settings,
    state: ModelState,
    X: Rows,
    weights: np.ndarray | None,
    indices: np.ndarray,
    device: torch.device,
) -> None:
    """Train on all mini-batches that are complete, and buffer the remaining rows."""
    batch_size = estimator.batch_size
    n_entries = X.row_entries if isinstance(X, SparseRows) else X.shape[1]
    size = max(1, _STREAM_ENTRIES // n_entries)
    total, total_weight, n_trained = 0.0, 0.0, 0
    for chunk in np.split(indices, range(size, len(indices), size)):
        rows, row_weights = _append_to_buffer(estimator, X, weights, chunk)
        n_full = len(rows) // batch_size * batch_size
        if n_full:
            mean_loss = _train_batches(
                estimator, settings, state, rows[:n_full], row_weights[:n_full], device
            )
            total += float(row_weights[:n_full].sum()) * mean_loss
            total_weight += float(row_weights[:n_full].sum())
            n_trained += n_full
        rest = rows[n_full:]
        estimator._row_buffer = (
            rest.copy() if isinstance(rest, SparseRows) else rest.clone()
        )
        estimator._weight_buffer = row_weights[n_full:].clone()
    if n_trained:
        estimator.loss_curve_ = [*estimator.loss_curve_, total / total_weight]
    estimator.n_steps_ += n_trained // batch_size
    estimator.n_iter_ = len(estimator.loss_curve_)
    estimator.converged_ = False


def _train_batches(
    estimator: Any,
    settings: Settings,
    state: ModelState,
    rows: torch.Tensor | SparseRows,
    weights: torch.Tensor,
    device: torch.device,
) -> float:
    """Train on complete mini-batches; return their mean loss."""
    X: Rows = rows
    weights = weights / vars(estimator).get("_mean_weight", 1.0)
    if state.representation is not None and isinstance(rows, torch.Tensor):
        # Each mini-batch by itself: the last bits of a product of matrices depend on
        # its other rows.
        size = int(estimator.batch_size)  # torch does not accept a bool
        X = np.concatenate([state.to_model_space(b) for b in rows.split(size)])
    em = make_em(
        estimator,
        settings,
        state,
        X,
        slice(None),
        device,
        None if (weights == 1).all() else weights,
        mean_weight=1.0,
        learning_rate=estimator.learning_rate,
        n_window=max(stream_init_size(estimator), estimator.batch_size),
        generator=torch.Generator(),  # nothing is shuffled
    )
    if estimator._optimizer_state is None:
        check_step_size(settings, em)
    else:
        em.load_state_dict(estimator._optimizer_state)
    mean_loss = em.run_stream()
    vars(estimator).update(state.update_from(em).learned_attributes())
    estimator._optimizer_state = em.state_dict()
    return mean_loss
