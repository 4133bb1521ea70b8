"""The first atoms of a fit, from clusters of a subsample."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from sklearn.utils import check_array

from ..cluster._propagation import GraphClassifier
from ..cluster._votes import NeighborClassifier
from ..cluster._whitening import whiten_within
from ..data.containers import as_numpy
from ..data.sparse import SparseRows
from ..image._features import IMAGES_AT_A_TIME, ScatteringFeatures
from ..initialization import (
    add_seeds,
    cluster_subsample,
    dictionaries_from_array,
    dictionaries_from_labels,
    dictionaries_from_sparse,
    draw_rows,
    draw_subsample,
    find_distinct,
    impute_means,
    initial_likelihood,
    mean_abs_projections,
)
from ._settings import (
    N_ATOMS,
    Settings,
    is_init_array,
    resolve_init_size,
)
from ._state import (
    ModelState,
    Rows,
    numpy_dtype,
)

# Principal components of scattering coefficients that are modelled, and how many
# images, at most, they are computed from.
_N_COMPONENTS, REPRESENTATION_SIZE = 200, 20_000

# Images, at most, whose neighbours decide the clusters of all others, and the power of
# their standard deviations within clusters that features are divided by.
_N_REFERENCES, _WHITENING = 15_000, 0.5

# Degrees by which these images are turned to either side, for images whose neighbours
# are in several clusters.
_TURN = 10.0

# Smallest mean magnitude along an atom that its rate follows: the standard deviation
# of the noise, in the same units, is the root of one half.
_MIN_ATOM_SCALE = 0.1

# Fewest rows of a cluster, in the mean, for each atom and its rate. With fewer they
# follow single rows, and training moves rows to the wrong clusters.
_ROWS_PER_ATOM = 2


def find_initial_atoms(
    estimator: Any,
    settings: Settings,
    state: ModelState,
    X: Rows,
    features: Rows,
    n_missing: np.ndarray,
    random_state: np.random.RandomState,
    copies: np.ndarray | None = None,
    known: np.ndarray | None = None,
) -> tuple[dict[str, Any], GraphClassifier | None]:
    """Find the first dictionaries, intercepts, rates and likelihood.

    Parameters
    ----------
    estimator : MixMateClustering
    settings : Settings
    state : ModelState
        With representation and scale.
    X, features : ndarray, tensor or RowReader of shape (n_samples, n_features)
        Rows, and their features that are modelled.
    n_missing : ndarray of shape (n_samples,)
        Missing entries of each row.
    random_state : RandomState
    copies : ndarray of shape (n_samples,), default=None
        As :func:`draw_rows` takes them.
    known : int ndarray of shape (n_samples,), default=None
        Clusters of the rows, -1 where unknown; None if no label is known.

    Returns
    -------
    atoms : dict
        Values of fields of `ModelState`.
    classifier : GraphClassifier or None
        Of features, fitted to the subsample, that decides in which clusters training
        keeps the other rows; None if it assigns all rows.
    """
    options = _atom_options(settings, random_state)
    if is_init_array(estimator.init):
        return _atoms_from_array(estimator, settings, state, X, options), None
    # Fewer atoms do not mean that fewer rows find the clusters of tabular data.
    n_clusters = len(state.weights)
    image_shape = settings.image_shape
    n_each = max(settings.n_atoms, 1 if image_shape is not None else N_ATOMS)
    indices, sample, n_missing = draw_sample(
        estimator,
        image_shape,
        state,
        X,
        n_missing,
        n_clusters * n_each,
        random_state,
        copies,
        n_clusters,
        known,
    )
    # Copies of a row would be its nearest neighbours in any graph.
    first: slice | np.ndarray = slice(None)
    inverse: slice | np.ndarray = slice(None)
    if copies is not None:
        first, inverse = find_distinct(indices)
    image_features = None
    is_named = isinstance(estimator.init, str) and estimator.init != "random"
    if settings.models_scattering or (is_named and n_clusters > 1):
        image_features = find_image_features(
            estimator, settings, state, features, indices, sample, random_state
        )
    modelled: Any = image_features if settings.models_scattering else sample

    def find_clusters(rows: slice | np.ndarray) -> np.ndarray:
        return cluster_subsample(
            sample[rows],
            estimator.init,
            n_clusters,
            random_state,
            None if image_features is None else image_features[rows],
            is_imputed=bool(n_missing[indices[rows]].any()),
            likelihood=settings.likelihood,
        )

    if known is None:
        labels = find_clusters(first)[inverse]
    else:
        labels = known[indices]
        if len(np.intersect1d(labels, np.arange(n_clusters))) < n_clusters:
            n_rows = resolve_init_size(estimator, image_shape)
            clusters = find_clusters(slice(n_rows))
            labels = add_seeds(labels, clusters, n_clusters, random_state)
    classifier = None
    if known is not None or (n_clusters > 1 and _keeps_start(estimator, settings)):
        metric = "euclidean" if image_shape is None else "cosine"
        classifier = GraphClassifier(n_clusters, metric, random_state)
        stabilized = settings.likelihood.variance_stabilize(modelled)
        labels = classifier.fit(stabilized, labels).labels_
    if isinstance(sample, SparseRows):
        atoms = _atoms_from_sparse(settings, sample, labels, n_clusters, random_state)
    else:
        n_atoms = settings.n_atoms
        if settings.uses_atom_rates and estimator.n_atoms == "auto":
            n_distinct = len(indices[first])
            n_atoms = min(n_atoms, max(1, n_distinct // (_ROWS_PER_ATOM * n_clusters)))
        atoms = _atoms_from_labels(settings, state, modelled, labels, n_atoms, options)
    return atoms, classifier


class LazyFeatures:
    """Scattering features, computed for the images that are asked for.

    Parameters
    ----------
    state : ModelState
    rows : ndarray, tensor or RowReader of shape (n_samples, n_features)
    """

    def __init__(self, state: ModelState, rows: Rows) -> None:
        self._state, self._rows = state, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        return _transform_chunks(self._state.to_model_space, self._rows, indices)


def _transform_chunks(
    transform: Callable[[Any], np.ndarray], rows: Rows, indices: np.ndarray
) -> np.ndarray:
    """Compute features of some images, whose copies may be larger than memory."""
    starts = range(0, len(indices), IMAGES_AT_A_TIME)
    chunks = (indices[start : start + IMAGES_AT_A_TIME] for start in starts)
    return np.concatenate([transform(rows[chunk]) for chunk in chunks])


class RefinedStart(NamedTuple):
    """A start in features that tell its clusters apart."""

    atoms: dict[str, Any]  # values of fields of `ModelState`
    classifier: NeighborClassifier
    matrix: np.ndarray  # that the features are multiplied by


def refine_start(
    settings: Settings,
    state: ModelState,
    X: Rows,
    features: Rows,
    classifier: GraphClassifier,
    random_state: np.random.RandomState,
    copies: np.ndarray | None,
    known: np.ndarray | None,
) -> RefinedStart | None:
    """Use the clusters that were found to find better ones, and to scale features.

    Directions in which images of one cluster differ tell nothing about clusters. They
    count less among neighbours, which then classify all images once more, and in the
    features that are modelled. Images that are turned a little are neighbours, too.

    Parameters
    ----------
    settings : Settings
    state : ModelState
        With the atoms of the start.
    X : ndarray, tensor or RowReader of shape (n_samples, n_pixels)
        Images.
    features : ndarray or LazyFeatures of shape (n_samples, n_features)
    classifier : GraphClassifier
        Fitted to the clusters of the start.
    random_state : RandomState
    copies : ndarray of shape (n_samples,) or None
        As :func:`draw_rows` takes them.
    known : int ndarray of shape (n_samples,) or None
        As :func:`find_initial_atoms` takes them.

    Returns
    -------
    start : RefinedStart or None
        None if a cluster of the start has no image in the sample that is drawn.
    """
    n_clusters = len(state.weights)
    indices = draw_rows(np.arange(len(features)), _N_REFERENCES, random_state, copies)
    indices.sort()
    sample = as_numpy(features[indices])
    is_complete = ~np.isnan(sample).any(axis=1)
    indices, sample = indices[is_complete], sample[is_complete]
    stabilized = settings.likelihood.variance_stabilize(sample)
    labels = classifier.predict_proba(stabilized).argmax(axis=1)
    if known is not None:
        labels = np.where(known[indices] < 0, labels, known[indices])
    if len(np.unique(labels)) < n_clusters:
        return None
    matrix = whiten_within(sample, labels, _WHITENING)
    sample = (sample @ matrix).astype(sample.dtype)
    atoms = _atoms_from_labels(
        settings,
        state,
        sample,
        labels,
        settings.n_atoms,
        _atom_options(settings, random_state),
    )
    refined = NeighborClassifier(n_clusters, random_state)
    stabilize = settings.likelihood.variance_stabilize
    turned = [
        stabilize((rows @ matrix).astype(sample.dtype))
        for rows in _turned_features(state, X, indices)
    ]
    refined.fit(stabilize(sample), labels, turned)
    return RefinedStart(atoms, refined, matrix)


def _turned_features(
    state: ModelState, X: Rows, indices: np.ndarray
) -> Iterator[np.ndarray]:
    """Compute the features of images turned to one side, and to the other."""
    for degrees in (-_TURN, _TURN):
        transform = partial(state.to_model_space_turned, degrees=degrees)
        yield _transform_chunks(transform, X, indices)


def _atom_options(
    settings: Settings, random_state: np.random.RandomState
) -> dict[str, Any]:
    return {
        "fit_intercept": settings.fit_intercept,
        "random_state": random_state,
        # The mean brightness of an image is not a direction of its cluster.
        "center": settings.image_shape is not None and not settings.fit_intercept,
        "likelihood": settings.likelihood,
    }


def _keeps_start(estimator: Any, settings: Settings) -> bool:
    """Return whether training keeps rows in the clusters of the start.

    The named start for images finds clusters better than training does, which moves
    rows to other clusters if clusters are not dictionaries: see benchmarks/NOTES.rst.
    """
    is_auto = isinstance(estimator.init, str) and estimator.init == "auto"
    return is_auto and settings.models_scattering


def _atoms_from_array(
    estimator: Any,
    settings: Settings,
    state: ModelState,
    X: Rows,
    options: dict[str, Any],
) -> dict[str, Any]:
    """Make the first atoms from those that are given."""
    dtype = numpy_dtype(X)
    init = check_array(estimator.init, allow_nd=True, dtype=dtype)
    rows = state.to_model_space(init.reshape(-1, X.shape[1]))
    dictionaries, intercepts = dictionaries_from_array(
        rows.reshape(*init.shape[:2], -1), **options
    )
    return {
        "dictionaries": dictionaries.astype(dtype),
        "intercepts": intercepts.astype(dtype),
        "rates": None,
        "likelihood": settings.likelihood.initial(
            init.reshape(-1, init.shape[2]),
            np.repeat(np.arange(len(init)), init.shape[1]),
        ),
    }


def _atoms_from_labels(
    settings: Settings,
    state: ModelState,
    sample: np.ndarray,
    labels: np.ndarray,
    n_atoms: int,
    options: dict[str, Any],
) -> dict[str, Any]:
    """Make the first atoms of each cluster from its rows."""
    dictionaries, intercepts = dictionaries_from_labels(
        sample,
        labels,
        len(state.weights),
        n_atoms,
        **options,
        atoms="pca" if settings.uses_atom_rates else "samples",
    )
    rates = None
    if settings.uses_atom_rates:
        magnitudes = state.scale * mean_abs_projections(
            sample, labels, dictionaries, intercepts
        )
        rates = (1 / np.maximum(magnitudes, _MIN_ATOM_SCALE)).astype(sample.dtype)
    return {
        "dictionaries": dictionaries.astype(sample.dtype),
        "intercepts": intercepts.astype(sample.dtype),
        "rates": rates,
        "likelihood": settings.likelihood.initial(sample, labels),
    }


def find_image_features(
    estimator: Any,
    settings: Settings,
    state: ModelState,
    features: Rows,
    indices: np.ndarray,
    sample: Any,
    random_state: np.random.RandomState,
) -> np.ndarray | None:
    """Return the scattering features of rows that are drawn, if these are images.

    Parameters
    ----------
    estimator : MixMateClustering
    settings : Settings
    state : ModelState
    features : ndarray, tensor or RowReader of shape (n_samples, n_features)
        Features of all rows that are modelled.
    indices : ndarray of shape (n_drawn,)
    sample : ndarray of shape (n_drawn, n_pixels)
        Complete images.
    random_state : RandomState

    Returns
    -------
    image_features : ndarray of shape (n_drawn, n_components) or None
        Those that are modelled, unless pixels are.
    """
    if settings.image_shape is None:
        return None
    if settings.models_scattering:
        return as_numpy(features[indices])
    representation = new_representation(estimator, settings, random_state)
    return representation.fit_transform(sample)


def new_representation(
    estimator: Any, settings: Settings, random_state: np.random.RandomState
) -> ScatteringFeatures:
    """Return a representation of images that is not fitted."""
    assert settings.image_shape is not None  # scattering coefficients are of images
    return ScatteringFeatures(
        settings.image_shape,
        _N_COMPONENTS,
        REPRESENTATION_SIZE,
        estimator.device,
        random_state,
    )


def _atoms_from_sparse(
    settings: Settings,
    sample: SparseRows,
    labels: np.ndarray,
    n_clusters: int,
    random_state: np.random.RandomState,
) -> dict[str, Any]:
    """Make the first atoms from a sparse subsample; all have the same rate."""
    dictionaries, intercepts = dictionaries_from_sparse(
        sample,
        labels,
        n_clusters,
        settings.n_atoms,
        settings.fit_intercept,
        random_state,
        settings.likelihood,
    )
    return {
        "dictionaries": dictionaries,
        "intercepts": intercepts,
        "rates": None,
        "likelihood": initial_likelihood(
            settings.likelihood, sample, labels, random_state
        ),
    }


def draw_sample(
    estimator: Any,
    image_shape: tuple[int, ...] | None,
    state: ModelState,
    X: Rows,
    n_missing: np.ndarray,
    n_wanted: int,
    random_state: np.random.RandomState,
    copies: np.ndarray | None,
    n_distinct: int = 1,
    known: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray | SparseRows, np.ndarray]:
    """Draw rows to cluster; missing pixels are imputed by the representation.

    Parameters
    ----------
    estimator : MixMateClustering
    image_shape : tuple of int or None
    state : ModelState
    X : ndarray, tensor or RowReader of shape (n_samples, n_features)
    n_missing : ndarray of shape (n_samples,)
    n_wanted : int
        As in :func:`draw_subsample`.
    random_state : RandomState
    copies, n_distinct
        As in :func:`draw_rows`.
    known : int ndarray of shape (n_samples,), default=None
        Clusters of the rows, -1 where unknown; None if no label is known.

    Returns
    -------
    indices : ndarray of shape (n_drawn,)
    sample : ndarray or SparseRows of shape (n_drawn, n_features)
    n_missing : ndarray of shape (n_samples,)
        0 for rows that serve as well as complete ones.
    """
    impute: Callable[[np.ndarray], np.ndarray] = impute_means
    if state.representation is not None:
        impute = state.representation.impute
        n_missing = np.where(n_missing < X.shape[1], 0, n_missing)
    init_size = resolve_init_size(estimator, image_shape, known is not None)
    indices, sample = draw_subsample(
        X,
        n_missing,
        init_size,
        n_wanted,
        random_state,
        impute,
        copies,
        n_distinct,
        is_known=None if known is None else known >= 0,
    )
    return indices, sample, n_missing
