"""Learning from a stream of rows, chunk by chunk."""

import math
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import _fit_context
from sklearn.callback import with_callbacks

from ..data.loader import concat_rows
from ..data.readers import is_stream
from ..data.streams import stream_chunks
from ..data.validation import resolve_device, validate_images
from ..distributed.communicator import Communicator
from ..distributed.launch import find_communicator
from ..model.posterior import loss
from ..utils.guards import all_or_nothing, default_modes
from ..utils.random_state import private_random_state
from ..utils.types import Data
from ._checks import check_continuation, check_params
from ._fit import (
    FitContext,
    check_scales,
    check_step_size,
    make_em,
    penalty_value,
    resolve_settings,
    summarize_rows,
)
from ._generative import GenerativeMixMate
from ._images import resolve_image_shape
from ._inference import FittedModel
from ._initialize import initialize
from ._labels import check_no_labels
from ._settings import Settings, read_params, stream_init_size
from ._state import ModelState, Rows, torch_dtype

# Entries of the rows of a stream that are copied at a time.
_STREAM_ENTRIES = 2**22


class StreamingMixMate(GenerativeMixMate):
    """A mixture of dictionaries that learns from a stream."""

    distributed: bool | str

    def partial_fit(self, X: Data, y: Any = None) -> Self:
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
        X : array-like or tensor of shape (n_samples, n_features)
            Any number of rows; NaN is missing. Data that are not in memory are read in
            chunks. A Dataset or DataLoader without length is treated as if each of its
            chunks, of about four million entries, were passed to a separate call.
        y : array-like of shape (n_samples,), default=None
            Not used in fitting; passed on to callbacks, except with a stream. With
            ``supervision="auto"`` it should be None.

        Returns
        -------
        self : object
            The estimator.

        Raises
        ------
        ValueError
            If a parameter is out of its range, or X has infinite entries or other
            features than before; if the number of clusters or atoms, or whether
            there are intercepts, has changed.
        TypeError
            If X is sparse, or a parameter has the wrong type.

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
            for chunk in stream_chunks(X, self.image_shape):
                self._partial_fit(chunk)
        else:
            self._partial_fit(X, y)
        return self

    @all_or_nothing
    @default_modes()
    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=False)
    def _partial_fit(self, X: Data, y: Any = None) -> Self:
        _partial_fit_chunk(self, X, y)
        return self


def _partial_fit_chunk(estimator: Any, X: Any, y: Any = None) -> None:
    """Learn from rows that are in memory, or read from a file.

    Parameters
    ----------
    estimator : MixMateClustering
    X, y
        As given to `partial_fit`.
    """
    is_fitted = hasattr(estimator, "dictionaries_")
    is_streaming = hasattr(estimator, "_row_buffer")
    is_new = not (is_fitted or is_streaming)
    X, item_shape = validate_images(estimator, X, reset=is_new)
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
    n_missing = summarize_rows(X, device, estimator, image_shape).n_missing
    settings = resolve_settings(estimator, X, image_shape, is_fitted)
    indices = np.flatnonzero(n_missing < X.shape[1])
    if not is_streaming:
        dtype = torch_dtype(estimator.dictionaries_ if is_fitted else X)
        _reset_stream(estimator, dtype)
    _check_intercepts(estimator, settings)

    task = estimator._init_callback_context("partial_fit", max_subtasks=1)
    task.call_on_fit_task_begin(estimator=estimator, X=X, y=y)
    buffer, init_size = estimator._row_buffer, stream_init_size(estimator)
    if not is_fitted and len(buffer) + len(indices) >= init_size:
        n_wanted = max(0, init_size - len(buffer))
        rows = concat_rows(buffer, X, indices[:n_wanted])
        settings = _initialize_from_buffer(estimator, rows[:init_size], device, task)
        is_fitted = True
    if is_fitted:
        state = ModelState.from_estimator(estimator)
        state.adopt_likelihood(settings.likelihood)
        estimator.likelihood_ = state.likelihood
        _train_chunk(estimator, settings, state, X, indices, device)
        model = FittedModel(state, settings, estimator.device)
        estimator.labels_, losses = model.evaluate(
            state.lazy_model_space(X),
            lambda batch: batch.labels,
            lambda batch: loss(batch.energies),
        )
        estimator.loss_ = math.nan
        if len(indices):
            estimator.loss_ = float(losses[indices].mean())
            estimator.loss_ += penalty_value(settings, state)
    else:
        estimator._row_buffer = concat_rows(buffer, X, indices)
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
    estimator._optimizer_state = None  # until there is a mini-batch


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
    rows: torch.Tensor,
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
    summary = summarize_rows(rows, device, estimator, image_shape)
    settings = resolve_settings(estimator, rows, image_shape, continues=False)
    check_scales(estimator, settings, summary, communicator)
    initialize(
        estimator,
        FitContext(
            X=rows,
            y=None,
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
    indices: np.ndarray,
    device: torch.device,
) -> None:
    """Train on all mini-batches that are complete, and buffer the remaining rows."""
    batch_size = estimator.batch_size
    size = max(1, _STREAM_ENTRIES // X.shape[1])
    total, n_trained = 0.0, 0
    for chunk in np.split(indices, range(size, len(indices), size)):
        rows = concat_rows(estimator._row_buffer, X, chunk)
        n_full = len(rows) // batch_size * batch_size
        if n_full:
            mean_loss = _train_batches(
                estimator, settings, state, rows[:n_full], device
            )
            total += n_full * mean_loss
            n_trained += n_full
        estimator._row_buffer = rows[n_full:].clone()
    if n_trained:
        estimator.loss_curve_ = [*estimator.loss_curve_, total / n_trained]
    estimator.n_steps_ += n_trained // batch_size
    estimator.n_iter_ = len(estimator.loss_curve_)
    estimator.converged_ = False


def _train_batches(
    estimator: Any,
    settings: Settings,
    state: ModelState,
    rows: torch.Tensor,
    device: torch.device,
) -> float:
    """Train on complete mini-batches; return their mean loss."""
    X: Rows = rows
    if state.representation is not None:
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
