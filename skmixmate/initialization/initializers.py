"""Initialisers: the clusterers that find first clusters in a subsample.

An initialiser is any clusterer with `fit_predict`; the named ones are listed in
`INITIALIZERS`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.cluster import KMeans

from ..cluster import (
    EnsembleClustering,
    SparseSubspaceClustering,
    SpectralGraphClustering,
    estimate_n_clusters,
)
from ..data.sparse import SparseRows
from ..model.likelihood import Likelihood
from ..utils.numbers import near_origin
from .sparse import svd_components


def _auto(n_clusters: int, is_image: bool) -> Any:
    if not is_image:
        return EnsembleClustering(n_clusters)
    # Each of these does better on scattering features: see benchmarks/NOTES.rst.
    return SpectralGraphClustering(
        n_clusters,
        n_neighbors="auto",
        n_nonzero_coefs=5,
        metric="cosine",
        whitening=0.75,
        n_steps="auto",
    )


# Factories of clusterers by name, of (n_clusters, is_image). For images, the clusterers
# get scattering features.
INITIALIZERS: dict[str, Callable[[int, bool], Any]] = {
    "auto": _auto,
    "spectral": lambda n_clusters, is_image: SpectralGraphClustering(n_clusters),
    "ssc": lambda n_clusters, is_image: SparseSubspaceClustering(n_clusters),
    "kmeans": lambda n_clusters, is_image: KMeans(n_clusters, n_init=10),
}


def cluster_subsample(
    sample: np.ndarray | SparseRows,
    init: Any,
    n_clusters: int,
    random_state: np.random.RandomState,
    image_features: np.ndarray | None = None,
    is_imputed: bool = False,
    likelihood: Likelihood | None = None,
) -> np.ndarray:
    """Cluster the subsample.

    Parameters
    ----------
    sample : ndarray of shape (n_samples, n_features)
    init : str or clusterer
        A name of `INITIALIZERS`, "random", or an object with `fit_predict`,
        which is cloned; its unset random states are set.
    n_clusters : int
    random_state : RandomState
    image_features : ndarray of shape (n_samples, n_components), default=None
        Scattering features, if the rows are images: named clusterers get these.
    is_imputed : bool, default=False
        Whether some entries were imputed by means. These distort the shapes of
        clusters, which several members of the ensemble depend on: for tabular data
        "auto" is then "spectral", which uses a graph only.
    likelihood : Likelihood, default=None
        Of the entries. Named clusterers get entries with a stabilised variance. For
        tabular data with a likelihood of counts or binary entries "auto" is
        "spectral", since their clusters are not normal distributions.

    Returns
    -------
    labels : ndarray of shape (n_samples,)
        0 to n_clusters - 1; -1 for samples that a clusterer calls noise.

    Raises
    ------
    ValueError
        If a clusterer finds another number of clusters.
    """
    if n_clusters == 1:
        return np.zeros(len(sample), dtype=np.intp)
    if isinstance(init, str) and init == "random":
        return random_state.permutation(len(sample)) % n_clusters
    is_named = isinstance(init, str)
    if isinstance(sample, SparseRows):
        sample = svd_components(sample, likelihood, random_state)
        likelihood = None
    if is_named:
        is_normal = likelihood is None or likelihood.has_noise_variance
        is_image = image_features is not None
        if not is_image and init == "auto" and (is_imputed or not is_normal):
            init = "spectral"
        clusterer = INITIALIZERS[init](n_clusters, is_image)
        # The origin is meaningful for the subspaces of "ssc".
        sample = _features(sample, image_features, likelihood, center=init != "ssc")
    else:
        clusterer = clone(init)
    _seed(clusterer, random_state)
    labels = np.asarray(clusterer.fit_predict(sample))
    found = np.unique(labels[labels >= 0])
    if not is_named and len(found) != n_clusters:
        raise ValueError(
            f"init={init!r} found {len(found)} clusters in a subsample of "
            f"{len(sample)} rows, but n_clusters={n_clusters}. Set both to the "
            "same number."
        )
    return np.where(labels >= 0, np.searchsorted(found, labels), -1)


def estimate_initial_n_clusters(
    sample: np.ndarray | SparseRows,
    random_state: np.random.RandomState,
    image_features: np.ndarray | None = None,
    likelihood: Likelihood | None = None,
) -> tuple[int, dict[str, np.ndarray]]:
    """Estimate the number of clusters, from the features that are clustered.

    Parameters
    ----------
    sample : ndarray of shape (n_samples, n_features)
    random_state : RandomState
    image_features, likelihood
        As in :func:`cluster_subsample`.

    Returns
    -------
    n_clusters : int
    scores : dict of str to ndarray
        See :func:`~skmixmate.cluster.estimate_n_clusters`.
    """
    if isinstance(sample, SparseRows):
        sample, likelihood = svd_components(sample, likelihood, random_state), None
    features = _features(sample, image_features, likelihood, center=True)
    return estimate_n_clusters(features, random_state=random_state)


def _features(
    sample: np.ndarray,
    image_features: np.ndarray | None,
    likelihood: Likelihood | None,
    center: bool,
) -> np.ndarray:
    """Compute the features that named clusterers get."""
    if image_features is not None:
        return canonicalize_scale(image_features)
    if likelihood is not None:
        sample = likelihood.variance_stabilize(sample)
    return canonicalize_scale(near_origin(sample) if center else sample)


def canonicalize_scale(sample: np.ndarray) -> np.ndarray:
    """Scale to a root mean square of 1, and round off the last digits.

    Where distances tie, as between integers, the last digits decide the nearest
    neighbours: they differ for the same data in other units.

    Parameters
    ----------
    sample : ndarray of shape (n_samples, n_features)

    Returns
    -------
    sample : ndarray of shape (n_samples, n_features)
        Without a third of the digits of the dtype.
    """
    largest = np.abs(sample).max()
    if largest == 0:
        return sample
    sample = sample / largest  # the squares of large numbers would overflow
    grid = np.finfo(sample.dtype).eps ** (2 / 3)
    return np.round(sample / np.sqrt(np.mean(sample**2)) / grid) * grid


def _seed(clusterer: Any, random_state: np.random.RandomState) -> None:
    """Set the random states of a clusterer that are None."""
    params = clusterer.get_params(deep=True)
    unset = sorted(
        name
        for name, value in params.items()
        if value is None and (name == "random_state" or name.endswith("__random_state"))
    )
    seeds = random_state.randint(np.iinfo(np.int32).max, size=len(unset))
    clusterer.set_params(**dict(zip(unset, seeds.tolist(), strict=True)))
