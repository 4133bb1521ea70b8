"""Where a fit starts: representation, scale, and the first atoms."""

import copy
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from joblib import Parallel, delayed

from ..cluster._n_clusters import MAX_SAMPLES
from ..cluster._propagation import GraphClassifier
from ..data.containers import as_numpy
from ..data.loader import RowLoader, is_lazy
from ..data.sparse import SparseRows
from ..data.statistics import (
    centered_norm,
    feature_means,
    largest_entry,
    largest_squarable,
    root_mean_square_norm,
    scale_of_norm,
    summarize,
)
from ..data.validation import check_squares
from ..initialization import (
    draw_rows,
    estimate_initial_n_clusters,
    find_distinct,
    gather_rows,
)
from ..training.loop import logger
from ..utils.random_state import (
    dump_random_state,
    load_random_state,
    make_generator,
)
from ._checks import initial_weights
from ._fit import FitContext, make_em
from ._initial_atoms import (
    REPRESENTATION_SIZE,
    LazyFeatures,
    draw_sample,
    find_image_features,
    find_initial_atoms,
    new_representation,
    refine_start,
)
from ._labels import RowClassifier, label_rows, own_part
from ._logging import log_to_stdout
from ._settings import (
    Settings,
    given_n_clusters,
    is_init_array,
    read_params,
    resolve_init_size,
)
from ._state import (
    CHECKPOINTED,
    INITIAL_NOISE_VARIANCE,
    ModelState,
    Rows,
    numpy_dtype,
    torch_dtype,
)

# Root-mean-square norm of a row for which the default alpha was chosen: that of
# MNIST with pixels in [0, 1], the paper's data.
_REFERENCE_NORM = 9.2

# Complete rows from which the number of clusters is estimated; if there are fewer, rows
# with missing entries are used as well.
_N_COMPLETE_ROWS = 200

# Rows and epochs of a trial, where there are several initialisations. In so few steps
# the loss still depends on which samples became atoms; larger steps get past that
# sooner, so that it separates good initialisations from bad ones.
_TRIAL_ROWS, _TRIAL_EPOCHS, _TRIAL_LR_FACTOR = 10_000, 5, 3


def initialize(
    estimator: Any, ctx: FitContext
) -> tuple[ModelState, Rows, np.ndarray | None]:
    """Find the state that training starts from, and set it on the estimator.

    Parameters
    ----------
    estimator : MixMateClustering
    ctx : FitContext

    Returns
    -------
    state : ModelState
    X : ndarray, tensor or RowReader
        Features that are modelled.
    labels : int64 ndarray of shape (n_samples,) or None
        Clusters in which training keeps the rows: known ones and, if the fit starts
        from data, those that follow from them or from the start; -1 for rows that it
        assigns. None if it assigns all.
    """
    stored = None if ctx.checkpoint is None else ctx.checkpoint.start
    is_new = stored is None and not ctx.is_warm
    has_trials = is_new and not is_init_array(estimator.init)
    n_trials = estimator.n_init if has_trials and estimator.n_init > 1 else 0
    subtask = ctx.task.subcontext(
        "initialization", max_subtasks=n_trials, sequential_subtasks=False
    )
    subtask.call_on_fit_task_begin(estimator=estimator)
    state = _initial_state(estimator, ctx)
    if stored is not None:
        state = load_state(estimator, ctx, stored)
    X: Rows
    labels = ctx.labels
    if is_new:
        X, labels = _initialize_from_data(estimator, ctx, state, n_trials, subtask)
    else:
        X = state.to_model_space(ctx.X)
    if stored is not None and "labels" in stored:
        labels = own_part(stored["labels"], len(ctx.X), ctx.communicator)
    if ctx.communicator.size > 1:
        stored = ctx.communicator.broadcast(lambda: dump_state(ctx, state))
        if ctx.communicator.rank > 0:
            state = load_state(estimator, ctx, stored)
    if ctx.checkpoint is not None:
        ctx.checkpoint.start = dump_state(ctx, state)
        if labels is not None:
            gathered = np.concatenate(ctx.communicator.all_gather(labels))
            ctx.checkpoint.start["labels"] = gathered
    vars(estimator).update(state.attributes())
    estimator.image_shape_ = ctx.settings.image_shape
    subtask.call_on_fit_task_end(estimator=estimator)
    return state, X, labels


def _initial_state(estimator: Any, ctx: FitContext) -> ModelState:
    """Return the state before any data are looked at: fitted, or with weights only."""
    settings = ctx.settings
    n_clusters = given_n_clusters(read_params(estimator))
    if ctx.is_warm:
        n_clusters = len(estimator.weights_)
    weights = np.empty(0)  # until the number of clusters is estimated
    if n_clusters is not None:
        weights = initial_weights(estimator.weights, n_clusters, numpy_dtype(ctx.X))
    if not ctx.is_warm:
        noise_variance = settings.noise_variance or INITIAL_NOISE_VARIANCE
        return ModelState(weights, noise_variance, likelihood=settings.likelihood)
    state = ModelState.from_estimator(estimator)
    if not settings.learns_weights:
        state.weights = weights
    if settings.noise_variance is not None:
        state.noise_variance = settings.noise_variance
    state.adopt_likelihood(settings.likelihood)
    return state


def dump_state(ctx: FitContext, state: ModelState) -> dict[str, Any]:
    """Return a state and the random state as a dictionary of arrays and text."""
    attributes = state.attributes()
    representation = state.representation
    stored = {
        "attributes": {name: attributes[name] for name in CHECKPOINTED},
        "representation": representation and representation.state_dict(),
        "random_state": dump_random_state(ctx.random_state),
    }
    if ctx.settings.likelihood.is_learned:
        stored["likelihood"] = asdict(state.likelihood)
    if state.n_clusters_scores is not None:
        stored["n_clusters_scores"] = state.n_clusters_scores
    return stored


def load_state(estimator: Any, ctx: FitContext, stored: dict[str, Any]) -> ModelState:
    """Restore the state at the start of training, and the random state.

    Parameters
    ----------
    estimator : MixMateClustering
    ctx : FitContext
    stored : dict
        From :func:`dump_state`.

    Returns
    -------
    state : ModelState
    """
    load_random_state(ctx.random_state, stored["random_state"])
    representation = None
    if stored["representation"] is not None:
        representation = new_representation(estimator, ctx.settings, ctx.random_state)
        representation.load_state_dict(stored["representation"])
    attributes = {name.rstrip("_"): v for name, v in stored["attributes"].items()}
    return ModelState(
        **attributes,
        likelihood=replace(ctx.settings.likelihood, **stored.get("likelihood", {})),
        representation=representation,
        n_clusters_scores=stored.get("n_clusters_scores"),
        component_labels=estimator.component_labels_ if ctx.is_warm else None,
    )


def _initialize_from_data(
    estimator: Any, ctx: FitContext, state: ModelState, n_trials: int, task: Any
) -> tuple[Rows, np.ndarray | None]:
    """Find representation, scale and first atoms.

    Returns the features to train on, and the clusters in which training keeps rows,
    None if it assigns all.
    """
    rows: Any = ctx.X
    copies = ctx.copies
    known, n_labelled = ctx.labels, 0
    if known is not None:
        n_labelled = max(ctx.communicator.all_gather(int(known.max()) + 1))
    if ctx.communicator.size > 1:
        rows, copies, known = _gather_rows(estimator, ctx, n_trials)
    is_own = rows is ctx.X
    features: Any = None  # of the rows
    if ctx.settings.models_scattering:
        features = _fit_representation(estimator, ctx, state, rows, copies)
    X = features if is_own else None
    if n_trials or not ctx.settings.models_scattering:
        X = state.to_model_space(ctx.X) if X is None else X
        state.scale = _find_scale(estimator, ctx, X)
    if is_own:
        features = X

    def find_start() -> tuple[RowClassifier | None, np.ndarray | None]:
        nonlocal features
        if features is None:
            # Trials use most of them, and several times.
            find_features = ModelState.to_model_space if n_trials else LazyFeatures
            features = find_features(state, rows)
        data = {
            "X": rows,
            "features": features,
            "n_missing": (
                ctx.summary if is_own else summarize(RowLoader(rows, device=ctx.device))
            ).n_missing,
            "random_state": ctx.random_state,
            "copies": copies,
            "known": known,
        }
        if not len(state.weights):
            _estimate_n_clusters(estimator, ctx, state, data, n_labelled)
        if n_trials:
            atoms, classifier = _best_atoms(estimator, ctx, state, data, task)
        else:
            atoms, classifier = find_initial_atoms(
                estimator, ctx.settings, state, **data
            )
        vars(state).update(atoms)
        if classifier is None or not ctx.settings.models_scattering:
            return classifier, None
        refined = refine_start(
            ctx.settings,
            state,
            rows,
            features,
            classifier,
            ctx.random_state,
            copies,
            known,
        )
        if refined is None:
            return classifier, None
        vars(state).update(refined.atoms)
        return refined.classifier, refined.matrix

    classifier, matrix = ctx.communicator.broadcast(find_start)
    if state.representation is not None and matrix is not None:
        state.representation.map_features(matrix)
        X = None
    if X is None:
        X = state.to_model_space(ctx.X)
    if ctx.settings.models_scattering:
        state.scale = _find_scale(estimator, ctx, X)
    if classifier is None:
        return X, ctx.labels
    return X, label_rows(classifier, ctx.settings, X, ctx.labels)


def _estimate_n_clusters(
    estimator: Any,
    ctx: FitContext,
    state: ModelState,
    data: dict[str, Any],
    n_labelled: int,
) -> None:
    """Estimate the number of clusters in the rows that are clustered first.

    There are at least `n_labelled`, since class k is cluster k.
    """
    image_shape = ctx.settings.image_shape
    # A copy: the fit is the same as if this number had been given.
    random_state = copy.deepcopy(ctx.random_state)
    indices, sample, _ = draw_sample(
        estimator,
        image_shape,
        state,
        data["X"],
        data["n_missing"],
        _N_COMPLETE_ROWS,
        random_state,
        data["copies"],
    )
    if data["copies"] is not None:
        first = find_distinct(indices)[0]
        indices, sample = indices[first], sample[first]
    indices, sample = indices[:MAX_SAMPLES], sample[:MAX_SAMPLES]
    image_features = find_image_features(
        estimator,
        ctx.settings,
        state,
        data["features"],
        indices,
        sample,
        random_state,
    )
    n_clusters, state.n_clusters_scores = estimate_initial_n_clusters(
        sample, random_state, image_features, ctx.settings.likelihood
    )
    n_clusters = max(n_clusters, n_labelled)
    state.weights = initial_weights(
        estimator.weights, n_clusters, numpy_dtype(data["X"])
    )
    with log_to_stdout(estimator.verbose):
        logger.info("the data have %d clusters: n_clusters_", n_clusters)


def _fit_representation(
    estimator: Any,
    ctx: FitContext,
    state: ModelState,
    rows: Any,
    copies: np.ndarray | None,
) -> np.ndarray | None:
    """Fit the representation to rows of all processes.

    Returns the features of the rows in the first process, if there are few.
    """
    representation = new_representation(estimator, ctx.settings, ctx.random_state)
    state.representation = representation
    features = None

    def fit() -> dict[str, Any]:
        nonlocal features
        indices = ctx.indices if rows is ctx.X else slice(None)
        is_whole = copies is None and isinstance(indices, slice)
        if is_whole and len(rows) <= REPRESENTATION_SIZE:
            features = representation.fit_transform(as_numpy(rows))
        elif is_whole:
            representation.fit(as_numpy(rows))
        else:
            candidates = np.arange(len(rows))[indices]
            drawn = draw_rows(candidates, REPRESENTATION_SIZE, ctx.random_state, copies)
            representation.fit(as_numpy(rows[np.sort(drawn)]))
        return representation.state_dict()

    fitted = ctx.communicator.broadcast(fit)
    if ctx.communicator.rank > 0:
        representation.load_state_dict(fitted)
    return features


def _gather_rows(
    estimator: Any, ctx: FitContext, n_trials: int
) -> tuple[np.ndarray | SparseRows | None, np.ndarray | None, np.ndarray | None]:
    """Bring the rows that the initialisation uses to the first process."""
    n_rows = resolve_init_size(
        estimator, ctx.settings.image_shape, ctx.labels is not None
    )
    if n_trials:
        n_rows = max(n_rows, _TRIAL_ROWS)
    if ctx.settings.models_scattering:
        n_rows = max(n_rows, REPRESENTATION_SIZE)
    return gather_rows(
        ctx.X,
        ctx.summary.n_missing,
        n_rows,
        ctx.random_state,
        ctx.communicator,
        ctx.copies,
        given_n_clusters(read_params(estimator)) or 1,
        ctx.labels,
    )


def _find_scale(estimator: Any, ctx: FitContext, X: Rows) -> float:
    """Resolve the parameter `scale`."""
    if not ctx.settings.likelihood.has_noise_variance:
        return 1.0
    loader = ctx.loader(X)
    if estimator.scale != "auto":
        return _check_scale(float(estimator.scale), loader, ctx)
    if ctx.settings.fit_intercept:
        summary = None if ctx.summary.sums is None or X is not ctx.X else ctx.summary
        norm = centered_norm(loader, ctx.communicator, summary)
    else:
        norm = root_mean_square_norm(loader, ctx.communicator)
    return scale_of_norm(norm, _REFERENCE_NORM, numpy_dtype(X))


def _check_scale(scale: float, loader: RowLoader, ctx: FitContext) -> float:
    """Return a given scale, if the rows that it leads to can be squared."""
    dtype, n_features = torch_dtype(loader.X), loader.X.shape[1]
    largest = max(ctx.communicator.all_gather(largest_entry(loader)))
    if largest * scale > largest_squarable(dtype, n_features):
        if ctx.settings.fit_intercept:  # the offset may be large, not the deviations
            location = feature_means(loader, ctx.communicator)
            loader = loader.shifted(location)
            largest = max(ctx.communicator.all_gather(largest_entry(loader)))
        check_squares(largest, scale, dtype, n_features)
    return scale


def _best_atoms(
    estimator: Any, ctx: FitContext, state: ModelState, data: dict[str, Any], task: Any
) -> tuple[dict[str, Any], GraphClassifier | None]:
    """Try several initialisations, and return the one of lowest loss."""
    random_state, n_init = ctx.random_state, estimator.n_init
    indices = np.flatnonzero(data["n_missing"] < data["X"].shape[1])
    # The same rows in all trials: a good initialisation differs from a bad one by a
    # thousandth of the loss, less than two samples of rows do.
    indices = random_state.permutation(indices)[:_TRIAL_ROWS]
    rows, copies, known = data["features"], data["copies"], data["known"]
    if is_lazy(rows) or known is not None:  # read them once
        copies = None if copies is None else copies[indices]
        known = None if known is None else known[indices]
        rows, indices = rows[indices], np.arange(len(indices))
    seeds = random_state.randint(np.iinfo(np.int32).max, size=n_init)
    subtasks = [task.subcontext("start", task_id=trial) for trial in range(n_init)]
    trials = Parallel(n_jobs=estimator.n_jobs)(
        delayed(_try_initialization)(
            copy.copy(estimator),
            ctx.settings,
            copy.copy(state),
            {**data, "random_state": np.random.RandomState(seed)},
            rows,
            known,
            indices,
            copies,
            ctx.device,
            subtask,
        )
        for seed, subtask in zip(seeds, subtasks, strict=True)
    )
    _, *best = min(trials, key=lambda trial: trial[0])
    return tuple(best)


def _try_initialization(
    estimator: Any,
    settings: Settings,
    state: ModelState,
    data: dict[str, Any],
    rows: Rows,
    known: np.ndarray | None,
    indices: np.ndarray,
    copies: np.ndarray | None,
    device: torch.device,
    task: Any,
) -> tuple[float, dict[str, Any], GraphClassifier | None]:
    """Initialise and train briefly; return the loss, and the initialisation."""
    task.call_on_fit_task_begin(estimator=estimator)
    atoms, classifier = find_initial_atoms(estimator, settings, state, **data)
    vars(state).update(atoms)
    labels = known
    if classifier is not None:
        labels = label_rows(classifier, settings, rows, known)
    em = make_em(
        estimator,
        settings,
        state,
        rows,
        indices,
        device,
        copies,
        learning_rate=_TRIAL_LR_FACTOR * estimator.learning_rate,
        generator=make_generator(data["random_state"]),
        labels=labels,
    )
    for _ in range(_TRIAL_EPOCHS):
        em.run_epoch()
    task.call_on_fit_task_end(estimator=estimator)
    return em.mean_loss(), atoms, classifier
