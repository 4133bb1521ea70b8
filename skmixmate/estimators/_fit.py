"""One fit: validate, initialize, train, finalize (section 3.2 of the paper)."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..cluster._overlaps import median_margin, soft_overlaps
from ..data.containers import as_numpy
from ..data.loader import RowLoader
from ..data.statistics import RowSummary, feature_stds, summarize
from ..data.validation import read_dense, resolve_device, validate_images
from ..distributed.communicator import Communicator
from ..files.checkpoint import Checkpoint
from ..model.likelihoods import as_likelihood
from ..training.em import ExpectationMaximization
from ..training.loop import History, train
from ..utils.random_state import make_generator, private_random_state
from ._callbacks import Monitor
from ._checks import (
    check_continuation,
    check_n_observed,
    check_params,
    check_representation,
)
from ._identity import check_agreement, find_checkpoint
from ._images import resolve_image_shape
from ._inference import FittedModel
from ._labels import check_supervised, validate_labels
from ._sample_weight import (
    check_sample_weight,
    in_rows,
    mean_weight,
    rows_that_count,
    weighted_mean,
)
from ._settings import (
    Settings,
    given_n_clusters,
    read_params,
    resolve_models_scattering,
)
from ._state import ModelState, Rows
from ._warnings import (
    warn_about_codes,
    warn_about_lost_clusters,
    warn_about_scales,
    warn_about_step_size,
    warn_about_training,
)

# Attributes of a stream; `fit` sets only the unit of weights for one that continues.
STREAM_ATTRIBUTES = (
    "n_samples_seen_",
    "n_steps_",
    "_row_buffer",
    "_weight_buffer",
    "_mean_weight",
    "_optimizer_state",
)


@dataclass
class FitContext:
    """One fit: its data, validated, its settings, and the services it uses."""

    X: Rows
    y: Any
    sample_weight: np.ndarray | None  # rows that each row counts as; None if all one
    copies: np.ndarray | None  # of each row, which initialisation draws from
    counted: slice | np.ndarray  # rows of positive weight
    labels: np.ndarray | None  # known clusters of the rows, -1 where unknown
    summary: RowSummary  # missing entries of each row, and sums of features
    indices: slice | np.ndarray  # rows that count, with an observed entry
    settings: Settings
    is_warm: bool  # whether it continues from a fitted model
    device: torch.device
    random_state: np.random.RandomState
    task: Any  # of scikit-learn's callbacks
    checkpoint: Checkpoint | None
    communicator: Communicator

    def loader(self, X: Rows) -> RowLoader:
        """Load rows of the fit, or features of them, with their weights."""
        return RowLoader(
            X,
            device=self.device,
            sample_weight=self.sample_weight,
            counted=self.counted,
        )


def validate_fit(
    estimator: Any, X: Any, y: Any, sample_weight: Any, communicator: Communicator
) -> FitContext:
    """Check everything that can be checked before any work is done.

    Parameters
    ----------
    estimator : MixMateClustering
    X, y, sample_weight
        As given to `fit`.
    communicator : Communicator

    Returns
    -------
    ctx : FitContext
    """
    X, item_shape = validate_images(estimator, X, reset=True)
    given_weight = check_sample_weight(sample_weight, len(X))
    params = read_params(estimator)
    is_warm = estimator.warm_start and hasattr(estimator, "dictionaries_")
    if is_warm:
        fitted = ModelState.from_estimator(estimator).data_shape()
        check_continuation(params, fitted, X.shape[1], "warm_start=True")
    check_params(params, X)
    estimator._keep_params()
    device = resolve_device(estimator.device, X)
    uses = {
        "dictionaries_ to continue from": is_warm,
        "use of sample_weight": given_weight is not None,
    }
    check_agreement(estimator, X, item_shape, uses, communicator)
    n_samples = communicator.all_reduce(len(X))
    n_clusters = given_n_clusters(params) or (fitted[0] if is_warm else 1)
    if n_samples < n_clusters:
        raise ValueError(f"n_samples={n_samples} should be >= n_clusters={n_clusters}.")
    counted = rows_that_count(given_weight)
    n_given = fitted[0] if is_warm else given_n_clusters(params)
    labels = validate_labels(params, y, len(X), n_given, communicator)
    image_shape = resolve_image_shape(
        estimator, params, X, item_shape, is_warm, communicator, counted
    )
    if image_shape is not None:
        X = read_dense(X)
    if labels is not None:
        check_supervised(X, given_weight)
    checkpoint = find_checkpoint(
        estimator, X, given_weight, labels, image_shape, is_warm, communicator
    )
    random_state = private_random_state(estimator.random_state)
    row_weight, copies = in_rows(given_weight, communicator)
    summary = summarize_rows(
        X, device, estimator, image_shape, sample_weight=row_weight, counted=counted
    )
    n_missing = summary.n_missing
    start = None if checkpoint is None else checkpoint.start
    settings = resolve_settings(estimator, X, image_shape, is_warm, start)
    is_observed = n_missing < X.shape[1]
    # The rows of large data, which are most often complete, are not numbered.
    indices = slice(None) if is_observed.all() else np.flatnonzero(is_observed)
    n_observed = communicator.all_reduce(np.count_nonzero(is_observed))
    check_n_observed(n_observed, n_clusters, given_weight is not None)
    check_scales(estimator, settings, summary, communicator)
    for name in STREAM_ATTRIBUTES:
        vars(estimator).pop(name, None)
    if given_weight is not None:  # for partial_fit to continue from
        estimator._mean_weight = mean_weight(given_weight, communicator)
    task = estimator._init_callback_context(max_subtasks=2)
    task.call_on_fit_task_begin(estimator=estimator, X=X, y=y)
    return FitContext(
        X=X,
        y=y,
        sample_weight=row_weight,
        copies=copies,
        counted=counted,
        labels=labels,
        summary=summary,
        indices=indices,
        settings=settings,
        is_warm=is_warm,
        device=device,
        random_state=random_state,
        task=task,
        checkpoint=checkpoint,
        communicator=communicator,
    )


def summarize_rows(
    X: Rows,
    device: torch.device,
    estimator: Any,
    image_shape: tuple[int, ...] | None,
    **weighting: Any,
) -> RowSummary:
    """Summarize the rows, and validate their entries, in one pass.

    Parameters
    ----------
    X : ndarray, tensor or RowReader
    device : torch.device
    estimator : MixMateClustering
        Its likelihood decides which entries are valid.
    image_shape : tuple of int or None
    **weighting
        `sample_weight` and `counted`, as :class:`RowLoader` takes them.

    Returns
    -------
    summary : RowSummary
        With sums, if X may be measurements in different units.
    """
    likelihood = as_likelihood(estimator.likelihood)
    return summarize(
        RowLoader(X, device=device, check=likelihood.validate, **weighting),
        with_sums=likelihood.has_noise_variance and image_shape is None,
    )


def check_scales(
    estimator: Any, settings: Settings, summary: RowSummary, communicator: Communicator
) -> None:
    """Warn of columns of very different scales."""
    if summary.squares is not None:
        stds = as_numpy(feature_stds(summary, communicator))
        warn_about_scales(estimator, settings, stds)


def resolve_settings(
    estimator: Any,
    X: Rows,
    image_shape: tuple[int, ...] | None,
    continues: bool,
    start: dict[str, Any] | None = None,
) -> Settings:
    """Resolve the settings of a fit, or of a stream.

    Parameters
    ----------
    estimator : MixMateClustering
    X : ndarray, tensor or RowReader
    image_shape : tuple of int or None
    continues : bool
        Whether there is a fitted model, whose representation is kept.
    start : dict, default=None
        Of a checkpoint, whose representation is kept: earlier versions modelled the
        pixels of incomplete images.

    Returns
    -------
    settings : Settings
    """
    params = read_params(estimator)
    if start is not None:
        models_scattering = start["representation"] is not None
    elif continues:
        models_scattering = estimator.representation_ is not None
    else:
        models_scattering = resolve_models_scattering(params, image_shape)
    check_representation(params, models_scattering)
    settings = Settings.resolve(params, X.shape[1], image_shape, models_scattering)
    if models_scattering and isinstance(params["prior"], str):
        # The model keeps it, whatever the default of a later version.
        estimator._fitted_params["alpha"] = settings.alpha
    return settings


def make_em(
    estimator: Any,
    settings: Settings,
    state: ModelState,
    X: Rows,
    indices: slice | np.ndarray,
    device: torch.device,
    sample_weight: np.ndarray | torch.Tensor | None = None,
    labels: np.ndarray | None = None,
    **options: Any,
) -> ExpectationMaximization:
    """Set training up from a state.

    Parameters
    ----------
    estimator : MixMateClustering
    settings : Settings
    state : ModelState
    X : ndarray, tensor or RowReader
        Features that are modelled.
    indices : slice(None) or int ndarray
        Rows to train on.
    device : torch.device
    sample_weight : ndarray or tensor of shape (n_samples,), default=None
        Number of rows that each row counts as; None if all are 1.
    labels : int ndarray of shape (n_samples,), default=None
        Clusters in which rows are kept, -1 for those that training assigns.
    **options
        Of `ExpectationMaximization`.

    Returns
    -------
    em : ExpectationMaximization
    """
    mixture, loader = state.build(
        settings,
        X,
        device,
        with_intercepts=settings.fit_intercept,
        sample_weight=sample_weight,
        labels=labels,
    )
    return ExpectationMaximization(
        mixture,
        loader,
        indices if isinstance(indices, slice) else torch.from_numpy(indices),
        batch_size=estimator.batch_size,
        learn_weights=settings.learns_weights,
        penalty=settings.penalty,
        learn_noise=settings.noise_variance is None,
        learn_likelihood=settings.likelihood.is_learned,
        **options,
    )


def check_step_size(settings: Settings, em: ExpectationMaximization) -> None:
    """Warn of a step size with which the encoder may diverge."""
    if settings.step_size is not None:
        dictionaries = em.mixture.dictionaries
        warn_about_step_size(settings.step_size, dictionaries @ dictionaries.mT)


def train_mixture(
    estimator: Any,
    ctx: FitContext,
    state: ModelState,
    X: Rows,
    labels: np.ndarray | None,
) -> History:
    """Train from a state, and set what was learned.

    Parameters
    ----------
    estimator : MixMateClustering
    ctx : FitContext
    state : ModelState
        Updated.
    X : ndarray, tensor or RowReader
        Features that are modelled.
    labels : int ndarray of shape (n_samples,) or None
        Clusters in which rows are kept, -1 for those that training assigns.

    Returns
    -------
    history : History
    """
    checkpoint, history = ctx.checkpoint, None
    em = make_em(
        estimator,
        ctx.settings,
        state,
        X,
        ctx.indices,
        ctx.device,
        ctx.sample_weight,
        learning_rate=estimator.learning_rate,
        generator=make_generator(ctx.random_state),
        communicator=ctx.communicator,
        labels=labels,
    )
    check_step_size(ctx.settings, em)
    if checkpoint is not None:
        history = checkpoint.history
        if checkpoint.state is not None:
            em.load_state_dict(checkpoint.state)
        checkpoint.write(em.state_dict(), history)
    subtask = ctx.task.subcontext("training", max_subtasks=estimator.max_iter)
    subtask.call_on_fit_task_begin(estimator=estimator, X=ctx.X, y=ctx.y)

    def learned_attributes() -> dict[str, Any]:
        return state.update_from(em).learned_attributes()

    history = train(
        em,
        max_iter=estimator.max_iter,
        tol=estimator.tol,
        n_iter_no_change=estimator.n_iter_no_change,
        monitor=Monitor(
            estimator, subtask, ctx.X, ctx.y, learned_attributes, checkpoint
        ),
        history=history,
    )
    if checkpoint is not None:
        checkpoint.write(em.state_dict(), history)
    vars(estimator).update(learned_attributes())
    subtask.call_on_fit_task_end(estimator=estimator, X=ctx.X, y=ctx.y)
    return history


def finalize_fit(
    estimator: Any, ctx: FitContext, state: ModelState, X: Rows, history: History
) -> None:
    """Set the remaining attributes, and warn of a fit that went wrong.

    Parameters
    ----------
    estimator : MixMateClustering
    ctx : FitContext
    state : ModelState
    X : ndarray, tensor or RowReader
        Features that are modelled.
    history : History
    """
    estimator.n_iter_ = len(history.losses)
    estimator.loss_curve_ = history.losses
    estimator.converged_ = history.converged
    # A last E-step as predict does it, so that labels_ is predict(X) to the last bit.
    found = FittedModel(state, ctx.settings, estimator.device).assign(X)
    estimator.labels_ = found.labels
    if ctx.labels is not None:
        estimator.labels_ = np.where(ctx.labels >= 0, ctx.labels, found.labels)
    indices, communicator = ctx.indices, ctx.communicator
    weights = ctx.sample_weight
    if weights is not None:
        weights = weights[indices]
    estimator.loss_ = weighted_mean(found.losses[indices], weights, communicator)
    estimator.loss_ += penalty_value(ctx.settings, state)
    counts = np.bincount(found.labels[indices], minlength=estimator.n_clusters_)
    counts = communicator.all_reduce(counts)
    density = weighted_mean(found.code_density[indices], weights, communicator)
    estimator.overlaps_ = find_overlaps(found.margins, communicator)
    warn_about_training(estimator, history)
    if not history.diverged:
        warn_about_codes(estimator, ctx.settings, state, density)
        warn_about_lost_clusters(counts)
    ctx.task.call_on_fit_task_end(
        estimator=estimator, X=ctx.X, y=ctx.y, reconstruction_attributes={}
    )
    if ctx.checkpoint is not None and not history.interrupted:
        ctx.checkpoint.remove()


def find_overlaps(margins: np.ndarray, communicator: Communicator) -> np.ndarray:
    """Compute how much components overlap, over the rows of all processes.

    Parameters
    ----------
    margins : ndarray of shape (n_rows, n_components)
        Energies above the lowest one.
    communicator : Communicator

    Returns
    -------
    overlaps : ndarray of shape (n_components, n_components)
        The entries sum to 1.
    """
    own = np.array([median_margin(margins)])
    temperature = weighted_mean(own, None, communicator)
    overlaps = communicator.all_reduce(soft_overlaps(margins, temperature))
    return overlaps / overlaps.sum()


def penalty_value(settings: Settings, state: ModelState) -> float:
    """Compute the penalty of the dictionaries, 0 if there is none."""
    if settings.penalty is None:
        return 0.0
    return float(settings.penalty.value(torch.tensor(state.dictionaries)))
